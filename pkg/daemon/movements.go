// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"sync"

	"github.com/failoverd/failoverd/pkg/router"
)

// movements hand the routers' changes of state over to what acts on them. The last one
// of each router is enough for that, so nothing is ever lost, and nobody waits for
// the log.
type movements struct {
	told func(router.Transition)
	wake chan struct{}

	mu     sync.Mutex // for short: the event loop waits for it
	latest map[router.ID]router.Transition
}

func newMovements() *movements {
	return &movements{wake: make(chan struct{}, 1), latest: make(map[router.ID]router.Transition)}
}

// put never waits.
func (m *movements) put(t router.Transition) {
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

func (m *movements) run(ctx context.Context) error {
	for {
		select {
		case <-m.wake:
			m.tell()
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *movements) tell() {
	m.mu.Lock()
	all := m.latest
	m.latest = make(map[router.ID]router.Transition)
	m.mu.Unlock()
	for _, t := range all {
		m.told(t)
	}
}
