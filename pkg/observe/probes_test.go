// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// beginner is a loop with one router.
type beginner struct{ router.Status }

func (b *beginner) Altered() uint64                                       { return 0 }
func (b *beginner) Actives() ([]router.Status, error)                     { return nil, nil }
func (b *beginner) StatusOf(router.ID) (s router.Status, _ bool, _ error) { return b.Status, true, nil }

// A router asks at its start whether another host has its addresses. The answer becomes a
// problem only if the router takes over because it has heard nobody.
func TestAddressInUse(t *testing.T) {
	virtual := packet.VirtualMAC(packet.IPv4, 51)
	for name, c := range map[string]struct {
		by     packet.MAC // who answers
		cause  vrrp.Cause // of the take-over
		late   bool       // the addresses are known a moment later
		remedy string     // empty: nothing is told
	}{
		"a stranger":              {otherMAC, vrrp.CauseNobody, false, "take the address off that host"},
		"known a moment later":    {otherMAC, vrrp.CauseNobody, true, "take the address off that host"},
		"a router that is silent": {virtual, vrrp.CauseNobody, false, "it is a router of this VRID that isn't heard here"},
		"nobody":                  {packet.MAC{}, vrrp.CauseNobody, false, ""},
		"an Active that died":     {otherMAC, vrrp.CauseSilence, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKeeper()
			addresses := []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.11")}
			known := addresses
			if c.late {
				known = nil
			}
			loop := &beginner{router.Status{ID: problemsID, Ifindex: 7, OwnMAC: packet.MAC{2}, Source: netip.MustParseAddr("192.0.2.1")}}
			loop.Protocol.State = vrrp.Backup
			conflicts := NewConflicts(loop, func(router.ID) []netip.Addr { return known }, nil, k.Problems, k.log)
			move := func(from, to vrrp.State, cause vrrp.Cause) {
				conflicts.Transition(router.Transition{ID: problemsID, Action: vrrp.Action{From: from, To: to, Cause: cause}})
				conflicts.turn(k.now)
			}
			move(vrrp.Initialize, vrrp.Backup, vrrp.CauseStarting)
			if c.late {
				if all := conflicts.arrive(); len(all) > 0 {
					t.Errorf("asked about %d addresses that aren't known", len(all))
				}
				known = addresses
			}
			if all := conflicts.arrive(); len(all) != 2 || len(conflicts.arrivals) > 0 {
				t.Errorf("asked about %d addresses, and %d routers are left", len(all), len(conflicts.arrivals))
			}
			if c.by != (packet.MAC{}) {
				conflicts.heard(7, packet.Claim{Address: addresses[1], MAC: c.by})
			}
			conflicts.heard(7, packet.Claim{Address: netip.MustParseAddr("192.0.2.77"), MAC: otherMAC})
			if all := k.of(problemsID); len(all) > 0 {
				t.Errorf("told before the take-over: %v", all)
			}
			move(vrrp.Backup, vrrp.Active, c.cause)
			all := k.of(problemsID)
			if c.remedy == "" {
				if len(all) > 0 {
					t.Errorf("told: %v", all)
				}
			} else if len(all) != 1 || all[0].Kind != control.AddressInUse || all[0].Peer != c.by.String() || !strings.Contains(all[0].Text, "had 192.0.2.11 before") || !strings.HasPrefix(all[0].Remedy, c.remedy) {
				t.Errorf("told: %+v", all)
			}
			if len(conflicts.foreign) > 0 {
				t.Errorf("%d addresses are kept", len(conflicts.foreign))
			}
		})
	}
}

// However many routers start at once, few ask at once, and all by and by.
func TestArrivalsAreBounded(t *testing.T) {
	k := newKeeper()
	loop := new(beginner)
	loop.OwnMAC, loop.Source = packet.MAC{2}, netip.MustParseAddr("192.0.2.1")
	loop.Protocol.State = vrrp.Backup
	conflicts := NewConflicts(loop, func(id router.ID) []netip.Addr { return []netip.Addr{invented(int(id.VRID))} }, nil, k.Problems, k.log)
	for n := range 255 {
		conflicts.Transition(turn(router.ID{Interface: "eth0", Family: packet.IPv4, VRID: uint8(n)}, vrrp.Initialize, vrrp.Backup))
	}
	conflicts.turn(time.Now())
	asked := 0
	for len(conflicts.arrivals) > 0 {
		n := len(conflicts.arrive())
		if asked += n; n > arriveAtOnce || n == 0 {
			t.Fatalf("asked about %d at once", n)
		}
	}
	if asked != 255 {
		t.Errorf("asked about %d addresses of 255 routers", asked)
	}
}
