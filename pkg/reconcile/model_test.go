// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/reconcile"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// surroundings has the faults of routers, by name.
type surroundings map[string]vrrp.Cause

func (s surroundings) Fault(name string) (vrrp.Cause, string) { return s[name], "" }
func (s surroundings) Priority(r config.Router) int           { return r.Priority }

// machine is a host on which several runs of failoverd follow each other.
type machine struct {
	t       *rapid.T
	host    *host
	run     *run
	runner  *reconcile.Runner
	plan    *plan.Plan
	faults  surroundings
	errors  bool // steps fail at random
	kill    int  // the number of steps and changes of addresses until it is killed; 0: never
	calm    bool // no random events
	result  reconcile.Result
	history []fmt.Stringer
	wrong   func(*run) reconcile.Executor // replaces the executor by a faulty one; nil: no
}

// said is a line of the history.
type said string

func (s said) String() string { return string(s) }

// done is a step that was tried.
type done struct {
	what fmt.Stringer
	err  error
}

func (d done) String() string {
	if d.err != nil {
		return fmt.Sprintf("    %v: %v", d.what, d.err)
	}
	return fmt.Sprintf("    %v", d.what)
}

func (m *machine) note(format string, args ...any) {
	m.history = append(m.history, said(fmt.Sprintf(format, args...)))
}

// violation ends a sequence that has found a bug.
type violation string

func (m *machine) fail(format string, args ...any) {
	panic(violation(fmt.Sprintf(format, args...)))
}

type killed struct{}

var errnos = []error{unix.ENOMEM, unix.ENOSPC, unix.EBUSY, unix.ENODEV, unix.EPERM, unix.EEXIST, unix.ENOENT, unix.EINVAL, unix.ENOBUFS, unix.EAGAIN, unix.E2BIG, unix.EIO}

func (m *machine) begin() {
	m.run = newRun(m.host)
	m.run.note = func(what fmt.Stringer, err error) {
		m.history = append(m.history, done{what, err})
	}
	m.run.failing = func(s *reconcile.Step) error {
		// These verbs act on the event loop only, and can't fail because of the host.
		if !m.errors || slices.Contains([]reconcile.Verb{reconcile.Stop, reconcile.Add, reconcile.Remove, reconcile.Update}, s.Verb) {
			return nil
		}
		if n := rapid.IntRange(0, 4*len(errnos)).Draw(m.t, "errno"); n > 0 && n <= len(errnos) {
			return errnos[n-1]
		}
		return nil
	}
	m.run.meanwhile = m.meanwhile
	do := make(map[reconcile.Verb]reconcile.Executor)
	executor := reconcile.Executor(m.run)
	if m.wrong != nil {
		executor = m.wrong(m.run)
	}
	for v := reconcile.Stop; v <= reconcile.Erase; v++ {
		do[v] = executor
	}
	m.runner = reconcile.New(m.faults, []reconcile.Executor{executor}, do)
}

// meanwhile happens between two steps: the worker works, elections take place, or the daemon is
// killed.
func (m *machine) meanwhile() {
	if m.kill > 0 {
		if m.kill--; m.kill == 0 {
			panic(killed{})
		}
	}
	if m.calm {
		return
	}
	switch rapid.IntRange(0, 11).Draw(m.t, "meanwhile") {
	case 1:
		m.run.work()
	case 2:
		m.elect()
	}
}

func (m *machine) elect() {
	var all []*plan.LoopState
	for _, l := range m.run.loop {
		if l.Binding != nil && !l.V.Router.OwnsAddresses() {
			all = append(all, l)
		}
	}
	if len(all) == 0 {
		return
	}
	slices.SortFunc(all, func(a, b *plan.LoopState) int { return strings.Compare(a.V.String(), b.V.String()) })
	l := all[0]
	if len(all) > 1 {
		l = all[rapid.IntRange(0, len(all)-1).Draw(m.t, "router")]
	}
	m.note("%s becomes %s", l.V.ID, map[bool]string{true: "Backup", false: "Active"}[l.Active])
	m.run.elect(l)
}

