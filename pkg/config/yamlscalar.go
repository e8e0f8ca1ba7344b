// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// scalar reads a scalar or an alias outside of brackets. Its further lines are further in
// than column n.
func (p *parser) scalar(n int) *node {
	switch p.peek(0) {
	case '"', '\'':
		return p.scalarQuoted()
	case '*':
		return p.alias()
	}
	p.plainStart(false)
	return p.scalarPlain(func() bool { return p.column() > n }, false)
}

// scalarFlow reads a scalar or an alias in brackets.
func (p *parser) scalarFlow() *node {
	switch p.peek(0) {
	case '"', '\'':
		return p.scalarQuoted()
	case '*':
		return p.alias()
	}
	p.plainStart(true)
	return p.scalarPlain(func() bool { return true }, true)
}

// plainStart fails unless a scalar without quotes can begin here.
func (p *parser) plainStart(inFlow bool) {
	c := p.peek(0)
	blank := isBlank(p.peek(1)) || inFlow && isFlow(p.peek(1))
	switch {
	case p.ended(), isBreak(c):
		p.fail(p.pos, "", "not YAML: the value is missing")
	case strings.IndexByte(",[]{}#&*!|>'\"@`", c) >= 0, strings.IndexByte("-?:", c) >= 0 && blank:
		p.fail(p.pos, "put it in quotes if it is text", "not YAML: no value can begin with %c here", c)
	}
}

// plainEnd returns where a scalar without quotes ends in its line, after blanks: at a
// comment, at the end of an entry in brackets, or at a colon with a blank behind it. Two
// colons don't end it, because they are part of an IPv6 address. A key in brackets ends at
// any colon.
func (p *parser) plainEnd(at int, inFlow, isKey bool) int {
	for begin := at; at < len(p.text); at++ {
		switch c := p.text[at]; {
		case isBreak(c), inFlow && isFlow(c):
			return at
		case c == '#' && at > begin && isBlank(p.text[at-1]):
			return at
		case c == ':' && isKey:
			return at
		case c == ':' && (at == begin || p.text[at-1] != ':'):
			if at+1 == len(p.text) || isBlank(p.text[at+1]) || inFlow && isFlow(p.text[at+1]) {
				return at
			}
		}
	}
	return at
}

// scalarPlain reads a scalar without quotes, which may have several lines.
func (p *parser) scalarPlain(belongs func() bool, inFlow bool) *node {
	n := p.node(plain, p.here())
	end := p.plainEnd(p.pos, inFlow, false)
	n.text = strings.TrimRight(p.text[p.pos:end], " \t")
	p.pos = end
	var b strings.Builder
	for p.pos < len(p.text) && isBreak(p.text[p.pos]) {
		breaks, back := 0, *p
		for p.pos < len(p.text) && isBreak(p.text[p.pos]) {
			breaks++
			p.nextLine()
			for p.peek(0) == ' ' || p.peek(0) == '\t' {
				p.pos++
			}
		}
		if p.ended() || p.peek(0) == '#' || !inFlow && p.text[p.first] == '\t' || !belongs() || inFlow && (isFlow(p.peek(0)) || p.peek(0) == ':') {
			*p = back
			break
		}
		if !inFlow && p.dash() {
			p.tooDeep() // for YAML the dash would be text
		}
		if b.Len() == 0 {
			b.WriteString(n.text)
		}
		fold(&b, breaks)
		end = p.plainEnd(p.pos, inFlow, false)
		b.WriteString(strings.TrimRight(p.text[p.pos:end], " \t"))
		p.pos = end
	}
	if b.Len() > 0 {
		n.text = b.String()
	}
	if !inFlow && p.peek(0) == ':' {
		p.tooDeep()
	}
	return n
}

// fold writes the breaks between two lines of a text: one becomes a space.
func fold(b *strings.Builder, breaks int) {
	if breaks == 1 {
		b.WriteByte(' ')
	}
	for ; breaks > 1; breaks-- {
		b.WriteByte('\n')
	}
}

// quoteEnd returns where the line goes on after quotes, 0 if they aren't closed in it.
func (p *parser) quoteEnd(at int) int {
	quote := p.text[at]
	for at++; at < len(p.text) && !isBreak(p.text[at]); at++ {
		switch c := p.text[at]; {
		case c == '\\' && quote == '"':
			at++
		case c == quote && quote == '\'' && at+1 < len(p.text) && p.text[at+1] == quote:
			at++
		case c == quote:
			return at + 1
		}
	}
	return 0
}

// scalarQuoted reads a text in quotes, which may have several lines.
func (p *parser) scalarQuoted() *node {
	n, opened := p.node(quoted, p.here()), p.pos
	quote := p.text[p.pos]
	p.pos++
	var b strings.Builder
	for begin := p.pos; ; {
		i := strings.IndexAny(p.text[p.pos:], string(quote)+"\\\r\n")
		if i < 0 {
			p.fail(opened, "", "not YAML: the quotes are never closed")
		}
		p.pos += i
		switch c := p.text[p.pos]; {
		case c == quote && quote == '\'' && p.peek(1) == quote:
			b.WriteString(p.text[begin : p.pos+1])
			p.pos += 2
		case c == quote:
			if n.text = p.text[begin:p.pos]; b.Len() > 0 {
				b.WriteString(n.text)
				n.text = b.String()
			}
			p.pos++
			return n
		case c == '\\' && quote == '"':
			b.WriteString(p.text[begin:p.pos])
			p.escape(&b)
		case c == '\\':
			p.pos++
			continue
		default:
			b.WriteString(strings.TrimRight(p.text[begin:p.pos], " \t"))
			breaks := 0
			for p.pos < len(p.text) && isBreak(p.text[p.pos]) {
				breaks++
				p.blankLine()
			}
			fold(&b, breaks)
		}
		begin = p.pos
	}
}

