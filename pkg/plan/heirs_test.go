// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// crashed is a host on which a run was killed whose router was Active.
type crashed struct {
	*scene
	remains *Remains
	now     vrrp.Instant
}

// found returns what was found of the family.
func (c *crashed) found(f packet.Family) *Found {
	return &c.remains.Routers[slices.IndexFunc(c.remains.Routers, func(r Found) bool { return r.ID.Family == f })]
}

// crashScene returns a host with the remains of a run whose last advertisement was sent a second
// ago. The interval is a second, so the lease lasts for two more.
func crashScene(mode config.VirtualMAC, addresses ...string) *crashed {
	c := &crashed{scene: newScene(), remains: &Remains{}, now: vrrp.Instant(time.Hour)}
	r := newRouter("web", "eth0", 51, addresses...)
	r.Interval, r.DownAfter, r.FamiliesTogether = time.Second, 3, true
	r.Extra = []routing.Placed{{Address: netip.MustParsePrefix("192.0.2.20/24"), Interface: "eth0"}}
	r.Routes = []routing.Route{{To: netip.MustParsePrefix("203.0.113.0/24"), Interface: "eth0", Table: 254, Type: "unicast"}}
	c.routers = []*ConfiguredRouter{r}
	i := *c.interfaces("eth0")
	for n, v := range New(c.routers, nil).VirtualRouters {
		var device *link.Device
		on := i.Name
		if mode == config.VirtualMACMacvlan {
			made := link.NewDevice(i.Index, v.Family, v.VRID)
			device, on = &made, made.Name
			c.scene.now.Interfaces = append(c.scene.now.Interfaces, link.Interface{Index: 10 + n, Name: made.Name, Kind: "macvlan", Parent: made.Parent, MAC: made.MAC, Up: true, MTU: 1500})
			c.remains.Journal.Settings = []link.Setting{{Ifindex: i.Index, Path: "ipv4/conf/eth0/arp_announce", Value: 2}}
		}
		for _, a := range v.Assigned {
			c.has(on, a.String())
		}
		notes := ChangesOf(slices.Values(v.Notes(i.Index, i.Name, device)))
		j := &c.remains.Journal
		j.Interfaces = []link.Identity{i.Identity()}
		j.Addresses, j.Devices = append(j.Addresses, notes.Addresses...), append(j.Devices, notes.Devices...)
		j.Routes = append(j.Routes, notes.Routes...)
		c.remains.Routers = append(c.remains.Routers, Found{
			Ifindex: i.Index, ID: ID{Family: v.Family, VRID: v.VRID}, Version: 3, MACMode: mode, Source: Source(&r.Router, &i, v.Family, link.NewAddressSet(VirtualAddresses(&r.Router)...)),
			Addresses: slices.Clone(v.Fenced), Active: true, Answer: c.now.Add(2 * time.Second), Read: c.now, Advertise: c.now.Add(-time.Millisecond), Fenced: true,
		})
	}
	return c
}

