// SPDX-License-Identifier: Apache-2.0

// Package migrate translates the configuration files of other programs into
// failoverd's: keepalived's, and the JSON of the Rust failover that failoverd
// succeeds. It drops nothing silently: whatever isn't translated one to one is a
// Finding.
package migrate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Result is the translation of another program's file.
type Result struct {
	YAML     []byte    // failoverd's configuration, with comments where a human must look
	Keys     []KeyFile // the files with secrets that YAML refers to
	Findings []Finding // everything that was not translated one to one, in the order of the file

	// LVS is a file for keepalived with the load balancer's part of its configuration; nil if
	// there is none. It can have secrets.
	LVS []byte

	Routers      int // the routers in YAML, with those that are commented out
	CommentedOut int // the routers that YAML has only as comments
}

// ErrNothing is the error for a file that has nothing for failoverd to do.
var ErrNothing = errors.New("there is nothing for failoverd in it")

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

// The kinds, the most pressing first. All but Unneeded are for an administrator
// who has to do something, or will notice a difference.
const (
	Changed  Kind = iota // translated, but with other behaviour
	Later                // a feature that failoverd doesn't have yet
	Foreign              // another program's job
	Unknown              // not understood
	Doubtful             // translated to what keepalived does, which may not be what was meant
	Unneeded             // failoverd does this by itself, or it has no meaning
)

// Kinds are all kinds in their order.
var Kinds = []Kind{Changed, Later, Foreign, Unknown, Doubtful, Unneeded}

func (k Kind) String() string {
	return []string{"changed", "later", "foreign", "unknown", "doubtful", "unneeded"}[k]
}

// collector collects findings in any order, and sorts them later.
type collector struct {
	list      []*found
	explained bool // whether the comment of once was written
	globals   []pair
	synced    []*syncedGroup
	checks    []*probe
}

// found is a finding with its place in the source and in the result.
type found struct {
	Finding
	order   int       // of the directive in the source
	at      *node     // the directive, nil if there is none
	routers []*router // the routers whose comments show it; none: the head of the file
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

// once returns its comment the first time, so that only one router has it.
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

// clean replaces the characters that control a terminal or break YAML.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// cut shortens a text of the source to 48 characters.
func cut(s string) string { return cutTo(s, 48) }

func cutTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	if r := []rune(s[:min(len(s), 4*(most+1))]); len(r) > most {
		return string(r[:most-3]) + "..."
	}
	return s
}
