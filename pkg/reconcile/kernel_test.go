// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/reconcile"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// spot is an address on an interface.
type spot struct {
	ifindex int
	address netip.Addr
}

// host is a host as the kernel has it: it outlives a run of failoverd.
type host struct {
	interfaces map[int]*link.Interface
	next       int // the index of the next interface
	now        vrrp.Instant

	journal map[plan.Note]bool
	put     map[spot]plan.ID // addresses that failoverd has put there, and for whom
	sysctls map[string]int
	before  map[string]int
}

// run is what lives as long as a process.
type run struct {
	*host
	log       []string
	ports     map[string]plan.Open
	claims    map[plan.ID]int
	hears     map[plan.ID]plan.Hearing
	filters   map[plan.ID]int
	entries   map[plan.ID]*plan.Entry
	slots     map[spot]plan.ID // whose entry the kernel finds for an address
	loop      map[plan.ID]*plan.Loop
	jobs      []func() // of the worker that changes addresses
	failing   func(*reconcile.Step) error
	killAfter int  // steps; 0: never
	unchecked bool // only its speed matters
	violated  string
	wrong     wrongs
}

// wrongs are mistakes made on purpose, which the invariants must find.
type wrongs struct {
	forgetsNotes   bool // a restarted router's addresses aren't written down
	stealsAddress  bool // an entry that gives an address up deletes it though it is another one's
	startsUnfenced bool // a router that the kernel doesn't take starts all the same
	leavesAddress  bool // addresses that can't be removed are forgotten
	keepsMacvlan   bool // a macvlan stays when its router goes
}

type killed struct{}

func newHost() *host {
	h := &host{interfaces: make(map[int]*link.Interface), next: 2, journal: make(map[plan.Note]bool), put: make(map[spot]plan.ID), sysctls: make(map[string]int)}
	for n, name := range []string{"eth0", "eth1"} {
		h.plug(name, n)
	}
	h.before = maps.Clone(h.sysctls)
	return h
}

func (h *host) plug(name string, n int) *link.Interface {
	i := &link.Interface{
		Index: h.next, Name: name, MAC: packet.MAC{2, 0, 0, 0, 0, byte(n + 1)}, Up: true, Running: true, MTU: 1500, Encapsulation: "ether",
		Addresses: []link.Address{
			{Prefix: netip.MustParsePrefix(fmt.Sprintf("192.0.%d.1/24", n+2))},
			{Prefix: netip.MustParsePrefix(fmt.Sprintf("fe80::%d/64", n+1))},
		},
	}
	h.interfaces[h.next] = i
	h.next++
	h.sysctls["ipv4/conf/"+name+"/arp_announce"] = 0
	return i
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
	delete(h.sysctls, "ipv4/conf/"+i.Name+"/arp_announce")
	for s := range h.put {
		if s.ifindex == i.Index {
			delete(h.put, s)
		}
	}
	for _, o := range h.interfaces {
		if o.Parent == i.Index {
			h.unplug(o)
		}
	}
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

// recover does what the next run does first, or --cleanup.
func (h *host) recover() {
	for n := range h.journal {
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
		}
	}
	h.journal = make(map[plan.Note]bool)
}

// current is a setting by the interface's present name.
func (h *host) current(s link.Setting) link.Setting {
	if i := h.interfaces[s.Ifindex]; i != nil {
		return s.On(i.Name)
	}
	return link.Setting{Value: -1} // its interface is gone, and with it the setting
}

func newRun(h *host) *run {
	return &run{
		host: h, ports: make(map[string]plan.Open), claims: make(map[plan.ID]int), hears: make(map[plan.ID]plan.Hearing), filters: make(map[plan.ID]int),
		entries: make(map[plan.ID]*plan.Entry), slots: make(map[spot]plan.ID), loop: make(map[plan.ID]*plan.Loop),
	}
}

func (r *run) Look(want *plan.Host, p *plan.Picture) error {
	p.Begun = r.now
	p.Interfaces = r.list()
	maps.Copy(p.Ports, r.ports)
	maps.Copy(p.Journal, r.journal)
	member := func(id plan.ID) *plan.Member {
		if p.Members[id] == nil {
			p.Members[id] = &plan.Member{}
		}
		return p.Members[id]
	}
	for id, c := range r.claims {
		member(id).Claim = c
	}
	for id, c := range r.hears {
		member(id).Hears = c
	}
	for id, c := range r.filters {
		member(id).Filter = c
	}
	for id, e := range r.entries {
		member(id).Entry = e
	}
	for id, l := range r.loop {
		one := *l
		member(id).Loop = &one
	}
	for n := range r.journal {
		if s, is := n.(link.Setting); is && r.sysctls[r.current(s).Path] == s.Value {
			p.Set[s] = true
		}
	}
	if want != nil {
		for name := range want.Settings {
			p.Settings[name] = nil
			if i := r.interfaces[r.ports[name].Ifindex]; i != nil {
				path := "ipv4/conf/" + i.Name + "/arp_announce"
				if now := r.sysctls[path]; now != 2 {
					p.Settings[name] = []link.Setting{{Ifindex: i.Index, Path: path, Value: 2, Before: now}}
				}
			}
		}
	}
	return nil
}

