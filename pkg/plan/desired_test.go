// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// surroundings has the faults of routers, by name.
type surroundings map[string]vrrp.Cause

func (s surroundings) Fault(name string) (vrrp.Cause, string) {
	if s[name] == vrrp.CauseNone {
		return vrrp.CauseNone, ""
	}
	return s[name], "check web failed"
}

func (s surroundings) Priority(r config.Router) int { return r.Priority }

// scene is a host with one router that can take part.
type scene struct {
	routers []*ConfiguredRouter
	now     *Picture
	failed  *Failures
	faults  surroundings
	before  *Plan
}

func newScene() *scene {
	up := func(i link.Interface) link.Interface {
		i.Up, i.Running, i.MAC = true, true, packet.MAC{2, 0, 0, 0, 0, byte(i.Index)}
		return i
	}
	return &scene{
		routers: []*ConfiguredRouter{newRouter("web", "eth0", 51, "192.0.2.10/24")},
		now: &Picture{
			Interfaces: []link.Interface{
				up(ether(1, "lo", link.KindLoopback, "127.0.0.1/8")),
				up(ether(2, "eth0", "", "192.0.2.1/24", "fe80::1/64", "2001:db8::1/64")),
				up(ether(3, "eth1", "", "192.0.3.1/24", "fe80::2/64")),
			},
			Ports:     map[string]OpenPort{"eth0": {Port: Port{Ifindex: 2, Name: "eth0", Mode: "auto"}, TC: "tcx"}, "eth1": {Port: Port{Ifindex: 3, Name: "eth1", Mode: "auto"}, TC: "tcx"}},
			Installed: make(map[ID]*Installed), Journal: make(map[Note]bool),
		},
		failed: &Failures{Ports: make(map[string]error), VirtualRouters: make(map[ID]error), Macvlans: make(map[ID]error)},
		faults: make(surroundings),
	}
}

func newRouter(name, on string, vrid int, addresses ...string) *ConfiguredRouter {
	r := router(100, addresses...)
	r.Name, r.Interface, r.VRID, r.Version, r.Accept, r.XDPMode, r.VirtualMAC = name, on, vrid, 3, true, "auto", config.VirtualMACAuto
	return &ConfiguredRouter{Router: r}
}

// first returns the scene's own router.
func (s *scene) first() *ConfiguredRouter { return s.routers[0] }

func (s *scene) interfaces(name string) *link.Interface {
	return &s.now.Interfaces[slices.IndexFunc(s.now.Interfaces, func(i link.Interface) bool { return i.Name == name })]
}

func (s *scene) has(name, address string) {
	i := s.interfaces(name)
	i.Addresses = append(i.Addresses, link.Address{Prefix: netip.MustParsePrefix(address)})
}

// unfenced detaches the TC programs.
func (s *scene) unfenced() {
	s.now.Ports["eth0"] = OpenPort{Port: s.now.Ports["eth0"].Port, Unfenced: errors.New("no TC")}
}

// runs makes the first router take part with a source address.
func (s *scene) runs(source string) {
	s.before = New(s.routers, nil)
	v := s.before.VirtualRouters[0]
	from := netip.MustParseAddr(source)
	s.now.Installed[v.ID] = &Installed{Entry: &Entry{V: v, Ifindex: 2, Source: from}, Loop: &LoopState{V: v, Binding: &Binding{Ifindex: 2, Source: from}}}
}

func (s *scene) desired() *Target {
	return Desired(New(s.routers, s.before), s.faults, s.now, s.failed)
}

