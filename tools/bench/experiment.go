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

// values are what one run has measured, by the keys of the experiment's rows.
type values map[string]float64

// experiment is a set-up in which one run measures one contender for some rows of the
// table.
type experiment struct {
	name  string
	quick bool          // it is part of make bench-quick
	once  bool          // one round is enough: it is long, or measures many times itself
	cost  time.Duration // how long a run takes, about
	frr   bool          // FRR can take part
	rank  bool          // keepalived with a real-time priority takes part
	// alone has it run without a daemon too, for rows that are told less that.
	alone bool
	rows  []row
	run   func(ctx context.Context, b *bench, c *contender) (values, error)
}

// row is a line of the table.
type row struct {
	key, name, unit string
	target          target
	less            bool // tell it less the value without a daemon
}

// target is what a row has to show. The zero value is none.
type target struct {
	ratio       float64 // at most, to keepalived, in the median of the rounds
	least, most float64 // of failoverd's value in each round
	limited     bool    // least and most count
}

func ratio(most float64) target          { return target{ratio: most} }
func atMost(most float64) target         { return target{most: most, limited: true} }
func between(least, most float64) target { return target{least: least, most: most, limited: true} }

// nobody is the contender that has no daemon.
var nobody = &contender{name: "nobody"}

// bench is one run of the whole.
type bench struct {
	contenders []*contender
	rounds     int     // 0 for the usual ones
	share      float64 // of the usual time
	quick      bool
	only, who  *regexp.Regexp // experiments and contenders
	progress   io.Writer
	canary     *lab.Canary
	left       time.Duration // by the experiments' own estimates
}

// usualRounds are those of an experiment that isn't long, unless others are asked for.
const usualRounds = 3

// quickShare is the part of the usual time that a quick run measures.
const quickShare = 0.3

// window is how long is measured, of the usual time.
func (b *bench) window(long time.Duration) time.Duration {
	return time.Duration(float64(long) * b.share)
}

// setUp is how long it takes to lay a site out and to wait for the daemons, about.
const setUp = 4 * time.Second

func (b *bench) chosen() (all []experiment) {
	for _, e := range experiments() {
		if (b.quick && !e.quick) || !b.only.MatchString(e.name) {
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
		if (c.name != frr || e.frr) && (c.name != ranked || e.rank) && b.who.MatchString(c.name) {
			all = append(all, c)
		}
	}
	return all
}

// measure runs all experiments, the contenders in turns.
func (b *bench) measure(ctx context.Context) ([]outcome, error) {
	chosen := b.chosen()
	for _, e := range chosen {
		b.left += time.Duration(b.roundsOf(e)*len(b.turns(e))) * e.cost
	}
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

// runLimit is how much longer than usual a run may take.
const runLimit = 3 * time.Minute

// once lets one contender run once. What fails is told in the table.
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
	all = append(all, churnExperiments()...)
	all = append(all, pairExperiments()...)
	return append(all, outageExperiments()...)
}
