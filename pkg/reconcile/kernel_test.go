// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/reconcile"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// ifAddr is an address on an interface.
type spot struct {
	ifindex int
	address netip.Addr
}

// host is the kernel's state of a host. It outlives a run of failoverd.
type host struct {
	interfaces map[int]*link.Interface
	next       int // the index of the next interface
	gone       map[string]link.Interface
	now        vrrp.Instant

	journal map[plan.Note]bool
	put     map[spot]plan.ID      // addresses that failoverd has added, by Virtual Router
	own     map[spot]bool         // the host's own addresses
	routing map[plan.Note]plan.ID // routes, rules and extra addresses, by Virtual Router
	sysctls map[string]int
}

// names are the names that interfaces may have; routers use the first two.
var names = []string{"eth0", "eth1", "laneth0", "laneth1", elsewhere}

// elsewhere is an interface for extra addresses.
const elsewhere = "dum0"

func newHost() *host {
	h := &host{
		interfaces: make(map[int]*link.Interface), next: 2, journal: make(map[plan.Note]bool), put: make(map[spot]plan.ID), own: make(map[spot]bool),
		routing: make(map[plan.Note]plan.ID), sysctls: make(map[string]int),
		gone: make(map[string]link.Interface),
	}
	for _, name := range []string{"eth0", "eth1", elsewhere} {
		h.plug(name)
	}
	return h
}

// addresses returns the host's own addresses on an interface. An owner may use the second one.
func addresses(name string) []netip.Prefix {
	n := slices.Index(names, name) + 2
	return []netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("192.0.%d.1/24", n)), netip.MustParsePrefix(fmt.Sprintf("192.0.%d.200/24", n)),
		netip.MustParsePrefix(fmt.Sprintf("fe80::%d/64", n)), netip.MustParsePrefix(fmt.Sprintf("2001:db8:%d::1/64", n)),
	}
}

// arpAnnounce returns the path of the setting that a macvlan needs on its parent.
func arpAnnounce(name string) string { return "ipv4/conf/" + name + "/arp_announce" }

func (h *host) plug(name string) *link.Interface {
	mac := packet.MAC{2, 0, 0, 0, 0, byte(slices.Index(names, name))}
	i := &link.Interface{Index: h.next, Name: name, MAC: mac, Up: true, Running: true, MTU: 1500, Encapsulation: "ether"}
	h.interfaces[h.next] = i
	for _, p := range addresses(name) {
		h.configure(i, p)
	}
	h.next++
	h.sysctls[arpAnnounce(name)] = 0
	return i
}

// again plugs in an interface that existed before, with its old index.
func (h *host) again(name string) {
	next := h.next
	old := h.gone[name]
	h.next = old.Index
	h.plug(name).Generation = old.Generation + 1
	h.next = next
}

// configure adds an address of the host's own.
func (h *host) configure(i *link.Interface, p netip.Prefix) {
	i.Addresses = append(i.Addresses, link.Address{Prefix: p})
	h.own[spot{i.Index, p.Addr()}] = true
}

func (h *host) named(name string) *link.Interface {
	for _, i := range h.interfaces {
		if i.Name == name {
			return i
		}
	}
	return nil
}

func (h *host) unplug(i *link.Interface) {
	delete(h.interfaces, i.Index)
	h.gone[strings.TrimPrefix(i.Name, "lan")] = *i
	delete(h.sysctls, arpAnnounce(i.Name))
	maps.DeleteFunc(h.put, func(s spot, _ plan.ID) bool { return s.ifindex == i.Index })
	maps.DeleteFunc(h.own, func(s spot, _ bool) bool { return s.ifindex == i.Index })
	maps.DeleteFunc(h.routing, func(n plan.Note, _ plan.ID) bool {
		p, placed := n.(routing.Placed)
		return placed && p.Interface == i.Name
	})
	for _, o := range h.interfaces {
		if o.Parent == i.Index {
			h.unplug(o)
		}
	}
}

