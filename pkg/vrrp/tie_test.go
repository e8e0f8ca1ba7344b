// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// If a tie is decided elsewhere, an Active waits before it yields to a router of the
// same priority: not forever, not for a higher priority, and not after it has lapsed.
func TestTieElsewhere(t *testing.T) {
	f := packet.IPv4
	tie := func(m *machine, priority uint8) []Action {
		return m.Step(m.now, Event{Kind: Receive, Advertisement: m.heard(priority), From: greater(f), Checksum: packet.ChecksumRFC9568, TieElsewhere: true}, nil)
	}
	advertise := func(m *machine, d time.Duration) {
		for end := m.now.Add(d); ; {
			at, _ := m.Deadline()
			if at > end {
				m.now = end
				return
			}
			m.now = at
			m.timer()
		}
	}
	m := newMachine(t, nil).active()
	for range 3 {
		if tie(m, 100); m.State() != Active {
			t.Fatalf("%v because %s", m.State(), m.Status().LastTransition.Why())
		}
		advertise(m, time.Second)
	}
	if tie(m, 100); m.State() != Backup || m.Status().LastTransition.Cause != CauseGreaterAddress {
		t.Errorf("after 3 intervals %v because %s", m.State(), m.Status().LastTransition.Why())
	}

	// After the other router was silent, a new wait begins.
	m = newMachine(t, nil).active()
	for range 10 {
		if tie(m, 100); m.State() != Active {
			t.Fatalf("%v because %s", m.State(), m.Status().LastTransition.Why())
		}
		advertise(m, 3100*time.Millisecond)
	}
	if tie(m, 150); m.State() != Backup || m.Status().LastTransition.Cause != CauseHigherPriority {
		t.Errorf("to a higher priority it is %v", m.State())
	}
	m = newMachine(t, nil).active()
	m.now = m.now.Add(3*time.Second + 1)
	if tie(m, 100); m.State() != Backup {
		t.Errorf("one that was stopped is %v", m.State())
	}
}
