// SPDX-License-Identifier: Apache-2.0

// Command checks measures what checks cost: many routers advertise on a LAN of
// network namespaces while as many scripts as TCP services are checked, by failoverd
// and by keepalived in turns. It says how late advertisements were and how much of a
// processor was taken, by the daemon with all that it runs.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	ifname  = "eth0"
	service = "127.0.0.1:8080"
	start   = 30 * time.Second // how long it is waited until all routers are Active
)

// plan is what is measured.
type plan struct {
	routers, checks int
	interval        time.Duration // of advertisements
	every           time.Duration // of checks
	measured        time.Duration
}

func main() {
	binary := flag.String("failoverd", "bin/failoverd", "`path` of the failoverd to measure")
	p := plan{}
	flag.IntVar(&p.routers, "routers", 200, "`number` of routers, up to 255")
	flag.IntVar(&p.checks, "checks", 1000, "`number` of checks, half of them scripts")
	flag.DurationVar(&p.interval, "interval", 100*time.Millisecond, "`time` between advertisements")
	flag.DurationVar(&p.every, "every", time.Second, "`time` between two looks of a check")
	flag.DurationVar(&p.measured, "time", 20*time.Second, "how long each is measured")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, *binary, p)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "checks:", err)
		os.Exit(1)
	}
}

// contender starts one of the daemons on a node.
type contender struct {
	name  string
	start func(n *lab.Node, p plan) (*lab.Process, error)
}

func run(ctx context.Context, binary string, p plan) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	contenders := []contender{
		{"failoverd", func(n *lab.Node, p plan) (*lab.Process, error) {
			path, err := write(n, "failoverd.yaml", failoverdConfig(p))
			if err != nil {
				return nil, err
			}
			f, err := n.Failoverd(nil, binary, "--config", path)
			if err != nil {
				return nil, err
			}
			return f.Process, nil
		}},
		{"keepalived", func(n *lab.Node, p plan) (*lab.Process, error) {
			path, err := write(n, "keepalived.conf", keepalivedConfig(p))
			if err != nil {
				return nil, err
			}
			dir := filepath.Dir(path)
			return n.Start("keepalived", "--dont-fork", "--log-console", "--vrrp", "--use-file", path, "--pid", dir+"/pid", "--vrrp_pid", dir+"/vrrp.pid")
		}},
	}
	fmt.Printf("%d routers that advertise every %v, checks every %v, %v each\n", p.routers, p.interval, p.every, p.measured)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "\tchecks\trouters Active\tprocessor\tgap: median\t99.9 %\tlongest\tlonger than 1.5\tthan 3 intervals")
	for _, checks := range []int{0, p.checks} {
		for _, c := range contenders {
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

// result is what was measured of one daemon.
type result struct {
	active int             // how many routers have advertised
	gaps   []time.Duration // between two advertisements of a router, in order of size
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
	n, err := l.Node("a")
	if err != nil {
		return r, err
	}
	if _, err := lan.Connect(n, ifname, "198.18.0.1/16"); err != nil {
		return r, err
	}
	if err := n.SetUp("lo"); err != nil {
		return r, err
	}
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
	select {
	case <-time.After(p.measured):
	case <-ctx.Done():
		return r, ctx.Err()
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

// serve accepts connections in a node.
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
			_ = c.Close() // it was accepted
		}
	}()
	return l.Close, nil
}

// allActive waits until each router has advertised for a while, or until the time is
// over: one of the daemons may never get there.
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
