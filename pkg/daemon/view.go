// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"net/netip"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// view is what the ports know of a Virtual Router, for people.
type view struct {
	config  *config.Router
	ifindex int    // 0: the interface isn't there
	up      bool   // it is up and has a carrier
	receive string // how it receives, and why so
	why     string
	fence   string            // how the TC programs are attached
	mac     config.VirtualMAC // in use
	macvlan string
	device  int // that the addresses are put on
	peers   map[netip.Addr]packet.Hops
	running bool
	waiting string // why it isn't
	guard   *auth.Guard
	brief   bool // it waits for a moment: for its checks, or for startup_delay
}

// of returns what is known of a Virtual Router, which may be too new for it.
func of(views map[router.ID]view, id router.ID) view {
	v, ok := views[id]
	if !ok {
		v.config = new(config.Router)
	}
	return v
}

// publish makes what the ports know known to others.
func (ps *ports) publish() {
	views := make(map[router.ID]view, len(ps.known()))
	for _, p := range ps.all {
		for _, m := range p.routers {
			v := p.view(m)
			v.brief = ps.conditions.fault(m.config.Name).cause == vrrp.CauseWaiting
			views[m.id] = v
		}
	}
	ps.mu.Lock()
	ps.views = views
	ps.mu.Unlock()
	if ps.told != nil {
		ps.told(views)
	}
}

func (p *port) view(m *member) view {
	v := view{config: m.config, running: m.running, guard: m.guard}
	if !m.running {
		v.waiting = p.waitsFor(m)
	}
	if p.bound == nil {
		return v
	}
	v.ifindex, v.up = p.bound.Index, p.bound.Up && p.bound.Running
	v.receive, v.why, v.fence = p.path.Kind, p.path.Why, p.path.TC
	v.device, v.peers = m.on(p.bound), m.peers
	if m.equipped {
		v.mac = m.mac
	}
	if m.device != 0 {
		v.macvlan = m.planned(p.bound.Index).Name
	}
	return v
}

// waitsFor says what keeps a router from taking part.
func (p *port) waitsFor(m *member) string {
	switch {
	case p.failed != nil:
		return p.failed.Error()
	case m.failed != nil:
		return m.failed.Error()
	case p.bound == nil:
		return "there is no interface " + p.name
	case !p.bound.Up:
		return p.bound.Name + " is down"
	case !p.bound.Running:
		return p.bound.Name + " has no carrier"
	case m.cause == vrrp.CauseNoAddress && m.config.Unicast.Source(m.id.Family).IsValid():
		return fmt.Sprintf("%s doesn't have the source %s", p.bound.Name, m.config.Unicast.Source(m.id.Family))
	case m.cause == vrrp.CauseNoAddress && m.id.Family == packet.IPv6 && !onLinkOnly(m.config.Unicast):
		return p.bound.Name + " has no global IPv6 address of its own"
	case m.cause == vrrp.CauseNoAddress && m.id.Family == packet.IPv6:
		return p.bound.Name + " has no IPv6 link-local address of its own"
	case m.cause == vrrp.CauseNoAddress:
		return p.bound.Name + " has no IPv4 address of its own"
	}
	return m.why()
}

// known returns what is known of each Virtual Router, which isn't to be changed.
func (ps *ports) known() map[router.ID]view {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.views
}
