// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/packet"
)

// What is said of the length of an advertisement is the length of what is sent.
func TestOctets(t *testing.T) {
	key := auth.Key{ID: 1, Secret: auth.NewSecret(bytes.Repeat([]byte{1}, auth.KeyMin))}
	password := auth.Key{Secret: auth.NewSecret([]byte("secret"))}
	for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
		for _, n := range []int{1, 2, 80} {
			for name, s := range map[string]auth.Settings{
				"none":         {Type: auth.None},
				"hmac":         {Type: auth.HMAC, Mode: auth.Enforce, Send: 1, Window: 5 * time.Second, Keys: []auth.Key{key}},
				"receive-only": {Type: auth.HMAC, Mode: auth.ReceiveOnly, Send: 1, Window: 5 * time.Second, Keys: []auth.Key{key}},
				"password":     {Type: auth.Password, Keys: []auth.Key{password}},
				"ah":           {Type: auth.Header, Keys: []auth.Key{password}},
			} {
				for _, version := range []int{2, 3} {
					for _, dual := range []bool{false, true} {
						if f == packet.IPv6 && (version == 2 || dual) || dual && version == 2 || s.Type.Weak() && version == 3 {
							continue
						}
						r := Router{Name: "web", Interface: "eth0", VRID: 51, Version: version, Dual: dual, Interval: time.Second, Priority: 100}
						for i := range n {
							a := netip.AddrFrom4([4]byte{192, 0, 2, uint8(i + 10)})
							if f == packet.IPv6 {
								a = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: uint8(i + 10)})
							}
							r.Addresses = append(r.Addresses, netip.PrefixFrom(a, 24))
						}
						r.Authentication = Authentication{Type: s.Type, Mode: s.Mode}
						what := fmt.Sprintf("version %d, dual %v, %s, %s, %d addresses", version, dual, f, name, n)
						want := sentLength(t, r, f, s)
						if got := r.Octets(f); got != want {
							t.Errorf("%s: %d octets, sent are %d", what, got, want)
						}
						if text, _ := r.TooLong(f, want); text != "" {
							t.Errorf("%s: with an MTU of %d: %s", what, want, text)
						}
						if text, remedy := r.TooLong(f, want-1); text == "" || remedy == "" {
							t.Errorf("%s: nothing is said of an MTU of %d", what, want-1)
						}
					}
				}
			}
		}
	}
	r := Router{Interface: "eth0", VRID: 51, Version: 3, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")}}
	if n := r.Octets(packet.IPv6); n != 0 {
		t.Errorf("%d octets without an address", n)
	}
	if text, _ := r.TooLong(packet.IPv4, 0); text != "" {
		t.Errorf("the MTU isn't known: %s", text)
	}
}

// sentLength is the length of the longest datagram that the router sends.
func sentLength(t *testing.T, r Router, f packet.Family, s auth.Settings) (longest int) {
	t.Helper()
	full, _ := r.WithLinkLocal()
	source := map[packet.Family]string{packet.IPv4: "192.0.2.1", packet.IPv6: "fe80::1"}[f]
	versions := []int{r.Version}
	if r.Dual {
		versions = append(versions, 2)
	}
	for _, version := range versions {
		a := packet.Advertisement{Version: uint8(version), VRID: 51, Priority: 100, Interval: time.Second, Addresses: full.Protocol(f).Addresses}
		if version == 2 {
			a.AuthType = full.Protocol(f).AuthType
		}
		d, err := packet.AppendAdvertisementDatagram(nil, netip.MustParseAddr(source), f.Group(), 255, &a, packet.ChecksumRFC9568)
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, len(auth.NewGuard(s).Prepare(d)))
	}
	return longest
}