// alive runs f, during which the daemon may be killed. After that, the next run or --cleanup
// removes what is left.
func (m *machine) alive(f func()) {
	defer func() {
		switch p := recover(); p.(type) {
		case nil:
		case killed:
			m.note("killed")
			m.recover()
		default:
			panic(p)
		}
		if m.run.violated != "" {
			m.fail("%s", m.run.violated)
		}
	}()
	f()
}

// recover undoes what a killed run has left. Each part may be tried twice.
func (m *machine) recover() {
	m.kill, m.result = 0, reconcile.Result{}
	if !m.calm && rapid.Bool().Draw(m.t, "in time") {
		if heirs := m.heirs(); len(heirs) > 0 {
			m.inherit(heirs, time.Duration(rapid.IntRange(0, 4).Draw(m.t, "seconds of the lease"))*time.Second)
			return
		}
	}
	for _, n := range slices.SortedFunc(maps.Keys(m.host.journal), func(a, b plan.Note) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) }) {
		if !m.calm && rapid.IntRange(0, 9).Draw(m.t, "recovery fails") == 0 {
			continue // the next try must cope with a half-finished recovery
		}
		m.host.undo(n)
	}
	for n := range m.host.journal {
		m.host.undo(n)
	}
	m.host.journal = make(map[plan.Note]bool)
	m.clean("after a kill and a clean-up")
	m.begin()
	if !m.calm && rapid.IntRange(0, 3).Draw(m.t, "only cleaned up") == 0 {
		m.note("only cleaned up, not started again")
		m.plan = plan.New(nil, nil)
	}
}

// heirs returns the Virtual Routers that continue if the next run starts while their leases last.
func (m *machine) heirs() map[plan.ID]*plan.Heir {
	all := make(map[plan.ID]*plan.Heir)
	for id, l := range m.run.loop {
		t := l.Binding
		if !l.Active || l.Assigned == 0 || t == nil || m.plan.VirtualRouter(id) != l.V {
			continue
		}
		i, on := m.host.interfaces[t.Ifindex], t.AddressIfindex()
		if i == nil || i.Name != id.Interface {
			continue
		}
		var device *link.Device
		if t.Device != 0 {
			made := link.NewDevice(t.Ifindex, id.Family, id.VRID)
			device = &made
			if d := m.host.interfaces[t.Device]; d == nil || !made.Is(*d) {
				continue
			}
		}
		h := &plan.Heir{V: l.V, Ifindex: t.Ifindex, Device: t.Device, MACMode: t.MACMode, Notes: l.V.Notes(t.Ifindex, i.Name, device)}
		if device != nil {
			for n := range m.host.journal {
				if s, is := n.(link.Setting); is && s.Ifindex == t.Ifindex {
					h.Notes = append(h.Notes, s)
				}
			}
		}
		fits := !slices.ContainsFunc(h.Notes, func(n plan.Note) bool { return !m.host.journal[n] })
		for _, a := range l.V.Assigned {
			fits = fits && m.host.has(on, a.Addr())
		}
		for _, a := range l.V.Fenced {
			fits = fits && m.run.slots[spot{t.Ifindex, a}] == id
		}
		if fits {
			all[id] = h
		}
	}
	return all
}

// inherit starts another run, which takes over what belongs to the heirs and undoes the rest.
func (m *machine) inherit(heirs map[plan.ID]*plan.Heir, lease time.Duration) {
	keep, old := make(map[plan.Note]bool), m.run
	for id, h := range heirs {
		m.note("%s may continue", id)
		for _, n := range h.Notes {
			keep[n] = true
		}
	}
	for n := range m.host.journal {
		if !keep[n] {
			m.host.undo(n)
		}
	}
	m.host.journal = keep
	m.begin()
	m.run.heirs, m.run.until = heirs, m.host.now.Add(lease)
	for at, id := range old.slots {
		if heirs[id] != nil {
			m.run.slots[at] = id
		}
	}
}

func (m *machine) reconcile() {
	m.alive(func() {
		var err error
		m.host.now++
		m.note("reconcile")
		m.result, err = m.runner.Run(m.plan, func() vrrp.Instant { return m.host.now })
		if err != nil {
			m.fail("%s", err)
		}
	})
}