// Each of these obstacles keeps a router from taking part, and nothing else does.
func TestObstacles(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*scene)
		cause  vrrp.Cause
		text   string // part of it
	}{
		"nothing":                {func(*scene) {}, vrrp.CauseNone, ""},
		"no interface":           {func(s *scene) { s.first().Interface = "eth7" }, vrrp.CauseWaiting, "there is no interface eth7"},
		"the interface has gone": {func(s *scene) { s.runs("192.0.2.1"); s.interfaces("eth0").Name, s.interfaces("eth0").Index = "eth9", 9 }, vrrp.CauseInterfaceRemoved, "no interface eth0"},
		"the loopback":           {func(s *scene) { s.first().Interface = "lo" }, vrrp.CauseWaiting, "is the loopback"},
		"renamed":                {func(s *scene) { s.interfaces("eth0").Name = "lan" }, vrrp.CauseNone, ""},
		"an owner's, renamed": {func(s *scene) {
			s.first().Priority = 255
			s.has("eth0", "192.0.2.10/24")
			s.first().Extra = []routing.Placed{{Address: netip.MustParsePrefix("192.0.2.20/24"), Interface: "eth0"}}
			s.interfaces("eth0").Name = "lan"
		}, vrrp.CauseNone, ""},
		"not Ethernet": {func(s *scene) {
			s.first().Interface = "tun0"
			s.now.Interfaces = append(s.now.Interfaces, link.Interface{Index: 8, Name: "tun0", Kind: "tun"})
		}, vrrp.CauseWaiting, "no MAC addresses"},
		"too long for the MTU": {func(s *scene) {
			for n := range 100 {
				s.first().Addresses = append(s.first().Addresses, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + n)}), 24))
			}
			s.interfaces("eth0").MTU = 400
		}, vrrp.CauseFault, "MTU"},
		"another with the name":  {func(s *scene) { s.first().Interface = "lan"; s.interfaces("eth0").Name = "lan" }, vrrp.CauseWaiting, "interface lan was named eth0 before"},
		"the port isn't open":    {func(s *scene) { delete(s.now.Ports, "eth0") }, vrrp.CauseWaiting, "isn't in use yet"},
		"the port can't be open": {func(s *scene) { delete(s.now.Ports, "eth0"); s.failed.Ports["eth0"] = errors.New("no memory") }, vrrp.CauseWaiting, "no memory"},
		"another mode":           {func(s *scene) { s.first().XDPMode = "off" }, vrrp.CauseWaiting, "isn't in use yet"},
		"down":                   {func(s *scene) { s.interfaces("eth0").Up = false }, vrrp.CauseInterfaceDown, "eth0 is down"},
		"no carrier":             {func(s *scene) { s.interfaces("eth0").Running = false }, vrrp.CauseInterfaceDown, "no carrier"},
		"no IPv4 address":        {func(s *scene) { s.interfaces("eth0").Addresses = s.interfaces("eth0").Addresses[1:] }, vrrp.CauseNoAddress, "no IPv4 address"},
		"a virtual address alone": {func(s *scene) {
			s.interfaces("eth0").Addresses = nil
			s.has("eth0", "192.0.2.10/24")
			s.now.Journal[link.JournalAddress{Ifindex: 2, Name: "eth0", Prefix: netip.MustParsePrefix("192.0.2.10/24")}] = true
		}, vrrp.CauseNoAddress, "no IPv4 address"},
		"no link-local address": {func(s *scene) {
			s.routers[0] = newRouter("web", "eth0", 51, "2001:db8::10/64")
			s.interfaces("eth0").Addresses = s.interfaces("eth0").Addresses[2:]
		}, vrrp.CauseNoAddress, "no IPv6 link-local address"},
		"no global address": {func(s *scene) {
			s.routers[0] = newRouter("web", "eth0", 51, "2001:db8::10/64")
			s.first().Unicast.Peers = []config.Peer{config.NewPeer(netip.MustParseAddr("2001:db8::7"))}
			s.interfaces("eth0").Addresses = s.interfaces("eth0").Addresses[:2]
		}, vrrp.CauseNoAddress, "no global IPv6 address"},
		"no source": {func(s *scene) {
			s.first().Unicast = config.Unicast{Peers: []config.Peer{config.NewPeer(netip.MustParseAddr("192.0.2.7"))}, Sources: []netip.Addr{netip.MustParseAddr("192.0.2.5")}}
		}, vrrp.CauseNoAddress, "doesn't have the source 192.0.2.5"},
		"a tentative source": {func(s *scene) {
			s.routers[0] = newRouter("web", "eth0", 51, "fe80::10/64")
			s.interfaces("eth0").Addresses[1].Tentative = true
		}, vrrp.CauseNoAddress, "no IPv6 link-local address"},
		"a check":              {func(s *scene) { s.faults["web"] = vrrp.CauseFault }, vrrp.CauseFault, "check web failed"},
		"on another interface": {func(s *scene) { s.has("eth1", "192.0.2.10/32") }, vrrp.CauseWaiting, "ip addr del 192.0.2.10/32 dev eth1"},
		"on another, of failoverd": {func(s *scene) {
			s.has("eth1", "192.0.2.10/32")
			s.now.Journal[routing.Placed{Address: netip.MustParsePrefix("192.0.2.10/32"), Interface: "eth1"}] = true
		}, vrrp.CauseNone, ""},
		"on another while it runs": {func(s *scene) { s.runs("192.0.2.1"); s.has("eth1", "192.0.2.10/32") }, vrrp.CauseNone, ""},
		"on the interface":         {func(s *scene) { s.has("eth0", "192.0.2.10/25") }, vrrp.CauseWaiting, "ip addr del 192.0.2.10/25 dev eth0"},
		"on it, written down": {func(s *scene) {
			s.has("eth0", "192.0.2.10/24")
			s.now.Journal[link.JournalAddress{Ifindex: 2, Name: "old", Prefix: netip.MustParsePrefix("192.0.2.10/24")}] = true
		}, vrrp.CauseNone, ""},
		"on a macvlan of failoverd's": {func(s *scene) {
			d := link.NewDevice(2, packet.IPv4, 51)
			s.now.Journal[d] = true
			s.device(d)
			s.has(d.Name, "192.0.2.10/24")
		}, vrrp.CauseNone, ""},
		"on a macvlan of the other family": {func(s *scene) {
			d := link.NewDevice(2, packet.IPv6, 51)
			s.now.Journal[d] = true
			s.device(d)
			s.has(d.Name, "192.0.2.10/24")
		}, vrrp.CauseNone, ""},
		"on a macvlan of somebody's":  {func(s *scene) { d := link.NewDevice(2, packet.IPv4, 51); s.device(d); s.has(d.Name, "192.0.2.10/24") }, vrrp.CauseWaiting, "already on interface vrrp4-2-51"},
		"an owner without":            {func(s *scene) { s.first().Priority = 255 }, vrrp.CauseWaiting, "priority 255 is for the owner"},
		"an owner":                    {func(s *scene) { s.first().Priority = 255; s.has("eth0", "192.0.2.10/24") }, vrrp.CauseNone, ""},
		"Accept_Mode without a fence": {func(s *scene) { s.first().Accept = false; s.unfenced() }, vrrp.CauseWaiting, "Accept_Mode is false): no TC"},
		"bpf without TC":              {func(s *scene) { s.first().VirtualMAC = config.VirtualMACBPF; s.unfenced() }, vrrp.CauseWaiting, "no TC"},
		"the kernel doesn't take it": {func(s *scene) {
			s.failed.VirtualRouters[New(s.routers, nil).VirtualRouters[0].ID] = errors.New("no space")
		}, vrrp.CauseWaiting, "no space"},
		"it fails though it takes part": {func(s *scene) {
			s.runs("192.0.2.1")
			s.failed.VirtualRouters[New(s.routers, nil).VirtualRouters[0].ID] = errors.New("no space")
		}, vrrp.CauseNone, ""},
		"another of its group": {func(s *scene) {
			s.first().Group = "gate"
			other := newRouter("lan", "eth1", 52, "192.0.3.10/24")
			other.Group = "gate"
			s.routers = append(s.routers, other)
			s.interfaces("eth1").Up = false
		}, vrrp.CauseGroup, "group gate: VRID 52 on eth1 (ipv4): interface is down"},
		"another group": {func(s *scene) {
			other := newRouter("lan", "eth1", 52, "192.0.3.10/24")
			other.Group = "gate"
			s.routers = append(s.routers, other)
			s.interfaces("eth1").Up = false
		}, vrrp.CauseNone, ""},
		"its other family": {func(s *scene) {
			s.routers[0] = newRouter("web", "eth0", 51, "192.0.2.10/24", "fe80::10/64")
			s.first().FamiliesTogether = true
			s.interfaces("eth0").Addresses = s.interfaces("eth0").Addresses[:1]
		}, vrrp.CauseGroup, "router web"},
		"its other family alone": {func(s *scene) {
			s.routers[0] = newRouter("web", "eth0", 51, "192.0.2.10/24", "fe80::10/64")
			s.interfaces("eth0").Addresses = s.interfaces("eth0").Addresses[:1]
		}, vrrp.CauseNone, ""},
	} {
		s := newScene()
		c.change(s)
		w := s.desired().Wants[0]
		if w.Obstacle.Cause != c.cause || !strings.Contains(w.Obstacle.String(), c.text) {
			t.Errorf("%s: %v, %q", name, w.Obstacle.Cause, w.Obstacle)
		}
		if takes := w.Binding != nil; takes != (c.cause == vrrp.CauseNone) || w.Entry != nil && w.Entry.Running != takes {
			t.Errorf("%s: the router takes part: %v %+v", name, w.Binding, w.Entry)
		}
	}
}

