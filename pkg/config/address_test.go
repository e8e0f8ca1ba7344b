// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// A refusal repeats what was written and says what to write instead.
func TestAddressRemedies(t *testing.T) {
	for in, remedy := range map[string]string{
		"":                  "write it like 192.0.2.10/24 or 2001:db8::10/64",
		"router":            "write it like 192.0.2.10/24 or 2001:db8::10/64",
		" 192.0.2.10":       "write it like 192.0.2.10/24",
		"192.0.2.10/":       "write it like 192.0.2.10/24",
		"192.0.2.10/-1":     "write it like 192.0.2.10/24",
		"192.0.2.10/024":    "write it like 192.0.2.10/24",
		"192.0.2.010":       "write it like 192.0.2.10/24",
		"192.0.2.10/24/24":  "write it like 192.0.2.10/24",
		"192.0.2.10:80":     "write it like 192.0.2.10/24",
		"2001:db8::10/129":  "write it like 192.0.2.10/24",
		"fe80::1%eth0":      "remove the zone, because the interface is known",
		"::":                "use a unicast address of the network",
		"0.0.0.0/0":         "use a unicast address of the network",
		"239.1.2.3":         "use a unicast address of the network",
		"127.255.0.1/32":    "use a unicast address of the network",
		"::ffff:224.0.0.18": "use a unicast address of the network",
		"10.0.0.0/8":        "give the address of a host in it",
		"2001:db8::/64":     "give the address of a host in it", // the routers' anycast address
		"192.0.2.255/24":    "broadcast",
		"192.0.2.7/30":      "broadcast",
		"255.255.255.255":   "broadcast",
		"0.1.2.3/24":        "broadcast",
		"192.0.2.128/25":    "give the address of a host in it",
		"192.0.2.4/30":      "give the address of a host in it",
		"10.1.2.3/0":        "use that of the interface's network",
		"2001:db8::1/0":     "use that of the interface's network",
	} {
		t.Run(in, func(t *testing.T) {
			p, err := ParseAddress(in)
			if err == nil {
				t.Fatalf("taken as %v", p)
			}
			if p.IsValid() || !strings.Contains(err.Error(), fmt.Sprintf("%q", in)) || !strings.Contains(err.Error(), remedy) {
				t.Errorf("%v, %v, want it to say %q", p, err, remedy)
			}
		})
	}
}

// Host bits are kept: the prefix is an address with its network's length.
func TestAddressKept(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.10/24":      "192.0.2.10/24",
		"192.0.2.10":         "192.0.2.10/32",
		"2001:db8::10":       "2001:db8::10/128",
		"::ffff:192.0.2.10":  "192.0.2.10/32",
		"192.0.2.255/23":     "192.0.2.255/23", // in the middle of it
		"192.0.2.10/32":      "192.0.2.10/32",
		"192.0.2.0":          "192.0.2.0/32", // a host of a /32 of its own
		"192.0.2.0/31":       "192.0.2.0/31", // both are hosts (RFC 3021)
		"192.0.2.1/31":       "192.0.2.1/31",
		"10.255.0.1/8":       "10.255.0.1/8",
		"2001:DB8:0:0::A/64": "2001:db8::a/64",
		"fe80::1/64":         "fe80::1/64",
		"2001:db8::1/127":    "2001:db8::1/127",
	} {
		t.Run(in, func(t *testing.T) {
			if got, err := ParseAddress(in); err != nil || got.String() != want {
				t.Errorf("%v, %v, want %s", got, err, want)
			}
		})
	}
}

// A router without addresses has one family: IPv4, or IPv6 if all its peers and sources are.
func TestWithoutAddresses(t *testing.T) {
	for unicast, want := range map[string]packet.Family{
		"":                       packet.IPv4,
		"{peers: [192.0.2.3]}":   packet.IPv4,
		"{peers: [2001:db8::3]}": packet.IPv6,
		"{peers: [2001:db8::3], source: 2001:db8::2}": packet.IPv6,
	} {
		text := "routers:\n  - {interface: eth0, vrid: 51, addresses: [], extra_addresses: [192.0.2.20/24, '2001:db8::20/64']"
		if unicast != "" {
			text += ", unicast: " + unicast
		}
		f, err := Parse("failoverd.yaml", []byte(text+"}\n"))
		if err != nil {
			t.Errorf("%s: %v", unicast, err)
			continue
		}
		r := f.Routers[0]
		full, added := r.WithLinkLocal()
		for _, family := range []packet.Family{packet.IPv4, packet.IPv6} {
			if r.Has(family) != (family == want) {
				t.Errorf("%s: a router of %v: %v", unicast, family, r.Has(family))
			}
		}
		if p := full.Protocol(want); added || len(p.Addresses) != 0 || p.Validate() != nil {
			t.Errorf("%s: advertises %v: %v", unicast, p.Addresses, p.Validate())
		}
		if n := r.Octets(want); n != packet.DatagramLen(want, 3, 0) {
			t.Errorf("%s: %d octets", unicast, n)
		}
		if len(r.Extras(want)) != 2 {
			t.Errorf("%s: extra addresses %v", unicast, r.Extras(want))
		}
	}
}

