// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/tools/lab"
)

// outcome has the results of an experiment.
type outcome struct {
	experiment
	measured map[string][]values // by contender and round; nil where the run failed
	failures []string
	stalls   int
}

// about describes the machine and the programs that were measured.
type about struct {
	Date       string `json:"date"`
	Command    string `json:"command"`
	Failoverd  string `json:"failoverd"`
	Keepalived string `json:"keepalived"`
	FRR        string `json:"frr"`
	Kernel     string `json:"kernel"`
	Processor  string `json:"processor"`
	Processors int    `json:"processors"`
	Rounds     int    `json:"rounds"`
	Stalls     int    `json:"stalls"` // of the machine, during the experiments
}

func aboutHere(ctx context.Context, o options) (a about, err error) {
	first := func(path string, args ...string) string {
		out, e := exec.CommandContext(ctx, path, args...).CombinedOutput()
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s %s: %w", path, strings.Join(args, " "), e))
		}
		line, _, _ := strings.Cut(string(out), "\n")
		return line
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return a, err
	}
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return a, err
	}
	_, model, _ := strings.Cut(string(cpus), "model name\t: ")
	model, _, _ = strings.Cut(model, "\n")
	return about{
		Date: time.Now().UTC().Format("2006-01-02 15:04"), Command: strings.Join(os.Args[1:], " "),
		Failoverd: strings.TrimSpace(first(o.binary, "version") + " " + o.commit), Keepalived: first(o.keepalived, "--version"), FRR: "FRR's " + first(lab.VRRPD, "--version"),
		Kernel: unix.ByteSliceToString(name.Release[:]), Processor: model, Processors: runtime.NumCPU(),
	}, err
}

// report is the content of bench.json.
type report struct {
	About    about    `json:"about"`
	Rows     []line   `json:"rows"`
	Failures []string `json:"failures,omitempty"`
}

// line is a row of the table with its values of all rounds.
type line struct {
	Experiment string    `json:"experiment"`
	Configured setup     `json:"configured"`
	Name       string    `json:"name"`
	Unit       string    `json:"unit"`
	Failoverd  []float64 `json:"failoverd"`
	Keepalived []float64 `json:"keepalived"`
	FRR        []float64 `json:"frr,omitempty"`           // only where FRR can take part
	Ranked     []float64 `json:"keepalived_rt,omitempty"` // keepalived with a real-time priority
	Without    []float64 `json:"without,omitempty"`       // the failoverd of --against
	Ratios     []float64 `json:"ratios"`                  // by round
	Against    []float64 `json:"against,omitempty"`       // ratios to Without
	Target     string    `json:"target"`
	Met        string    `json:"met"` // yes, no, or empty if there is no target
	MostRatio  float64   `json:"most_ratio,omitempty"`
}

func newReport(a about, b *bench, measured []outcome) *report {
	r := &report{About: a}
	r.About.Rounds = cmp.Or(b.rounds, usualRounds)
	for _, o := range measured {
		r.About.Stalls += o.stalls
		r.Failures = append(r.Failures, o.failures...)
		for _, row := range o.rows {
			r.Rows = append(r.Rows, o.line(row))
		}
	}
	return r
}

// keep adds the rows of other experiments in the former bench.json.
func (r *report) keep(dir string) error {
	path := filepath.Join(dir, "bench.json")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var former report
	if err := json.Unmarshal(text, &former); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	measured := r.Rows
	r.Rows = nil
	for _, e := range experiments() {
		of := func(l line) bool { return l.Experiment != e.name }
		rows := slices.DeleteFunc(slices.Clone(measured), of)
		if len(rows) == 0 {
			rows = slices.DeleteFunc(slices.Clone(former.Rows), of)
		}
		r.Rows = append(r.Rows, rows...)
	}
	r.About.Stalls += former.About.Stalls
	r.Failures = append(former.Failures, r.Failures...)
	return nil
}

// line collects the values of a row.
func (o outcome) line(r row) line {
	l := line{Experiment: o.name, Configured: cmp.Or(o.setup, alike), Name: r.name, Unit: r.unit, Target: r.target.String(), MostRatio: r.target.ratio}
	for round := range o.measured["failoverd"] {
		value := func(contender string) (float64, bool) {
			if len(o.measured[contender]) <= round {
				return 0, false
			}
			v, ok := o.measured[contender][round][r.key]
			if r.less {
				idle, measured := o.measured[nobody.name][round][r.key]
				return max(0, v-idle), ok && measured
			}
			return v, ok
		}
		ours, measured := value("failoverd")
		if measured {
			l.Failoverd = append(l.Failoverd, ours)
		}
		theirs, measuredToo := value("keepalived")
		if measuredToo {
			l.Keepalived = append(l.Keepalived, theirs)
		}
		if v, ok := value(frr); ok {
			l.FRR = append(l.FRR, v)
		}
		if v, ok := value(ranked); ok {
			l.Ranked = append(l.Ranked, v)
		}
		if v, ok := value(without); ok {
			l.Without = append(l.Without, v)
			if measured && v > 0 {
				l.Against = append(l.Against, ours/v)
			}
		}
		if measured && measuredToo && theirs > 0 {
			l.Ratios = append(l.Ratios, ours/theirs)
		}
	}
	l.Met = r.target.met(l)
	return l
}

