// SPDX-License-Identifier: Apache-2.0

// Package fence measures how long an Active that hangs or was killed goes on
// answering for the virtual address beside the router that took over, with
// failoverd and with keepalived.
package fence

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"syscall"
	"time"
)

// About tells what is measured, and how.
const About = `Fence, Fence over IPv6: for how long two hosts answer for a virtual address, and for how long
none does, when the Active hangs or is killed.
  Two routers of a make, of the priorities 200 and 100, share an address on a LAN. A third
  host asks for it every millisecond, by ARP or neighbour solicitation, by ping and by TCP (a
  SYN to a closed port, which a reset answers). Every question reaches both routers, and the
  switch tells whose the answer is. Each round plays with failoverd and with keepalived, in
  turns:
    SIGSTOP  the Active hangs; the other one takes over and is watched for two seconds
    SIGCONT  the one that hung goes on: for how long both answer until one yields
    SIGKILL  the Active is killed, its address stays; watched for two seconds as well
  Signals go to all processes of a daemon: keepalived's parent would start a child that died
  anew, and a child whose parent died would leave in order.
  Two answer: from the first answer of the new host to the last of the old one. None
  answers: from the last answer of the old host to the first of the new one. The lines named
  "any" count the three kinds of questions together. "≥" says that the old host still
  answered when the time to watch was over: it was cut short. On a busy machine the questions
  pause now and then: nothing shorter than such a pause is certain.
`

// Options are what is measured.
type Options struct {
	Failoverd string         // path
	Rounds    int            // of each
	Who       *regexp.Regexp // the names of those that are measured match
	IPv6      bool           // instead of IPv4
}

const (
	interval = 200 * time.Millisecond // between advertisements
	watch    = 2 * time.Second        // after the take-over
)

// Measure plays the rounds and prints the table.
func Measure(ctx context.Context, o Options) error {
	contenders := contenders(o)
	if len(contenders) == 0 {
		return fmt.Errorf("--who %v: nobody is measured", o.Who)
	}
	results := make([]results, len(contenders))
	for n := range results {
		results[n] = make(map[row][]sample)
	}
	for round := range o.Rounds {
		for n, c := range contenders {
			for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
				fmt.Fprintf(os.Stderr, "round %d of %d  %-10s  %s", round+1, o.Rounds, c.name, signalNames[s])
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
