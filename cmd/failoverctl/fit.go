// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/packet"
)

// unfit returns an error text for each router that doesn't fit the limits of the kernel's
// maps and so would stay in Initialize.
func unfit(routers []config.Router) (all []string) {
	var needs []datapath.Need
	var names []string
	for _, r := range routers {
		for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
			if !r.Has(f) {
				continue
			}
			needs = append(needs, datapath.Need{
				Interface: r.Interface, Addresses: len(r.Local(f)),
				Peers: len(r.Unicast.OfFamily(f)), Keys: len(r.Authentication.Keys),
			})
			names = append(names, fmt.Sprintf("router %s (%s)", r.Name, f))
		}
	}
	for i, err := range datapath.Fit(needs) {
		if err != nil {
			all = append(all, names[i]+": "+err.Error())
		}
	}
	return all
}
