// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/router"
)

// bridgesEvery is how often it is looked for interfaces that are ports of bridges: somebody
// may make them so at any time.
const bridgesEvery = 3 * time.Second

// BridgePort is an interface with a router, which is a port of a bridge, a bond or the like.
type BridgePort struct {
	ID           router.ID
	Master, Kind string
}

// Bridges tell of routers that nobody reaches. What comes in at a port is the bridge's before
// the host's IP stack has it: XDP and TC programs see advertisements there, so that the router
// takes part, but the bridge's hook comes behind them and before ARP and IP. With any MAC the
// host resolves no neighbour on a port. The bridge knows the virtual MAC on none of its ports
// and floods what is sent to it.
type Bridges struct {
	ports    func() []BridgePort
	problems *Problems
}

// NewBridges looks at the ports that there are.
func NewBridges(ports func() []BridgePort, problems *Problems) *Bridges {
	return &Bridges{ports: ports, problems: problems}
}

// Run looks at them until ctx ends, from when begun is closed.
func (b *Bridges) Run(ctx context.Context, begun <-chan struct{}) error {
	select {
	case <-begun:
	case <-ctx.Done():
		return nil
	}
	tick := time.NewTicker(bridgesEvery)
	defer tick.Stop()
	for {
		b.tell(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (b *Bridges) tell(now time.Time) {
	for _, p := range b.ports() {
		b.problems.Note(now, p.ID, Observation{
			Kind: control.BridgePort, Peer: p.Master,
			Text:   p.ID.Interface + " is a port of the " + p.Kind + " " + p.Master + ", which takes what comes in before this host does: nobody reaches the addresses while this host is Active",
			Remedy: "run the router on " + p.Master + ", with this host's own addresses there, too",
		})
	}
}
