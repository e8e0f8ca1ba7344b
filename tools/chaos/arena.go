// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

const (
	pingEvery = 25 * time.Millisecond
	// questionEvery is the time between two rounds of questions in a sequence. It is longer
	// than askEvery, because a sequence asks for more addresses at more MACs.
	questionEvery = 40 * time.Millisecond
)

// arena is the LAN of one round: two hosts and a client.
type arena struct {
	options options
	dir     string
	lab     *lab.Lab
	lan     *lab.LAN
	asking  *lab.Node
	hosts   [2]*host
	canary  *lab.Canary
	pings   map[string]*lab.Pinger // by address
	asked   asked

	setup    setup
	hung     [2]bool // by SIGSTOP
	added    string  // an address that a stranger has added
	depth    int     // the number of steps in progress: a step can contain another one
	graces   []span  // the times in which two hosts may answer
	happened time.Time
	began    time.Time
	trace    []string
}

// span is a period of time.
type span struct{ from, to time.Time }

func newArena(ctx context.Context, o options, begin setup) (a *arena, err error) {
	a = &arena{options: o, setup: begin, pings: make(map[string]*lab.Pinger), began: time.Now()}
	if a.dir, err = os.MkdirTemp("", "chaos"); err != nil {
		return nil, err
	}
	if a.lab, err = lab.New(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(a.dir))
	}
	a.canary = lab.NewOrdinaryCanary(interval / 2)
	if err := a.begin(ctx); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

// begin connects the hosts and the client, starts both daemons and starts the questions.
func (a *arena) begin(ctx context.Context) (err error) {
	if a.lan, err = a.lab.LAN("switch"); err != nil {
		return err
	}
	client, err := a.lan.Host("client", "eth0", lab.Addresses(3)...)
	if err != nil {
		return err
	}
	a.asking = client.Node
	for n, name := range hosts {
		port, err := a.lan.Host(name, "eth0", lab.Addresses(n+1)...)
		if err != nil {
			return err
		}
		a.hosts[n] = &host{name: name, number: n, config: filepath.Join(a.dir, name+".yaml"), node: port.Node}
		if a.hosts[n].before, err = a.still(ctx, a.hosts[n]); err != nil {
			return err
		}
	}
	for _, h := range a.hosts {
		if err := a.start(h); err != nil {
			return err
		}
	}
	return a.ask()
}

// start starts the daemon of a host.
func (a *arena) start(h *host) (err error) {
	if err := os.WriteFile(h.config, []byte(a.setup.file(h.number)), 0o644); err != nil {
		return err
	}
	h.daemon, err = h.node.Failoverd(nil, a.options.binary, "--config", h.config)
	return err
}

// ask starts to ask for the addresses in two ways: the client pings each of them at the MAC
// that its kernel has learnt, and asks each MAC of each host.
func (a *arena) ask() error {
	nodes := []*lab.Node{a.hosts[0].node, a.hosts[1].node}
	for _, p := range slices.Concat(asked4, asked6) {
		address := netip.MustParsePrefix(p).Addr()
		ping, err := a.asking.Ping(address, pingEvery)
		if err != nil {
			return err
		}
		a.pings[p] = ping
		var macs []string
		for _, n := range nodes {
			mac, err := n.MAC("eth0")
			if err != nil {
				return err
			}
			macs = append(macs, mac)
		}
		for _, r := range a.setup.routers {
			macs = append(macs, packet.VirtualMAC(packet.FamilyOf(address), uint8(r.vrid)).String())
		}
		asker, err := a.lan.Ask(a.asking, "eth0", lab.Asking{Address: address, Every: questionEvery, Hosts: nodes, MACs: macs})
		if err != nil {
			return err
		}
		a.asked = append(a.asked, &question{p, asker})
	}
	return nil
}

// close ends the lab.
func (a *arena) close() error {
	var errs []error
	for _, p := range a.pings {
		errs = append(errs, p.Close())
	}
	_ = a.asked.close() // a question that a busy machine could not send is no failure
	return errors.Join(append(errs, a.canary.Close(), a.lab.Close(), os.RemoveAll(a.dir))...)
}

