// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/observe"
	"github.com/failoverd/failoverd/pkg/router"
)

// reports hand what the event loop reports to those who wait for it: the log and the
// history get all, what acts on states the last change of each router, and the hooks each
// change in its order. The loop leaves it there and goes on.
type reports struct {
	*observe.Observer
	moves *observe.LatestTransitions
	turns *turns
}

// Transition is called by the loop.
func (r *reports) Transition(t router.Transition) {
	r.moves.Put(t)
	r.Observer.Transition(t)
	r.turns.put(t)
}

// turns are the changes of state that nobody has taken yet, in their order.
type turns struct {
	wake chan struct{} // has a value when there are some

	mu  sync.Mutex // for short: the event loop waits for it
	all []router.Transition
}

func newTurns() *turns { return &turns{wake: make(chan struct{}, 1)} }

func (q *turns) put(t router.Transition) {
	q.mu.Lock()
	q.all = append(q.all, t)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *turns) take() []router.Transition {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.all
	q.all = nil
	return all
}

// takers are the kinds of interfaces that take all that comes in at their ports.
var takers = []string{"bridge", "bond", "team", "openvswitch"}

// bridged are the routers that take part on ports of bridges and the like.
func (k *keeper) bridged(snapshot []link.Interface) (all []observe.BridgePort) {
	masters := make(map[int]link.Interface) // by the index of the port
	for _, i := range snapshot {
		if i.Master == 0 {
			continue
		}
		for _, m := range snapshot {
			if m.Index == i.Master && slices.Contains(takers, m.Kind) {
				masters[i.Index] = m
			}
		}
	}
	if len(masters) == 0 {
		return nil
	}
	for id, v := range k.all() {
		if m, is := masters[v.ifindex]; is && v.running {
			all = append(all, observe.BridgePort{ID: id, Master: m.Name, Kind: m.Kind})
		}
	}
	return all
}

// answered are the addresses that a router answers for while it is Active.
func (k *keeper) answered(id router.ID) (all []netip.Addr) {
	c := of(k.all(), id).config
	return addrs(append(c.OfFamily(id.Family), c.Extras(id.Family)...))
}

// members are the routers of an interface.
func (k *keeper) members(ifindex int) (all []router.ID) {
	for id, v := range k.all() {
		if v.ifindex == ifindex {
			all = append(all, id)
		}
	}
	return all
}
