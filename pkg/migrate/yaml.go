// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/config"
)

// width is the width of the comments.
const width = 90

// router is one of the result's routers.
type router struct {
	node    *node // the vrrp_instance; nil for the Rust failover's file
	order   int
	place   Finding // the place for findings about the whole router
	name    string
	keys    []pair
	list    []item // the addresses
	blocked string // why it is commented out
	owner   bool   // whether it has the priority 255
	track   []dependency

	first, last int // its lines in the result
}

// addressesKey is the key that has the list.
const addressesKey = "addresses"

// pair is a key with its value and comments.
type pair struct {
	key, value string
	below      []string // lines of a group of keys, instead of a value
	comments   []string
}

// item is an address, or one that is left out.
type item struct {
	text string
	out  bool
}

func (r *router) set(key, value string, comments ...string) {
	r.keys = append(r.keys, pair{key: key, value: value, comments: comments})
}

func (r *router) address(address string, out bool) {
	if !out && (strings.HasPrefix(address, ":") || strings.HasSuffix(address, ":")) {
		address = text(address) // YAML would take it for a key
	}
	r.list = append(r.list, item{address, out})
}

var (
	plain    = pattern(`^[A-Za-z][A-Za-z0-9._-]*$`)
	reserved = pattern(`^(?i:true|false|null|yes|no|on|off|y|n|nan|inf)$`)
	nameless = pattern(`[^A-Za-z0-9._-]+`)
)

