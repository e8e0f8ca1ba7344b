// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// A router that continues after a crash is Active at once, advertises, and announces nothing.
func TestContinue(t *testing.T) {
	resume := func(m *machine) []Action {
		return m.Step(m.now, Event{Kind: Continue, Cause: CauseContinued, Source: local[m.c.Family], Left: m.now.Add(-700 * time.Millisecond)}, nil)
	}
	for _, family := range []packet.Family{packet.IPv4, packet.IPv6} {
		m := newMachine(t, func(c *Config) { c.Family, c.Announcements, c.Repeat = family, 5, time.Second })
		m.expect("continues", resume(m), "Initialize>Active assign ADV(100)", Active, time.Second)
		s := m.Status()
		if s.Advertised != m.now || s.Active != local[family] || s.BecameActive != 1 {
			t.Errorf("status: %+v", s)
		}
		if why := s.LastTransition.Why(); why != "continued as Active after a crash: no advertisement for 700ms (limit 3s)" {
			t.Errorf("because %q", why)
		}
		m.expect("no second start", resume(m), "", Active, time.Second)
		m.expect("Adver_Timer", m.expire(), "ADV(100)", Active, time.Second)
		m.expect("lower priority", m.receive(50, less(family)), "advertisement_rcvd ADV(100) announce", Active, 100*time.Millisecond)
		m.receive(200, less(family))
		if m.State() != Backup {
			t.Errorf("%v after a higher priority", m.State())
		}
	}
	// Without an advertisement of its own, that of the killed run counts.
	m := newMachine(t, nil)
	resume(m)
	left := m.now.Add(-700 * time.Millisecond)
	m.now = left.Add(3*time.Second + 255*time.Second/256)
	if m.Step(m.now, Event{Kind: Unsent, Detail: "why"}, nil); m.State() != Backup || m.Status().LastTransition.Silence != m.now.Sub(left) {
		t.Errorf("%v because %s", m.State(), m.Status().LastTransition.Why())
	}
	m = newMachine(t, func(c *Config) { c.Priority, c.AddAddresses = OwnerPriority, true })
	m.expect("priority 255", resume(m), "Initialize>Active assign ADV(255)", Active, time.Second)
	m = newMachine(t, nil).backup()
	m.expect("a Backup ignores it", resume(m), "", Backup, m.Status().ActiveDownInterval)
}

// A router that continues sends the forms of the checksum that the other run has learnt to send.
func TestContinueChecksum(t *testing.T) {
	const both = packet.ChecksumRFC9568 | packet.ChecksumRFC5798
	for _, row := range []struct {
		before, want packet.Checksum
		change       func(*Config)
	}{
		{0, both, nil},
		{both, both, nil},
		{packet.ChecksumRFC5798, packet.ChecksumRFC5798, nil},
		{both, packet.ChecksumRFC5798, func(c *Config) { c.Checksum = ChecksumOnlyRFC5798 }},
		{packet.ChecksumRFC5798, packet.ChecksumRFC9568, func(c *Config) { c.Version = 2 }},
	} {
		m := newMachine(t, row.change)
		m.Step(m.now, Event{Kind: Continue, Cause: CauseRestarted, Source: local[m.c.Family], Checksum: row.before, Left: m.now}, nil)
		if got := m.Status().Checksum; got != row.want {
			t.Errorf("%v before: sends %v, want %v", row.before, got, row.want)
		}
	}
}

func TestLastAdvertised(t *testing.T) {
	const ms = time.Millisecond
	for _, row := range []struct {
		before, now time.Duration // the intervals
		down        int
		late        time.Duration // between the decision to send and the sending
		unsent      bool          // the last advertisement
		ok          bool
	}{
		{time.Second, time.Second, 3, 0, false, true},
		{time.Second, time.Second, 0, 3 * ms, false, true},
		{time.Second, time.Second, 3, 400 * ms, false, true},
		{time.Second, time.Second, 3, 600 * ms, false, false},
		{time.Second, time.Second, 5, ms, false, true},
		{time.Second, time.Second, 3, ms, true, false},
		{time.Second, 2 * time.Second, 3, ms, false, false},
		{time.Second, 1010 * ms, 3, ms, false, false},
		{time.Second, 500 * ms, 3, ms, false, false},
		{10 * ms, 10 * ms, 3, ms, false, true},
		{10 * ms, 40 * ms, 3, ms, false, false},
		{100 * ms, 100 * ms, 3, 40 * ms, false, true},
		{100 * ms, 200 * ms, 3, ms, false, false},
		{100 * ms, 10 * ms, 3, ms, false, false},
	} {
		c := Config{Interval: row.before, DownAfter: row.down}
		sent := start.Add(row.late)
		answer, advertise := sent.Add(c.SilenceLimit(row.before)), start.Add(max(SendWithin, row.before))
		if row.unsent {
			advertise = advertise.Add(row.before)
		}
		c.Interval = row.now
		if got, ok := c.LastAdvertised(answer, advertise); ok != row.ok || ok && got != sent {
			t.Errorf("%+v: %v %v, want %v", row, got, ok, sent)
		}
	}
	if _, ok := (&Config{Interval: time.Second}).LastAdvertised(0, start); ok {
		t.Error("a lease that was ended")
	}
}
