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

// reports passes what the event loop reports to its three consumers: the Observer (log and
// history), the LatestTransitions (parts that need only the last state of a router), and the
// queue (hooks, which need each transition in order). The loop never waits for a consumer.
type reports struct {
	*observe.Observer
	latest *observe.LatestTransitions
	queue  *transitionQueue
}

// Transition implements router.Observer. The event loop calls it.
func (r *reports) Transition(t router.Transition) {
	r.latest.Put(t)
	r.Observer.Transition(t)
	r.queue.push(t)
}

// transitionQueue holds the transitions that hooks hasn't processed yet, oldest first.
type transitionQueue struct {
	wake chan struct{} // has a value when the queue isn't empty

	mu  sync.Mutex // held briefly, because the event loop waits for it
	all []router.Transition
}

func newTransitionQueue() *transitionQueue { return &transitionQueue{wake: make(chan struct{}, 1)} }

func (q *transitionQueue) push(t router.Transition) {
	q.mu.Lock()
	q.all = append(q.all, t)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *transitionQueue) drain() []router.Transition {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.all
	q.all = nil
	return all
}

// masterKinds are the kinds of interfaces that receive everything that arrives at their ports.
var masterKinds = []string{"bridge", "bond", "team", "openvswitch"}

// onBridgePorts returns the routers that take part on a port of a bridge, a bond or the like.
func (k *keeper) onBridgePorts(snapshot []link.Interface) (all []observe.BridgePort) {
	masters := make(map[int]link.Interface) // by the index of the port
	for _, i := range snapshot {
		if i.Master == 0 {
			continue
		}
		for _, m := range snapshot {
			if m.Index == i.Master && slices.Contains(masterKinds, m.Kind) {
				masters[i.Index] = m
			}
		}
	}
	if len(masters) == 0 {
		return nil
	}
	for id, v := range k.allDetails() {
		if m, is := masters[v.ifindex]; is && v.running {
			all = append(all, observe.BridgePort{ID: id, Master: m.Name, Kind: m.Kind})
		}
	}
	return all
}

// answersFor returns the addresses that a router answers for while it is Active.
func (k *keeper) answersFor(id router.ID) (all []netip.Addr) {
	c := detailsOf(k.allDetails(), id).config
	return addrs(c.Local(id.Family))
}

// routersOn returns the Virtual Routers on an interface.
func (k *keeper) routersOn(ifindex int) (all []router.ID) {
	for id, v := range k.allDetails() {
		if v.ifindex == ifindex {
			all = append(all, id)
		}
	}
	return all
}
