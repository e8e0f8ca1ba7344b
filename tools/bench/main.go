// SPDX-License-Identifier: Apache-2.0

// Command bench measures failoverd and keepalived side by side, in turns and on
// the same LAN of network namespaces: how long a client has no reply when the
// Active dies, when it comes back, and when it is stopped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
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
	ifname   = "eth0"
	virtual  = "198.18.0.10"
	pingGap  = time.Millisecond
	patience = 30 * time.Second
)

func main() {
	binary := flag.String("failoverd", "bin/failoverd", "`path` of the failoverd to measure")
	rounds := flag.Int("rounds", 7, "`number` of rounds of each")
	interval := flag.Duration("interval", 100*time.Millisecond, "`time` between advertisements")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, *binary, *rounds, *interval)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// contender starts one of the daemons on a node.
type contender struct {
	name  string
	start func(n *lab.Node, priority int) (*lab.Process, error)
}

// sample is what a round has measured.
type sample struct{ crash, preempt, stop time.Duration }

func run(ctx context.Context, binary string, rounds int, interval time.Duration) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	contenders := []contender{
		{"failoverd", func(n *lab.Node, priority int) (*lab.Process, error) {
			f, err := n.Failoverd(nil, binary, "--iface", ifname, "--vip", virtual+"/24", "--priority", fmt.Sprint(priority), "--interval", interval.String())
			if err != nil {
				return nil, err
			}
			return f.Process, nil
		}},
		{"keepalived", func(n *lab.Node, priority int) (*lab.Process, error) {
			return n.Keepalived(lab.KeepalivedConfig{Interface: ifname, Version: 3, VRID: 51, Priority: priority, Interval: interval, Addresses: []string{virtual + "/24"}})
		}},
	}
	samples := make(map[string][]sample)
	for round := range rounds {
		for _, c := range contenders {
			s, err := measure(ctx, c, interval)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			samples[c.name] = append(samples[c.name], s)
			fmt.Printf("round %d of %d  %-10s  crash %v  preemption %v  stop %v\n", round+1, rounds, c.name, ms(s.crash), ms(s.preempt), ms(s.stop))
		}
	}

	skew := 156 * interval / 256
	fmt.Printf("\nTime without a reply, %d rounds, advertisements every %v: median (least to most)\n", rounds, interval)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "\tRFC 9568\tfailoverd\tkeepalived\tfailoverd / keepalived")
	for _, row := range []struct {
		name      string
		predicted time.Duration
		value     func(sample) time.Duration
	}{
		{"crash", 3*interval + skew, func(s sample) time.Duration { return s.crash }},
		{"graceful stop", skew, func(s sample) time.Duration { return s.stop }},
		{"preemption", 0, func(s sample) time.Duration { return s.preempt }},
	} {
		var texts []string
		var medians []time.Duration
		for _, c := range contenders {
			var all []time.Duration
			for _, s := range samples[c.name] {
				all = append(all, row.value(s))
			}
			slices.Sort(all)
			medians = append(medians, all[len(all)/2])
			texts = append(texts, fmt.Sprintf("%v (%v to %v)", ms(all[len(all)/2]), ms(all[0]), ms(all[len(all)-1])))
		}
		fmt.Fprintf(w, "%s\t%v\t%s\t%s\t%.2f\n", row.name, ms(row.predicted), texts[0], texts[1], float64(medians[0])/float64(medians[1]))
	}
	return w.Flush()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// measure lets one of the daemons run on two routers of a LAN of its own.
func measure(ctx context.Context, c contender, interval time.Duration) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l, err := lab.New()
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	lan, err := l.LAN("switch")
	if err != nil {
		return s, err
	}
	var nodes []*lab.Node
	var ports []*lab.Port
	for n, name := range []string{"a", "b", "client"} {
		node, err := l.Node(name)
		if err != nil {
			return s, err
		}
		port, err := lan.Connect(node, ifname, fmt.Sprintf("198.18.0.%d/24", n+1))
		if err != nil {
			return s, err
		}
		nodes, ports = append(nodes, node), append(ports, port)
	}
	a, b, client := nodes[0], nodes[1], nodes[2]
	capture, err := lan.Capture()
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, capture.Close()) }()
	pinger, err := client.Ping(netip.MustParseAddr(virtual), pingGap)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, pinger.Close()) }()

	var daemons []*lab.Process
	for n, priority := range []int{200, 100} {
		d, err := c.start(nodes[n], priority)
		if err != nil {
			return s, err
		}
		daemons = append(daemons, d)
	}
	// settled waits until the node alone has had the address for a while, and
	// measures the longest time without a reply since then.
	settled := func(n *lab.Node, since time.Time) (time.Duration, error) {
		if err := lab.WaitHolds(ctx, ifname, virtual, []*lab.Node{a, b}, n); err != nil {
			return 0, err
		}
		if _, err := pinger.WaitReply(ctx, time.Now()); err != nil {
			return 0, err
		}
		select {
		case <-time.After(5 * interval):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		_, err := pinger.WaitReply(ctx, time.Now())
		return pinger.Outage(since), err
	}
	if _, err := settled(a, time.Now()); err != nil {
		return s, err
	}

	frame, err := capture.Wait(ctx, len(capture.Frames()), func(f lab.Frame) bool {
		_, _, _, ok := f.Advertisement()
		return ok && f.From == a.Name
	})
	if err != nil {
		return s, err
	}
	last := capture.Frames()[frame].At
	if err := ports[0].Pull(); err != nil {
		return s, err
	}
	if s.crash, err = settled(b, last); err != nil {
		return s, err
	}
	back := time.Now()
	if err := ports[0].Plug(); err != nil {
		return s, err
	}
	if s.preempt, err = settled(a, back); err != nil {
		return s, err
	}
	stopped := time.Now()
	if _, err := daemons[0].Stop(ctx); err != nil {
		return s, err
	}
	s.stop, err = settled(b, stopped)
	return s, err
}