// A router waits briefly while a condition says so for it or for another of its group, and while
// nothing else keeps it from taking part.
func TestBrief(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*scene)
		brief  bool
	}{
		"no result yet":    {func(s *scene) { s.faults["lan"] = vrrp.CauseWaiting }, true},
		"a bad result":     {func(s *scene) { s.faults["lan"] = vrrp.CauseFault }, false},
		"interface down":   {func(s *scene) { s.faults["lan"] = vrrp.CauseWaiting; s.interfaces("eth1").Up = false }, false},
		"another obstacle": {func(s *scene) { delete(s.now.Ports, "eth1") }, false},
		"none":             {func(*scene) {}, false},
	} {
		s := newScene()
		s.first().Group = "gate"
		other := newRouter("lan", "eth1", 52, "192.0.3.10/24")
		other.Group = "gate"
		s.routers = append(s.routers, other)
		c.change(s)
		for _, w := range s.desired().Wants {
			if w.Obstacle.Brief != c.brief {
				t.Errorf("%s: %s waits for %+v", name, w.V.Router.Name, w.Obstacle)
			}
		}
	}
}

// device adds a macvlan to the host.
func (s *scene) device(d link.Device) {
	s.now.Interfaces = append(s.now.Interfaces, link.Interface{Index: 7, Name: d.Name, Kind: "macvlan", Parent: d.Parent, MAC: d.MAC, Up: true, Running: true})
}

