// SPDX-License-Identifier: Apache-2.0

package manual

import (
	"regexp"
	"strings"
)

var (
	definition   = regexp.MustCompile(`^  (\S+(?: \S+)*)  +(\S.*)$`)
	continuation = regexp.MustCompile(`^ {6,}(\S.*)$`)
)

// text writes a help text: paragraphs, lists of "  TERM   what it means", and
// lines that are indented in another way, which stay as they are.
func (p *page) text(s string) {
	for block := range strings.SplitSeq(strings.Trim(s, "\n"), "\n\n") {
		lines := strings.Split(block, "\n")
		switch {
		case definition.MatchString(lines[0]):
			p.definitions(lines)
		case strings.HasPrefix(lines[0], "  "):
			p.verbatim(outdented(lines))
		default:
			p.paragraph()
			for _, l := range lines {
				p.line(l)
			}
		}
	}
}

// body writes the text of a term: paragraphs.
func (p *page) body(s string) {
	for i, block := range strings.Split(strings.Trim(s, "\n"), "\n\n") {
		if i > 0 {
			p.WriteString(".IP\n")
		}
		for l := range strings.SplitSeq(block, "\n") {
			p.line(l)
		}
	}
}

func (p *page) definitions(lines []string) {
	for _, l := range lines {
		if m := definition.FindStringSubmatch(l); m != nil {
			p.term(bold(m[1]))
			p.line(m[2])
		} else if m := continuation.FindStringSubmatch(l); m != nil {
			p.line(m[1])
		} else {
			p.paragraph()
			p.line(l)
		}
	}
}

// outdented takes the indentation of two columns away.
func outdented(lines []string) []string {
	var all []string
	for _, l := range lines {
		all = append(all, strings.TrimPrefix(l, "  "))
	}
	return all
}
