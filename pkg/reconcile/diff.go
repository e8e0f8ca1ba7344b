// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"net/netip"
	"slices"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Diff returns the steps that bring the host closer to the target; none if the host is as it must
// be. Each step is safe once the steps before it are done. What depends on the result of a step
// isn't included, but follows from the next picture.
func Diff(want *plan.Target, now *plan.Picture) []*Step {
	d := &differ{want: want, now: now, wanted: make(map[plan.ID]*plan.Want, len(want.Wants)), keep: make(map[plan.Note]bool, max(len(now.Journal), len(want.Wants))), busy: make(map[string]bool)}
	for _, w := range want.Wants {
		d.wanted[w.V.ID] = w
	}
	d.index()
	d.heirs()
	for id, m := range now.Installed {
		if d.wanted[id] == nil {
			d.router(id, nil, m)
		}
	}
	for _, w := range want.Wants {
		m := now.Installed[w.V.ID]
		if m == nil {
			m = &plan.Installed{}
		}
		d.router(w.V.ID, w, m)
	}
	d.settings()
	d.ports()
	d.leftovers()
	d.orphans()
	d.erase()
	return order(d.steps)
}

// ifAddr is an address on an interface.
type ifAddr struct {
	ifindex int
	address netip.Addr
}

// scopedAddr returns an address without its interface, unless it is link-local: other addresses
// belong to the whole host.
func scopedAddr(ifindex int, a netip.Addr) ifAddr {
	if a.IsLinkLocalUnicast() {
		return ifAddr{ifindex, a}
	}
	return ifAddr{address: a}
}

// macvlanKey identifies the Virtual Router of a macvlan, and its parent interface.
type macvlanKey struct {
	parent int
	family packet.Family
	vrid   uint8
}

type differ struct {
	want   *plan.Target
	now    *plan.Picture
	wanted map[plan.ID]*plan.Want
	steps  []*Step

	byIndex   map[int]*link.Interface
	present   map[ifAddr]netip.Prefix      // the addresses on interfaces
	devices   map[link.Device]int          // the index of each macvlan of ours
	macvlans  map[macvlanKey]link.Device   // the same macvlans, by Virtual Router
	fenced    map[ifAddr]plan.ID           // the Virtual Router whose entry has the address
	owned     map[ifAddr]bool              // addresses that this host owns
	journaled map[ifAddr]bool              // addresses in the journal
	assigned  map[link.JournalAddress]bool // addresses that the event loop may add to an interface
	inherited map[ifAddr]bool              // addresses of heirs, which a killed run left
	keep      map[plan.Note]bool           // the notes that must stay in the journal
	busy      map[string]bool              // ports that are still in use
}

// index prepares the maps that the comparison needs.
func (d *differ) index() {
	n := 0
	for i := range d.now.Interfaces {
		n += len(d.now.Interfaces[i].Addresses)
	}
	d.byIndex = make(map[int]*link.Interface, len(d.now.Interfaces))
	d.present = make(map[ifAddr]netip.Prefix, n)
	d.devices = make(map[link.Device]int)
	d.macvlans = make(map[macvlanKey]link.Device)
	d.fenced = make(map[ifAddr]plan.ID, len(d.now.Installed))
	d.owned = make(map[ifAddr]bool)
	d.journaled = make(map[ifAddr]bool, len(d.now.Journal))
	d.assigned = make(map[link.JournalAddress]bool, len(d.now.Installed))
	for i := range d.now.Interfaces {
		one := &d.now.Interfaces[i]
		d.byIndex[one.Index] = one
		for _, a := range one.Addresses {
			d.present[ifAddr{one.Index, a.Prefix.Addr()}] = a.Prefix
		}
		if device, ok := link.DeviceOf(one); ok && d.now.Journal[device] {
			d.devices[device] = one.Index
			d.macvlans[macvlanKey{device.Parent, device.Family, device.MAC[len(device.MAC)-1]}] = device
		}
	}
	for id, m := range d.now.Installed {
		if m.Entry != nil {
			for _, a := range m.Entry.Addresses {
				d.fenced[scopedAddr(m.Entry.Ifindex, a)] = id
			}
		}
		if m.Loop != nil && m.Loop.Binding != nil {
			t := m.Loop.Binding
			for _, a := range m.Loop.V.Assigned {
				if !slices.Contains(m.Loop.Withheld, a.Addr()) {
					d.assigned[link.JournalAddress{Ifindex: t.AddressIfindex(), Prefix: a}] = true
				}
			}
		}
	}
	for n := range d.now.Journal {
		if a, is := n.(link.JournalAddress); is {
			d.journaled[ifAddr{a.Ifindex, a.Prefix.Addr()}] = true
		}
	}
	for _, w := range d.want.Wants {
		if w.V.Router.OwnsAddresses() {
			for _, a := range w.V.Router.Addresses {
				d.owned[ifAddr{w.Ifindex, a.Addr()}] = true
			}
		}
	}
}