func TestMACModes(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*scene)
		way    config.VirtualMAC
		device bool
		filter int
	}{
		"auto":            {func(*scene) {}, config.VirtualMACBPF, false, 2},
		"auto without TC": {func(s *scene) { s.unfenced() }, config.VirtualMACMacvlan, true, 2},
		"auto without a macvlan": {func(s *scene) {
			s.unfenced()
			s.failed.Macvlans[New(s.routers, nil).VirtualRouters[0].ID] = errors.New("no macvlan")
		}, config.VirtualMACOff, false, 0},
		"an owner without TC": {func(s *scene) { s.unfenced(); s.first().Priority = 255; s.has("eth0", "192.0.2.10/24") }, config.VirtualMACOff, false, 0},
		"to peers": {func(s *scene) {
			s.first().Unicast.Peers = []config.Peer{config.NewPeer(netip.MustParseAddr("192.0.2.7"))}
		}, config.VirtualMACOff, false, 0},
		"macvlan": {func(s *scene) { s.first().VirtualMAC = config.VirtualMACMacvlan }, config.VirtualMACMacvlan, true, 2},
		"off":     {func(s *scene) { s.first().VirtualMAC = config.VirtualMACOff }, config.VirtualMACOff, false, 0},
	} {
		s := newScene()
		c.change(s)
		host := s.desired()
		w := host.Wants[0]
		if w.MACMode != c.way || (w.Device != nil) != c.device || w.Filter() != c.filter || host.MacvlanParents["eth0"] != c.device || w.Entry == nil || w.Entry.MACMode != c.way {
			t.Errorf("%s: %+v, settings %v", name, w, host.MacvlanParents)
		}
		if (w.Binding == nil) != c.device {
			t.Errorf("%s: the router takes part before its macvlan exists: %v", name, w.Binding)
		}
		if !c.device {
			continue
		}
		s.device(*w.Device)
		if w = s.desired().Wants[0]; w.Binding == nil || w.Binding.Device != 7 || w.Binding.AddressIfindex() != 7 {
			t.Errorf("%s: with its macvlan the router takes part %v", name, w.Binding)
		}
		s.interfaces(w.Device.Name).MAC[0]++ // now it is another program's
		if w = s.desired().Wants[0]; w.Binding != nil {
			t.Errorf("%s: the router takes part on another program's macvlan", name)
		}
	}
}