func TestHeirs(t *testing.T) {
	four, both := []string{"192.0.2.10/24"}, []string{"192.0.2.10/24", "fe80::10/64"}
	router := func(f func(r *ConfiguredRouter)) func(*crashed) { return func(c *crashed) { f(c.first()) } }
	found := func(f func(*Found)) func(*crashed) { return func(c *crashed) { f(&c.remains.Routers[0]) } }
	for _, row := range []struct {
		name      string
		mode      config.VirtualMAC
		addresses []string
		change    func(*crashed)
		refused   string // empty: all continue
	}{
		{"bpf", config.VirtualMACBPF, four, func(*crashed) {}, ""},
		{"both families", config.VirtualMACOff, both, func(*crashed) {}, ""},
		{"macvlan", config.VirtualMACMacvlan, both, func(*crashed) {}, ""},
		{"another priority", config.VirtualMACBPF, four, router(func(r *ConfiguredRouter) { r.Priority = 150 }), ""},
		{"lease ended", config.VirtualMACBPF, four, found(func(f *Found) { f.Read = f.Answer }), "-"},
		{"lease almost ended", config.VirtualMACBPF, four, found(func(f *Found) { f.Read = f.Answer - 1 }), ""},
		{"ended by the kernel", config.VirtualMACBPF, four, found(func(f *Found) { f.Answer = 0 }), "-"},
		{"Backup", config.VirtualMACBPF, four, found(func(f *Found) { f.Active = false }), "-"},
		{"interface gone", config.VirtualMACBPF, four, func(c *crashed) { c.scene.now.Interfaces = c.scene.now.Interfaces[:1] }, "-"},
		{"one family ended", config.VirtualMACBPF, both, func(c *crashed) { c.found(packet.IPv6).Answer = 0 }, "group"},
		{"removed", config.VirtualMACBPF, four, func(c *crashed) { c.routers = nil }, "configuration"},
		{"another VRID", config.VirtualMACBPF, four, router(func(r *ConfiguredRouter) { r.VRID = 52 }), "configuration"},
		{"another interface", config.VirtualMACBPF, four, router(func(r *ConfiguredRouter) { r.Interface = "eth1" }), "configuration"},
		{"another address", config.VirtualMACBPF, four, router(func(r *ConfiguredRouter) {
			r.Addresses = append(r.Addresses, netip.MustParsePrefix("192.0.2.11/24"))
		}), "addresses have changed"},
		{"another prefix length", config.VirtualMACBPF, four, router(func(r *ConfiguredRouter) {
			r.Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.10/25")}
		}), "isn't on eth0"},
		{"address gone", config.VirtualMACBPF, four, func(c *crashed) { c.interfaces("eth0").Addresses = c.interfaces("eth0").Addresses[:3] }, "isn't on eth0"},
		{"another route", config.VirtualMACBPF, four, router(func(r *ConfiguredRouter) { r.Routes[0].Metric = 7 }), "journal"},
		{"version 2", config.VirtualMACBPF, four, func(c *crashed) { c.first().Version, c.remains.Routers[0].Version = 2, 2 }, ""},
		{"a better router", config.VirtualMACBPF, four, found(func(f *Found) {
			f.Heard = vrrp.Stamp{At: f.Answer.Add(-2 * time.Second), Priority: 100}
		}), "at least its priority"},
		{"a worse router", config.VirtualMACBPF, four, found(func(f *Found) {
			f.Heard = vrrp.Stamp{At: f.Answer.Add(-2 * time.Second), Priority: 99}
		}), ""},
		{"a better router before", config.VirtualMACBPF, four, found(func(f *Found) {
			f.Heard = vrrp.Stamp{At: f.Answer.Add(-4 * time.Second), Priority: 200}
		}), ""},
		{"restarted", config.VirtualMACMacvlan, both, func(c *crashed) { c.remains.Restarted = true }, ""},
		{"restarted with another interval", config.VirtualMACBPF, four, func(c *crashed) {
			c.remains.Restarted, c.first().Interval = true, 2*time.Second
		}, "interval"},
		{"another version", config.VirtualMACBPF, four, router(func(r *ConfiguredRouter) { r.Version = 2 }), "version has changed"},
		{"dual", config.VirtualMACBPF, four, router(func(r *ConfiguredRouter) { r.Dual = true }), "version has changed"},
		{"owner by now", config.VirtualMACBPF, four, router(func(r *ConfiguredRouter) { r.Priority = 255 }), "own"},
		{"owner before", config.VirtualMACBPF, four, found(func(f *Found) { f.Owner = true }), "own"},
		{"owner", config.VirtualMACBPF, four, func(c *crashed) {
			c.first().Priority, c.found(packet.IPv4).Owner = config.OwnerPriority, true
			c.first().Extra, c.first().Routes = nil, nil
			c.found(packet.IPv4).Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.10")}
			c.remains.Journal = link.Changes{} // it has changed nothing
		}, ""},
		{"255 with add_addresses", config.VirtualMACBPF, four, router(func(r *ConfiguredRouter) { r.Priority, r.AddAddresses = 255, true }), ""},
		{"HMAC", config.VirtualMACBPF, four, router(func(r *ConfiguredRouter) { r.Auth.Type = auth.HMAC }), "authentication has changed"},
		{"HMAC as before", config.VirtualMACBPF, four, func(c *crashed) {
			c.first().Auth.Type, c.remains.Routers[0].Authenticated = auth.HMAC, true
		}, ""},
		{"HMAC before", config.VirtualMACBPF, four, found(func(f *Found) { f.Authenticated = true }), "authentication has changed"},
		{"unicast before", config.VirtualMACBPF, four, found(func(f *Found) { f.Unicast = true }), "unicast"},
		{"AF_PACKET", config.VirtualMACBPF, four, router(func(r *ConfiguredRouter) { r.XDPMode = "off" }), "AF_PACKET"},
		{"another MAC mode", config.VirtualMACBPF, four, router(func(r *ConfiguredRouter) { r.VirtualMAC = config.VirtualMACOff }), "virtual MAC"},
		{"same MAC mode", config.VirtualMACOff, four, router(func(r *ConfiguredRouter) { r.VirtualMAC = config.VirtualMACOff }), ""},
		{"longer interval", config.VirtualMACBPF, four, router(func(r *ConfiguredRouter) { r.Interval = 2 * time.Second }), "interval"},
		{"shorter interval", config.VirtualMACBPF, four, router(func(r *ConfiguredRouter) { r.Interval = 500 * time.Millisecond }), "interval"},
		{"could not send", config.VirtualMACBPF, four, found(func(f *Found) { f.Advertise = f.Advertise.Add(time.Second) }), "could not be sent"},
		{"no fence", config.VirtualMACBPF, four, found(func(f *Found) { f.Fenced = false }), "fences"},
		{"no journal", config.VirtualMACBPF, four, func(c *crashed) { c.remains.Journal = link.Changes{} }, "isn't the same"},
		{"another MAC", config.VirtualMACBPF, four, func(c *crashed) { c.interfaces("eth0").MAC[5]++ }, "isn't the same"},
		{"no link", config.VirtualMACBPF, four, func(c *crashed) { c.interfaces("eth0").Running = false }, "no link"},
		{"another source", config.VirtualMACBPF, four, func(c *crashed) { c.interfaces("eth0").Addresses[0].Prefix = netip.MustParsePrefix("192.0.2.9/24") }, "source"},
		{"macvlan gone", config.VirtualMACMacvlan, four, func(c *crashed) { c.scene.now.Interfaces = c.scene.now.Interfaces[:3] }, "macvlan"},
		{"macvlan down", config.VirtualMACMacvlan, four, func(c *crashed) { c.scene.now.Interfaces[3].Up = false }, "macvlan"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := crashScene(row.mode, row.addresses...)
			row.change(c)
			p := New(c.routers, nil)
			heirs, refused := Heirs(p, c.remains, c.scene.now.Interfaces)
			if row.refused != "" {
				if len(heirs) > 0 {
					t.Errorf("heirs: %v", heirs)
				}
				for id, why := range refused {
					if !strings.Contains(why.Error(), row.refused) {
						t.Errorf("%s: %v", id, why)
					}
				}
				if row.refused != "-" && len(refused) == 0 {
					t.Error("no reason")
				}
				return
			}
			if len(heirs) != len(p.VirtualRouters) || len(refused) > 0 {
				t.Fatalf("heirs %v, refused %v", heirs, refused)
			}
			for id, h := range heirs {
				if h.V.ID != id || h.Left != c.now.Add(-time.Second) || h.Ended || h.MACMode != row.mode || (h.Device != 0) != (row.mode == config.VirtualMACMacvlan) {
					t.Errorf("%s: %+v", id, h)
				}
				settings := ChangesOf(slices.Values(h.Notes)).Settings
				if (len(settings) > 0) != (h.Device != 0) {
					t.Errorf("%s keeps the settings %v", id, settings)
				}
			}
		})
	}
}
