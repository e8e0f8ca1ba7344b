// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// reader reads the values of a file's keys and collects what is wrong with
// them, so that one reading tells everything.
type reader struct {
	mistakes Mistakes
	anchors  map[string]ast.Node
}

// parse returns the file's only value, nil if it has none.
func (r *reader) parse(content []byte) ast.Node {
	file, err := parser.ParseBytes(content, 0, parser.AllowDuplicateMapKey())
	var syntax *yaml.SyntaxError
	if errors.As(err, &syntax) && strings.Contains(syntax.Message, "character '\t'") {
		r.at(syntax.Token, "indent with spaces", "a tab: YAML has none at the beginning of a line")
		return nil
	}
	if errors.As(err, &syntax) {
		r.at(syntax.Token, "", "not YAML: %s", syntax.Message)
		return nil
	}
	if err != nil {
		r.mistakes.List = append(r.mistakes.List, Mistake{Line: 1, Column: 1, Text: fmt.Sprintf("not YAML: %v", err)})
		return nil
	}
	var body ast.Node
	for _, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		if _, comment := d.Body.(*ast.CommentGroupNode); comment {
			continue
		}
		if body != nil {
			r.fail(d.Body, "put everything into one document", "a second document")
			break
		}
		body = d.Body
	}
	return body
}

// at notes a mistake at a token.
func (r *reader) at(t *token.Token, hint, format string, args ...any) {
	m := Mistake{Line: 1, Column: 1, Width: 1, Text: fmt.Sprintf(format, args...), Hint: hint}
	if t != nil {
		m.Line, m.Column, m.Width = t.Position.Line, t.Position.Column, len([]rune(t.Value))
		if t.Type == token.DoubleQuoteType || t.Type == token.SingleQuoteType {
			m.Width += 2
		}
		if strings.Contains(t.Value, "\n") {
			m.Width = 1
		}
	}
	r.mistakes.List = append(r.mistakes.List, m)
}

// fail notes a mistake at a node.
func (r *reader) fail(n ast.Node, hint, format string, args ...any) {
	r.at(first(n), hint, format, args...)
}

// first is the token that a node begins with.
func first(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key.GetToken()
		}
		return n.Start
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	case *ast.SequenceNode:
		return n.Start
	}
	return n.GetToken()
}

// value follows anchors, aliases and tags to what they stand for.
func (r *reader) value(n ast.Node) ast.Node {
	for range 100 { // an alias may stand for an alias
		switch v := n.(type) {
		case *ast.AnchorNode:
			if r.anchors == nil {
				r.anchors = make(map[string]ast.Node)
			}
			r.anchors[v.Name.GetToken().Value] = v.Value
			n = v.Value
		case *ast.AliasNode:
			name := v.Value.GetToken().Value
			known, ok := r.anchors[name]
			if !ok {
				r.fail(v, "", "no anchor &%s before this alias", name)
				return nil
			}
			n = known
		case *ast.TagNode:
			n = v.Value
		default:
			return n
		}
	}
	return nil
}

// entry is one key of a mapping with its value.
type entry struct {
	name  string
	key   ast.Node
	value ast.Node
}

// mapping returns the entries of a mapping, those of merge keys last unless
// there are others of their names. It notes what isn't a mapping, which is not
// ok, and keys that are there twice.
func (r *reader) mapping(n ast.Node, what string) (all []entry, ok bool) {
	value := r.value(n)
	if value == nil {
		return nil, false
	}
	m, ok := value.(ast.MapNode)
	if !ok {
		r.fail(value, "", "%s is %s, where keys and values are expected, like `vrid: 51`", what, kindOf(value))
		return nil, false
	}
	var merged []ast.Node
	seen := make(map[string]*token.Token)
	for i := m.MapRange(); i.Next(); {
		key := i.Key()
		if key.IsMergeKey() {
			merged = append(merged, i.Value())
			continue
		}
		name := key.GetToken().Value
		if before, twice := seen[name]; twice {
			r.fail(key, "", "%s is here twice: it is on line %d already; remove one of them", quote(name), before.Position.Line)
			continue
		}
		seen[name] = key.GetToken()
		all = append(all, entry{name, key, i.Value()})
	}
	for _, n := range merged {
		entries, good := r.merge(n, what)
		ok = ok && good
		for _, e := range entries {
			if _, own := seen[e.name]; !own {
				seen[e.name] = e.key.GetToken()
				all = append(all, e)
			}
		}
	}
	return all, ok
}

// merge returns the entries that a merge key brings: of one mapping, or of a
// list of them.
func (r *reader) merge(n ast.Node, what string) (all []entry, ok bool) {
	if list, is := r.value(n).(*ast.SequenceNode); is {
		ok = true
		for _, item := range list.Values {
			entries, good := r.mapping(item, what)
			all, ok = append(all, entries...), ok && good
		}
		return all, ok
	}
	return r.mapping(n, what)
}

