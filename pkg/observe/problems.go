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
	// minProblemDuration is the minimum time that a problem is shown after it was last seen.
	minProblemDuration = 10 * time.Second
	// maxProblemPeers is the maximum number of peers with which a router may have problems of one
	// kind. It bounds the memory, because peer addresses come from the network.
	maxProblemPeers = 4
	// maxProblems is the maximum number of problems in all.
	maxProblems = 4096
)

// Problems has the current problems between the routers of this host and others. It is safe for
// concurrent use.
type Problems struct {
	log     *logrus.Logger
	history *control.History
	budget  *LogBudget

	mu       sync.Mutex
	all      map[problemKey]*problem
	peers    map[problemKind]int // the number of problems of each kind
	unlogged unlogged[router.ID]
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
	observation Observation
	logged      bool
	unlogged    bool // the log budget had no room for it
}

// Observation is one sighting of a problem.
type Observation struct {
	Kind, Peer   string // Kind is one of control.ProblemKinds
	Text, Remedy string
	Interval     time.Duration // the time until it is seen again if it lasts; 0: unknown
	Watched      bool          // it is checked each checkEvery, so it is over when it isn't seen
	// Since is when the problem began, if that was earlier than now. Count is the number of
	// sightings since the last Observation; 0 means 1.
	Since time.Time
	Count uint64
}

// retention returns how long a problem is kept after it was last seen.
func (s *Observation) retention() time.Duration {
	if s.Watched {
		return 2 * checkEvery
	}
	return retention(s.Interval)
}

// NewProblems returns an empty Problems. budget limits the log lines about problems.
func NewProblems(log *logrus.Logger, history *control.History, budget *LogBudget) *Problems {
	return &Problems{log: log, history: history, budget: budget, all: make(map[problemKey]*problem), peers: make(map[problemKind]int)}
}

// Note records an observation of a problem.
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
	one.observation, one.Last, one.Text, one.Remedy = s, now, s.Text, s.Remedy
	one.Count += max(s.Count, 1)
	if !one.logged {
		p.announce(now, key, one)
	}
}

// place makes room for another problem of a kind, and reports whether there is room. A problem
// that was seen only once is replaced early.
func (p *Problems) place(now time.Time, kind problemKind) bool {
	if p.peers[kind] < maxProblemPeers {
		return len(p.all) < maxProblems
	}
	for key, one := range p.all {
		if key.problemKind == kind && one.Count == 1 && now.Sub(one.Last) >= minProblemDuration {
			p.end(now, key, one)
			return true
		}
	}
	return false
}

// announce logs a problem if the log budget allows. The first problem of a kind may use more of
// the budget than others. A problem that isn't logged now is logged later if it lasts.
func (p *Problems) announce(now time.Time, key problemKey, one *problem) {
	kept := ProblemsReserve
	if p.peers[key.problemKind] > 1 {
		kept = FindingsReserve
	}
	if !p.budget.Take(now, len(one.Text)+len(one.Remedy), kept) {
		if !one.unlogged {
			p.unlogged.add(1, key.id)
		}
		one.unlogged = true
		return
	}
	one.logged = true
	p.log.WithFields(Fields(key.id)).WithFields(logrus.Fields{"problem": key.kind, "peer": key.peer}).Warnf("%s: %s", one.Text, one.Remedy)
	p.event(key, key.kind+": "+one.Text+": "+one.Remedy)
}

// tick removes problems whose retention is over.
func (p *Problems) tick(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	full := len(p.all) >= maxProblems
	for key, one := range p.all {
		idle := now.Sub(one.Last)
		if idle >= one.observation.retention() || full && one.Count == 1 && idle >= minProblemDuration {
			p.end(now, key, one)
		}
	}
}

// Clear removes all problems of one kind of a router.
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

// end removes a problem. Its end is logged if its beginning was.
func (p *Problems) end(now time.Time, key problemKey, one *problem) {
	delete(p.all, key)
	if p.peers[key.problemKind]--; p.peers[key.problemKind] == 0 {
		delete(p.peers, key.problemKind)
	}
	if !one.logged {
		return
	}
	// Since comes from the event loop's clock, and can be after Last.
	long := max(0, one.Last.Sub(one.Since).Round(time.Millisecond))
	p.budget.Spend(now, len(one.Text))
	p.log.WithFields(Fields(key.id)).WithFields(logrus.Fields{"problem": key.kind, "peer": key.peer}).Infof("over after %v: %s", long, one.Text)
	p.event(key, key.kind+" over after "+long.String()+": "+one.Text)
}

// missed returns how many problems were not logged because the budget was spent, and of how many
// routers, since the last call.
func (p *Problems) missed() (count uint64, routers int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unlogged.take()
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

// of returns the problems of a router, the worst kinds first.
func (p *Problems) of(id router.ID) []control.Problem { return p.ByRouter()[id] }

// ByRouter returns the problems of each router, the worst kinds first.
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