// The source address stays the same as long as it can be used.
func TestSource(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*scene)
		want   string
	}{
		"the first":               {func(*scene) {}, "192.0.2.1"},
		"as before":               {func(s *scene) { s.has("eth0", "192.0.2.3/24"); s.runs("192.0.2.3") }, "192.0.2.3"},
		"the one before has gone": {func(s *scene) { s.runs("192.0.2.3") }, "192.0.2.1"},
		"a given one":             {func(s *scene) { s.has("eth0", "192.0.2.3/24"); s.unicast("192.0.2.7", "192.0.2.3") }, "192.0.2.3"},
		"a given one instead of another": {func(s *scene) {
			s.has("eth0", "192.0.2.3/24")
			s.unicast("192.0.2.7", "192.0.2.3")
			s.runs("192.0.2.1")
		}, "192.0.2.3"},
		"link-local": {func(s *scene) { s.routers[0] = newRouter("web", "eth0", 51, "2001:db8::10/64") }, "fe80::1"},
		"link-local to such peers": {func(s *scene) {
			s.routers[0] = newRouter("web", "eth0", 51, "2001:db8::10/64")
			s.unicast("fe80::7", "")
		}, "fe80::1"},
		"global to others": {func(s *scene) {
			s.routers[0] = newRouter("web", "eth0", 51, "2001:db8::10/64")
			s.unicast("2001:db8::7", "")
		}, "2001:db8::1"},
		"global instead of link-local": {func(s *scene) {
			s.routers[0] = newRouter("web", "eth0", 51, "2001:db8::10/64")
			s.unicast("2001:db8::7", "")
			s.runs("fe80::1")
		}, "2001:db8::1"},
		"not a virtual one": {func(s *scene) {
			s.routers[0] = newRouter("web", "eth0", 51, "192.0.2.1/24")
			s.now.Journal[link.JournalAddress{Ifindex: 2, Prefix: netip.MustParsePrefix("192.0.2.1/24")}] = true
			s.has("eth0", "192.0.2.3/24")
		}, "192.0.2.3"},
		"not an extra one": {func(s *scene) {
			s.first().Extra = []routing.Placed{{Address: netip.MustParsePrefix("192.0.2.1/24"), Interface: "eth0"}}
			s.now.Journal[link.JournalAddress{Ifindex: 2, Prefix: netip.MustParsePrefix("192.0.2.1/24")}] = true
			s.has("eth0", "192.0.2.3/24")
		}, "192.0.2.3"},
		"an owner's":                   {func(s *scene) { s.routers[0] = newRouter("web", "eth0", 51, "192.0.2.1/24"); s.first().Priority = 255 }, "192.0.2.1"},
		"of one that waits, as before": {func(s *scene) { s.runs("192.0.2.9"); s.interfaces("eth0").Addresses = nil }, "192.0.2.9"},
	} {
		s := newScene()
		c.change(s)
		if w := s.desired().Wants[0]; w.Entry == nil || w.Entry.Source.String() != c.want {
			t.Errorf("%s: %+v", name, w.Entry)
		}
	}
}

func (s *scene) unicast(peer, source string) {
	s.first().Unicast = config.Unicast{Peers: []config.Peer{config.NewPeer(netip.MustParseAddr(peer))}, TTL: 64}
	if source != "" {
		s.first().Unicast.Sources = []netip.Addr{netip.MustParseAddr(source)}
	}
}

