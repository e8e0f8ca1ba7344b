// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/link"
)

// SpreadAddresses assigns each virtual address to the interface whose network it belongs to. With
// one interface there is no choice. An IPv6 link-local address is assigned to every interface
// that gets another IPv6 address of the list.
func SpreadAddresses(interfaces []string, addresses []netip.Prefix) ([][]netip.Prefix, error) {
	for i, name := range interfaces {
		if slices.Contains(interfaces[:i], name) {
			return nil, fmt.Errorf("interface %s is given twice: a VRID can be used only once on an interface", name)
		}
	}
	if len(interfaces) == 1 {
		return [][]netip.Prefix{addresses}, nil
	}
	monitor, err := link.NewMonitor()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	defer monitor.Close()
	return spread(interfaces, addresses, monitor.Snapshot())
}

func spread(interfaces []string, addresses []netip.Prefix, snapshot []link.Interface) ([][]netip.Prefix, error) {
	found := make([]link.Interface, len(interfaces))
	for i, name := range interfaces {
		var err error
		if found[i], err = link.Find(snapshot, name); err != nil {
			return nil, err
		}
	}
	out := make([][]netip.Prefix, len(interfaces))
	for _, p := range addresses {
		if p.Addr().IsLinkLocalUnicast() && p.Addr().Is6() {
			continue
		}
		var on []int
		for i := range found {
			if slices.ContainsFunc(found[i].Addresses, func(a link.Address) bool {
				return a.Prefix.Masked().Contains(p.Addr()) && !a.Prefix.Addr().IsLinkLocalUnicast()
			}) {
				on = append(on, i)
			}
		}
		if len(on) != 1 {
			return nil, fmt.Errorf("virtual address %s belongs to the network of %d of the interfaces %s: run one failoverd for each interface", p, len(on), strings.Join(interfaces, ", "))
		}
		out[on[0]] = append(out[on[0]], p)
	}
	for i := range out {
		if slices.ContainsFunc(out[i], func(p netip.Prefix) bool { return p.Addr().Is6() }) {
			for _, p := range addresses {
				if p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
					out[i] = append(out[i], p)
				}
			}
		}
		if len(out[i]) == 0 {
			return nil, fmt.Errorf("no virtual address belongs to a network of interface %s: remove --iface %s, or add a --vip for it", interfaces[i], interfaces[i])
		}
	}
	return out, nil
}
