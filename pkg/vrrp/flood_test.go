// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// flood delivers an advertisement every step and lets timers expire when they are due.
// It returns the times at which advertisements were sent.
func (m *machine) flood(d, step time.Duration, priority uint8, from ...netip.Addr) (sentAt []Instant) {
	count := func(actions []Action) {
		if strings.Contains(say(actions), "ADV") {
			sentAt = append(sentAt, m.now)
		}
	}
	end := m.now.Add(d)
	for n := 0; m.now < end; n++ {
		next := m.now.Add(step)
		for {
			deadline, ok := m.Deadline()
			if !ok || deadline > next {
				break
			}
			m.now = max(m.now, deadline)
			count(m.timer())
			if m.left() <= 0 {
				m.t.Fatal("the deadline stays where it was")
			}
		}
		m.now = next
		count(m.receive(priority, from[n%len(from)]))
	}
	return sentAt
}

// TM-05, Q-03: in a flood of priority 0 the Backup takes over a Skew_Time after the
// first advertisement that it believes.
func TestPriorityZeroFlood(t *testing.T) {
	t.Attr("proves", "K-21 Q-03 TM-05")
	f := packet.IPv4
	for _, step := range []time.Duration{100 * time.Microsecond, 100 * time.Millisecond, 600 * time.Millisecond} {
		for name, from := range map[string][]netip.Addr{
			"the Active":         {greater(f)},
			"Active and another": {greater(f), less(f)},
			"another alone":      {less(f)},
		} {
			t.Run(fmt.Sprintf("TM-05 Q-03 %s every %v", name, step), func(t *testing.T) {
				m := newMachine(t, nil).backup()
				m.receive(200, greater(f))
				m.pass(time.Second)
				began := m.now
				m.flood(3*time.Second, step, 0, from...)
				want := began.Add(step + 609375*time.Microsecond)
				if name == "another alone" {
					want = began.Add(2609375 * time.Microsecond) // as without the flood
				}
				s := m.Status()
				if s.State != Active || s.LastTransition.To != Active || s.Since != want {
					t.Errorf("%v after %v, want Active after %v", s.State, s.Since.Sub(began), want.Sub(began))
				}
			})
		}
	}
	t.Run("TM-05 nobody is known", func(t *testing.T) {
		m := newMachine(t, nil).backup()
		m.expect("anybody is believed", m.receive(0, less(f)), "advertisement_rcvd priority_zero_pkts_rcvd", Backup, 609375*time.Microsecond)
		m.pass(609374 * time.Microsecond)
		m.expect("never put off", m.receive(0, greater(f)), "advertisement_rcvd priority_zero_pkts_rcvd", Backup, time.Microsecond)
	})
	t.Run("S-B4 the Active is alive after all", func(t *testing.T) {
		m := newMachine(t, nil).backup()
		m.receive(200, greater(f))
		m.receive(0, greater(f))
		m.expect("back", m.receive(200, greater(f)), "advertisement_rcvd", Backup, 3609375*time.Microsecond)
		m.expire()
		if got := m.Status().LastTransition.Cause; got != CauseSilence {
			t.Errorf("because %v", got)
		}
	})
}

