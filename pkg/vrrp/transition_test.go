// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// exact has the timers of a router of priority 100. In version 3 its peers have another
// interval.
type exact struct {
	name       string
	version    uint8
	family     packet.Family
	interval   time.Duration // local
	skew, down time.Duration // of the local interval
	peers      time.Duration // the peers' interval
	learntSkew time.Duration // of the peers' interval
	learntDown time.Duration
	accepted   string        // what is reported of a peer's advertisement
	ownerSkew  time.Duration // of priority 255
}

// The Skew_Time of version 2 doesn't depend on the interval; that of version 3
// follows the Active's.
var exactTimers = []exact{
	{
		"v2", 2, packet.IPv4, 3 * time.Second, 609375 * time.Microsecond, 9609375 * time.Microsecond,
		3 * time.Second, 609375 * time.Microsecond, 9609375 * time.Microsecond, "advertisement_rcvd", 3906250,
	},
	{
		"v3 IPv4", 3, packet.IPv4, time.Second, 609375 * time.Microsecond, 3609375 * time.Microsecond,
		250 * time.Millisecond, 152343750, 902343750, "interval_errors advertisement_rcvd", 976562,
	},
	{
		"v3 IPv6", 3, packet.IPv6, time.Second, 609375 * time.Microsecond, 3609375 * time.Microsecond,
		250 * time.Millisecond, 152343750, 902343750, "interval_errors advertisement_rcvd", 976562,
	},
}

// peerSays receives an advertisement of a peer, with the peers' interval.
func (m *machine) peerSays(x exact, priority uint8, from netip.Addr) []Action {
	a := m.heard(priority)
	a.Interval = x.peers
	return m.hear(a, from, packet.ChecksumRFC9568)
}

func (m *machine) pass(d time.Duration) { m.now = m.now.Add(d) }

func (m *machine) timer() []Action { return m.Step(m.now, Event{Kind: TimerExpired}, nil) }

