// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

const (
	// findingsMost is how many findings are kept in all, and problemPeers of how many
	// peers for each router and reason; of one only when half of the places are taken.
	findingsMost = 4096
	// addressesKept is how many addresses of a peer's list are kept.
	addressesKept = 32
	// renewed is how often what is kept of a peer's list follows it.
	renewed = time.Second
)

// findings keep what the state machines conclude about the packets that arrive. The
// event loop notes it where it is kept: that takes no memory but for what is new,
// and there is room for so much of that, whoever is made up by whoever sends.
type findings struct {
	news chan struct{} // has a value when there is something that was never looked at

	mu    sync.Mutex // for short: the event loop waits for it
	pages map[router.ID]*page
	total int
	// followed are those that have heard an Active that they may have a problem with while
	// they follow it.
	followed map[router.ID]bool
}

// page is what is kept for one router.
type page struct {
	id      router.ID
	all     []noticed
	crowded uint64 // findings that there was no place for, since the last look
}

// noticed is what was found for one reason of one peer.
type noticed struct {
	router.Finding // without its Comparison
	compared       bool
	contrast       vrrp.Comparison // if it is compared
	listed         int             // how many addresses the peer has
	listedAt       time.Time
	since, last    time.Time
	count          uint64 // since then
	ripe           bool   // it has gone on for as long as it must to be a problem
	looked         bool   // at this, since it came or became ripe
	fresh          uint64 // since the last look
	logged         time.Time
	held           uint64 // not logged since then
}

// verdict is what a look makes of something noticed.
type verdict struct {
	noticed
	log      bool   // it is to be logged,
	held     uint64 // after so many that weren't
	unlogged uint64 // there is no room in the log for these
}

func newFindings() *findings {
	return &findings{news: make(chan struct{}, 1), pages: make(map[router.ID]*page), followed: make(map[router.ID]bool)}
}

// matters reports whether a finding is worth keeping: one may be Active beside this
// host, or something is wrong with what it sends.
func matters(f *router.Finding) bool {
	c := f.Comparison
	if !usual(f.Reason) {
		return true
	}
	return c != nil && c.State == vrrp.Active && c.Theirs.Priority != 0 && c.Theirs.Priority <= c.Ours.Priority
}

// interval is the longer one of both routers', 0 if it isn't known.
func (n *noticed) interval() time.Duration {
	return max(n.contrast.Ours.Interval, n.contrast.Theirs.Interval)
}

// ripens is how long it must go on, without a break as long, to be a problem: less is
// usual when routers change their states.
func (n *noticed) ripens() time.Duration {
	if n.Reason == packet.ReasonAdvertisementReceived || n.Reason == packet.ErrOwnerConflict && n.contrast.Theirs.Priority != vrrp.OwnerPriority {
		return 2 * n.interval()
	}
	return 0
}

// lasts is how long something is remembered without being seen again.
func lasts(interval time.Duration) time.Duration { return max(problemLasts, 12*interval) }

// note takes in a finding, whose Comparison may change afterwards. It never waits for
// anything that lasts.
func (t *findings) note(now time.Time, f *router.Finding) {
	if !matters(f) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if mayBeFollowed(f) {
		t.followed[f.ID] = true
	}
	p := t.pages[f.ID]
	if p == nil {
		p = &page{id: f.ID}
		t.pages[f.ID] = p
	}
	n := p.find(f.Reason, f.Peer)
	if n == nil {
		if n = t.place(p, f.Reason, now); n == nil {
			if !usual(f.Reason) {
				p.crowded++
			}
			return
		}
		n.ID, n.since = f.ID, now
	}
	n.update(now, f)
	if !n.looked {
		nudge(t.news)
	}
}

func (p *page) find(reason packet.Reason, peer netip.Addr) *noticed {
	for i := range p.all {
		if n := &p.all[i]; n.Peer == peer && n.Reason == reason {
			return n
		}
	}
	return nil
}