func (h *host) rename(i *link.Interface, name string) {
	h.sysctls[arpAnnounce(name)] = h.sysctls[arpAnnounce(i.Name)]
	delete(h.sysctls, arpAnnounce(i.Name))
	i.Name = name
}

func (h *host) list() (all []link.Interface) {
	for _, index := range slices.Sorted(maps.Keys(h.interfaces)) {
		i := *h.interfaces[index]
		i.Addresses = slices.Clone(i.Addresses)
		all = append(all, i)
	}
	return all
}

func (h *host) has(ifindex int, a netip.Addr) bool {
	i := h.interfaces[ifindex]
	return i != nil && slices.ContainsFunc(i.Addresses, func(o link.Address) bool { return o.Prefix.Addr() == a })
}

// assign adds an address for a Virtual Router or another program.
func (h *host) assign(ifindex int, p netip.Prefix, id plan.ID) {
	i := h.interfaces[ifindex]
	if i == nil || h.has(ifindex, p.Addr()) {
		return
	}
	i.Addresses = append(i.Addresses, link.Address{Prefix: p})
	if id != (plan.ID{}) {
		h.put[spot{ifindex, p.Addr()}] = id
	}
}

func (h *host) release(ifindex int, a netip.Addr) {
	if i := h.interfaces[ifindex]; i != nil {
		i.Addresses = slices.DeleteFunc(i.Addresses, func(o link.Address) bool { return o.Prefix.Addr() == a })
		delete(h.put, spot{ifindex, a})
	}
}

// route adds a route, rule or extra address.
func (h *host) route(n plan.Note, id plan.ID) {
	if p, placed := n.(routing.Placed); placed {
		i := h.named(p.Interface)
		if i == nil {
			return
		}
		h.assign(i.Index, p.Address, plan.ID{})
	}
	h.routing[n] = id
}

func (h *host) unroute(n plan.Note) {
	if p, placed := n.(routing.Placed); placed {
		if i := h.named(p.Interface); i != nil {
			h.release(i.Index, p.Address.Addr())
		}
	}
	delete(h.routing, n)
}

// undo undoes one note of the journal, as the next run or --cleanup does first.
func (h *host) undo(n plan.Note) {
	switch n := n.(type) {
	case link.JournalAddress:
		h.release(n.Ifindex, n.Prefix.Addr())
	case link.Device:
		for _, i := range h.interfaces {
			if n.Is(*i) {
				h.unplug(i)
			}
		}
	case link.Setting:
		if n = h.current(n); h.sysctls[n.Path] == n.Value {
			h.sysctls[n.Path] = n.Before
		}
	default:
		h.unroute(n)
	}
}

// current returns the path of a setting with the present name of its interface.
func (h *host) current(s link.Setting) link.Setting {
	if i := h.interfaces[s.Ifindex]; i != nil {
		return s.On(i.Name)
	}
	return link.Setting{Value: -1} // the setting is gone with its interface
}

// run is the state of one process of failoverd.
type run struct {
	*host
	ports   map[string]plan.OpenPort
	claims  map[plan.ID]int
	hears   map[plan.ID]plan.Subscription
	filters map[plan.ID]int
	entries map[plan.ID]*plan.Entry
	slots   map[spot]plan.ID // the Virtual Router whose entry the kernel finds for an address
	loop    map[plan.ID]*plan.LoopState
	jobs    []func()                // the queue of the link worker
	leaving map[*plan.LoopState]int // the number of jobs that remove addresses
	heirs   map[plan.ID]*plan.Heir  // what a killed run left, while the leases last
	until   vrrp.Instant            // the end of these leases

	listed []link.Interface // the last list
	begun  vrrp.Instant
	stale  bool // events of interfaces are delayed

	// bare has the addresses whose slot another program has deleted. The check ignores them until
	// the reconciler has had a chance to restore them.
	bare map[spot]bool
	busy bool // a job is running

	// failing returns the error of a step, meanwhile runs before each step, and note is called
	// for each event.
	failing   func(*reconcile.Step) error
	meanwhile func()
	note      func(what fmt.Stringer, err error)
	violated  string
	unchecked bool // for benchmarks
}

