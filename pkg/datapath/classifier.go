// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// classifierName begins the names of the filters, by which a later run knows
// them.
const classifierName = "failover_"

// classifierPriority puts the filters behind those of others with a lower one.
const classifierPriority = 112

// hooks are where the programs go on a kernel without TCX (before 6.6).
var hooks = []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS}

// classifier is a program that is a filter.
type classifier struct {
	program *ebpf.Program
	hook    uint32
	name    string
	handle  uint32 // of those of a hook the lesser is first
}

// attachClassifiers attaches programs as direct-action filters of the clsact
// queueing discipline, which is added if it isn't there. They stay when the
// process ends.
func attachClassifiers(ifindex int, all []classifier) error {
	device, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return err
	}
	err = netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add clsact: %w", err)
	}
	for _, c := range all {
		filter := &netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{
				LinkIndex: ifindex, Parent: c.hook, Handle: c.handle, Priority: classifierPriority, Protocol: unix.ETH_P_ALL,
			},
			Fd: c.program.FD(), Name: classifierName + c.name, DirectAction: true,
		}
		if err := netlink.FilterReplace(filter); err != nil {
			return errors.Join(fmt.Errorf("add the filter %s: %w", filter.Name, err), detachClassifiers(device))
		}
	}
	return nil
}

// detachClassifiers removes our filters from an interface, and the queueing
// discipline if nobody else has a filter in it.
func detachClassifiers(device netlink.Link) error {
	ours, others := false, false
	for _, hook := range hooks {
		filters, err := netlink.FilterList(device, hook)
		if err != nil {
			return fmt.Errorf("list the filters: %w", err)
		}
		for _, filter := range filters {
			b, ok := filter.(*netlink.BpfFilter)
			if !ok || !strings.HasPrefix(b.Name, classifierName) {
				others = true
				continue
			}
			ours = true
			if err := netlink.FilterDel(b); err != nil {
				return fmt.Errorf("remove the filter %s: %w", b.Name, err)
			}
		}
	}
	if !ours || others {
		return nil
	}
	return netlink.QdiscDel(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: device.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
}
