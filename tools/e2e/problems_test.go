// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
)

// problem waits until a router has a problem of a kind with a peer, and returns it.
func (c *configured) problem(family, kind, peer string) (p control.Problem) {
	c.t.Helper()
	c.router("web", family, func(r control.Router) bool {
		i := slices.IndexFunc(r.Problems, func(p control.Problem) bool { return p.Kind == kind && p.Peer == peer })
		if i >= 0 {
			p = r.Problems[i]
		}
		return i >= 0
	})
	return p
}

// without waits until a router has no problem of a kind, and checks that the log has its beginning
// and its end.
func (c *configured) without(family, kind string) {
	c.t.Helper()
	c.router("web", family, func(r control.Router) bool {
		return !slices.ContainsFunc(r.Problems, func(p control.Problem) bool { return p.Kind == kind })
	})
	var told []string
	c.ok(c.client.Events(c.ctx, 0, false, func(e control.Event) error {
		if e.Kind == "problem" && e.Family == family && strings.HasPrefix(e.Text, kind) {
			told = append(told, e.Text)
		}
		return nil
	}))
	if len(told) != 2 || !strings.HasPrefix(told[1], kind+" over after ") {
		c.t.Errorf("the log about %s is %q", kind, told)
	}
}

// rival runs keepalived with the same configuration except for some lines.
func rival(version int, auth string, interval float64, addresses ...string) string {
	return fmt.Sprintf(`global_defs { vrrp_version %d }
vrrp_instance web {
  state BACKUP
  interface eth0
  virtual_router_id 51
  priority 50
  advert_int %g
  %s
  virtual_ipaddress { %s }
}
`, version, interval, auth, strings.Join(addresses, "\n"))
}

// A difference in the configuration of a keepalived beside it is a problem, with the values of
// both. It ends when keepalived has the same value.
func TestProblems(t *testing.T) {
	t.Parallel()
	const same, password = "198.18.0.10/24", "authentication {\nauth_type PASS\nauth_pass secret\n}"
	for _, x := range []struct {
		kind, text    string
		first         string // an address of keepalived
		version       int
		wrong, remedy string // of keepalived
	}{
		{"interval", "198.18.0.2 advertises every 2s, this host every 1s", "198.18.0.10", 3, rival(3, "", 2, same), rival(3, "", 1, same)},
		{"interval", "every 2s, this host every 1s; it isn't heeded", "198.18.0.10", 2, rival(2, "", 2, same), rival(2, "", 1, same)},
		{"address_list", "198.18.0.2 has 198.18.0.11, which this host lacks", "198.18.0.10", 3, rival(3, "", 1, same, "198.18.0.11/24"), rival(3, "", 1, same)},
		{"duplicate_vrid", "198.18.0.2 uses VRID 51 for 198.18.0.77, this host for 198.18.0.10", "198.18.0.77", 3, rival(3, "", 1, "198.18.0.77/24"), rival(3, "", 1, same)},
		{"version", "198.18.0.2 speaks another version", "198.18.0.10", 3, rival(2, "", 1, same), rival(3, "", 1, same)},
		{"authentication", "198.18.0.2 has authentication type 1, this host 0", "198.18.0.10", 2, rival(2, password, 1, same), rival(2, "", 1, same)},
	} {
		t.Run(fmt.Sprintf("%s/version %d", x.kind, x.version), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			peer := s.keepalived(s.b, x.wrong)
			s.waitHolder(x.first, s.b)
			a := s.withFile(s.a, fmt.Sprintf("routers:\n  - {name: web, interface: eth0, vrid: 51, version: %d, priority: 100, addresses: [198.18.0.10/24]}\n", x.version))
			p := a.problem("ipv4", x.kind, "198.18.0.2")
			if !strings.Contains(p.Text, x.text) || p.Remedy == "" || p.Since.IsZero() || p.Count == 0 {
				t.Errorf("problem %+v", p)
			}
			_, err := peer.Stop(s.ctx)
			s.ok(err)
			s.keepalived(s.b, x.remedy)
			a.without("ipv4", x.kind)
			a.router("web", "ipv4", func(r control.Router) bool { return r.State == "Active" && len(r.Problems) == 0 })
		})
	}
}

