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
	// maxFindings is the maximum number of records in all. Each router may have maxProblemPeers
	// peers for each reason, and only one peer when half of maxFindings is used.
	maxFindings = 4096
	// maxAddresses is the number of addresses that are stored of a peer's list.
	maxAddresses = 32
	// listInterval is the minimum time between two updates of a stored list.
	listInterval = time.Second
)

// findings stores what the state machines find out about arriving packets. The event loop writes
// into it directly: only new peers take memory, and their number is bounded, so a flood with
// invented sources can't fill the memory.
type findings struct {
	news chan struct{} // has a value when there is an unexamined record

	mu      sync.Mutex // held briefly, because the event loop waits for it
	routers map[router.ID]*routerFindings
	total   int
	// followed has the routers that have heard an Active which may be a problem while they follow
	// it.
	followed map[router.ID]bool
}

// routerFindings are the records of one router.
type routerFindings struct {
	id      router.ID
	all     []record
	dropped uint64 // findings that found no place since the last look
}

// record has the findings about one peer for one reason.
type record struct {
	router.Finding // its Comparison is nil, see contrast
	compared       bool
	contrast       vrrp.Comparison // valid if compared is set
	listed         int             // the number of addresses of the peer
	listedAt       time.Time
	since, last    time.Time
	count          uint64 // findings since that time
	lasting        bool   // it has lasted minDuration, so it is a problem
	examined       bool   // look has seen it since it was added or became lasting
	fresh          uint64 // findings since the last look
	logged         time.Time
	suppressed     uint64 // findings that were not logged since then
}

// verdict is the result of look for one record.
type verdict struct {
	record
	log        bool   // log it now
	suppressed uint64 // findings before it that were not logged
	unlogged   uint64 // findings that the log budget had no room for
}

func newFindings() *findings {
	return &findings{news: make(chan struct{}, 1), routers: make(map[router.ID]*routerFindings), followed: make(map[router.ID]bool)}
}

// worthKeeping reports whether a finding must be stored: the peer may be Active at the same time
// as this host, or something is wrong with what it sends.
func worthKeeping(f *router.Finding) bool {
	c := f.Comparison
	if !harmless(f.Reason) {
		return true
	}
	return c != nil && c.State == vrrp.Active && c.Theirs.Priority != 0 && c.Theirs.Priority <= c.Ours.Priority
}

// interval returns the longer Advertisement_Interval of the two routers, 0 if unknown.
func (n *record) interval() time.Duration {
	return max(n.contrast.Ours.Interval, n.contrast.Theirs.Interval)
}

// minDuration returns how long a finding must continue to be a problem. A pause as long as that
// restarts it. Shorter episodes are normal when routers change state.
func (n *record) minDuration() time.Duration {
	if n.Reason == packet.ReasonAdvertisementReceived || n.Reason == packet.ErrOwnerConflict && n.contrast.Theirs.Priority != vrrp.OwnerPriority {
		return 2 * n.interval()
	}
	return 0
}

// retention returns how long a record is kept after its last finding.
func retention(interval time.Duration) time.Duration { return max(minProblemDuration, 12*interval) }

// note stores a finding. The caller may change its Comparison afterwards. note never blocks for
// long.
func (t *findings) note(now time.Time, f *router.Finding) {
	if !worthKeeping(f) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if mayBeFollowed(f) {
		t.followed[f.ID] = true
	}
	p := t.routers[f.ID]
	if p == nil {
		p = &routerFindings{id: f.ID}
		t.routers[f.ID] = p
	}
	n := p.find(f.Reason, f.Peer)
	if n == nil {
		if n = t.place(p, f.Reason, now); n == nil {
			if !harmless(f.Reason) {
				p.dropped++
			}
			return
		}
		n.ID, n.since = f.ID, now
	}
	n.update(now, f)
	if !n.examined {
		nudge(t.news)
	}
}

func (p *routerFindings) find(reason packet.Reason, peer netip.Addr) *record {
	for i := range p.all {
		if n := &p.all[i]; n.Peer == peer && n.Reason == reason {
			return n
		}
	}
	return nil
}

