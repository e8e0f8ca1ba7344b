// SPDX-License-Identifier: Apache-2.0

// Command stale measures how long an Active that hangs or was killed goes on
// answering for the virtual address beside the router that took over, with
// failoverd and with keepalived.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const help = `stale measures for how long two hosts answer for a virtual address, and for how
long none does, when the Active hangs or is killed.

Two routers of a make, of the priorities 200 and 100, share an address on a LAN of
network namespaces. A third host asks for it every millisecond, by ARP or neighbour
solicitation, by ping and by TCP (a SYN to a closed port, which a reset answers).
Every question reaches both routers, and the switch tells whose the answer is.

Each round plays with failoverd and with keepalived, in turns:
  SIGSTOP  the Active hangs; the other one takes over and is watched for --watch
  SIGCONT  the one that hung goes on: for how long both answer until one yields
  SIGKILL  the Active is killed, its address stays; watched for --watch as well
Signals go to all processes of a daemon: keepalived's parent would start a child that
died anew, and a child whose parent died would leave in order.

Two answer: from the first answer of the new host to the last of the old one. None
answers: from the last answer of the old host to the first of the new one. The lines
named "any" count the three kinds of questions together. "≥" says that the old host
still answered when the time to watch was over: it was cut short. On a busy machine
the questions pause now and then: nothing shorter than such a pause is certain.

It needs root and the package keepalived, and half a minute for each round.

  sudo go run ./tools/bench/fence --failoverd bin/failoverd
  sudo go run ./tools/bench/fence --failoverd bin/failoverd --ipv6 --rounds 10

Flags:
`

type options struct {
	binary   string
	rounds   int
	interval time.Duration
	watch    time.Duration
	ipv6     bool
}

func main() {
	var o options
	flag.StringVar(&o.binary, "failoverd", "bin/failoverd", "`path` of the failoverd to measure")
	flag.IntVar(&o.rounds, "rounds", 5, "`number` of rounds of each")
	flag.DurationVar(&o.interval, "interval", 200*time.Millisecond, "`time` between advertisements")
	flag.DurationVar(&o.watch, "watch", 2*time.Second, "`time` to watch on after the take-over")
	flag.BoolVar(&o.ipv6, "ipv6", false, "over IPv6 instead of IPv4")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), help)
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, o)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("interrupted: %w", err)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "stale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if o.binary, err = check(o); err != nil {
		return err
	}
	contenders := contenders(o)
	results := make([]results, len(contenders))
	for n := range results {
		results[n] = make(map[row][]sample)
	}
	for round := range o.rounds {
		for n, c := range contenders {
			for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
				fmt.Fprintf(os.Stderr, "round %d of %d  %-10s  %s", round+1, o.rounds, c.name, signalNames[s])
				measured, err := play(ctx, o, c, s)
				if err != nil {
					fmt.Fprintln(os.Stderr)
					return fmt.Errorf("%s, %s: %w", c.name, signalNames[s], err)
				}
				results[n].add(measured)
				fmt.Fprintf(os.Stderr, "  two answer %v, none answers %v\n", measured[row{signalNames[s], two, total}], measured[row{signalNames[s], none, total}])
			}
		}
	}
	return printTable(os.Stdout, o, contenders, results)
}

// check returns the path of failoverd, if all that is needed is there.
func check(o options) (string, error) {
	if flag.NArg() > 0 {
		return "", fmt.Errorf("unexpected argument %q; see --help", flag.Arg(0))
	}
	if o.rounds < 1 {
		return "", fmt.Errorf("--rounds %d: at least 1", o.rounds)
	}
	if o.watch < stillAnswers {
		return "", fmt.Errorf("--watch %v: at least %v", o.watch, stillAnswers)
	}
	if os.Geteuid() != 0 {
		return "", errors.New("network namespaces need root: run it with sudo")
	}
	if _, err := exec.LookPath("keepalived"); err != nil {
		return "", fmt.Errorf("%w; install the package keepalived", err)
	}
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(binary); err != nil {
		return "", fmt.Errorf("%w; build it with make build", err)
	}
	return binary, nil
}
