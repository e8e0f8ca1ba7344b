// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"sync"

	"github.com/failoverd/failoverd/pkg/router"
)

// Movements hand the routers' changes of state over to what acts on them. The last one
// of each router is enough for that, so nothing is ever lost, and nobody waits for
// the log.
type LatestTransitions struct {
	wake chan struct{}

	mu     sync.Mutex // for short: the event loop waits for it
	latest map[router.ID]router.Transition
}

// NewMovements has nothing to hand over yet.
func NewLatestTransitions() *LatestTransitions {
	return &LatestTransitions{wake: make(chan struct{}, 1), latest: make(map[router.ID]router.Transition)}
}

// Put never waits.
func (m *LatestTransitions) Put(t router.Transition) {
	m.mu.Lock()
	m.latest[t.ID] = t
	m.mu.Unlock()
	nudge(m.wake)
}

// nudge wakes who waits, or who will.
func nudge(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// Run tells each of them of the changes, until ctx ends.
func (m *LatestTransitions) Run(ctx context.Context, told ...func(router.Transition)) error {
	for {
		select {
		case <-m.wake:
			m.tell(told)
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *LatestTransitions) tell(told []func(router.Transition)) {
	m.mu.Lock()
	all := m.latest
	m.latest = make(map[router.ID]router.Transition)
	m.mu.Unlock()
	for _, t := range all {
		for _, tell := range told {
			tell(t)
		}
	}
}