// list returns the values of a list.
func (r *reader) list(n ast.Node, name, example string) []ast.Node {
	value := r.value(n)
	if value == nil {
		return nil
	}
	list, ok := value.(*ast.SequenceNode)
	if !ok {
		if s, scalar := value.(*ast.StringNode); scalar && len(s.Value) < 60 {
			example = fmt.Sprintf("%s: [%s]", name, s.Value)
		}
		r.fail(value, "write "+example, "%s is %s, where a list is expected", quote(name), kindOf(value))
		return nil
	}
	return list.Values
}

// text reads a value that is a word.
func (r *reader) text(n ast.Node, name string) (string, bool) {
	switch v := r.value(n).(type) {
	case nil:
		return "", false
	case *ast.StringNode:
		return v.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return v.GetToken().Value, true // a name may be a number
	default:
		r.fail(v, "", "%s is %s, where one value is expected", quote(name), kindOf(v))
		return "", false
	}
}

// address reads a virtual address. An IPv6 address without quotes in [ ] is text
// in YAML, but the library takes its first colon for a key's.
func (r *reader) address(n ast.Node) (string, bool) {
	if m, ok := r.value(n).(ast.MapNode); ok {
		at := first(r.value(n)).Position
		if i := m.MapRange(); i.Next() {
			at = i.Key().GetToken().Position
		}
		lines := strings.Split(string(r.mistakes.Content), "\n")
		rest := []rune(lines[at.Line-1])[at.Column-1:]
		s, _, _ := strings.Cut(string(rest), " ")
		if i := strings.IndexAny(s, ",]}"); i >= 0 {
			s = s[:i]
		}
		if strings.Count(s, ":") > 1 && !strings.ContainsAny(s, "{[\"'") {
			return s, true
		}
	}
	return r.text(n, "address")
}

// choice reads one of some words.
func (r *reader) choice(n ast.Node, name string, words []string) (string, bool) {
	s, ok := r.text(n, name)
	if !ok {
		return "", false
	}
	for _, w := range words {
		if s == w {
			return s, true
		}
	}
	r.fail(r.value(n), meant(s, words), "%s: %s is not known: it is %s", quote(name), quote(s), either(words))
	return "", false
}

func (r *reader) boolean(n ast.Node, name string) (value, ok bool) {
	switch v := r.value(n).(type) {
	case nil:
	case *ast.BoolNode:
		return v.Value, true
	default:
		hint := ""
		switch strings.ToLower(v.GetToken().Value) {
		case "true", "false":
			hint = "write it without quotes"
		case "yes", "on", "1":
			hint = "write true"
		case "no", "off", "0":
			hint = "write false"
		}
		r.fail(v, hint, "%s is %s, where true or false is expected", quote(name), kindOf(v))
	}
	return false, false
}

func (r *reader) number(n ast.Node, name string) (int, bool) {
	v := r.value(n)
	if v == nil {
		return 0, false
	}
	hint := ""
	switch v := v.(type) {
	case *ast.IntegerNode:
		// As people read it: 010 is ten for some and eight for others.
		s := v.GetToken().Value
		if n, err := strconv.Atoi(s); err == nil && (s == "0" || !strings.HasPrefix(s, "0")) {
			return n, true
		}
		hint = "write it in decimal, without leading zeros"
	case *ast.StringNode:
		if _, err := strconv.Atoi(v.Value); err == nil {
			hint = "write " + v.Value + ", without quotes"
		}
	}
	r.fail(v, hint, "%s is %s, where a whole number is expected", quote(name), kindOf(v))
	return 0, false
}

func (r *reader) duration(n ast.Node, name string) (time.Duration, bool) {
	v := r.value(n)
	if v == nil {
		return 0, false
	}
	s := v.GetToken().Value
	switch v.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode:
		d, err := time.ParseDuration(s)
		if err == nil {
			return d, true
		}
		if _, numErr := strconv.ParseFloat(s, 64); numErr == nil {
			r.fail(v, fmt.Sprintf("write %ss for seconds, or %sms for milliseconds", s, s), "%s: %s has no unit", quote(name), s)
			return 0, false
		}
	}
	r.fail(v, "write it like 1s or 100ms", "%s is %s, where a duration is expected", quote(name), kindOf(v))
	return 0, false
}

// kindOf says what a value is, as people call it.
func kindOf(n ast.Node) string {
	switch v := n.(type) {
	case *ast.NullNode:
		return "empty"
	case *ast.BoolNode:
		return "the word " + v.GetToken().Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + v.GetToken().Value
	case *ast.StringNode:
		return "the text " + quote(v.Value)
	case *ast.SequenceNode:
		return "a list"
	case ast.MapNode:
		return "a group of keys"
	}
	return "a text of several lines"
}

// quote makes what comes from a file safe and short to show.
func quote(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "…"
	}
	return "`" + printable(strings.ReplaceAll(s, "\n", " ")) + "`"
}

// meant is the hint for a word that may be a slip of one of the words.
func meant(word string, words []string) string {
	if w := nearest(strings.ToLower(word), words); w != "" {
		return "did you mean " + quote(w) + "?"
	}
	return ""
}

// either writes words as alternatives.
func either(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