// Every row of RFC 9568 §6.4. The local and the learnt interval differ, so that a timer
// that uses the wrong one fails the test.
func TestTransitionTable(t *testing.T) {
	t.Attr("proves", "R-27 S-X2")
	const (
		entering = "assign ADV(100) announce"
		ms       = time.Millisecond
	)
	owner := func(c *Config) { c.Priority = OwnerPriority }
	patient := func(c *Config) { c.Preempt = false }
	for _, row := range []struct {
		name   string
		change func(*Config)
		test   func(m *machine, x exact)
	}{
		{"S-I1 owner", owner, func(m *machine, x exact) {
			m.expect("startup", m.startup(), "Initialize>Active assign ADV(255) announce", Active, x.interval)
			m.expect("Adver_Timer", m.expire(), "ADV(255)", Active, x.interval)
			m.expect("shutdown", m.shutdown(), "ADV(0) release Active>Initialize", Initialize, 0)
		}},
		{"S-I2 forgets what it learnt", nil, func(m *machine, x exact) {
			m.expect("startup", m.startup(), "Initialize>Backup", Backup, x.down)
			m.peerSays(x, 200, greater(x.family))
			m.shutdown()
			m.pass(time.Hour)
			m.expect("startup", m.startup(), "Initialize>Backup", Backup, x.down)
			s := m.Status()
			if s.Active.IsValid() || s.ActivePriority != 0 || s.ActiveAdverInterval != x.interval || s.SkewTime != x.skew {
				m.t.Errorf("status of the last life: %+v", s)
			}
		}},
		{"S-I3 discards", nil, func(m *machine, x exact) {
			m.expect("advertisement", m.peerSays(x, 0, less(x.family)), "refused:initialize", Initialize, 0)
			m.expect("timer", m.timer(), "", Initialize, 0)
		}},
		{"S-B1 shutdown sends nothing", nil, func(m *machine, x exact) {
			m.backup().peerSays(x, 200, greater(x.family))
			m.expect("shutdown", m.shutdown(), "Backup>Initialize", Initialize, 0)
			m.expect("no timer is left", m.timer(), "", Initialize, 0)
		}},
		{"S-B2 Adver_Timer is the local one", nil, func(m *machine, x exact) {
			m.backup().peerSays(x, 200, greater(x.family))
			m.expect("takes over", m.expire(), "Backup>Active "+entering, Active, x.interval)
		}},
		{"S-B3 Skew_Time of the stored interval", nil, func(m *machine, x exact) {
			m.backup().peerSays(x, 200, greater(x.family))
			a := m.heard(0) // with the local interval, not to be learnt
			m.expect("leave", m.hear(a, greater(x.family), packet.ChecksumRFC9568), "advertisement_rcvd priority_zero_pkts_rcvd", Backup, x.learntSkew)
			m.expect("takes over", m.expire(), "Backup>Active "+entering, Active, x.interval)
		}},
		{"S-B4 learns", nil, func(m *machine, x exact) {
			m.backup()
			for _, p := range []uint8{100, 101, 254, 255} {
				m.pass(100 * ms)
				m.expect("equal or higher", m.peerSays(x, p, less(x.family)), x.accepted, Backup, x.learntDown)
			}
		}},
		{"S-B4 TM-07 Q-04 patient", patient, func(m *machine, x exact) {
			m.backup()
			for range 5 {
				m.pass(x.learntDown - 1)
				m.expect("lower", m.peerSays(x, 1, less(x.family)), x.accepted, Backup, x.learntDown)
			}
		}},
		{"S-B5 S-T2 Q-05 timer goes on", nil, func(m *machine, x exact) {
			m.backup()
			for left := x.down; left > time.Second; left -= 500 * ms {
				m.expect("lower", m.peerSays(x, 99, greater(x.family)), x.accepted, Backup, left)
				m.pass(500 * ms)
			}
			m.expect("takes over", m.expire(), "Backup>Active "+entering, Active, x.interval)
			if got := m.now.Sub(start); got != x.down {
				m.t.Errorf("after %v, want %v", got, x.down)
			}
		}},
		{"S-A1 Q-08 farewell comes first", nil, func(m *machine, x exact) {
			m.expect("shutdown", m.active().shutdown(), "ADV(0) release Active>Initialize", Initialize, 0)
			m.expect("once", m.shutdown(), "", Initialize, 0)
		}},
		{"S-A2 TM-02 no drift", nil, func(m *machine, x exact) {
			first := m.active().now
			for n := range 100 {
				m.pass(m.left() + time.Duration(n)*ms)
				want := x.interval - time.Duration(n)*ms
				m.expect("late", m.timer(), "ADV(100)", Active, want)
			}
			if d, _ := m.Deadline(); d != first.Add(101*x.interval) {
				m.t.Errorf("the 101st is due after %v", d.Sub(first))
			}
		}},
		{"S-A3 from now", nil, func(m *machine, x exact) {
			m.active().pass(700 * ms)
			m.expect("leave", m.peerSays(x, 0, less(x.family)), x.accepted+" priority_zero_pkts_rcvd ADV(100) announce", Active, announceSpacing)
			m.expect("announces again", m.expire(), "announce", Active, x.interval-announceSpacing)
			m.expect("Adver_Timer", m.expire(), "ADV(100)", Active, x.interval)
		}},
		{"S-A4 higher priority", nil, yields(101, less)},
		{"S-A4 higher priority, patient", patient, yields(101, less)},
		{"S-A4 greater address", nil, yields(100, greater)},
		{"S-A4 greater address, patient", patient, yields(100, greater)},
		{"S-A5 K-02 Q-01 lower priority", nil, stays(99, greater)},
		{"S-A5 lower address", nil, stays(100, less)},
		{"S-A5 lower priority, patient", patient, stays(1, greater)},
		{"S-X4 owner preempts", func(c *Config) { owner(c); patient(c) }, func(m *machine, x exact) {
			m.active().peerSays(x, 255, greater(x.family))
			if x.version == 2 { // an owner is never Backup
				m.expect("another owner", nil, "", Active, x.interval)
				return
			}
			m.pass(100 * ms)
			left := m.left()
			m.expect("a lower priority has no effect", m.peerSays(x, 254, greater(x.family)), "owner_conflict "+x.accepted, Backup, left)
			m.expect("takes over", m.expire(), "Backup>Active assign ADV(255) announce", Active, x.interval)
		}},
		{"E-03 TM-10 R-15 two owners", owner, func(m *machine, x exact) {
			m.active().pass(300 * ms)
			left := x.interval - 300*ms
			if x.version == 2 {
				for _, p := range []uint8{0, 100, 255} {
					m.expect("discards", m.peerSays(x, p, greater(x.family)), "refused:owner_conflict", Active, left)
				}
				return
			}
			m.expect("the lesser address loses", m.peerSays(x, 255, less(x.family)), "owner_conflict "+x.accepted+" ADV(255) announce", Active, announceSpacing)
			m.expect("to the greater", m.peerSays(x, 255, greater(x.family)), "owner_conflict "+x.accepted+" release Active>Backup", Backup, 3*x.peers+x.ownerSkew)
		}},
		// Only a host that has the addresses anyway may discard what RFC 3768 discards.
		{"two owners that don't have the addresses", func(c *Config) { owner(c); c.AddAddresses = true }, func(m *machine, x exact) {
			m.active().pass(300 * ms)
			m.expect("to the greater", m.peerSays(x, 255, greater(x.family)), "owner_conflict "+x.accepted+" release Active>Backup", Backup, 3*x.peers+x.ownerSkew)
		}},
	} {
		for _, x := range exactTimers {
			t.Run(x.name+"/"+row.name, func(t *testing.T) {
				m := newMachine(t, func(c *Config) {
					c.Version, c.Family, c.Interval = x.version, x.family, x.interval
					if row.change != nil {
						row.change(c)
					}
				})
				row.test(m, x)
			})
		}
	}
}

