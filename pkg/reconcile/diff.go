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

// Diff returns the steps that bring the host nearer to what it must have. Each is safe
// when those before it have been done. What has to wait for the outcome of a step isn't
// among them: it follows from the next picture. There are none when all is right.
func Diff(want *plan.Target, now *plan.Picture) []Step {
	d := &differ{want: want, now: now, wants: make(map[plan.ID]*plan.Want, len(want.Wants)), keep: make(map[plan.Note]bool, len(now.Journal)), busy: make(map[string]bool)}
	for _, w := range want.Wants {
		d.wants[w.V.ID] = w
	}
	d.look()
	for id, m := range now.Installed {
		if d.wants[id] == nil {
			d.member(id, nil, m)
		}
	}
	for _, w := range want.Wants {
		m := now.Installed[w.V.ID]
		if m == nil {
			m = &plan.Installed{}
		}
		d.member(w.V.ID, w, m)
	}
	d.settings()
	d.ports()
	d.leftovers()
	d.orphans()
	d.strike()
	order(d.steps)
	return d.steps
}

// spot is an address on an interface.
type spot struct {
	ifindex int
	address netip.Addr
}

// scoped is an address, on which interface matters for link-local ones only.
func scoped(ifindex int, a netip.Addr) spot {
	if a.IsLinkLocalUnicast() {
		return spot{ifindex, a}
	}
	return spot{address: a}
}

// macvlan is whose macvlan one is, and on which interface.
type macvlan struct {
	parent int
	family packet.Family
	vrid   uint8
}

type differ struct {
	want  *plan.Target
	now   *plan.Picture
	wants map[plan.ID]*plan.Want
	steps []Step

	byIndex map[int]*link.Interface
	present map[spot]netip.Prefix        // addresses that are on interfaces
	devices map[link.Device]int          // macvlans of ours, by what they are
	made    map[macvlan]link.Device      // the same, by whose they are
	fenced  map[spot]plan.ID             // whose entry an address is in
	owned   map[spot]bool                // addresses that are the host's own
	noted   map[spot]bool                // addresses that are written down
	claimed map[link.JournalAddress]bool // addresses that the event loop may put on an interface
	keep    map[plan.Note]bool           // what must stay written down
	busy    map[string]bool              // ports of which something is still there
}

// look takes from the picture what is needed for each Virtual Router.
func (d *differ) look() {
	n := 0
	for i := range d.now.Interfaces {
		n += len(d.now.Interfaces[i].Addresses)
	}
	d.byIndex = make(map[int]*link.Interface, len(d.now.Interfaces))
	d.present = make(map[spot]netip.Prefix, n)
	d.devices = make(map[link.Device]int)
	d.made = make(map[macvlan]link.Device)
	d.fenced = make(map[spot]plan.ID, n)
	d.owned = make(map[spot]bool)
	d.noted = make(map[spot]bool, n)
	d.claimed = make(map[link.JournalAddress]bool, n)
	for i := range d.now.Interfaces {
		one := &d.now.Interfaces[i]
		d.byIndex[one.Index] = one
		for _, a := range one.Addresses {
			d.present[spot{one.Index, a.Prefix.Addr()}] = a.Prefix
		}
		if device, ok := link.DeviceOf(one); ok && d.now.Journal[device] {
			d.devices[device] = one.Index
			d.made[macvlan{device.Parent, device.Family, device.MAC[len(device.MAC)-1]}] = device
		}
	}
	for id, m := range d.now.Installed {
		if m.Entry != nil {
			for _, a := range m.Entry.Addresses {
				d.fenced[scoped(m.Entry.Ifindex, a)] = id
			}
		}
		if m.Loop != nil && m.Loop.Binding != nil {
			t := m.Loop.Binding
			for _, a := range m.Loop.V.Assigned {
				if !slices.Contains(m.Loop.Withheld, a.Addr()) {
					d.claimed[link.JournalAddress{Ifindex: t.AddressIfindex(), Prefix: a}] = true
				}
			}
		}
	}
	for n := range d.now.Journal {
		if a, is := n.(link.JournalAddress); is {
			d.noted[spot{a.Ifindex, a.Prefix.Addr()}] = true
		}
	}
	for _, w := range d.want.Wants {
		if w.V.Router.Owner() {
			for _, a := range w.V.Router.Addresses {
				d.owned[spot{w.Ifindex, a.Addr()}] = true
			}
		}
	}
}

// name is an interface's; empty if it is gone.
func (d *differ) name(index int) string {
	if i := d.byIndex[index]; i != nil {
		return i.Name
	}
	return ""
}

