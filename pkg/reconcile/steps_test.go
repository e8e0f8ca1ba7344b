// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/reconcile"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

var update = flag.Bool("update", false, "write the present steps to testdata")

// newMachine returns a machine without random events.
func newMachine() *machine {
	m := &machine{host: newHost(), faults: make(surroundings), plan: plan.New(nil, nil), calm: true}
	m.begin()
	return m
}

// router returns a router for the test.
func router(name, on string, vrid int, addresses ...string) *plan.ConfiguredRouter {
	r := config.Router{Name: name, Interface: on, VRID: vrid, Version: 3, Priority: 100, Interval: time.Second, DownAfter: 3, Accept: true, XDPMode: "auto", VirtualMAC: config.VirtualMACAuto}
	for _, a := range addresses {
		r.Addresses = append(r.Addresses, netip.MustParsePrefix(a))
	}
	return &plan.ConfiguredRouter{Router: r}
}

// with returns a router with a change.
func with(r *plan.ConfiguredRouter, change func(*plan.ConfiguredRouter)) *plan.ConfiguredRouter {
	one := *r
	change(&one)
	return &one
}

// load sets the plan to that of the routers.
func (m *machine) load(all ...*plan.ConfiguredRouter) {
	m.plan = plan.New(all, m.plan)
}

// active makes the first Virtual Router of a name Active and adds its addresses.
func (m *machine) active(name string) {
	for _, v := range m.plan.VirtualRouters {
		if v.Router.Name == name {
			m.run.elect(m.run.loop[v.ID])
			m.run.work()
			m.host.now++
			return
		}
	}
}

// steps reconciles and works until nothing is left to do, and returns the history.
func (m *machine) steps() string {
	m.history = nil
	for range 4 {
		before := len(m.history)
		m.reconcile()
		if len(m.history) == before+1 && len(m.run.jobs) == 0 { // there was nothing to do
			m.history = m.history[:before]
			break
		}
		if len(m.run.jobs) > 0 {
			m.note("the worker works")
			for range m.run.jobs {
				m.run.work()
			}
		}
	}
	var b strings.Builder
	for _, line := range m.history {
		if line != said("reconcile") {
			fmt.Fprintf(&b, "%s\n", line)
		}
	}
	return b.String()
}

