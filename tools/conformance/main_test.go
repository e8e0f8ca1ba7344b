// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

// items.txt has 187 items, each once.
func TestItems(t *testing.T) {
	chapters, err := parseItems(itemsText)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, c := range chapters {
		for _, i := range c.items {
			if seen[i.id] {
				t.Errorf("%s appears twice", i.id)
			}
			seen[i.id] = true
		}
	}
	if len(seen) != 187 {
		t.Errorf("%d items, want 187", len(seen))
	}
}

const someItems = `== One
P-01 first
P-02 second
	not done: later
S-A5 third
== Two
P-03 fourth
`

// Only tests that passed prove an item.
func TestLedger(t *testing.T) {
	run := func(action, test string) string {
		return `{"Action":"` + action + `","Package":"p","Test":"` + test + `"}` + "\n"
	}
	attr := func(test, items string) string {
		return `{"Action":"attr","Package":"p","Test":"` + test + `","Key":"proves","Value":"` + items + `"}` + "\n"
	}
	for _, c := range []struct {
		name, in string
		want     []string // how the faults begin
	}{
		{"by name and by attribute", run("run", "T/P-01_S-A5_x") + run("pass", "T/P-01_S-A5_x") + run("run", "T") + attr("T", "P-03") + run("pass", "T"), nil},
		{"nothing ran", "", []string{"P-01: no test", "S-A5: no test", "P-03: no test"}},
		{"failed", attr("T", "P-01 S-A5 P-03") + run("fail", "T"), []string{"P-01: p.T: fail", "S-A5: p.T: fail", "P-03: p.T: fail"}},
		{"skipped", attr("T", "P-01 S-A5") + run("pass", "T") + attr("U", "P-03") + run("skip", "U"), []string{"P-03: p.U: skip"}},
		{"one of two failed", attr("T", "P-01 S-A5 P-03") + run("pass", "T") + attr("U", "P-03") + run("fail", "U"), []string{"P-03: p.U: fail"}},
		{"cut off", attr("T", "P-01 S-A5 P-03"), []string{"P-01: p.T: did not end", "S-A5: p.T: did not end", "P-03: p.T: did not end"}},
		{"a reason too many", attr("T", "P-01 P-02 S-A5 P-03") + run("pass", "T"), []string{"P-02: p.T names it"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			chapters, err := parseItems(someItems)
			if err != nil {
				t.Fatal(err)
			}
			if err := readTests(strings.NewReader(c.in), chapters); err != nil {
				t.Fatal(err)
			}
			got := faults(chapters)
			if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
				t.Errorf("faults %q, want %q", got, c.want)
			}
			if md := render(chapters); !strings.Contains(md, "| P-02 | second | ") || !strings.Contains(md, "| All | 4 | ") {
				t.Errorf("the ledger lacks lines:\n%s", md)
			}
		})
	}
}

// Unknown items and malformed lines are errors.
func TestLedgerErrors(t *testing.T) {
	for _, text := range []string{"P-01 without a chapter", "== One\nno item", "== One\nP-01 x\n\tno kind", "== One\nP-01 x\n\tnot done: a\n\tnot done: b"} {
		if _, err := parseItems(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
	chapters, err := parseItems(someItems)
	if err != nil {
		t.Fatal(err)
	}
	in := `{"Action":"attr","Package":"p","Test":"T","Key":"proves","Value":"P-99"}`
	if err := readTests(strings.NewReader(in), chapters); err == nil {
		t.Error("P-99: no error")
	}
}
