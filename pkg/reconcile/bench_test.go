// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/reconcile"
)

// BenchmarkQuiet is a look at a host on which all is right: 800 interfaces with five
// Virtual Routers each.
func BenchmarkQuiet(b *testing.B) {
	h := newHost()
	h.interfaces = make(map[int]*link.Interface)
	var routers []*plan.ConfiguredRouter
	for n := range 800 {
		name := fmt.Sprintf("eth%d", n)
		i := h.plug(name)
		i.Addresses = []link.Address{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 1}), 24)}}
		for vrid := range 5 {
			routers = append(routers, &plan.ConfiguredRouter{Router: config.Router{
				Name: fmt.Sprintf("r%d-%d", n, vrid), Interface: name, VRID: 1 + vrid, Version: 3, Priority: 100, Interval: time.Second, DownAfter: 3, Accept: true,
				XDPMode: "auto", VirtualMAC: config.VirtualMACAuto, Addresses: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), byte(10 + vrid)}), 24)},
			}})
		}
	}
	m := &machine{host: h, faults: make(surroundings), plan: plan.New(routers, nil), calm: true}
	m.run = newRun(h)
	m.run.unchecked = true
	do := make(map[reconcile.Verb]reconcile.Executor)
	for v := reconcile.Stop; v <= reconcile.Erase; v++ {
		do[v] = m.run
	}
	m.runner = reconcile.New(m.faults, []reconcile.Executor{m.run}, do)
	began := time.Now()
	for {
		m.reconcile()
		if m.result.Settled {
			break
		}
	}
	b.Logf("begun in %v", time.Since(began))
	for b.Loop() {
		m.reconcile()
	}
}
