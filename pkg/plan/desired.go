// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Conditions tells what affects configured routers from outside the protocol.
type Conditions interface {
	// Fault returns what keeps a router from taking part, by the router's name; vrrp.CauseNone if
	// nothing does. The detail adds to the cause.
	Fault(router string) (cause vrrp.Cause, detail string)
	// Priority returns a router's effective priority.
	Priority(config.Router) int
}

// Failures has the errors of steps that failed and have not succeeded since.
type Failures struct {
	Ports          map[string]error // ports that could not be opened, by name
	VirtualRouters map[ID]error
	// Macvlans has the Virtual Routers whose macvlan could not be created.
	Macvlans map[ID]error
}

// Desired returns what the host must have.
func Desired(p *Plan, c Conditions, now *Picture, failed *Failures) *Target {
	d := &desired{
		plan: p, conditions: c, now: now, failed: failed,
		host:   &Target{Ports: make(map[string]Port), MacvlanParents: make(map[string]bool)},
		byName: make(map[string]*link.Interface, len(now.Interfaces)), byIndex: make(map[int]*link.Interface, len(now.Interfaces)),
		portOf: make(map[int]string), journaled: make(map[link.JournalAddress]bool, len(now.Journal)),
	}
	for n := range now.Interfaces {
		i := &now.Interfaces[n]
		d.byName[i.Name], d.byIndex[i.Index] = i, i
	}
	for name, port := range now.Ports {
		if i := d.byIndex[port.Ifindex]; i != nil && i.Generation == port.Generation {
			d.portOf[port.Ifindex] = name
		}
	}
	for name, mode := range p.xdpModes {
		if i, _ := d.find(name); i != nil {
			d.host.Ports[name] = Port{Ifindex: i.Index, Generation: i.Generation, Name: i.Name, Mode: mode}
		}
	}
	for n := range now.Journal {
		if a, is := n.(link.JournalAddress); is {
			d.journaled[link.JournalAddress{Ifindex: a.Ifindex, Prefix: a.Prefix}] = true
		}
	}
	for _, v := range p.VirtualRouters {
		d.host.Wants = append(d.host.Wants, d.want(v))
	}
	d.applyGroups()
	for _, w := range d.host.Wants {
		d.finish(w)
	}
	return d.host
}

type desired struct {
	plan       *Plan
	conditions Conditions
	now        *Picture
	failed     *Failures
	host       *Target
	byName     map[string]*link.Interface
	byIndex    map[int]*link.Interface
	portOf     map[int]string               // names of the open ports, by the index of their interface
	journaled  map[link.JournalAddress]bool // addresses in the journal, without the interface names of that time
}

// find returns the interface of a port: the device that the port is open on, even if it was
// renamed, or else the interface with the configured name. If there is none, it returns nil and
// what is missing.
func (d *desired) find(name string) (*link.Interface, string) {
	if open, ok := d.now.Ports[name]; ok {
		if i := d.byIndex[open.Ifindex]; i != nil && i.Generation == open.Generation {
			return i, ""
		}
	}
	i := d.byName[name]
	switch {
	case i == nil:
		return nil, "there is no interface " + name
	case d.portOf[i.Index] != "" && d.portOf[i.Index] != name:
		return nil, fmt.Sprintf("interface %s was named %s before, and the routers of that name still use it", name, d.portOf[i.Index])
	case i.Kind == link.KindLoopback:
		return nil, fmt.Sprintf("interface %s is the loopback: VRRP needs a network shared with other hosts", name)
	}
	if err := Usable(*i); err != nil {
		return nil, err.Error()
	}
	return i, ""
}

// installed returns what failoverd has installed for a Virtual Router.
func (d *desired) installed(id ID) *Installed {
	if m := d.now.Installed[id]; m != nil {
		return m
	}
	return &Installed{}
}

// want returns what the host must have for one Virtual Router, without regard to its group.
func (d *desired) want(v *VirtualRouter) *Want {
	w := &Want{V: v, Priority: d.conditions.Priority(v.Router.Router)}
	i, missing := d.find(v.Interface)
	if i == nil {
		w.Obstacle = Obstacle{Cause: vrrp.CauseWaiting, Text: missing}
		if m := d.installed(v.ID); m.Loop != nil && m.Loop.Binding != nil {
			w.Obstacle.Cause = vrrp.CauseInterfaceRemoved
		}
		return w
	}
	open, ok := d.now.Ports[v.Interface]
	if err := d.failed.Ports[v.Interface]; err != nil && !ok {
		w.Obstacle = Obstacle{Cause: vrrp.CauseWaiting, Text: err.Error()}
		return w
	}
	if ok && open.Lost != "" {
		w.Obstacle = Obstacle{Cause: vrrp.CauseFault, Detail: open.Lost}
		return w
	}
	if !ok || open.MustReopen(d.host.Ports[v.Interface]) {
		w.Obstacle = Obstacle{Cause: vrrp.CauseWaiting, Text: "interface " + v.Interface + " isn't in use yet"}
		return w
	}
	w.Ifindex = i.Index
	w.Obstacle = d.chooseMAC(w, &open, i)
	if w.Obstacle.Cause == vrrp.CauseNone {
		w.Obstacle = d.ownObstacle(w, i)
	}
	return w
}