// place returns an empty record, nil if there is no room. Old records make room.
func (t *findings) place(p *routerFindings, reason packet.Reason, now time.Time) *record {
	most := maxProblemPeers
	if t.total > maxFindings/2 {
		most = 1
	}
	taken := 0
	for i := range p.all {
		n := &p.all[i]
		if n.Reason != reason {
			continue
		}
		if taken++; n.replaceable(now) {
			if !harmless(reason) {
				p.dropped += n.fresh
			}
			*n = record{}
			return n
		}
	}
	if taken >= most || t.total >= maxFindings {
		return nil
	}
	t.total++
	p.all = append(p.all, record{})
	return &p.all[len(p.all)-1]
}

// replaceable reports whether a record is old enough to be replaced by a new peer. A peer that
// was seen only once is replaceable soon.
func (n *record) replaceable(now time.Time) bool {
	idle := now.Sub(n.last)
	switch {
	case n.fresh > 0 && n.lasting:
		return false // look has not seen it yet
	case !n.lasting:
		return idle > n.minDuration()
	case n.count == 1:
		return idle >= minProblemDuration
	}
	return idle >= retention(n.interval())
}

// update adds a finding to a record.
func (n *record) update(now time.Time, f *router.Finding) {
	n.Action = f.Action
	n.Comparison, n.compared = nil, f.Comparison != nil
	if n.compared {
		kept := n.contrast.Theirs.Addresses
		n.contrast = *f.Comparison
		n.contrast.Theirs.Addresses = kept
		if f.Reason == packet.ErrAddressList && now.Sub(n.listedAt) >= listInterval {
			n.list(f.Comparison.Theirs.Addresses)
			n.listedAt = now
		}
	}
	enough := n.minDuration()
	if !n.lasting && now.Sub(n.last) > enough { // a new episode
		n.since, n.count = now, 0
	}
	n.last = now
	n.count++
	n.fresh++
	if !n.lasting && now.Sub(n.since) >= enough {
		n.lasting, n.examined = true, false
	}
}

func (n *record) list(addresses []netip.Addr) {
	n.listed = len(addresses)
	addresses = addresses[:min(len(addresses), maxAddresses)]
	if !slices.Equal(n.contrast.Theirs.Addresses, addresses) {
		// A new slice, because a verdict may still use the old one.
		n.contrast.Theirs.Addresses = slices.Clone(addresses)
	}
}

// look calls f for each record with new findings, or only for unexamined records unless all is
// set. It also decides what is logged: one line for each peer and reason in a RepeatInterval, as
// long as the budget has room. Findings that found no place are counted in dropped.
func (t *findings) look(now time.Time, all bool, budget *LogBudget, crowded *unlogged[router.ID], f func(*verdict)) {
	t.mu.Lock()
	pages := make([]*routerFindings, 0, len(t.routers))
	for _, p := range t.routers {
		pages = append(pages, p)
	}
	t.mu.Unlock()
	var found []verdict
	for _, p := range pages {
		found = found[:0]
		t.mu.Lock() // for one router at a time, because the event loop waits for it
		for i := range p.all {
			if n := &p.all[i]; n.fresh > 0 && (all || !n.examined) {
				found = append(found, n.judge(now, budget))
			}
		}
		if all {
			crowded.add(p.dropped, p.id)
			p.dropped = 0
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

// judge decides whether the findings since the last look are logged.
func (n *record) judge(now time.Time, budget *LogBudget) verdict {
	v := verdict{record: *n}
	switch {
	case harmless(n.Reason):
	case !n.logged.IsZero() && now.Sub(n.logged) < RepeatInterval:
		n.suppressed += n.fresh
	case budget.Take(now, len(n.Reason.Error()), FindingsReserve):
		v.log, v.suppressed = true, n.suppressed
		n.logged, n.suppressed = now, n.fresh-1
	default:
		v.unlogged = n.fresh
	}
	n.fresh, n.examined = 0, true
	return v
}

// forget removes records whose retention is over.
func (t *findings) forget(p *routerFindings, now time.Time) {
	before := len(p.all)
	p.all = slices.DeleteFunc(p.all, func(n record) bool { return n.fresh == 0 && now.Sub(n.last) >= retention(n.interval()) })
	t.total -= before - len(p.all)
	if len(p.all) == 0 {
		delete(t.routers, p.id)
	}
}