// clean checks that nothing of failoverd is on the host.
func (m *machine) clean(when string) {
	h := m.host
	for at := range h.put {
		m.fail("%s %s is on interface %d", when, at.address, at.ifindex)
	}
	for n := range h.routing {
		m.fail("%s there is the %v", when, n)
	}
	for _, i := range h.interfaces {
		if i.Kind != "" {
			m.fail("%s there is %s", when, i.Name)
		}
	}
	for path, value := range h.sysctls {
		if value != 0 {
			m.fail("%s %s is %d", when, path, value)
		}
	}
	for at := range h.own {
		if !h.has(at.ifindex, at.address) {
			m.fail("%s %s of the host's is gone", when, at.address)
		}
	}
	if len(h.journal) > 0 {
		m.fail("%s the journal has %v", when, h.journal)
	}
}

// rest runs until nothing changes any more.
func (m *machine) rest() {
	m.errors, m.run.stale, m.calm, m.kill = false, false, true, 0
	for range 40 {
		m.host.now = m.host.now.Add(2 * reconcile.RetryMost)
		for len(m.run.jobs) > 0 {
			m.alive(m.run.work)
		}
		m.host.now++
		m.reconcile()
		if m.result.Settled && len(m.run.jobs) == 0 && len(m.result.Failed) == 0 {
			m.calm = false
			return
		}
	}
	var wants []string
	for _, w := range m.result.Want.Wants {
		wants = append(wants, fmt.Sprintf("%s: %s", w.V.ID, w.Obstacle))
	}
	m.fail("no rest: jobs %d, failed %v, wants %q", len(m.run.jobs), m.result.Failed, wants)
}

// quiet checks that the host is in the state of the plan when nothing changes any more.
func (m *machine) quiet() {
	m.rest()
	r := m.run
	may := m.entitled()
	virtual, notes, routes := make(map[spot]bool), make(map[plan.Note]bool), make(map[plan.Note]bool)
	for _, v := range m.plan.VirtualRouters {
		l := r.loop[v.ID]
		if l == nil || l.V != v || len(l.Withheld) > 0 || (l.Binding != nil) != may[v.ID] {
			m.fail("%s takes part: %v, but %v is right: %+v", v.ID, l != nil && l.Binding != nil, may[v.ID], m.waits(v.ID))
		}
		i := r.below(v.Interface)
		if i == nil {
			continue
		}
		device := link.NewDevice(i.Index, v.Family, v.VRID)
		for _, n := range append(v.Notes(i.Index, i.Name, nil), device) {
			notes[unnamed(n)] = true
		}
		if l.Binding != nil {
			m.member(v, l, i, device)
		}
		for _, p := range v.Assigned {
			if l.Active {
				virtual[spot{l.Binding.AddressIfindex(), p.Addr()}] = true
			}
		}
		for _, n := range goesWith(v) {
			routes[n] = l.Active
		}
	}
	for at, id := range r.put {
		if !virtual[at] {
			m.fail("%s stayed on interface %d, of %s", at.address, at.ifindex, id)
		}
	}
	for n := range r.routing {
		if !routes[n] {
			m.fail("the %v stayed", n)
		}
	}
	m.journal(notes)
	m.forgotten()
}

