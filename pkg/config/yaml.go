// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What a file may have at most, so that it is read in two seconds and 64 MB
// whatever is in it. 4,000 routers with 50 addresses each are 5 MB and 250,000
// values.
const (
	maxOctets = 8 << 20
	maxValues = 250_000 // with what aliases stand for
	maxNested = 64      // lists and groups within each other
)

// form is what a node of a file looks like.
type form uint8

const (
	plain    form = iota // a scalar as it is
	quoted               // a scalar in quotes, or a block scalar
	sequence             // a list
	mapping              // keys and values
	alias                // an alias, which stands for another node
)

// node is a value of a YAML file.
type node struct {
	form form
	spot
	size int32  // how many values it is, with what its aliases stand for
	text string // of a scalar; of an alias the name
	// child is the first of a list, or the first key of a group, behind which
	// values and keys take turns; of an alias what it stands for, nil if there
	// is no such anchor before it.
	child, next *node
}

// spot is a place in a text: a line and a character in it, from 1.
type spot struct{ line, column int32 }

// flaw is why a text isn't a YAML file that is taken.
type flaw struct {
	at         int
	text, hint string
	whole      bool // it is about the file, not about the place
}

// parser makes nodes of a text: the part of YAML 1.2 that configuration files
// have, in one pass and in time that grows with the text alone. Anchors are known
// behind their nodes only, so that no node is part of itself.
type parser struct {
	text   string
	pos    int
	line   int // where the line begins
	first  int // where the first character of the line is that isn't a space
	depth  int
	values int
	// number is the line's, from 1, and counted how far its characters are known:
	// columns of them are before that octet.
	number, counted, columns int

	anchors map[string]*node
	slab    []node
}

// parseYAML returns the only document's value, nil if there is none.
func parseYAML(text string) (body *node, bad *flaw) { return newParser(text).parse() }

func newParser(text string) *parser {
	return &parser{text: text, anchors: make(map[string]*node), number: 1}
}

func (p *parser) parse() (body *node, bad *flaw) {
	defer func() {
		if caught := recover(); caught != nil {
			f, ok := caught.(flaw)
			if !ok {
				panic(caught)
			}
			body, bad = nil, &f
		}
	}()
	p.indent(0)
	return p.document(), nil
}

// fail ends the parsing.
func (p *parser) fail(at int, hint, format string, args ...any) {
	panic(flaw{at: at, hint: hint, text: fmt.Sprintf(format, args...)})
}

// refuse ends the parsing of a file that is too much.
func (p *parser) refuse(format string, args ...any) {
	panic(flaw{at: min(p.pos, len(p.text)), text: fmt.Sprintf(format, args...), whole: true})
}

// here is where the parser is.
func (p *parser) here() spot {
	p.columns += utf8.RuneCountInString(p.text[p.counted:p.pos])
	p.counted = p.pos
	return spot{int32(p.number), int32(p.columns + 1)}
}

// node makes one.
func (p *parser) node(f form, at spot) *node {
	if len(p.slab) == 0 {
		p.slab = make([]node, 512)
	}
	n := &p.slab[0]
	p.slab = p.slab[1:]
	n.form, n.spot, n.size = f, at, 1
	p.count(1)
	return n
}

func (p *parser) count(values int) {
	if p.values += values; p.values > maxValues {
		p.refuse("more than %d values, with what aliases stand for: split it up, or write fewer aliases", maxValues)
	}
}

func (p *parser) enter() {
	if p.depth++; p.depth > maxNested {
		p.refuse("more than %d lists and groups within each other: no key needs that", maxNested)
	}
}

func (p *parser) leave() { p.depth-- }

// list adds to a list or a group in order.
type list struct {
	parent, last *node
}

func (l *list) add(n *node) {
	if l.last == nil {
		l.parent.child = n
	} else {
		l.last.next = n
	}
	l.last = n
	l.parent.size += n.size
}

