// SPDX-License-Identifier: Apache-2.0

// Command bench measures failoverd and keepalived side by side and in turns, in
// network namespaces of this machine, and writes one table of what they take and how
// fast they are. Its help tells the method.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"

	"github.com/failoverd/failoverd/tools/bench/bystander"
	"github.com/failoverd/failoverd/tools/bench/checks"
	"github.com/failoverd/failoverd/tools/bench/fence"
	"github.com/failoverd/failoverd/tools/lab"
)

const help = `bench measures failoverd and keepalived, and FRR's vrrpd where it can take part, in turns,
each alone on the machine, and writes a table in Markdown to the standard output, and into
--out as bench.md and bench.json.

Method
  Each run has network namespaces of its own, with cables of veth. 1,000 routers are 250
  on each of four interfaces, over IPv4 in version 3, one address each. The daemons are
  configured alike: keepalived's checksum, addresses at the interface's MAC, announcements
  at a take-over. FRR always has the virtual MAC, on a macvlan for each router. Their logs
  go to a pipe.
  A Backup's Active is a sender in the other namespace: built frames, one sendmmsg for each
  interface and millisecond, on a schedule, so that all hear the same. An
  Active's adverts are dropped where they arrive.
  CPU is what /proc/PID/schedstat has of all threads of all processes of a daemon, of FRR
  that of vrrpd and not of zebra. With the
  kernel's reception it is that and the sender's thread, in whose time the kernel receives
  on veth, and ksoftirqd's, less the same run without a daemon.
  Times are the kernel's time stamps of frames at the other end of the cable. A takeover
  counts from Active_Down_Interval after the last advertisement that the sender let go.
  False takeovers are counted on the wire: each beginning of advertisements that must not
  be. With all cores busy, as many shells run in circles, without a lower priority.
  A start ends with the daemon's own log of the last router's Backup. Memory is what
  /proc/PID/smaps_rollup has as Pss.
  A thread on each processor, before all others, notes when the machine itself stands
  still for more than 10 ms. Takeovers and advertisements that such a stall explains are
  left out, and the table says how many.
  The ratio is that to keepalived in the same round; the table has the median and in brackets the
  smallest and the greatest. A limit has to hold in each round, a ratio in the median.

Caveats
  Daemon, peer and measurement share the processors of one machine, and veth isn't a NIC:
  reception in a NIC's driver is cheaper for both. Nothing else should run meanwhile. An
  interval's jitter is that of a busy, small machine. Figures of one machine compare the
  daemons on it and nothing more. keepalived and FRR are those of the system; FRR with 1,000
  routers at 1 s fills a core and takes over falsely, so it is measured with 100 at most.
  It counts in hundredths of a second, and at 10 ms takes over 6 ms too early.
  None of the daemons is asked for real-time settings, unless by --global, but for keepalived
  where it takes part once more, with vrrp_rt_priority 50.
  --against compares failoverd with itself, in turns: the ratio is that of failoverd to the
  one with these keys.

Experiments with a table of their own
  They run only where --only names them, and --out has nothing of them.

` + fence.About + bystander.About + checks.About + `
  sudo go run ./tools/bench --failoverd bin/failoverd
  sudo go run ./tools/bench --only Backup --rounds 5
  sudo go run ./tools/bench --only Jitter --global 'realtime: true'
  sudo go run ./tools/bench --only '^(Active|Backup) 1,000 x 100' --who failoverd --against 'realtime: false'
  sudo go run ./tools/bench --only '^Pair' --who 'failoverd|keepalived'
  sudo go run ./tools/bench --only '^Fence$' --rounds 10
  sudo go run ./tools/bench --only Bystander --who 'off|auto'
  go run ./tools/bench --list

Flags:
`

func main() {
	var (
		binary  = flag.String("failoverd", "bin/failoverd", "`path` of the failoverd to measure")
		rounds  = flag.Int("rounds", 0, "`number` of rounds of each experiment that isn't long; 0 for the usual ones, which are 3, of Fence 5 and of Bystander 40")
		only    = flag.String("only", "", "`expression` that the names of the experiments match")
		quick   = flag.Bool("quick", false, "one short round of the most important ones, in two minutes or so")
		out     = flag.String("out", "bin", "`directory` for bench.md and bench.json")
		commit  = flag.String("commit", "", "`name` of what failoverd was built from, for the table")
		share   = flag.Float64("share", 1, "`part` of the usual time that is measured in each run")
		keep    = flag.Bool("keep", false, "keep what bench.json has of experiments that aren't measured this time")
		global  = flag.String("global", "", "`keys` that failoverd has under global in its file, like 'realtime: true'; with one router only it has no file")
		against = flag.String("against", "", "`keys` under global of one more failoverd, to be compared with")
		who     = flag.String("who", "", "`expression` that the names of those that are measured match")
		list    = flag.Bool("list", false, "list the experiments and end")
	)
	lab.Main("bench", help, func(ctx context.Context) error {
		if *list {
			return printNames(os.Stdout)
		}
		return run(ctx, options{*binary, *commit, *global, *against, *rounds, *share, *only, *who, *quick, *keep, *out})
	})
}

// printNames lists the experiments.
func printNames(out io.Writer) error {
	for _, e := range experiments() {
		fmt.Fprintln(out, e.name)
	}
	for _, s := range studies() {
		fmt.Fprintln(out, s.name)
	}
	return nil
}

type options struct {
	binary, commit, global, against string
	rounds                          int
	share                           float64
	only, who                       string
	quick, keep                     bool
	out                             string
}

func run(ctx context.Context, o options) (err error) {
	if o.rounds < 0 {
		return fmt.Errorf("--rounds %d: at least 1, or 0 for the usual ones", o.rounds)
	}
	if o.share <= 0 {
		return fmt.Errorf("--share %v: more than 0", o.share)
	}
	if o.quick {
		o.rounds, o.share = 1, quickShare
	}
	b := &bench{rounds: o.rounds, share: o.share, quick: o.quick, progress: os.Stderr}
	if b.only, err = regexp.Compile(o.only); err != nil {
		return fmt.Errorf("--only: %w", err)
	}
	if b.who, err = regexp.Compile(o.who); err != nil {
		return fmt.Errorf("--who: %w", err)
	}
	chosen, studies := b.chosen(), b.studies()
	if len(chosen)+len(studies) == 0 {
		return fmt.Errorf("--only %v: no experiment has such a name; --list names them", b.only)
	}
	if len(chosen) > 0 {
		if err := b.compare(ctx, o); err != nil {
			return err
		}
	}
	return b.study(ctx, studies, o.binary)
}

// compare measures the experiments of the one table, and writes it.
func (b *bench) compare(ctx context.Context, o options) (err error) {
	if o.binary, err = lab.Needs(o.binary, "keepalived", lab.VRRPD); err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	about, err := aboutHere(ctx, o.binary, o.commit)
	if err != nil {
		return err
	}
	// The threads that measure don't wait for each other.
	runtime.GOMAXPROCS(8 * runtime.NumCPU())
	debug.SetGCPercent(400)
	b.contenders, b.canary = newContenders(o.binary, o.global, o.against), lab.NewCanary()
	measured, err := b.measure(ctx)
	if err := errors.Join(err, b.canary.Close()); err != nil {
		return err
	}
	report := newReport(about, b, measured)
	if o.keep {
		if err := report.keep(o.out); err != nil {
			return err
		}
	}
	if err := report.write(o.out); err != nil {
		return err
	}
	fmt.Print(report.markdown())
	return report.failed()
}
