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

var otherMAC = packet.MAC{2, 0, 0, 0, 0, 9}

// guard is conflicts with a time of their own, for a router with many addresses.
type guard struct {
	*Conflicts
	*keeper
	state router.Status
}

func newGuard(addresses int) *guard {
	k := newKeeper()
	g := &guard{keeper: k}
	g.state = router.Status{ID: problemsID, Ifindex: 7, MAC: packet.MAC{1: 1}, OwnMAC: packet.MAC{1: 2}}
	g.state.Protocol.State = vrrp.Active
	var all []netip.Addr
	for n := range addresses {
		all = append(all, netip.AddrFrom4([4]byte{192, 0, byte(2 + n>>8), byte(n)}))
	}
	g.Conflicts = NewConflicts(nil, func(router.ID) []netip.Addr { return all }, nil, k.Problems, k.log)
	return g
}

// second is a second's work; it returns how many questions were due.
func (g *guard) second() int {
	g.now = g.now.Add(time.Second)
	g.update(g.now, []router.Status{g.state})
	g.tell(g.now)
	g.tick(g.now)
	return len(g.due(g.now))
}

func (g *guard) claim(n byte, mac packet.MAC) {
	g.heard(7, packet.Claim{Address: netip.AddrFrom4([4]byte{192, 0, 2, n}), MAC: mac})
}

// While a router is Active, whoever else claims its addresses is told with the MAC,
// and asked again soon until the claim is over.
func TestConflict(t *testing.T) {
	g := newGuard(3)
	g.second()
	g.claim(0, g.state.MAC)
	g.claim(0, g.state.OwnMAC)
	g.claim(9, otherMAC)
	if g.second(); len(g.of(problemsID)) > 0 {
		t.Errorf("no conflict, and there is %v", g.of(problemsID))
	}
	asked := 0
	for range 10 {
		g.claim(1, otherMAC)
		g.claim(0, otherMAC)
		asked += g.second()
	}
	if asked < 4 || asked > 12 {
		t.Errorf("asked %d times about 2 addresses in 10 s", asked)
	}
	all := g.of(problemsID)
	if len(all) != 1 || all[0].Kind != control.AddressConflict || all[0].Peer != "02:00:00:00:00:09" || !strings.HasSuffix(all[0].Text, "answers for 192.0.2.0 192.0.2.1") {
		t.Errorf("told: %+v", all)
	}
	for range 10 {
		g.second()
	}
	if all := g.of(problemsID); len(all) > 0 {
		t.Errorf("it isn't over: %+v", all)
	}
}

// A process that was stopped hears afterwards what the host that has taken over said
// meanwhile, however long it takes to read it. That is no conflict: the other one gives the
// address up, and answers no question any more.
func TestNoConflictAfterAStop(t *testing.T) {
	g := newGuard(1)
	g.second()
	asked := 0
	for range 2 {
		g.claim(0, otherMAC)
		asked += g.second()
	}
	for range 10 {
		asked += g.second()
	}
	if all := g.events(); len(all) > 0 || asked < 2 {
		t.Errorf("asked %d times, told: %v", asked, all)
	}
}

// Beside another Active it may be that one which has the address: it isn't to be taken off
// there.
func TestConflictBesideAnotherActive(t *testing.T) {
	g := newGuard(1)
	g.second()
	g.see(Observation{Kind: control.TwoActives, Peer: "192.0.2.2", Interval: time.Second}, 1, 0)
	for range 5 {
		g.claim(0, otherMAC)
		g.second()
	}
	for _, p := range g.of(problemsID) {
		if p.Kind == control.AddressConflict && strings.HasPrefix(p.Remedy, "mend two_actives first") {
			return
		}
	}
	t.Errorf("told: %+v", g.of(problemsID))
}

// What is said in the moment in which the router becomes Active, or Backup, is the
// other one's right.
func TestConflictOnTakeOver(t *testing.T) {
	g := newGuard(1)
	g.claim(0, otherMAC)
	g.second()
	g.claim(0, otherMAC)
	g.state.Protocol.State = vrrp.Backup
	g.second()
	g.state.Protocol.State = vrrp.Active
	g.second()
	g.second()
	if all := g.events(); len(all) > 0 {
		t.Errorf("told: %v", all)
	}
}

// However many addresses there are, few are asked about at once, and all of them
// by and by.
func TestConflictQuestionsAreBounded(t *testing.T) {
	g := newGuard(1000)
	g.second()
	began := g.now
	for range 34 {
		if n := g.second(); n > askAtOnce {
			t.Fatalf("asked about %d at once", n)
		}
	}
	for at, o := range g.guarded {
		if o.askAt.Before(began.Add(askEvery)) {
			t.Errorf("not asked about %s", at.address)
		}
	}
}