// nextLine goes on to the line behind the break that is here.
func (p *parser) nextLine() {
	p.number++
	p.indent(p.afterBreak(p.pos))
}

// indent notes that a line begins.
func (p *parser) indent(at int) {
	p.pos, p.line, p.counted, p.columns = at, at, at, 0
	for at < len(p.text) && p.text[at] == ' ' {
		at++
	}
	p.first = at
}

// peek returns an octet from here on, 0 behind the end: the text has none.
func (p *parser) peek(n int) byte {
	if p.pos+n < len(p.text) {
		return p.text[p.pos+n]
	}
	return 0
}

func isBreak(c byte) bool { return c == '\n' || c == '\r' }

// isBlank takes the end for a blank.
func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == 0 || isBreak(c) }

func isFlow(c byte) bool { return strings.IndexByte(",[]{}", c) >= 0 }

// afterBreak is where the line behind the break at an octet begins.
func (p *parser) afterBreak(at int) int {
	if at+1 < len(p.text) && p.text[at] == '\r' && p.text[at+1] == '\n' {
		return at + 2
	}
	return at + 1
}

// lineEnd is where the line ends that an octet is in.
func (p *parser) lineEnd(at int) int {
	if i := strings.IndexAny(p.text[at:], "\r\n"); i >= 0 {
		return at + i
	}
	return len(p.text)
}

func (p *parser) column() int { return p.pos - p.line }

// skip goes on to the next thing that isn't a blank or a comment.
func (p *parser) skip(inFlow bool) {
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; {
		case c == ' ':
			p.pos++
		case c == '\t':
			if p.pos == p.first && !inFlow && p.hasContent() {
				panic(flaw{at: p.pos, hint: "indent with spaces", text: "a tab: YAML has none at the beginning of a line"})
			}
			p.pos++
		case isBreak(c):
			p.nextLine()
			if p.marker() {
				return
			}
		case c == '#' && (p.pos == p.line || isBlank(p.text[p.pos-1])):
			p.pos = p.lineEnd(p.pos)
		default:
			return
		}
	}
}

// hasContent reports whether there is more in the line than blanks and a comment.
func (p *parser) hasContent() bool {
	rest := strings.TrimLeft(p.text[p.pos:p.lineEnd(p.pos)], " \t")
	return rest != "" && rest[0] != '#'
}

// marker reports whether a line with a document's beginning or end is here.
func (p *parser) marker() bool {
	if p.pos != p.line || p.pos+3 > len(p.text) {
		return false
	}
	three := p.text[p.pos : p.pos+3]
	return (three == "---" || three == "...") && isBlank(p.peek(3))
}

// ended reports whether there is no more of the document.
func (p *parser) ended() bool { return p.pos >= len(p.text) || p.marker() }

// document reads the first document, and makes sure that there is no other.
func (p *parser) document() (body *node) {
	for {
		p.skip(false)
		for p.pos == p.line && p.peek(0) == '%' { // a directive
			p.pos = p.lineEnd(p.pos)
			p.skip(false)
		}
		if p.marker() {
			p.pos += 3
			p.skip(false)
		}
		switch {
		case p.pos >= len(p.text):
			return body
		case p.marker():
			continue
		case body != nil:
			p.fail(p.pos, "put everything into one document", "a second document")
		}
		body = p.block(-1, false, true)
		p.skip(false)
		if !p.ended() {
			p.stray()
		}
	}
}

// stray ends the parsing at something that belongs nowhere.
func (p *parser) stray() {
	if p.pos == p.first {
		p.fail(p.pos, oneColumn, "not YAML: the line is indented like nothing above it: %s", p.indentation())
	}
	p.fail(p.pos, "", "not YAML: something is behind the end of the value")
}

// tooDeep ends the parsing at a line that is below a value as if it were within it.
func (p *parser) tooDeep() {
	p.fail(p.first, oneColumn, "not YAML: nothing can be indented below a value: %s", p.indentation())
}

const oneColumn = "have what belongs together begin in one column"

