// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

const (
	interval = 100 * time.Millisecond
	// askEvery is the time between two rounds of questions.
	askEvery = 5 * time.Millisecond
	// patience bounds a round.
	patience = 60 * time.Second
)

// hosts are the names of the hosts that run failoverd.
var hosts = [2]string{"a", "b"}

// interfaces are the names of each host's interfaces. Each interface has its own LAN.
var interfaces = []string{"eth0", "eth1"}

// site is two LANs with two hosts and a client.
type site struct {
	options options
	dir     string
	lab     *lab.Lab
	lans    []*lab.LAN
	client  *lab.Node
	hosts   [2]*host
}

// host is a host that runs failoverd.
type host struct {
	name     string
	number   int
	config   string // the path of its configuration file
	node     *lab.Node
	ports    []*lab.Port
	services []io.Closer
	daemon   *lab.Failoverd
	before   string // its state before failoverd ran, see look
	reloads  int
}

func newSite(ctx context.Context, o options) (s *site, err error) {
	s = &site{options: o}
	if s.dir, err = os.MkdirTemp("", "chaos"); err != nil {
		return nil, err
	}
	if s.lab, err = lab.New(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// begin connects the hosts, starts both daemons and waits for their addresses.
func (s *site) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, i := range interfaces {
		lan, err := s.lab.LAN("switch-" + i)
		if err != nil {
			return err
		}
		s.lans = append(s.lans, lan)
	}
	client := &host{name: "client", number: 2}
	if err := s.connect(client); err != nil {
		return err
	}
	s.client = client.node
	for n, name := range hosts {
		h := &host{name: name, number: n, config: filepath.Join(s.dir, name+".yaml")}
		s.hosts[n] = h
		if err := s.connect(h); err != nil {
			return err
		}
		if err := h.start(s.options); err != nil {
			return err
		}
	}
	for n, h := range s.hosts {
		if err := s.has(ctx, h, s.options.addressesOf(n)); err != nil {
			return err
		}
	}
	return nil
}

// close ends the lab.
func (s *site) close() error {
	for _, h := range s.hosts {
		if h != nil {
			h.closeServices()
		}
	}
	return errors.Join(s.lab.Close(), os.RemoveAll(s.dir))
}

// evidence returns the last lines of the daemons' logs.
func evidence(hosts [2]*host) string {
	var b strings.Builder
	for _, h := range hosts {
		if h == nil || h.daemon == nil {
			continue
		}
		lines := h.daemon.Lines()
		fmt.Fprintf(&b, "  the last lines of %s:\n", h.name)
		for _, l := range lines[max(0, len(lines)-40):] {
			fmt.Fprintf(&b, "    %s\n", l.Text)
		}
	}
	return b.String()
}

func (h *host) closeServices() {
	for _, c := range h.services {
		_ = c.Close()
	}
	h.services = nil
}

// connect makes a new node for a host, with the service that its check connects to.
func (s *site) connect(h *host) (err error) {
	h.closeServices()
	if h.node, err = s.lab.Host(h.name); err != nil {
		return err
	}
	h.ports = nil
	for n, i := range interfaces {
		number := h.number + 1
		p, err := s.lans[n].Connect(h.node, i, fmt.Sprintf("198.18.%d.%d/24", n, number), fmt.Sprintf("fe80::%d:%x/64", n, number), fmt.Sprintf("2001:db8:%d::%x/64", n, number))
		if err != nil {
			return err
		}
		h.ports = append(h.ports, p)
	}
	if err := h.serve(); err != nil {
		return err
	}
	h.before, err = h.settled(context.Background())
	return err
}

// settled returns the list of look once the kernel has added the local routes of all IPv6
// addresses. The kernel adds them some time after the addresses.
func (h *host) settled(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		now, err := h.look(ctx)
		if err != nil {
			return "", err
		}
		if strings.Count(now, "local 2001:db8:") == len(interfaces) && strings.Count(now, "local fe80:") == len(interfaces) {
			return now, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// serve listens on the port that the TCP check connects to.
func (h *host) serve() error {
	var l net.Listener
	if err := h.node.Do(func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:8080")
		return err
	}); err != nil {
		return err
	}
	h.services = append(h.services, l)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			_ = c.Close()
		}
	}()
	return nil
}

// start starts the daemon.
func (h *host) start(o options) (err error) {
	if err := os.WriteFile(h.config, []byte(o.configuration(h.number, h.reloads)), 0o644); err != nil {
		return err
	}
	h.daemon, err = h.node.Failoverd(nil, o.binary, "--config", h.config)
	return err
}

// reload changes the configuration file and reloads the daemon.
func (h *host) reload(o options) error {
	h.reloads++
	if err := os.WriteFile(h.config, []byte(o.configuration(h.number, h.reloads)), 0o644); err != nil {
		return err
	}
	return h.daemon.Signal(syscall.SIGHUP)
}

