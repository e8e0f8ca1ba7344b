// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/failoverd/failoverd/pkg/packet"
)

// Peers and sources may be written in all the ways that YAML and JSON have, IPv6
// addresses without quotes too.
func TestUnicast(t *testing.T) {
	t.Attr("proves", "O-09")
	const head = "routers:\n- interface: eth0\n  vrid: 51\n  addresses: [192.0.2.10/24, 2001:db8::10/64]\n  unicast:"
	addr := netip.MustParseAddr
	plain := Unicast{TTL: 255, Peers: []Peer{NewPeer(addr("192.0.2.3")), NewPeer(addr("2001:db8::3"))}}
	full := Unicast{
		TTL: 64, Sources: []netip.Addr{addr("192.0.2.2"), addr("2001:db8::2")},
		Peers: []Peer{{addr("192.0.2.3"), 1, 254}, {addr("2001:db8::3"), AutoTTL, 200}},
	}
	for content, want := range map[string]Unicast{
		" off\n": {},
		"\n    peers: [192.0.2.3, 2001:db8::3]\n":            plain,
		"\n    peers:\n    - 192.0.2.3\n    - 2001:db8::3\n": plain,
		` {"peers": ["192.0.2.3", "2001:db8::3"]}`:           plain,
		"\n    source: [192.0.2.2, 2001:db8::2]\n    ttl: 64\n    peers:\n    - {address: 192.0.2.3, min_ttl: 1, max_ttl: 254}\n    - address: 2001:db8::3\n      max_ttl: 200\n":                full,
		"\n    source:\n    - 192.0.2.2\n    - 2001:db8::2\n    ttl: 64\n    peers:\n    - {address: 192.0.2.3, min_ttl: 1, max_ttl: 254}\n    - {\"address\": \"2001:db8::3\", max_ttl: 200}\n": full,
	} {
		f, err := Parse("x", []byte(head+content))
		if err != nil {
			t.Errorf("%q: %v", content, err)
			continue
		}
		if diff := cmp.Diff(want, f.Routers[0].Unicast, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%q: %s", content, diff)
		}
	}
	if got, want := full.String(), "{peers: [{address: 192.0.2.3, min_ttl: 1, max_ttl: 254}, {address: 2001:db8::3, max_ttl: 200}], source: [192.0.2.2, 2001:db8::2], ttl: 64}"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := full.Addresses(packet.IPv6); len(got) != 1 || got[0] != addr("2001:db8::3") || full.Source(packet.IPv4) != addr("192.0.2.2") {
		t.Errorf("IPv6 peers %v, IPv4 source %v", got, full.Source(packet.IPv4))
	}
}