// text writes a value that is a string.
func text(s string) string {
	if plain().MatchString(s) && !reserved().MatchString(s) {
		return s
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(clean(s)); err != nil {
		panic(err) // a string
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// result writes the routers, and comments out those that package config refuses.
func (c *collector) result(path, whose string, routers []*router) (*Result, error) {
	c.rename(routers)
	for range maxRounds {
		if len(c.list) > maxFindings {
			return nil, fmt.Errorf("%s:%d: more than %d findings: is it really %s configuration?", path, c.list[0].Line, maxFindings, whose)
		}
		c.sort()
		content := c.write(path, whose, routers)
		_, err := config.Parse(path, content)
		var mistakes *config.Mistakes
		refused := false
		if errors.As(err, &mistakes) {
			refused = c.refuseChecks(mistakes.List)
			for _, m := range mistakes.List {
				// The routers are in the order of their lines.
				i, _ := slices.BinarySearchFunc(routers, m.Line, func(r *router, line int) int { return cmp.Compare(r.last, line) })
				if i < len(routers) && routers[i].blocked == "" && m.Line >= routers[i].first {
					refused = true
					c.refuse(routers[i], m)
				}
			}
		}
		if refused {
			continue
		}
		if err != nil && slices.ContainsFunc(routers, func(r *router) bool { return r.blocked == "" }) {
			first, _, _ := strings.Cut(err.Error(), "\n")
			return nil, fmt.Errorf("%s:1: no configuration can be made of it: %s", path, first)
		}
		r := &Result{YAML: content, Findings: c.findings(), Routers: len(routers)}
		for _, one := range routers {
			if one.blocked != "" {
				r.CommentedOut++
			}
		}
		return r, nil
	}
	return nil, fmt.Errorf("%s:1: its routers contradict each other in too many ways: import them in several files", path)
}

// Limits of a result. Nobody reads more findings.
const (
	maxFindings = 50_000
	maxRouters  = 10_000
	maxRounds   = 100 // of commenting out the routers that failoverd refuses
)

// refuse comments out a router that has a mistake.
func (c *collector) refuse(r *router, m config.Mistake) {
	why := m.Text
	if m.Hint != "" {
		why += " (" + m.Hint + ")"
	}
	r.blocked = "failoverd refuses it"
	f := r.place
	f.Kind, f.Text = Changed, "commented out, because failoverd refuses it: "+onTheLine().ReplaceAllString(why, "another router ")
	c.add(r.order, f, r.node, r)
}

// onTheLine is how package config names another router: by its line.
var onTheLine = pattern(`the router on line \d+ `)

// rename makes names valid and unique.
func (c *collector) rename(routers []*router) {
	taken, next := make(map[string]bool), make(map[string]int)
	for _, r := range routers {
		if r.name == "" {
			continue
		}
		name := strings.TrimLeft(nameless().ReplaceAllString(r.name, "-"), "._-")
		if name == "" {
			name = "router"
		}
		name = unique(name, taken, next)
		if name != r.name {
			f := r.place
			f.Kind, f.Text = Changed, fmt.Sprintf("it is called %s here: names are unique, and consist of letters, digits, dots, dashes and underscores", name)
			c.add(r.order, f, r.node, r)
			r.name = name
		}
	}
}

func (c *collector) write(path, whose string, routers []*router) []byte {
	var b bytes.Buffer
	comment(&b, "", "Made by `failoverctl import` from "+whose+" "+clean(path)+". Read the comments, then check it on this host: failoverctl check FILE")
	first := true
	for _, f := range c.list {
		if len(f.routers) == 0 && f.Kind != Unneeded {
			if first {
				b.WriteString("#\n# About no router, or all of them:\n#\n")
				first = false
			}
			comment(&b, "", f.String())
		}
	}
	if len(c.globals) > 0 {
		b.WriteString("\nglobal:\n")
		for _, p := range c.globals {
			fmt.Fprintf(&b, "  %s: %s\n", p.key, p.value)
		}
	}
	c.writeTracks(&b)
	b.WriteString("\nrouters:\n")
	if len(routers) == 0 {
		b.WriteString("  # The file has none.\n")
	}
	counted, lines := 0, 0 // octets of the result, and the lines in them
	of := make(map[*router][]*found)
	for _, f := range c.list {
		for _, r := range f.routers {
			if list := of[r]; len(list) == 0 || list[len(list)-1] != f {
				of[r] = append(of[r], f)
			}
		}
	}
	for i, r := range routers {
		if i > 0 {
			b.WriteByte('\n')
		}
		counted, lines = b.Len(), lines+bytes.Count(b.Bytes()[counted:], []byte("\n"))
		r.first = lines + 1
		for _, f := range of[r] {
			if f.Kind != Unneeded {
				comment(&b, "  ", f.String())
			}
		}
		r.write(&b)
		counted, lines = b.Len(), lines+bytes.Count(b.Bytes()[counted:], []byte("\n"))
		r.last = lines
	}
	c.writeGroups(&b, routers)
	return b.Bytes()
}

func (r *router) write(b *bytes.Buffer) {
	var out bytes.Buffer
	start := "- "
	line := func(s string) {
		fmt.Fprintf(&out, "%s%s\n", start, s)
		start = "  "
	}
	if r.name != "" {
		line("name: " + text(r.name))
	}
	for _, p := range r.keys {
		for _, s := range p.comments {
			line("# " + s)
		}
		line(strings.TrimSpace(p.key + ": " + p.value))
		for _, s := range p.below {
			line("  " + s)
		}
		if p.key == addressesKey {
			for _, a := range r.list {
				line(map[bool]string{false: "  - ", true: "  # - "}[a.out] + a.text)
			}
		}
	}
	if track := r.tracks(); track != "" {
		line("track: " + track)
	}
	if r.blocked != "" {
		comment(b, "  ", "Commented out: "+r.blocked+".")
	}
	for s := range strings.Lines(out.String()) {
		if r.blocked != "" {
			s = "# " + s
		}
		b.WriteString("  " + s)
	}
}

// comment writes a text as a comment of several lines.
func comment(b *bytes.Buffer, indent, s string) {
	line := indent + "#"
	for _, word := range strings.Fields(s) {
		if len(line)+1+len(word) > width && line != indent+"#" {
			b.WriteString(line + "\n")
			line = indent + "#  "
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
