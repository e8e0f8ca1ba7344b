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

// Picture is the present state of the host, read from the kernel and from those parts of
// failoverd that nothing else changes. It never contains what was merely done before.
type Picture struct {
	Interfaces  []link.Interface
	ListedSince vrrp.Instant // when reading the list of interfaces began
	Ports       map[string]OpenPort
	Installed   map[ID]*Installed
	// Heirs has the Virtual Routers that continue after a crash and haven't started yet. What a
	// killed run left in place for them stays.
	Heirs map[ID]*Heir
	// Journal has the notes in the journal.
	Journal map[Note]bool
	// Held has the routes, rules and addresses on other interfaces that are in place for Virtual
	// Routers that are Active or were Active.
	Held map[Note]bool
	// MissingSettings has, by port, the settings that its interface still needs so that macvlans
	// can be on top of it. It has no entry for ports without macvlans.
	MissingSettings map[string][]link.Setting
	// AppliedSettings has the settings of the journal that still have the value that failoverd
	// has set.
	AppliedSettings map[link.Setting]bool
}

// Port is an interface that failoverd receives and sends on.
type Port struct {
	Ifindex    int
	Generation int    // tells interfaces apart that have had the same index
	Name       string // the present name
	Mode       string // the configured xdp_mode
}

// OpenPort is a port that is open.
type OpenPort struct {
	Port
	TC       string // how the TC programs are attached; empty: they aren't
	Unfenced error  // why there is no fence; nil: there is one
	Lost     string // detached programs that can't be attached again; empty: none
}

// Installed is what failoverd has installed for one Virtual Router.
type Installed struct {
	Claim        int          // the index of the interface on which the VRID is claimed; 0: none
	Subscription Subscription // how it receives advertisements
	// Filter is the index of the interface whose filter accepts frames to the virtual MAC; 0:
	// none.
	Filter int
	Entry  *Entry // in the BPF maps
	Loop   *LoopState
}

// Subscription is how a Virtual Router receives advertisements.
type Subscription struct {
	Ifindex int // 0: it doesn't receive any
	Unicast bool
}

// Entry is a Virtual Router in the BPF maps.
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

// Equal reports whether two entries are equal; both may be nil.
func (e *Entry) Equal(o *Entry) bool {
	if e == nil || o == nil {
		return e == o
	}
	return e.V == o.V && e.Ifindex == o.Ifindex && e.Running == o.Running && e.Source == o.Source && e.Priority == o.Priority && e.MACMode == o.MACMode &&
		maps.Equal(e.Peers, o.Peers) && slices.Equal(e.Addresses, o.Addresses)
}

// LoopState is a Virtual Router in the event loop.
type LoopState struct {
	V        *VirtualRouter
	Priority int
	Withheld []netip.Addr // the addresses that the loop must not use yet, because another Virtual Router still has them
	Binding  *Binding     // nil: it doesn't take part

	Active bool
	// Assigned is when the addresses were added; 0: they aren't in place.
	Assigned vrrp.Instant
	Leaving  bool // addresses are being removed
	// Released is when the last removal of addresses ended; 0: there was none.
	Released vrrp.Instant
}

// Changing reports whether addresses are being added or removed.
func (l *LoopState) Changing() bool { return l.Leaving || l.Active && l.Assigned == 0 }

// Binding is the interface, device and source address that a Virtual Router uses while it takes
// part.
type Binding struct {
	Ifindex int
	Name    string // of the interface
	Device  int    // the macvlan with its addresses; 0: they are on the interface
	MAC     packet.MAC
	MACMode config.VirtualMAC // of having the virtual MAC: never auto
	Source  netip.Addr
	Unicast bool
}

// AddressIfindex returns the index of the interface that has the addresses.
func (t *Binding) AddressIfindex() int {
	if t.Device != 0 {
		return t.Device
	}
	return t.Ifindex
}

// Note is an entry of the journal: a link.JournalAddress, link.Device, link.Setting,
// routing.Placed, routing.Route or routing.Rule.
type Note any

// Obstacle is what keeps a Virtual Router from taking part. Without an obstacle, Cause is
// vrrp.CauseNone.
type Obstacle struct {
	Cause  vrrp.Cause
	Detail string // adds to the cause
	Text   string // the text for users; empty: Detail, or the cause
	// Brief is set if the router waits only for the first results of checks, or for startup_delay.
	Brief bool
}

// transitionText returns the obstacle in the words of the transition that it causes.
func (o Obstacle) transitionText() string {
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

// Target is the state of the host that a plan asks for.
type Target struct {
	Ports map[string]Port // the ports to open, by name
	Wants []*Want         // in the order of the plan
	// MacvlanParents has the ports whose interfaces have IPv4 macvlans on top.
	MacvlanParents map[string]bool
}

// Want is what the host must have for one Virtual Router.
type Want struct {
	V         *VirtualRouter
	Priority  int
	Ifindex   int // of the port's interface; 0: it doesn't exist or can't be used
	MACMode   config.VirtualMAC
	MACReason string       // why mode auto has found no way to have a virtual MAC
	Device    *link.Device // its macvlan; nil: none
	Entry     *Entry       // nil if it can't be added yet
	Binding   *Binding     // nil if it must not take part yet, see Obstacle
	Obstacle  Obstacle
}

// Subscription returns how advertisements must be received.
func (w *Want) Subscription() Subscription {
	return Subscription{Ifindex: w.Ifindex, Unicast: w.V.Router.Unicast.On()}
}

// Filter returns the index of the interface whose filter must accept frames to the virtual MAC;
// 0: none.
func (w *Want) Filter() int {
	if w.MACMode == "" || w.MACMode == config.VirtualMACOff {
		return 0
	}
	return w.Ifindex
}

// Notes returns what must be in the journal before the Virtual Router takes part on an interface;
// name is the interface's present name.
func (v *VirtualRouter) Notes(ifindex int, name string, device *link.Device) (all []Note) {
	if device != nil {
		all = append(all, *device)
	}
	// Also with a macvlan, because without it the addresses are on the interface.
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
