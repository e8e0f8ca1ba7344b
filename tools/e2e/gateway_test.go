// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/control"
)

// A router watches its gateways by ping, by ARP and by neighbour solicitations. It leaves when too
// few of them answer its host, while the other host still hears them, and returns with them. The
// status names the gateway that doesn't answer.
func TestGatewayGuard(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, check string
		silent      []string // what the gateways ignore from host a, one after the other
		enough      int      // how many of these leave the check up
		text        string   // what the status says
	}{
		{"ping", `ping: 198.18.0.100`, []string{"ip saddr 198.18.0.1 icmp type echo-request"}, 0, "198.18.0.100: no answer in time"},
		{
			"ping of two of three", `ping: [198.18.0.100, 198.18.0.101, "2001:db8::64"], at_least: 2`,
			[]string{"ip6 saddr 2001:db8::1 icmpv6 type echo-request", "ip saddr 198.18.0.1 ip daddr 198.18.0.101 icmp type echo-request"},
			1,
			"1 of 3 answered, and at least 2 must: 198.18.0.101: no answer in time; 2001:db8::64: no answer in time",
		},
		{"arp", `arp: 198.18.0.100, interface: eth0`, []string{"arp saddr ip 198.18.0.1"}, 0, "198.18.0.100: no answer in time"},
		{
			"arp of one of two", `arp: [198.18.0.100, "2001:db8::64"], at_least: 1, interface: eth0`,
			[]string{"arp saddr ip 198.18.0.1", "icmpv6 type nd-neighbor-solicit"},
			1, "198.18.0.100: no answer in time; 2001:db8::64: no answer in time",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.ok(s.c.AddAddress(ifname, "198.18.0.101/24"))
			mac, err := s.a.MAC(ifname)
			s.ok(err)
			_, err = s.c.Run(s.ctx, "nft", "add table netdev guard; add chain netdev guard in { type filter hook ingress device eth0 priority 0; }")
			s.ok(err)
			file := func(priority int) string {
				return fmt.Sprintf(`
tracks: [{name: gateway, %s, interval: 500ms, timeout: 1s, fall: 2}]
routers: [{name: web, interface: eth0, vrid: 51, priority: %d, interval: 200ms, addresses: [198.18.0.10/24], track: [gateway]}]
`, c.check, priority)
			}
			a := s.withFile(s.a, file(200))
			a.router("web", "ipv4", inState("Active"))
			b := s.withFile(s.b, file(100))
			b.router("web", "ipv4", inState("Backup"))
			s.waitHolder("198.18.0.10", s.a)

			for i, silent := range c.silent {
				_, err := s.c.Run(s.ctx, "nft", "add rule netdev guard in ether saddr "+mac+" "+silent+" counter drop")
				s.ok(err)
				if i < c.enough {
					s.dropped()
					a.router("web", "ipv4", a.check("web", "gateway", "up"))
					s.waitHolder("198.18.0.10", s.a)
				}
			}
			// The reason is known a moment after the state.
			web := a.router("web", "ipv4", func(r control.Router) bool { return r.State == "Initialize" && r.Waiting != "" })
			if want := "check gateway is down: " + c.text; web.Waiting != want {
				t.Errorf("waiting for %q, want %q", web.Waiting, want)
			}
			status, err := a.client.Status(s.ctx)
			s.ok(err)
			if !slices.ContainsFunc(status.Tracks, func(t control.Track) bool { return t.Name == "gateway" && t.State == "down" && t.Text == c.text }) {
				t.Errorf("the checks are %+v, want %q", status.Tracks, c.text)
			}
			s.waitHolder("198.18.0.10", s.b)
			b.router("web", "ipv4", b.check("web", "gateway", "up"))

			_, err = s.c.Run(s.ctx, "nft", "flush chain netdev guard in")
			s.ok(err)
			a.router("web", "ipv4", inState("Active"))
			s.waitHolder("198.18.0.10", s.a)
			s.answeredBy("198.18.0.10", s.a)
			s.stop(s.a, a.Failoverd)
			s.stop(s.b, b.Failoverd)
		})
	}
}

// dropped waits until the gateway has ignored more than one check.
func (s *site) dropped() {
	s.t.Helper()
	for s.ctx.Err() == nil {
		out, err := s.c.Run(s.ctx, "nft", "list chain netdev guard in")
		s.ok(err)
		if _, rest, ok := strings.Cut(out, "counter packets "); ok && !strings.HasPrefix(rest, "0 ") && !strings.HasPrefix(rest, "1 ") && !strings.HasPrefix(rest, "2 ") {
			return
		}
	}
	s.t.Fatal("the gateway has dropped nothing")
}
