// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"
)

// Problem is something wrong with a router, or with one key of it.
type Problem struct {
	Key  string // the key of the file: "interval"; empty for the router itself
	Item int    // which of the key's list it is, from 0
	Text string // what is wrong, and the remedy
	// Secret says that what is in the file there may be a secret, and isn't shown.
	Secret bool
}

func (p Problem) Error() string { return p.Text }

// Mistake is something wrong at a place in a file.
type Mistake struct {
	Line, Column int // from 1; lines are numbered through all files
	Width        int // in characters; 0 if it is about the file as a whole
	Text         string
	Hint         string // the remedy, where the text doesn't have it
	Secret       bool   // the line may have a secret in it, and isn't shown
}

// Mistakes is what is wrong with a file, in its order.
type Mistakes struct {
	List []Mistake
	More int // how many there are beside those of the list

	parts  []part
	origin Origin // nil if the files are failoverd's own
}

// What is kept of what is wrong, and what is shown: nobody reads more.
const (
	maxMistakes     = 10_000
	maxShownLines   = 56
	maxShownOctets  = 16_000
	maxMessage      = 600 // characters
	maxExcerpt      = 100 // characters of a line
	excerptsContext = 40  // of them before the place
)

func (e *Mistakes) full() bool { return len(e.List) >= maxMistakes }

func (e *Mistakes) count() int { return len(e.List) + e.More }

func (e *Mistakes) add(m Mistake) {
	if e.full() {
		e.More++
		return
	}
	m.Text, m.Hint = shorten(m.Text, maxMessage), shorten(m.Hint, maxMessage)
	e.List = append(e.List, m)
}

// Error has a line with the place for each mistake, then the line of the file
// with a mark under what is wrong. Of many it has the first ones, and says how many
// more there are.
func (e *Mistakes) Error() string {
	excerpts := e.lines(e.List[:min(len(e.List), maxShownLines)])
	var all, b strings.Builder
	for i, m := range e.List {
		b.Reset()
		if e.origin != nil {
			path, line, directive := e.origin.Place(m.Line)
			fmt.Fprintf(&b, "%s:%d: %s: %s", path, line, directive, m.Text)
		} else {
			p := e.part(m.Line)
			number := m.Line - p.above
			fmt.Fprintf(&b, "%s:%d:%d: %s", p.path, number, m.Column, m.Text)
			if line, ok := excerpts[m.Line]; ok && m.Width > 0 {
				excerpt(&b, number, line, m)
			}
		}
		if m.Hint != "" {
			fmt.Fprintf(&b, "\n      = %s", m.Hint)
		}
		shown := all.String() + b.String()
		if i > 0 && (strings.Count(shown, "\n") >= maxShownLines || len(shown) > maxShownOctets) {
			return fmt.Sprintf("%sand %d more", all.String(), e.count()-i)
		}
		all.WriteString(b.String())
		if i+1 < e.count() {
			all.WriteByte('\n')
		}
	}
	if e.More > 0 {
		fmt.Fprintf(&all, "and %d more", e.More)
	}
	return all.String()
}

// lines returns the lines of the mistakes.
func (e *Mistakes) lines(list []Mistake) map[int]string {
	all := make(map[int]string)
	last := 0
	for _, m := range list {
		all[m.Line], last = "", max(last, m.Line)
	}
	for n := range all {
		if p := e.part(n); n >= max(p.end(), p.above+2) {
			delete(all, n) // behind the last line
		}
	}
	for _, p := range e.parts {
		number := p.above
		for line := range lines(p.content) {
			if number++; number > last {
				break
			}
			if _, wanted := all[number]; wanted {
				all[number] = strings.TrimRight(line, "\r\n")
			}
		}
	}
	for _, m := range list {
		if _, there := all[m.Line]; m.Secret && there {
			all[m.Line] = "(not shown: there may be a secret in it)"
		}
	}
	return all
}

// lines are those of a text, each with its break: \n, \r\n or \r.
func lines(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for text != "" {
			end := strings.IndexAny(text, "\r\n") + 1
			switch {
			case end == 0:
				end = len(text)
			case text[end-1] == '\r' && end < len(text) && text[end] == '\n':
				end++
			}
			if !yield(text[:end]) {
				return
			}
			text = text[end:]
		}
	}
}

// excerpt writes a line with a mark under a mistake. Of a long line it has what is
// around that.
func excerpt(b *strings.Builder, at int, line string, m Mistake) {
	number := fmt.Sprintf("%5d", at)
	column := m.Column - 1
	if utf8.RuneCountInString(line) > maxExcerpt {
		from := max(column-excerptsContext, 0)
		line = skipRunes(line, from)
		if column -= from; from > 0 {
			line = "…" + line
			column++
		}
		line = shorten(line, maxExcerpt)
	}
	fmt.Fprintf(b, "\n%s | %s", number, printable(line))
	if end := utf8.RuneCountInString(line); column <= end {
		fmt.Fprintf(b, "\n%s | %s%s", strings.Repeat(" ", len(number)), indent(line, column), strings.Repeat("^", max(min(m.Width, end-column), 1)))
	}
}

// skipRunes leaves the first characters of a text away.
func skipRunes(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[i:]
		}
	}
	return ""
}

// sorted returns nil if there are no mistakes. One that was found twice is there
// once.
func (e *Mistakes) sorted() error {
	if len(e.List) == 0 {
		return nil
	}
	slices.SortStableFunc(e.List, func(a, b Mistake) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	e.List = slices.Compact(e.List)
	return e
}

// printable shows what a terminal would obey.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return '·'
		}
		return r
	}, s)
}

// indent is as wide as the first columns of a line, with tabs where it has them.
func indent(line string, columns int) string {
	var b strings.Builder
	for _, r := range []rune(line)[:columns] {
		if r != '\t' {
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Nearest returns the one of the words that was probably meant, or nothing.
func Nearest(word string, words []string) string {
	best, least := "", 3 // more than two letters off is another word
	for _, w := range words {
		if len(w)-len(word) >= least || len(word)-len(w) >= least {
			continue
		}
		if d := distance(word, w); d < least && d < len(w) {
			best, least = w, d
		}
	}
	return best
}

// distance is how many letters have to be changed, added, left away or swapped
// with their neighbour to make one word of the other.
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now := make([]int, len(b)+1)
		now[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last = last, now
	}
	return last[len(b)]
}
