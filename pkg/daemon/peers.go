// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// describePeers returns what the status shows of the unicast peers of a router.
func describePeers(s router.Status, v details, now vrrp.Instant) []control.Peer {
	var all []control.Peer
	for _, p := range s.Peers {
		hops := v.peers[p.Address]
		peer := control.Peer{Address: p.Address.String(), MinTTL: int(hops.Min), MaxTTL: int(hops.Max)}
		if p.LastHeard != 0 {
			ago := now.Sub(p.LastHeard).Seconds()
			peer.LastHeard = &ago
		}
		all = append(all, peer)
	}
	return all
}