// linesAbove is how many lines above a wrong one are looked at.
const linesAbove = 100

// indentation says where the line begins that the parser is in, and where those do above
// it that it could belong to.
func (p *parser) indentation() string {
	var columns []int
	dash := strings.HasPrefix(p.text[p.first:], "- ")
	if end := strings.LastIndexAny(p.text[:p.line], "\r\n"); end >= 0 {
		before := strings.FieldsFunc(p.text[max(0, end-linesAbove*maxExcerpt):end], func(c rune) bool { return isBreak(byte(c)) })
		least := len(p.text)
		for _, line := range slices.Backward(before[max(0, len(before)-linesAbove):]) {
			rest := strings.TrimLeft(line, " ")
			column := len(line) - len(rest)
			if rest == "" || rest[0] == '#' || column >= least {
				continue
			}
			if least = column; strings.HasPrefix(rest, "- ") {
				least++ // a list's dashes can be below the list's key
			}
			for strings.HasPrefix(rest, "- ") { // what is behind a dash has a column too
				key := strings.TrimLeft(rest[1:], " ")
				if dash {
					columns = append(columns, column)
				}
				column += len(rest) - len(key)
				rest = key
			}
			if !dash {
				columns = append(columns, column)
			}
		}
	}
	slices.Sort(columns)
	var words []string
	for _, c := range slices.Compact(columns) {
		words = append(words, strconv.Itoa(c+1))
	}
	if len(words) == 0 {
		words = []string{"1"}
	}
	return fmt.Sprintf("it begins in column %d, and what it can belong to in column %s", p.first-p.line+1, either(words))
}

// nodeProperties are what is before a value.
type nodeProperties struct {
	anchor string
	text   bool // its tag says that it is text
	any    bool
	at     int
}

// properties reads the anchor and the tag of a value.
func (p *parser) properties() (all nodeProperties) {
	all.at = p.pos
	tagged := false
	for {
		switch c := p.peek(0); {
		case c == '&' && all.anchor == "":
			all.anchor = p.name()
		case c == '!' && !tagged:
			begin := p.pos
			for !isBlank(p.peek(0)) && (!isFlow(p.peek(0)) || p.text[begin:min(begin+2, len(p.text))] == "!<") {
				p.pos++
			}
			tag := p.text[begin:p.pos]
			tagged, all.text = true, tag == "!" || tag == "!!str"
		case c == '&' || c == '!':
			p.fail(p.pos, "leave one away", "not YAML: a value has one anchor and one tag")
		default:
			return all
		}
		all.any = true
		for p.peek(0) == ' ' || p.peek(0) == '\t' {
			p.pos++
		}
	}
}

// name reads the name of an anchor or an alias, behind its first character.
func (p *parser) name() string {
	begin := p.pos + 1
	for p.pos++; !isBlank(p.peek(0)) && !isFlow(p.peek(0)); {
		p.pos++
	}
	if p.pos == begin {
		p.fail(begin-1, "", "not YAML: %c without a name", p.text[begin-1])
	}
	return p.text[begin:p.pos]
}

// is gives a value its anchor and tag.
func (all nodeProperties) is(p *parser, n *node) *node {
	if all.any && n.form == alias {
		p.fail(all.at, "", "not YAML: an alias has no anchor and no tag")
	}
	if all.text && n.form == plain {
		n.form = quoted
	}
	if all.anchor != "" {
		p.anchors[all.anchor] = n
	}
	return n
}