// member checks a Virtual Router that takes part.
func (m *machine) member(v *plan.VirtualRouter, l *plan.LoopState, i *link.Interface, device link.Device) {
	r, t := m.run, l.Binding
	e := r.entries[v.ID]
	if e != nil {
		e = r.entry(v.ID, e)
	}
	if e == nil || !e.Running || e.Ifindex != i.Index || !slices.Equal(e.Addresses, v.Fenced) || e.Source != t.Source || e.MACMode != t.MACMode {
		m.fail("%s: the kernel has %+v", v.ID, e)
	}
	for _, a := range v.Fenced {
		if slot := r.slots[spot{i.Index, a}]; slot != v.ID {
			m.fail("%s: the slot of %s is that of %s", v.ID, a, slot)
		}
	}
	if t.Ifindex != i.Index || t.Name != i.Name || t.MAC != i.MAC || !m.host.has(i.Index, t.Source) {
		m.fail("%s takes part %s", v.ID, t)
	}
	if h := r.hears[v.ID]; h != (plan.Subscription{Ifindex: i.Index, Unicast: v.Router.Unicast.On()}) || r.claims[v.ID] != i.Index {
		m.fail("%s is claimed on %d, and hears %+v", v.ID, r.claims[v.ID], h)
	}
	if (r.filters[v.ID] == i.Index) != (t.MACMode != config.VirtualMACOff) {
		m.fail("%s has the virtual MAC by %s, but the filter of %d has it", v.ID, t.MACMode, r.filters[v.ID])
	}
	if made := m.host.named(device.Name); (made != nil) != (t.MACMode == config.VirtualMACMacvlan) || made != nil && made.Index != t.Device {
		m.fail("%s has the virtual MAC by %s: %+v", v.ID, t.MACMode, made)
	}
	for _, p := range v.Assigned {
		if m.host.has(t.AddressIfindex(), p.Addr()) != l.Active {
			m.fail("%s: active is %v, but %s isn't so", v.ID, l.Active, p)
		}
	}
	for _, n := range goesWith(v) {
		if p, placed := n.(routing.Placed); placed && m.host.named(p.Interface) == nil {
			continue
		}
		if _, there := m.host.routing[n]; there != l.Active {
			m.fail("%s: active is %v, but the %v isn't so", v.ID, l.Active, n)
		}
	}
	for _, n := range v.Notes(i.Index, i.Name, nil) {
		if !r.journal[n] {
			m.fail("%s takes part, but %v isn't written down", v.ID, n)
		}
	}
}

// journal checks that the journal has no unneeded notes, and that settings have their old values.
func (m *machine) journal(notes map[plan.Note]bool) {
	below := make(map[int]bool)
	for _, i := range m.host.interfaces {
		if d, is := link.DeviceOf(i); is && d.Family == packet.IPv4 {
			below[i.Parent] = true
		}
	}
	for n := range m.host.journal {
		if s, is := n.(link.Setting); is && below[s.Ifindex] {
			continue
		}
		if !notes[unnamed(n)] {
			m.fail("%T %v is written down without need", n, n)
		}
	}
	for _, i := range m.host.interfaces {
		if i.Kind == "" && m.host.sysctls[arpAnnounce(i.Name)] != map[bool]int{true: 2}[below[i.Index]] {
			m.fail("the setting of %s is %d", i.Name, m.host.sysctls[arpAnnounce(i.Name)])
		}
	}
}

// unnamed returns a note without the name of the interface, which may have been different when it
// was written.
func unnamed(n plan.Note) plan.Note {
	if a, is := n.(link.JournalAddress); is {
		a.Name = ""
		return a
	}
	return n
}

// forgotten checks that nothing exists of Virtual Routers or ports that aren't in the plan.
func (m *machine) forgotten() {
	r := m.run
	for _, all := range []map[plan.ID]bool{keys(r.loop), keys(r.entries), keys(r.claims), keys(r.hears), keys(r.filters)} {
		for id := range all {
			if m.plan.VirtualRouter(id) == nil {
				m.fail("%s is still known", id)
			}
		}
	}
	for at, id := range r.slots {
		if e := r.entries[id]; e == nil || e.Ifindex != at.ifindex || !slices.Contains(e.Addresses, at.address) {
			m.fail("there is a slot for %s of %s", at.address, id)
		}
	}
	for name := range r.ports {
		if !slices.ContainsFunc(m.plan.VirtualRouters, func(v *plan.VirtualRouter) bool { return v.Interface == name }) {
			m.fail("the port %s is open", name)
		}
	}
	for _, i := range r.interfaces {
		if d, is := link.DeviceOf(i); is && !slices.ContainsFunc(m.plan.VirtualRouters, func(v *plan.VirtualRouter) bool { return d == link.NewDevice(i.Parent, v.Family, v.VRID) }) {
			m.fail("%s stayed", i.Name)
		}
	}
}

func keys[V any](m map[plan.ID]V) map[plan.ID]bool {
	all := make(map[plan.ID]bool, len(m))
	for id := range m {
		all[id] = true
	}
	return all
}