func (r *run) Do(steps []reconcile.Step) (errs []error) {
	for i := range steps {
		s := &steps[i]
		if r.killAfter > 0 {
			if r.killAfter--; r.killAfter == 0 {
				panic(killed{})
			}
		}
		var err error
		if r.failing != nil {
			err = r.failing(s)
		}
		if err == nil || r.wrong.startsUnfenced && s.Verb == reconcile.Fence {
			if e := r.one(s, err != nil); err == nil {
				err = e
			} else {
				err = nil
			}
		}
		r.log = append(r.log, fmt.Sprintf("%v: %v", s, err))
		r.check(s.String())
		errs = append(errs, err)
	}
	return errs
}

func (r *run) one(s *reconcile.Step, mute bool) error {
	gone := func(ifindex int) error {
		if r.interfaces[ifindex] == nil {
			return unix.ENODEV
		}
		return nil
	}
	l := r.loop[s.ID]
	if (s.Verb == reconcile.Add || s.Verb == reconcile.Update) && len(s.Less) == len(s.Virtual.Fenced) {
		panic(fmt.Sprintf("the event loop takes no Virtual Router without addresses: %v", s))
	}
	switch s.Verb {
	case reconcile.Open:
		if err := gone(s.Port.Ifindex); err != nil {
			return err
		}
		r.ports[s.PortName] = plan.Open{Port: s.Port, TC: map[bool]string{true: "", false: "tcx"}[s.Port.Mode == "off"], Unfenced: map[bool]error{true: unix.EOPNOTSUPP}[s.Port.Mode == "off"]}
	case reconcile.Close:
		delete(r.ports, s.PortName)
	case reconcile.Add:
		r.loop[s.ID] = &plan.Loop{V: s.Virtual, Priority: s.Priority, Less: s.Less}
	case reconcile.Remove:
		delete(r.loop, s.ID)
	case reconcile.Claim:
		r.claims[s.ID] = s.Ifindex
	case reconcile.Unclaim:
		delete(r.claims, s.ID)
	case reconcile.Hear:
		r.hears[s.ID] = s.Hears
	case reconcile.Deafen:
		delete(r.hears, s.ID)
	case reconcile.Write:
		for _, n := range s.Notes {
			if a, is := n.(link.JournalAddress); is && r.wrong.forgetsNotes && r.entries[s.ID] != nil {
				_ = a
				continue
			}
			r.journal[n] = true
		}
		if r.wrong.forgetsNotes { // it believes what it did
			for _, n := range s.Notes {
				r.journal[n] = r.journal[n]
			}
		}
	case reconcile.Strike:
		for _, n := range s.Notes {
			delete(r.journal, n)
		}
	case reconcile.Make:
		if err := gone(s.Device.Parent); err != nil {
			return err
		}
		r.interfaces[r.next] = &link.Interface{Index: r.next, Name: s.Device.Name, Kind: "macvlan", Parent: s.Device.Parent, MAC: s.Device.MAC, Up: true, Running: true, MTU: 1500, Encapsulation: "ether"}
		r.next++
	case reconcile.Unmake:
		if i := r.interfaces[s.Ifindex]; i != nil && !r.wrong.keepsMacvlan {
			r.unplug(i)
		}
	case reconcile.Set:
		r.sysctls[s.Setting.Path] = s.Setting.Value
	case reconcile.Unset:
		r.sysctls[r.current(s.Setting).Path] = s.Setting.Before
	case reconcile.Accept:
		r.filters[s.ID] = s.Ifindex
	case reconcile.Reject:
		delete(r.filters, s.ID)
	case reconcile.Fence:
		r.fence(s.ID, s.Entry, mute)
	case reconcile.Unfence:
		r.fence(s.ID, &plan.Entry{Ifindex: s.Entry.Ifindex}, false)
		delete(r.entries, s.ID)
	case reconcile.Update:
		r.update(l, s)
	case reconcile.Start:
		t := *s.Take
		l.Take = &t
		if l.V.Router.Owner() {
			r.activate(l)
		}
	case reconcile.Rebind:
		t := *s.Take
		l.Take = &t
	case reconcile.Restore:
		r.activate(l)
	case reconcile.Stop:
		r.deactivate(l)
		l.Take = nil
	case reconcile.Withdraw:
		r.release(s.Ifindex, s.Prefix.Addr())
	default:
		panic(s.String())
	}
	return nil
}

