// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// The checks of RFC 9568 §7.1 and RFC 3768 §7.1 against the configuration: a refused
// advertisement changes nothing, one that is only reported takes effect.
func TestReceiveChecks(t *testing.T) {
	t.Attr("proves", "A-02 A-06 K-04 K-05 TM-09")
	v2 := func(c *Config) { c.Version = 2 }
	lenient := func(c *Config) { c.Version, c.IgnoreAddressList = 2, true }
	owner := func(c *Config) { c.Priority = OwnerPriority }
	owner2 := func(c *Config) { c.Priority, c.Version = OwnerPriority, 2 }
	v01 := netip.MustParseAddr("192.0.2.1")
	other := netip.MustParseAddr("192.0.2.77")
	three := func(c *Config) { c.Addresses = []netip.Addr{v01, v01.Next(), other} }
	three2 := func(c *Config) { v2(c); three(c) }
	list := func(addresses ...netip.Addr) func(*packet.Advertisement) {
		return func(a *packet.Advertisement) { a.Addresses = addresses }
	}
	every := func(interval time.Duration) func(*packet.Advertisement) {
		return func(a *packet.Advertisement) { a.Interval = interval }
	}
	typed := func(auth uint8) func(*packet.Advertisement) {
		return func(a *packet.Advertisement) { a.AuthType = auth }
	}
	const accepted = "advertisement_rcvd"
	for _, c := range []struct {
		name   string
		change func(*Config)
		heard  func(*packet.Advertisement)
		want   string
	}{
		{"R-20 accepted", nil, nil, accepted},
		{"R-20 v2 accepted", v2, nil, accepted},
		{"R-19 priority 0", nil, func(a *packet.Advertisement) { a.Priority = 0 }, accepted + " priority_zero_pkts_rcvd"},
		{"R-14 v2 to v3", nil, func(a *packet.Advertisement) { a.Version = 2 }, "refused:version_errors"},
		{"R-14 v3 to v2", v2, func(a *packet.Advertisement) { a.Version = 3 }, "refused:version_errors"},
		{"R-15 owner v3", owner, nil, "owner_conflict " + accepted + " ADV(255) announce"},
		{"R-15 owner v2", owner2, nil, "refused:owner_conflict"},
		{"R-15 before R-16 v2", owner2, typed(1), "refused:owner_conflict"},
		{"R-16 V02 unconfigured", v2, typed(1), "refused:auth_type_mismatch"},
		{"R-16 V02 configured", password, typed(1), accepted},
		{"R-16 no password", password, typed(0), "refused:auth_type_mismatch"},
		{"R-16 IPsec AH", password, typed(2), "refused:auth_type_mismatch"},
		{"A-02 type 0 has no data", v2, func(a *packet.Advertisement) { a.AuthData = [8]byte([]byte("garbage!")) }, accepted},
		{"R-16 before R-17", password, func(a *packet.Advertisement) { typed(2)(a); every(time.Minute)(a) }, "refused:auth_type_mismatch"},
		{"R-16 v3 has none", nil, typed(1), accepted},
		{"R-17 v2 longer", v2, every(2 * time.Second), "refused:interval_errors"},
		{"R-17 v3 longer", nil, every(2 * time.Second), "interval_errors " + accepted},
		{"R-17 v3 shorter", nil, every(10 * time.Millisecond), "interval_errors " + accepted},
		{"R-17 before R-18 v2", v2, func(a *packet.Advertisement) { every(time.Minute)(a); list(other)(a) }, "refused:interval_errors"},
		{"R-17 R-18 v3", nil, func(a *packet.Advertisement) { every(time.Minute)(a); list(other)(a) }, "interval_errors address_list_errors " + accepted},
		{"R-18 v3 other", nil, list(other), "address_list_errors " + accepted},
		{"R-18 v2 other", v2, list(other), "refused:address_list_errors"},
		{"R-18 v2 other, of the owner", v2, func(a *packet.Advertisement) { a.Priority = 255; list(other)(a) }, "address_list_errors " + accepted},
		{"R-18 K-06 v2 not minded", lenient, list(other), "address_list_errors " + accepted},
		{"R-18 V19 order", three2, list(other, v01, v01.Next()), accepted},
		{"R-18 fewer", three2, list(v01, other), "refused:address_list_errors"},
		{"R-18 more", three2, list(v01, v01.Next(), other, v01), "refused:address_list_errors"},
		{"R-18 one twice", three2, list(v01, v01, other), "refused:address_list_errors"},
		{"R-18 v3 one twice", three, list(v01, v01, other), "address_list_errors " + accepted},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, c.change)
			m.startup()
			before := m.Status()
			m.pass(500 * time.Millisecond)
			left := m.left()
			a := m.heard(200)
			if c.heard != nil {
				c.heard(&a)
			}
			actions := m.hear(a, greater(packet.IPv4), packet.ChecksumRFC9568)
			if got := say(actions); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			for _, action := range actions {
				if action.Kind == Report && action.Peer != greater(packet.IPv4) {
					t.Errorf("report about %v", action.Peer)
				}
			}
			refused := actions[0].Refused
			if unchanged := m.Status() == before && m.left() == left; unchanged != refused {
				t.Errorf("refused: %v, unchanged: %v", refused, unchanged)
			}
		})
	}
}

// R-12, S-C3: an advertisement from the own address is never that of a peer, in any state
// and with any priority.
func TestOwnSource(t *testing.T) {
	t.Attr("proves", "K-03 R-12 S-T1")
	for _, x := range exactTimers {
		for name, build := range map[string]func(*machine) *machine{"Backup": (*machine).backup, "Active": (*machine).active} {
			t.Run("R-12 "+x.name+" "+name, func(t *testing.T) {
				m := build(newMachine(t, func(c *Config) { c.Version, c.Family = x.version, x.family }))
				left := m.left()
				for _, p := range []uint8{0, 1, 100, 255} {
					m.expect("own", m.receive(p, local[x.family]), "refused:own_source", m.State(), left)
				}
			})
		}
	}
}