// name returns the name of an interface, empty if it is gone.
func (d *differ) name(index int) string {
	if i := d.byIndex[index]; i != nil {
		return i.Name
	}
	return ""
}

func (d *differ) add(s Step) { d.steps = append(d.steps, &s) }

// inPlace returns the addresses of a Virtual Router that failoverd may have put on the host:
// those that are on the interface and in the journal, and those on the macvlan.
func (d *differ) inPlace(m *plan.Installed) (all []netip.Addr) {
	if m.Entry == nil {
		return nil
	}
	e := m.Entry
	on, made := d.macvlans[macvlanKey{e.Ifindex, e.V.Family, e.V.VRID}]
	device := d.devices[on]
	for _, a := range e.Addresses {
		_, here := d.present[ifAddr{e.Ifindex, a}]
		_, above := d.present[ifAddr{device, a}]
		if here && d.journaled[ifAddr{e.Ifindex, a}] || made && above {
			all = append(all, a)
		}
	}
	return all
}

// heirs keeps what belongs to the heirs until they start, and adds the steps that undo it for
// those that can't continue.
func (d *differ) heirs() {
	d.inherited = make(map[ifAddr]bool)
	for id, h := range d.now.Heirs {
		for _, n := range h.Notes {
			d.keep[n] = true
		}
		for _, a := range h.V.Assigned {
			d.inherited[ifAddr{h.Ifindex, a.Addr()}] = true
			if h.Device != 0 {
				d.inherited[ifAddr{h.Device, a.Addr()}] = true
			}
		}
		if !mayContinue(h, d.wanted[id]) {
			d.add(Step{Verb: Disown, ID: id, Heir: h})
		}
	}
}

// mayContinue reports whether an heir can still continue: as long as its lease lasts, if only
// parts of this run are missing.
func mayContinue(h *plan.Heir, w *plan.Want) bool {
	switch {
	case h.Ended || w == nil || w.V != h.V:
		return false
	case w.Obstacle.Cause != vrrp.CauseNone && w.Obstacle.Cause != vrrp.CauseWaiting && w.Obstacle.Cause != vrrp.CauseGroup:
		return false
	case w.MACMode != "" && (w.MACMode != h.MACMode || w.Ifindex != h.Ifindex):
		return false
	case w.Binding != nil && w.Binding.Device != h.Device:
		return false // another program has deleted its macvlan, and it was made again
	}
	return w.MACMode == "" || (w.Device == nil) == (h.Device == 0)
}

// router compares one Virtual Router; w is nil if it isn't in the plan any more.
func (d *differ) router(id plan.ID, w *plan.Want, m *plan.Installed) {
	running := m.Loop != nil && m.Loop.Binding != nil
	if h := d.now.Heirs[id]; h != nil && !mayContinue(h, w) {
		d.busy[id.Interface] = true
		return // until it is disowned
	}
	if running {
		if cause, detail, stop := d.stopCause(w, m); stop {
			d.add(Step{Verb: Stop, ID: id, Cause: cause, Detail: detail})
			if m.Entry != nil && m.Entry.Running {
				silent := *m.Entry
				silent.Running = false
				d.add(Step{Verb: Fence, ID: id, Entry: &silent})
			}
			d.keepNotes(m)
			return
		}
	}
	if !running && d.now.Heirs[id] == nil && !d.dismantle(id, w, m) {
		d.keepNotes(m)
		return
	}
	if w != nil {
		d.build(id, w, m, running)
	}
}

