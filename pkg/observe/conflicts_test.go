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

// conflictRig is a Conflicts with a clock of its own, for a router with many addresses.
type conflictRig struct {
	*Conflicts
	*problemRig
	state router.Status
}

func newConflictRig(addresses int) *conflictRig {
	k := newProblemRig()
	g := &conflictRig{problemRig: k}
	g.state = router.Status{ID: problemsID, Ifindex: 7, MAC: packet.MAC{1: 1}, OwnMAC: packet.MAC{1: 2}}
	g.state.Protocol.State = vrrp.Active
	var all []netip.Addr
	for n := range addresses {
		all = append(all, netip.AddrFrom4([4]byte{192, 0, byte(2 + n>>8), byte(n)}))
	}
	g.Conflicts = NewConflicts(nil, func(router.ID) []netip.Addr { return all }, nil, k.Problems, k.log)
	return g
}

// second does the work of one second, and returns the number of probes.
func (g *conflictRig) second() int {
	g.now = g.now.Add(time.Second)
	g.update(g.now, []router.Status{g.state})
	g.noteConflicts(g.now)
	g.tick(g.now)
	return len(g.dueQuestions(g.now))
}

func (g *conflictRig) claim(n byte, mac packet.MAC) {
	g.heard(7, packet.Claim{Address: netip.AddrFrom4([4]byte{192, 0, 2, n}), MAC: mac})
}

// While a router is Active, a host that claims its addresses is reported with its MAC, and probed
// again soon until the claims end.
func TestConflict(t *testing.T) {
	g := newConflictRig(3)
	g.second()
	g.claim(0, g.state.MAC)
	g.claim(0, g.state.OwnMAC)
	g.claim(9, otherMAC)
	if g.second(); len(g.of(problemsID)) > 0 {
		t.Errorf("there is no conflict, but there is the problem %v", g.of(problemsID))
	}
	asked := 0
	for range 10 {
		g.claim(1, otherMAC)
		g.claim(0, otherMAC)
		asked += g.second()
	}
	if asked < 4 || asked > 12 {
		t.Errorf("%d probes for 2 addresses in 10 s", asked)
	}
	all := g.of(problemsID)
	if len(all) != 1 || all[0].Kind != control.AddressConflict || all[0].Peer != "02:00:00:00:00:09" || !strings.HasSuffix(all[0].Text, "answers for 192.0.2.0 192.0.2.1") {
		t.Errorf("reported: %+v", all)
	}
	for range 10 {
		g.second()
	}
	if all := g.of(problemsID); len(all) > 0 {
		t.Errorf("the problem doesn't end: %+v", all)
	}
}

// A process that was stopped later reads the announcements of a host that took over in the
// meantime, and that may take a while. This is no conflict, because the other host releases the
// address and doesn't answer probes.
func TestNoConflictAfterAStop(t *testing.T) {
	g := newConflictRig(1)
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
		t.Errorf("%d probes, reported: %v", asked, all)
	}
}

// Stops in quick succession are no conflict either, although the other host claims the address
// after each of them.
func TestNoConflictAfterStops(t *testing.T) {
	g := newConflictRig(1)
	g.second()
	for range 2 * claimsForConflict {
		g.claim(0, otherMAC) // before the stopped process has noticed that it lost the role
		g.noteConflicts(g.now)
		g.state.Counters.Became[vrrp.Active]++
		g.second()
		g.claim(0, otherMAC) // while the other host releases the address
		g.second()
	}
	if all := g.events(); len(all) > 0 {
		t.Errorf("reported: %v", all)
	}
}

// If there is another Active, it may be the host with the address, so the remedy isn't to remove
// the address there.
func TestConflictBesideAnotherActive(t *testing.T) {
	g := newConflictRig(1)
	g.second()
	g.see(Observation{Kind: control.TwoActives, Peer: "192.0.2.2", Interval: time.Second}, 1, 0)
	for range 5 {
		g.claim(0, otherMAC)
		g.second()
	}
	for _, p := range g.of(problemsID) {
		if p.Kind == control.AddressConflict && strings.HasPrefix(p.Remedy, "solve two_actives first") {
			return
		}
	}
	t.Errorf("reported: %+v", g.of(problemsID))
}

// Announcements at the moment of a transition are legitimate.
func TestConflictOnTakeOver(t *testing.T) {
	g := newConflictRig(1)
	g.claim(0, otherMAC)
	g.second()
	g.claim(0, otherMAC)
	g.state.Protocol.State = vrrp.Backup
	g.second()
	g.state.Protocol.State = vrrp.Active
	g.second()
	g.second()
	if all := g.events(); len(all) > 0 {
		t.Errorf("reported: %v", all)
	}
}

// However many addresses there are, only a few are probed at a time, and finally all of them.
func TestConflictQuestionsAreBounded(t *testing.T) {
	g := newConflictRig(1000)
	g.second()
	began := g.now
	for range 34 {
		if n := g.second(); n > askAtOnce {
			t.Fatalf("probed %d addresses at once", n)
		}
	}
	for at, o := range g.answered {
		if o.askAt.Before(began.Add(askEvery)) {
			t.Errorf("%s was not probed", at.address)
		}
	}
}