// place returns a place for what is new, nil if there is none. What isn't seen any
// more makes room.
func (t *findings) place(p *page, reason packet.Reason, now time.Time) *noticed {
	most := problemPeers
	if t.total > findingsMost/2 {
		most = 1
	}
	taken := 0
	for i := range p.all {
		n := &p.all[i]
		if n.Reason != reason {
			continue
		}
		if taken++; n.givesWay(now) {
			if !usual(reason) {
				p.crowded += n.fresh
			}
			*n = noticed{}
			return n
		}
	}
	if taken >= most || t.total >= findingsMost {
		return nil
	}
	t.total++
	p.all = append(p.all, noticed{})
	return &p.all[len(p.all)-1]
}

// givesWay reports whether something is old enough to make room for what is new:
// what was seen only once is so soon.
func (n *noticed) givesWay(now time.Time) bool {
	idle := now.Sub(n.last)
	switch {
	case n.fresh > 0 && n.ripe:
		return false // nobody has looked at it yet
	case !n.ripe:
		return idle > n.ripens()
	case n.count == 1:
		return idle >= problemLasts
	}
	return idle >= lasts(n.interval())
}

// update makes n what f says.
func (n *noticed) update(now time.Time, f *router.Finding) {
	n.Action = f.Action
	n.Comparison, n.compared = nil, f.Comparison != nil
	if n.compared {
		kept := n.contrast.Theirs.Addresses
		n.contrast = *f.Comparison
		n.contrast.Theirs.Addresses = kept
		if f.Reason == packet.ErrAddressList && now.Sub(n.listedAt) >= renewed {
			n.list(f.Comparison.Theirs.Addresses)
			n.listedAt = now
		}
	}
	enough := n.ripens()
	if !n.ripe && now.Sub(n.last) > enough { // it is another time
		n.since, n.count = now, 0
	}
	n.last = now
	n.count++
	n.fresh++
	if !n.ripe && now.Sub(n.since) >= enough {
		n.ripe, n.looked = true, false
	}
}

func (n *noticed) list(addresses []netip.Addr) {
	n.listed = len(addresses)
	addresses = addresses[:min(len(addresses), addressesKept)]
	if !slices.Equal(n.contrast.Theirs.Addresses, addresses) {
		// Not in its place: who looks may still have it.
		n.contrast.Theirs.Addresses = slices.Clone(addresses)
	}
}

// look calls f for what was found since the last look, or only for what was never
// looked at. It decides what is logged of it: of each peer and reason one line in
// quiet, as long as the allowance has room. What there is no place for is crowded.
func (t *findings) look(now time.Time, all bool, room *LogBudget, crowded *unlogged[router.ID], f func(*verdict)) {
	t.mu.Lock()
	pages := make([]*page, 0, len(t.pages))
	for _, p := range t.pages {
		pages = append(pages, p)
	}
	t.mu.Unlock()
	var found []verdict
	for _, p := range pages {
		found = found[:0]
		t.mu.Lock() // and not for all of them: the event loop waits
		for i := range p.all {
			if n := &p.all[i]; n.fresh > 0 && (all || !n.looked) {
				found = append(found, n.judge(now, room))
			}
		}
		if all {
			crowded.add(p.crowded, p.id)
			p.crowded = 0
			t.forget(p, now)
		}
		t.mu.Unlock()
		for i := range found {
			v := &found[i]
			if v.compared {
				v.Comparison = &v.contrast
			}
			f(v)
		}
	}
}

// judge says what becomes of what was found since the last look.
func (n *noticed) judge(now time.Time, room *LogBudget) verdict {
	v := verdict{noticed: *n}
	switch {
	case usual(n.Reason):
	case !n.logged.IsZero() && now.Sub(n.logged) < RepeatInterval:
		n.held += n.fresh
	case room.Take(now, len(n.Reason.Error()), FindingsReserve):
		v.log, v.held = true, n.held
		n.logged, n.held = now, n.fresh-1
	default:
		v.unlogged = n.fresh
	}
	n.fresh, n.looked = 0, true
	return v
}

// forget makes the places of what isn't seen any more free.
func (t *findings) forget(p *page, now time.Time) {
	before := len(p.all)
	p.all = slices.DeleteFunc(p.all, func(n noticed) bool { return n.fresh == 0 && now.Sub(n.last) >= lasts(n.interval()) })
	t.total -= before - len(p.all)
	if len(p.all) == 0 {
		delete(t.pages, p.id)
	}
}
