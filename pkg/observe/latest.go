// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"sync"

	"github.com/failoverd/failoverd/pkg/router"
)

// LatestTransitions passes changes of state to subscribers that need only the latest one of each
// router. It never loses the latest one, and never waits for the log.
type LatestTransitions struct {
	wake chan struct{}

	mu     sync.Mutex // held briefly, because the event loop waits for it
	latest map[router.ID]router.Transition
}

// NewLatestTransitions returns an empty LatestTransitions.
func NewLatestTransitions() *LatestTransitions {
	return &LatestTransitions{wake: make(chan struct{}, 1), latest: make(map[router.ID]router.Transition)}
}

// Put stores the latest transition of a router. It never waits.
func (m *LatestTransitions) Put(t router.Transition) {
	m.mu.Lock()
	m.latest[t.ID] = t
	m.mu.Unlock()
	nudge(m.wake)
}

// nudge puts a value into the channel wake, unless it has one already.
func nudge(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// Run calls each subscriber for each transition, until ctx ends.
func (m *LatestTransitions) Run(ctx context.Context, subscribers ...func(router.Transition)) error {
	for {
		select {
		case <-m.wake:
			m.deliver(subscribers)
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *LatestTransitions) deliver(subscribers []func(router.Transition)) {
	m.mu.Lock()
	all := m.latest
	m.latest = make(map[router.ID]router.Transition)
	m.mu.Unlock()
	for _, t := range all {
		for _, subscriber := range subscribers {
			subscriber(t)
		}
	}
}
