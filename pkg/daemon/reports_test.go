// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/observe"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
)

// Routers that take part on a port of a bridge or a bond are found; those in a VRF, on the bridge
// itself, or that don't take part aren't.
func TestOnBridgePorts(t *testing.T) {
	snapshot := []link.Interface{
		{Index: 1, Name: "br0", Kind: "bridge"},
		{Index: 2, Name: "eth0", Master: 1},
		{Index: 3, Name: "red", Kind: "vrf"},
		{Index: 4, Name: "eth1", Master: 3},
		{Index: 5, Name: "eth2"},
		{Index: 6, Name: "eth3", Master: 1},
	}
	id := func(name string) router.ID { return router.ID{Interface: name, Family: packet.IPv4, VRID: 51} }
	k := &keeper{details: make(map[router.ID]details)}
	for _, i := range snapshot {
		k.details[id(i.Name)] = details{ifindex: i.Index, running: i.Name != "eth3"}
	}
	want := []observe.BridgePort{{ID: id("eth0"), Master: "br0", Kind: "bridge"}}
	if diff := cmp.Diff(want, k.onBridgePorts(snapshot)); diff != "" {
		t.Error(diff)
	}
}
