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

// An Active is a slow one for a Backup whose Active_Down_Interval it makes slowTimes
// what it would be by the Backup's own interval, and slowDown at least. RFC 9568 lets
// the hosts have intervals that differ, and the problem control.Interval says so. This
// is when it has the effect that nobody takes over within any time that was meant.
const (
	slowTimes = 10
	slowDown  = 10 * time.Second
)

// mayBeFollowed reports whether a finding shows an Active whom a Backup that follows it
// has a problem with: it has to wait so long, or it is an owner as well.
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
	s.Text = fmt.Sprintf("follows %s, whose interval of %v is %d times this host's %v", who, p.Learnt, p.Learnt/p.Interval, p.Interval)
	// By its own interval it would have taken over after so long.
	usual := max(p.ActiveDownInterval/(p.ActiveAdverInterval/p.Interval), time.Second)
	if silence := now.Sub(p.LastHeard); silence > usual {
		s.Text += fmt.Sprintf(", and which has been silent for %v: this host takes over in %v at the latest", inSeconds(silence), inSeconds(max(p.Deadline.Sub(now), 0)))
	} else {
		s.Text += fmt.Sprintf(": if it falls silent, this host takes over only after %v", inSeconds(p.ActiveDownInterval))
	}
	s.Remedy = "give all hosts of the VRID the same interval; max_interval bounds how long this host waits for a forged or a slow Active"
	if p.Learnt > p.ActiveAdverInterval {
		s.Remedy = "give all hosts of the VRID the same interval; a lower max_interval bounds further how long this host waits"
	}
	return s, true
}

func inSeconds(d time.Duration) time.Duration { return d.Round(time.Second) }

// bothOwners reports whether another router has priority 255 as well as this one.
func bothOwners(f *router.Finding) bool {
	c := f.Comparison
	return f.Reason == packet.ErrOwnerConflict && c != nil && c.Ours.Priority == vrrp.OwnerPriority && c.Theirs.Priority == vrrp.OwnerPriority
}

// otherOwner returns the problem of an owner that follows another one.
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
		Text:   peer + " has priority 255 for the VRID, as this host has: only one of them is Active, whichever has the greater address",
		Remedy: "give priority 255 to the one host whose own the addresses are; take them off the other and give it a lower priority",
	}
}

// sightFollowed notes which routers follow an Active that they have a problem with. Only
// those are looked at that have heard one since they didn't.
func (o *Observer) sightFollowed(now time.Time, look func() ([]router.Status, error)) {
	heard := o.findings.heardProblematic()
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
			o.findings.followsNone(r.ID)
		}
	}
}

// heardProblematic returns the routers that have heard an Active that may be followed.
func (t *findings) heardProblematic() map[router.ID]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.followed)
}

// followsNone forgets that a router has heard one, until it hears one again.
func (t *findings) followsNone(id router.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.followed, id)
}

// UpToDate returns the problems of a router in this state: whether it follows a slow
// Active, and for how long that has been silent, isn't what it was a second ago.
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