// block reads the value of an entry that is at column n. It may be in the same
// line, or further in on lines below; a list may also be at n where the entry is a
// key's. What is compact may have entries of its own in the same line.
func (p *parser) block(n int, ofKey, compact bool) *node {
	p.enter()
	defer p.leave()
	empty := p.here()
	p.skip(false)
	if !p.within(n, ofKey) {
		return p.node(plain, empty)
	}
	below := p.pos == p.first
	all := p.properties()
	if !all.any {
		return p.content(n, below || compact, all)
	}
	if at := p.pos; at < len(p.text) && p.text[at] != '#' && !isBreak(p.text[at]) {
		return p.content(n, below || compact, all) // in the same line
	}
	empty = p.here()
	p.skip(false)
	if !p.within(n, ofKey) {
		return all.is(p, p.node(plain, empty))
	}
	own := p.properties()
	if own.any && p.pos != p.first && !p.isKey() {
		p.fail(own.at, "leave one away", "not YAML: a value has one anchor and one tag")
	}
	return all.is(p, p.content(n, true, own))
}

// within reports whether what is here belongs to an entry at column n.
func (p *parser) within(n int, ofKey bool) bool {
	switch {
	case p.ended():
		return false
	case p.pos != p.first || p.column() > n:
		return true
	}
	return ofKey && p.column() == n && p.dash()
}

func (p *parser) dash() bool { return p.peek(0) == '-' && isBlank(p.peek(1)) }

// content reads a value that is here. Its properties were before it; if it turns
// out to be a key, they are the key's.
func (p *parser) content(n int, compact bool, all nodeProperties) *node {
	column := all.at - p.line
	switch c := p.peek(0); {
	case p.dash():
		if !compact || all.any {
			p.fail(p.pos, "begin the list on a line of its own", "not YAML: a list's dash is behind something else")
		}
		return p.entries(column)
	case c == '|' || c == '>':
		return all.is(p, p.scalarBlock(n))
	case c == '[' || c == '{':
		v := p.flow()
		if p.isColon() {
			p.fail(p.pos, "", "not YAML: a list or a group can't be a key")
		}
		return all.is(p, v)
	}
	key := p.isKey()
	if !key {
		return all.is(p, p.scalar(n))
	}
	if !compact {
		p.fail(p.pos, "put it on a line of its own, further in", "not YAML: a key with a value is behind another key")
	}
	return p.pairs(column, all)
}

// entries reads the entries of a list whose dashes are at a column.
func (p *parser) entries(column int) *node {
	l := list{parent: p.node(sequence, p.here())}
	for {
		p.pos++
		l.add(p.block(column, false, true))
		if p.skip(false); p.ended() {
			return l.parent
		}
		if p.pos != p.first || p.column() > column {
			p.stray()
		}
		if p.column() < column || !p.dash() {
			return l.parent
		}
	}
}

// pairs reads the keys and values of a group whose keys are at a column.
func (p *parser) pairs(column int, all nodeProperties) *node {
	l := list{parent: p.node(mapping, p.here())}
	for {
		l.add(all.is(p, p.key(false)))
		p.pos++ // the colon
		l.add(p.block(column, true, false))
		if p.skip(false); p.ended() || p.pos == p.first && p.column() < column {
			return l.parent
		}
		if p.pos != p.first || p.column() > column {
			p.stray()
		}
		all = p.properties()
		if p.dash() || !p.isKey() {
			p.fail(p.pos, "write it like `vrid: 51`", "not YAML: no key with a colon and a blank behind it")
		}
	}
}

// isKey reports whether a key is here: a scalar in one line with a colon and a
// blank behind it.
func (p *parser) isKey() bool {
	switch c := p.peek(0); {
	case c == '?' && isBlank(p.peek(1)):
		p.fail(p.pos, "write it like `vrid: 51`", "not YAML: a key behind a question mark isn't taken")
	case c == '"' || c == '\'':
		end := p.quoteEnd(p.pos)
		for end < len(p.text) && (p.text[end] == ' ' || p.text[end] == '\t') {
			end++
		}
		return end > 0 && end < len(p.text) && p.text[end] == ':'
	case c == '*':
		end := p.pos
		for end < len(p.text) && !isBlank(p.text[end]) {
			end++
		}
		rest := strings.TrimLeft(p.text[end:p.lineEnd(end)], " \t")
		return rest != "" && rest[0] == ':' && (len(rest) == 1 || isBlank(rest[1]))
	}
	end := p.plainEnd(p.pos, false, false)
	return end < len(p.text) && p.text[end] == ':'
}

