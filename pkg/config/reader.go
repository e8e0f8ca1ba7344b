// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// reader reads the values of keys and collects all mistakes, so that an administrator sees
// them at once.
type reader struct {
	mistakes Mistakes
	guesses  int            // how often names were searched for the one that is meant
	values   int            // of the parts that were parsed
	octets   int            // of all parts
	entered  map[string]int // the entries of the lists of a name
}

// maxGuesses bounds the time of the search for names that may have been meant.
const maxGuesses = 100

func newReader(path, content string) *reader {
	r := &reader{octets: len(content)}
	r.mistakes.addPart(path, content)
	return r
}

// parse parses a part and returns its only value, nil if there is none.
func (r *reader) parse(p *part) *node {
	if bad := unreadable(p.content); bad != nil {
		r.flaw(p, bad)
		return nil
	}
	y := newParser(p.content)
	y.number, y.values = p.above+1, r.values
	body, bad := y.parse()
	if bad != nil {
		r.flaw(p, bad)
	}
	r.values = y.values
	return body
}

// flaw adds the mistake for which the content of a part is refused.
func (r *reader) flaw(p *part, bad *flaw) {
	m := Mistake{Line: p.above + 1, Column: 1, Width: 1, Text: bad.text, Hint: bad.hint}
	if bad.whole {
		m.Width = 0
	}
	begin := 0
	for line := range lines(p.content) {
		if begin+len(line) > bad.at || begin+len(line) == len(p.content) {
			m.Column = utf8.RuneCountInString(p.content[begin:bad.at]) + 1
			break
		}
		begin += len(line)
		m.Line++
	}
	r.mistakes.add(m)
}

// fail adds a mistake at a node. Without a node it is at the beginning of the file.
func (r *reader) fail(n *node, hint, format string, args ...any) {
	if r.mistakes.full() {
		r.mistakes.More++
		return
	}
	m := Mistake{Line: 1, Column: 1, Width: 1, Text: fmt.Sprintf(format, args...), Hint: hint}
	if n != nil {
		m.Line, m.Column, m.Width = int(n.line), int(n.column), n.width()
	}
	r.mistakes.add(m)
}

// secret hides the line of the last mistake.
func (r *reader) secret() {
	if r.mistakes.More == 0 {
		r.mistakes.List[len(r.mistakes.List)-1].Secret = true
	}
}

// width returns the number of characters to mark for a node, at least 1.
func (n *node) width() int {
	if n.form == mapping && n.child != nil && n.spot == n.child.spot {
		return n.child.width()
	}
	width := 1
	if !strings.Contains(n.text, "\n") {
		width = utf8.RuneCountInString(n.text)
	}
	switch n.form {
	case quoted:
		return width + 2
	case plain:
		return max(width, 1)
	}
	return 1
}

// value returns the node that an alias stands for, other nodes as they are. It is nil for
// an alias without an anchor.
func (r *reader) value(n *node) *node {
	if n == nil || n.form != alias {
		return n
	}
	if n.child == nil {
		r.fail(n, "", "no anchor &%s before this alias", printable(shorten(n.text, 60)))
	}
	return n.child
}

// is reports whether the value of n has a form.
func (r *reader) is(n *node, f form) bool {
	v := r.value(n)
	return v != nil && v.form == f
}

// off reports whether n is the word off.
func (r *reader) off(n *node) bool {
	v := r.value(n)
	return v != nil && v.form <= quoted && v.text == Off
}

// entry is one key of a mapping with its value.
type entry struct {
	name  string
	key   *node
	value *node
}

// mapping returns the entries of a mapping. Entries of merge keys come last; an own entry
// of the same name replaces them. A key that is there twice is a mistake. It isn't ok if
// n is no mapping.
func (r *reader) mapping(n *node, what string) (all []entry, ok bool) {
	m := r.value(n)
	if m == nil {
		return nil, false
	}
	if m.form != mapping {
		r.fail(m, "", "%s is %s, where keys and values are expected, like `vrid: 51`", what, kindOf(m))
		return nil, false
	}
	ok = true
	size := 0
	for key := m.child; key != nil; key = key.next.next {
		size++
	}
	all = make([]entry, 0, size)
	var merged []*node
	seen := make(map[string]*node, size)
	for key := m.child; key != nil; key = key.next.next {
		if key.form == plain && key.text == "<<" {
			merged = append(merged, key.next)
			continue
		}
		name := key.text
		if key.form == alias && r.value(key) != nil {
			name = r.value(key).text
		}
		if before, twice := seen[name]; twice {
			r.fail(key, "", "%s is here twice: it is %s already; remove one of them", quote(name), r.line(before, key))
			continue
		}
		seen[name] = key
		all = append(all, entry{name, key, key.next})
	}
	for _, n := range merged {
		entries, good := r.merge(n, what)
		ok = ok && good
		for _, e := range entries {
			if _, own := seen[e.name]; !own {
				seen[e.name] = e.key
				all = append(all, e)
			}
		}
	}
	return all, ok
}

