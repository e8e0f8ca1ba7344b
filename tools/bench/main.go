// SPDX-License-Identifier: Apache-2.0

// Command bench measures failoverd and keepalived in network namespaces of this machine, in
// turns, and writes a table of their CPU time, memory and delays. --help describes the method.
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
each alone on the machine. It writes a table in Markdown to the standard output, and into --out
as bench.md and bench.json.

Method
  Each run has network namespaces of its own, with veth cables. 1,000 routers are 250 on each of
  four interfaces, over IPv4 in version 3, with one address each. The column Configured says how
  the daemons were set up:
    alike         all send the same frames. failoverd has checksum: rfc5798, virtual_mac: off and
                  announce_again: 0s, keepalived has garp_master_delay 0.
    virtual MACs  alike, but with virtual_mac: auto and use_vmac.
    defaults      interval, priority and addresses only.
  FRR is always at its defaults, with a macvlan for each router.
  Everything is judged on the wire, in the same way for all daemons: by the kernel's time stamps
  of frames that a packet socket at the other end of the cable receives. The daemons' logs go to
  files in memory, and nothing reads them during a measurement.
  The Active of a Backup is a sender in the other namespace. It sends prebuilt frames on a
  schedule, with one sendmmsg for each interface and millisecond. What an Active sends is dropped
  before the network stack of the other namespace.
  CPU is the time of all threads of all processes of a daemon (/proc/PID/schedstat), but only of
  vrrpd with FRR. With the kernel's reception, the sender's thread and ksoftirqd are added,
  because on veth the kernel receives in the time of the sender, and the value without a daemon
  is subtracted.
  A takeover counts from Active_Down_Interval after the last advertisement of the former Active.
  A start counts from the execution until the first advertisement of the last router, less
  its Active_Down_Interval. The routers have different priorities, so they don't all take over
  at the same moment.
  False takeovers are advertisements of routers that have to be Backup. With all cores busy, one
  shell for each core loops at the usual priority.
  Memory is Pss in /proc/PID/smaps_rollup.
  A real-time thread on each processor notes when the machine itself stands still for more than
  10 ms. Takeovers and advertisements that such a stall explains are left out, and the table has
  their number.
  A ratio compares failoverd with keepalived in the same round. The table has the median of the
  rounds, and in brackets the smallest and the greatest value. A bound has to hold in each round,
  a ratio in the median.

Caveats
  Daemon, peer and measurement share the processors of one machine, and veth isn't a NIC: both
  receive at a lower cost in a NIC's driver. Nothing else should run meanwhile. The figures
  compare the daemons on this machine and nothing more. FRR with 1,000 routers at 1 s fills a
  core and takes over falsely, so it is measured with 100 routers at most. It rounds to
  hundredths of a second: at 10 ms it takes over 6 ms too early.
  keepalived also takes part with vrrp_rt_priority 50 in the pairs under load. Otherwise all
  real-time settings are the defaults.
  --against compares failoverd with a second failoverd in turns. The last ratio is that of the
  first to the second.

Experiments with a table of their own
  They run only where --only names them, and --out gets nothing of them.

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
		peer    = flag.String("keepalived", "keepalived", "`path` of the keepalived to compare with, or a name to look up in PATH")
		rounds  = flag.Int("rounds", 0, "`number` of rounds of each experiment that isn't long; 0 is the default of the experiment: 3, of Fence 5 and of Bystander 40")
		only    = flag.String("only", "", "regular `expression` that the names of the experiments match")
		quick   = flag.Bool("quick", false, "one short round of the most important experiments, some three minutes")
		out     = flag.String("out", "bin", "`directory` for bench.md and bench.json")
		results = flag.String("results", "", "Markdown `file` whose generated part is replaced by the table, unless --only, --who, --quick, --share, --global or --against changes what is measured")
		commit  = flag.String("commit", "", "`version` of failoverd that the table shows")
		share   = flag.Float64("share", 1, "`part` of the usual duration of each measurement")
		keep    = flag.Bool("keep", false, "keep the rows in bench.json of experiments that aren't measured this time")
		global  = flag.String("global", "", "`keys` under global in failoverd's file, like 'realtime: true'; Outage has no file")
		against = flag.String("against", "", "`keys` under global of a second failoverd, to compare the first one with")
		who     = flag.String("who", "", "regular `expression` that the names of the measured daemons match")
		list    = flag.Bool("list", false, "list the experiments and end")
	)
	lab.Main("bench", help, func(ctx context.Context) error {
		if *list {
			return printNames(os.Stdout)
		}
		return run(ctx, options{*binary, *peer, *commit, *global, *against, *rounds, *share, *only, *who, *quick, *keep, *out, *results})
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
	binary, keepalived, commit, global, against string
	rounds                                      int
	share                                       float64
	only, who                                   string
	quick, keep                                 bool
	out, results                                string
}

// publishes reports whether the run measures what the results file has.
func (o options) publishes() bool {
	return o.results != "" && o.only == "" && o.who == "" && o.global == "" && o.against == "" && !o.quick && o.share == 1
}

func run(ctx context.Context, o options) (err error) {
	if o.rounds < 0 {
		return fmt.Errorf("--rounds %d: must be 1 or more, or 0 for the default", o.rounds)
	}
	if o.share <= 0 {
		return fmt.Errorf("--share %v: must be more than 0", o.share)
	}
	if o.quick {
		o.rounds, o.share = 1, quickShare
	}
	b := &bench{rounds: o.rounds, share: o.share, quick: o.quick, keepalived: o.keepalived, progress: os.Stderr}
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

// compare measures the experiments of the table, and writes it.
func (b *bench) compare(ctx context.Context, o options) (err error) {
	if o.binary, err = lab.Needs(o.binary, o.keepalived, lab.VRRPD); err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	about, err := aboutHere(ctx, o)
	if err != nil {
		return err
	}
	// The threads that measure must not wait for a processor of Go's scheduler.
	runtime.GOMAXPROCS(8 * runtime.NumCPU())
	debug.SetGCPercent(400)
	b.contenders, b.canary = newContenders(o), lab.NewCanary()
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
	if o.publishes() {
		if err := report.publish(o.results); err != nil {
			return err
		}
	}
	fmt.Print(report.markdown())
	return report.failed()
}