// TestSteps compares the steps of each change and their order with testdata. After them, nothing
// must be left to do.
func TestSteps(t *testing.T) {
	web := router("web", "eth0", 51, "192.0.2.10/24")
	lan := router("lan", "eth0", 52, "192.0.2.11/24", "192.0.2.12/24")
	change := func(r *plan.ConfiguredRouter, f func(*config.Router)) *plan.ConfiguredRouter {
		return with(r, func(r *plan.ConfiguredRouter) { f(&r.Router) })
	}
	macvlan := change(web, func(r *config.Router) { r.VirtualMAC = config.VirtualMACMacvlan })
	owner := change(router("own", "eth0", 53, "192.0.2.200/24"), func(r *config.Router) { r.Priority = 255 })
	routed := change(web, func(r *config.Router) {
		r.Extra = []routing.Placed{{Address: netip.MustParsePrefix("198.51.100.9/32"), Interface: elsewhere}, {Address: netip.MustParsePrefix("192.0.2.20/24"), Interface: "eth0"}}
		r.Routes = []routing.Route{{To: netip.MustParsePrefix("203.0.113.0/24"), Interface: "eth0", Table: 254, Type: "unicast"}}
	})
	peers := change(web, func(r *config.Router) {
		r.Unicast = config.Unicast{Peers: []config.Peer{config.NewPeer(netip.MustParseAddr("192.0.2.77"))}, TTL: 255}
	})
	loaded := func(all ...*plan.ConfiguredRouter) func(*machine) {
		return func(m *machine) { m.load(all...) }
	}
	active := func(name string) func(*machine) { return func(m *machine) { m.active(name) } }
	killed := func(lease time.Duration, then ...func(*machine)) func(*machine) {
		return func(m *machine) {
			m.inherit(m.heirs(), lease)
			for _, f := range then {
				f(m)
			}
		}
	}
	eth0 := func(f func(*host, *link.Interface)) func(*machine) {
		return func(m *machine) { f(m.host, m.host.interfaces[2]) }
	}
	var got strings.Builder
	for _, c := range []struct {
		name   string
		before []func(*machine)
		change func(*machine)
	}{
		{"a router begins", nil, loaded(web)},
		{"an owner begins", nil, loaded(owner)},
		{"one with peers begins", nil, loaded(peers)},
		{"one with a macvlan begins", nil, loaded(macvlan)},
		{"both families begin", nil, loaded(router("web", "eth0", 51, "192.0.2.10/24", "fe80::10/64"))},
		{"nothing changes", []func(*machine){loaded(web)}, loaded(web)},
		{"an Active ends", []func(*machine){loaded(web), active("web")}, loaded()},
		{"an Active with a macvlan ends", []func(*machine){loaded(macvlan), active("web")}, loaded()},
		{"an Active with routes ends", []func(*machine){loaded(routed), active("web")}, loaded()},
		{"an owner ends", []func(*machine){loaded(owner)}, loaded()},
		{"an owner has an extra address less, which can't be removed", []func(*machine){
			loaded(change(owner, func(r *config.Router) {
				r.Extra = []routing.Placed{{Address: netip.MustParsePrefix("192.0.2.20/24"), Interface: "eth0"}}
			})),
			func(m *machine) {
				m.run.failing = func(s *reconcile.Step) error {
					if s.Verb == reconcile.Withdraw {
						return unix.EBUSY
					}
					return nil
				}
			}, loaded(owner),
		}, loaded()},
		{"one of two ends", []func(*machine){loaded(web, lan)}, loaded(lan)},
		{"another priority", []func(*machine){loaded(web), active("web")}, loaded(change(web, func(r *config.Router) { r.Priority = 150 }))},
		{"an address more", []func(*machine){loaded(web), active("web")}, loaded(router("web", "eth0", 51, "192.0.2.10/24", "192.0.2.13/24"))},
		{"an address less", []func(*machine){loaded(lan), active("lan")}, loaded(router("lan", "eth0", 52, "192.0.2.11/24"))},
		{"a route more", []func(*machine){loaded(web), active("web")}, loaded(routed)},
		{"a route less", []func(*machine){loaded(routed), active("web")}, loaded(web)},
		{"an address moves between Actives", []func(*machine){loaded(web, lan), active("web"), active("lan")}, loaded(router("web", "eth0", 51, "192.0.2.10/24", "192.0.2.12/24"), router("lan", "eth0", 52, "192.0.2.11/24"))},
		{"two swap all they have", []func(*machine){loaded(web, router("lan", "eth0", 52, "192.0.2.11/24")), active("web"), active("lan")}, loaded(router("web", "eth0", 51, "192.0.2.11/24"), router("lan", "eth0", 52, "192.0.2.10/24"))},
		{"a router moves to another interface", []func(*machine){loaded(web), active("web")}, loaded(change(web, func(r *config.Router) { r.Interface = "eth1" }))},
		{"another version", []func(*machine){loaded(web), active("web")}, loaded(change(web, func(r *config.Router) { r.Version = 2 }))},
		{"another way to have the virtual MAC", []func(*machine){loaded(macvlan), active("web")}, loaded(web)},
		{"another mode of receiving", []func(*machine){loaded(web)}, loaded(change(web, func(r *config.Router) { r.XDPMode = "off" }))},
		{"peers", []func(*machine){loaded(web)}, loaded(peers)},
		{"a check fails", []func(*machine){loaded(web), active("web")}, func(m *machine) { m.faults["web"] = vrrp.CauseFault }},
		{"the interface is down", []func(*machine){loaded(web), active("web")}, eth0(func(_ *host, i *link.Interface) { i.Up = false })},
		{"the interface is renamed", []func(*machine){loaded(web), active("web")}, eth0(func(h *host, i *link.Interface) { h.rename(i, "laneth0") })},
		{"the interface goes", []func(*machine){loaded(web), active("web")}, eth0(func(h *host, i *link.Interface) { h.unplug(i) })},
		{"the interface comes again", []func(*machine){loaded(web), eth0(func(h *host, i *link.Interface) { h.unplug(i) })}, func(m *machine) { m.host.plug("eth0") }},
		{"the interface has another MAC", []func(*machine){loaded(web)}, eth0(func(_ *host, i *link.Interface) { i.MAC = packet.MAC{2, 9} })},
		{"the interface's address goes", []func(*machine){loaded(web)}, eth0(func(h *host, i *link.Interface) {
			delete(h.own, spot{i.Index, netip.MustParseAddr("192.0.2.1")})
			h.release(i.Index, netip.MustParseAddr("192.0.2.1"))
		})},
		{"a stranger takes an address", []func(*machine){loaded(web), active("web")}, func(m *machine) { m.take(); m.host.now++ }},
		{"a stranger adds one to a Backup", []func(*machine){loaded(web)}, func(m *machine) { m.add() }},
		{"a stranger adds one to a macvlan", []func(*machine){loaded(macvlan)}, func(m *machine) {
			m.host.assign(m.host.named("vrrp4-2-51").Index, netip.MustParsePrefix("192.0.2.99/24"), plan.ID{})
		}},
		{"a stranger removes the macvlan", []func(*machine){loaded(macvlan), active("web")}, func(m *machine) { m.unmake() }},
		{"a stranger resets the setting", []func(*machine){loaded(macvlan)}, func(m *machine) { m.host.sysctls[arpAnnounce("eth0")] = 1 }},
		{"a stranger deletes a slot", []func(*machine){loaded(web)}, func(m *machine) { clear(m.run.slots) }},
		{"a stranger detaches the programs", []func(*machine){loaded(web)}, func(m *machine) { m.detach() }},
		{"an address of nobody's stayed", []func(*machine){loaded(web)}, func(m *machine) {
			p := netip.MustParsePrefix("192.0.2.98/24")
			m.host.journal[link.JournalAddress{Ifindex: 2, Name: "eth0", Prefix: p}] = true
			m.host.assign(2, p, plan.ID{})
		}},
		{"a macvlan of nobody's stayed", []func(*machine){loaded(web)}, func(m *machine) {
			d := link.NewDevice(3, packet.IPv4, 99)
			m.host.journal[d] = true
			m.host.interfaces[9] = &link.Interface{Index: 9, Name: d.Name, Kind: "macvlan", Parent: 3, MAC: d.MAC}
		}},
		{"a killed Active continues", []func(*machine){loaded(web), active("web")}, killed(time.Second)},
		{"a killed Active with a macvlan continues", []func(*machine){loaded(macvlan), active("web")}, killed(time.Second)},
		{"a killed Active with routes continues", []func(*machine){loaded(routed), active("web")}, killed(time.Second)},
		{"a killed Active starts too late", []func(*machine){loaded(web), active("web")}, killed(0)},
		{"a killed Active with a macvlan starts too late", []func(*machine){loaded(macvlan), active("web")}, killed(0)},
		{"a check of a killed Active fails", []func(*machine){loaded(routed), active("web")}, killed(time.Second, func(m *machine) { m.faults["web"] = vrrp.CauseFault })},
		{"another router's address can't be removed", []func(*machine){loaded(web), active("web"), func(m *machine) {
			m.run.failing = func(s *reconcile.Step) error {
				if s.Verb == reconcile.Withdraw {
					return unix.EIO
				}
				return nil
			}
		}}, loaded(router("lan", "eth0", 52, "192.0.2.10/24"))},
	} {
		m := newMachine()
		for _, f := range c.before {
			f(m)
			m.steps()
		}
		c.change(m)
		fmt.Fprintf(&got, "%s:\n%s\n", c.name, m.steps())
		if again, err := m.runner.Plan(m.plan); err != nil || len(again) > 0 && !strings.HasSuffix(c.name, "can't be removed") {
			t.Errorf("%s: there is more to do: %v %v", c.name, again, err)
		}
	}
	const path = "testdata/steps.txt"
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	for v := reconcile.Stop; v <= reconcile.Erase; v++ {
		if !slices.ContainsFunc(strings.Split(got.String(), "\n"), func(line string) bool { return strings.HasPrefix(line, "    "+v.String()) }) {
			t.Errorf("no step has the verb %s", v)
		}
	}
}

// A list of the interfaces that is older than a removal still has the removed address. It is no
// leftover.
func TestRemovedAddressInOlderList(t *testing.T) {
	m := newMachine()
	m.load(router("web", "eth0", 51, "192.0.2.10/24"))
	m.steps()
	m.active("web")
	m.steps()
	m.run.listing()
	m.run.stale = true
	m.faults["web"] = vrrp.CauseFault
	m.steps()
	steps := func() string {
		all, err := m.runner.Plan(m.plan)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(all)
	}
	if got := steps(); strings.Contains(got, "192.0.2.10") {
		t.Errorf("steps: %s", got)
	}
	for _, l := range m.run.loop {
		if l.Released == 0 {
			t.Error("the removal has not ended")
		}
		l.Released = 0
	}
	if got := steps(); !strings.Contains(got, "192.0.2.10") {
		t.Errorf("the list isn't older: %s", got)
	}
}
