// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/router"
)

const (
	// problemLasts is how long a problem is one at least after it was last seen.
	problemLasts = 10 * time.Second
	// problemPeers is with how many others a router may have problems of a kind:
	// their addresses come from the network.
	problemPeers = 4
	// problemsMost is how many problems there may be in all.
	problemsMost = 4096
)

// Problems keeps what is wrong between the routers of this host and others.
type Problems struct {
	log     *logrus.Logger
	history *control.History
	room    *LogBudget

	mu     sync.Mutex
	all    map[problemKey]*problem
	peers  map[problemKind]int // how many problems there are of each
	untold unlogged[router.ID]
}

type problemKind struct {
	id   router.ID
	kind string
}

type problemKey struct {
	problemKind
	peer string
}

type problem struct {
	control.Problem
	sight  Observation
	told   bool
	missed bool // there was no room to tell it
}

// Sight is a problem as it is seen.
type Observation struct {
	Kind, Peer   string // the kind is one of control.ProblemKinds
	Text, Remedy string
	Interval     time.Duration // in which it is seen again; 0: unknown
	Watched      bool          // it is looked for discardsEvery, so that it is over when it isn't seen
	// Since is when it began, if that was before it is told of, and Count how often it
	// was seen since the last time; 0 stands for once.
	Since time.Time
	Count uint64
}

// lasts is how long it is taken for a problem without being seen again.
func (s *Observation) lasts() time.Duration {
	if s.Watched {
		return 2 * discardsEvery
	}
	return lasts(s.Interval)
}

// NewProblems keeps none yet. What is told of them takes its room in the log.
func NewProblems(log *logrus.Logger, history *control.History, room *LogBudget) *Problems {
	return &Problems{log: log, history: history, room: room, all: make(map[problemKey]*problem), peers: make(map[problemKind]int)}
}

// Note takes in that a problem is seen.
func (p *Problems) Note(now time.Time, id router.ID, s Observation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := problemKey{problemKind{id, s.Kind}, s.Peer}
	one := p.all[key]
	if one == nil {
		if !p.place(now, key.problemKind) {
			return
		}
		one = &problem{Problem: control.Problem{Kind: s.Kind, Peer: s.Peer, Since: now}}
		if !s.Since.IsZero() {
			one.Since = s.Since
		}
		p.all[key] = one
		p.peers[key.problemKind]++
	}
	one.sight, one.Last, one.Text, one.Remedy = s, now, s.Text, s.Remedy
	one.Count += max(s.Count, 1)
	if !one.told {
		p.tell(now, key, one)
	}
}

// place makes room for another problem of a kind, and reports whether there is some.
// What was seen only once gives way before it is over.
func (p *Problems) place(now time.Time, kind problemKind) bool {
	if p.peers[kind] < problemPeers {
		return len(p.all) < problemsMost
	}
	for key, one := range p.all {
		if key.problemKind == kind && one.Count == 1 && now.Sub(one.Last) >= problemLasts {
			p.end(now, key, one)
			return true
		}
	}
	return false
}

// tell tells of a problem, if there is room in the log: first of all that a router has
// one of the kind. Otherwise it is told later, if it lasts.
func (p *Problems) tell(now time.Time, key problemKey, one *problem) {
	kept := ProblemsReserve
	if p.peers[key.problemKind] > 1 {
		kept = FindingsReserve
	}
	if !p.room.Take(now, len(one.Text)+len(one.Remedy), kept) {
		if !one.missed {
			p.untold.add(1, key.id)
		}
		one.missed = true
		return
	}
	one.told = true
	p.log.WithFields(Fields(key.id)).WithFields(logrus.Fields{"problem": key.kind, "peer": key.peer}).Warnf("%s: %s", one.Text, one.Remedy)
	p.event(key, key.kind+": "+one.Text+": "+one.Remedy)
}

// tick forgets what isn't seen any more.
func (p *Problems) tick(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	full := len(p.all) >= problemsMost
	for key, one := range p.all {
		idle := now.Sub(one.Last)
		if idle >= one.sight.lasts() || full && one.Count == 1 && idle >= problemLasts {
			p.end(now, key, one)
		}
	}
}

// Over takes in that a router has no problem of a kind any more, with nobody.
func (p *Problems) Clear(now time.Time, id router.ID, kind string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.peers[problemKind{id, kind}] == 0 {
		return
	}
	for key, one := range p.all {
		if key.problemKind == (problemKind{id, kind}) {
			p.end(now, key, one)
		}
	}
}

// end forgets a problem. That it is over is told if it was told that there is one.
func (p *Problems) end(now time.Time, key problemKey, one *problem) {
	delete(p.all, key)
	if p.peers[key.problemKind]--; p.peers[key.problemKind] == 0 {
		delete(p.peers, key.problemKind)
	}
	if !one.told {
		return
	}
	long := one.Last.Sub(one.Since).Round(time.Millisecond)
	p.room.Spend(now, len(one.Text))
	p.log.WithFields(Fields(key.id)).WithFields(logrus.Fields{"problem": key.kind, "peer": key.peer}).Infof("over after %v: %s", long, one.Text)
	p.event(key, key.kind+" over after "+long.String()+": "+one.Text)
}

// missed returns how many problems of how many routers there was no room for in the
// log, since the last time.
func (p *Problems) missed() (count uint64, routers int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.untold.take()
}

func (p *Problems) event(key problemKey, text string) {
	p.history.Add(control.Event{
		Kind: "problem", Interface: key.id.Interface, Family: key.id.Family.String(), VRID: int(key.id.VRID),
		Peer: key.peer, Text: text,
	})
}

// has reports whether a router has a problem of a kind.
func (p *Problems) has(id router.ID, kind string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peers[problemKind{id, kind}] > 0
}

// of returns a router's problems, the worst kinds first.
func (p *Problems) of(id router.ID) []control.Problem { return p.ByRouter()[id] }

// Each returns the problems of each router, the worst kinds first.
func (p *Problems) ByRouter() map[router.ID][]control.Problem {
	each := make(map[router.ID][]control.Problem)
	p.mu.Lock()
	for key, one := range p.all {
		each[key.id] = append(each[key.id], one.Problem)
	}
	p.mu.Unlock()
	kinds := control.ProblemKinds()
	for _, all := range each {
		slices.SortFunc(all, func(a, b control.Problem) int {
			return cmp.Or(cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), strings.Compare(a.Peer, b.Peer))
		})
	}
	return each
}
