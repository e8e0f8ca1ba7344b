// SPDX-License-Identifier: Apache-2.0

package router

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// pair is a host with a group of two Virtual Routers. The second one has a shorter
// Skew_Time.
type pair struct{ *host }

func newPair(t *testing.T) *pair {
	protocol := vrrp.Config{
		Version: 3, VRID: 51, Family: packet.IPv4, Priority: 100,
		Interval: time.Second, Preempt: true, Checksum: vrrp.ChecksumOnlyRFC9568,
		Addresses: []netip.Addr{testVIP.Addr()},
	}
	p := &pair{newHostOf(t, protocol)}
	if err := p.loop.Update(Config{ID: testID, Addresses: []netip.Prefix{testVIP}, Protocol: protocol, Group: "gw"}); err != nil {
		t.Fatal(err)
	}
	protocol.VRID, protocol.Priority = 52, 200
	id := testID
	id.VRID = 52
	if err := errors.Join(p.loop.Add(Config{ID: id, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.99/24")}, Protocol: protocol, Group: "gw"})...); err != nil {
		t.Fatal(err)
	}
	p.start(51)
	p.start(52)
	return p
}

func (p *pair) id(vrid uint8) ID {
	id := testID
	id.VRID = vrid
	return id
}

func (p *pair) start(vrid uint8) {
	p.t.Helper()
	if err := p.loop.Start(Start{p.id(vrid), p.port(), vrrp.CauseStarting}); err != nil {
		p.t.Fatal(err)
	}
}

// from delivers an advertisement of a peer for one of the two.
func (p *pair) from(vrid, priority uint8) {
	r := p.advertisement(priority)
	r.Key.VRID, r.Advertisement.VRID = vrid, vrid
	p.hear(r, true)
	synctest.Wait()
}

func (p *pair) status(vrid uint8) Status {
	p.t.Helper()
	all, err := p.loop.Status()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, s := range all {
		if s.ID == p.id(vrid) {
			return s
		}
	}
	p.t.Fatalf("no VRID %d", vrid)
	return Status{}
}

func (p *pair) expect(what string, want51, want52 vrrp.State) {
	p.t.Helper()
	a, b := p.status(51).Protocol, p.status(52).Protocol
	if a.State != want51 || b.State != want52 {
		p.t.Errorf("%s: %v (%s), %v (%s), want %v, %v", what, a.State, a.LastTransition.Why(), b.State, b.LastTransition.Why(), want51, want52)
	}
}

// The members of a group become Active together, when the last of their timers has expired.
func TestGroupTakesOverTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		time.Sleep(3500 * time.Millisecond) // 52 alone would be Active
		p.expect("before the last timer", vrrp.Backup, vrrp.Backup)
		if by := p.status(52).HeldBy; by == nil || *by != p.id(51) {
			t.Errorf("52 is held by %v", by)
		}
		// While one member hears an Active, no member takes over.
		for range 10 {
			p.from(51, 150)
			time.Sleep(time.Second)
		}
		p.expect("while one of them hears an Active", vrrp.Backup, vrrp.Backup)
		p.from(51, 0)
		time.Sleep(p.status(51).Protocol.SkewTime + time.Millisecond)
		p.expect("when that one leaves", vrrp.Active, vrrp.Active)
		n := len(p.transitions)
		if a, b := p.transitions[n-2], p.transitions[n-1]; a.To != vrrp.Active || b.To != vrrp.Active || a.When != b.When {
			t.Errorf("not decided at once: %+v, %+v", a, b)
		}
		if by := p.status(52).HeldBy; by != nil {
			t.Errorf("52 is held by %v", by)
		}
		p.end()
	})
}