func newRun(h *host) *run {
	return &run{
		host: h, ports: make(map[string]plan.OpenPort), claims: make(map[plan.ID]int), hears: make(map[plan.ID]plan.Subscription), filters: make(map[plan.ID]int),
		entries: make(map[plan.ID]*plan.Entry), slots: make(map[spot]plan.ID), loop: make(map[plan.ID]*plan.LoopState), bare: make(map[spot]bool), leaving: make(map[*plan.LoopState]int), heirs: make(map[plan.ID]*plan.Heir),
		failing: func(*reconcile.Step) error { return nil }, meanwhile: func() {}, note: func(fmt.Stringer, error) {},
	}
}

// listing updates the list of interfaces.
func (r *run) listing() { r.listed, r.begun = r.list(), r.now }

func (r *run) Look(want *plan.Target, p *plan.Picture) error {
	if r.listed == nil || !r.stale {
		r.listing()
	}
	p.ListedSince, p.Interfaces = r.begun, r.listed
	maps.Copy(p.Ports, r.ports)
	maps.Copy(p.Journal, r.journal)
	p.Heirs = make(map[plan.ID]*plan.Heir)
	for id, h := range r.heirs {
		one := *h
		one.Ended = r.until <= r.now
		p.Heirs[id] = &one
	}
	member := func(id plan.ID) *plan.Installed {
		if p.Installed[id] == nil {
			p.Installed[id] = &plan.Installed{}
		}
		return p.Installed[id]
	}
	for id, c := range r.claims {
		member(id).Claim = c
	}
	for id, c := range r.hears {
		member(id).Subscription = c
	}
	for id, c := range r.filters {
		member(id).Filter = c
	}
	for id, e := range r.entries {
		member(id).Entry = r.entry(id, e)
	}
	for id, l := range r.loop {
		one := *l
		member(id).Loop = &one
		if l.Active || l.Leaving {
			for _, n := range goesWith(l.V) {
				p.Held[n] = true
			}
		}
	}
	for n := range r.routing {
		p.Held[n] = true
	}
	r.settings(want, p)
	return nil
}

// below returns the interface on which a port is open; nil if it is gone.
func (r *run) below(port string) *link.Interface {
	open := r.ports[port]
	if i := r.interfaces[open.Ifindex]; i != nil && i.Generation == open.Generation {
		return i
	}
	return nil
}

// entry returns an entry as the kernel has it: only with the addresses whose slot leads to it.
func (r *run) entry(id plan.ID, e *plan.Entry) *plan.Entry {
	lost := func(a netip.Addr) bool { return r.slots[spot{e.Ifindex, a}] != id }
	if !slices.ContainsFunc(e.Addresses, lost) {
		return e
	}
	one := *e
	one.Addresses = slices.DeleteFunc(slices.Clone(e.Addresses), lost)
	return &one
}

func (r *run) settings(want *plan.Target, p *plan.Picture) {
	for n := range r.journal {
		if s, is := n.(link.Setting); is && r.sysctls[r.current(s).Path] == s.Value {
			p.AppliedSettings[s] = true
		}
	}
	if want == nil {
		return
	}
	for name := range want.MacvlanParents {
		p.MissingSettings[name] = nil
		if i := r.below(name); i != nil {
			if now := r.sysctls[arpAnnounce(i.Name)]; now != 2 {
				p.MissingSettings[name] = []link.Setting{{Ifindex: i.Index, Path: arpAnnounce(i.Name), Value: 2, Before: now}}
			}
		}
	}
}

func (r *run) Do(steps []*reconcile.Step) (errs []error) {
	for i := range steps {
		errs = append(errs, r.try(steps[i]))
	}
	return errs
}

