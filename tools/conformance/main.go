// SPDX-License-Identifier: Apache-2.0

// Command conformance prints the conformance ledger: each item of items.txt, a numbered demand
// of the VRRP documents, with the tests that prove it. It reads the output of go test -json. A
// test names its items at the beginning of its name, or in an attribute:
//
//	t.Attr("proves", "S-A5 Q-01")
//
// items.txt also has the reason why an item has no test. The exit code is 1 if an item has
// neither tests nor a reason, has both, or has a test that failed or was skipped.
package main

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
)

//go:embed items.txt
var itemsText string

// The reasons why an item has no test.
const (
	doesntApply = "doesn't apply"
	notDone     = "not done"
)

// chapter is a group of items.
type chapter struct {
	title string
	items []*item
}

// item is a demand.
type item struct {
	id, demand   string
	kind, reason string // why it has no test; empty if it needs one
	tests        []*test
}

// test is a test or subtest that names items.
type test struct {
	name   string // with the package
	result string // pass, fail or skip; empty if it didn't end
}

func main() {
	markdown := flag.String("markdown", "", "write the ledger to this `file` too")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: conformance [-markdown FILE] FILE\n\nFILE is the output of go test -json; make conformance makes it.\n\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	ok, err := run(flag.Arg(0), *markdown)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(path, markdown string) (bool, error) {
	in, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = in.Close() }()
	chapters, err := parseItems(itemsText)
	if err != nil {
		return false, err
	}
	if err := readTests(in, chapters); err != nil {
		return false, err
	}
	printTable(os.Stdout, chapters)
	if markdown != "" {
		if err := os.WriteFile(markdown, []byte(render(chapters)), 0o644); err != nil {
			return false, err
		}
	}
	wrong := faults(chapters)
	for _, f := range wrong {
		fmt.Println(f)
	}
	return len(wrong) == 0, nil
}

var itemID = regexp.MustCompile(`^[A-Z]{1,2}-[A-Z]?[0-9]+`)

// parseItems parses items.txt. A chapter begins with ==. An indented line is the reason why the
// item before it has no test.
func parseItems(text string) ([]*chapter, error) {
	var all []*chapter
	var last *item
	for n, line := range strings.Split(strings.TrimSpace(text), "\n") {
		switch {
		case line == "":
		case strings.HasPrefix(line, "== "):
			all = append(all, &chapter{title: line[3:]})
		case strings.HasPrefix(line, "\t") && last != nil:
			kind, reason, ok := strings.Cut(line[1:], ": ")
			if !ok || kind != doesntApply && kind != notDone || last.reason != "" {
				return nil, fmt.Errorf("items.txt:%d: a reason has to be one line that begins with %q or %q", n+1, doesntApply+": ", notDone+": ")
			}
			last.kind, last.reason = kind, reason
		default:
			id, demand, ok := strings.Cut(line, " ")
			if !ok || itemID.FindString(id) != id || len(all) == 0 {
				return nil, fmt.Errorf("items.txt:%d: %q isn't an item, like P-01 and its demand, below a chapter", n+1, line)
			}
			last = &item{id: id, demand: demand}
			all[len(all)-1].items = append(all[len(all)-1].items, last)
		}
	}
	return all, nil
}

// event is a line of go test -json; see go doc test2json.
type event struct {
	Action, Package, Test, Key, Value string
}

// readTests adds the tests, with their results, to the items that they prove.
func readTests(in io.Reader, chapters []*chapter) error {
	items := make(map[string]*item)
	for _, c := range chapters {
		for _, i := range c.items {
			items[i.id] = i
		}
	}
	tests := make(map[string]*test)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Test == "" {
			continue
		}
		name := strings.TrimPrefix(e.Package, "github.com/failoverd/failoverd/") + "." + e.Test
		var proves []string
		switch e.Action {
		case "run":
			proves = named(e.Test)
		case "attr":
			if e.Key == "proves" {
				proves = strings.Fields(e.Value)
			}
		case "pass", "fail", "skip":
			if t := tests[name]; t != nil {
				t.result = e.Action
			}
		}
		for _, id := range proves {
			i, ok := items[id]
			if !ok {
				return fmt.Errorf("%s names %s, which isn't in items.txt", name, id)
			}
			t := tests[name]
			if t == nil {
				t = &test{name: name}
				tests[name] = t
			}
			if !slices.Contains(i.tests, t) {
				i.tests = append(i.tests, t)
			}
		}
	}
	for _, i := range items {
		slices.SortFunc(i.tests, func(a, b *test) int { return strings.Compare(a.name, b.name) })
	}
	return lines.Err()
}

