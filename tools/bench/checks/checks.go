// SPDX-License-Identifier: Apache-2.0

// Package checks measures the cost of checks by scripts and TCP connections, with failoverd and
// with keepalived.
package checks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	ifname  = "eth0"
	service = "127.0.0.1:8080"
	start   = 30 * time.Second // the longest wait until all routers are Active
)

// About is the description of the method in the help.
const About = `Checks: the cost of checks.
  200 routers advertise every 100 ms on a LAN. The daemon runs 1,000 checks every second, half
  of them scripts and half TCP connections. The table has the gaps between advertisements on
  the wire, and the CPU time of the daemon and of the scripts that it runs.
`

// Options configure the measurement.
type Options struct {
	Failoverd  string         // path
	Keepalived string         // path, or a name to look up in PATH
	Long       time.Duration  // of each measurement
	Who        *regexp.Regexp // the names of the daemons to measure
}

// plan is the size of a measurement.
type plan struct {
	routers, checks int           // half of the checks are scripts
	interval        time.Duration // Advertisement_Interval
	every           time.Duration // the interval of each check
	measured        time.Duration
}

// contender starts one of the daemons on a node.
type contender struct {
	name  string
	start func(n *lab.Node, p plan) (*lab.Process, error)
}

// Measure measures each daemon without checks and with checks, and prints the table.
func Measure(ctx context.Context, o Options) error {
	p := plan{routers: 200, checks: 1000, interval: 100 * time.Millisecond, every: time.Second, measured: o.Long}
	contenders := []contender{
		{"failoverd", func(n *lab.Node, p plan) (*lab.Process, error) {
			const path = "/run/checks.yaml"
			if err := n.Do(func() error { return os.WriteFile(path, []byte(failoverdConfig(p)), 0o644) }); err != nil {
				return nil, err
			}
			return n.StartToFile(o.Failoverd, "--log-format", "json", "--config", path)
		}},
		{"keepalived", func(n *lab.Node, p plan) (*lab.Process, error) {
			return n.KeepalivedToFile(o.Keepalived, keepalivedConfig(p))
		}},
	}
	fmt.Printf("%d routers that advertise every %v, checks every %v, %v each\n", p.routers, p.interval, p.every, p.measured)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "\tchecks\trouters Active\tprocessor\tgap: median\t99.9 %\tlongest\tlonger than 1.5\tthan 3 intervals")
	for _, checks := range []int{0, p.checks} {
		for _, c := range contenders {
			if !o.Who.MatchString(c.name) {
				continue
			}
			q := p
			q.checks = checks
			r, err := measure(ctx, c, q)
			if err != nil {
				return fmt.Errorf("%s with %d checks: %w", c.name, checks, err)
			}
			if len(r.gaps) == 0 {
				fmt.Fprintf(w, "%s\t%d\t%d\t%.1f %%\tno advertisements\n", c.name, checks, r.active, 100*r.cpu.Seconds()/p.measured.Seconds())
				continue
			}
			gap := func(share float64) time.Duration { return r.gaps[int(share*float64(len(r.gaps)-1))] }
			late := func(than time.Duration) int {
				i, _ := slices.BinarySearch(r.gaps, than)
				return len(r.gaps) - i
			}
			fmt.Fprintf(w, "%s\t%d\t%d\t%.1f %%\t%v\t%v\t%v\t%d of %d\t%d\n", c.name, checks, r.active, 100*r.cpu.Seconds()/p.measured.Seconds(),
				ms(gap(0.5)), ms(gap(0.999)), ms(gap(1)), late(3*p.interval/2), len(r.gaps), late(3*p.interval))
		}
	}
	return w.Flush()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// result has the values of one daemon.
type result struct {
	active int             // number of routers that advertised
	gaps   []time.Duration // between two advertisements of a router, the shortest first
	cpu    time.Duration
}

func measure(ctx context.Context, c contender, p plan) (r result, err error) {
	l, err := lab.New()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	lan, err := l.LAN("switch")
	if err != nil {
		return r, err
	}
	port, err := lan.Host("a", ifname, "198.18.0.1/16")
	if err != nil {
		return r, err
	}
	n := port.Node
	stop, err := serve(n)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	capture, err := lan.Capture()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, capture.Close()) }()
	daemon, err := c.start(n, p)
	if err != nil {
		return r, err
	}
	allActive(ctx, capture, p.routers)
	before, err := usage(daemon.PID())
	if err != nil {
		return r, err
	}
	from := len(capture.Frames())
	if err := lab.Pause(ctx, p.measured); err != nil {
		return r, err
	}
	after, err := usage(daemon.PID())
	if err != nil {
		return r, err
	}
	r.cpu = after - before
	last := make(map[uint8]time.Time)
	for _, f := range capture.Frames()[from:] {
		a, _, _, ok := f.Advertisement()
		if !ok {
			continue
		}
		if at, seen := last[a.VRID]; seen {
			r.gaps = append(r.gaps, f.At.Sub(at))
		}
		last[a.VRID] = f.At
	}
	r.active = len(last)
	slices.SortFunc(r.gaps, func(a, b time.Duration) int { return cmp.Compare(a, b) })
	_, err = daemon.Stop(ctx)
	return r, err
}

// serve accepts connections on a node.
func serve(n *lab.Node) (stop func() error, err error) {
	var l net.Listener
	if err := n.Do(func() (err error) { l, err = net.Listen("tcp", service); return err }); err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close() // the check needs no more than a connection
		}
	}()
	return l.Close, nil
}

// allActive waits until each router has advertised for a while. It gives up after a time,
// because a daemon that is too slow may never get there. The table then says so.
func allActive(ctx context.Context, capture *lab.Capture, routers int) {
	ctx, cancel := context.WithTimeout(ctx, start)
	defer cancel()
	seen := make(map[uint8]int)
	_, _ = capture.Wait(ctx, 0, func(f lab.Frame) bool {
		a, _, _, ok := f.Advertisement()
		if !ok || a.Priority == 0 {
			return false
		}
		const while = 20
		if seen[a.VRID]++; seen[a.VRID] != while {
			return false
		}
		settled := 0
		for _, n := range seen {
			if n >= while {
				settled++
			}
		}
		return settled == routers
	})
}