// stopCause returns why a running Virtual Router must stop.
func (d *differ) stopCause(w *plan.Want, m *plan.Installed) (cause vrrp.Cause, detail string, stop bool) {
	l := m.Loop
	switch {
	case w == nil:
		return vrrp.CauseRemoved, "", true
	case w.V != l.V && plan.RestartReason(&l.V.Router.Router, &w.V.Router.Router) != "":
		return vrrp.CauseReconfigured, "", true
	case w.Obstacle.Cause != vrrp.CauseNone:
		cause := w.Obstacle.Cause
		if cause == vrrp.CauseWaiting { // its interface can't be used in the same way any more
			cause = vrrp.CauseReconfigured
		}
		return cause, w.Obstacle.Detail, true
	case w.Ifindex != l.Binding.Ifindex:
		return vrrp.CauseInterfaceRemoved, "", true
	case changesMAC(w, l):
		// In place. The router continues as it is until its macvlan exists.
	case w.Binding == nil || w.Binding.Device != l.Binding.Device:
		return vrrp.CauseInterfaceRemoved, "", true
	}
	switch {
	case w.Binding == nil:
	case w.Binding.Name != l.Binding.Name:
		return vrrp.CauseInterfaceRenamed, "", true
	case w.Binding.Source != l.Binding.Source:
		return vrrp.CauseAddressChanged, "", true
	case w.Binding.Unicast != l.Binding.Unicast:
		return vrrp.CauseReconfigured, "", true
	case allWithheld(w, d.withheld(w)):
		return vrrp.CauseReconfigured, "", true // another router still has all of its addresses
	}
	return vrrp.CauseNone, "", false
}

// changesMAC reports whether a running Virtual Router gets its virtual MAC in another way.
func changesMAC(w *plan.Want, l *plan.LoopState) bool { return w.MACMode != l.Binding.MACMode }

// keepNotes keeps all notes that an installed Virtual Router may need.
func (d *differ) keepNotes(m *plan.Installed) {
	if l := m.Loop; l != nil && m.Entry != nil {
		var device *link.Device
		if v := l.V; m.Entry.MACMode == "macvlan" {
			made := link.NewDevice(m.Entry.Ifindex, v.Family, v.VRID)
			device = &made
		}
		for _, n := range l.V.Notes(m.Entry.Ifindex, d.name(m.Entry.Ifindex), device) {
			d.keep[n] = true
		}
	}
}

// dismantle removes what a Virtual Router that doesn't take part must not have, and reports
// whether build may follow.
func (d *differ) dismantle(id plan.ID, w *plan.Want, m *plan.Installed) bool {
	changes := w == nil || m.Entry != nil && (w.Ifindex != m.Entry.Ifindex || w.MACMode != m.Entry.MACMode)
	leaving := m.Loop != nil && m.Loop.Leaving
	done := true
	away := func(s Step) {
		s.ID = id
		d.add(s)
		d.busy[id.Interface] = true
		done = false
	}
	if leaving || changes && len(d.inPlace(m)) > 0 {
		d.busy[id.Interface] = true
		if !leaving {
			d.unmakeStale(id, w, m, changes, away)
		}
		return false // the addresses have to be gone first
	}
	if m.Entry != nil && changes {
		away(Step{Verb: Unfence, Entry: m.Entry})
	}
	if m.Filter != 0 && (w == nil || changes || w.Filter() != m.Filter) {
		away(Step{Verb: Reject, Ifindex: m.Filter, PortName: id.Interface})
	}
	d.unmakeStale(id, w, m, changes, away)
	if m.Subscription.Ifindex != 0 && (w == nil || m.Subscription != w.Subscription()) {
		away(Step{Verb: Unsubscribe, Subscription: m.Subscription, PortName: id.Interface})
	}
	if m.Claim != 0 && (w == nil || w.Ifindex != 0 && m.Claim != w.Ifindex) {
		away(Step{Verb: Unclaim})
	}
	if w == nil && m.Loop != nil {
		away(Step{Verb: Remove, Cause: vrrp.CauseRemoved})
	}
	return done && w != nil
}

