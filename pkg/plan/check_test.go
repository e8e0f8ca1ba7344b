// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
)

// Problems of configurations on a host.
func TestCheck(t *testing.T) {
	web := newRouter("web", "eth0", 51, "192.0.2.10/24")
	with := func(change func(*ConfiguredRouter)) *ConfiguredRouter {
		one := *web
		change(&one)
		return &one
	}
	for name, c := range map[string]struct {
		routers []*ConfiguredRouter
		change  func(*scene)
		wait    string // part of the error if routers may wait
		now     string
	}{
		"fine":                    {[]*ConfiguredRouter{web}, func(*scene) {}, "", ""},
		"the loopback":            {[]*ConfiguredRouter{newRouter("web", "lo", 51, "192.0.2.10/24")}, func(*scene) {}, "is the loopback", "is the loopback"},
		"no interface":            {[]*ConfiguredRouter{newRouter("web", "eth7", 51, "192.0.2.10/24")}, func(*scene) {}, "", "this host has eth0, eth1"},
		"no address":              {[]*ConfiguredRouter{web}, func(s *scene) { s.interfaces("eth0").Addresses = nil }, "", "ip addr add 192.0.2.2/24 dev eth0"},
		"no link-local address":   {[]*ConfiguredRouter{newRouter("web", "eth0", 51, "2001:db8::10/64")}, func(s *scene) { s.interfaces("eth0").Addresses = nil }, "", "ip addr add fe80::2/64 dev eth0"},
		"a virtual address alone": {[]*ConfiguredRouter{newRouter("web", "eth0", 51, "192.0.2.1/24")}, func(*scene) {}, "is the only address of interface eth0", "is the only address of interface eth0"},
		"no source": {[]*ConfiguredRouter{with(func(r *ConfiguredRouter) {
			r.Unicast = config.Unicast{Peers: []config.Peer{config.NewPeer(netip.MustParseAddr("192.0.2.7"))}, Sources: []netip.Addr{netip.MustParseAddr("192.0.2.5")}}
		})}, func(*scene) {}, "", "the source 192.0.2.5 is not on interface eth0"},
		"no global address": {[]*ConfiguredRouter{with(func(r *ConfiguredRouter) {
			r.Addresses = []netip.Prefix{netip.MustParsePrefix("2001:db8:1::10/64")}
			r.Unicast.Peers = []config.Peer{config.NewPeer(netip.MustParseAddr("2001:db8::7"))}
		})}, func(s *scene) { s.interfaces("eth0").Addresses = nil }, "", "ip addr add 2001:db8::2/64 dev eth0"},
		"a VRID twice": {[]*ConfiguredRouter{web, with(func(r *ConfiguredRouter) {
			r.Index, r.Addresses = 1, []netip.Prefix{netip.MustParsePrefix("192.0.2.11/24")}
		})}, func(*scene) {}, "VRID 51 is used twice on eth0", "VRID 51 is used twice on eth0"},
		"a VRID of each family": {[]*ConfiguredRouter{web, with(func(r *ConfiguredRouter) {
			r.Index, r.Addresses = 1, []netip.Prefix{netip.MustParsePrefix("fe80::11/64")}
		})}, func(*scene) {}, "", ""},
		"an address twice":           {[]*ConfiguredRouter{web, newRouter("lan", "eth1", 52, "192.0.2.10/24")}, func(*scene) {}, "an address can belong to one router only", "an address can belong to one router only"},
		"a link-local address twice": {[]*ConfiguredRouter{newRouter("web", "eth0", 51, "fe80::10/64"), newRouter("lan", "eth1", 52, "fe80::10/64")}, func(*scene) {}, "", ""},
		"an address on the host":     {[]*ConfiguredRouter{web}, func(s *scene) { s.has("eth1", "192.0.2.10/24") }, "", "ip addr del 192.0.2.10/24 dev eth1"},
	} {
		s := newScene()
		c.change(s)
		for wait, want := range map[bool]string{true: c.wait, false: c.now} {
			text := ""
			for _, err := range []error{
				CheckInterfaces(c.routers, s.now.Interfaces, wait),
				CheckAddresses(c.routers, s.now.Interfaces, wait, func(int, netip.Addr) bool { return false }),
			} {
				if err != nil {
					text += err.Error() + "\n"
				}
			}
			if (text == "") != (want == "") || !strings.Contains(text, want) {
				t.Errorf("%s, waiting %v: %q", name, wait, text)
			}
		}
	}
}