// blankLine advances to the first character of the next line.
func (p *parser) blankLine() {
	p.nextLine()
	for p.peek(0) == ' ' || p.peek(0) == '\t' {
		p.pos++
	}
}

// escapes are the characters for the letters behind a backslash.
var escapes = map[byte]rune{
	'0': 0, 'a': '\a', 'b': '\b', 't': '\t', '\t': '\t', 'n': '\n', 'v': '\v', 'f': '\f', 'r': '\r', 'e': 0x1b,
	' ': ' ', '"': '"', '/': '/', '\\': '\\', 'N': 0x85, '_': 0xa0, 'L': 0x2028, 'P': 0x2029,
}

// escape reads an escape sequence behind its backslash.
func (p *parser) escape(b *strings.Builder) {
	at := p.pos
	c := p.peek(1)
	p.pos += 2
	if digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]; digits > 0 {
		r := p.hex(at, digits)
		if utf16.IsSurrogate(r) && p.peek(0) == '\\' && p.peek(1) == 'u' {
			p.pos += 2
			r = utf16.DecodeRune(r, p.hex(at, 4))
		}
		if !utf8.ValidRune(r) || r == utf8.RuneError {
			p.fail(at, "", "not YAML: no character has this number")
		}
		b.WriteRune(r)
		return
	}
	if isBreak(c) {
		p.pos--
		p.blankLine()
		return
	}
	r, known := escapes[c]
	if !known {
		p.fail(at, `write \\ for a backslash`, "not YAML: no character is written like that behind a backslash")
	}
	b.WriteRune(r)
}

// hex reads a hexadecimal number of some digits.
func (p *parser) hex(at, digits int) rune {
	v, err := strconv.ParseUint(p.text[p.pos:min(p.pos+digits, len(p.text))], 16, 31)
	if err != nil || p.pos+digits > len(p.text) {
		p.fail(at, "", "not YAML: %d hexadecimal digits belong here", digits)
	}
	p.pos += digits
	return rune(v)
}

// scalarBlock reads a text in lines below | or >, which are further in than column n.
func (p *parser) scalarBlock(n int) *node {
	v, kind := p.node(quoted, p.here()), p.text[p.pos]
	p.pos++
	chomp, indent := byte(0), 0
	for ; !isBlank(p.peek(0)); p.pos++ {
		switch c := p.peek(0); {
		case (c == '-' || c == '+') && chomp == 0:
			chomp = c
		case c >= '1' && c <= '9' && indent == 0:
			indent = max(n, 0) + int(c-'0')
		default:
			p.fail(p.pos, "", "not YAML: behind %c comes -, + or the indentation, and the text begins on the next line", kind)
		}
	}
	if p.hasContent() {
		p.fail(p.pos, "", "not YAML: a text behind %c begins on the next line", kind)
	}
	var b strings.Builder
	breaks, indentedBefore, any := 0, false, false
	end := p.lineEnd(p.pos)
	for end < len(p.text) {
		p.pos = end
		if p.nextLine(); p.pos == len(p.text) {
			break
		}
		end = p.lineEnd(p.pos)
		text := p.first < end
		if indent == 0 && text {
			indent = max(p.first-p.line, n+1)
		}
		if text && (p.first-p.line < indent || p.marker()) {
			break
		}
		line := p.text[min(p.pos+indent, end):end]
		if indent == 0 || line == "" {
			breaks++
			continue
		}
		indented := line[0] == ' ' || line[0] == '\t'
		switch {
		case !any:
			b.WriteString(strings.Repeat("\n", breaks))
		case kind == '>' && !indented && !indentedBefore:
			fold(&b, breaks+1)
		default:
			b.WriteString(strings.Repeat("\n", breaks+1))
		}
		b.WriteString(line)
		breaks, indentedBefore, any = 0, indented, true
		p.pos = end
	}
	switch {
	case chomp == '+':
		b.WriteString(strings.Repeat("\n", breaks))
		if any {
			b.WriteByte('\n')
		}
	case chomp == 0 && any:
		b.WriteByte('\n')
	}
	v.text = b.String()
	return v
}

// scalarKind is the type of a scalar.
type scalarKind int

const (
	isText scalarKind = iota
	isNull
	isBool
	isInt
	isFloat
)

// scalarKind returns the type in the core schema of YAML 1.2.
func (n *node) scalarKind() scalarKind {
	if n.form != plain {
		return isText
	}
	switch n.text {
	case "", "~", "null", "Null", "NULL":
		return isNull
	case "true", "True", "TRUE", "false", "False", "FALSE":
		return isBool
	case ".nan", ".NaN", ".NAN":
		return isFloat
	}
	digits := strings.TrimLeft(n.text, "+-")
	if len(n.text)-len(digits) > 1 || len(n.text) > 64 {
		return isText
	}
	switch {
	case strings.EqualFold(digits, ".inf"):
		return isFloat
	case digits == "" || strings.Trim(digits, "0123456789abcdefABCDEFox.+-") != "":
		return isText
	case strings.Trim(digits, "0123456789") == "":
		return isInt
	case len(digits) == len(n.text) && strings.HasPrefix(digits, "0x") && digits != "0x" && strings.Trim(digits[2:], "0123456789abcdefABCDEF") == "",
		len(digits) == len(n.text) && strings.HasPrefix(digits, "0o") && digits != "0o" && strings.Trim(digits[2:], "01234567") == "":
		return isInt
	case digits[0] != '.' && (digits[0] < '0' || digits[0] > '9'), strings.ContainsAny(digits, "xX"):
		return isText
	}
	if _, err := strconv.ParseFloat(digits, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return isFloat
	}
	return isText
}
