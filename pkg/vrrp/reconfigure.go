// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"errors"
	"slices"

	"github.com/failoverd/failoverd/pkg/packet"
)

// ErrRestart is returned for a change of what a Virtual Router is, which it
// can't make without leaving its state.
var ErrRestart = errors.New("another version, VRID, family or ownership needs a restart")

// Reconfigure changes the configuration and appends what has to be done for it
// to actions. The state stays. An Active says at once what has changed; a Backup
// counts its new Active_Down_Interval from the moment in which it has last heard
// the Active, so that it may be over already.
func (r *Router) Reconfigure(now Instant, c Config, actions []Action) ([]Action, error) {
	if err := c.Validate(); err != nil {
		return actions, err
	}
	old := r.config
	if c.Version != old.Version || c.VRID != old.VRID || c.Family != old.Family || (c.Priority == OwnerPriority) != (old.Priority == OwnerPriority) {
		return actions, ErrRestart
	}
	c.Addresses = slices.Clone(c.Addresses)
	r.config = c
	if c.Checksum != old.Checksum {
		r.send, r.forms, r.switched = c.firstForm(), [2]packet.Checksum{}, false
	}
	switch r.state {
	case Backup:
		if c.Version == 2 || !r.active.IsValid() && !r.stamped {
			r.learnt = c.Interval // nobody has said another one
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
			// A Backup that doesn't hear the first of them would expect the next
			// one soon.
			if r.hurried == 0 {
				r.hurry = old.Interval
			}
			r.hurried = int(old.SilenceLimit(1)) // with the first, as many as a Backup waits for
		} else if c.Interval < old.Interval {
			r.hurried = 0
		}
		if moved || c.Priority != old.Priority || c.Interval != old.Interval || c.Checksum != old.Checksum || c.Dual != old.Dual {
			r.deadline = now.Add(r.pace())
			actions = append(actions, r.advertise(now))
		}
		if moved {
			r.announceOften(now)
			actions = append(actions, Action{Kind: AnnounceAddresses})
		}
	}
	return actions, nil
}
