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

// A router that starts probes whether another host has its addresses. An answer becomes a problem
// only if the router takes over because it has heard no other.
func TestAddressInUse(t *testing.T) {
	virtual := packet.VirtualMAC(packet.IPv4, 51)
	for name, c := range map[string]struct {
		by     packet.MAC // the MAC that answers
		cause  vrrp.Cause // of the take-over
		late   bool       // the addresses are known a moment later
		remedy string     // empty: no problem is reported
	}{
		"a stranger":              {otherMAC, vrrp.CauseNobody, false, "remove the address from that host"},
		"known a moment later":    {otherMAC, vrrp.CauseNobody, true, "remove the address from that host"},
		"a router that is silent": {virtual, vrrp.CauseNobody, false, "that host is a router of this VRID whose advertisements don't arrive here"},
		"nobody":                  {packet.MAC{}, vrrp.CauseNobody, false, ""},
		"an Active that died":     {otherMAC, vrrp.CauseSilence, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			k := newProblemRig()
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
				conflicts.handleTransitions(k.now)
			}
			move(vrrp.Initialize, vrrp.Backup, vrrp.CauseStarting)
			if c.late {
				if all := conflicts.nextProbes(); len(all) > 0 {
					t.Errorf("probed %d unknown addresses", len(all))
				}
				known = addresses
			}
			if all := conflicts.nextProbes(); len(all) != 2 || len(conflicts.pendingProbes) > 0 {
				t.Errorf("probed %d addresses, and %d routers are left", len(all), len(conflicts.pendingProbes))
			}
			if c.by != (packet.MAC{}) {
				conflicts.heard(7, packet.Claim{Address: addresses[1], MAC: c.by})
			}
			conflicts.heard(7, packet.Claim{Address: netip.MustParseAddr("192.0.2.77"), MAC: otherMAC})
			if all := k.of(problemsID); len(all) > 0 {
				t.Errorf("reported before the take-over: %v", all)
			}
			move(vrrp.Backup, vrrp.Active, c.cause)
			all := k.of(problemsID)
			if c.remedy == "" {
				if len(all) > 0 {
					t.Errorf("reported: %v", all)
				}
			} else if len(all) != 1 || all[0].Kind != control.AddressInUse || all[0].Peer != c.by.String() || !strings.Contains(all[0].Text, "already had 192.0.2.11") || !strings.HasPrefix(all[0].Remedy, c.remedy) {
				t.Errorf("reported: %+v", all)
			}
			if len(conflicts.probed) > 0 {
				t.Errorf("%d addresses are kept", len(conflicts.probed))
			}
		})
	}
}

// However many routers start at once, only a few addresses are probed at a time, and finally all
// of them.
func TestProbesAreBounded(t *testing.T) {
	k := newProblemRig()
	loop := new(beginner)
	loop.OwnMAC, loop.Source = packet.MAC{2}, netip.MustParseAddr("192.0.2.1")
	loop.Protocol.State = vrrp.Backup
	conflicts := NewConflicts(loop, func(id router.ID) []netip.Addr { return []netip.Addr{invented(int(id.VRID))} }, nil, k.Problems, k.log)
	for n := range 255 {
		conflicts.Transition(turn(router.ID{Interface: "eth0", Family: packet.IPv4, VRID: uint8(n)}, vrrp.Initialize, vrrp.Backup))
	}
	conflicts.handleTransitions(time.Now())
	asked := 0
	for len(conflicts.pendingProbes) > 0 {
		n := len(conflicts.nextProbes())
		if asked += n; n > probesAtOnce || n == 0 {
			t.Fatalf("probed %d addresses at once", n)
		}
	}
	if asked != 255 {
		t.Errorf("probed %d addresses of 255 routers", asked)
	}
}