func (d *differ) add(s Step) { d.steps = append(d.steps, s) }

// held returns those of a Virtual Router's addresses that failoverd may have put where
// they are on the host: on the interface, if they are written down, or on the macvlan.
func (d *differ) held(m *plan.Installed) (all []netip.Addr) {
	if m.Entry == nil {
		return nil
	}
	e := m.Entry
	on, made := d.made[macvlan{e.Ifindex, e.V.Family, e.V.VRID}]
	device := d.devices[on]
	for _, a := range e.Addresses {
		_, here := d.present[spot{e.Ifindex, a}]
		_, above := d.present[spot{device, a}]
		if here && d.noted[spot{e.Ifindex, a}] || made && above {
			all = append(all, a)
		}
	}
	return all
}

// member compares one Virtual Router; w is nil for one that isn't in the plan any more.
func (d *differ) member(id plan.ID, w *plan.Want, m *plan.Installed) {
	running := m.Loop != nil && m.Loop.Binding != nil
	if running {
		if cause, detail, stop := d.stops(w, m); stop {
			d.add(Step{Verb: Stop, ID: id, Cause: cause, Detail: detail})
			if m.Entry != nil && m.Entry.Running {
				silent := *m.Entry
				silent.Running = false
				d.add(Step{Verb: Fence, ID: id, Entry: &silent})
			}
			d.keepAll(m)
			return
		}
	}
	if !running && !d.dismantle(id, w, m) {
		d.keepAll(m)
		return
	}
	if w != nil {
		d.build(id, w, m, running)
	}
}

// stops says why a Virtual Router that takes part must not go on as it does.
func (d *differ) stops(w *plan.Want, m *plan.Installed) (cause vrrp.Cause, detail string, stop bool) {
	l := m.Loop
	switch {
	case w == nil:
		return vrrp.CauseRemoved, "", true
	case w.V != l.V && plan.RestartReason(&l.V.Router.Router, &w.V.Router.Router) != "":
		return vrrp.CauseReconfigured, "", true
	case w.Obstacle.Cause != vrrp.CauseNone:
		cause := w.Obstacle.Cause
		if cause == vrrp.CauseWaiting { // it can't be used any more as it was
			cause = vrrp.CauseReconfigured
		}
		return cause, w.Obstacle.Detail, true
	case w.Binding == nil || w.Binding.Ifindex != l.Binding.Ifindex || w.Binding.Device != l.Binding.Device:
		return vrrp.CauseInterfaceRemoved, "", true
	case w.Binding.Name != l.Binding.Name:
		return vrrp.CauseInterfaceRenamed, "", true
	case w.Binding.Source != l.Binding.Source:
		return vrrp.CauseAddressChanged, "", true
	case w.Binding.MACMode != l.Binding.MACMode || w.Binding.Unicast != l.Binding.Unicast:
		return vrrp.CauseReconfigured, "", true
	case len(d.lacking(w)) == len(w.V.Fenced):
		return vrrp.CauseReconfigured, "", true // another router has all of its addresses still
	}
	return vrrp.CauseNone, "", false
}

