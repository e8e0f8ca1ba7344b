// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"fmt"
	"strings"
)

// node is a directive of a keepalived configuration.
type node struct {
	line
	words    []string // the first is its name
	raw      []string // the words as the file has them, with quotes and backslashes
	read     []bool   // which of the words were looked at
	block    []*node
	hasBlock bool
	parent   *node
	told     bool     // whether it is translated, or has a finding
	router   *router  // of a vrrp_instance
	members  []string // of a vrrp_sync_group
	balances bool     // whether keepalived's load balancer uses it
}

// name is the directive's first word.
func (n *node) name() string { return n.words[0] }

// arg returns a word, "" if there are fewer.
func (n *node) arg(i int) string {
	if i >= len(n.words) {
		return ""
	}
	n.read[i] = true
	return n.words[i]
}

// secretNames are the directives that may have secrets, and those around them.
var secretNames = map[string]bool{
	"authentication": true, "auth_type": true, "auth_pass": true,
	"auth_hmac": true, "key": true, "active_key": true, "anti_replay": true, "time_window": true, "mode": true,
}

// secret reports whether a directive's words may be secret, so that no message may
// show them.
func (n *node) secret() bool {
	for ; n != nil && n.parent != nil; n = n.parent {
		if secretNames[n.name()] {
			return true
		}
	}
	return false
}

// rawArg is arg for a word that is a secret: the sweep doesn't find it.
func (n *node) rawArg(i int) string {
	n.args()
	return n.arg(i)
}

// args returns the words behind the name.
func (n *node) args() []string {
	for i := range n.read {
		n.read[i] = true
	}
	return n.words[1:]
}

// tell notes that a directive is translated. The sweep finds the words of it that
// nothing reads.
func (n *node) tell() {
	n.told, n.read[0] = true, true
}

// tellAll notes that a finding covers a directive and everything in it.
func (n *node) tellAll() {
	n.tell()
	n.args()
	for _, c := range n.block {
		c.tellAll()
	}
}

// tree parses lines into directives.
func tree(lines []line) (*node, error) {
	root := &node{words: []string{""}, hasBlock: true}
	stack := []*node{root}
	words := 0
	for _, l := range lines {
		tokens, err := split(l.text)
		if words += len(tokens); words > maxWords {
			return nil, fmt.Errorf("%s:%d: more than %d words: import it in several files", l.path, l.number, maxWords)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", l.path, l.number, err)
		}
		var current *node // what the line's next word belongs to
		for _, t := range tokens {
			top := stack[len(stack)-1]
			switch {
			case t.word == "{" && !t.quoted:
				if current == nil && len(top.block) > 0 && !top.block[len(top.block)-1].hasBlock {
					current = top.block[len(top.block)-1] // of the line before
				}
				if current == nil {
					return nil, fmt.Errorf("%s:%d: a { without a name before it: write one, like vrrp_instance VI_1 {", l.path, l.number)
				}
				if len(stack) > maxDepth {
					return nil, fmt.Errorf("%s:%d: %d blocks within each other: close some", l.path, l.number, maxDepth)
				}
				current.hasBlock = true
				stack, current = append(stack, current), nil
			case t.word == "}" && !t.quoted:
				if len(stack) == 1 {
					return nil, fmt.Errorf("%s:%d: a } that closes nothing: remove it, or look for a { missing before it", l.path, l.number)
				}
				stack, current = stack[:len(stack)-1], nil
			case current == nil:
				current = &node{line: l, words: []string{t.word}, raw: []string{t.raw}, read: []bool{false}, parent: top}
				if top.block = append(top.block, current); len(top.block) > maxInBlock {
					return nil, fmt.Errorf("%s:%d: more than %d directives in one block: import it in several files", l.path, l.number, maxInBlock)
				}
			default:
				current.words = append(current.words, t.word)
				current.raw = append(current.raw, t.raw)
				current.read = append(current.read, false)
			}
		}
	}
	if n := stack[len(stack)-1]; n != root {
		what := n.words
		if n.secret() {
			what = what[:1]
		}
		return nil, fmt.Errorf("%s:%d: %s { is never closed: add a } where it ends", n.path, n.number, clean(cut(strings.Join(what, " "))))
	}
	return root, nil
}

// word is a word, or a brace of a block.
type word struct {
	word   string
	raw    string // with its quotes and backslashes
	quoted bool
}

// split splits a line into words, as a shell would.
func split(s string) (all []word, err error) {
	var b strings.Builder
	in, quoted, quote, depth := false, false, rune(0), 0
	r, start := []rune(s), 0 // start is the first character that may be part of the word
	end := func(i int) {
		if in {
			all = append(all, word{b.String(), string(r[start:i]), quoted})
		}
		start = i + 1
		in, quoted, depth = false, false, 0
		b.Reset()
	}
	for i := 0; i < len(r); i++ {
		c := r[i]
		last := i+1 == len(r) || r[i+1] == ' ' || r[i+1] == '\t'
		switch {
		case c == '\\' && i+1 < len(r):
			var escaped rune
			escaped, i = escape(r, i+1)
			b.WriteRune(escaped)
			in, quoted = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b.WriteRune(c)
		case c == '"' || c == '\'':
			quote, in, quoted = c, true, true
		case c == ' ' || c == '\t':
			end(i)
		case c == '{' && (!in || last), c == '}' && depth == 0:
			end(i)
			all = append(all, word{string(c), string(c), false})
		default:
			if c == '{' {
				depth++
			}
			if c == '}' {
				depth--
			}
			b.WriteRune(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote %c is never closed: add one at the end", quote)
	}
	end(len(r))
	return all, nil
}

// escape reads the escape sequence behind a backslash at i, and returns the index of
// its last character.
func escape(r []rune, i int) (rune, int) {
	number := func(base, from, most int) (rune, int) {
		v, j := 0, from
		for ; j < len(r) && j < from+most; j++ {
			d := strings.IndexRune("0123456789abcdef", lower(r[j]))
			if d < 0 || d >= base {
				break
			}
			v = (v*base + d) & 0xff
		}
		return rune(v), j - 1
	}
	switch c := r[i]; {
	case c >= '0' && c <= '7':
		return number(8, i, 3)
	case c == 'x' && i+1 < len(r) && strings.ContainsRune("0123456789abcdef", lower(r[i+1])):
		return number(16, i+1, len(r))
	case c == 'c' && i+1 < len(r):
		return r[i+1] & 0x1f, i + 1
	case strings.ContainsRune("abEfnrtv", c):
		return rune("\a\b\x1b\f\n\r\t\v"[strings.IndexRune("abEfnrtv", c)]), i
	default:
		return c, i
	}
}

func lower(c rune) rune {
	if c >= 'A' && c <= 'F' {
		return c + 'a' - 'A'
	}
	return c
}
