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

// outcome is what the runs of an experiment have measured.
type outcome struct {
	experiment
	measured map[string][]values // by contender, in the order of rounds; nil where it failed
	failures []string
	stalls   int
}

// about says what was measured and where.
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
	Stalls     int    `json:"stalls"` // of the machine, while it was measured
}

func aboutHere(ctx context.Context, binary, commit string) (a about, err error) {
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
		Failoverd: strings.TrimSpace(first(binary, "version") + " " + commit), Keepalived: first("keepalived", "--version"), FRR: "FRR's " + first(lab.VRRPD, "--version"),
		Kernel: unix.ByteSliceToString(name.Release[:]), Processor: model, Processors: runtime.NumCPU(),
	}, err
}

// report is what bench.json has.
type report struct {
	About    about    `json:"about"`
	Rows     []line   `json:"rows"`
	Failures []string `json:"failures,omitempty"`
}

// line is a row of the table with all that was measured for it.
type line struct {
	Experiment string    `json:"experiment"`
	Name       string    `json:"name"`
	Unit       string    `json:"unit"`
	Failoverd  []float64 `json:"failoverd"`
	Keepalived []float64 `json:"keepalived"`
	FRR        []float64 `json:"frr,omitempty"`           // where it can take part
	Ranked     []float64 `json:"keepalived_rt,omitempty"` // with a real-time priority
	Without    []float64 `json:"without,omitempty"`       // failoverd with --against
	Ratios     []float64 `json:"ratios"`                  // by round
	Against    []float64 `json:"against,omitempty"`       // ratios to Without
	Target     string    `json:"target"`
	Met        string    `json:"met"` // yes, no, or empty without a target
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

// keep adds the rows that a former report has of other experiments, in the usual order.
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

// line gathers a row's values of all rounds.
func (o outcome) line(r row) line {
	l := line{Experiment: o.name, Name: r.name, Unit: r.unit, Target: r.target.String(), MostRatio: r.target.ratio}
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

// spread writes the median, and the smallest and the greatest if there are several.
func spread(all []float64) string {
	switch {
	case len(all) == 0:
		return "–"
	case len(all) == 1:
		return number(all[0])
	}
	return fmt.Sprintf("%s (%s–%s)", number(lab.Median(all)), number(slices.Min(all)), number(slices.Max(all)))
}

// number writes three digits that count.
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

func (r *report) markdown() string {
	var b strings.Builder
	a := r.About
	fmt.Fprintf(&b, "%s UTC, %d × %s, Linux %s, %s, %s, %s. Medians of %d rounds (smallest–greatest); the machine stood still %d times.\n\n",
		a.Date, a.Processors, a.Processor, a.Kernel, a.Failoverd, a.Keepalived, a.FRR, a.Rounds, a.Stalls)
	b.WriteString("| Measure | Unit | failoverd | keepalived | FRR | Ratio | Target | Met | keepalived, rt 50 | --against | Ratio to that |\n|---|---|--:|--:|--:|--:|---|---|--:|--:|--:|\n")
	for _, l := range r.Rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", l.Name, l.Unit, spread(l.Failoverd), spread(l.Keepalived), spread(l.FRR), spread(l.Ratios), l.Target, l.Met, spread(l.Ranked), spread(l.Without), spread(l.Against))
	}
	for _, f := range r.Failures {
		first, _, _ := strings.Cut(f, "\n")
		fmt.Fprintf(&b, "\nA run failed: %s\n", first)
	}
	return b.String()
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

// failed is an error if runs have failed. That a target is missed is none.
func (r *report) failed() error {
	if len(r.Failures) == 0 {
		return nil
	}
	return fmt.Errorf("%d runs failed", len(r.Failures))
}
