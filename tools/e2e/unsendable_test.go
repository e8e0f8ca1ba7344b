// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/control"
)

// A router whose advertisement gets longer than the MTU takes no part, says why, and comes back as
// soon as it fits. Another router on the interface isn't affected.
func TestAdvertisementTooLong(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var addresses []string
	for n := range 120 {
		addresses = append(addresses, fmt.Sprintf("198.18.0.%d/24", 110+n))
	}
	a := s.withFile(s.a, "routers:\n"+
		"  - {name: small, interface: eth0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24]}\n"+
		"  - {name: many, interface: eth0, vrid: 52, interval: 100ms, addresses: ["+strings.Join(addresses, ", ")+"]}\n")
	a.router("small", "ipv4", inState("Active"))
	a.router("many", "ipv4", func(r control.Router) bool {
		return r.State == "Active" && r.Assigned && r.LastSent != nil && r.SendError == ""
	})
	s.pinged(s.c, "198.18.0.110")

	mtu := func(n string) {
		_, err := s.a.Run(s.ctx, "ip", "link", "set", "eth0", "mtu", n)
		s.ok(err)
	}
	mtu("500")
	const long = "has 508 octets, the MTU of eth0 is 500"
	out := a.router("many", "ipv4", func(r control.Router) bool { return r.State == "Initialize" && r.Waiting != "" })
	if out.Assigned || !strings.Contains(out.Waiting, long) || !strings.Contains(out.Waiting, "raise the MTU to 508") || !strings.Contains(out.Cause, long) {
		t.Errorf("the status is %+v", out)
	}
	if small := a.router("small", "ipv4", inState("Active")); small.BecameActive != 1 || small.SendError != "" {
		t.Errorf("the other router: %+v", small)
	}
	s.pinged(s.c, "198.18.0.10")
	mtu("1500")
	a.router("many", "ipv4", func(r control.Router) bool { return r.State == "Active" && r.SendError == "" && r.Assigned })
	s.pinged(s.c, "198.18.0.110")
}