// S-T1: an Active sends at most one immediate answer in 10 ms, and its regular
// advertisements continue.
func TestStormGuard(t *testing.T) {
	t.Attr("proves", "K-02 S-T1")
	f := packet.IPv4
	for _, step := range []time.Duration{10 * time.Microsecond, time.Millisecond, 9999 * time.Microsecond} {
		t.Run("S-T1 every "+step.String(), func(t *testing.T) {
			m := newMachine(t, nil).active()
			rhythm := m.now.Add(time.Second)
			sentAt := m.flood(1500*time.Millisecond, step, 99, greater(f), less(f))
			if n := len(sentAt); n < 70 || n > 152 {
				t.Errorf("%d advertisements in 1.5 s", n)
			}
			last, onTime := Instant(0), 0
			for _, at := range sentAt {
				if at == rhythm {
					onTime++
					continue
				}
				if at.Sub(last) < answerSpacing {
					t.Fatalf("answers %v apart", at.Sub(last))
				}
				last = at
			}
			if onTime != 1 {
				t.Error("Adver_Timer did not fire in time")
			}
		})
	}
	t.Run("S-A3 leaves", func(t *testing.T) {
		m := newMachine(t, nil).active()
		if n := len(m.flood(time.Second, 100*time.Microsecond, 0, greater(f))); n < 90 || n > 102 {
			t.Errorf("%d answers to 10000 leaves in a second", n)
		}
	})
	t.Run("S-A3 between transitions", func(t *testing.T) {
		// Priority 0 is forged in the name of an Active that continues.
		m := newMachine(t, func(c *Config) { c.Priority = 254 }).backup()
		answers, end := 0, m.now.Add(time.Second)
		for m.now < end {
			m.receive(255, greater(f))
			m.receive(0, greater(f))
			m.expire() // after Skew_Time, 8 ms: it takes over
			for range 3 {
				answers += strings.Count(say(m.receive(0, greater(f))), "ADV")
			}
		}
		if answers == 0 || answers > 102 {
			t.Errorf("%d answers in a second", answers)
		}
	})
	t.Run("announcements", func(t *testing.T) {
		m := newMachine(t, nil).active()
		count := 0
		for range 1000 { // in a second
			m.pass(time.Millisecond)
			for _, actions := range [][]Action{m.timer(), m.receive(99, less(f))} {
				count += strings.Count(say(actions), "announce")
			}
		}
		if count < 9 || count > 12 {
			t.Errorf("%d announcements in a second of rivals", count)
		}
		m.pass(announceSpacing)
		if got := say(m.timer()); !strings.Contains(got, "announce") {
			t.Errorf("no announcement after the last rival: %q", got)
		}
	})
	t.Run("S-T1 Q-02 own packets", func(t *testing.T) {
		m := newMachine(t, nil).active()
		if sentAt := m.flood(900*time.Millisecond, 90*time.Microsecond, 100, local[f]); len(sentAt) != 0 {
			t.Errorf("%d answers to itself", len(sentAt))
		}
	})
	t.Run("S-A5 v2 answers nobody", func(t *testing.T) {
		m := newMachine(t, func(c *Config) { c.Version = 2 }).active()
		if sentAt := m.flood(900*time.Millisecond, time.Millisecond, 99, greater(f)); len(sentAt) != 0 {
			t.Errorf("%d answers", len(sentAt))
		}
	})
}

// TM-05: priority 0 makes an Active advertise and never silences it. If the limit of
// answers suppresses the answer, the Adver_Timer isn't restarted either. In version
// 2 a lower priority just before suppresses the answer.
func TestPriorityZeroDoesntSilence(t *testing.T) {
	t.Attr("proves", "S-A3 TM-05")
	for _, version := range []uint8{2, 3} {
		m := newMachine(t, func(c *Config) { c.Version = version }).active()
		adverts, end := 0, m.now.Add(10*time.Second)
		for m.now < end {
			for _, a := range append(m.receive(50, less(packet.IPv4)), m.receive(0, less(packet.IPv4))...) {
				if a.Kind == SendAdvertisement {
					adverts++
				}
			}
			for _, a := range m.timer() {
				if a.Kind == SendAdvertisement {
					adverts++
				}
			}
			m.pass(5 * time.Millisecond)
		}
		if adverts < 9 || adverts > 1011 {
			t.Errorf("version %d: %d advertisements in 10 s", version, adverts)
		}
	}
}