// Packets from neighbours have a TTL that distant hosts can't produce.
func TestHops(t *testing.T) {
	s := newScene()
	s.unicast("192.0.2.7", "")
	s.first().Unicast.Peers = append(s.first().Unicast.Peers, config.NewPeer(netip.MustParseAddr("198.51.100.7")), config.Peer{Address: netip.MustParseAddr("192.0.2.8"), MinTTL: 3, MaxTTL: 4},
		config.NewPeer(netip.MustParseAddr("2001:db8::7")))
	want := map[string]packet.Hops{"192.0.2.7": {Min: 64, Max: 255}, "198.51.100.7": {Max: 255}, "192.0.2.8": {Min: 3, Max: 4}}
	peers := s.desired().Wants[0].Entry.Peers
	for a, hops := range peers {
		if hops != want[a.String()] {
			t.Errorf("%s: %+v", a, hops)
		}
	}
	if len(peers) != len(want) {
		t.Errorf("peers %v", peers)
	}
}

func TestPorts(t *testing.T) {
	s := newScene()
	s.routers = append(s.routers, newRouter("lan", "eth7", 52, "192.0.3.10/24"))
	s.interfaces("eth0").Name = "lan0"
	if ports := s.desired().Ports; len(ports) != 1 || ports["eth0"] != (Port{Ifindex: 2, Name: "lan0", Mode: "auto"}) {
		t.Errorf("%+v", ports)
	}
}

// The notes of a Virtual Router, and how it changes.
func TestVirtual(t *testing.T) {
	r := newRouter("web", "eth0", 51, "192.0.2.10/24", "2001:db8::10/64")
	r.Extra = []routing.Placed{{Address: netip.MustParsePrefix("192.0.2.20/24"), Interface: "eth0"}, {Address: netip.MustParsePrefix("192.0.3.20/24"), Interface: "eth1"}}
	r.Routes = []routing.Route{{To: netip.MustParsePrefix("203.0.113.0/24"), Table: 254, Type: "unicast"}}
	r.Rules = []routing.Rule{{Table: 100, Priority: 1000, IPv6: true}}
	p := New([]*ConfiguredRouter{r}, nil)
	four, six := p.VirtualRouters[0], p.VirtualRouters[1]
	if p.VirtualRouter(four.ID) != four || p.VirtualRouter(ID{}) != nil {
		t.Error("the Virtual Router isn't found")
	}
	device := link.NewDevice(2, packet.IPv4, 51)
	want := []Note{
		device,
		link.JournalAddress{Ifindex: 2, Name: "eth0", Prefix: netip.MustParsePrefix("192.0.2.10/24")},
		link.JournalAddress{Ifindex: 2, Name: "eth0", Prefix: netip.MustParsePrefix("192.0.2.20/24")},
		routing.Placed{Address: netip.MustParsePrefix("192.0.3.20/24"), Interface: "eth1"},
		routing.Route{To: netip.MustParsePrefix("203.0.113.0/24"), Table: 254, Type: "unicast"},
	}
	if notes := four.Notes(2, "eth0", &device); !slices.Equal(notes, want) {
		t.Errorf("%v", notes)
	}
	if notes := six.Notes(2, "eth0", nil); len(notes) != 2 || notes[1] != Note(routing.Rule{Table: 100, Priority: 1000, IPv6: true}) {
		t.Errorf("%v", notes)
	}
	r.Priority = 255
	if owner := New([]*ConfiguredRouter{r}, nil).VirtualRouters[0]; len(owner.Assigned) != 1 || len(owner.Fenced) != 2 || owner.Group != "" {
		t.Errorf("an owner: %+v", owner)
	}
}