func TestComplete(t *testing.T) {
	r := newRouter("web", "eth0", 51, "2001:db8::10/64").Router
	r.Interval, r.DownAfter, r.Announcements = 1e9, 3, 1
	routers, err := Complete([]config.Router{r})
	if err != nil || len(routers) != 1 || routers[0].LinkLocal != netip.MustParsePrefix("fe80::12:33/64") || !slices.Contains(routers[0].Addresses, routers[0].LinkLocal) {
		t.Errorf("%+v, %v", routers, err)
	}
	r.VRID = 0
	if _, err = Complete([]config.Router{r}); err == nil || !strings.Contains(err.Error(), "VRID 0") {
		t.Error(err)
	}
}

func TestChanges(t *testing.T) {
	one := func(name string, vrid int, addresses ...string) config.Router {
		return newRouter(name, "eth0", vrid, addresses...).Router
	}
	web, lan, six := one("web", 51, "192.0.2.10/24"), one("lan", 52, "192.0.2.11/24"), one("six", 51, "fe80::10/64")
	slow, old := web, web
	slow.Priority, old.XDPMode = 90, "off"
	for name, c := range map[string]struct {
		before, after []config.Router
		want          []Change
	}{
		"nothing":          {[]config.Router{web, lan}, []config.Router{lan, web}, nil},
		"added":            {[]config.Router{web}, []config.Router{web, lan}, []Change{{Router: "lan", What: "added"}}},
		"removed":          {[]config.Router{web, lan}, []config.Router{web}, []Change{{Router: "lan", What: "removed"}}},
		"another family's": {[]config.Router{web}, []config.Router{six}, []Change{{Router: "web", What: "removed"}, {Router: "six", What: "added"}}},
		"changed":          {[]config.Router{web}, []config.Router{slow}, []Change{{Router: "web", What: "changed", Details: []string{"priority: 100 → 90"}}}},
		"restarted":        {[]config.Router{web}, []config.Router{old}, []Change{{Router: "web", What: "restarted", Details: []string{"xdp_mode: auto → off"}}}},
	} {
		if diff := cmp.Diff(c.want, Changes(c.before, c.after)); diff != "" {
			t.Errorf("%s: want (-), got (+):\n%s", name, diff)
		}
	}
}

func TestSorted(t *testing.T) {
	p := New([]*ConfiguredRouter{newRouter("c", "eth1", 51, "192.0.3.10/24"), newRouter("b", "eth0", 52, "192.0.2.11/24"), newRouter("a", "eth0", 51, "fe80::10/64", "192.0.2.10/24")}, nil)
	var names []string
	for _, v := range p.Sorted() {
		names = append(names, v.Router.Name+" "+v.Family.String())
	}
	if want := []string{"a ipv4", "a ipv6", "b ipv4", "c ipv4"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	if len(p.Addresses()) != 4 {
		t.Errorf("%v", p.Addresses())
	}
}

// A macvlan that differs from how it would be created now is created again.
func TestStaleDevice(t *testing.T) {
	s := newScene()
	s.first().VirtualMAC = config.VirtualMACMacvlan
	s.interfaces("eth0").MTU = 1500
	device := *s.desired().Wants[0].Device
	s.device(device)
	s.interfaces(device.Name).MTU = 1500
	if w := s.desired().Wants[0]; w.Binding == nil || w.Device == nil {
		t.Errorf("%+v", w)
	}
	s.interfaces(device.Name).MTU = 1000
	if w := s.desired().Wants[0]; w.Binding != nil || w.Device != nil || !link.Stale(*s.interfaces(device.Name), s.now.Interfaces) {
		t.Errorf("%+v", w)
	}
}

func TestSubscription(t *testing.T) {
	s := newScene()
	if h := s.desired().Wants[0].Subscription(); h != (Subscription{Ifindex: 2}) {
		t.Errorf("%+v", h)
	}
	s.unicast("192.0.2.7", "")
	if h := s.desired().Wants[0].Subscription(); h != (Subscription{Ifindex: 2, Unicast: true}) {
		t.Errorf("%+v", h)
	}
}
