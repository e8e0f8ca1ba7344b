// SPDX-License-Identifier: Apache-2.0

// Package manual writes the manual pages, from what is documented already: the
// commands' help, and the reference of the configuration file.
package manual

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// page is a page in roff, by the macros of man(7).
type page struct{ bytes.Buffer }

// begin writes the title line and the name.
func (p *page) begin(name string, section int, short, version string) {
	// No hyphenation: what can be typed is not to be broken. It is the macros'
	// register, for they set it anew with each paragraph.
	p.WriteString(".nr HY 0\n")
	fmt.Fprintf(p, ".TH %q %d %q %q %q\n", strings.ToUpper(name), section, "", "failoverd "+version, "failoverd")
	p.WriteString(".ad l\n.ss 12 0\n") // no stretched lines, nor sentences apart
	p.section("NAME")
	fmt.Fprintf(p, "%s \\- %s\n", escape(name), escape(short))
}

func (p *page) section(title string) { fmt.Fprintf(p, ".SH %s\n", quoted(title)) }

func (p *page) subsection(title string) { fmt.Fprintf(p, ".SS %s\n", quoted(title)) }

// term writes the term of a definition, in roff; its text follows.
func (p *page) term(roff string) { fmt.Fprintf(p, ".TP\n%s\n", roff) }

// line writes a line of running text.
func (p *page) line(text string) { fmt.Fprintln(p, atStart(inline(text))) }

// paragraph begins one.
func (p *page) paragraph() { p.WriteString(".PP\n") }

// verbatim writes lines as they are.
func (p *page) verbatim(lines []string) {
	p.WriteString(".PP\n")
	p.asItIs(lines)
}

// asItIs is verbatim without a paragraph of its own.
func (p *page) asItIs(lines []string) {
	p.WriteString(".EX\n")
	for _, l := range lines {
		fmt.Fprintln(p, atStart(escape(l)))
	}
	p.WriteString(".EE\n")
}

func (p *page) seeAlso(pages ...string) {
	p.section("SEE ALSO")
	for i, s := range pages {
		name, section, _ := strings.Cut(s, "(")
		comma := ","
		if i == len(pages)-1 {
			comma = ""
		}
		fmt.Fprintf(p, ".BR %s (%s%s\n", escape(name), section, comma)
	}
}

// writeTo is the end of a page.
func (p *page) writeTo(w io.Writer) error {
	_, err := w.Write(p.Bytes())
	return err
}

var special = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`)

// escape makes a text mean itself.
func escape(s string) string { return special.Replace(s) }

// atStart makes a line that may begin with a roff's control character text.
func atStart(roff string) string {
	if strings.HasPrefix(roff, ".") {
		return `\&` + roff
	}
	return roff
}

// quoted is the argument of a macro.
func quoted(s string) string { return `"` + escape(s) + `"` }

func bold(s string) string { return `\fB` + escape(s) + `\fR` }

func italic(s string) string { return `\fI` + escape(s) + `\fR` }

var code = regexp.MustCompile("`([^`]+)`")

// inline escapes running text, where what is between backquotes is bold.
func inline(s string) string {
	var b strings.Builder
	at := 0
	for _, m := range code.FindAllStringSubmatchIndex(s, -1) {
		b.WriteString(escape(s[at:m[0]]) + bold(s[m[2]:m[3]]))
		at = m[1]
	}
	return b.String() + escape(s[at:])
}

var usageWord = regexp.MustCompile(`[A-Za-z0-9-]+`)

// usage writes a usage line: what is typed is bold, what is replaced italic.
func usage(s string) string {
	s = strings.Replace(s, "[flags]", "[OPTION]...", 1)
	var b strings.Builder
	at := 0
	for _, m := range usageWord.FindAllStringIndex(s, -1) {
		word := s[m[0]:m[1]]
		b.WriteString(escape(s[at:m[0]]))
		if strings.ToUpper(word) == word && strings.ToLower(word) != word {
			b.WriteString(italic(word))
		} else {
			b.WriteString(bold(word))
		}
		at = m[1]
	}
	return b.String() + escape(s[at:])
}
