// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Picture is what the host has, read from the kernel and from those parts of failoverd
// that nothing else changes. What was done once is no part of it.
type Picture struct {
	Interfaces  []link.Interface
	ListedSince vrrp.Instant // when the interfaces began to be listed
	Ports       map[string]OpenPort
	Installed   map[ID]*Installed
	// Journal has what is written down.
	Journal map[Note]bool
	// Held are the routes, rules and addresses on other interfaces that are there for
	// Virtual Routers that are Active, or were.
	Held map[Note]bool
	// Settings are those that the interface of a port lacks so that macvlans can be on
	// top of it, for the ports that are to have some.
	MissingSettings map[string][]link.Setting
	// Set are the settings of the journal that are as they were made.
	AppliedSettings map[link.Setting]bool
}

// Port is an interface to receive and to send on.
type Port struct {
	Ifindex    int
	Generation int    // which of the interfaces that had the index one after the other
	Name       string // as it is called now
	Mode       string // of receiving
}

// Open is a port that is open.
type OpenPort struct {
	Port
	TC       string // how the TC programs are attached; empty: they aren't
	Unfenced error  // why nothing holds back answers when the daemon hangs or is killed
	Lost     string // which programs somebody has detached that can't be attached again; empty: none
}

// Member is what failoverd has for one Virtual Router.
type Installed struct {
	Claim        int          // the index of the interface that it is claimed on; 0: none
	Subscription Subscription // how advertisements come
	// Filter is the index of the interface that takes frames to the virtual MAC; 0: none.
	Filter int
	Entry  *Entry // the kernel's
	Loop   *LoopState
}

// Hearing is how advertisements come.
type Subscription struct {
	Ifindex int // 0: they don't
	Unicast bool
}

// Entry is a Virtual Router as the kernel's programs know it.
type Entry struct {
	V         *VirtualRouter
	Ifindex   int
	Running   bool
	Source    netip.Addr
	Priority  int
	MACMode   config.VirtualMAC
	Peers     map[netip.Addr]packet.Hops
	Addresses []netip.Addr // behind the fence
}

// Same reports whether another entry is the same.
func (e *Entry) Equal(o *Entry) bool {
	if e == nil || o == nil {
		return e == o
	}
	return e.V == o.V && e.Ifindex == o.Ifindex && e.Running == o.Running && e.Source == o.Source && e.Priority == o.Priority && e.MACMode == o.MACMode &&
		maps.Equal(e.Peers, o.Peers) && slices.Equal(e.Addresses, o.Addresses)
}

// Loop is a Virtual Router as the event loop knows it.
type LoopState struct {
	V        *VirtualRouter
	Priority int
	Withheld []netip.Addr // those of its addresses that it doesn't have yet
	Binding  *Binding     // how it takes part; nil: it doesn't

	Active bool
	// Assigned is since when the addresses are in place; 0: they aren't.
	Assigned vrrp.Instant
	Leaving  bool // some of the addresses are being removed
}

// Changing reports whether addresses are being put in place or removed.
func (l *LoopState) Changing() bool { return l.Leaving || l.Active && l.Assigned == 0 }

// Take is how a Virtual Router takes part.
type Binding struct {
	Ifindex int
	Name    string // of the interface
	Device  int    // the macvlan with its addresses; 0: they are on the interface
	MAC     packet.MAC
	MACMode config.VirtualMAC // of having the virtual MAC: never auto
	Source  netip.Addr
	Unicast bool
}

// On is the index of the interface that the addresses are put on.
func (t *Binding) AddressIfindex() int {
	if t.Device != 0 {
		return t.Device
	}
	return t.Ifindex
}

// Note is something in the journal: a link.JournalAddress, Device, Setting, Placed, Route
// or Rule.
type Note any

// Obstacle is what keeps a Virtual Router from taking part.
type Obstacle struct {
	Cause  vrrp.Cause
	Detail string // says more than the cause
	Text   string // says it to people; empty: Detail, or the cause
}

// why says it with the words of the transition that it leads to.
func (o Obstacle) why() string {
	if o.Detail == "" && o.Cause != vrrp.CauseWaiting {
		return o.Cause.String()
	}
	return o.String()
}

func (o Obstacle) String() string {
	switch {
	case o.Text != "":
		return o.Text
	case o.Detail != "":
		return o.Detail
	}
	return o.Cause.String()
}

// Host is what a plan asks of the host.
type Target struct {
	Ports map[string]Port // those to be open
	Wants []*Want         // in the plan's order
	// Settings are the ports whose interfaces have macvlans of IPv4 on top.
	MacvlanParents map[string]bool
}

// Want is what the host must have for one Virtual Router.
type Want struct {
	V         *VirtualRouter
	Priority  int
	Ifindex   int // of the port's interface; 0: it isn't there, or can't be used
	MACMode   config.VirtualMAC
	MACReason string       // what keeps it from having a virtual MAC that it could have
	Device    *link.Device // its macvlan, nil for none
	Entry     *Entry       // nil if it can't be made yet
	Binding   *Binding     // nil if it must not take part, for this reason:
	Obstacle  Obstacle
}

// Hears is how advertisements must come.
func (w *Want) Subscription() Subscription {
	return Subscription{Ifindex: w.Ifindex, Unicast: w.V.Router.Unicast.On()}
}

// Filter is the index of the interface that must take frames to the virtual MAC.
func (w *Want) Filter() int {
	if w.MACMode == "" || w.MACMode == config.VirtualMACOff {
		return 0
	}
	return w.Ifindex
}

// Notes are what must be written down before it takes part on an interface, which is
// called name.
func (v *VirtualRouter) Notes(ifindex int, name string, device *link.Device) (all []Note) {
	if device != nil {
		all = append(all, *device)
	}
	// Also beside a macvlan, without which they are on the interface.
	for _, a := range v.Assigned {
		all = append(all, link.JournalAddress{Ifindex: ifindex, Name: name, Prefix: a})
	}
	for _, x := range v.Routing.Placed {
		all = append(all, x)
	}
	for _, x := range v.Routing.Routes {
		all = append(all, x)
	}
	for _, x := range v.Routing.Rules {
		all = append(all, x)
	}
	return all
}

func (t *Binding) String() string { return fmt.Sprintf("on %s from %s", t.Name, t.Source) }
