// SPDX-License-Identifier: Apache-2.0

// Command chaos kills failoverd and cuts the power of its host at random moments. It also
// runs random sequences of reloads, kills and changes that other programs make to the host.
// After each round it checks that failoverd's guarantees held.
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

const help = `chaos runs failoverd on two hosts, and a client that asks for the virtual addresses. There are
two kinds of rounds.

The odd rounds are the faults. Some tens of routers run: of both families, in a group over two
interfaces, on a macvlan, with a route, a rule, checks and a hook. The round picks a victim,
one of the hosts, and kills its daemon (kill -9) or cuts its power at a random moment: while
nothing happens, during its start, during a reload, or while it takes over. It checks that

  - the other host then has all addresses, and answers for them;
  - the victim gives no answer after the first answer of the other host. While both hosts
    run, they don't both answer for longer than an interval;
  - each address is back at its host after the victim was started again;
  - the victim is as it was before failoverd ran, if the round stops it or cleans it up.

The even rounds are the sequences. Three routers go through random steps:

  - a reload moves or swaps addresses between routers, or changes other keys;
  - another program removes addresses, programs, map entries, settings, macvlans or the
    journal, or adds a virtual address;
  - the interface is down, is renamed or gets a low MTU; a map is full;
  - the daemon gets kill -9, --cleanup or SIGSTOP.

A step can run during another one. The round checks that

  - a host that reports Active and no problem answers the client's pings, at the latest 3 s
    after the last step;
  - two hosts don't both answer for longer than an interval. Exceptions are the time that a
    daemon needs to notice what another program did, and a time in which the hosts have
    read different files;
  - the routers recover within some seconds after the last step: each address is at one
    host, the other host is Backup, and neither reports a problem;
  - each host is as it was before, after a stop or --cleanup.

A limit is longer if this machine stalled or had other work. The first violation ends the
round and prints what happened, and the next round has a new lab. chaos needs root, bpftool
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
	flag.IntVar(&o.first, "first", 1, "`number` of the first round, to replay one")
	flag.IntVar(&o.load, "load", 30, "`number` of additional routers in the faults, 2 to 100")
	flag.StringVar(&o.only, "only", "", "`kind` of rounds: faults or sequences (default both)")
	flag.Uint64Var(&o.seed, "seed", 0, "`number` that determines the rounds; 0 takes one from the clock")
	lab.Main("chaos", help, func(ctx context.Context) error {
		if err := check(&o); err != nil {
			return err
		}
		return run(ctx, o, os.Stdout)
	})
}

// check checks the options and the programs that chaos needs.
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

// run runs the rounds.
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
	fmt.Fprintf(out, "\n%d rounds in %.0f s with seed %d, %d of them with a violation\n", t.played, time.Since(start).Seconds(), o.seed, t.failed)
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

// tally counts what was run.
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

// round runs a round. Without --only, odd rounds are faults and even rounds are
// sequences.
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

// fault runs a round of faults. It uses the lab of the last one, or a new one after a
// violation.
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

// sequence runs a round of steps, in its own lab.
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