// unmakeStale removes a macvlan that a Virtual Router must not have, with everything on it. If
// the router wants a different macvlan, it is created later.
func (d *differ) unmakeStale(id plan.ID, w *plan.Want, m *plan.Installed, changes bool, away func(Step)) {
	for _, parent := range d.parents(id, m) {
		device, made := d.macvlans[macvlanKey{parent, id.Family, id.VRID}]
		if made && (w == nil || w.Device == nil && (changes || m.Entry == nil || w.MACMode != "") || w.Device != nil && *w.Device != device) {
			away(Step{Verb: Unmake, Device: device, Ifindex: d.devices[device]})
		}
	}
}

// parents returns the interfaces that a Virtual Router may have a macvlan on.
func (d *differ) parents(id plan.ID, m *plan.Installed) (all []int) {
	add := func(ifindex int) {
		if ifindex != 0 && !slices.Contains(all, ifindex) {
			all = append(all, ifindex)
		}
	}
	add(d.now.Ports[id.Interface].Ifindex)
	add(d.want.Ports[id.Interface].Ifindex)
	if m != nil && m.Entry != nil {
		add(m.Entry.Ifindex)
	}
	if m != nil && m.Loop != nil && m.Loop.Binding != nil {
		add(m.Loop.Binding.Ifindex)
	}
	return all
}

// orphans removes the macvlans that belong to no Virtual Router any more.
func (d *differ) orphans() {
	if len(d.macvlans) == 0 {
		return
	}
	theirs := make(map[macvlanKey]bool, len(d.macvlans))
	claim := func(id plan.ID, m *plan.Installed) {
		for _, parent := range d.parents(id, m) {
			theirs[macvlanKey{parent, id.Family, id.VRID}] = true
		}
	}
	for id, m := range d.now.Installed {
		claim(id, m)
	}
	for id := range d.wanted {
		claim(id, nil)
	}
	for id, h := range d.now.Heirs {
		theirs[macvlanKey{h.Ifindex, id.Family, id.VRID}] = true
	}
	for key, device := range d.macvlans {
		if !theirs[key] {
			d.add(Step{Verb: Unmake, Device: device, Ifindex: d.devices[device]})
		}
	}
}

// withheld returns the addresses of a Virtual Router that it can't have yet, because they are
// still in the entry of another one.
func (d *differ) withheld(w *plan.Want) (all []netip.Addr) {
	for _, a := range w.V.Fenced {
		if by, ok := d.fenced[scopedAddr(w.Ifindex, a)]; ok && by != w.V.ID {
			all = append(all, a)
		}
	}
	return all
}

// loopWithheld returns the addresses that are withheld from the event loop. A Virtual Router whose
// virtual addresses are all withheld is added with all of them, but not started: without them it
// would advertise an empty list.
func loopWithheld(w *plan.Want, less []netip.Addr) []netip.Addr {
	if allWithheld(w, less) {
		return nil
	}
	return less
}

// allWithheld reports whether a Virtual Router can't have any of its virtual addresses yet, or,
// without virtual addresses, any of its extra addresses.
func allWithheld(w *plan.Want, less []netip.Addr) bool {
	virtual := w.V.Router.OfFamily(w.V.Family)
	if len(virtual) == 0 {
		return len(less) > 0 && len(less) == len(w.V.Fenced)
	}
	return !slices.ContainsFunc(virtual, func(p netip.Prefix) bool { return !slices.Contains(less, p.Addr()) })
}

