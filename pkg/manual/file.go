// SPDX-License-Identifier: Apache-2.0

package manual

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/config"
)

// entry is a key of the configuration file as the reference has it.
type entry struct {
	name   string
	text   []string // the comment's lines
	sample []string // of a use, where there are no keys to explain one by one
	indent int
	keys   []*entry
}

// schema is what the JSON Schema says of a key.
type schema struct {
	Description string
	Default     any
	Required    []string
	Properties  map[string]*schema
	Items       *schema
	AnyOf       []*schema
	OneOf       []*schema
}

// within are the schemas of what a key may be, or of what its list has.
func (s *schema) within() []*schema {
	all := append(slices.Clone(s.AnyOf), s.OneOf...)
	if s.Items != nil {
		all = append(all, s.Items)
	}
	return all
}

// keys are the schemas of the keys below one, whether it is a group or a list.
func (s *schema) keys() map[string]*schema {
	for _, w := range s.within() {
		if keys := w.keys(); len(keys) > 0 {
			return keys
		}
	}
	return s.Properties
}

func (s *schema) required(key string) bool {
	return slices.Contains(s.Required, key) || slices.ContainsFunc(s.within(), func(w *schema) bool { return w.required(key) })
}

// File writes the page of the configuration file, from its reference and its
// schema.
func File(w io.Writer, version string) error {
	var root schema
	if err := json.Unmarshal(config.Schema(), &root); err != nil {
		return fmt.Errorf("read the schema: %w", err)
	}
	about, tree := parseReference(string(config.Reference))
	var p page
	p.begin("failoverd.yaml", 5, "the configuration of failoverd", version)
	p.section("SYNOPSIS")
	p.line("`" + config.DefaultPath + "`")
	p.section("DESCRIPTION")
	p.text(strings.Join(about, "\n"))
	p.text(`An unknown key, or anything else that is wrong, is an error with its place and the
remedy: "failoverctl check" shows all of them, failoverd doesn't start with such a file,
and a reload (SIGHUP, "failoverctl reload") changes nothing. A good one changes what is
different, and nothing else.`)
	for _, e := range complete(tree, &root) {
		p.section(strings.ToUpper(e.name))
		s := root.Properties[e.name]
		p.text(e.description(s))
		if s != nil {
			p.keys(complete(e, s), s)
		}
	}
	p.section("EXAMPLES")
	p.verbatim([]string{
		"routers:",
		"  - name: web",
		"    interface: eth0",
		"    vrid: 51",
		"    priority: 150",
		"    interval: 100ms",
		"    addresses: [192.0.2.10/24, 2001:db8::10/64]",
	})
	p.text("`failoverctl reference` prints a file with every key, `failoverctl schema` a JSON Schema.")
	p.seeAlso("failoverd(8)", "failoverctl(1)")
	return p.writeTo(w)
}

// keys writes keys, those below them indented.
func (p *page) keys(keys []*entry, parent *schema) {
	for _, e := range keys {
		s := parent.keys()[e.name]
		if s == nil {
			continue // an example's, no key of the file
		}
		term := bold(e.name)
		switch {
		case parent.required(e.name):
			term += " (required)"
		case s.Default != nil:
			b, err := json.Marshal(s.Default)
			if text, ok := s.Default.(string); ok {
				b = []byte(text)
			} else if err != nil {
				b = []byte("?")
			}
			term += ": " + italic(string(b))
		}
		p.term(term)
		p.body(e.description(s))
		if len(e.sample) > 0 {
			p.WriteString(".IP\n")
			p.asItIs(e.sample)
		}
		if len(s.keys()) > 0 {
			p.WriteString(".RS\n")
			p.keys(complete(e, s), s)
			p.WriteString(".RE\n")
		}
	}
}

// description is the reference's, or the shorter one of the schema.
func (e *entry) description(s *schema) string {
	text := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(strings.Join(e.text, "\n")), "Required."))
	if text == "" && s != nil {
		text = s.Description
	}
	return text
}

// complete returns the keys below one in the reference's order, behind them those
// that only the schema has.
func complete(e *entry, s *schema) []*entry {
	all := slices.Clone(e.keys)
	for _, name := range slices.Sorted(maps.Keys(s.keys())) {
		if !slices.ContainsFunc(all, func(e *entry) bool { return e.name == name }) {
			all = append(all, &entry{name: name})
		}
	}
	return all
}

var keyLine = regexp.MustCompile(`^( *)(- )?([a-z_][a-z0-9_]*):(?: .*)?$`)

// parseReference reads the comments of the reference: the first is about the
// file, the others are each about the key that follows.
func parseReference(content string) (about []string, root *entry) {
	root = &entry{indent: -1}
	stack := []*entry{root}
	var comment []string
	for l := range strings.Lines(content) {
		l = strings.TrimRight(l, "\n")
		if text, ok := strings.CutPrefix(strings.TrimLeft(l, " "), "#"); ok {
			comment = append(comment, strings.TrimPrefix(text, " "))
			continue
		}
		if l == "" && len(root.keys) == 0 && about == nil {
			about = comment
		}
		if m := keyLine.FindStringSubmatch(l); m != nil {
			e := &entry{name: m[3], indent: len(m[1]) + len(m[2])}
			e.explain(comment)
			for stack[len(stack)-1].indent >= e.indent {
				stack = stack[:len(stack)-1]
			}
			parent := stack[len(stack)-1]
			// Of several items of a list the first explains a key.
			if i := slices.IndexFunc(parent.keys, func(o *entry) bool { return o.name == e.name }); i >= 0 {
				e = parent.keys[i]
			} else {
				parent.keys = append(parent.keys, e)
			}
			stack = append(stack, e)
		}
		comment = nil
	}
	return about, root
}

// explain takes a comment. It may have a sample of the key's use, indented, whose
// own comments are about the keys in it.
func (e *entry) explain(comment []string) {
	const indent = "    "
	for _, l := range comment {
		if sample, ok := strings.CutPrefix(l, indent); ok {
			e.sample = append(e.sample, sample)
		} else {
			e.text = append(e.text, l)
		}
	}
	if len(e.sample) == 0 {
		return
	}
	_, sample := parseReference(strings.Join(e.sample, "\n"))
	for _, s := range sample.keys {
		if s.name == e.name && len(s.keys) > 0 && len(s.keys[0].text) > 0 {
			e.keys, e.sample = s.keys, nil
		}
	}
}