// Of a stamp only the version, priority and interval are known.
func TestStamps(t *testing.T) {
	const down, skew = 3609375 * time.Microsecond, 609375 * time.Microsecond
	stamp := func(m *machine, version, priority uint8, interval time.Duration) []Action {
		return m.Step(m.now, Event{Kind: StampHeard, Advertisement: packet.Advertisement{Version: version, Priority: priority, Interval: interval}}, nil)
	}
	for _, c := range []struct {
		name     string
		change   func(*Config)
		version  uint8
		priority uint8
		interval time.Duration
		want     time.Duration // to the deadline, half a second after a start
	}{
		{"S-B4 equal", nil, 3, 100, time.Second, down},
		{"S-B4 higher, learnt", nil, 3, 101, 250 * time.Millisecond, 902343750},
		{"S-B4 patient", func(c *Config) { c.Preempt = false }, 3, 1, 250 * time.Millisecond, 902343750},
		{"S-B5 lower", nil, 3, 99, 250 * time.Millisecond, down - time.Second/2},
		{"S-B3 leave", nil, 3, 0, 250 * time.Millisecond, down - time.Second/2},
		{"R-14 other version", nil, 2, 200, time.Second, down - time.Second/2},
		{"S-B4 v2", func(c *Config) { c.Version = 2 }, 2, 200, time.Second, down},
		{"R-17 v2 other interval", func(c *Config) { c.Version = 2 }, 2, 200, 2 * time.Second, down - time.Second/2},
		{"R-17 v2 leave of other interval", func(c *Config) { c.Version = 2 }, 2, 0, 2 * time.Second, down - time.Second/2},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, c.change).backup()
			m.pass(time.Second / 2)
			m.expect("stamp", stamp(m, c.version, c.priority, c.interval), "", Backup, c.want)
		})
	}
	t.Run("S-B3 of before it left", func(t *testing.T) {
		m := newMachine(t, nil).backup()
		m.receive(200, greater(packet.IPv4))
		m.pass(time.Second)
		m.receive(0, greater(packet.IPv4))
		m.now -= Instant(time.Millisecond)
		m.expect("stamp", stamp(m, 3, 200, time.Second), "", Backup, skew+time.Millisecond)
		m.pass(2 * time.Millisecond)
		m.expect("of after it", stamp(m, 3, 200, time.Second), "", Backup, down)
	})
	t.Run("S-B3 read after it", func(t *testing.T) {
		m := newMachine(t, nil).backup()
		m.receive(200, greater(packet.IPv4))
		m.pass(time.Second)
		stamp(m, 3, 200, time.Second)
		m.now -= Instant(time.Millisecond)
		m.expect("leave", m.receive(0, greater(packet.IPv4)), "advertisement_rcvd priority_zero_pkts_rcvd", Backup, down+time.Millisecond)
	})
	t.Run("a take-over is explained", func(t *testing.T) {
		m := newMachine(t, nil).backup()
		stamp(m, 3, 200, time.Second)
		m.expire()
		if got, want := m.Status().LastTransition.Why(), "nothing heard from the Active router for 3.609s (Active_Down_Interval 3.609s)"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
	t.Run("TM-08 interval 0", func(t *testing.T) {
		m := newMachine(t, nil).backup()
		m.expect("stamp", stamp(m, 3, 200, 0), "", Backup, down)
		a := m.heard(200)
		a.Interval = 0
		m.expect("advertisement", m.hear(a, greater(packet.IPv4), packet.ChecksumRFC9568), "refused:zero_interval_errors", Backup, down)
	})
	t.Run("an old stamp changes nothing", func(t *testing.T) {
		m := newMachine(t, nil).backup()
		m.pass(time.Second)
		m.receive(200, greater(packet.IPv4))
		heard := m.now
		m.now -= second / 2
		stamp(m, 3, 200, time.Second)
		if d, _ := m.Deadline(); d != heard.Add(down) {
			t.Errorf("deadline %v after it was heard", d.Sub(heard))
		}
	})
	for _, state := range []func(*machine) *machine{func(m *machine) *machine { return m }, (*machine).active} {
		m := state(newMachine(t, nil))
		before := m.Status()
		for _, p := range []uint8{0, 1, 100, 255} {
			if got := say(stamp(m, 3, p, time.Second)); got != "" || m.Status() != before {
				t.Errorf("%v heeds a stamp of priority %d: %q", before.State, p, got)
			}
		}
	}
}

// An Active ignores outranked advertisements only until it has lapsed, because then
// it has to yield to them.
func TestOutrankedUntilLapsed(t *testing.T) {
	for _, version := range []uint8{2, 3} {
		m := newMachine(t, func(c *Config) { c.Version = version }).active()
		advertised := m.Status().Advertised
		m.now = advertised.Add(3*time.Second - time.Millisecond)
		ev := Event{Kind: Receive, Advertisement: m.heard(50), From: less(packet.IPv4), Checksum: packet.ChecksumRFC9568}
		o, ok := m.Outranked(&ev, m.Step(m.now, ev, nil))
		if lapses := m.Status().Advertised.Add(3 * time.Second); !ok || o.Until <= m.now || o.Until > lapses+1 {
			t.Errorf("version %d: ignored until %v after the last advertisement", version, o.Until.Sub(m.Status().Advertised))
		}
	}
}
