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

// Conditions are what is known of the surroundings of configured routers.
type Conditions interface {
	// Fault is what keeps a router from taking part, by its name; vrrp.CauseNone if
	// nothing does. The detail says more than the cause.
	Fault(router string) (cause vrrp.Cause, detail string)
	// Priority is a router's effective one.
	Priority(config.Router) int
}

// Failures are the steps that failed and weren't possible since.
type Failures struct {
	Ports          map[string]error // those that couldn't be opened
	VirtualRouters map[ID]error
	// Devices are the Virtual Routers whose macvlans couldn't be made.
	Macvlans map[ID]error
}

// Desired says what the host must have.
func Desired(p *Plan, c Conditions, now *Picture, failed *Failures) *Target {
	d := &desire{
		plan: p, conditions: c, now: now, failed: failed,
		host:   &Target{Ports: make(map[string]Port), MacvlanParents: make(map[string]bool)},
		byName: make(map[string]*link.Interface, len(now.Interfaces)), byIndex: make(map[int]*link.Interface, len(now.Interfaces)),
		bound: make(map[int]string), noted: make(map[link.JournalAddress]bool, len(now.Journal)),
	}
	for n := range now.Interfaces {
		i := &now.Interfaces[n]
		d.byName[i.Name], d.byIndex[i.Index] = i, i
	}
	for name, port := range now.Ports {
		if i := d.byIndex[port.Ifindex]; i != nil && i.Generation == port.Generation {
			d.bound[port.Ifindex] = name
		}
	}
	for name, mode := range p.modes {
		if i, _ := d.find(name); i != nil {
			d.host.Ports[name] = Port{Ifindex: i.Index, Generation: i.Generation, Name: i.Name, Mode: mode}
		}
	}
	for n := range now.Journal {
		if a, is := n.(link.JournalAddress); is {
			d.noted[link.JournalAddress{Ifindex: a.Ifindex, Prefix: a.Prefix}] = true
		}
	}
	for _, v := range p.VirtualRouters {
		d.host.Wants = append(d.host.Wants, d.want(v))
	}
	d.hold()
	for _, w := range d.host.Wants {
		d.finish(w)
	}
	return d.host
}

type desire struct {
	plan       *Plan
	conditions Conditions
	now        *Picture
	failed     *Failures
	host       *Target
	byName     map[string]*link.Interface
	byIndex    map[int]*link.Interface
	bound      map[int]string               // ports, by the index of the interface that they are open on
	noted      map[link.JournalAddress]bool // that are written down, whatever the interface was called then
}

// find returns the interface that a port stands for: the device that it is open on, under
// whatever name, or else the one with the configured name; nil, and what is missing, if
// there is none.
func (d *desire) find(name string) (*link.Interface, string) {
	if open, ok := d.now.Ports[name]; ok {
		if i := d.byIndex[open.Ifindex]; i != nil && i.Generation == open.Generation {
			return i, ""
		}
	}
	i := d.byName[name]
	switch {
	case i == nil:
		return nil, "there is no interface " + name
	case d.bound[i.Index] != "" && d.bound[i.Index] != name:
		return nil, fmt.Sprintf("the interface that is %s now was %s, whose routers keep it", name, d.bound[i.Index])
	case i.Kind == link.KindLoopback:
		return nil, fmt.Sprintf("interface %s is the loopback: VRRP needs a network shared with other hosts", name)
	}
	if err := Usable(*i); err != nil {
		return nil, err.Error()
	}
	return i, ""
}

// member returns what there is for a Virtual Router.
func (d *desire) member(id ID) *Installed {
	if m := d.now.Installed[id]; m != nil {
		return m
	}
	return &Installed{}
}