// There are two Actives, and one doesn't hear the other. The one that hears reports it.
func TestTwoActives(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const text = "routers:\n  - {name: web, interface: eth0, vrid: 51, priority: %d, interval: 100ms, addresses: [198.18.0.10/24]}\n"
	a := s.withFile(s.a, fmt.Sprintf(text, 200))
	a.router("web", "ipv4", inState("Active"))
	deaf, err := s.ports[s.a].MuteVRRP()
	s.ok(err)
	t.Cleanup(func() { _ = deaf.Close() })
	b := s.withFile(s.b, fmt.Sprintf(text, 100))
	b.router("web", "ipv4", inState("Active"))
	if p := a.problem("ipv4", control.TwoActives, "198.18.0.2"); !strings.Contains(p.Text, "198.18.0.2 (priority 100) is Active as well as this host (priority 200)") {
		t.Errorf("problem %+v", p)
	}
	s.ok(deaf.Close())
	b.router("web", "ipv4", inState("Backup"))
	a.without("ipv4", control.TwoActives)
	if r := a.router("web", "ipv4", inState("Active")); r.BecameActive != 1 || len(r.Problems) > 0 {
		t.Errorf("became Active %d times, with the problems %v", r.BecameActive, r.Problems)
	}
}

// A third host that has a virtual address is reported with its MAC. The problem ends when the host
// no longer has the address. What the host does to its own frames doesn't hide it.
func TestAddressConflict(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"bpf", "macvlan", "off"} {
		for _, family := range []string{"ipv4", "ipv6"} {
			t.Run(mode+"/"+family, func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				address := map[string]string{"ipv4": "198.18.0.10", "ipv6": "2001:db8::10"}[family]
				a := s.withFile(s.a, "routers:\n  - {name: web, interface: eth0, vrid: 51, interval: 100ms, virtual_mac: "+mode+", addresses: [198.18.0.10/24, 198.18.0.11/24, fe80::12:33/64, 2001:db8::10/64]}\n")
				a.router("web", family, inState("Active"))
				// Silently: without duplicate address detection and without an announcement.
				_, err := s.c.Run(s.ctx, "ip", "address", "add", address+"/128", "dev", ifname, "nodad")
				if family == "ipv4" {
					_, err = s.c.Run(s.ctx, "ip", "address", "add", address+"/24", "dev", ifname)
				}
				s.ok(err)
				if p := a.problem(family, control.AddressConflict, s.mac(s.c)); !strings.HasSuffix(p.Text, "answers for "+address) {
					t.Errorf("problem %+v", p)
				}
				_, err = s.c.Run(s.ctx, "ip", "address", "flush", "dev", ifname, "to", address)
				s.ok(err)
				a.without(family, control.AddressConflict)
			})
		}
	}
}

// Routers that agree have no problem, however often they change their states.
func TestNoProblem(t *testing.T) {
	t.Parallel()
	for name, line := range map[string]string{
		"bpf": "", "macvlan": "virtual_mac: macvlan, ", "off": "virtual_mac: off, ", "one also in version 2": "dual: true, ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			const text = "routers:\n  - {name: web, interface: eth0, vrid: 51, priority: %d, %sinterval: 100ms, addresses: [198.18.0.10/24, fe80::12:33/64, 2001:db8::10/64]}\n"
			first := fmt.Sprintf(text, 200, line)
			second := fmt.Sprintf(text, 100, strings.Replace(line, "dual: true, ", "", 1))
			b := s.withFile(s.b, second)
			for range 3 {
				b.router("web", "ipv4", inState("Active"))
				b.router("web", "ipv6", inState("Active"))
				a := s.withFile(s.a, first)
				for _, family := range []string{"ipv4", "ipv6"} {
					a.router("web", family, inState("Active"))
					b.router("web", family, inState("Backup"))
				}
				time.Sleep(3 * time.Second) // until it has asked for the addresses' owner
				for _, c := range []*configured{a, b} {
					c.ok(c.client.Events(c.ctx, 0, false, func(e control.Event) error {
						if e.Kind == "problem" {
							t.Errorf("%s: %s", e.Peer, e.Text)
						}
						return nil
					}))
				}
				s.stop(s.a, a.Failoverd)
			}
		})
	}
}