// try carries out a step, which may fail.
func (r *run) try(s *reconcile.Step) error {
	r.meanwhile()
	err := r.failing(s)
	if err == nil {
		err = r.one(s)
	}
	r.note(s, err)
	r.check()
	return err
}

func (r *run) one(s *reconcile.Step) error {
	gone := func(ifindex int) error {
		if r.interfaces[ifindex] == nil {
			return unix.ENODEV
		}
		return nil
	}
	l := r.loop[s.ID]
	if (s.Verb == reconcile.Add || s.Verb == reconcile.Update) && len(s.Withheld) == len(s.V.Fenced) {
		panic(fmt.Sprintf("the event loop takes no Virtual Router without addresses: %v", s))
	}
	switch s.Verb {
	case reconcile.Open:
		if err := gone(s.Port.Ifindex); err != nil {
			return err
		}
		r.ports[s.PortName] = plan.OpenPort{Port: s.Port, TC: map[bool]string{true: "", false: "tcx"}[s.Port.Mode == "off"], Unfenced: map[bool]error{true: unix.EOPNOTSUPP}[s.Port.Mode == "off"]}
	case reconcile.Close:
		delete(r.ports, s.PortName)
	case reconcile.Add:
		r.loop[s.ID] = &plan.LoopState{V: s.V, Priority: s.Priority, Withheld: s.Withheld}
	case reconcile.Remove:
		delete(r.loop, s.ID)
	case reconcile.Claim:
		r.claims[s.ID] = s.Ifindex
	case reconcile.Unclaim:
		delete(r.claims, s.ID)
	case reconcile.Subscribe:
		r.hears[s.ID] = s.Subscription
	case reconcile.Unsubscribe:
		delete(r.hears, s.ID)
	case reconcile.Write:
		for _, n := range s.Notes {
			r.journal[n] = true
		}
	case reconcile.Erase:
		for _, n := range s.Notes {
			delete(r.journal, n)
		}
	case reconcile.Make:
		if err := gone(s.Device.Parent); err != nil {
			return err
		}
		if r.named(s.Device.Name) != nil {
			return unix.EEXIST
		}
		r.interfaces[r.next] = &link.Interface{Index: r.next, Name: s.Device.Name, Kind: "macvlan", Parent: s.Device.Parent, MAC: s.Device.MAC, Up: true, Running: true, MTU: 1500, Encapsulation: "ether"}
		r.next++
		r.listing()
	case reconcile.Unmake:
		if i := r.interfaces[s.Ifindex]; i != nil {
			r.unplug(i)
		}
		r.listing()
	case reconcile.Set:
		if _, there := r.sysctls[s.Setting.Path]; !there {
			return unix.ENOENT
		}
		r.sysctls[s.Setting.Path] = s.Setting.Value
	case reconcile.Unset:
		if _, there := r.sysctls[r.current(s.Setting).Path]; there {
			r.sysctls[r.current(s.Setting).Path] = s.Setting.Before
		}
	case reconcile.Accept:
		if err := gone(s.Ifindex); err != nil {
			return err
		}
		r.filters[s.ID] = s.Ifindex
	case reconcile.Reject:
		delete(r.filters, s.ID)
	case reconcile.Fence:
		r.fence(s.ID, s.Entry)
		r.entries[s.ID] = s.Entry
	case reconcile.Unfence:
		r.fence(s.ID, &plan.Entry{Ifindex: s.Entry.Ifindex})
		delete(r.entries, s.ID)
	case reconcile.Update:
		r.update(l, s)
	case reconcile.Start:
		t := *s.Binding
		if s.Heir != nil && r.until <= r.now {
			return nil // its lease has just ended
		}
		l.Binding = &t
		if s.Heir != nil {
			if s.Heir.Ifindex != t.Ifindex || s.Heir.Device != t.Device || s.Heir.MACMode != t.MACMode {
				panic(fmt.Sprintf("%v continues elsewhere: %+v", s, t))
			}
			delete(r.heirs, s.ID)
			r.activate(l)
		}
		if l.V.Router.OwnsAddresses() {
			r.activate(l)
		}
	case reconcile.Rebind:
		before, t := l.Binding.AddressIfindex(), *s.Binding
		l.Binding = &t
		if l.Active && before != t.AddressIfindex() {
			r.activate(l)
			r.remove(l, before, assigned(l), nil)
		}
	case reconcile.Restore:
		r.activate(l)
	case reconcile.Stop:
		r.deactivate(l)
		l.Binding = nil
	case reconcile.Disown:
		for _, n := range s.Heir.Notes {
			if _, is := n.(link.Setting); !is {
				r.undo(n)
			}
		}
		r.listing()
		if r.entries[s.ID] == nil {
			maps.DeleteFunc(r.slots, func(_ spot, id plan.ID) bool { return id == s.ID })
		}
		delete(r.heirs, s.ID)
	case reconcile.Withdraw:
		r.release(s.Ifindex, s.Prefix.Addr())
		r.listing()
	default:
		panic(s.String())
	}
	return nil
}