// merge returns the entries of the value of a merge key: a mapping, or a list of them.
func (r *reader) merge(n *node, what string) (all []entry, ok bool) {
	if !r.is(n, sequence) {
		return r.mapping(n, what)
	}
	ok = true
	for item := r.value(n).child; item != nil; item = item.next {
		entries, good := r.mapping(item, what)
		all, ok = append(all, entries...), ok && good
	}
	return all, ok
}

// list returns the values of a list.
func (r *reader) list(n *node, name, example string) []*node {
	v := r.value(n)
	if v == nil {
		return nil
	}
	if v.form != sequence {
		if v.form <= quoted && v.scalarKind() == isText && len(v.text) < 60 {
			example = fmt.Sprintf("%s: [%s]", name, printable(v.text))
		}
		r.fail(v, "write "+example, "%s is %s, where a list is expected", quote(name), kindOf(v))
		return nil
	}
	all := make([]*node, 0, v.length())
	for item := v.child; item != nil; item = item.next {
		all = append(all, item)
	}
	return all
}

// text reads a scalar as a text, whatever its type.
func (r *reader) text(n *node, name string) (string, bool) {
	v := r.value(n)
	if v == nil {
		return "", false
	}
	if v.form > quoted || v.scalarKind() == isNull {
		r.fail(v, "", "%s is %s, where one value is expected", quote(name), kindOf(v))
		return "", false
	}
	return v.text, true // also a number, which can be a name
}

// choice reads one of some words.
func (r *reader) choice(n *node, name string, words []string) (string, bool) {
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

func (r *reader) boolean(n *node, name string) (value, ok bool) {
	v := r.value(n)
	if v == nil {
		return false, false
	}
	word := strings.ToLower(shorten(v.text, 10))
	if v.form == plain && v.scalarKind() == isBool {
		return word == "true", true
	}
	hint := ""
	switch word {
	case "true", "false":
		hint = "write it without quotes"
	case "yes", "on", "1":
		hint = "write true"
	case "no", "off", "0":
		hint = "write false"
	}
	r.fail(v, hint, "%s is %s, where true or false is expected", quote(name), kindOf(v))
	return false, false
}

func (r *reader) number(n *node, name string) (int, bool) {
	v := r.value(n)
	if v == nil {
		return 0, false
	}
	hint := ""
	if v.form <= quoted && len(v.text) < 60 {
		number, err := strconv.Atoi(v.text)
		switch kind := v.scalarKind(); {
		case kind == isInt && err == nil && (v.text == "0" || !strings.HasPrefix(v.text, "0")):
			return number, true
		case kind == isInt:
			// Some programs read 010 as ten, and others as eight.
			hint = "write it in decimal, without leading zeros"
		case kind == isText && err == nil:
			hint = "write " + v.text + ", without quotes"
		}
	}
	r.fail(v, hint, "%s is %s, where a whole number is expected", quote(name), kindOf(v))
	return 0, false
}

func (r *reader) duration(n *node, name string) (time.Duration, bool) {
	v := r.value(n)
	if v == nil {
		return 0, false
	}
	kind := v.scalarKind()
	if s := v.text; v.form <= quoted && kind != isNull && kind != isBool && len(s) < 60 {
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

// length returns the number of values of a list, or of keys and values of a group.
func (n *node) length() (all int) {
	for c := n.child; c != nil; c = c.next {
		all++
	}
	return all
}

// kindOf describes a value in a message.
func kindOf(n *node) string {
	switch n.form {
	case sequence:
		return "a list"
	case mapping:
		return "a group of keys"
	}
	switch n.scalarKind() {
	case isNull:
		return "empty"
	case isBool:
		return "the word " + n.text
	case isInt, isFloat:
		return "the number " + n.text
	}
	return "the text " + quote(n.text)
}

// quote returns a text of a file in backquotes, short and without control characters.
func quote(s string) string {
	return "`" + printable(strings.ReplaceAll(shorten(s, 60), "\n", " ")) + "`"
}

// shorten cuts a text to a number of characters.
func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i] + "…"
		}
	}
	return s
}

// nearby is meant for a long list of names.
func (r *reader) nearby(word string, names []string) string {
	if r.guesses++; r.guesses > maxGuesses {
		return ""
	}
	return meant(word, names)
}

// meant returns a hint if a word is probably a misspelling of one of the words.
func meant(word string, words []string) string {
	if w := Nearest(strings.ToLower(word), words); w != "" {
		return "did you mean " + quote(w) + "?"
	}
	return ""
}

// quotedEither is either with quoted words.
func quotedEither(words []string) string {
	var quoted []string
	for _, w := range words {
		quoted = append(quoted, quote(w))
	}
	return either(quoted)
}

// either joins words as alternatives: a, b or c.
func either(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