// The limits themselves, from both sides.
func TestValidateLimits(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Router)
		want   string
	}{
		{"VRID 1", func(r *Router) { r.VRID = 1 }, ""},
		{"VRID 255", func(r *Router) { r.VRID = 255 }, ""},
		{"VRID -1", func(r *Router) { r.VRID = -1 }, "VRID -1"},
		{"VRID 307 doesn't wrap to 51", func(r *Router) { r.VRID = 307 }, "VRID 307"},
		{"priority 1", func(r *Router) { r.Priority = 1 }, ""},
		{"priority -1", func(r *Router) { r.Priority = -1 }, "priority -1"},
		{"version 0", func(r *Router) { r.Version = 0 }, "version 0"},
		{"version 4", func(r *Router) { r.Version = 4 }, "version 4"},
		{"interval 0", func(r *Router) { r.Interval = 0 }, "10ms to 40.95s"},
		{"negative interval", func(r *Router) { r.Interval = -time.Second }, "10ms to 40.95s"},
		{"10 ms and a bit", func(r *Router) { r.Interval = 10*time.Millisecond + 1 }, "multiple of 10ms"},
		{"40.95 s and a bit", func(r *Router) { r.Interval = 40950*time.Millisecond + 1 }, "10ms to 40.95s"},
		{"version 2 1 s", func(r *Router) { r.Version = 2 }, ""},
		{"version 2 256 s", func(r *Router) { r.Version, r.Interval = 2, 256*time.Second }, "1s to 255s"},
		{"version 2 100 ms", func(r *Router) { r.Version, r.Interval = 2, 100*time.Millisecond }, "version 3"},
		{"both families", func(r *Router) { r.Addresses = prefixes("192.0.2.10/24", "fe80::1/64") }, ""},
		{"IPv6 twice, written differently", func(r *Router) { r.Addresses = prefixes("2001:db8::1/64", "2001:db8:0::1/128") }, "2001:db8::1 is given twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := router(c.change).Validate()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// RFC 9568 §5.2.9: link-local addresses first, otherwise the order as given,
// because routers of one VRID compare their lists.
func TestOfFamily(t *testing.T) {
	t.Attr("proves", "K-07 P-04")
	r := router(func(r *Router) {
		r.Addresses = prefixes("2001:db8::2/64", "192.0.2.20/24", "fe80::9/64", "2001:db8::1/64", "192.0.2.10/24", "fe80::3/64")
	})
	given := slices.Clone(r.Addresses)
	for _, c := range []struct {
		family packet.Family
		want   []netip.Prefix
	}{
		{packet.IPv4, prefixes("192.0.2.20/24", "192.0.2.10/24")},
		{packet.IPv6, prefixes("fe80::9/64", "fe80::3/64", "2001:db8::2/64", "2001:db8::1/64")},
	} {
		t.Run(c.family.String(), func(t *testing.T) {
			if got := r.OfFamily(c.family); !slices.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	// An IPv4 link-local address (RFC 3927) has no place of its own.
	r.Addresses = prefixes("192.0.2.10/24", "169.254.0.1/16")
	if got := r.OfFamily(packet.IPv4); !slices.Equal(got, r.Addresses) {
		t.Errorf("%v, want %v", got, r.Addresses)
	}
	r.Addresses = given
	asWritten := r
	asWritten.AsWritten = true
	if got, want := asWritten.OfFamily(packet.IPv6), prefixes("2001:db8::2/64", "fe80::9/64", "2001:db8::1/64", "fe80::3/64"); !slices.Equal(got, want) {
		t.Errorf("as written: %v, want %v", got, want)
	}
	if _, added := asWritten.WithLinkLocal(); added {
		t.Error("a link-local address is added to a list that is sent as written")
	}
	if err := asWritten.Protocol(packet.IPv6).Validate(); err != nil {
		t.Errorf("as written: %v", err)
	}
	r.OfFamily(packet.IPv6)
	if !slices.Equal(r.Addresses, prefixes("2001:db8::2/64", "192.0.2.20/24", "fe80::9/64", "2001:db8::1/64", "192.0.2.10/24", "fe80::3/64")) {
		t.Errorf("the router's own list changed: %v", r.Addresses)
	}
}

// Two VRIDs of one interface never get the same link-local address, and the
// list that was given isn't written to, even where it has room.
func TestLinkLocalIsOfTheVRID(t *testing.T) {
	room := append(make([]netip.Prefix, 0, 8), prefixes("2001:db8::10/64")...)
	seen := make(map[netip.Prefix]int)
	for vrid := 1; vrid <= 255; vrid++ {
		r := router(func(r *Router) { r.VRID, r.Addresses = vrid, room })
		full, added := r.WithLinkLocal()
		if !added {
			t.Fatalf("VRID %d: none added", vrid)
		}
		first := full.OfFamily(packet.IPv6)[0]
		if other, ok := seen[first]; ok || !first.Addr().IsLinkLocalUnicast() || first.Bits() != 64 {
			t.Errorf("VRID %d: %v, which VRID %d has", vrid, first, other)
		}
		seen[first] = vrid
		if again, added := full.WithLinkLocal(); added || len(again.Addresses) != len(full.Addresses) {
			t.Errorf("VRID %d: added twice: %v", vrid, again.Addresses)
		}
	}
	if room[:2][1].IsValid() {
		t.Errorf("written into the given list: %v", room[:2])
	}
}

// Every field arrives at the state machine, each family with its addresses.
func TestProtocol(t *testing.T) {
	r := Router{
		Interface: "eth0", VRID: 255, Version: 3, Priority: 255, Interval: 40950 * time.Millisecond, Preempt: true,
		Addresses: prefixes("2001:db8::1/64", "192.0.2.10/24", "fe80::1/64"),
	}
	addr := netip.MustParseAddr
	for _, c := range []struct {
		name   string
		family packet.Family
		change func(*Router)
		want   vrrp.Config
	}{
		{"IPv4", packet.IPv4, func(*Router) {}, vrrp.Config{Version: 3, VRID: 255, Family: packet.IPv4, Priority: 255, Interval: 40950 * time.Millisecond, Preempt: true, Addresses: []netip.Addr{addr("192.0.2.10")}}},
		{"IPv6", packet.IPv6, func(*Router) {}, vrrp.Config{Version: 3, VRID: 255, Family: packet.IPv6, Priority: 255, Interval: 40950 * time.Millisecond, Preempt: true, Addresses: []netip.Addr{addr("fe80::1"), addr("2001:db8::1")}}},
		{
			"version 2 without preemption", packet.IPv4, func(r *Router) { r.Version, r.Interval, r.Preempt = 2, time.Second, false },
			vrrp.Config{Version: 2, VRID: 255, Family: packet.IPv4, Priority: 255, Interval: time.Second, Addresses: []netip.Addr{addr("192.0.2.10")}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := r
			c.change(&r)
			if diff := cmp.Diff(c.want, r.Protocol(c.family), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A virtual address on another interface is advertised in its place of the list, and isn't on
// the router's own interface.
func TestAddressesElsewhere(t *testing.T) {
	f, err := Parse("x", []byte(`routers: [{interface: eth1, vrid: 51, extra_addresses: [192.0.2.20/24, {address: 192.0.2.21/24, interface: eth2}],
  addresses: [192.0.2.10/24, {address: 192.0.2.11/24, interface: eth0}, {address: 192.0.2.12/24, interface: eth1}, {address: "2001:db8::10/64", interface: lo}, {address: 192.0.2.13/24}]}]`))
	if err != nil {
		t.Fatal(err)
	}
	r := f.Routers[0]
	on := func(address, name string) routing.Placed {
		return routing.Placed{Address: netip.MustParsePrefix(address), Interface: name}
	}
	for what, c := range map[string]struct{ got, want any }{
		"advertised":     {r.OfFamily(packet.IPv4), prefixes("192.0.2.10/24", "192.0.2.11/24", "192.0.2.12/24", "192.0.2.13/24")},
		"local":          {r.Local(packet.IPv4), prefixes("192.0.2.10/24", "192.0.2.12/24", "192.0.2.13/24", "192.0.2.20/24")},
		"elsewhere":      {r.Elsewhere(packet.IPv4), []routing.Placed{on("192.0.2.11/24", "eth0"), on("192.0.2.21/24", "eth2")}},
		"elsewhere IPv6": {r.Elsewhere(packet.IPv6), []routing.Placed{on("2001:db8::10/64", "lo")}},
		"local IPv6":     {len(r.Local(packet.IPv6)), 0},
		"assigned":       {r.Assigned(packet.IPv4), r.Local(packet.IPv4)},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
	if full, added := r.WithLinkLocal(); !added || len(full.Local(packet.IPv6)) != 1 {
		t.Errorf("the link-local address that is added isn't on the router's interface: %v", full.Local(packet.IPv6))
	}
}
