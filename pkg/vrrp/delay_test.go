// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// An Active of lower priority is preempted when the delay since it was first heard is
// over.
func TestPreemptDelay(t *testing.T) {
	const delay = 10 * time.Second
	m := newMachine(t, func(c *Config) { c.PreemptDelay = delay }).backup()
	down := m.Status().ActiveDownInterval
	first := m.now
	for range 10 {
		m.expect("a lower priority", m.receive(50, less(packet.IPv4)), "advertisement_rcvd", Backup, down)
		m.now = m.now.Add(time.Second)
	}
	if s := m.Status(); s.PreemptAt != first.Add(delay) || s.Active != less(packet.IPv4) || s.ActivePriority != 50 {
		t.Errorf("status %+v", s)
	}
	m.expect("after the delay", m.receive(50, less(packet.IPv4)), "advertisement_rcvd", Backup, down-time.Second)
	for m.State() == Backup {
		m.expire()
	}
	if got := m.Status().LastTransition.Cause; got != CausePreempted {
		t.Errorf("Active because %v", got)
	}

	// An advertisement of higher priority ends the delay.
	m = newMachine(t, func(c *Config) { c.PreemptDelay = delay }).backup()
	m.receive(50, less(packet.IPv4))
	m.now = m.now.Add(9 * time.Second)
	m.receive(200, greater(packet.IPv4))
	m.now = m.now.Add(2 * time.Second)
	m.expect("a lower priority anew", m.receive(50, less(packet.IPv4)), "advertisement_rcvd", Backup, down)

	// There is no delay after an Active that falls silent or leaves.
	m.now = m.now.Add(time.Second)
	m.receive(0, less(packet.IPv4))
	m.now = m.now.Add(m.Status().SkewTime)
	m.Step(m.now, Event{Kind: TimerExpired}, nil)
	if got := m.Status().LastTransition.Cause; got != CauseReleased {
		t.Errorf("Active because %v", got)
	}

	// An address owner doesn't wait (RFC 9568 §6.1).
	m = newMachine(t, func(c *Config) { c.PreemptDelay, c.Priority = delay, OwnerPriority })
	if m.startup(); m.State() != Active {
		t.Errorf("an owner is %v", m.State())
	}
}

// DownAfter changes Active_Down_Interval and the time after which an Active lapses.
func TestDownAfter(t *testing.T) {
	for after, want := range map[int]time.Duration{0: 3 * time.Second, 2: 2 * time.Second, 3: 3 * time.Second, 10: 10 * time.Second} {
		m := newMachine(t, func(c *Config) { c.DownAfter = after }).backup()
		if s := m.Status(); s.ActiveDownInterval != want+s.SkewTime {
			t.Errorf("after %d: Active_Down_Interval %v", after, s.ActiveDownInterval)
		}
		m.expire()
		m.now = m.now.Add(want + 1)
		m.receive(50, less(packet.IPv4))
		if m.State() != Backup || m.Status().LastTransition.Cause != CauseLapsed {
			t.Errorf("after %d: one that was silent for longer is %v", after, m.State())
		}
	}
	for _, after := range []int{-1, 1, 101} {
		c := newMachine(t, nil).c
		c.DownAfter = after
		if c.Validate() == nil {
			t.Errorf("%d is valid", after)
		}
	}
}

// The addresses are announced several times in a row, once more after Repeat, and every
// Refresh while the router is Active.
func TestAnnouncements(t *testing.T) {
	m := newMachine(t, func(c *Config) {
		c.Announcements, c.Repeat, c.Refresh = 3, 5*time.Second, 20*time.Second
	}).backup()
	m.expire()
	began := m.now
	announced := []time.Duration{0}
	for m.now.Sub(began) < 45*time.Second {
		for _, a := range m.expire() {
			if a.Kind == AnnounceAddresses {
				announced = append(announced, m.now.Sub(began))
			}
		}
	}
	want := []time.Duration{0, 100, 200, 5000, 5100, 5200, 20000, 40000}
	for i := range want {
		want[i] *= time.Millisecond
	}
	if len(announced) != len(want) {
		t.Fatalf("announced at %v, want %v", announced, want)
	}
	for i := range want {
		if announced[i] != want[i] {
			t.Errorf("announced at %v, want %v", announced, want)
		}
	}
}
