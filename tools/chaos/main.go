// SPDX-License-Identifier: Apache-2.0

// Command chaos kills failoverd and cuts the power of its host at random
// moments, and has reloads, strangers and kills change its host in random sequences. It
// checks after each that what has to hold does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const help = `chaos has two hosts run failoverd and a client ask for the addresses, in rounds of two kinds.

In the odd rounds, the faults, there are some tens of routers: of both families, in a
group over two interfaces, on a macvlan, with a route, a rule, checks and a hook. Each takes one
of the hosts and kills its daemon (kill -9) or cuts its power, at a random moment: while
nothing happens, in its start, in a reload, or while it takes over. It checks that

  - the other host has all addresses then, and answers for them;
  - the victim gives no answer any more once the other one has given its first, and
    where two run, they don't both answer for longer than an interval;
  - when the victim is back, each address is where it was;
  - where the victim is stopped or cleaned up after, its host is as it was before.

In the even rounds, the sequences, three routers go through random steps: reloads that move
and swap addresses between them or change other keys, strangers that take away addresses,
programs, map entries, settings, macvlans or the journal, or put an address there, an
interface that is down, is called otherwise or has too low an MTU, a full map, kill -9,
--cleanup and SIGSTOP, some of it while something else lasts. It checks that

  - a host that says that it is Active and well answers the client's pings, 3 s after the
    last step at the latest;
  - two hosts don't both answer for longer than an interval, but while a daemon can't know
    yet what strangers do, or the hosts have read different files;
  - some seconds after the last step all is right again: each address is at one host, the
    other one stands by, and nobody shows a problem;
  - after a stop or --cleanup, each host is as it was before.

The times are longer where this machine stood still or had other work. The first violation of
a round ends it, and prints what happened; the next one has a new lab. It needs root, bpftool
and some seconds for each round.

  sudo go run ./tools/chaos --failoverd bin/failoverd --rounds 200
  sudo go run ./tools/chaos --failoverd bin/failoverd --rounds 1 --first 17 --seed 42

Flags:
`

type options struct {
	binary string
	rounds int
	first  int
	load   int
	seed   uint64
	only   string // faults or sequences, empty for both
}

// The kinds of rounds.
const (
	faults    = "faults"
	sequences = "sequences"
)

func main() {
	var o options
	flag.StringVar(&o.binary, "failoverd", "bin/failoverd", "`path` of the failoverd to kill")
	flag.IntVar(&o.rounds, "rounds", 200, "`number` of rounds")
	flag.IntVar(&o.first, "first", 1, "`number` of the first round, to play one again")
	flag.IntVar(&o.load, "load", 30, "`number` of routers more, 2 to 100")
	flag.StringVar(&o.only, "only", "", "`kind` of rounds to play: faults or sequences; both without one")
	flag.Uint64Var(&o.seed, "seed", 0, "`number` that the victims, faults and moments follow from; 0 for one of the time")
	lab.Main("chaos", help, func(ctx context.Context) error {
		if err := check(&o); err != nil {
			return err
		}
		return run(ctx, o, os.Stdout)
	})
}

// check makes sure that all that is needed is there.
func check(o *options) (err error) {
	if o.rounds < 1 || o.first < 1 {
		return fmt.Errorf("--rounds %d, --first %d: at least 1", o.rounds, o.first)
	}
	if o.load < 2 || o.load > 100 {
		return fmt.Errorf("--load %d: 2 to 100", o.load)
	}
	if o.only != "" && o.only != faults && o.only != sequences {
		return fmt.Errorf("--only %q: faults or sequences", o.only)
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	o.binary, err = lab.Needs(o.binary, "bpftool", "tc")
	return err
}

// run plays the rounds.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	fmt.Fprintf(out, "seed %d, %d rounds\n", o.seed, o.rounds)
	t := &tally{options: o, out: out, counts: make(map[string]int)}
	defer func() { err = errors.Join(err, t.close()) }()
	start := time.Now()
	for round := o.first; round < o.first+o.rounds && ctx.Err() == nil; round++ {
		if err := t.round(ctx, round); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "\n%d rounds played in %.0f s with seed %d, %d of them violated what has to hold\n", t.played, time.Since(start).Seconds(), o.seed, t.failed)
	for _, what := range slices.Sorted(maps.Keys(t.counts)) {
		fmt.Fprintf(out, "  %3d  %s\n", t.counts[what], what)
	}
	switch {
	case t.failed > 0:
		return fmt.Errorf("%d of %d rounds failed", t.failed, t.played)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return nil
}

// tally is what has been played.
type tally struct {
	options        options
	out            io.Writer
	site           *site // of the faults
	played, failed int
	counts         map[string]int // of faults and steps
}

func (t *tally) close() error {
	if t.site == nil {
		return nil
	}
	err := t.site.close()
	t.site = nil
	return err
}

// round plays a round of one of the kinds: the odd ones are faults, the even ones
// sequences, if both are wanted.
func (t *tally) round(ctx context.Context, round int) error {
	o := t.options
	fmt.Fprintf(t.out, "round %d of %d: ", round, o.first+o.rounds-1)
	before := time.Now()
	play := t.fault
	if o.only == sequences || o.only == "" && round%2 == 0 {
		play = t.sequence
	}
	evidence, err := play(ctx, round)
	if ctx.Err() != nil {
		fmt.Fprintln(t.out, "  interrupted")
		return nil
	}
	t.played++
	if err == nil {
		fmt.Fprintf(t.out, "  holds (%.1f s)\n", time.Since(before).Seconds())
		return nil
	}
	t.failed++
	only := ""
	if o.only != "" {
		only = " --only " + o.only
	}
	fmt.Fprintf(t.out, "  VIOLATED (%.1f s)\n  %s\n  replay: --seed %d --first %d --rounds 1 --load %d%s\n%s", time.Since(before).Seconds(), strings.ReplaceAll(err.Error(), "\n", "\n  "), o.seed, round, o.load, only, evidence)
	return nil
}

// fault plays a round of faults, in the lab of the last one, or in a new one where that
// has failed.
func (t *tally) fault(ctx context.Context, round int) (evidenced string, err error) {
	p := planOf(t.options.seed, round)
	fmt.Fprint(t.out, p)
	t.counts[p.fault+", "+p.moment]++
	if t.site == nil {
		if t.site, err = newSite(ctx, t.options); err != nil {
			return "", fmt.Errorf("begin: %w", err)
		}
	}
	if err := t.site.play(ctx, p); err != nil {
		evidenced := evidence(t.site.hosts)
		_ = t.close()
		return evidenced, err
	}
	return "", nil
}

// sequence plays a round of steps, in a lab of its own.
func (t *tally) sequence(ctx context.Context, round int) (evidenced string, err error) {
	q := sequenceOf(t.options.seed, round)
	fmt.Fprint(t.out, q)
	for _, s := range q.steps {
		for x := &s; x != nil; x = x.meanwhile {
			t.counts[x.kind.name]++
		}
	}
	a, err := newArena(ctx, t.options, q.begin)
	if err != nil {
		return "", fmt.Errorf("begin: %w", err)
	}
	if err := a.play(ctx, q); err != nil {
		evidenced := a.evidence()
		_ = a.close()
		return evidenced, err
	}
	return "", a.close()
}