// When one member yields, the others yield too. They don't preempt while it hears an Active
// of higher priority.
func TestGroupYieldsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		time.Sleep(4 * time.Second)
		p.expect("nobody else is there", vrrp.Active, vrrp.Active)
		before := len(p.sent)
		p.from(51, 150)
		p.expect("one of them hears a better one", vrrp.Backup, vrrp.Backup)
		if got := strings.Join(p.kinds()[before:], " "); got != "advertisement 0" {
			t.Errorf("sent %q, want priority 0 of the one that would have stayed", got)
		}
		if why := p.status(52).Protocol.LastTransition.Why(); !strings.Contains(why, "gw: VRID 51 on eth0 (ipv4) is Backup: 192.0.2.2 has the higher priority 150") {
			t.Errorf("52 is Backup because %q", why)
		}
		transitions := len(p.transitions)
		for range 20 {
			p.from(51, 150)
			p.from(52, 100)
			time.Sleep(time.Second)
		}
		if n := len(p.transitions) - transitions; n != 0 {
			t.Errorf("%d transitions with one member that is the better one", n)
		}
		time.Sleep(5 * time.Second)
		p.expect("the better one is gone", vrrp.Active, vrrp.Active)
		p.end()
	})
}

// A member that starts late and hears an Active of higher priority makes the others yield.
func TestGroupFollowsLateMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		time.Sleep(4 * time.Second)
		if err := p.loop.Stop(p.id(52), vrrp.CauseReconfigured, ""); err != nil {
			t.Fatal(err)
		}
		p.start(52)
		for range 6 {
			p.from(52, 250)
			time.Sleep(time.Second)
		}
		p.expect("it hears a better one", vrrp.Backup, vrrp.Backup)
		p.end()
	})
}

// The others wait for a member in Initialize, because it starts soon or can't be Active.
func TestGroupWaitsForInitialize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		if err := p.loop.Stop(p.id(52), vrrp.CauseReconfigured, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		p.expect("one is in Initialize", vrrp.Backup, vrrp.Initialize)
		if by := p.status(51).HeldBy; by == nil || *by != p.id(52) {
			t.Errorf("51 is held by %v", by)
		}
		p.start(52)
		time.Sleep(5 * time.Second)
		p.expect("and takes part", vrrp.Active, vrrp.Active)
		p.end()
	})
}

// Routers without addresses become Active and Backup like others, also together and in a tie.
// They advertise an empty list, and announce nothing.
func TestGroupOfEmptyLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		for vrid, priority := range map[uint8]uint8{51: 100, 52: 200} {
			protocol := p.protocol
			protocol.VRID, protocol.Priority, protocol.Addresses, protocol.Repeat = vrid, priority, nil, 5*time.Second
			if err := p.loop.Update(Config{ID: p.id(vrid), Protocol: protocol, Group: "gw"}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(15 * time.Second)
		p.expect("nobody else advertises", vrrp.Active, vrrp.Active)
		for _, vrid := range []uint8{51, 52} {
			if s := p.status(vrid); s.Counters.Announced != 0 || !s.Assigned {
				t.Errorf("VRID %d announced %d times; addresses in place: %v", vrid, s.Counters.Announced, s.Assigned)
			}
		}
		p.from(51, 100) // a tie
		p.from(51, 200)
		p.expect("another one is better", vrrp.Backup, vrrp.Backup)
		p.mu.Lock()
		defer p.end()
		defer p.mu.Unlock()
		for _, s := range p.sent {
			d, err := packet.ParseFrame(s.frame)
			if err != nil {
				t.Fatalf("sent something else than advertisements: %x", s.frame)
			}
			var a packet.Advertisement
			if _, err := a.DecodeTolerant(&d, packet.Tolerance{NoAddress: true}); err != nil || len(a.Addresses) != 0 {
				t.Errorf("sent %+v, %v", a, err)
			}
		}
		if len(p.sent) < 10 {
			t.Errorf("sent %d advertisements", len(p.sent))
		}
	})
}

// The others leave Active too when the addresses of one member can't be assigned.
func TestGroupWithoutAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.assignErr = errors.New("no")
		time.Sleep(4 * time.Second)
		p.expect("assigning fails", vrrp.Initialize, vrrp.Initialize)
		p.mu.Lock()
		p.assignErr = nil
		p.mu.Unlock()
		time.Sleep(15 * time.Second)
		p.expect("and works again", vrrp.Active, vrrp.Active)

		if err := p.loop.Remove(p.id(52), vrrp.CauseRemoved); err != nil {
			t.Fatal(err)
		}
		if err := p.loop.Remove(p.id(51), vrrp.CauseRemoved); err != nil {
			t.Fatal(err)
		}
		if n := len(p.loop.groups); n != 0 {
			t.Errorf("%d groups are left", n)
		}
		p.end()
	})
}
