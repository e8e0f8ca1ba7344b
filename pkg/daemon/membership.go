// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/transmit"
)

// membersEvery is the least time between two looks at who is a member of the groups.
const membersEvery = time.Second

// keepMemberships has the interfaces join the groups again that they were members of:
// when an MTU was too small for a moment, the kernel has ended that. It reports whether
// to look again later.
func (ps *ports) keepMemberships(now time.Time) (again bool) {
	if now.Sub(ps.members) < membersEvery {
		return true
	}
	ps.members = now
	for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
		members, err := transmit.Members(f)
		if err != nil {
			ps.log.WithError(err).Warn("memberships can't be looked after")
			return true
		}
		for _, p := range ps.all {
			if p.conn == nil || !p.conn.Wants(f) || members[p.bound.Index] {
				continue
			}
			if err := p.conn.Rejoin(f); err != nil { // too small an MTU still: it comes with a change
				ps.log.WithField("interface", p.name).WithError(err).Debug("not a member of the group")
				continue
			}
			ps.log.WithField("interface", p.name).Warnf("was no member of %s any more, joined it again", f.Group())
		}
	}
	return false
}