// want says what the host must have for one Virtual Router, looking at it alone.
func (d *desire) want(v *VirtualRouter) *Want {
	w := &Want{V: v, Priority: d.conditions.Priority(v.Router.Router)}
	i, missing := d.find(v.Interface)
	if i == nil {
		w.Obstacle = Obstacle{Cause: vrrp.CauseWaiting, Text: missing}
		if m := d.member(v.ID); m.Loop != nil && m.Loop.Binding != nil {
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
	w.Obstacle = d.equip(w, &open, i)
	if w.Obstacle.Cause == vrrp.CauseNone {
		w.Obstacle = d.obstacle(w, i)
	}
	return w
}

// Reopens reports whether a port that is open has to be closed to be the one that is
// wanted.
func (o OpenPort) MustReopen(p Port) bool {
	return o.Lost != "" || p.Ifindex != o.Ifindex || p.Generation != o.Generation || p.Mode != o.Mode
}

// equip decides how a Virtual Router has its virtual MAC.
func (d *desire) equip(w *Want, open *OpenPort, i *link.Interface) Obstacle {
	refuse := func(format string, args ...any) Obstacle {
		return Obstacle{Cause: vrrp.CauseWaiting, Text: fmt.Sprintf(format, args...)}
	}
	m := d.member(w.V.ID)
	running := m.Loop != nil && m.Loop.Binding != nil
	r := w.V.Router
	if !running {
		found := Obstacles(r.on(i.Name), HostFacts{Interfaces: d.now.Interfaces, Ours: d.ours, Fenced: open.Unfenced == nil})
		if len(found) > 0 {
			return refuse("%s", found[0])
		}
	}
	way, why, err := ChooseMACMode(MACRequest{
		Want: r.VirtualMAC, Unicast: r.Unicast.On(), Owner: r.Owner(), Accept: r.Accept, VRID: r.VRID, TC: open.TC != "", Unfenced: open.Unfenced,
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

// on returns the router with the name that its interface has now.
func (r *ConfiguredRouter) on(name string) config.Router {
	one := r.Router
	one.Interface, one.Extra = name, slices.Clone(r.Extra)
	for n := range one.Extra {
		if e := &one.Extra[n]; e.Interface == r.Interface {
			e.Interface = name
		}
	}
	return one
}

// obstacle is what keeps a Virtual Router by itself from taking part on an interface.
func (d *desire) obstacle(w *Want, i *link.Interface) Obstacle {
	v := w.V
	switch {
	case !i.Up:
		return Obstacle{Cause: vrrp.CauseInterfaceDown, Text: i.Name + " is down"}
	case !i.Running:
		return Obstacle{Cause: vrrp.CauseInterfaceDown, Text: i.Name + " has no carrier"}
	case !d.source(v, i).IsValid():
		return Obstacle{Cause: vrrp.CauseNoAddress, Text: noSource(v, i)}
	}
	if text, remedy := v.Router.TooLong(v.Family, i.MTU); text != "" {
		return Obstacle{Cause: vrrp.CauseFault, Detail: text, Text: text + ": " + remedy}
	}
	cause, detail := d.conditions.Fault(v.Router.Name)
	return Obstacle{Cause: cause, Detail: detail}
}

// noSource says which address to advertise from is missing.
func noSource(v *VirtualRouter, i *link.Interface) string {
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

// source is the address that a Virtual Router sends from. It is constant while it can be
// (RFC 9568 §1.7).
func (d *desire) source(v *VirtualRouter, i *link.Interface) netip.Addr {
	if m := d.member(v.ID); m.Loop != nil && m.Loop.Binding != nil {
		if from := m.Loop.Binding.Source; usable(i, from) && v.suits(from) {
			return from
		}
	}
	return Source(&v.Router.Router, i, v.Family, d.plan.virtual)
}

// hold looks what keeps the members of groups from taking part, because that keeps the
// others too.
func (d *desire) hold() {
	first := make(map[string]*Want)
	for _, w := range d.host.Wants {
		if g := w.V.Group; g != "" && first[g] == nil && w.Obstacle.Cause != vrrp.CauseNone {
			first[g] = w
		}
	}
	for _, w := range d.host.Wants {
		if by := first[w.V.Group]; w.V.Group != "" && by != nil && w.Obstacle.Cause == vrrp.CauseNone {
			w.Obstacle = Obstacle{Cause: vrrp.CauseGroup, Detail: fmt.Sprintf("%s: %s: %s", w.V.Group, by.V.ID, by.Obstacle.why())}
		}
	}
}

// finish completes what is wanted for a Virtual Router that can have it.
func (d *desire) finish(w *Want) {
	i := d.byIndex[w.Ifindex]
	if i == nil || w.MACMode == "" {
		return
	}
	m := d.member(w.V.ID)
	from := d.source(w.V, i)
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
			w.Binding = nil // until it is there
		case link.Stale(*device, d.now.Interfaces):
			w.Binding, w.Device = nil, nil // it is to be made anew
		default:
			w.Binding.Device = device.Index
		}
	}
}

// prefixOn is an address as the interface has it.
func prefixOn(i *link.Interface, addr netip.Addr) netip.Prefix {
	for _, a := range i.Addresses {
		if a.Prefix.Addr() == addr {
			return a.Prefix
		}
	}
	return netip.PrefixFrom(addr, addr.BitLen())
}

// ours reports whether failoverd may have put an address on an interface, or a macvlan of
// its own has it: only what is written down is put anywhere.
func (d *desire) ours(ifindex int, a netip.Addr) bool {
	i := d.byIndex[ifindex]
	if i == nil {
		return false
	}
	if device, is := link.DeviceOf(i); is && d.now.Journal[device] { // extra addresses may be of the other family
		return true
	}
	p := prefixOn(i, a)
	return d.noted[link.JournalAddress{Ifindex: i.Index, Prefix: p}] || d.now.Journal[routing.Placed{Address: p, Interface: i.Name}]
}