// build adds what a Virtual Router lacks.
func (d *differ) build(id plan.ID, w *plan.Want, m *plan.Installed, running bool) {
	less := d.withheld(w)
	if m.Loop == nil {
		d.add(Step{Verb: Add, ID: id, V: w.V, Priority: w.Priority, Withheld: loopWithheld(w, less)})
	}
	if w.Ifindex == 0 || w.MACMode == "" {
		d.loopSteps(id, w, m, running, less)
		return
	}
	if m.Claim != w.Ifindex {
		d.add(Step{Verb: Claim, ID: id, Ifindex: w.Ifindex})
	}
	if m.Subscription != w.Subscription() {
		d.add(Step{Verb: Subscribe, ID: id, PortName: id.Interface, Subscription: w.Subscription(), V: w.V})
	}
	d.writeNotes(id, w, m)
	if w.Device != nil {
		if _, there := d.devices[*w.Device]; !there {
			d.add(Step{Verb: Make, ID: id, Device: *w.Device, PortName: id.Interface, V: w.V})
		}
		if settings, known := d.now.MissingSettings[id.Interface]; w.V.Family == packet.IPv4 && (!known || len(settings) > 0) {
			w.Binding = nil // until the settings are set
			if running && !changesMAC(w, m.Loop) {
				w.Binding = m.Loop.Binding
			}
		}
	}
	if running {
		if changesMAC(w, m.Loop) && (w.Binding == nil || m.Loop.Changing()) {
			d.keepNotes(m)
			return // until the macvlan and its settings are complete, and the addresses in place
		}
		d.oldMAC(id, w, m)
	}
	if filter := w.Filter(); filter != 0 && m.Filter != filter {
		d.add(Step{Verb: Accept, ID: id, PortName: id.Interface, Ifindex: filter})
	}
	entry := d.entry(w, m, running, less)
	if !entry.Equal(m.Entry) {
		d.add(Step{Verb: Fence, ID: id, Entry: entry})
	}
	d.loopSteps(id, w, m, running, less)
}

// oldMAC removes what a Virtual Router had for its virtual MAC before that changed in place.
func (d *differ) oldMAC(id plan.ID, w *plan.Want, m *plan.Installed) {
	if changesMAC(w, m.Loop) || m.Loop.Changing() {
		return // not until it uses the new one, and the addresses are no longer on the macvlan
	}
	if m.Filter != 0 && w.Filter() == 0 {
		d.add(Step{Verb: Reject, ID: id, Ifindex: m.Filter, PortName: id.Interface})
	}
	d.unmakeStale(id, w, m, false, func(s Step) {
		s.ID = id
		d.add(s)
	})
}

// entry returns the map entry of a Virtual Router. It has the addresses of the target, those that
// the event loop may add in the meantime, and those that are still in place.
func (d *differ) entry(w *plan.Want, m *plan.Installed, running bool, less []netip.Addr) *plan.Entry {
	extra := d.inPlace(m)
	if m.Entry != nil && m.Loop != nil && m.Loop.Changing() {
		extra = m.Entry.Addresses
	}
	if m.Loop != nil && running && m.Loop.V != w.V {
		extra = append(extra, m.Loop.V.Fenced...)
	}
	missing := func(a netip.Addr) bool {
		return !slices.Contains(w.V.Fenced, a) && (m.Entry != nil && slices.Contains(m.Entry.Addresses, a))
	}
	e := *w.Entry
	more := slices.ContainsFunc(extra, missing)
	if len(less) == 0 && !more {
		return &e
	}
	e.Addresses = slices.DeleteFunc(slices.Clone(w.V.Fenced), func(a netip.Addr) bool { return slices.Contains(less, a) })
	for _, a := range extra {
		if missing(a) && !slices.Contains(e.Addresses, a) {
			e.Addresses = append(e.Addresses, a)
		}
	}
	return &e
}

