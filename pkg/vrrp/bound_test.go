// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// longest is the longest Max Advertise Interval that fits the field.
const longest = 40950 * time.Millisecond

// says returns an advertisement with the given interval.
func (m *machine) says(priority uint8, interval time.Duration, from netip.Addr) []Action {
	a := m.heard(priority)
	a.Interval = interval
	return m.hear(a, from, packet.ChecksumRFC9568)
}

// A Backup learns no interval above MaxInterval, on each of the ways on which it learns
// one.
func TestMaxInterval(t *testing.T) {
	t.Attr("proves", "S-B3 S-B4 S-A4 TM-07")
	const (
		noted = "interval_errors advertisement_rcvd"
		down  = 7218750 * time.Microsecond // 3 * 2 s + 156/256 * 2 s
		skew  = 1218750 * time.Microsecond
	)
	other := greater(packet.IPv4)
	bounded := func(c *Config) { c.MaxInterval = 2 * time.Second }
	for _, row := range []struct {
		name   string
		change func(*Config)
		test   func(m *machine)
	}{
		{"S-B4 not before there is a bound", func(c *Config) { c.MaxInterval = 0 }, func(m *machine) {
			m.expect("forged", m.backup().says(255, longest, other), noted, Backup, 3*longest+24953906250)
		}},
		{"S-B4 no more than the bound", nil, func(m *machine) {
			m.expect("forged", m.backup().says(255, longest, other), noted, Backup, down)
			m.expect("takes over", m.expire(), "Backup>Active assign ADV(100) announce", Active, time.Second)
		}},
		{"S-B4 what is within the bound", nil, func(m *machine) {
			m.expect("the bound", m.backup().says(255, 2*time.Second, other), noted, Backup, down)
			m.expect("less", m.says(255, 1500*time.Millisecond, other), noted, Backup, 5414062500)
			m.expect("the same", m.says(255, time.Second, other), "advertisement_rcvd", Backup, 3609375*time.Microsecond)
		}},
		{"S-B4 a slower Active is followed as long as it is heard", nil, func(m *machine) {
			m.backup().says(200, 7*time.Second, other)
			for range 5 {
				m.pass(7 * time.Second)
				m.expect("again", m.says(200, 7*time.Second, other), noted, Backup, down)
			}
		}},
		{"S-B4 TM-07 patient", func(c *Config) { c.Preempt = false }, func(m *machine) {
			m.expect("lower", m.backup().says(1, longest, other), noted, Backup, down)
		}},
		{"S-B4 preemption delayed", func(c *Config) { c.PreemptDelay = time.Hour }, func(m *machine) {
			m.expect("lower", m.backup().says(1, longest, other), noted, Backup, down)
		}},
		{"S-B4 of a stamp", nil, func(m *machine) {
			a := m.backup().heard(200)
			a.Interval = longest
			m.expect("stamp", m.Step(m.now, Event{Kind: StampHeard, Advertisement: a}, nil), "", Backup, down)
		}},
		{"S-B4 more may be missed", func(c *Config) { c.DownAfter = 10 }, func(m *machine) {
			m.expect("forged", m.backup().says(255, longest, other), noted, Backup, 20*time.Second+skew)
		}},
		{"S-B3 Skew_Time of the bound", nil, func(m *machine) {
			m.backup().says(255, longest, other)
			m.expect("leaves", m.says(0, longest, other), noted+" priority_zero_pkts_rcvd", Backup, skew)
		}},
		{"S-A4 an Active yields", nil, func(m *machine) {
			m.active().pass(time.Second / 2)
			m.expect("rival", m.says(255, longest, other), noted+" release Active>Backup", Backup, down)
		}},
		{"I-04 the Active's version 2", func(c *Config) { c.Dual = true }, func(m *machine) {
			m.backup().says(200, 1500*time.Millisecond, other)
			m.pass(time.Second)
			a := m.version2(200)
			a.Interval = 2 * time.Second
			m.expect("is a sign of life", m.hear(a, other, packet.ChecksumRFC9568), noted, Backup, 5414062500)
			m.expect("another's", m.hear(m.slow2(40*time.Second), less(packet.IPv4), packet.ChecksumRFC9568), noted, Backup, down)
		}},
		{"R-17 version 2 refuses it", func(c *Config) { c.Version = 2 }, func(m *machine) {
			m.expect("forged", m.backup().says(255, 255*time.Second, other), "refused:interval_errors", Backup, 3609375*time.Microsecond)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := newMachine(t, func(c *Config) {
				bounded(c)
				if row.change != nil {
					row.change(c)
				}
			})
			row.test(m)
			if s := m.Status(); m.c.MaxInterval != 0 && s.ActiveAdverInterval > m.c.MaxInterval {
				t.Errorf("Active_Adver_Interval %v", s.ActiveAdverInterval)
			}
		})
	}
}