func (t target) String() string {
	var parts []string
	switch {
	case t.limited && t.least > 0:
		parts = append(parts, fmt.Sprintf("%.4g to %.4g", t.least, t.most))
	case t.limited && t.most == 0:
		parts = append(parts, "0")
	case t.limited:
		parts = append(parts, fmt.Sprintf("≤ %.4g", t.most))
	}
	if t.ratio > 0 {
		parts = append(parts, fmt.Sprintf("ratio ≤ %.2g", t.ratio))
	}
	return strings.Join(parts, ", ")
}

func (t target) met(l line) string {
	if t == (target{}) {
		return ""
	}
	if len(l.Failoverd) == 0 {
		return "no"
	}
	if t.limited && (slices.Max(l.Failoverd) > t.most || slices.Min(l.Failoverd) < t.least) {
		return "no"
	}
	if t.ratio > 0 && (len(l.Ratios) == 0 || lab.Median(l.Ratios) > t.ratio) {
		return "no"
	}
	return "yes"
}

// spread formats the median, and the smallest and the greatest value in brackets if they differ.
func spread(all []float64) string {
	if len(all) == 0 {
		return ""
	}
	median, least, most := number(lab.Median(all)), number(slices.Min(all)), number(slices.Max(all))
	if least == most {
		return median
	}
	return fmt.Sprintf("%s (%s–%s)", median, least, most)
}

// number formats a value with three significant digits.
func number(v float64) string {
	switch {
	case v == float64(int(v)):
		return fmt.Sprint(int(v))
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// column is a column of the table. It is left out if all its cells are empty.
type column struct {
	title string
	cell  func(line) string
}

var columns = []column{
	{"Measure", func(l line) string { return l.Name }},
	{"Unit", func(l line) string { return l.Unit }},
	{"Configured", func(l line) string { return string(l.Configured) }},
	{"failoverd", func(l line) string { return spread(l.Failoverd) }},
	{"keepalived", func(l line) string { return spread(l.Keepalived) }},
	{"Ratio", func(l line) string { return spread(l.Ratios) }},
	{"Aim", func(l line) string {
		if l.Met == "no" {
			return l.Target + ": **missed**"
		}
		return l.Target
	}},
	{"FRR", func(l line) string { return spread(l.FRR) }},
	{"keepalived, rt 50", func(l line) string { return spread(l.Ranked) }},
	{"--against", func(l line) string { return spread(l.Without) }},
	{"Ratio to that", func(l line) string { return spread(l.Against) }},
}

func (r *report) markdown() string {
	var b strings.Builder
	a := r.About
	fmt.Fprintf(&b, "%s UTC, %d × %s, Linux %s.\n%s, %s, %s.\n", a.Date, a.Processors, a.Processor, a.Kernel, a.Failoverd, a.Keepalived, a.FRR)
	fmt.Fprintf(&b, "Medians of %d rounds (smallest–greatest). The machine stood still for more than 10 ms %d times.\n\n", a.Rounds, a.Stalls)
	used := slices.DeleteFunc(slices.Clone(columns), func(c column) bool {
		return !slices.ContainsFunc(r.Rows, func(l line) bool { return c.cell(l) != "" })
	})
	for _, c := range used {
		fmt.Fprintf(&b, "| %s ", c.title)
	}
	b.WriteString("|\n" + strings.Repeat("|---", len(used)) + "|\n")
	for _, l := range r.Rows {
		for _, c := range used {
			fmt.Fprintf(&b, "| %s ", c.cell(l))
		}
		b.WriteString("|\n")
	}
	for _, f := range r.Failures {
		first, _, _ := strings.Cut(f, "\n")
		fmt.Fprintf(&b, "\nA run failed: %s\n", first)
	}
	return b.String()
}

// The lines of a Markdown file between which publish writes.
const (
	generatedBegin = "<!-- make bench writes from here -->"
	generatedEnd   = "<!-- to here -->"
)

// publish replaces the generated part of a Markdown file by the table. The rest of the file is
// written by hand.
func (r *report) publish(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, begins := strings.Cut(string(text), generatedBegin+"\n")
	_, after, ends := strings.Cut(rest, generatedEnd+"\n")
	if !begins || !ends {
		return fmt.Errorf("%s: the table has no place; add the lines %q and %q", path, generatedBegin, generatedEnd)
	}
	return os.WriteFile(path, []byte(before+generatedBegin+"\n"+r.markdown()+generatedEnd+"\n"+after), 0o644)
}

func (r *report) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "bench.json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "bench.md"), []byte(r.markdown()), 0o644),
	)
}

// failed returns an error if runs have failed. A missed target is no error.
func (r *report) failed() error {
	if len(r.Failures) == 0 {
		return nil
	}
	return fmt.Errorf("%d runs failed", len(r.Failures))
}
