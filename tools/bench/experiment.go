// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// values are the results of one run, by the keys of the experiment's rows.
type values map[string]float64

// experiment has some rows of the table. One run measures one contender.
type experiment struct {
	name  string
	setup setup         // alike if empty
	quick bool          // part of make bench-quick
	extra bool          // runs only where --only names it
	once  bool          // has one round, because it is long or measures many times itself
	cost  time.Duration // estimated time of a run
	own   bool          // only failoverd can take part
	frr   bool          // FRR can take part
	rank  bool          // keepalived with a real-time priority takes part
	alone bool          // also runs without a daemon, for rows with less
	rows  []row
	run   func(ctx context.Context, b *bench, c *contender) (values, error)
}

// row is a line of the table.
type row struct {
	key, name, unit string
	target          target
	less            bool // the value without a daemon is subtracted
}

// target is the aim of a row. The zero value is no aim.
type target struct {
	ratio       float64 // at most, to keepalived, in the median of the rounds
	least, most float64 // bounds of failoverd's value in each round
	limited     bool    // least and most are valid
}

func ratio(most float64) target          { return target{ratio: most} }
func atMost(most float64) target         { return target{most: most, limited: true} }
func between(least, most float64) target { return target{least: least, most: most, limited: true} }

// nobody is the contender without a daemon.
var nobody = &contender{name: "nobody"}

// bench is one run of the benchmark.
type bench struct {
	contenders []*contender
	rounds     int     // 0 for usualRounds
	share      float64 // of the usual duration of a measurement
	quick      bool
	only, who  *regexp.Regexp // names of experiments and contenders
	keepalived string         // path
	progress   io.Writer
	canary     *lab.Canary
	left       time.Duration // estimated
}

// usualRounds is the default number of rounds of an experiment.
const usualRounds = 3

// quickShare is the share of a quick run.
const quickShare = 0.3

// window returns the duration of a measurement whose usual duration is long.
func (b *bench) window(long time.Duration) time.Duration {
	return time.Duration(float64(long) * b.share)
}

// setUp is the estimated time that a run takes to lay out a site and to wait for the daemons.
const setUp = 5 * time.Second

// chosen returns the experiments of this run, with the estimated cost of their runs.
func (b *bench) chosen() (all []experiment) {
	for _, e := range experiments() {
		if (b.quick && !e.quick) || (e.extra && b.only.String() == "") || !b.only.MatchString(e.name) {
			continue
		}
		e.cost = b.window(e.cost) + setUp
		all = append(all, e)
	}
	return all
}

func (b *bench) roundsOf(e experiment) int {
	if e.once {
		return 1
	}
	return cmp.Or(b.rounds, usualRounds)
}

func (b *bench) turns(e experiment) []*contender {
	var all []*contender
	if e.alone {
		all = append(all, nobody)
	}
	for _, c := range b.contenders {
		if e.own && !c.ours() {
			continue
		}
		if (c.name != frr || e.frr) && (c.name != ranked || e.rank) && b.who.MatchString(c.name) {
			all = append(all, c)
		}
	}
	return all
}

// estimate returns the estimated time of all runs of some experiments.
func (b *bench) estimate(chosen []experiment) (sum time.Duration) {
	for _, e := range chosen {
		sum += time.Duration(b.roundsOf(e)*len(b.turns(e))) * e.cost
	}
	return sum
}

// measure runs the experiments, the contenders in turns.
func (b *bench) measure(ctx context.Context) ([]outcome, error) {
	chosen := b.chosen()
	b.left = b.estimate(chosen)
	var all []outcome
	for _, e := range chosen {
		o := outcome{experiment: e, measured: make(map[string][]values)}
		from := time.Now()
		for round := range b.roundsOf(e) {
			for _, c := range b.turns(e) {
				if err := b.once(ctx, &o, c, round); err != nil {
					return all, err
				}
			}
		}
		o.stalls = len(b.canary.Stalls(from, time.Now()))
		all = append(all, o)
	}
	return all, nil
}

// runLimit is the time that a run may take beyond its cost.
const runLimit = 3 * time.Minute

// once measures one contender once. A failed run becomes a line below the table.
func (b *bench) once(ctx context.Context, o *outcome, c *contender, round int) error {
	fmt.Fprintf(b.progress, "%5s left  %s: %s, round %d of %d\n", b.left.Round(time.Second), o.name, c.name, round+1, b.roundsOf(o.experiment))
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, o.cost+runLimit)
	defer cancel()
	v, err := o.run(limited, b, c)
	b.left -= o.cost
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("%s, %s: %w", o.name, c.name, shorten(err))
		fmt.Fprintln(os.Stderr, "bench:", err)
		o.failures = append(o.failures, err.Error())
	}
	o.measured[c.name] = append(o.measured[c.name], v)
	fmt.Fprintf(b.progress, "            took %v, measured %v\n", time.Since(began).Round(time.Second), map[string]float64(v))
	return nil
}

func experiments() (all []experiment) {
	all = append(all, backupExperiments()...)
	all = append(all, activeExperiments()...)
	all = append(all, failoverExperiments()...)
	all = append(all, floodExperiments()...)
	all = append(all, manyExperiments()...)
	all = append(all, startExperiments()...)
	all = append(all, churnExperiments()...)
	all = append(all, restartExperiments()...)
	all = append(all, pairExperiments()...)
	return append(all, outageExperiments()...)
}