// slow2 returns a version 2 advertisement with the given interval.
func (m *machine) slow2(interval time.Duration) packet.Advertisement {
	a := m.version2(200)
	a.Interval = interval
	return a
}

// The status has the interval that the Active advertises and the one that is used.
func TestMaxIntervalStatus(t *testing.T) {
	m := newMachine(t, func(c *Config) { c.MaxInterval = 2 * time.Second }).backup()
	if s := m.Status(); s.Interval != time.Second || s.Learnt != time.Second || s.ActiveAdverInterval != time.Second {
		t.Errorf("before anybody is heard: %+v", s)
	}
	m.says(255, longest, greater(packet.IPv4))
	if s := m.Status(); s.Interval != time.Second || s.Learnt != longest || s.ActiveAdverInterval != 2*time.Second {
		t.Errorf("after: %+v", s)
	}
}

// A changed MaxInterval takes effect at once, from the last advertisement of the Active
// on. With a smaller one the timer may have expired already, and a larger one accepts
// more of the Active's interval.
func TestReconfigureMaxInterval(t *testing.T) {
	m := newMachine(t, nil).backup()
	m.says(255, longest, greater(packet.IPv4))
	m.pass(10 * time.Second)
	for _, c := range []struct{ most, want time.Duration }{
		{10 * time.Second, 30*time.Second + 6093750*time.Microsecond - 10*time.Second},
		{time.Minute, 3*longest + 24953906250 - 10*time.Second},
		{time.Second, 3609375*time.Microsecond - 10*time.Second},
		{0, 3*longest + 24953906250 - 10*time.Second},
	} {
		m.c.MaxInterval = c.most
		m.expect(c.most.String(), change(t, m.Router, m.now, m.c), "", Backup, c.want)
	}
	m.c.MaxInterval = time.Second
	change(t, m.Router, m.now, m.c)
	if got := say(m.timer()); got != "Backup>Active assign ADV(100) announce" {
		t.Errorf("%q when the bound is over", got)
	}
}

// A MaxInterval below the routers' own interval is an error, because a Backup would take
// over from each of them.
func TestMaxIntervalErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		ok     bool
	}{
		{"none", func(c *Config) { c.MaxInterval = 0 }, true},
		{"its own interval", func(c *Config) { c.MaxInterval = c.Interval }, true},
		{"any more", func(c *Config) { c.MaxInterval = time.Hour }, true},
		{"less than its own", func(c *Config) { c.MaxInterval = c.Interval - 1 }, false},
		{"negative", func(c *Config) { c.MaxInterval = -1 }, false},
		{"dual, less than version 2 can say", func(c *Config) { c.Dual, c.Interval, c.MaxInterval = true, 100*time.Millisecond, 900*time.Millisecond }, false},
		{"dual, as much", func(c *Config) { c.Dual, c.Interval, c.MaxInterval = true, 100*time.Millisecond, time.Second }, true},
		{"version 2", func(c *Config) { c.Version, c.Interval, c.MaxInterval = 2, 2*time.Second, time.Second }, false},
	} {
		config := newMachine(t, nil).c
		c.change(&config)
		if err := config.Validate(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
