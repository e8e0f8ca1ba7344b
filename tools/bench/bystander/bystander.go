// SPDX-License-Identifier: Apache-2.0

// Package bystander measures the cost of failoverd for the other traffic of its interface.
package bystander

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/failoverd/failoverd/tools/lab"
)

// About is the description of the method in the help.
const About = `Bystander: the cost of failoverd for other traffic.
  Each case has a router in a network namespace, and a client on a cable:
    absent                      no failoverd
    control                     the same, which shows the noise
    empty                       no failoverd, but a TC program in each direction that does
                                nothing, which shows the cost of calling a program
    macvlan                     no failoverd, but the macvlan that other daemons need for a
                                virtual MAC
    off, generic, native, auto  failoverd with this --xdp-mode, Active for one address; the
                                traffic uses the router's other address
  In each round the cases take turns in random order, for a fraction of a second each:
    TCP in, TCP out    one stream to the router and from it
    64 in, 64 out      frames of 64 octets to the router and from it, per ms of CPU time
  A ratio compares a case with absent in the same round. The table has the median of the ratios
  and its 95 % confidence interval. --who chooses the cases.
`

// Options configure the measurement.
type Options struct {
	Failoverd string         // path
	Rounds    int            // 6 or more
	Long      time.Duration  // of one measurement
	Who       *regexp.Regexp // the names of the cases to measure; absent is always measured
}

const (
	ifname   = "eth0"
	router   = "198.18.0.1"
	client   = "198.18.0.100"
	port     = 5001
	absent   = "absent"
	control  = "control"
	empty    = "empty"
	macvlan  = "macvlan"
	streamed = 1 << 17 // octets per write
)

// workload measures one kind of traffic. More is better.
type workload struct {
	name string
	unit float64
	run  func(*site, time.Duration) (float64, error)
}

var workloads = []workload{
	{"TCP in, Gbit/s", 1e9, func(s *site, d time.Duration) (float64, error) { return stream(s.client, s.router, router, d) }},
	{"TCP out, Gbit/s", 1e9, func(s *site, d time.Duration) (float64, error) { return stream(s.router, s.client, client, d) }},
	{"64 in, per CPU-ms", 1e3, func(s *site, d time.Duration) (float64, error) { return small(s.client, s.router, client, router, d) }},
	{"64 out, per CPU-ms", 1e3, func(s *site, d time.Duration) (float64, error) { return small(s.router, s.client, router, client, d) }},
}

// site is a case's router and its client.
type site struct {
	name           string
	router, client *lab.Node
	daemon         *lab.Failoverd
	empty          []link.Link // keeps the programs that do nothing attached
	measured       [][]float64 // by workload and round
}

// Measure runs the rounds and prints the table.
func Measure(ctx context.Context, o Options) (err error) {
	if o.Rounds < 6 {
		return fmt.Errorf("--rounds %d: must be 6 or more, because fewer give no confidence interval", o.Rounds)
	}
	names := slices.DeleteFunc([]string{absent, control, empty, macvlan, "off", "generic", "native", "auto"}, func(name string) bool {
		return name != absent && !o.Who.MatchString(name)
	})
	l, err := lab.New()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var sites []*site
	for _, name := range names {
		s, err := layOut(ctx, l, name, o.Failoverd)
		if err != nil {
			return fmt.Errorf("case %s: %w", name, err)
		}
		sites = append(sites, s)
	}
	for round := range o.Rounds {
		fmt.Fprintf(os.Stderr, "\rround %d of %d", round+1, o.Rounds)
		for n, w := range workloads {
			for _, i := range rand.Perm(len(sites)) {
				if err := ctx.Err(); err != nil {
					return err
				}
				s := sites[i]
				value, err := w.run(s, o.Long)
				if err != nil {
					return fmt.Errorf("case %s, %s: %w", s.name, w.name, err)
				}
				s.measured[n] = append(s.measured[n], value/w.unit)
			}
		}
	}
	fmt.Fprintln(os.Stderr)
	return show(sites)
}

// layOut makes the router and the client of a case, and starts failoverd if the case has it.
func layOut(ctx context.Context, l *lab.Lab, name, binary string) (s *site, err error) {
	s = &site{name: name, measured: make([][]float64, len(workloads))}
	if s.router, err = l.Node("router-" + name); err != nil {
		return nil, err
	}
	if s.client, err = l.Node("client-" + name); err != nil {
		return nil, err
	}
	if err := lab.Cable(s.router, s.client, ifname, []string{router + "/24"}, []string{client + "/24"}); err != nil {
		return nil, err
	}
	switch name {
	case absent, control:
		return s, nil
	case empty:
		return s, s.router.Do(s.attachEmpty)
	case macvlan:
		return s, s.router.Do(addMacvlan)
	}
	s.daemon, err = s.router.Failoverd(nil, binary, "--iface", ifname, "--vip", "198.18.0.10/24", "--interval", "100ms", "--xdp-mode", name)
	if err != nil {
		return nil, err
	}
	_, _, err = s.daemon.WaitState(ctx, 0, "ipv4", "Active")
	return s, err
}