// named returns the items at the beginning of the last part of a test's name.
func named(test string) []string {
	part := test[strings.LastIndex(test, "/")+1:]
	var all []string
	for _, word := range strings.Split(part, "_") {
		if itemID.FindString(word) != word || word == "" {
			break
		}
		all = append(all, word)
	}
	return all
}

// status returns the status of an item, one of statuses.
func (i *item) status() string {
	switch {
	case len(i.tests) > 0 && slices.ContainsFunc(i.tests, func(t *test) bool { return t.result != "pass" }):
		return "FAILING"
	case len(i.tests) > 0:
		return "proven"
	case i.reason != "":
		return i.kind
	}
	return "MISSING"
}

// evidence returns the tests or the reason, in one line.
func (i *item) evidence() string {
	switch len(i.tests) {
	case 0:
		return i.reason
	case 1:
		return i.tests[0].name
	}
	return fmt.Sprintf("%s and %d more", i.tests[0].name, len(i.tests)-1)
}

// totals counts the items of each status.
func (c *chapter) totals() map[string]int {
	count := make(map[string]int)
	for _, i := range c.items {
		count[i.status()]++
	}
	return count
}

var statuses = []string{"proven", doesntApply, notDone, "MISSING", "FAILING"}

func printTable(out io.Writer, chapters []*chapter) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, c := range chapters {
		fmt.Fprintf(w, "\n%s\n", c.title)
		for _, i := range c.items {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", i.id, i.status(), i.demand, i.evidence())
		}
	}
	_ = w.Flush()
	fmt.Fprintf(out, "\n%s\n", totalsTable(chapters, func(w io.Writer, cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")) }))
}

// totalsTable returns the totals, with a line for each chapter and one for all items.
func totalsTable(chapters []*chapter, row func(io.Writer, ...string)) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row(w, append([]string{"Chapter", "items"}, statuses...)...)
	sum := make([]int, len(statuses))
	items := 0
	for _, c := range chapters {
		cells := []string{c.title, fmt.Sprint(len(c.items))}
		for n, s := range statuses {
			cells = append(cells, fmt.Sprint(c.totals()[s]))
			sum[n] += c.totals()[s]
		}
		items += len(c.items)
		row(w, cells...)
	}
	cells := []string{"All", fmt.Sprint(items)}
	for _, n := range sum {
		cells = append(cells, fmt.Sprint(n))
	}
	row(w, cells...)
	_ = w.Flush()
	return b.String()
}

// render returns the ledger in Markdown.
func render(chapters []*chapter) string {
	var b strings.Builder
	b.WriteString("# Conformance ledger\n\n")
	b.WriteString("The demands of RFC 9568, RFC 3768, their errata and the routers in use, with the tests\n")
	b.WriteString("that prove that failoverd meets them. `make conformance` writes this file from a run of\n")
	b.WriteString("the tests; don't edit it.\n\n")
	row := func(w io.Writer, cells ...string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	var totals strings.Builder
	totals.WriteString(totalsTable(chapters, row))
	head, rest, _ := strings.Cut(totals.String(), "\n")
	b.WriteString(head + "\n|" + strings.Repeat("---|", len(statuses)+2) + "\n" + rest)
	for _, c := range chapters {
		fmt.Fprintf(&b, "\n## %s\n\n| Item | Demand | | Tests, or why none |\n|---|---|---|---|\n", c.title)
		for _, i := range c.items {
			var names []string
			for _, t := range i.tests {
				names = append(names, "`"+t.name+"`")
			}
			evidence := i.reason
			if len(names) > 0 {
				evidence = strings.Join(names, "<br>")
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", i.id, i.demand, i.status(), evidence)
		}
	}
	return b.String()
}

// faults returns what is wrong with the ledger.
func faults(chapters []*chapter) []string {
	var all []string
	for _, c := range chapters {
		for _, i := range c.items {
			switch {
			case len(i.tests) > 0 && i.reason != "":
				all = append(all, fmt.Sprintf("%s: %s names it; remove the reason why it has no test from items.txt", i.id, i.tests[0].name))
			case i.status() == "MISSING":
				all = append(all, fmt.Sprintf("%s: no test names it, and items.txt has no reason: %s", i.id, i.demand))
			case i.status() == "FAILING":
				for _, t := range i.tests {
					if t.result != "pass" {
						all = append(all, fmt.Sprintf("%s: %s: %s", i.id, t.name, orElse(t.result, "did not end")))
					}
				}
			}
		}
	}
	return all
}

func orElse(result, otherwise string) string {
	if result == "" {
		return otherwise
	}
	return result
}
