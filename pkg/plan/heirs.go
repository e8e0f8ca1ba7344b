// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Found is what a killed run left of one Virtual Router in the BPF maps.
type Found struct {
	Ifindex       int
	ID            ID // without the name of the interface
	Version       uint8
	Dual          bool
	Unicast       bool
	Authenticated bool
	Owner         bool // it owned its addresses
	MACMode       config.VirtualMAC
	Source        netip.Addr
	Addresses     []netip.Addr
	Active        bool
	Answer        vrrp.Instant // the end of its lease; 0: it was ended
	Read          vrrp.Instant // when Answer was read: a run that hands over renews it meanwhile
	Advertise     vrrp.Instant // until when it could advertise
	Heard         vrrp.Stamp   // the last advertisement that the kernel has accepted, also after the end of the run
	// Fenced reports whether the kernel still ends the lease in time, and for a better router.
	Fenced bool
}

// Remains is what other runs left on this host.
type Remains struct {
	Routers []Found
	Journal link.Changes
	// Restarted is set if the other run ended for its successor, and wasn't killed.
	Restarted bool
}

// Heir is a Virtual Router that continues as Active after a crash or a restart, with everything
// that the other run left in place for it.
type Heir struct {
	V       *VirtualRouter
	Ifindex int
	Device  int // the index of its macvlan; 0: none
	MACMode config.VirtualMAC
	Left    vrrp.Instant // its last advertisement
	Cause   vrrp.Cause   // why it continues
	Notes   []Note       // in the journal, settings included
	// Ended is set when the lease has ended, so that it can't continue.
	Ended bool
}

// Heirs returns the Virtual Routers that continue as Active, and for the others that were Active and
// have a lease the reason why not. A Virtual Router continues if nothing that
// other hosts or the kernel see of it changes, and if no other router can have taken over yet. In
// case of doubt it doesn't.
func Heirs(p *Plan, r *Remains, interfaces []link.Interface) (heirs map[ID]*Heir, refused map[ID]error) {
	heirs, refused = make(map[ID]*Heir), make(map[ID]error)
	journal := notesOf(&r.Journal)
	for n := range r.Routers {
		f := &r.Routers[n]
		i := slices.IndexFunc(interfaces, func(i link.Interface) bool { return i.Index == f.Ifindex })
		if !f.Active || f.Answer <= f.Read || i < 0 {
			continue
		}
		id := f.ID
		id.Interface = interfaces[i].Name
		if h, err := newHeir(p, f, r, journal, &interfaces[i], interfaces); err != nil {
			refused[id] = err
		} else {
			heirs[id] = h
		}
	}
	for _, v := range p.VirtualRouters {
		if heirs[v.ID] != nil || v.Group == "" {
			continue
		}
		for id, h := range heirs {
			if h.V.Group == v.Group {
				delete(heirs, id)
				refused[id] = fmt.Errorf("%s of its group doesn't continue", v.ID)
			}
		}
	}
	return heirs, refused
}