// entitled returns which Virtual Routers have to take part.
func (m *machine) entitled() map[plan.ID]bool {
	may := make(map[plan.ID]bool)
	group := make(map[string]bool) // groups with a member that can't take part
	for _, v := range m.plan.VirtualRouters {
		may[v.ID] = m.alone(v)
		group[v.Group] = group[v.Group] || !may[v.ID]
	}
	for _, v := range m.plan.VirtualRouters {
		may[v.ID] = may[v.ID] && (v.Group == "" || !group[v.Group])
	}
	return may
}

// alone reports whether a Virtual Router could take part if it were in no group.
func (m *machine) alone(v *plan.VirtualRouter) bool {
	r, rt := m.run, v.Router
	port, open := r.ports[v.Interface]
	i := r.below(v.Interface)
	switch {
	case !open || i == nil || !i.Up || !i.Running && !rt.WithoutCarrier || m.faults[rt.Name] != vrrp.CauseNone:
		return false
	case port.TC == "" && (rt.VirtualMAC == config.VirtualMACBPF || !rt.Accepts()):
		return false
	}
	source := false // there is an address of the host's own
	for _, a := range i.Addresses {
		addr := a.Prefix.Addr()
		scope := addr.Is4() || addr.IsLinkLocalUnicast() == plan.OnLinkOnly(rt.Unicast)
		source = source || packet.FamilyOf(addr) == v.Family && scope && !m.virtual(addr)
	}
	if from := rt.Unicast.Source(v.Family); from.IsValid() {
		source = r.own[spot{i.Index, from}]
	}
	if l := r.loop[v.ID]; l != nil && l.Binding != nil {
		return source // it is already running
	}
	for _, p := range rt.Addresses {
		if m.foreign(i.Index, p.Addr()) != rt.OwnsAddresses() || !p.Addr().IsLinkLocalUnicast() && m.elsewhere(i.Index, p.Addr()) {
			return false
		}
	}
	for _, e := range rt.Extra {
		a := e.Address.Addr()
		if e.Interface == elsewhere {
			continue // no other program uses this interface
		}
		if m.foreign(i.Index, a) || !a.IsLinkLocalUnicast() && m.elsewhere(i.Index, a) {
			return false
		}
	}
	return source
}

// foreign reports whether an interface has an address that failoverd hasn't added.
func (m *machine) foreign(ifindex int, a netip.Addr) bool {
	_, put := m.host.put[spot{ifindex, a}]
	return m.host.has(ifindex, a) && !put
}

// elsewhere reports whether another interface has such an address.
func (m *machine) elsewhere(ifindex int, a netip.Addr) bool {
	for index := range m.host.interfaces {
		if index != ifindex && m.foreign(index, a) {
			return true
		}
	}
	return false
}