// end stops the daemon with a signal.
func (h *host) end(ctx context.Context, signal syscall.Signal) error {
	if err := h.daemon.Signal(signal); err != nil {
		return err
	}
	code, err := h.daemon.Wait(ctx)
	if err == nil && signal == syscall.SIGTERM && code != 0 {
		err = fmt.Errorf("failoverd on %s ended with %d: %s", h.name, code, h.daemon.Output())
	}
	return err
}

// look lists everything that failoverd could leave behind.
func (h *host) look(ctx context.Context) (string, error) {
	return h.node.Run(ctx, "sh", "-c", `ip -br link | sort; ip -br addr | sort
for f in 4 6; do ip -$f rule; ip -$f route show table all | grep -v '^multicast' | sort; done
tc qdisc; for i in eth0 eth1; do tc filter show dev $i ingress; tc filter show dev $i egress; done 2>/dev/null
for i in all eth0 eth1; do for k in arp_announce arp_ignore arp_filter rp_filter accept_local; do sysctl net.ipv4.conf.$i.$k; done; done
ls -d /run/failoverd /sys/fs/bpf/* 2>/dev/null; true`)
}

// unchanged checks that the host is as it was before the daemon started.
func (h *host) unchanged(ctx context.Context) error {
	now, err := h.look(ctx)
	if err != nil {
		return err
	}
	return h.differs(now)
}

// differs returns an error with the differences from the state before failoverd ran.
func (h *host) differs(now string) error {
	var changes []string
	was, is := strings.Split(h.before, "\n"), strings.Split(now, "\n")
	for _, l := range is {
		if !slices.Contains(was, l) {
			changes = append(changes, "there is "+l)
		}
	}
	for _, l := range was {
		if !slices.Contains(is, l) {
			changes = append(changes, "there is no "+l)
		}
	}
	if changes != nil {
		return fmt.Errorf("left behind on %s: %s", h.name, strings.Join(changes, "; "))
	}
	return nil
}

// hasAll waits until a host has all addresses.
func (s *site) hasAll(ctx context.Context, h *host) error {
	return s.has(ctx, h, append(s.options.addressesOf(0), s.options.addressesOf(1)...))
}

// has waits until a host has the given virtual addresses and no others.
func (s *site) has(ctx context.Context, h *host, want []string) error {
	all := append(s.options.addressesOf(0), s.options.addressesOf(1)...)
	for {
		list, err := h.node.Addresses("")
		if err != nil {
			return err
		}
		var wrong []string
		for _, a := range all {
			has := slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Addr().String() == a })
			if has != slices.Contains(want, a) {
				wrong = append(wrong, fmt.Sprintf("%s: %v", a, has))
			}
		}
		routes, rules, err := h.routing()
		if err != nil {
			return err
		}
		n := 0
		if slices.Contains(want, routing) {
			n = 1
		}
		if routes != n || rules != n {
			wrong = append(wrong, fmt.Sprintf("%d routes and %d rules, not %d of each", routes, rules, n))
		}
		if wrong == nil {
			return nil
		}
		select {
		case <-h.daemon.Done():
			return fmt.Errorf("failoverd on %s has ended: %s", h.name, h.daemon.Output())
		case <-ctx.Done():
			return fmt.Errorf("the addresses, routes or rules of %s are wrong: %s: %w", h.name, strings.Join(wrong, ", "), ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// routing counts the routes and rules of the table routed.
func (h *host) routing() (routes, rules int, err error) {
	all, err := h.node.Netlink().RouteListFiltered(unix.AF_INET, &netlink.Route{Table: routed}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return 0, 0, fmt.Errorf("list the routes of %s: %w", h.name, err)
	}
	list, err := h.node.Netlink().RuleList(unix.AF_INET)
	if err != nil {
		return 0, 0, fmt.Errorf("list the rules of %s: %w", h.name, err)
	}
	for _, r := range list {
		if r.Table == routed {
			rules++
		}
	}
	return len(all), rules, nil
}

// ask starts to ask for one or more addresses of each kind of router.
func (s *site) ask() (all asked, err error) {
	nodes := []*lab.Node{s.hosts[0].node, s.hosts[1].node}
	for _, w := range s.options.watched() {
		address := netip.MustParseAddr(w.address)
		macs := []string{packet.VirtualMAC(packet.FamilyOf(address), uint8(w.vrid)).String()}
		for _, n := range nodes {
			mac, err := n.MAC(interfaces[w.lan])
			if err != nil {
				return nil, errors.Join(err, all.close())
			}
			macs = append(macs, mac)
		}
		asker, err := s.lans[w.lan].Ask(s.client, interfaces[w.lan], lab.Asking{Address: address, Every: askEvery, Hosts: nodes, MACs: macs})
		if err != nil {
			return nil, errors.Join(err, all.close())
		}
		all = append(all, &question{w.address, asker})
	}
	return all, nil
}
