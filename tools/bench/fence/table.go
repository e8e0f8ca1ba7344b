// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// What is measured in an event.
const (
	two   = "two answer"
	none  = "none answers"
	pause = "questions paused for"
)

// total is the kind that counts all questions together.
const total = "any"

// row identifies a row of the table.
type row struct{ event, what, kind string }

// sample is the value of a row in one round.
type sample struct {
	time time.Duration
	open bool // the time was longer, but the round ended
}

func (s sample) String() string {
	if s.open {
		return "≥ " + milliseconds(s.time)
	}
	return milliseconds(s.time)
}

// results are the samples of all rounds of a contender.
type results map[row][]sample

func (r results) add(measured map[row]sample) {
	for k, s := range measured {
		r[k] = append(r[k], s)
	}
}

// summary returns the median, with the smallest and the greatest sample if they differ.
func summary(samples []sample) string {
	sorted := slices.Clone(samples)
	slices.SortFunc(sorted, func(a, b sample) int { return cmp.Compare(a.time, b.time) })
	if sorted[0] == sorted[len(sorted)-1] {
		return sorted[0].String()
	}
	return fmt.Sprintf("%v (%v to %v)", sorted[len(sorted)/2], sorted[0], sorted[len(sorted)-1])
}

// kind returns the name of a question.
func kind(o Options, q lab.Question) string {
	switch {
	case q != lab.QuestionNeighbor:
		return q.String()
	case o.IPv6:
		return "ND"
	}
	return "ARP"
}

func printTable(out io.Writer, o Options, contenders []contender, results []results) error {
	fmt.Fprintf(out, "Advertisements every %v, %d rounds, watched for %v after the takeover: median (least to most)\n\n", interval, o.Rounds, watch)
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprint(w, "\t\t")
	for _, c := range contenders {
		fmt.Fprint(w, "\t", c.name)
	}
	fmt.Fprintln(w)
	var last row
	for _, r := range rows(o) {
		label := r
		if r.event == last.event {
			label.event = ""
		}
		if r.event == last.event && r.what == last.what {
			label.what = ""
		}
		last = r
		fmt.Fprintf(w, "%s\t%s\t%s", label.event, label.what, label.kind)
		for _, of := range results {
			fmt.Fprint(w, "\t", summary(of[r]))
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	return nil
}

// rows returns the rows of the table, in order.
func rows(o Options) (all []row) {
	for _, event := range []string{"SIGSTOP", "SIGKILL", "SIGCONT"} {
		for _, what := range []string{two, none} {
			for _, q := range lab.Questions {
				all = append(all, row{event, what, kind(o, q)})
			}
			all = append(all, row{event, what, total})
		}
		all = append(all, row{event, pause, ""})
	}
	return all
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000) }