// newHeir returns the Heir of what was found of a Virtual Router on an interface, or why it can't
// continue.
func newHeir(p *Plan, f *Found, r *Remains, journal map[Note]bool, i *link.Interface, interfaces []link.Interface) (*Heir, error) {
	id := f.ID
	id.Interface = i.Name
	v := p.VirtualRouter(id)
	if v == nil {
		return nil, errors.New("it isn't in the configuration any more")
	}
	if err := v.differs(f); err != nil {
		return nil, err
	}
	protocol := v.Router.Protocol(v.Family)
	left, ok := protocol.LastAdvertised(f.Answer, f.Advertise)
	switch {
	case !ok:
		return nil, errors.New("its interval has changed, or its last advertisement could not be sent")
	case f.Heard.At > left && f.Heard.Priority >= protocol.Priority:
		return nil, errors.New("a router of at least its priority has advertised since its last advertisement")
	case !f.Fenced:
		return nil, errors.New("the kernel doesn't hear other routers, or nothing fences the addresses")
	case !i.Up || !i.Running && !v.Router.WithoutCarrier:
		return nil, fmt.Errorf("interface %s has no link", i.Name)
	case Source(&v.Router.Router, i, v.Family, p.addresses) != f.Source:
		return nil, fmt.Errorf("its source %s has changed", f.Source)
	}
	h := &Heir{V: v, Ifindex: i.Index, MACMode: f.MACMode, Left: left, Cause: vrrp.CauseContinued}
	if r.Restarted {
		h.Cause = vrrp.CauseRestarted
	}
	on := i
	var device *link.Device
	if f.MACMode == config.VirtualMACMacvlan {
		made := link.NewDevice(i.Index, v.Family, v.VRID)
		n := slices.IndexFunc(interfaces, made.Is)
		if n < 0 || !interfaces[n].Up || link.Stale(interfaces[n], interfaces) {
			return nil, fmt.Errorf("its macvlan %s is gone or has to be created again", made.Name)
		}
		device, on = &made, &interfaces[n]
		h.Device = on.Index
	}
	for _, a := range v.Assigned {
		if !slices.ContainsFunc(on.Addresses, func(b link.Address) bool { return b.Prefix == a && !b.Tentative && !b.DADFailed }) {
			return nil, fmt.Errorf("address %s isn't on %s", a, on.Name)
		}
	}
	// Without notes there is nothing on the interface but the programs, and they are still attached.
	h.Notes = v.Notes(i.Index, i.Name, device)
	if len(h.Notes) > 0 && !slices.Contains(r.Journal.Interfaces, i.Identity()) {
		return nil, fmt.Errorf("interface %s isn't the same any more", i.Name)
	}
	for _, n := range h.Notes {
		if !journal[n] {
			return nil, fmt.Errorf("the journal of the killed run lacks %v", n)
		}
	}
	if device != nil {
		for _, s := range r.Journal.Settings {
			if s.Ifindex == i.Index {
				h.Notes = append(h.Notes, s)
			}
		}
	}
	return h, nil
}

// differs returns what was found of a Virtual Router and isn't configured any more, or can't
// continue at all.
func (v *VirtualRouter) differs(f *Found) error {
	r := v.Router
	authenticated := r.Auth.Type != "" && r.Auth.Type != auth.None
	switch {
	case f.Owner != r.OwnsAddresses():
		return errors.New("the host has begun or ended to own its addresses")
	case f.Authenticated != authenticated:
		return errors.New("its authentication has changed")
	case int(f.Version) != r.Version || f.Dual != r.Protocol(v.Family).Dual:
		return errors.New("its version has changed")
	case f.Unicast != r.Unicast.On():
		return errors.New("it has begun or ended to use unicast")
	case r.XDPMode == "off":
		return errors.New("it receives by AF_PACKET, so the kernel doesn't hear other routers")
	case r.VirtualMAC != config.VirtualMACAuto && r.VirtualMAC != f.MACMode:
		return errors.New("the mode of its virtual MAC has changed")
	case !sameSet(f.Addresses, v.Fenced):
		return errors.New("its addresses have changed")
	}
	return nil
}

// notesOf returns the entries of a journal as notes.
func notesOf(c *link.Changes) map[Note]bool {
	all := make(map[Note]bool)
	for _, n := range c.Addresses {
		all[n] = true
	}
	for _, n := range c.Devices {
		all[n] = true
	}
	for _, n := range c.Settings {
		all[n] = true
	}
	for _, n := range c.Placed {
		all[n] = true
	}
	for _, n := range c.Routes {
		all[n] = true
	}
	for _, n := range c.Rules {
		all[n] = true
	}
	return all
}

// ChangesOf returns the notes in the form of the journal, without the identities of interfaces.
func ChangesOf(notes iter.Seq[Note]) (c link.Changes) {
	for n := range notes {
		switch n := n.(type) {
		case link.JournalAddress:
			c.Addresses = append(c.Addresses, n)
		case link.Device:
			c.Devices = append(c.Devices, n)
		case link.Setting:
			c.Settings = append(c.Settings, n)
		case routing.Placed:
			c.Placed = append(c.Placed, n)
		case routing.Route:
			c.Routes = append(c.Routes, n)
		case routing.Rule:
			c.Rules = append(c.Rules, n)
		}
	}
	return c
}

// sameSet reports whether two lists of distinct addresses have the same elements.
func sameSet(a, b []netip.Addr) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, netip.Addr.Compare)
	slices.SortFunc(b, netip.Addr.Compare)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}
