// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"errors"
	"slices"

	"github.com/failoverd/failoverd/pkg/packet"
)

// ErrRestart is returned for a change that a Virtual Router can't make without
// leaving its state.
var ErrRestart = errors.New("a change of the VRID, family or address ownership needs a restart of the Virtual Router")

// Reconfigure changes the configuration and appends the actions that this needs to
// actions. The state stays the same. An Active advertises the change at once. A
// Backup restarts its Active_Down_Timer with the new interval from the time at
// which it last heard the Active, so the timer may have expired already. After a
// change of the version it waits as long as after a start, because it has heard nobody
// in the new version. An invalid configuration, and ErrRestart, change nothing.
func (r *Router) Reconfigure(now Instant, c Config, actions []Action) ([]Action, error) {
	if err := c.Validate(); err != nil {
		return actions, err
	}
	old := r.config
	if c.VRID != old.VRID || c.Family != old.Family || (c.Priority == OwnerPriority) != (old.Priority == OwnerPriority) {
		return actions, ErrRestart
	}
	c.Addresses = slices.Clone(c.Addresses)
	r.config = c
	another := c.Version != old.Version
	if another || c.Checksum != old.Checksum {
		r.send, r.forms, r.switched = c.firstForm(), [2]packet.Checksum{}, false
	}
	switch r.state {
	case Backup:
		if another {
			r.clearTakeOver()
			r.heard, r.version3 = max(r.heard, now), 0
		}
		if another || c.Version == 2 || !r.active.IsValid() && !r.stamped {
			r.learnt = c.Interval // no Active has advertised another one
		}
		r.computeTimers()
		r.deadline = r.heard.Add(r.activeDownInterval)
		if r.leftAt != 0 {
			r.deadline = min(r.deadline, r.leftAt.Add(r.skewTime))
		}
	case Active:
		r.learnt = c.Interval
		r.computeTimers()
		if r.repeatAt != 0 && c.Repeat != old.Repeat {
			r.repeatAt = 0
			if c.Repeat != 0 {
				r.repeatAt = now.Add(c.Repeat)
			}
		}
		if c.Refresh != old.Refresh {
			r.refreshAt = 0
			if c.Refresh != 0 {
				r.refreshAt = now.Add(c.Refresh)
			}
		}
		moved := !slices.Equal(c.Addresses, old.Addresses)
		if moved {
			actions = append(actions, Action{Kind: AssignAddresses})
		}
		if c.Interval > old.Interval {
			// A Backup that misses the first advertisement with the longer interval
			// still expects the next one after the old interval.
			if r.oldPaceLeft == 0 {
				r.oldInterval = old.Interval
			}
			r.oldPaceLeft = int(old.SilenceLimit(1)) // as many as a Backup may miss
		} else if c.Interval < old.Interval {
			r.oldPaceLeft = 0
		}
		if moved || another || c.Priority != old.Priority || c.Interval != old.Interval || c.Checksum != old.Checksum || c.Dual != old.Dual {
			r.deadline = now.Add(r.nextInterval())
			actions = append(actions, r.advertise(now))
		}
		if moved {
			r.startAnnouncements(now)
			actions = append(actions, Action{Kind: AnnounceAddresses})
		}
	}
	return actions, nil
}