// fence sets the slots of an entry's addresses to the entry, and removes its other slots.
func (r *run) fence(id plan.ID, e *plan.Entry) {
	if old := r.entries[id]; old != nil {
		for _, a := range old.Addresses {
			at := spot{old.Ifindex, a}
			if (old.Ifindex != e.Ifindex || !slices.Contains(e.Addresses, a)) && r.slots[at] == id {
				delete(r.slots, at)
			}
		}
	}
	for _, a := range e.Addresses {
		r.slots[spot{e.Ifindex, a}] = id
		delete(r.bare, spot{e.Ifindex, a})
	}
}

// assigned returns the addresses that the loop adds to the interface.
func assigned(l *plan.LoopState) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(l.V.Assigned), func(p netip.Prefix) bool { return slices.Contains(l.Withheld, p.Addr()) })
}

// goesWith returns the routes, rules and extra addresses of a Virtual Router.
func goesWith(v *plan.VirtualRouter) (all []plan.Note) {
	for _, n := range v.Routing.Placed {
		all = append(all, n)
	}
	for _, n := range v.Routing.Routes {
		all = append(all, n)
	}
	for _, n := range v.Routing.Rules {
		all = append(all, n)
	}
	return all
}

// elect makes a router Active or Backup.
func (r *run) elect(l *plan.LoopState) {
	switch {
	case l.Binding == nil || l.V.Router.OwnsAddresses():
	case l.Active:
		r.deactivate(l)
	default:
		r.activate(l)
	}
}

func (r *run) activate(l *plan.LoopState) {
	id, on, all := l.V.ID, l.Binding.AddressIfindex(), assigned(l)
	l.Active, l.Assigned = true, 0
	r.jobs = append(r.jobs, func() {
		if r.loop[id] != l || !l.Active || l.Binding == nil || l.Binding.AddressIfindex() != on {
			return
		}
		for _, p := range all {
			r.meanwhile()
			r.assign(on, p, id)
			r.check()
		}
		for _, n := range goesWith(l.V) {
			r.route(n, id)
			r.check()
		}
		if l.Active {
			l.Assigned = r.now
		}
	})
}

func (r *run) deactivate(l *plan.LoopState) {
	if !l.Active || l.Binding == nil {
		return
	}
	l.Active, l.Assigned = false, 0
	r.remove(l, l.Binding.AddressIfindex(), assigned(l), goesWith(l.V))
}

