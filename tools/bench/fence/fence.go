// SPDX-License-Identifier: Apache-2.0

// Package fence measures for how long an Active that hangs or was killed answers for the
// virtual address beside the router that took over, with failoverd and with keepalived.
package fence

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"syscall"
	"time"
)

// About is the description of the method in the help.
const About = `Fence, Fence over IPv6: for how long two hosts answer for a virtual address, and for how long
no host does, when the Active hangs or is killed.
  Two routers with the same daemon, of the priorities 200 and 100, share an address on a LAN. A
  third host asks for it every millisecond, by ARP or neighbour solicitation, by ping and by TCP
  (a SYN to a closed port, which a reset answers). Every question reaches both routers, and the
  port of the switch identifies the router that answers. Each round has three events, with
  failoverd and with keepalived in turns:
    SIGSTOP  the Active hangs, the other router takes over, and both are watched for 2 s
    SIGCONT  the hung router continues, until one of the two yields
    SIGKILL  the Active is killed and its address stays; both are watched for 2 s
  Signals go to all processes of a daemon. Otherwise keepalived's parent would restart a child
  that died, and a child whose parent died would shut down in order.
  "Two answer" is the time from the first answer of the new Active to the last one of the old
  Active. "None answers" is the time from the last answer of the old Active to the first one of
  the new Active. The lines named "any" count the three kinds of questions together. "≥" says
  that the old Active still answered at the end of the 2 s. A busy machine delays questions. The
  line "questions paused for" has the longest pause, and shorter times are not certain.
`

// Options configure the measurement.
type Options struct {
	Failoverd  string         // path
	Keepalived string         // path, or a name to look up in PATH
	Rounds     int            // of each daemon
	Who        *regexp.Regexp // the names of the daemons to measure
	IPv6       bool           // instead of IPv4
}

const (
	interval = 200 * time.Millisecond // between advertisements
	watch    = 2 * time.Second        // after the takeover
)

// Measure runs the rounds and prints the table.
func Measure(ctx context.Context, o Options) error {
	contenders := contenders(o)
	if len(contenders) == 0 {
		return fmt.Errorf("--who %v: no daemon has such a name", o.Who)
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
