// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"
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
	Line, Column int // from 1
	Width        int // in characters, at least 1
	Text         string
	Hint         string // the remedy, where the text doesn't have it
	Secret       bool   // the line may have a secret in it, and isn't shown
}

// Mistakes is everything that is wrong with a file, in its order.
type Mistakes struct {
	Path    string
	Content []byte
	List    []Mistake
}

// Error has a line with the place for each mistake, then the line of the file
// with a mark under what is wrong.
func (e *Mistakes) Error() string {
	lines := strings.Split(string(e.Content), "\n")
	for _, m := range e.List {
		if m.Secret && m.Line >= 1 && m.Line <= len(lines) {
			lines[m.Line-1] = "(not shown: there may be a secret in it)"
		}
	}
	var b strings.Builder
	for i, m := range e.List {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s:%d:%d: %s", e.Path, m.Line, m.Column, m.Text)
		if m.Line >= 1 && m.Line <= len(lines) {
			line := strings.TrimRight(lines[m.Line-1], "\r")
			number := fmt.Sprintf("%5d", m.Line)
			fmt.Fprintf(&b, "\n%s | %s", number, printable(line))
			if column, end := m.Column-1, len([]rune(line)); column <= end {
				fmt.Fprintf(&b, "\n%s | %s%s", strings.Repeat(" ", len(number)), indent(line, column), strings.Repeat("^", max(min(m.Width, end-column), 1)))
			}
		}
		if m.Hint != "" {
			fmt.Fprintf(&b, "\n      = %s", m.Hint)
		}
	}
	return b.String()
}

// sorted returns nil if there are no mistakes.
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

// nearest returns the one of the words that was probably meant, or nothing.
func nearest(word string, words []string) string {
	best, least := "", 3 // more than two letters off is another word
	for _, w := range words {
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