// left returns the time until the deadline.
func (m *machine) left() time.Duration {
	d, _ := m.Deadline()
	return d.Sub(m.now)
}

// yields checks S-A4: the router becomes Backup with the peers' interval, whatever
// Preempt_Mode is.
func yields(priority uint8, from func(packet.Family) netip.Addr) func(*machine, exact) {
	return func(m *machine, x exact) {
		m.active().pass(x.interval / 2)
		m.expect("rival", m.peerSays(x, priority, from(x.family)), x.accepted+" release Active>Backup", Backup, x.learntDown)
		s := m.Status()
		if s.Active != from(x.family) || s.ActivePriority != priority || s.ActiveAdverInterval != x.peers || s.SkewTime != x.learntSkew {
			m.t.Errorf("status %+v", s)
		}
	}
}

// stays checks S-A5: version 2 doesn't answer, version 3 answers at once, and the
// Adver_Timer keeps running in both.
func stays(priority uint8, from func(packet.Family) netip.Addr) func(*machine, exact) {
	return func(m *machine, x exact) {
		m.active().pass(500 * time.Millisecond)
		answer := " ADV(100) announce"
		if x.version == 2 {
			answer = " announce"
		}
		left := x.interval - 500*time.Millisecond
		m.expect("rival", m.peerSays(x, priority, from(x.family)), x.accepted+answer, Active, announceSpacing)
		m.expect("announces again", m.expire(), "announce", Active, left-announceSpacing)
		m.expect("Adver_Timer", m.expire(), "ADV(100)", Active, x.interval)
	}
}

// The names of the states are those of the RFC.
func TestStateString(t *testing.T) {
	for s, want := range map[State]string{Initialize: "Initialize", Backup: "Backup", Active: "Active", 9: "state 9"} {
		if got := s.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// S-C1 and S-C2: addresses are compared unsigned, in network order, without the zone.
func TestTieBreak(t *testing.T) {
	t.Attr("proves", "S-C1 S-C2")
	for _, c := range []struct {
		name, own, other string
		want             string
	}{
		{"V09", "198.18.0.200", "198.18.1.3", "advertisement_rcvd release Active>Backup"},
		{"V09 the other way", "198.18.1.3", "198.18.0.200", "advertisement_rcvd ADV(100) announce"},
		{"V10", "fe80::b", "fe80::a", "advertisement_rcvd ADV(100) announce"},
		{"V10 the other way", "fe80::a", "fe80::b", "advertisement_rcvd release Active>Backup"},
		{"unsigned", "127.0.0.1", "200.0.0.1", "advertisement_rcvd release Active>Backup"},
		{"unsigned IPv6", "fe80::7fff", "fe80::8000", "advertisement_rcvd release Active>Backup"},
		{"zones don't count", "fe80::b%a", "fe80::a%b", "advertisement_rcvd ADV(100) announce"},
		{"mapped", "198.18.0.200", "::ffff:198.18.1.3", "advertisement_rcvd release Active>Backup"},
		{"S-T1 equal", "198.18.0.200", "198.18.0.200", "refused:own_source"},
		{"S-T1 equal IPv6", "fe80::b", "fe80::b", "refused:own_source"},
		{"S-T1 equal but for the zone", "fe80::b%eth0", "fe80::b%eth1", "refused:own_source"},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := netip.MustParseAddr(c.own)
			m := newMachine(t, func(cfg *Config) { cfg.Family = packet.FamilyOf(own) })
			m.Step(m.now, Event{Kind: Startup, Source: own}, nil)
			m.expire()
			m.pass(time.Second / 2)
			if got := say(m.receive(100, netip.MustParseAddr(c.other))); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
