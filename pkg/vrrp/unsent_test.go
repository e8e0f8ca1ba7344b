// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// An Active whose advertisements can't be sent stays Active until its slowest peer has
// taken over. If it hears another router before that, it yields because it has lapsed.
func TestUnsent(t *testing.T) {
	const limit = 3*time.Second + 255*time.Second/256
	unsent := func(m *machine, left Instant) []Action {
		return m.Step(m.now, Event{Kind: Unsent, Left: left, Detail: "why"}, nil)
	}
	m := newMachine(t, nil).active()
	left := m.now
	m.now = left.Add(limit - 1)
	deadline, _ := m.Deadline()
	m.expect("it may be heard yet", unsent(m, left), "", Active, deadline.Sub(m.now))
	m.now = left.Add(limit)
	m.expect("nobody can believe that it is there", unsent(m, left), "ADV(0) release Active>Backup", Backup, 3*time.Second+m.Status().SkewTime)
	if a := m.Status().LastTransition; a.Cause != CauseCannotSend || a.Silence != limit || a.Limit != limit || a.Why() != "could not advertise for 3.996s (limit 3.996s): why" {
		t.Errorf("Backup because %q", a.Why())
	}
	m.expect("a Backup", unsent(m, left), "", Backup, 3*time.Second+m.Status().SkewTime)

	// Only advertisements that were sent since the router became Active count.
	m.expire()
	began := m.now
	m.now = began.Add(limit - 1)
	if unsent(m, left); m.State() != Active {
		t.Errorf("%v", m.State())
	}
	m.now = began.Add(3*time.Second + 1)
	unsent(m, began)
	m.receive(50, less(packet.IPv4))
	if a := m.Status().LastTransition; m.State() != Backup || a.Cause != CauseLapsed {
		t.Errorf("another one has taken over: %v because %s", m.State(), a.Why())
	}

	// An address owner is never Backup.
	m = newMachine(t, func(c *Config) { c.Priority = OwnerPriority })
	m.startup()
	left = m.now
	m.now = left.Add(limit)
	if got := unsent(m, left); m.State() != Initialize || len(got) != 3 {
		t.Errorf("an owner is %v: %v", m.State(), got)
	}
}