// MustReopen reports whether an open port has to be closed and opened again to become the wanted
// port.
func (o OpenPort) MustReopen(p Port) bool {
	return o.Lost != "" || p.Ifindex != o.Ifindex || p.Generation != o.Generation || p.Mode != o.Mode
}

// chooseMAC decides how a Virtual Router gets its virtual MAC.
func (d *desired) chooseMAC(w *Want, open *OpenPort, i *link.Interface) Obstacle {
	refuse := func(format string, args ...any) Obstacle {
		return Obstacle{Cause: vrrp.CauseWaiting, Text: fmt.Sprintf(format, args...)}
	}
	m := d.installed(w.V.ID)
	running := m.Loop != nil && m.Loop.Binding != nil
	r := w.V.Router
	if !running {
		found := Obstacles(r.withInterface(i.Name), HostFacts{Interfaces: d.now.Interfaces, Ours: d.ours, Fenced: open.Unfenced == nil})
		if len(found) > 0 {
			return refuse("%s", found[0])
		}
	}
	way, why, err := ChooseMACMode(MACRequest{
		Want: r.VirtualMAC, Unicast: r.Unicast.On(), Owner: r.OwnsAddresses(), Accept: r.Accepts(), VRID: r.VRID, TC: open.TC != "", Unfenced: open.Unfenced,
	}, *i)
	if err != nil {
		return refuse("%s", err)
	}
	if err := d.failed.Macvlans[w.V.ID]; err != nil && r.VirtualMAC == config.VirtualMACAuto {
		way, why = config.VirtualMACOff, err.Error()
	}
	w.MACMode, w.MACReason = way, why
	if way == config.VirtualMACMacvlan {
		device := link.NewDevice(i.Index, w.V.Family, w.V.VRID)
		w.Device = &device
		if w.V.Family == packet.IPv4 {
			d.host.MacvlanParents[w.V.Interface] = true
		}
	}
	if err := d.failed.VirtualRouters[w.V.ID]; err != nil && !running {
		return refuse("%s", err)
	}
	return Obstacle{}
}

// withInterface returns the router with the present name of its interface.
func (r *ConfiguredRouter) withInterface(name string) config.Router {
	one := r.Router
	one.Interface, one.Extra = name, slices.Clone(r.Extra)
	for n := range one.Extra {
		if e := &one.Extra[n]; e.Interface == r.Interface {
			e.Interface = name
		}
	}
	return one
}

// ownObstacle returns what keeps a Virtual Router from taking part on an interface, without
// regard to its group.
func (d *desired) ownObstacle(w *Want, i *link.Interface) Obstacle {
	v := w.V
	switch {
	case !i.Up:
		return Obstacle{Cause: vrrp.CauseInterfaceDown, Text: i.Name + " is down"}
	case !i.Running && !v.Router.WithoutCarrier:
		return Obstacle{Cause: vrrp.CauseInterfaceDown, Text: i.Name + " has no carrier"}
	case !d.sourceOf(v, i).IsValid():
		return Obstacle{Cause: vrrp.CauseNoAddress, Text: missingSource(v, i)}
	}
	if o := d.elsewhereObstacle(v); o.Cause != vrrp.CauseNone {
		return o
	}
	if text, remedy := v.Router.TooLong(v.Family, i.MTU); text != "" {
		return Obstacle{Cause: vrrp.CauseFault, Detail: text, Text: text + ": " + remedy}
	}
	cause, detail := d.conditions.Fault(v.Router.Name)
	return Obstacle{Cause: cause, Detail: detail, Brief: cause == vrrp.CauseWaiting}
}

