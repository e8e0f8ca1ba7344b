// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

func prefixes(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func router(change func(*Router)) Router {
	r := Router{Interface: "eth0", VRID: 51, Version: 3, Priority: 100, Interval: time.Second, Preempt: true, Addresses: prefixes("192.0.2.10/24"), Announcements: 1, DownAfter: 3}
	if change != nil {
		change(&r)
	}
	return r
}

// Each message names the thing and the remedy. What passes here passes the
// state machine's own checks too.
func TestValidate(t *testing.T) {
	many := func(format string, n int) (all []netip.Prefix) {
		for i := range n {
			all = append(all, netip.MustParsePrefix(fmt.Sprintf(format, 1+i/250, 1+i%250)))
		}
		return all
	}
	for _, c := range []struct {
		name   string
		change func(*Router)
		want   []string
	}{
		{"defaults", nil, nil},
		{"owner", func(r *Router) { r.Priority = 255 }, nil},
		{"owner without its addresses", func(r *Router) { r.Priority, r.AddAddresses, r.VirtualMAC = 255, true, VirtualMACMacvlan }, nil},
		{"fastest", func(r *Router) { r.Interval = 10 * time.Millisecond }, nil},
		{"slowest", func(r *Router) { r.Interval = 40950 * time.Millisecond }, nil},
		{"version 2", func(r *Router) { r.Version, r.Interval = 2, 255*time.Second }, nil},
		{"255 addresses", func(r *Router) { r.Addresses = many("10.0.%d.%d/16", 255) }, nil},
		{"VRID 0", func(r *Router) { r.VRID = 0 }, []string{"VRID 0", "1 to 255"}},
		{"VRID 256", func(r *Router) { r.VRID = 256 }, []string{"VRID 256", "1 to 255"}},
		{"priority 0", func(r *Router) { r.Priority = 0 }, []string{"priority 0", "1 to 254"}},
		{"priority 256", func(r *Router) { r.Priority = 256 }, []string{"priority 256", "255"}},
		{"version 1", func(r *Router) { r.Version = 1 }, []string{"version 1", "3 (RFC 9568)"}},
		{"too fast", func(r *Router) { r.Interval = 9 * time.Millisecond }, []string{"9ms", "10ms to 40.95s"}},
		{"too slow", func(r *Router) { r.Interval = 41 * time.Second }, []string{"41s", "10ms to 40.95s"}},
		{"between centiseconds", func(r *Router) { r.Interval = 15 * time.Millisecond }, []string{"15ms", "multiple of 10ms"}},
		{"fast version 2", func(r *Router) { r.Version, r.Interval = 2, 1500*time.Millisecond }, []string{"1.5s", "version 3"}},
		{"bounded by its own interval", func(r *Router) { r.MaxInterval = r.Interval }, nil},
		{"bounded below its own interval", func(r *Router) { r.MaxInterval = r.Interval - 1 }, []string{"max_interval", "longest interval of all hosts"}},
		{"bounded below version 2's", func(r *Router) {
			r.Dual, r.Interval, r.MaxInterval = true, 1500*time.Millisecond, 1900*time.Millisecond
		}, []string{"max_interval", "2s"}},
		{"no address", func(r *Router) { r.Addresses = nil }, nil},
		{"no address in version 2", func(r *Router) { r.Addresses, r.Version = nil, 2 }, nil},
		{"no address and IPv6 peers", func(r *Router) {
			r.Addresses, r.Unicast = nil, Unicast{TTL: 255, Peers: []Peer{NewPeer(netip.MustParseAddr("2001:db8::3"))}}
		}, nil},
		{"no address and IPv6 peers in version 2", func(r *Router) {
			r.Addresses, r.Version, r.Unicast = nil, 2, Unicast{TTL: 255, Peers: []Peer{NewPeer(netip.MustParseAddr("2001:db8::3"))}}
		}, []string{"IPv6, which version 2 doesn't have", "use version 3"}},
		{"twice", func(r *Router) { r.Addresses = prefixes("192.0.2.10/24", "192.0.2.10/32") }, []string{"192.0.2.10", "twice"}},
		{"IPv6 in version 2", func(r *Router) { r.Version, r.Addresses = 2, prefixes("2001:db8::1/64") }, []string{"2001:db8::1/64", "version 3"}},
		{"256 addresses", func(r *Router) { r.Addresses = many("10.0.%d.%d/16", 256) }, []string{"256 ipv4", "limit is 255", "another VRID"}},
		{"90 IPv6 addresses and no link-local one", func(r *Router) { r.Addresses = many("2001:db8::%d:%d/64", 90) }, []string{"90 ipv6", "limit is 89"}},
		{"89 IPv6 addresses and a link-local one to add", func(r *Router) { r.Addresses = many("2001:db8::%d:%d/64", 89) }, nil},
		{"90 IPv6 addresses with a link-local one", func(r *Router) { r.Addresses = append(many("2001:db8::%d:%d/64", 89), prefixes("fe80::1/64")...) }, nil},
		{"91 IPv6 addresses", func(r *Router) { r.Addresses = append(many("2001:db8::%d:%d/64", 90), prefixes("fe80::1/64")...) }, []string{"91 ipv6", "limit is 90"}},
		{"two faults", func(r *Router) { r.VRID, r.Priority = 0, 0 }, []string{"VRID 0", "priority 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := router(c.change)
			err := r.Validate()
			if (err == nil) != (c.want == nil) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in: %v", w, err)
				}
			}
			if err == nil {
				r, _ = r.WithLinkLocal()
				for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
					if !r.Has(f) {
						continue
					}
					if err := r.Protocol(f).Validate(); err != nil {
						t.Errorf("the state machine refuses it: %v", err)
					}
				}
			}
		})
	}
}

// RFC 9568 §5.2.9: an IPv6 router's link-local address comes first, and every
// router of the VRID adds the same one.
func TestLinkLocal(t *testing.T) {
	t.Attr("proves", "P-04")
	r := router(func(r *Router) { r.Addresses = prefixes("2001:db8::10/64", "192.0.2.10/24", "2001:db8::11/64") })
	full, added := r.WithLinkLocal()
	if !added || len(r.Addresses) != 3 {
		t.Errorf("added: %v; it was %v", added, r.Addresses)
	}
	if got, want := fmt.Sprint(full.OfFamily(packet.IPv6)), "[fe80::12:33/64 2001:db8::10/64 2001:db8::11/64]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := fmt.Sprint(full.Protocol(packet.IPv4).Addresses), "[192.0.2.10]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if err := full.Protocol(packet.IPv6).Validate(); err != nil {
		t.Error(err)
	}
	for _, addresses := range [][]netip.Prefix{prefixes("192.0.2.10/24"), prefixes("2001:db8::10/64", "fe80::7/64")} {
		r.Addresses = addresses
		if _, added := r.WithLinkLocal(); added {
			t.Errorf("added to %v", addresses)
		}
	}
}
