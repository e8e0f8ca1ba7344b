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

// classifierName is the prefix of the filters' names. A later run recognizes them by it.
const classifierName = "failover_"

// classifierPriority is the priority of the filters. Filters with a lower number run
// first.
const classifierPriority = 112

// hooks are the hooks of clsact, which kernels without TCX (before 6.6) use.
var hooks = []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS}

// classifier is a program that is attached as a filter.
type classifier struct {
	program *ebpf.Program
	hook    uint32
	name    string
	handle  uint32 // within a hook, the filter with the lower handle runs first
}

// attachClassifiers attaches programs as direct-action filters of the clsact queueing
// discipline, and adds clsact if it is missing. The filters outlive the process.
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

// detachClassifiers removes failoverd's filters from an interface, and clsact if no other
// filters are left in it.
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
