// SPDX-License-Identifier: Apache-2.0

// Command chaos kills failoverd and cuts the power of its host at random
// moments, and checks after each that what has to hold does.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const help = `chaos has two hosts run failoverd with some tens of routers: of both families, in a
group over two interfaces, on a macvlan, with a route, a rule, checks and a hook. Each round takes one
of the hosts and kills its daemon (kill -9) or cuts its power, at a random moment: while
nothing happens, in its start, in a reload, or while it takes over. It checks that

  - the other host has all addresses then, and answers for them;
  - the victim gives no answer any more once the other one has given its first, and
    where two run, they don't both answer for longer than an interval;
  - when the victim is back, each address is where it was;
  - where the victim is stopped or cleaned up after, its host is as it was before.

The first violation of a round ends it; the next one has a new lab. It needs root, and
some seconds for each round.

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
}

func main() {
	var o options
	flag.StringVar(&o.binary, "failoverd", "bin/failoverd", "`path` of the failoverd to kill")
	flag.IntVar(&o.rounds, "rounds", 20, "`number` of rounds")
	flag.IntVar(&o.first, "first", 1, "`number` of the first round, to play one again")
	flag.IntVar(&o.load, "load", 30, "`number` of routers more, 2 to 100")
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
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	o.binary, err = lab.Needs(o.binary)
	return err
}

// run plays the rounds, and goes on in a new lab where one has failed.
func run(ctx context.Context, o options, out io.Writer) error {
	fmt.Fprintf(out, "seed %d, %d rounds, %d routers on each of two hosts\n", o.seed, o.rounds, o.load+4)
	start, failed, played := time.Now(), 0, 0
	faults := make(map[string]int)
	var s *site
	defer func() {
		if s != nil {
			_ = s.close()
		}
	}()
	for round := o.first; round < o.first+o.rounds && ctx.Err() == nil; round++ {
		var err error
		if s == nil {
			if s, err = newSite(ctx, o); err != nil {
				return fmt.Errorf("begin: %w", err)
			}
		}
		p := planOf(o.seed, round)
		fmt.Fprintf(out, "round %d of %d: %v", round, o.first+o.rounds-1, p)
		before := time.Now()
		err = s.play(ctx, p)
		if ctx.Err() != nil {
			fmt.Fprintln(out, "  interrupted")
			break
		}
		played++
		faults[p.fault+", "+p.moment]++
		if err == nil {
			fmt.Fprintf(out, "  holds (%.1f s)\n", time.Since(before).Seconds())
			continue
		}
		failed++
		fmt.Fprintf(out, "  VIOLATED\n  %s\n  replay: --seed %d --first %d --rounds 1 --load %d\n%s", strings.ReplaceAll(err.Error(), "\n", "\n  "), o.seed, round, o.load, s.evidence())
		_ = s.close()
		s = nil
	}
	fmt.Fprintf(out, "\n%d rounds played in %.0f s with seed %d, %d of them violated what has to hold\n", played, time.Since(start).Seconds(), o.seed, failed)
	for _, f := range []string{kill, cut} {
		for _, m := range moments {
			fmt.Fprintf(out, "  %3d  %s, %s\n", faults[f+", "+m], f, m)
		}
	}
	switch {
	case failed > 0:
		return fmt.Errorf("%d of %d rounds failed", failed, played)
	case ctx.Err() != nil:
		return ctx.Err()
	case s == nil:
		return nil
	}
	err := s.close()
	s = nil
	return err
}