// addMacvlan adds a macvlan with a Virtual Router MAC address.
func addMacvlan() error {
	i, err := net.InterfaceByName(ifname)
	if err != nil {
		return err
	}
	attrs := netlink.LinkAttrs{Name: macvlan, ParentIndex: i.Index, HardwareAddr: net.HardwareAddr{0, 0, 0x5e, 0, 1, 1}, Flags: net.FlagUp}
	if err := netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_PRIVATE}); err != nil {
		return fmt.Errorf("add a macvlan: %w", err)
	}
	return nil
}

// attachEmpty attaches programs that do nothing. They are removed with the interface.
func (s *site) attachEmpty() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		License:      "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}, // TCX_NEXT
	})
	if err != nil {
		return fmt.Errorf("load the program that does nothing: %w", err)
	}
	i, err := net.InterfaceByName(ifname)
	if err != nil {
		return err
	}
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		l, err := link.AttachTCX(link.TCXOptions{Interface: i.Index, Program: p, Attach: at})
		if err != nil {
			return fmt.Errorf("attach the program that does nothing: %w", err)
		}
		s.empty = append(s.empty, l)
	}
	return nil
}

// stream sends one TCP stream for a time and returns the received bits per second.
func stream(from, to *lab.Node, address string, long time.Duration) (float64, error) {
	var listener net.Listener
	if err := to.Do(func() (err error) {
		listener, err = net.Listen("tcp4", net.JoinHostPort(address, fmt.Sprint(port)))
		return err
	}); err != nil {
		return 0, err
	}
	defer func() { _ = listener.Close() }()
	type result struct {
		octets int
		took   time.Duration
		err    error
	}
	received := make(chan result, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			received <- result{err: err}
			return
		}
		defer func() { _ = conn.Close() }()
		b := make([]byte, streamed)
		var r result
		// The first fifth doesn't count, because the window is still opening.
		warm := time.Now().Add(long / 5)
		var began time.Time
		for {
			n, err := conn.Read(b)
			now := time.Now()
			if n == 0 || err != nil {
				break
			}
			if began.IsZero() {
				if now.After(warm) {
					began = now
				}
				continue
			}
			r.octets += n
			r.took = now.Sub(began)
		}
		received <- r
	}()
	var conn net.Conn
	if err := from.Do(func() (err error) {
		conn, err = net.Dial("tcp4", net.JoinHostPort(address, fmt.Sprint(port)))
		return err
	}); err != nil {
		return 0, err
	}
	b := make([]byte, streamed)
	for end := time.Now().Add(long); time.Now().Before(end); {
		if _, err := conn.Write(b); err != nil {
			return 0, errors.Join(err, conn.Close())
		}
	}
	if err := conn.Close(); err != nil {
		return 0, err
	}
	r := <-received
	if r.err == nil && r.took == 0 {
		r.err = errors.New("nothing arrived")
	}
	return float64(8*r.octets) / r.took.Seconds(), r.err
}

// small sends frames of 64 octets, with the frame check sequence, for a time. It returns the
// number of frames per second of CPU time of the sending thread, which on veth does the
// receiver's work too.
func small(from, to *lab.Node, source, destination string, long time.Duration) (float64, error) {
	frame, err := datagram(from, to, source, destination)
	if err != nil {
		return 0, err
	}
	// No one reads this socket: frames are dropped when its buffer is full.
	var sink net.PacketConn
	if err := to.Do(func() (err error) {
		sink, err = net.ListenPacket("udp4", net.JoinHostPort(destination, fmt.Sprint(port)))
		return err
	}); err != nil {
		return 0, err
	}
	b, err := from.Blast(ifname, [][]byte{frame}, 1e9, long)
	err = errors.Join(err, sink.Close())
	return float64(b.Frames) / b.CPU.Seconds(), err
}

func show(sites []*site) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "CASE")
	for _, l := range workloads {
		fmt.Fprintf(w, "\t%s\tRATIO", strings.ToUpper(l.name[:1])+l.name[1:])
	}
	fmt.Fprintln(w)
	for _, s := range sites {
		fmt.Fprint(w, s.name)
		for n := range workloads {
			fmt.Fprintf(w, "\t%.4g\t", lab.Median(s.measured[n]))
			if s.name == absent {
				fmt.Fprint(w, "1")
				continue
			}
			ratios := make([]float64, len(s.measured[n]))
			for i, v := range s.measured[n] {
				ratios[i] = v / sites[0].measured[n][i]
			}
			low, high := interval(ratios)
			fmt.Fprintf(w, "%.3f (%.3f to %.3f)", lab.Median(ratios), low, high)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}