// writeNotes adds the step that writes what a Virtual Router needs to the journal.
func (d *differ) writeNotes(id plan.ID, w *plan.Want, m *plan.Installed) {
	var lacking []plan.Note
	for _, n := range w.V.Notes(w.Ifindex, d.name(w.Ifindex), w.Device) {
		d.keep[n] = true
		if !d.now.Journal[n] {
			lacking = append(lacking, n)
		}
	}
	if m.Loop != nil && m.Loop.Binding != nil && m.Loop.V != w.V {
		d.keepNotes(m)
	}
	if len(lacking) > 0 {
		d.add(Step{Verb: Write, ID: id, Notes: lacking})
	}
}

// loopSteps adds the steps for the event loop.
func (d *differ) loopSteps(id plan.ID, w *plan.Want, m *plan.Installed, running bool, less []netip.Addr) {
	l := m.Loop
	if told := loopWithheld(w, less); l != nil && (l.V != w.V || l.Priority != w.Priority || !slices.Equal(l.Withheld, told)) {
		d.add(Step{Verb: Update, ID: id, V: w.V, Priority: w.Priority, Withheld: told})
	}
	switch {
	case w.Binding == nil || allWithheld(w, less):
	case !running:
		d.add(Step{Verb: Start, ID: id, Binding: w.Binding, Heir: d.now.Heirs[id]})
	case *w.Binding != *l.Binding:
		d.add(Step{Verb: Rebind, ID: id, Binding: w.Binding})
	case !l.Active && !d.isLeaving(l):
		// Another program has added them.
		for _, a := range l.V.Assigned {
			if p, there := d.present[ifAddr{l.Binding.AddressIfindex(), a.Addr()}]; there {
				d.add(Step{Verb: Withdraw, ID: id, Ifindex: l.Binding.AddressIfindex(), Prefix: p})
				break
			}
		}
	case l.Active && l.Assigned != 0 && l.Assigned < d.now.ListedSince:
		for _, a := range l.V.Assigned {
			if _, there := d.present[ifAddr{l.Binding.AddressIfindex(), a.Addr()}]; !there && !slices.Contains(l.Withheld, a.Addr()) {
				d.add(Step{Verb: Restore, ID: id, Prefix: a})
				break
			}
		}
	}
}

// settings adds the steps that set what macvlans need on their parent interfaces, and that
// restore the settings of other interfaces.
func (d *differ) settings() {
	for name := range d.want.MacvlanParents {
		for _, s := range d.now.MissingSettings[name] {
			if !d.now.Journal[s] {
				d.add(Step{Verb: Write, PortName: name, Notes: []plan.Note{s}})
			}
			d.keep[s] = true
			d.add(Step{Verb: Set, PortName: name, Setting: s})
		}
	}
	for n := range d.now.Journal {
		s, is := n.(link.Setting)
		if !is || d.keep[s] || !d.now.AppliedSettings[s] {
			continue
		}
		if d.needed(s) {
			d.keep[s] = true
			continue
		}
		d.add(Step{Verb: Unset, Setting: s})
	}
}

// needed reports whether a setting is still needed by a macvlan that exists or that will be
// created.
func (d *differ) needed(s link.Setting) bool {
	for _, h := range d.now.Heirs {
		if h.Ifindex == s.Ifindex && h.Device != 0 {
			return true
		}
	}
	for device := range d.devices {
		if device.Parent == s.Ifindex && device.Family == packet.IPv4 {
			return true
		}
	}
	for name := range d.want.MacvlanParents {
		if d.want.Ports[name].Ifindex == s.Ifindex {
			return true
		}
	}
	return false
}

// ports adds the steps that open and close ports.
func (d *differ) ports() {
	for name, open := range d.now.Ports {
		want, wanted := d.want.Ports[name]
		if wanted && !open.MustReopen(want) {
			continue
		}
		if !d.inUse(name) {
			d.add(Step{Verb: Close, PortName: name})
		}
	}
	for name, want := range d.want.Ports {
		if _, open := d.now.Ports[name]; !open {
			d.add(Step{Verb: Open, PortName: name, Port: want})
		}
	}
}

