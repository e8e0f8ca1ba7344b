// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"

	"github.com/failoverd/failoverd/pkg/control"
)

// Advertisements without news don't wake a Backup. It still knows of them, takes over in time, and
// hears of everything else at once, whether or not the host's stack gets them too.
func TestUnchanged(t *testing.T) {
	t.Attr("proves", "S-B5 TM-02")
	inReceiveModes(t, func(s *site, mode string) {
		file := func(priority int, interval string) string {
			return fmt.Sprintf(`
global: {xdp_mode: %s, unchanged: drop}
routers: [{name: web, interface: eth0, vrid: 51, priority: %d, interval: %s, addresses: [198.18.0.10/24, 2001:db8::10/64]}]
`, mode, priority, interval)
		}
		families := []string{"ipv4", "ipv6"}
		a := s.withFile(s.a, file(200, "100ms"))
		for _, f := range families {
			a.router("web", f, inState("Active"))
		}
		b := s.withFile(s.b, file(100, "100ms"))
		knows := func(priority int) func(control.Router) bool {
			return func(r control.Router) bool { return r.State == "Backup" && r.ActivePriority == priority }
		}
		for _, f := range families {
			b.router("web", f, knows(200))
		}

		// The first advertisements of each checksum form are news.
		const many = 30
		unchanged, delivered := b.counter("unchanged"), b.counter("delivered")
		for first := b.counter("advertisement_rcvd"); b.counter("advertisement_rcvd") < first+many; {
			b.waitCounter("advertisement_rcvd", b.counter("advertisement_rcvd"))
		}
		unchanged, delivered = b.counter("unchanged")-unchanged, b.counter("delivered")-delivered
		if mode == "off" {
			if unchanged != 0 {
				s.t.Errorf("%d advertisements counted as unchanged without BPF", unchanged)
			}
		} else if delivered > many/2 || unchanged < many/2 {
			s.t.Errorf("%d advertisements unchanged, %d handed over", unchanged, delivered)
		}
		for _, f := range families {
			if r := b.router("web", f, inState("Backup")); r.LastHeard > r.ActiveDownInterval {
				s.t.Errorf("%s: last heard %v s ago", f, r.LastHeard)
			}
		}

		a.write(file(150, "100ms"))
		a.reload()
		for _, f := range families {
			b.router("web", f, knows(150))
		}
		a.write(file(150, "200ms"))
		a.reload()
		b.problem("ipv4", "interval", "198.18.0.1")
		a.write(file(150, "100ms"))
		a.reload()

		s.ok(s.ports[s.a].Pull())
		for _, f := range families {
			if r := b.router("web", f, inState("Active")); r.BecameActive != 1 {
				s.t.Errorf("%s became Active %d times: %s", f, r.BecameActive, r.Cause)
			}
		}
	})
}