// elsewhereObstacle returns an Obstacle if a virtual address can't be on its own interface.
func (d *desired) elsewhereObstacle(v *VirtualRouter) Obstacle {
	for _, p := range v.Routing.Placed {
		if v.Router.Interfaces[p.Address.Addr()] != p.Interface {
			continue // an extra address
		}
		cause, state := vrrp.CauseInterfaceDown, ""
		switch i := d.byName[p.Interface]; {
		case i == nil:
			cause, state = vrrp.CauseInterfaceRemoved, "doesn't exist"
		case !i.Up:
			state = "is down"
		case !i.Running:
			state = "has no carrier"
		}
		if state != "" {
			text := fmt.Sprintf("%s belongs on %s, which %s", p.Address, p.Interface, state)
			return Obstacle{Cause: cause, Detail: text, Text: text}
		}
	}
	return Obstacle{}
}

// missingSource describes the missing source address.
func missingSource(v *VirtualRouter, i *link.Interface) string {
	switch given := v.Router.Unicast.Source(v.Family); {
	case given.IsValid():
		return fmt.Sprintf("%s doesn't have the source %s", i.Name, given)
	case v.Family == packet.IPv6 && !OnLinkOnly(v.Router.Unicast):
		return i.Name + " has no global IPv6 address of its own"
	case v.Family == packet.IPv6:
		return i.Name + " has no IPv6 link-local address of its own"
	}
	return i.Name + " has no IPv4 address of its own"
}

// sourceOf returns the source address of a Virtual Router. It keeps the present one as long as it
// can (RFC 9568 §1.7).
func (d *desired) sourceOf(v *VirtualRouter, i *link.Interface) netip.Addr {
	if m := d.installed(v.ID); m.Loop != nil && m.Loop.Binding != nil {
		if from := m.Loop.Binding.Source; usable(i, from) && v.mayKeepSource(from) {
			return from
		}
	}
	return Source(&v.Router.Router, i, v.Family, d.plan.addresses)
}

// applyGroups stops all Virtual Routers of a group if one of them has an obstacle.
func (d *desired) applyGroups() {
	first := make(map[string]*Want)
	for _, w := range d.host.Wants {
		if g := w.V.Group; g != "" && first[g] == nil && w.Obstacle.Cause != vrrp.CauseNone {
			first[g] = w
		}
	}
	for _, w := range d.host.Wants {
		if by := first[w.V.Group]; w.V.Group != "" && by != nil && w.Obstacle.Cause == vrrp.CauseNone {
			w.Obstacle = Obstacle{Cause: vrrp.CauseGroup, Detail: fmt.Sprintf("%s: %s: %s", w.V.Group, by.V.ID, by.Obstacle.transitionText()), Brief: by.Obstacle.Brief}
		}
	}
}

// finish adds the map entry and the binding to a Want, if it can have them.
func (d *desired) finish(w *Want) {
	i := d.byIndex[w.Ifindex]
	if i == nil || w.MACMode == "" {
		return
	}
	m := d.installed(w.V.ID)
	from := d.sourceOf(w.V, i)
	if !from.IsValid() && m.Entry != nil {
		from = m.Entry.Source
	}
	takes := w.Obstacle.Cause == vrrp.CauseNone
	w.Entry = &Entry{V: w.V, Ifindex: i.Index, Running: takes, Source: from, Priority: w.Priority, MACMode: w.MACMode, Peers: w.V.hops(i), Addresses: w.V.Fenced}
	if !takes {
		return
	}
	w.Binding = &Binding{Ifindex: i.Index, Name: i.Name, MAC: i.MAC, MACMode: w.MACMode, Source: from, Unicast: w.V.Router.Unicast.On()}
	if w.Device != nil {
		device := d.byName[w.Device.Name]
		switch {
		case device == nil || !w.Device.Is(*device):
			w.Binding = nil // until the macvlan exists
		case link.Stale(*device, d.now.Interfaces):
			w.Binding, w.Device = nil, nil // the macvlan must be created again
		default:
			w.Binding.Device = device.Index
		}
	}
}

// prefixOn returns an address with the prefix length that it has on the interface.
func prefixOn(i *link.Interface, addr netip.Addr) netip.Prefix {
	for _, a := range i.Addresses {
		if a.Prefix.Addr() == addr {
			return a.Prefix
		}
	}
	return netip.PrefixFrom(addr, addr.BitLen())
}

// ours reports whether failoverd may have put an address on an interface, or whether the
// interface is a macvlan of failoverd. Addresses that aren't in the journal are never ours.
func (d *desired) ours(ifindex int, a netip.Addr) bool {
	i := d.byIndex[ifindex]
	if i == nil {
		return false
	}
	if device, is := link.DeviceOf(i); is && d.now.Journal[device] { // on a macvlan any address is ours: extra addresses may be of the other family
		return true
	}
	p := prefixOn(i, a)
	return d.journaled[link.JournalAddress{Ifindex: i.Index, Prefix: p}] || d.now.Journal[routing.Placed{Address: p, Interface: i.Name}]
}