// isColon goes on to a colon with a blank behind it, if one follows in the line.
func (p *parser) isColon() bool {
	for p.peek(0) == ' ' || p.peek(0) == '\t' {
		p.pos++
	}
	return p.peek(0) == ':'
}

// key reads a key, and goes on to the colon behind it.
func (p *parser) key(inFlow bool) *node {
	var n *node
	switch p.peek(0) {
	case '"', '\'':
		n = p.scalarQuoted()
	case '*':
		n = p.alias()
	default:
		p.plainStart(inFlow)
		end := p.plainEnd(p.pos, inFlow, inFlow)
		n = p.node(plain, p.here())
		n.text = strings.TrimRight(p.text[p.pos:end], " \t")
		p.pos = end
	}
	if !inFlow {
		p.isColon()
	}
	return n
}

// alias reads one. What it stands for counts as if it were written out.
func (p *parser) alias() *node {
	n := p.node(alias, p.here())
	n.text = p.name()
	if n.child = p.anchors[n.text]; n.child != nil {
		n.size += n.child.size
		p.count(int(n.child.size))
	}
	return n
}

// flow reads a list in brackets, a group in braces, or a scalar in one of them.
func (p *parser) flow() *node {
	switch p.peek(0) {
	case '[':
		return p.flowList()
	case '{':
		return p.flowGroup()
	}
	return p.scalarFlow()
}

// flowValue reads a value in a list or group, which may be empty.
func (p *parser) flowValue() *node {
	empty := p.here()
	p.skip(true)
	all := p.properties()
	p.skip(true)
	if c := p.peek(0); c == ',' || c == ']' || c == '}' {
		return all.is(p, p.node(plain, empty))
	}
	return all.is(p, p.flow())
}

// open goes on behind a bracket or brace.
func (p *parser) open() (at int) {
	p.enter()
	at = p.pos
	p.pos++
	return at
}

// more goes on to the next entry of a list or group in brackets, and reports
// whether there is one. separated says whether a comma was before.
func (p *parser) more(opened int, closing byte, separated bool) bool {
	p.skip(true)
	switch c := p.peek(0); {
	case p.ended():
		p.fail(opened, "", "not YAML: %c is never closed: a %c is missing", p.text[opened], closing)
	case c == closing:
		p.pos++
		p.leave()
		return false
	case c == ',' && separated:
		p.fail(p.pos, "", "not YAML: nothing is before this comma")
	case !separated:
		if c != ',' {
			p.fail(p.pos, "", "not YAML: a comma or a %c is missing here", closing)
		}
		p.pos++
		return p.more(opened, closing, true)
	}
	return true
}

func (p *parser) flowList() *node {
	l := list{parent: p.node(sequence, p.here())}
	opened := p.open()
	for separated := true; p.more(opened, ']', separated); separated = false {
		n := p.flowValue()
		if p.skip(true); p.peek(0) == ':' { // a group of one key without its braces
			pair := list{parent: p.node(mapping, n.spot)}
			pair.add(n)
			p.pos++
			pair.add(p.flowValue())
			n = pair.parent
		}
		l.add(n)
	}
	return l.parent
}

func (p *parser) flowGroup() *node {
	l := list{parent: p.node(mapping, p.here())}
	opened := p.open()
	for separated := true; p.more(opened, '}', separated); separated = false {
		all := p.properties()
		if c := p.peek(0); c == '[' || c == '{' || c == '?' && isBlank(p.peek(1)) {
			p.fail(p.pos, "write it like {vrid: 51}", "not YAML: no key is here")
		}
		l.add(all.is(p, p.key(true)))
		value := p.here()
		if p.skip(true); p.peek(0) != ':' {
			l.add(p.node(plain, value))
			continue
		}
		p.pos++
		l.add(p.flowValue())
	}
	return l.parent
}