// play runs a sequence.
func (a *arena) play(ctx context.Context, q sequence) error {
	ctx, cancel := context.WithTimeout(ctx, 4*patience)
	defer cancel()
	if err := a.settle(ctx); err != nil {
		return fmt.Errorf("before the first step: %w", err)
	}
	for n, s := range q.steps {
		if err := a.step(ctx, s); err != nil {
			return fmt.Errorf("step %d, %v: %w", n+1, s, err)
		}
		if err := lab.Pause(ctx, s.pause); err != nil {
			return err
		}
		if !s.settle && n < len(q.steps)-1 {
			continue
		}
		if err := a.settle(ctx); err != nil {
			return fmt.Errorf("after step %d, %v: %w", n+1, s, err)
		}
	}
	if err := a.apart(); err != nil {
		return err
	}
	return a.end(ctx, q.ends)
}

// step carries out a step, with the step that it contains, and undoes it.
func (a *arena) step(ctx context.Context, s step) error {
	a.depth++
	defer func() { a.depth-- }()
	from := time.Now()
	found, err := s.kind.do(ctx, a, s)
	a.note("%s on %s %s", s.kind.name, hosts[s.host], found)
	if err != nil {
		return err
	}
	if s.kind.undo != nil {
		if s.meanwhile != nil {
			if err := lab.Pause(ctx, s.hold/2); err != nil {
				return err
			}
			if err := a.step(ctx, *s.meanwhile); err != nil {
				return err
			}
		}
		if err := lab.Pause(ctx, s.hold); err != nil {
			return err
		}
		if err := s.kind.undo(ctx, a, s); err != nil {
			return fmt.Errorf("undo: %w", err)
		}
		a.note("%s on %s undone", s.kind.name, hosts[s.host])
	}
	a.happened = time.Now()
	if a.depth == 1 && s.blinds() {
		a.graces = append(a.graces, span{from, a.happened})
	}
	return nil
}

func (a *arena) note(format string, v ...any) {
	now := time.Now()
	a.trace = append(a.trace, fmt.Sprintf("%s %6.2f s  %s", now.UTC().Format("15:04:05.000"), now.Sub(a.began).Seconds(), fmt.Sprintf(format, v...)))
}

// end stops both daemons and checks that they leave nothing behind.
func (a *arena) end(ctx context.Context, how [2]string) error {
	var errs []error
	for n, h := range a.hosts {
		a.note("%s is %s", h.name, how[n])
		if how[n] == cleaned {
			errs = append(errs, a.killClean(ctx, h))
		} else {
			errs = append(errs, h.end(ctx, syscall.SIGTERM))
		}
		errs = append(errs, a.unchanged(ctx, h))
	}
	return errors.Join(errs...)
}

// leaves lists everything that failoverd could leave behind.
func (h *host) leaves(ctx context.Context) (string, error) {
	return h.node.Run(ctx, "sh", "-c", `ip -br link | sort; grep . /sys/class/net/*/mtu; ip -o addr | awk '{print $2, $4}' | sort
for f in 4 6; do ip -$f rule; ip -$f route show table all | grep -v '^multicast' | sort; done
tc qdisc; bpftool net; ls -A /run/failoverd /sys/fs/bpf
grep -H . /proc/sys/net/ipv4/conf/*/arp_* /proc/sys/net/ipv4/conf/*/rp_filter /proc/sys/net/ipv4/conf/*/accept_local /proc/sys/net/ipv4/conf/*/promote_secondaries; true`)
}

// still returns the list of leaves once the kernel has added the local routes of the addresses.
func (a *arena) still(ctx context.Context, h *host) (string, error) {
	for {
		now, err := h.leaves(ctx)
		if err != nil || strings.Count(now, "\nlocal 2001:db8:") == 1 && strings.Count(now, "\nlocal fe80:") == 1 {
			return now, err
		}
		if err := lab.Pause(ctx, 20*time.Millisecond); err != nil {
			return "", err
		}
	}
}

// unchanged waits until the host is as it was before the daemon started. It waits because
// the kernel removes some things with a delay.
func (a *arena) unchanged(ctx context.Context, h *host) (err error) {
	for end := time.Now().Add(3 * time.Second); ; {
		now, failed := h.leaves(ctx)
		if failed != nil {
			return failed
		}
		if err = h.differs(now); err == nil || time.Now().After(end) {
			return err
		}
		if err := lab.Pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// evidence returns the trace of the round and the last lines of the daemons' logs.
func (a *arena) evidence() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  what happened:\n")
	for _, t := range a.trace {
		fmt.Fprintf(&b, "    %s\n", t)
	}
	b.WriteString(evidence(a.hosts))
	return b.String()
}