// inUse reports whether a Virtual Router still uses a port.
func (d *differ) inUse(name string) bool {
	if d.busy[name] {
		return true
	}
	for id, m := range d.now.Installed {
		if id.Interface == name && (m.Entry != nil || m.Filter != 0 || m.Subscription.Ifindex != 0 || m.Loop != nil && m.Loop.Binding != nil) {
			return true
		}
	}
	return false
}

// leftovers removes addresses in the journal that belong to no Virtual Router or could not be
// removed before. Addresses that aren't in the journal belong to others.
func (d *differ) leftovers() {
	for n := range d.now.Journal {
		a, is := n.(link.JournalAddress)
		if !is {
			continue
		}
		if _, there := d.present[ifAddr{a.Ifindex, a.Prefix.Addr()}]; !there {
			continue
		}
		d.keep[a] = true
		if d.owned[ifAddr{a.Ifindex, a.Prefix.Addr()}] || d.inherited[ifAddr{a.Ifindex, a.Prefix.Addr()}] || d.assigned[link.JournalAddress{Ifindex: a.Ifindex, Prefix: a.Prefix}] || d.leaving(a) {
			continue
		}
		d.add(Step{Verb: Withdraw, Ifindex: a.Ifindex, Prefix: a.Prefix})
	}
	d.macvlanLeftovers()
}

// macvlanLeftovers removes addresses on macvlans that another program has added, or that could
// not be removed before.
func (d *differ) macvlanLeftovers() {
	leaving := make(map[macvlanKey]bool)
	for _, m := range d.now.Installed {
		if l := m.Loop; l != nil && d.isLeaving(l) && m.Entry != nil {
			leaving[macvlanKey{m.Entry.Ifindex, l.V.Family, l.V.VRID}] = true
		}
	}
	for key, device := range d.macvlans {
		index := d.devices[device]
		for _, a := range d.byIndex[index].Addresses {
			if !leaving[key] && !d.inherited[ifAddr{index, a.Prefix.Addr()}] && !d.assigned[link.JournalAddress{Ifindex: index, Prefix: a.Prefix}] {
				d.add(Step{Verb: Withdraw, Ifindex: index, Prefix: a.Prefix})
			}
		}
	}
}

// leaving reports whether the event loop is already removing an address.
func (d *differ) leaving(a link.JournalAddress) bool {
	m := d.fencedBy(a)
	return m != nil && m.Loop != nil && d.isLeaving(m.Loop)
}

// isLeaving reports whether the picture may have addresses of a Virtual Router that the event
// loop is removing, or has removed since the interfaces were listed.
func (d *differ) isLeaving(l *plan.LoopState) bool {
	return l.Leaving || l.Released != 0 && l.Released >= d.now.ListedSince
}

// fencedBy returns the Virtual Router whose entry has an address on that interface; nil if there
// is none.
func (d *differ) fencedBy(a link.JournalAddress) *plan.Installed {
	id, fenced := d.fenced[scopedAddr(a.Ifindex, a.Prefix.Addr())]
	if !fenced || d.now.Installed[id].Entry.Ifindex != a.Ifindex {
		return nil
	}
	return d.now.Installed[id]
}

// erase removes notes from the journal that aren't needed, once there are no other steps and no
// address is being changed.
func (d *differ) erase() {
	if len(d.steps) > 0 {
		return
	}
	for _, m := range d.now.Installed {
		if m.Loop != nil && m.Loop.Changing() {
			return // it may still have addresses of an earlier configuration
		}
	}
	for device := range d.devices {
		d.keep[device] = true
	}
	var gone []plan.Note
	for n := range d.now.Journal {
		if a, is := n.(link.JournalAddress); d.keep[n] || d.now.Held[n] || is && d.fencedBy(a) != nil {
			continue
		}
		gone = append(gone, n)
	}
	if len(gone) > 0 {
		d.add(Step{Verb: Erase, Notes: gone})
	}
}
