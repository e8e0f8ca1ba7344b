// SPDX-License-Identifier: Apache-2.0

package daemon

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
)

// problems keeps what is wrong between the routers of this host and others.
type problems struct {
	log     *logrus.Logger
	history *control.History

	mu  sync.Mutex
	all map[problemKey]*problem
}

type problemKey struct {
	id         router.ID
	kind, peer string
}

type problem struct {
	control.Problem
	sight sight
	told  bool
}

// sight is a problem as it is seen once.
type sight struct {
	kind, peer   string
	text, remedy string
	interval     time.Duration // in which it is seen again; 0: unknown
	watched      bool          // it is looked for discardsEvery, so that it is over when it isn't seen
	// ripens is how long it must go on, without a break as long, to be a problem:
	// less is usual when routers change their states.
	ripens time.Duration
}

// lasts is how long it is taken for a problem without being seen again: three
// times Active_Down_Interval, with the longest Skew_Time.
func (s sight) lasts() time.Duration {
	if s.watched {
		return 2 * discardsEvery
	}
	return max(problemLasts, 12*s.interval)
}

func newProblems(log *logrus.Logger, history *control.History) *problems {
	return &problems{log: log, history: history, all: make(map[problemKey]*problem)}
}

// note takes in that a problem is seen.
func (p *problems) note(now time.Time, id router.ID, s sight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := problemKey{id, s.kind, s.peer}
	one := p.all[key]
	if one == nil {
		if p.peers(id, s.kind) >= problemPeers {
			return
		}
		one = &problem{Problem: control.Problem{Kind: s.kind, Peer: s.peer, Since: now}}
		p.all[key] = one
	}
	if !one.told && now.Sub(one.Last) > s.ripens { // it is another time
		one.Since, one.Count = now, 0
	}
	one.sight, one.Last, one.Text, one.Remedy = s, now, s.text, s.remedy
	one.Count++
	if !one.told && now.Sub(one.Since) >= s.ripens {
		one.told = true
		p.log.WithFields(fields(id)).WithFields(logrus.Fields{"problem": s.kind, "peer": s.peer}).Warnf("%s: %s", s.text, s.remedy)
		p.event(key, s.kind+": "+s.text+": "+s.remedy)
	}
}

func (p *problems) peers(id router.ID, kind string) (n int) {
	for k := range p.all {
		if k.id == id && k.kind == kind {
			n++
		}
	}
	return n
}

// tick forgets what isn't seen any more.
func (p *problems) tick(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, one := range p.all {
		if now.Sub(one.Last) < one.sight.lasts() {
			continue
		}
		delete(p.all, key)
		if one.told {
			long := one.Last.Sub(one.Since).Round(time.Millisecond)
			p.log.WithFields(fields(key.id)).WithFields(logrus.Fields{"problem": key.kind, "peer": key.peer}).Infof("over after %v: %s", long, one.Text)
			p.event(key, key.kind+" over after "+long.String()+": "+one.Text)
		}
	}
}

func (p *problems) event(key problemKey, text string) {
	p.history.Add(control.Event{
		Kind: "problem", Interface: key.id.Interface, Family: key.id.Family.String(), VRID: int(key.id.VRID),
		Peer: key.peer, Text: text,
	})
}

// of returns a router's problems, the worst kinds first.
func (p *problems) of(id router.ID) []control.Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []control.Problem
	for key, one := range p.all {
		if key.id == id && one.told {
			all = append(all, one.Problem)
		}
	}
	kinds := control.ProblemKinds()
	slices.SortFunc(all, func(a, b control.Problem) int {
		return cmp.Or(cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), strings.Compare(a.Peer, b.Peer))
	})
	return all
}