// virtual reports whether an address is a virtual one. Such an address doesn't count as the
// host's own.
func (m *machine) virtual(a netip.Addr) bool {
	return slices.ContainsFunc(m.plan.Routers, func(o *plan.ConfiguredRouter) bool {
		return slices.ContainsFunc(o.Extra, func(e routing.Placed) bool { return e.Address.Addr() == a }) ||
			!o.OwnsAddresses() && slices.ContainsFunc(o.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
	})
}

func (m *machine) waits(id plan.ID) plan.Obstacle {
	for _, w := range m.result.Want.Wants {
		if w.V.ID == id {
			return w.Obstacle
		}
	}
	return plan.Obstacle{}
}

// routers draws a configuration from a small set of addresses and interfaces, so that addresses
// often move.
func routers(t *rapid.T) (all []*plan.ConfiguredRouter) {
	free := []string{"192.0.2.10/24", "192.0.2.11/24", "192.0.2.12/32", "fe80::10/64", "192.0.3.13/24", "fe80::11/64", "192.0.2.14/24", "2001:db8:2::10/64"}
	free = rapid.Permutation(free).Draw(t, "addresses")
	take := func(least, most int) (some []netip.Prefix) {
		n := min(len(free), rapid.IntRange(least, most).Draw(t, "count"))
		for _, a := range free[:n] {
			some = append(some, netip.MustParsePrefix(a))
		}
		free = free[n:]
		return some
	}
	rare := func(what string) bool { return rapid.IntRange(0, 5).Draw(t, what) == 0 }
	for n := range rapid.IntRange(0, 4).Draw(t, "routers") {
		r := config.Router{
			Name: fmt.Sprintf("r%d", n), Interface: []string{"eth0", "eth1"}[n%2], VRID: 1 + n/2, Version: 3, Priority: 100, Interval: time.Second, DownAfter: 3,
			Accept: !rare("accept"), XDPMode: []string{"auto", "off"}[rapid.IntRange(0, 1).Draw(t, "xdp_mode")*(n%2)],
			VirtualMAC:       rapid.SampledFrom([]config.VirtualMAC{config.VirtualMACAuto, config.VirtualMACOff, config.VirtualMACMacvlan, config.VirtualMACBPF}).Draw(t, "virtual_mac"),
			FamiliesTogether: rapid.Bool().Draw(t, "families_together"),
			WithoutCarrier:   rare("without_carrier"),
		}
		if rare("owner") && n < 2 { // one owner for each interface
			r.Priority, r.Addresses = config.OwnerPriority, []netip.Prefix{addresses(r.Interface)[1]}
			if r.VirtualMAC == config.VirtualMACMacvlan {
				r.VirtualMAC = config.VirtualMACAuto
			}
		} else if r.Addresses = take(1, 3); rare("group") {
			r.Group = "g"
		} else if rare("add_addresses") {
			r.Priority, r.AddAddresses = config.OwnerPriority, true
		}
		if rare("routing") && r.Priority != config.OwnerPriority {
			r.Routes = []routing.Route{{To: netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/32", n)), Interface: r.Interface, Table: 254, Type: "unicast"}}
			r.Rules = []routing.Rule{{From: netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/32", n)), Table: 100, Priority: 1000 + n}}
			r.Extra = []routing.Placed{{Address: netip.MustParsePrefix(fmt.Sprintf("198.51.100.10%d/32", n)), Interface: elsewhere}}
		}
		if rare("extra_addresses") {
			for _, p := range take(1, 2) {
				r.Extra = append(r.Extra, routing.Placed{Address: p, Interface: r.Interface})
			}
		}
		if rare("unicast") {
			r.Unicast = config.Unicast{Peers: []config.Peer{config.NewPeer(netip.MustParseAddr("192.0.2.77")), config.NewPeer(netip.MustParseAddr("2001:db8:2::77"))}, TTL: 255}
			if rare("source") {
				r.Unicast.Sources = []netip.Addr{addresses(r.Interface)[rapid.IntRange(0, 1).Draw(t, "source")].Addr()}
			}
		}
		if r = changes[rapid.IntRange(0, len(changes)-1).Draw(t, "key")].apply(r); len(r.Addresses) > 0 {
			all = append(all, &plan.ConfiguredRouter{Router: r, Index: n})
		}
	}
	for _, r := range all { // all routers of an interface have the same mode
		r.XDPMode = all[slices.IndexFunc(all, func(o *plan.ConfiguredRouter) bool { return o.Interface == r.Interface })].XDPMode
	}
	return all
}

// play plays one sequence, and returns the violation with its history; empty if there is none.
func (m *machine) play() (wrong string) {
	defer func() {
		if p := recover(); p != nil {
			text, is := p.(violation)
			if !is {
				panic(p)
			}
			lines := []string{string(text)}
			for _, line := range m.history {
				lines = append(lines, line.String())
			}
			wrong = strings.Join(lines, "\n")
		}
	}()
	m.host, m.faults, m.plan = newHost(), make(surroundings), plan.New(nil, nil)
	m.begin()
	for range rapid.IntRange(1, 25).Draw(m.t, "steps") {
		m.act()
	}
	m.quiet()
	m.plan = plan.New(nil, m.plan)
	m.note("stop")
	m.quiet()
	m.clean("after the end")
	if r := m.run; len(r.ports)+len(r.claims)+len(r.hears)+len(r.filters)+len(r.entries)+len(r.slots)+len(r.loop)+len(r.heirs) > 0 {
		m.fail("something stayed: %+v", r)
	}
	return ""
}

// acts are the random events; the more interesting ones are more frequent.
var acts = []struct {
	often int
	what  func(*machine)
}{
	{4, (*machine).reload},
	{4, (*machine).elect},
	{2, (*machine).works},
	{1, (*machine).link},
	{1, (*machine).replug},
	{1, (*machine).rename},
	{1, (*machine).fault},
	{1, (*machine).take},
	{1, (*machine).add},
	{1, (*machine).unmake},
	{1, (*machine).reset},
	{1, (*machine).unslot},
	{1, (*machine).detach},
	{1, (*machine).renumber},
	{1, func(m *machine) { m.errors = !m.errors }},
	{1, func(m *machine) { m.run.stale = !m.run.stale }},
	{1, func(m *machine) {
		m.kill = rapid.IntRange(1, 20).Draw(m.t, "steps")
		m.note("to be killed after %d steps", m.kill)
	}},
}

var bag = func() (all []func(*machine)) {
	for _, a := range acts {
		for range a.often {
			all = append(all, a.what)
		}
	}
	return all
}()

func (m *machine) act() {
	bag[rapid.IntRange(0, len(bag)-1).Draw(m.t, "what")](m)
	if rapid.IntRange(0, 4).Draw(m.t, "at once") == 0 {
		return // another event happens before the next look
	}
	m.host.now = m.host.now.Add(time.Duration(rapid.IntRange(0, 2).Draw(m.t, "seconds")) * time.Second)
	m.reconcile()
}

// pick draws an interface; nil if it doesn't exist or was renamed.
func (m *machine) pick() *link.Interface {
	return m.host.named([]string{"eth0", "eth1"}[rapid.IntRange(0, 1).Draw(m.t, "interface")])
}

func (m *machine) reload() {
	all := routers(m.t)
	if len(m.plan.Routers) > 1 && rapid.IntRange(0, 3).Draw(m.t, "swap") == 0 {
		all = swapped(m.plan.Routers)
	}
	m.plan = plan.New(all, m.plan)
	m.note("reload")
	for _, v := range m.plan.VirtualRouters {
		m.note("  %s: %s virtual_mac %s, %v of %v, accept %v, xdp_mode %s, %s", v.ID, v.Router.Name, v.Router.VirtualMAC, v.Assigned, v.Fenced, v.Router.Accept, v.Router.XDPMode, v.Group)
	}
}

// swapped returns the routers with the addresses of the first two exchanged, if neither is an
// owner.
func swapped(all []*plan.ConfiguredRouter) []*plan.ConfiguredRouter {
	a, b := *all[0], *all[1]
	if a.OwnsAddresses() || b.OwnsAddresses() {
		return all
	}
	a.Addresses, b.Addresses = b.Addresses, a.Addresses
	return append([]*plan.ConfiguredRouter{&a, &b}, all[2:]...)
}

func (m *machine) works() {
	m.note("work")
	for range rapid.IntRange(1, 4).Draw(m.t, "jobs") {
		m.alive(m.run.work)
	}
}

func (m *machine) link() {
	if i := m.pick(); i != nil {
		i.Running = !i.Running
		m.note("%s running %v", i.Name, i.Running)
	}
}

func (m *machine) replug() {
	if i := m.pick(); i != nil {
		m.note("unplug %s", i.Name)
		m.host.unplug(i)
		return
	}
	for _, name := range []string{"eth0", "eth1"} {
		if m.host.named(name) == nil && m.host.named("lan"+name) == nil {
			if old := m.host.gone[name]; old.Index != 0 && rapid.Bool().Draw(m.t, "again") {
				m.note("plug %s, as %d again", name, old.Index)
				m.host.again(name)
				continue
			}
			m.note("plug %s", name)
			m.host.plug(name)
		}
	}
}

func (m *machine) rename() {
	if i := m.pick(); i != nil && m.host.named("lan"+i.Name) == nil {
		m.note("%s is renamed", i.Name)
		m.host.rename(i, "lan"+i.Name)
		return
	}
	for _, name := range []string{"eth0", "eth1"} {
		if i := m.host.named("lan" + name); i != nil && m.host.named(name) == nil {
			m.note("%s is %s again", i.Name, name)
			m.host.rename(i, name)
		}
	}
}

func (m *machine) fault() {
	name := []string{"r0", "r1", "r2"}[rapid.IntRange(0, 2).Draw(m.t, "router")]
	m.faults[name] = map[vrrp.Cause]vrrp.Cause{vrrp.CauseNone: vrrp.CauseFault}[m.faults[name]]
	m.note("fault of %s: %v", name, m.faults[name])
}

// take makes another program remove a virtual address.
func (m *machine) take() {
	for _, at := range slices.SortedFunc(maps.Keys(m.host.put), func(a, b spot) int { return a.address.Compare(b.address) }) {
		m.note("a stranger removes %s", at.address)
		m.host.release(at.ifindex, at.address)
		return
	}
}

// add makes another program add a virtual address of a Backup.
func (m *machine) add() {
	for _, v := range m.plan.VirtualRouters {
		if l := m.run.loop[v.ID]; l != nil && l.Binding != nil && !l.Active && l.V == v && len(v.Assigned) > 0 {
			m.note("a stranger adds %s", v.Assigned[0])
			m.host.assign(l.Binding.AddressIfindex(), v.Assigned[0], plan.ID{})
			return
		}
	}
}

func (m *machine) unmake() {
	for _, index := range slices.Sorted(maps.Keys(m.host.interfaces)) {
		if i := m.host.interfaces[index]; i.Kind != "" {
			m.note("a stranger removes %s", i.Name)
			m.host.unplug(i)
			return
		}
	}
}

func (m *machine) reset() {
	if i := m.pick(); i != nil {
		m.note("a stranger resets a setting of %s", i.Name)
		m.host.sysctls[arpAnnounce(i.Name)] = 0
	}
}

// unslot makes another program delete an address from the BPF map, but not while the address is
// being moved, because then nothing says whose it is.
func (m *machine) unslot() {
	errors, stale, kill := m.errors, m.run.stale, m.kill
	m.calm, m.errors, m.run.stale, m.kill = true, false, false, 0
	m.reconcile()
	for _, at := range slices.SortedFunc(maps.Keys(m.run.slots), func(a, b spot) int { return a.address.Compare(b.address) }) {
		if l := m.run.loop[m.run.slots[at]]; l == nil || l.Changing() || !m.result.Settled || len(m.result.Failed) > 0 {
			continue
		}
		m.note("a stranger deletes the slot of %s", at.address)
		delete(m.run.slots, at)
		m.run.bare[at] = true
		break
	}
	m.host.now = m.host.now.Add(2 * reconcile.RetryMost)
	m.reconcile()
	m.calm, m.errors, m.run.stale, m.kill = false, errors, stale, kill
}

// detach makes another program detach the programs of a port.
func (m *machine) detach() {
	for _, name := range slices.Sorted(maps.Keys(m.run.ports)) {
		m.note("a stranger detaches the programs of %s", name)
		delete(m.run.ports, name)
		return
	}
}

// renumber makes the administrator remove an address of the host, or add it again.
func (m *machine) renumber() {
	i := m.pick()
	if i == nil {
		return
	}
	for _, p := range addresses(i.Name) {
		if !m.host.has(i.Index, p.Addr()) {
			m.note("%s of the host's is back", p)
			m.host.configure(i, p)
			return
		}
	}
	p := addresses(i.Name)[rapid.IntRange(0, 3).Draw(m.t, "address")]
	m.note("%s of the host's is removed", p)
	delete(m.host.own, spot{i.Index, p.Addr()})
	m.host.release(i.Index, p.Addr())
}

// sequences is the number of sequences unless the command line sets it.
const sequences = 5000

// TestModel plays random sequences of reloads, events of interfaces, interference by other
// programs, failing steps, and kills. At every moment, each virtual address on the host is in the
// journal and behind the fence of its own Virtual Router. At rest, the host is in the state of
// the plan. After the end, it is as it was before.
func TestModel(t *testing.T) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		before := flag.Lookup("rapid.checks").Value.String()
		if err := flag.Set("rapid.checks", strconv.Itoa(sequences)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := flag.Set("rapid.checks", before); err != nil {
				t.Error(err)
			}
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		if wrong := (&machine{t: t}).play(); wrong != "" {
			t.Fatal(wrong)
		}
	})
}
