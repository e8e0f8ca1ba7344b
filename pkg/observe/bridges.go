// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/router"
)

// bridgesEvery is the interval between checks for interfaces that have become ports of a bridge.
const bridgesEvery = 3 * time.Second

// BridgePort is a router on an interface that is a port of a bridge, a bond or the like.
type BridgePort struct {
	ID           router.ID
	Master, Kind string
}

// Bridges reports routers on bridge ports, because no host can reach their addresses. The bridge
// takes what arrives at a port before the host's IP stack sees it. XDP and TC programs run before
// the bridge and see advertisements, so the router takes part, but ARP and IP come after the
// bridge: the host resolves no neighbour on a port, whatever MAC it uses. The bridge also doesn't
// know the virtual MAC on any port, so it floods frames to it.
type Bridges struct {
	ports    func() []BridgePort
	problems *Problems
}

// NewBridges returns a Bridges for the given ports.
func NewBridges(ports func() []BridgePort, problems *Problems) *Bridges {
	return &Bridges{ports: ports, problems: problems}
}

// Run checks the ports until ctx ends, beginning when begun is closed.
func (b *Bridges) Run(ctx context.Context, begun <-chan struct{}) error {
	select {
	case <-begun:
	case <-ctx.Done():
		return nil
	}
	tick := time.NewTicker(bridgesEvery)
	defer tick.Stop()
	for {
		b.note(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (b *Bridges) note(now time.Time) {
	for _, p := range b.ports() {
		b.problems.Note(now, p.ID, Observation{
			Kind: control.BridgePort, Peer: p.Master,
			Text:   p.ID.Interface + " is a port of the " + p.Kind + " " + p.Master + ", which takes all incoming packets before this host's IP stack: other hosts can't reach the addresses while this host is Active",
			Remedy: "run the router on " + p.Master + ", and configure this host's own addresses there too",
		})
	}
}
