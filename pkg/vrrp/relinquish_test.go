// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// An Active that relinquishes advertises priority 0 and continues as a Backup. After a
// hand-over it accepts an Active of any priority until that one is gone.
func TestRelinquish(t *testing.T) {
	relinquish := func(m *machine, cause Cause) []Action {
		return m.Step(m.now, Event{Kind: Relinquish, Cause: cause, Detail: "because"}, nil)
	}
	m := newMachine(t, nil).active()
	down := 3*time.Second + m.Status().SkewTime
	m.expect("handing over", relinquish(m, CauseHandedOver), "ADV(0) release Active>Backup", Backup, down)
	if got := m.Status().LastTransition.Why(); got != "because" {
		t.Errorf("Backup because %q", got)
	}
	for range 10 {
		m.now = m.now.Add(time.Second)
		m.expect("the lower one", m.receive(50, less(packet.IPv4)), "advertisement_rcvd", Backup, down)
	}
	m.expire()
	if m.State() != Active || m.Status().LastTransition.Cause != CauseSilence {
		t.Errorf("%v: %v", m.State(), m.Status().LastTransition.Cause)
	}

	// A router of higher priority ends this, because it would be Active anyway.
	relinquish(m, CauseHandedOver)
	m.receive(200, greater(packet.IPv4))
	m.now = m.now.Add(time.Second)
	m.expect("the lower one after a better one", m.receive(50, less(packet.IPv4)), "advertisement_rcvd", Backup, down-time.Second)
	m.expire()

	// Without a hand-over it preempts as usual.
	m.expect("giving way", relinquish(m, CauseGroup), "ADV(0) release Active>Backup", Backup, down)
	m.now = m.now.Add(time.Second)
	m.expect("the lower one", m.receive(50, less(packet.IPv4)), "advertisement_rcvd", Backup, down-time.Second)

	m.expect("a Backup", relinquish(m, CauseGroup), "", Backup, down-time.Second)
	m = newMachine(t, func(c *Config) { c.Priority = OwnerPriority }).active()
	m.expect("an owner", relinquish(m, CauseHandedOver), "", Active, time.Second)
}
