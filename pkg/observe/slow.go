// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// A Backup reports a slow Active if the Active's interval makes the Active_Down_Interval at least
// slowTimes what the Backup's own interval would make it, and at least slowDown. RFC 9568 allows
// different intervals, and control.Interval reports the difference. But if it is that large,
// nobody takes over in a useful time.
const (
	slowTimes = 10
	slowDown  = 10 * time.Second
)

// mayBeFollowed reports whether a finding shows an Active that is a problem for a Backup that
// follows it: it is slow, or it is an owner as this host is.
func mayBeFollowed(f *router.Finding) bool {
	return bothOwners(f) || mayBeSlow(f)
}

func mayBeSlow(f *router.Finding) bool {
	c := f.Comparison
	return f.Reason == packet.ErrInterval && !f.Refused && c != nil && c.Theirs.Interval >= slowTimes*c.Ours.Interval
}

// slowActive returns the problem of a Backup that follows a slow Active.
func slowActive(p vrrp.Status, now vrrp.Instant) (Observation, bool) {
	if p.State != vrrp.Backup || p.ActiveAdverInterval < slowTimes*p.Interval || p.ActiveDownInterval < slowDown {
		return Observation{}, false
	}
	s := Observation{Kind: control.SlowActive, Peer: Peer(p.Active), Watched: true}
	who := s.Peer
	if who == "" {
		who = "an Active"
	}
	s.Text = fmt.Sprintf("follows %s, whose interval of %v is %d times the %v of this host", who, p.Learnt, p.Learnt/p.Interval, p.Interval)
	// With its own interval the Backup would have taken over after this time.
	usual := max(p.ActiveDownInterval/(p.ActiveAdverInterval/p.Interval), time.Second)
	if silence := now.Sub(p.LastHeard); silence > usual {
		s.Text += fmt.Sprintf(" and which has been silent for %v: this host takes over in %v at the latest", inSeconds(silence), inSeconds(max(p.Deadline.Sub(now), 0)))
	} else {
		s.Text += fmt.Sprintf(": if it fails, this host takes over only after %v", inSeconds(p.ActiveDownInterval))
	}
	s.Remedy = "give all hosts of the VRID the same interval; max_interval limits how long this host waits for a forged or a slow Active"
	if p.Learnt > p.ActiveAdverInterval {
		s.Remedy = "give all hosts of the VRID the same interval; a lower max_interval shortens how long this host waits"
	}
	return s, true
}

func inSeconds(d time.Duration) time.Duration { return d.Round(time.Second) }

// bothOwners reports whether this router and another one both have priority 255.
func bothOwners(f *router.Finding) bool {
	c := f.Comparison
	return f.Reason == packet.ErrOwnerConflict && c != nil && c.Ours.Priority == vrrp.OwnerPriority && c.Theirs.Priority == vrrp.OwnerPriority
}

// otherOwner returns the problem of an owner that follows another owner.
func otherOwner(p vrrp.Status) (Observation, bool) {
	if p.State != vrrp.Backup || p.Priority != vrrp.OwnerPriority || p.ActivePriority != vrrp.OwnerPriority {
		return Observation{}, false
	}
	s := twoOwners(Peer(p.Active))
	s.Watched = true
	return s, true
}

func twoOwners(peer string) Observation {
	return Observation{
		Kind: control.TwoOwners, Peer: peer,
		Text:   peer + " and this host both have priority 255 for the VRID: only the one with the greater address is Active",
		Remedy: "use priority 255 only on the host that owns the addresses; remove them from the other host and give it a lower priority",
	}
}

// noteFollowed reports the routers that follow an Active which is a problem for them. It checks
// only routers that have heard such an Active since the last time they followed none.
func (o *Observer) noteFollowed(now time.Time, look func() ([]router.Status, error)) {
	heard := o.findings.mayFollow()
	if len(heard) == 0 {
		return
	}
	routers, err := look()
	if err != nil {
		return // the loop has ended
	}
	at := process.Clock{}.Now()
	for _, r := range routers {
		if !heard[r.ID] {
			continue
		}
		slow, isSlow := slowActive(r.Protocol, at)
		owner, isOwner := otherOwner(r.Protocol)
		if isSlow {
			o.problems.Note(now, r.ID, slow)
		}
		if isOwner {
			o.problems.Note(now, r.ID, owner)
		}
		if !isSlow && !isOwner {
			o.findings.clearFollowed(r.ID)
		}
	}
}

// mayFollow returns the routers that have heard an Active which would be a problem.
func (t *findings) mayFollow() map[router.ID]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.followed)
}

// clearFollowed notes that a router follows no such Active, until it hears one again.
func (t *findings) clearFollowed(id router.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.followed, id)
}

// Refresh returns the problems of a router with the present state of a slow Active: whether the
// router still follows it, and how long it has been silent.
func Refresh(problems []control.Problem, p vrrp.Status, now vrrp.Instant) []control.Problem {
	s, ok := slowActive(p, now)
	all := slices.DeleteFunc(problems, func(q control.Problem) bool {
		return q.Kind == control.SlowActive && (!ok || q.Peer != s.Peer)
	})
	for i := range all {
		if all[i].Kind == control.SlowActive {
			all[i].Text, all[i].Remedy = s.Text, s.Remedy
		}
	}
	return all
}
