// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// change is a new plan for the ports.
type change struct {
	plan []planned
	done chan<- error
}

// members are the Virtual Routers of a plan.
func members(plan []planned) []*member {
	var all []*member
	for i := range plan {
		p := &plan[i]
		for _, f := range families(p.Router) {
			all = append(all, &member{
				id:     router.ID{Interface: p.Interface, Family: f, VRID: uint8(p.VRID)},
				config: &p.Router,
				auth:   p.auth,
				cause:  vrrp.CauseStarting,
			})
		}
	}
	return all
}

// apply makes the ports those of a plan. Only what is different changes.
func (ps *ports) apply(plan []planned) error {
	ps.exclude = virtual(plan)
	wanted := members(plan)
	find := func(id router.ID) *member {
		if i := slices.IndexFunc(wanted, func(m *member) bool { return m.id == id }); i >= 0 {
			return wanted[i]
		}
		return nil
	}
	// First what goes, for another router may get its addresses.
	for _, p := range ps.all {
		for _, m := range slices.Clone(p.routers) {
			if find(m.id) == nil {
				if err := ps.remove(p, m); err != nil {
					return err
				}
			}
		}
	}
	for _, p := range slices.Clone(ps.all) {
		mode := p.mode
		for _, m := range wanted {
			if m.id.Interface == p.name {
				mode = datapath.Mode(m.config.XDPMode)
			}
		}
		if len(p.routers) > 0 && mode == p.mode {
			continue
		}
		if p.bound != nil {
			if err := ps.unbind(p, vrrp.CauseReconfigured); err != nil {
				return err
			}
		}
		p.mode = mode
		if len(p.routers) == 0 {
			ps.all = slices.DeleteFunc(ps.all, func(q *port) bool { return q == p })
			if err := ps.journal.Forget(p.name); err != nil {
				ps.log.WithField("interface", p.name).WithError(err).Warn("write down that nothing is changed any more")
			}
		}
	}
	for _, w := range wanted {
		p := ps.byName(w.id.Interface)
		p.mode = datapath.Mode(w.config.XDPMode)
		i := slices.IndexFunc(p.routers, func(m *member) bool { return m.id == w.id })
		var err error
		if i < 0 {
			err = ps.include(p, w)
		} else if now := p.routers[i]; !reflect.DeepEqual(now.config, w.config) || len(auth.Difference(&now.auth, &w.auth)) > 0 {
			err = ps.alter(p, now, w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// include adds a Virtual Router to a port. It is equipped and started with the
// next look at the interface.
func (ps *ports) include(p *port, m *member) error {
	p.routers = append(p.routers, m)
	m.priority = ps.conditions.priority(*m.config)
	m.authenticate(m.auth)
	ps.warnWeak(m)
	return ps.loop.Add(loopConfig(m))
}

// remove has a Virtual Router leave and takes away what it had.
func (ps *ports) remove(p *port, m *member) error {
	m.running = false
	if err := ps.loop.Remove(m.id, vrrp.CauseRemoved); errors.Is(err, router.ErrStopped) {
		return err
	} else if err != nil {
		ps.log.WithFields(fields(m.id)).WithError(err).Error("its addresses can't be removed, trying again")
	}
	p.routers = slices.DeleteFunc(p.routers, func(o *member) bool { return o == m })
	ps.claims.release(m.id)
	if p.bound == nil {
		return nil
	}
	errs := []error{ps.dp.DeleteRouter(m.key(p.bound.Index)), ps.unequip(p, m)}
	if len(p.routers) > 0 {
		errs = append(errs, ps.plan(p, *p.bound))
	}
	if err := errors.Join(errs...); err != nil {
		ps.log.WithFields(fields(m.id)).WithError(err).Warn("take away what a removed router had")
	}
	return nil
}

// alter changes a Virtual Router's configuration, without leaving its state if
// that is possible.
func (ps *ports) alter(p *port, m, to *member) error {
	before, c := m.config, to.config
	m.config, m.auth = c, to.auth
	m.authenticate(m.auth)
	if before.Authentication.Type != c.Authentication.Type {
		ps.warnWeak(m)
	}
	m.priority = ps.conditions.priority(*c)
	if p.bound == nil || !m.equipped {
		return ps.loop.Update(loopConfig(m))
	}
	if restarts(*before, *c) != "" {
		if err := ps.stop(p, m, vrrp.CauseReconfigured, ""); err != nil {
			return err
		}
		if err := ps.unequip(p, m); err != nil {
			ps.log.WithFields(fields(m.id)).WithError(err).Warn("take away what a router had before a restart")
		}
		return ps.loop.Update(loopConfig(m))
	}
	// Before an address is put on the interface it is written down, and fenced.
	// What is to be removed stays written down until it is gone.
	wrong := func(err error) {
		if err != nil {
			ps.log.WithFields(fields(m.id)).WithError(err).Error("a run after kill -9 would not find the addresses")
		}
	}
	more, err := ps.planMore(p, *p.bound)
	wrong(err)
	if m.running {
		if err := ps.setRouter(p, m, true, m.port.Source); err != nil {
			wrong(ps.refused(p, m, err))
		}
	}
	err = ps.loop.Update(loopConfig(m))
	if more && ps.settle() {
		wrong(ps.plan(p, *p.bound))
	}
	return err
}

// settle waits until what was asked of the worker is done, and reports whether it
// is. If rtnetlink takes longer, more stays written down than there is.
func (ps *ports) settle() bool {
	done := make(chan struct{})
	ps.worker.Settle(func() { close(done) })
	select {
	case <-done:
		return true
	case <-time.After(settleWithin):
		return false
	}
}

// restarts says why a change can't be made in place; it is empty if it can.
func restarts(a, b config.Router) string {
	switch {
	case a.Version != b.Version:
		return "version"
	case a.VirtualMAC != b.VirtualMAC:
		return "virtual_mac"
	case (a.Priority == config.OwnerPriority) != (b.Priority == config.OwnerPriority):
		return "ownership"
	case a.XDPMode != b.XDPMode:
		return "xdp_mode"
	case a.Unicast.On() != b.Unicast.On():
		return "unicast"
	}
	return ""
}

func loopConfig(m *member) router.Config {
	return router.Config{ID: m.id, Addresses: m.config.Assigned(m.id.Family), Protocol: m.protocol(), Group: m.group(), Peers: m.config.Unicast.Addresses(m.id.Family), TTL: uint8(m.config.Unicast.TTL), Prover: m.prover()}
}

// ours reports whether a virtual address is where a running router has put it.
func (ps *ports) ours(ifindex int, a netip.Addr) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, v := range ps.views {
		is := func(p netip.Prefix) bool { return p.Addr() == a }
		if v.device == ifindex && (slices.ContainsFunc(v.config.Assigned(packet.IPv4), is) || slices.ContainsFunc(v.config.Assigned(packet.IPv6), is)) {
			return true
		}
		if slices.ContainsFunc(v.config.Extra, func(e config.Extra) bool { return e.Address.Addr() == a }) {
			return true // wherever it is
		}
	}
	return false
}

// describe says what a change is.
func describe(c control.Change) string {
	if len(c.Details) == 0 {
		return c.What
	}
	return c.What + ": " + strings.Join(c.Details, ", ")
}

// difference says what changes from one list of routers to another.
func difference(before, after []config.Router) []control.Change {
	same := func(a, b config.Router) bool { return a.Interface == b.Interface && a.VRID == b.VRID && share(a, b) }
	all := []control.Change{}
	for _, a := range before {
		if !slices.ContainsFunc(after, func(b config.Router) bool { return same(a, b) }) {
			all = append(all, control.Change{Router: a.Name, What: "removed"})
		}
	}
	for _, b := range after {
		i := slices.IndexFunc(before, func(a config.Router) bool { return same(a, b) })
		if i < 0 {
			all = append(all, control.Change{Router: b.Name, What: "added"})
			continue
		}
		if details := config.Difference(before[i], b); len(details) > 0 {
			c := control.Change{Router: b.Name, What: "changed", Details: details}
			if restarts(before[i], b) != "" {
				c.What = "restarted"
			}
			all = append(all, c)
		}
	}
	return all
}
