// SPDX-License-Identifier: Apache-2.0

//go:build !kernels

// This test needs nft, which the machines of make test-kernels don't have.

package transmit

import "testing"

// If a firewall drops a frame, the others still leave.
func TestRefused(t *testing.T) {
	n, _, c := newConn(t)
	defer c.Close()
	if _, err := n.Run(t.Context(), "nft", "add table netdev t; add chain netdev t out { type filter hook egress device eth0 priority 0; }; add rule netdev t out ether type 0x88b6 drop"); err != nil {
		t.Fatal(err)
	}
	for k := range 6 {
		frame := test(k)
		if k%3 == 0 {
			frame[13] = 0xb6
		}
		c.Queue(frame)
	}
	if sent, unsent := flush(c); sent != 4 || len(unsent) != 2 || unsent[0] == nil || unsent[3] == nil {
		t.Errorf("%d sent, %v", sent, unsent)
	}
}
