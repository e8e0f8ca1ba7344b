// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// An Active that hasn't advertised for SilenceLimit yields to the router that took
// over, whatever its priority, and then preempts it in the usual way.
func TestLapsed(t *testing.T) {
	for _, x := range exactTimers {
		t.Run(x.name, func(t *testing.T) {
			set := func(c *Config) { c.Version, c.Family, c.Interval = x.version, x.family, x.interval }
			m := newMachine(t, set).active()
			m.pass(3 * x.interval)
			if m.receive(1, less(x.family)); m.State() != Active {
				t.Fatalf("yields after no more than three intervals: %v", m.State())
			}
			m = newMachine(t, set).active()
			m.pass(3*x.interval + 1)
			a := m.receive(1, less(x.family))
			if m.State() != Backup || m.last.Cause != CauseLapsed {
				t.Fatalf("in %v after %s", m.State(), say(a))
			}
			for _, a := range a {
				if a.Kind == SendAdvertisement || a.Kind == AnnounceAddresses {
					t.Errorf("says something before it yields: %s", say([]Action{a}))
				}
			}
			due, _ := m.Deadline()
			if due != m.now.Add(x.down) {
				t.Errorf("takes over after %v, want %v", due.Sub(m.now), x.down)
			}
			m.receive(1, less(x.family))
			m.now = due
			if m.timer(); m.State() != Active || m.last.Cause != CausePreempted {
				t.Errorf("in %v by %v", m.State(), m.last.Cause)
			}
		})
	}
}

// An Active that lapsed doesn't yield to priority 0, and an address owner never yields.
func TestLapsedStays(t *testing.T) {
	m := newMachine(t, nil).active()
	m.pass(time.Hour)
	if m.receive(0, less(packet.IPv4)); m.State() != Active {
		t.Errorf("on priority 0: %v", m.State())
	}
	m = newMachine(t, func(c *Config) { c.Priority = OwnerPriority }).active()
	m.pass(time.Hour)
	if m.receive(200, less(packet.IPv4)); m.State() != Active {
		t.Errorf("an owner: %v", m.State())
	}
}

// The announcements of a new Active are repeated once, and not after it has yielded.
func TestRepeat(t *testing.T) {
	announced := func(m *machine, until time.Duration) (at []time.Duration) {
		start := m.now
		for m.now < start.Add(until) {
			m.now, _ = m.Deadline()
			for _, a := range m.timer() {
				if a.Kind == AnnounceAddresses {
					at = append(at, m.now.Sub(start))
				}
			}
		}
		return at
	}
	repeats := func(c *Config) { c.Repeat = 5 * time.Second }
	if at := announced(newMachine(t, repeats).active(), time.Minute); len(at) != 1 || at[0] != 5*time.Second {
		t.Errorf("announced again after %v, want 5s", at)
	}
	if at := announced(newMachine(t, nil).active(), time.Minute); len(at) != 0 {
		t.Errorf("announced again after %v, want never", at)
	}
	m := newMachine(t, repeats).active()
	m.receive(200, greater(packet.IPv4))
	if m.now, _ = m.Deadline(); m.State() != Backup {
		t.Fatal(m.State())
	}
	if at := announced(m, 5*time.Second); len(at) != 2 || at[0] != 0 {
		t.Errorf("announced after %v, want with the take-over and 5s later", at)
	}
}