func (r *run) fence(id plan.ID, e *plan.Entry, mute bool) {
	if old := r.entries[id]; old != nil && !mute {
		for _, a := range old.Addresses {
			at := spot{old.Ifindex, a}
			if !slices.Contains(e.Addresses, a) && (r.slots[at] == id || r.wrong.stealsAddress) {
				delete(r.slots, at)
			}
		}
	}
	if !mute {
		for _, a := range e.Addresses {
			r.slots[spot{e.Ifindex, a}] = id
		}
	}
	r.entries[id] = e
}

// assigned are the addresses that the loop puts on the interface.
func assigned(l *plan.Loop) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(l.V.Assigned), func(p netip.Prefix) bool { return slices.Contains(l.Less, p.Addr()) })
}

func (r *run) activate(l *plan.Loop) {
	id, on, all := l.V.ID, l.Take.On(), assigned(l)
	l.Active, l.Assigned = true, 0
	r.jobs = append(r.jobs, func() {
		if r.loop[id] != l || !l.Active || l.Take == nil || l.Take.On() != on {
			return
		}
		for _, p := range all {
			r.assign(on, p, id)
			r.check(fmt.Sprintf("assign %s for %s", p, id))
		}
		l.Assigned = r.now
	})
}

func (r *run) deactivate(l *plan.Loop) {
	if !l.Active || l.Take == nil {
		return
	}
	l.Active, l.Assigned = false, 0
	r.remove(l, l.Take.On(), assigned(l))
}

func (r *run) remove(l *plan.Loop, on int, all []netip.Prefix) {
	l.Leaving = true
	var job func()
	job = func() {
		for _, p := range all {
			if l.Active && slices.Contains(assigned(l), p) {
				continue
			}
			if r.failing != nil && r.failing(&reconcile.Step{Verb: reconcile.Withdraw, Ifindex: on, Prefix: p}) != nil && !r.wrong.leavesAddress {
				r.jobs = append(r.jobs, job) // again
				return
			} else if r.wrong.leavesAddress && r.failing != nil && r.failing(&reconcile.Step{Verb: reconcile.Withdraw}) != nil {
				delete(r.put, spot{on, p.Addr()})
				delete(r.journal, link.JournalAddress{Ifindex: on, Name: r.interfaces[on].Name, Prefix: p})
				continue
			}
			r.release(on, p.Addr())
		}
		l.Leaving = false
	}
	r.jobs = append(r.jobs, job)
}

func (r *run) update(l *plan.Loop, s *reconcile.Step) {
	before := assigned(l)
	l.V, l.Priority, l.Less = s.Virtual, s.Priority, s.Less
	if !l.Active || l.Take == nil {
		return
	}
	after := assigned(l)
	if gone := slices.DeleteFunc(slices.Clone(before), func(p netip.Prefix) bool { return slices.Contains(after, p) }); len(gone) > 0 {
		r.remove(l, l.Take.On(), gone)
	}
	if !slices.Equal(before, after) {
		r.activate(l)
	}
}

// work has the worker do what is asked of it.
func (r *run) work() {
	for n := len(r.jobs); n > 0; n-- {
		job := r.jobs[0]
		r.jobs = r.jobs[1:]
		job()
	}
	r.check("work")
}

// check notes the first moment at which an address is on the host that isn't in the
// journal, or not behind the fence by its own slot.
func (r *run) check(after string) {
	if r.violated != "" || r.unchecked {
		return
	}
	for at, id := range r.put {
		on := at.ifindex
		i := r.interfaces[on]
		if i == nil {
			continue
		}
		device := link.NewDevice(i.Parent, id.Family, id.VRID)
		made := i.Kind == "macvlan" && device.Is(*i)
		noted := made && r.journal[device]
		for _, p := range i.Addresses {
			if p.Prefix.Addr() == at.address {
				for n := range r.journal { // whatever the interface was called then
					a, is := n.(link.JournalAddress)
					noted = noted || is && a.Ifindex == on && a.Prefix == p.Prefix
				}
			}
		}
		if !noted {
			r.violated = fmt.Sprintf("after %s: %s is on %s and isn't written down", after, at.address, i.Name)
		}
		if made {
			on = i.Parent
		}
		if r.slots[spot{on, at.address}] != id {
			r.violated = fmt.Sprintf("after %s: %s is on %s for %s, but its slot is that of %q", after, at.address, i.Name, id, r.slots[spot{on, at.address}])
		}
	}
}