// A router needs the interfaces of its virtual addresses, and has only its local addresses on its
// own one.
func TestAddressElsewhere(t *testing.T) {
	on := netip.MustParsePrefix("192.0.3.10/24")
	made := func(extra ...netip.Prefix) *scene {
		s := newScene()
		s.first().Addresses = append(extra, on)
		s.first().Interfaces = map[netip.Addr]string{on.Addr(): "eth1"}
		return s
	}
	w := made(netip.MustParsePrefix("192.0.2.10/24")).desired().Wants[0]
	if v := w.V; len(v.Assigned) != 1 || len(v.Fenced) != 1 || v.Fenced[0] == on.Addr() || !slices.Equal(v.Routing.Placed, []routing.Placed{{Address: on, Interface: "eth1"}}) {
		t.Errorf("%+v", v)
	}
	if c := w.V.Router.Protocol(packet.IPv4); len(c.Addresses) != 2 || c.Addresses[1] != on.Addr() {
		t.Errorf("advertised: %v", c.Addresses)
	}
	for want, change := range map[string]func(*scene){
		"": func(*scene) {},
		"192.0.3.10/24 belongs on eth1, which is down":        func(s *scene) { s.interfaces("eth1").Up = false },
		"192.0.3.10/24 belongs on eth1, which has no carrier": func(s *scene) { s.interfaces("eth1").Running = false },
		"192.0.3.10/24 belongs on eth1, which doesn't exist":  func(s *scene) { s.interfaces("eth1").Name = "eth2" },
	} {
		s := made()
		change(s)
		w := s.desired().Wants[0]
		if got := w.Obstacle.Text; got != want || (w.Binding == nil) != (want != "") {
			t.Errorf("%q, want %q; %v", got, want, w.Binding)
		}
	}
}

func TestRestartReason(t *testing.T) {
	for want, change := range map[string]func(*config.Router){
		"": func(r *config.Router) {
			r.Interval++
			r.Priority, r.Version, r.VirtualMAC, r.Addresses = 200, 2, config.VirtualMACOff, nil
		},
		"ownership": func(r *config.Router) { r.Priority = 255 },
		"xdp_mode":  func(r *config.Router) { r.XDPMode = "off" },
		"unicast":   func(r *config.Router) { r.Unicast.Peers = []config.Peer{{}} },
	} {
		a := newRouter("web", "eth0", 51, "192.0.2.10/24").Router
		b := a
		change(&b)
		if got := RestartReason(&a, &b); got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
}

func TestEntryEqual(t *testing.T) {
	v := New([]*ConfiguredRouter{newRouter("web", "eth0", 51, "192.0.2.10/24")}, nil).VirtualRouters[0]
	one := Entry{V: v, Ifindex: 2, Addresses: v.Fenced, Peers: map[netip.Addr]packet.Hops{netip.MustParseAddr("192.0.2.7"): {Max: 255}}}
	same := one
	same.Addresses = slices.Clone(one.Addresses)
	if !one.Equal(&same) || one.Equal(nil) || (*Entry)(nil).Equal(&one) || !(*Entry)(nil).Equal(nil) {
		t.Error("equal entries differ, or nil equals an entry")
	}
	for n, change := range []func(*Entry){
		func(e *Entry) { e.V = nil }, func(e *Entry) { e.Ifindex++ }, func(e *Entry) { e.Running = true }, func(e *Entry) { e.Source = netip.MustParseAddr("192.0.2.1") },
		func(e *Entry) { e.Priority++ }, func(e *Entry) { e.MACMode = "off" }, func(e *Entry) { e.Peers = nil }, func(e *Entry) { e.Addresses = nil },
	} {
		other := one
		if change(&other); one.Equal(&other) {
			t.Errorf("change %d makes no difference", n)
		}
	}
}

func TestTexts(t *testing.T) {
	for want, o := range map[string]Obstacle{"text": {Cause: vrrp.CauseFault, Detail: "detail", Text: "text"}, "detail": {Cause: vrrp.CauseFault, Detail: "detail"}, vrrp.CauseFault.String(): {Cause: vrrp.CauseFault}} {
		if o.String() != want {
			t.Errorf("%q instead of %q", o, want)
		}
	}
	if text := (&Binding{Name: "eth0", Source: netip.MustParseAddr("192.0.2.1")}).String(); text != "on eth0 from 192.0.2.1" {
		t.Error(text)
	}
	for _, l := range []struct {
		loop LoopState
		want bool
	}{{LoopState{}, false}, {LoopState{Active: true}, true}, {LoopState{Active: true, Assigned: 1}, false}, {LoopState{Leaving: true}, true}} {
		if l.loop.Changing() != l.want {
			t.Errorf("%+v", l.loop)
		}
	}
}
