// SPDX-License-Identifier: Apache-2.0

//go:build kernels

package link

import (
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/failoverd/failoverd/pkg/packet"
)

// The device of an interface in a VRF is in the same VRF. It is stale when the interface leaves
// the VRF.
func TestDeviceInVRF(t *testing.T) {
	n, _, h := newHost(t, "192.0.2.2/24")
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "red"
	if err := n.Netlink().LinkAdd(&netlink.Vrf{LinkAttrs: attrs, Table: 10}); err != nil {
		t.Fatal(err)
	}
	red := find(t, h, "red")
	eth0, err := n.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Netlink().LinkSetMasterByIndex(eth0, red.Index); err != nil {
		t.Fatal(err)
	}
	d := NewDevice(eth0.Attrs().Index, packet.IPv4, 51)
	if err := n.Do(func() error { _, err := h.AddDevice(d, "eth0"); return err }); err != nil {
		t.Fatal(err)
	}
	device := find(t, h, d.Name)
	all, err := h.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	if device.Master != red.Index || Stale(device, all) {
		t.Errorf("%+v isn't in %+v", device, red)
	}
	if err := n.Netlink().LinkSetNoMaster(eth0); err != nil {
		t.Fatal(err)
	}
	if all, err = h.Interfaces(); err != nil || !Stale(device, all) {
		t.Errorf("it isn't stale outside: %v", err)
	}
}
