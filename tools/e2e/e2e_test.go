// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	// patience bounds waits. Most take a few seconds.
	patience = 2 * time.Minute
	ifname   = "eth0"
)

// site is a LAN with two routers and a client.
type site struct {
	t       *testing.T
	ctx     context.Context
	lab     *lab.Lab
	lan     *lab.LAN
	a, b, c *lab.Node
	ports   map[*lab.Node]*lab.Port
	capture *lab.Capture
	mode    string // the mode of the virtual MAC; empty for the default
	holder  string // the interface with the virtual addresses; empty for any
}

// inModes runs a test in each mode of the virtual MAC.
func inModes(t *testing.T, test func(*site)) {
	t.Helper()
	t.Parallel()
	for _, mode := range []string{"bpf", "macvlan", "off"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.inMode(mode)
			test(s)
		})
	}
}

// inMode sets the mode of the virtual MAC for the failoverds of the site.
func (s *site) inMode(mode string) {
	s.mode = mode
	if mode == "macvlan" {
		s.holder = ""
	}
}

func newSite(t *testing.T) *site {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	l := lab.ForTest(t)
	s := &site{t: t, ctx: ctx, lab: l, ports: make(map[*lab.Node]*lab.Port), holder: ifname}
	var err error
	if s.lan, err = l.LAN("switch"); err != nil {
		t.Fatal(err)
	}
	s.a = s.host("a", 1)
	s.b = s.host("b", 2)
	s.c = s.host("c", 100)
	if s.capture, err = s.lan.Capture(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.capture.Close() })
	return s
}

func (s *site) host(name string, number int) *lab.Node {
	s.t.Helper()
	p, err := s.lan.Host(name, ifname, lab.Addresses(number)...)
	s.ok(err)
	s.ports[p.Node] = p
	return p.Node
}

func (s *site) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// failoverd starts failoverd on a node.
func (s *site) failoverd(n *lab.Node, args ...string) *lab.Failoverd {
	s.t.Helper()
	return s.failoverdEnv(nil, n, args...)
}

func (s *site) failoverdEnv(env []string, n *lab.Node, args ...string) *lab.Failoverd {
	s.t.Helper()
	return s.failoverdUnder(nil, env, n, args...)
}

// failoverdUnder starts failoverd under another program.
func (s *site) failoverdUnder(wrap, env []string, n *lab.Node, args ...string) *lab.Failoverd {
	s.t.Helper()
	if s.mode != "" {
		args = append(slices.Clone(args), "--virtual-mac", s.mode)
	}
	command := slices.Concat(wrap, []string{failoverd()}, args)
	f, err := n.Failoverd(env, command[0], command[1:]...)
	s.ok(err)
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("failoverd on %s wrote:\n%s", n.Name, f.Output())
		}
	})
	return f
}

// waitState waits for a state, beginning with the given line of the log, and returns the line
// after it.
func (s *site) waitState(f *lab.Failoverd, from int, family, state string) int {
	s.t.Helper()
	_, line, err := f.WaitState(s.ctx, from, family, state)
	s.ok(err)
	return line + 1
}

// waitHolder waits until the wanted routers, and no others, have the address.
func (s *site) waitHolder(address string, want ...*lab.Node) {
	s.t.Helper()
	if err := lab.WaitHolds(s.ctx, s.holder, address, []*lab.Node{s.a, s.b}, want...); err != nil {
		s.t.Fatalf("%v; VRRP on the wire:\n%s", err, s.capture.VRRP())
	}
}

// answeredBy asks for the address several times. Each time the wanted router alone has to answer.
func (s *site) answeredBy(address string, want *lab.Node) {
	s.t.Helper()
	wait := 200 * time.Millisecond
	if s.holder == "" {
		wait = 500 * time.Millisecond // the kernel delivers broadcasts to a macvlan later, from a work queue
	}
	for asked := 0; asked < 5; {
		got, err := s.capture.WhoAnswers(s.c, ifname, netip.MustParseAddr(address), wait)
		s.ok(err)
		asked++
		if len(got) == 0 && wait < patience/8 {
			wait, asked = 2*wait, 0 // the machine is busy
			continue
		}
		if !slices.Equal(got, []string{want.Name}) {
			s.t.Fatalf("%v answer for %s, want %s alone; VRRP on the wire:\n%s", got, address, want.Name, s.capture.VRRP())
		}
	}
}

// stop stops a failoverd, and checks that it leaves nothing behind.
func (s *site) stop(n *lab.Node, f *lab.Failoverd) {
	s.t.Helper()
	code, err := f.Stop(s.ctx)
	s.ok(err)
	if code != 0 {
		s.t.Errorf("failoverd on %s ended with exit code %d:\n%s", n.Name, code, f.Output())
	}
	s.clean(n)
}

// clean checks that nothing of failoverd is left on a node.
func (s *site) clean(n *lab.Node) {
	s.t.Helper()
	if left := leftovers(s.t, s.ctx, n); left != "" {
		s.t.Errorf("left behind on %s: %s", n.Name, left)
	}
}

func leftovers(t *testing.T, ctx context.Context, n *lab.Node) string {
	t.Helper()
	var left []string
	link, err := n.Run(ctx, "ip", "-o", "link", "show")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(link, "xdp") {
		left = append(left, "an XDP program")
	}
	if strings.Contains(link, "vrrp") {
		left = append(left, "a macvlan")
	}
	addr, err := n.Run(ctx, "ip", "-o", "addr", "show")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"198.18.0.10/", "2001:db8::10/", "fe80::12:33/"} {
		if strings.Contains(addr, a) {
			left = append(left, "address "+a)
		}
	}
	if err := n.Do(func() error {
		for _, path := range []string{"/run/failoverd", "/sys/fs/bpf/failoverd"} {
			if _, err := os.Stat(path); err == nil {
				left = append(left, path)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(left, ", ")
}