func (r *run) remove(l *plan.LoopState, on int, all []netip.Prefix, more []plan.Note) {
	r.leaving[l]++
	l.Leaving = true
	gaveUp := false
	var job func()
	job = func() {
		for _, n := range more {
			if !l.Active || !slices.Contains(goesWith(l.V), n) {
				r.unroute(n)
			}
		}
		for _, p := range all {
			if l.Active && l.Binding != nil && l.Binding.AddressIfindex() == on && slices.Contains(assigned(l), p) {
				continue
			}
			err := r.failing(&reconcile.Step{Verb: reconcile.Withdraw, Ifindex: on, Prefix: p})
			if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EPERM) {
				r.listing() // it gives up, and shows what is there still
				gaveUp = true
				continue
			}
			if err != nil {
				r.jobs = append(r.jobs, job) // again
				return
			}
			r.meanwhile()
			r.release(on, p.Addr())
		}
		r.leaving[l]--
		l.Leaving = r.leaving[l] > 0
		if !gaveUp {
			l.Released = r.now
		}
	}
	r.jobs = append(r.jobs, job)
}

func (r *run) update(l *plan.LoopState, s *reconcile.Step) {
	before, with := assigned(l), goesWith(l.V)
	l.V, l.Priority, l.Withheld = s.V, s.Priority, s.Withheld
	if !l.Active || l.Binding == nil {
		return
	}
	after, and := assigned(l), goesWith(l.V)
	gone := slices.DeleteFunc(slices.Clone(before), func(p netip.Prefix) bool { return slices.Contains(after, p) })
	less := slices.DeleteFunc(slices.Clone(with), func(n plan.Note) bool { return slices.Contains(and, n) })
	if len(gone)+len(less) > 0 {
		r.remove(l, l.Binding.AddressIfindex(), gone, less)
	}
	if !slices.Equal(before, after) || !slices.Equal(with, and) {
		r.activate(l)
	}
}

// work runs the first job of the worker.
func (r *run) work() {
	if len(r.jobs) == 0 || r.busy {
		return
	}
	r.busy = true
	job := r.jobs[0]
	r.jobs = r.jobs[1:]
	job()
	r.busy = false
	r.check()
}

// check records the first moment at which an address is on the host without being in the journal
// or behind its own fence, or at which an address of the host's own is missing.
func (r *run) check() {
	if r.violated != "" || r.unchecked {
		return
	}
	for at, id := range r.put {
		on := at.ifindex
		i := r.interfaces[on]
		device := link.NewDevice(i.Parent, id.Family, id.VRID)
		made := i.Kind == "macvlan" && device.Is(*i)
		if (!made || !r.journal[device]) && !r.noted(i, at.address) {
			r.violated = fmt.Sprintf("%s is on %s and isn't written down", at.address, i.Name)
		}
		if made {
			on = i.Parent
		}
		if slot := (spot{on, at.address}); r.slots[slot] != id && !r.bare[slot] {
			r.violated = fmt.Sprintf("%s is on %s for %s, but its slot is that of %q", at.address, i.Name, id, r.slots[slot])
		}
	}
	for n, id := range r.routing {
		if !r.journal[n] {
			r.violated = fmt.Sprintf("%v is there for %s and isn't written down", n, id)
		}
	}
	for at := range r.own {
		if !r.has(at.ifindex, at.address) {
			r.violated = fmt.Sprintf("%s of the host's is gone", at.address)
		}
	}
	for id, l := range r.loop {
		if l.Binding == nil || !l.Active || !l.V.Router.OwnsAddresses() {
			continue
		}
		for _, a := range l.V.Fenced {
			if at := (spot{l.Binding.Ifindex, a}); r.own[at] && r.slots[at] != id && !r.bare[at] && !slices.Contains(l.Withheld, a) {
				r.violated = fmt.Sprintf("the owner %s answers for %s, but its slot is that of %q", id, a, r.slots[at])
			}
		}
	}
}

// noted reports whether an address is in the journal, under any name of its interface.
func (r *run) noted(i *link.Interface, a netip.Addr) bool {
	for _, p := range i.Addresses {
		if p.Prefix.Addr() != a {
			continue
		}
		for _, name := range append(names, i.Name) {
			if r.journal[link.JournalAddress{Ifindex: i.Index, Name: name, Prefix: p.Prefix}] {
				return true
			}
		}
	}
	return false
}
