// SPDX-License-Identifier: Apache-2.0

// Package migrate makes failoverd's configuration of other programs' files:
// keepalived's, and the JSON of the Rust failover that failoverd succeeds. It
// drops nothing silently: whatever isn't translated one to one is a Finding.
package migrate

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Result is what a file of another program becomes.
type Result struct {
	YAML     []byte    // failoverd's configuration, with comments where a human must look
	Keys     []KeyFile // to be made beside it
	Findings []Finding // everything that was not translated one to one, in the order of the file
}

// Finding is something that was not translated one to one.
type Finding struct {
	Path      string // the file, which may be an included one
	Line      int    // from 1
	Directive string // as in the source
	Kind      Kind
	Text      string // the reason, and what to do instead
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", f.Path, f.Line, f.Directive, f.Text)
}

// Kind says what became of a directive.
type Kind int

// The kinds, the most pressing first.
const (
	Changed  Kind = iota // translated, but with other behaviour
	Later                // a feature that failoverd doesn't have yet
	Foreign              // another program's job
	Unknown              // not understood
	Unneeded             // failoverd does this by itself, or it has no meaning
)

// Kinds are all kinds in their order.
var Kinds = []Kind{Changed, Later, Foreign, Unknown, Unneeded}

func (k Kind) String() string {
	return []string{"changed", "later", "foreign", "unknown", "unneeded"}[k]
}

// collector collects findings in whatever order they turn up.
type collector struct {
	list      []*found
	explained bool // a comment that the result has once
	globals   []pair
	synced    []*syncedGroup
	checks    []*probe
}

// found is a finding with what it takes to order and to place it.
type found struct {
	Finding
	order   int       // of the directive in the source
	at      *node     // the directive, where there is one
	routers []*router // whose comments have it; none: the file's head
}

func (c *collector) add(order int, f Finding, at *node, routers ...*router) {
	if len(c.list) > maxFindings {
		return // the result is refused
	}
	f.Path, f.Directive, f.Text = clean(f.Path), clean(f.Directive), clean(f.Text)
	if f.Directive == "" {
		f.Directive = `""`
	}
	c.list = append(c.list, &found{f, order, at, routers})
}

// once returns a comment that one router of the result has for all.
func (c *collector) once(comment ...string) []string {
	if c.explained {
		return nil
	}
	c.explained = true
	return comment
}

func (c *collector) sort() {
	slices.SortStableFunc(c.list, func(a, b *found) int { return a.order - b.order })
}

func (c *collector) findings() []Finding {
	var all []Finding
	for _, f := range c.list {
		all = append(all, f.Finding)
	}
	return all
}

// clean leaves nothing in a text of the source that a terminal or YAML would
// obey.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// cut shortens a text of the source.
func cut(s string) string {
	const most = 48
	if len(s) <= most {
		return s
	}
	if r := []rune(s[:min(len(s), 4*(most+1))]); len(r) > most {
		return string(r[:most-3]) + "..."
	}
	return s
}