// keepAll keeps written down what there may be of a Virtual Router.
func (d *differ) keepAll(m *plan.Installed) {
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

// dismantle takes away what a Virtual Router that doesn't take part must not have, and
// reports whether the rest may be built upon.
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
	if leaving || changes && len(d.held(m)) > 0 {
		d.busy[id.Interface] = true
		if !leaving {
			d.unmake(id, w, m, changes, away)
		}
		return false // the addresses have to be gone first
	}
	if m.Entry != nil && changes {
		away(Step{Verb: Unfence, Entry: m.Entry})
	}
	if m.Filter != 0 && (w == nil || changes || w.Filter() != m.Filter) {
		away(Step{Verb: Reject, Ifindex: m.Filter, PortName: id.Interface})
	}
	d.unmake(id, w, m, changes, away)
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

// unmake removes a macvlan that a Virtual Router must not have, with what is on it. One
// that wants a macvlan but not this one has it made anew.
func (d *differ) unmake(id plan.ID, w *plan.Want, m *plan.Installed, changes bool, away func(Step)) {
	for _, parent := range d.parents(id, m) {
		device, made := d.made[macvlan{parent, id.Family, id.VRID}]
		if made && (w == nil || w.Device == nil && (changes || m.Entry == nil || w.MACMode == "macvlan") || w.Device != nil && *w.Device != device) {
			away(Step{Verb: Unmake, Device: device, Ifindex: d.devices[device]})
		}
	}
}

// parents are the interfaces that a Virtual Router has something to do with.
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

// orphans removes the macvlans that are no Virtual Router's any more.
func (d *differ) orphans() {
	if len(d.made) == 0 {
		return
	}
	theirs := make(map[macvlan]bool, len(d.made))
	claim := func(id plan.ID, m *plan.Installed) {
		for _, parent := range d.parents(id, m) {
			theirs[macvlan{parent, id.Family, id.VRID}] = true
		}
	}
	for id, m := range d.now.Installed {
		claim(id, m)
	}
	for id := range d.wants {
		claim(id, nil)
	}
	for key, device := range d.made {
		if !theirs[key] {
			d.add(Step{Verb: Unmake, Device: device, Ifindex: d.devices[device]})
		}
	}
}

// lacking returns the addresses of a Virtual Router that it can't have yet, because they
// are another one's behind the fence.
func (d *differ) lacking(w *plan.Want) (all []netip.Addr) {
	for _, a := range w.V.Fenced {
		if by, ok := d.fenced[scoped(w.Ifindex, a)]; ok && by != w.V.ID {
			all = append(all, a)
		}
	}
	return all
}

// knows returns the addresses that the event loop is told not to have. It takes no Virtual
// Router without any: one that lacks all is told of all, and not started.
func knows(w *plan.Want, less []netip.Addr) []netip.Addr {
	if len(less) == len(w.V.Fenced) {
		return nil
	}
	return less
}

// build gives a Virtual Router what it lacks.
func (d *differ) build(id plan.ID, w *plan.Want, m *plan.Installed, running bool) {
	less := d.lacking(w)
	if m.Loop == nil {
		d.add(Step{Verb: Add, ID: id, V: w.V, Priority: w.Priority, Withheld: knows(w, less)})
	}
	if w.Ifindex == 0 || w.MACMode == "" {
		d.settle(id, w, m, running, less)
		return
	}
	if m.Claim != w.Ifindex {
		d.add(Step{Verb: Claim, ID: id, Ifindex: w.Ifindex})
	}
	if m.Subscription != w.Subscription() {
		d.add(Step{Verb: Subscribe, ID: id, PortName: id.Interface, Subscription: w.Subscription(), V: w.V})
	}
	d.note(id, w, m)
	if w.Device != nil {
		if _, there := d.devices[*w.Device]; !there {
			d.add(Step{Verb: Make, ID: id, Device: *w.Device, PortName: id.Interface, V: w.V})
		}
		if settings, known := d.now.MissingSettings[id.Interface]; w.V.Family == packet.IPv4 && (!known || len(settings) > 0) {
			w.Binding = nil // until they are set
			if running {
				w.Binding = m.Loop.Binding
			}
		}
	}
	if filter := w.Filter(); filter != 0 && m.Filter != filter {
		d.add(Step{Verb: Accept, ID: id, PortName: id.Interface, Ifindex: filter})
	}
	entry := d.entry(w, m, running, less)
	if !entry.Equal(m.Entry) {
		d.add(Step{Verb: Fence, ID: id, Entry: entry})
	}
	d.settle(id, w, m, running, less)
}

// entry is a Virtual Router's in the kernel: with the addresses that it must have, that
// the event loop may put on the interface meanwhile, and that are there still.
func (d *differ) entry(w *plan.Want, m *plan.Installed, running bool, less []netip.Addr) *plan.Entry {
	extra := d.held(m)
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

// note writes down what there may be of a Virtual Router.
func (d *differ) note(id plan.ID, w *plan.Want, m *plan.Installed) {
	var lacking []plan.Note
	for _, n := range w.V.Notes(w.Ifindex, d.name(w.Ifindex), w.Device) {
		d.keep[n] = true
		if !d.now.Journal[n] {
			lacking = append(lacking, n)
		}
	}
	if m.Loop != nil && m.Loop.Binding != nil && m.Loop.V != w.V {
		d.keepAll(m)
	}
	if len(lacking) > 0 {
		d.add(Step{Verb: Write, ID: id, Notes: lacking})
	}
}

// settle has the event loop know what it must.
func (d *differ) settle(id plan.ID, w *plan.Want, m *plan.Installed, running bool, less []netip.Addr) {
	l := m.Loop
	if told := knows(w, less); l != nil && (l.V != w.V || l.Priority != w.Priority || !slices.Equal(l.Withheld, told)) {
		d.add(Step{Verb: Update, ID: id, V: w.V, Priority: w.Priority, Withheld: told})
	}
	switch {
	case w.Binding == nil || len(less) == len(w.V.Fenced):
	case !running:
		d.add(Step{Verb: Start, ID: id, Binding: w.Binding})
	case *w.Binding != *l.Binding:
		d.add(Step{Verb: Rebind, ID: id, Binding: w.Binding})
	case !l.Active && !l.Leaving:
		// Somebody else has put them there.
		for _, a := range l.V.Assigned {
			if p, there := d.present[spot{l.Binding.AddressIfindex(), a.Addr()}]; there {
				d.add(Step{Verb: Withdraw, ID: id, Ifindex: l.Binding.AddressIfindex(), Prefix: p})
				break
			}
		}
	case l.Active && l.Assigned != 0 && l.Assigned < d.now.ListedSince:
		for _, a := range l.V.Assigned {
			if _, there := d.present[spot{l.Binding.AddressIfindex(), a.Addr()}]; !there && !slices.Contains(l.Withheld, a.Addr()) {
				d.add(Step{Verb: Restore, ID: id, Prefix: a})
				break
			}
		}
	}
}

// settings makes the settings that interfaces with macvlans on top need, and gives the
// others back what they had.
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

// needed reports whether a setting that was made is needed by a port that is to have
// macvlans, or by those that are there still.
func (d *differ) needed(s link.Setting) bool {
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

// ports opens and closes ports.
func (d *differ) ports() {
	for name, open := range d.now.Ports {
		want, wanted := d.want.Ports[name]
		if wanted && !open.MustReopen(want) {
			continue
		}
		if !d.uses(name) {
			d.add(Step{Verb: Close, PortName: name})
		}
	}
	for name, want := range d.want.Ports {
		if _, open := d.now.Ports[name]; !open {
			d.add(Step{Verb: Open, PortName: name, Port: want})
		}
	}
}

// uses reports whether a Virtual Router has anything on a port.
func (d *differ) uses(name string) bool {
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

// leftovers removes addresses that nobody has put where they are, or that stayed. What
// isn't written down is somebody else's.
func (d *differ) leftovers() {
	for n := range d.now.Journal {
		a, is := n.(link.JournalAddress)
		if !is {
			continue
		}
		if _, there := d.present[spot{a.Ifindex, a.Prefix.Addr()}]; !there {
			continue
		}
		d.keep[a] = true
		if d.owned[spot{a.Ifindex, a.Prefix.Addr()}] || d.claimed[link.JournalAddress{Ifindex: a.Ifindex, Prefix: a.Prefix}] || d.leaving(a) {
			continue
		}
		d.add(Step{Verb: Withdraw, Ifindex: a.Ifindex, Prefix: a.Prefix})
	}
	d.upstairs()
}

// upstairs removes what somebody else has put on macvlans, or that stayed there.
func (d *differ) upstairs() {
	leaving := make(map[macvlan]bool)
	for _, m := range d.now.Installed {
		if l := m.Loop; l != nil && l.Leaving && m.Entry != nil {
			leaving[macvlan{m.Entry.Ifindex, l.V.Family, l.V.VRID}] = true
		}
	}
	for key, device := range d.made {
		index := d.devices[device]
		for _, a := range d.byIndex[index].Addresses {
			if !leaving[key] && !d.claimed[link.JournalAddress{Ifindex: index, Prefix: a.Prefix}] {
				d.add(Step{Verb: Withdraw, Ifindex: index, Prefix: a.Prefix})
			}
		}
	}
}

// leaving reports whether the event loop is about to remove an address by itself.
func (d *differ) leaving(a link.JournalAddress) bool {
	m := d.behind(a)
	return m != nil && m.Loop != nil && m.Loop.Leaving
}

// behind returns whose fence an address is behind where it is; nil if it is behind none.
func (d *differ) behind(a link.JournalAddress) *plan.Installed {
	id, fenced := d.fenced[scoped(a.Ifindex, a.Prefix.Addr())]
	if !fenced || d.now.Installed[id].Entry.Ifindex != a.Ifindex {
		return nil
	}
	return d.now.Installed[id]
}

// strike ends what is written down without need, when nothing else is left to do, or
// about to be done.
func (d *differ) strike() {
	if len(d.steps) > 0 {
		return
	}
	for _, m := range d.now.Installed {
		if m.Loop != nil && m.Loop.Changing() {
			return // it may have the addresses of another configuration still
		}
	}
	for device := range d.devices {
		d.keep[device] = true
	}
	var gone []plan.Note
	for n := range d.now.Journal {
		if a, is := n.(link.JournalAddress); d.keep[n] || d.now.Held[n] || is && d.behind(a) != nil {
			continue
		}
		gone = append(gone, n)
	}
	if len(gone) > 0 {
		d.add(Step{Verb: Erase, Notes: gone})
	}
}
