// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/reconcile"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// surroundings are a router's, for the test.
type surroundings map[string]vrrp.Cause

func (s surroundings) Fault(name string) (vrrp.Cause, string) { return s[name], "" }
func (s surroundings) Priority(r config.Router) int           { return r.Priority }

// machine is a host on which runs of failoverd follow each other.
type machine struct {
	t       *rapid.T
	host    *host
	run     *run
	runner  *reconcile.Runner
	plan    *plan.Plan
	faults  surroundings
	errors  bool // steps fail at random
	result  reconcile.Result
	history []string
	wrong   wrongs
}

func (m *machine) note(format string, args ...any) {
	m.history = append(m.history, fmt.Sprintf(format, args...))
}

func (m *machine) begin() {
	m.run = newRun(m.host)
	m.run.wrong = m.wrong
	m.run.failing = func(s *reconcile.Step) error {
		if !m.errors || s.Verb == reconcile.Stop || s.Verb == reconcile.Add {
			return nil
		}
		if rapid.IntRange(0, 5).Draw(m.t, "fails") == 0 {
			return rapid.SampledFrom([]error{unix.ENOMEM, unix.ENOSPC, unix.EBUSY, unix.ENODEV}).Draw(m.t, "errno")
		}
		return nil
	}
	do := make(map[reconcile.Verb]reconcile.Executor)
	for v := reconcile.Stop; v <= reconcile.Strike; v++ {
		do[v] = m.run
	}
	m.runner = reconcile.New(m.faults, []reconcile.Executor{m.run}, do)
}

// reconcile runs the reconciler once. A kill ends the run at any step; the next one, or
// --cleanup, removes what it left.
func (m *machine) reconcile() {
	defer func() {
		m.history = append(m.history, m.run.log...)
		m.run.log = nil
		switch p := recover(); p.(type) {
		case nil:
		case killed:
			m.note("killed")
			m.result = reconcile.Result{}
			m.host.recover()
			m.clean("after a kill and a clean-up")
			m.begin()
		default:
			panic(p)
		}
		if m.run.violated != "" {
			m.fail(m.run.violated)
		}
	}()
	var err error
	m.host.now++
	m.result, err = m.runner.Run(m.plan, func() vrrp.Instant { return m.host.now })
	if err != nil {
		m.fail(err.Error())
	}
}

func (m *machine) fail(text string) {
	m.t.Helper()
	m.t.Fatalf("%s\n%s", text, strings.Join(m.history, "\n"))
}

// clean checks that nothing of failoverd's is on the host.
func (m *machine) clean(when string) {
	m.t.Helper()
	for at := range m.host.put {
		m.fail(fmt.Sprintf("%s %s is on interface %d", when, at.address, at.ifindex))
	}
	for _, i := range m.host.interfaces {
		if i.Kind != "" {
			m.fail(fmt.Sprintf("%s there is %s", when, i.Name))
		}
	}
	for path, value := range m.host.sysctls {
		if value != 0 {
			m.fail(fmt.Sprintf("%s %s is %d", when, path, value))
		}
	}
	if len(m.host.journal) > 0 {
		m.fail(fmt.Sprintf("%s the journal has %v", when, m.host.journal))
	}
}

// quiet lets everything come to rest, and checks that the host is what the plan says.
func (m *machine) quiet() {
	m.t.Helper()
	m.errors = false
	for n := range 40 {
		m.host.now = m.host.now.Add(2 * reconcile.RetryMost)
		m.run.work()
		m.host.now++
		m.reconcile()
		if m.result.Settled && len(m.run.jobs) == 0 && len(m.result.Failed) == 0 {
			break
		}
		if n == 39 {
			var wants []string
			for _, w := range m.result.Want.Wants {
				wants = append(wants, fmt.Sprintf("%s: %s", w.V.ID, w.Wait))
			}
			m.fail(fmt.Sprintf("no rest: jobs %d, failed %v, wants %q", len(m.run.jobs), m.result.Failed, wants))
		}
	}
	virtual := make(map[spot]bool)
	for _, v := range m.plan.Virtuals {
		i := m.host.interfaces[m.run.ports[v.Interface].Ifindex]
		l := m.run.loop[v.ID]
		taken := false
		if i != nil {
			for _, a := range v.Assigned { // by a stranger
				for _, o := range m.host.interfaces {
					taken = taken || m.host.has(o.Index, a.Addr()) && (l == nil || l.Take == nil)
				}
			}
		}
		may := i != nil && i.Up && i.Running && m.faults[v.Router.Name] == vrrp.CauseNone && !taken && m.group(v)
		if l == nil || (l.Take != nil) != may {
			m.fail(fmt.Sprintf("%s takes part: %v, but %v is right: %+v", v.ID, l != nil && l.Take != nil, may, m.waits(v.ID)))
		}
		if !may {
			continue
		}
		if !m.run.entries[v.ID].Running || l.V != v || len(l.Less) > 0 {
			m.fail(fmt.Sprintf("%s has another configuration: %+v", v.ID, l))
		}
		for _, p := range v.Assigned {
			at := spot{l.Take.On(), p.Addr()}
			virtual[at] = true
			if m.host.has(at.ifindex, at.address) != l.Active {
				m.fail(fmt.Sprintf("%s: active is %v, but %s isn't so", v.ID, l.Active, p))
			}
		}
	}
	for at := range m.host.put {
		if !virtual[at] {
			m.fail(fmt.Sprintf("%s stayed on interface %d", at.address, at.ifindex))
		}
	}
	for id := range m.run.entries {
		if m.plan.Virtual(id) == nil {
			m.fail(fmt.Sprintf("the kernel still knows %s", id))
		}
	}
}

// group reports whether all members of a router's group can take part.
func (m *machine) group(v *plan.Virtual) bool {
	if v.Group == "" {
		return true
	}
	for _, w := range m.result.Want.Wants {
		if w.V.Group == v.Group && w.Wait.Cause != vrrp.CauseNone && w.Wait.Cause != vrrp.CauseGroup {
			return false
		}
	}
	return true
}

func (m *machine) waits(id plan.ID) plan.Obstacle {
	for _, w := range m.result.Want.Wants {
		if w.V.ID == id {
			return w.Wait
		}
	}
	return plan.Obstacle{}
}

// routers draws a configuration: few of everything, so that addresses move about.
func routers(t *rapid.T) (all []*plan.Router) {
	free := []string{"192.0.2.10/24", "192.0.2.11/24", "192.0.2.12/32", "fe80::10/64", "192.0.3.13/24", "fe80::11/64", "192.0.2.14/24"}
	free = rapid.Permutation(free).Draw(t, "addresses")
	for n := range rapid.IntRange(0, 4).Draw(t, "routers") {
		r := config.Router{
			Name: fmt.Sprintf("r%d", n), Interface: []string{"eth0", "eth1"}[n%2], VRID: 1 + n/2, Version: 3, Priority: 100, Interval: time.Second, DownAfter: 3,
			Accept: true, XDPMode: []string{"auto", "off"}[rapid.IntRange(0, 1).Draw(t, "xdp_mode")*(n%2)],
			VirtualMAC:       rapid.SampledFrom([]config.VirtualMAC{config.VirtualMACAuto, config.VirtualMACOff, config.VirtualMACMacvlan}).Draw(t, "virtual_mac"),
			FamiliesTogether: rapid.Bool().Draw(t, "families_together"),
		}
		if rapid.IntRange(0, 3).Draw(t, "version") == 0 {
			r.Interval = 2 * time.Second
		}
		take := min(len(free), rapid.IntRange(1, 3).Draw(t, "count"))
		for _, a := range free[:take] {
			r.Addresses = append(r.Addresses, netip.MustParsePrefix(a))
		}
		if free = free[take:]; take > 0 {
			all = append(all, &plan.Router{Router: r, Index: n})
		}
	}
	for _, r := range all { // of an interface there is one
		r.XDPMode = all[slices.IndexFunc(all, func(o *plan.Router) bool { return o.Interface == r.Interface })].XDPMode
	}
	return all
}

// check plays one sequence.
func (m *machine) check() {
	m.host, m.faults, m.plan = newHost(), make(surroundings), plan.New(nil, nil)
	m.begin()
	for range rapid.IntRange(1, 25).Draw(m.t, "steps") {
		m.act()
	}
	// Strangers take away what they have put there.
	m.quiet()
	m.plan = plan.New(nil, m.plan)
	m.note("stop")
	m.quiet()
	m.clean("after the end")
	if len(m.run.ports)+len(m.run.claims)+len(m.run.hears)+len(m.run.filters)+len(m.run.entries)+len(m.run.slots)+len(m.run.loop) > 0 {
		m.fail(fmt.Sprintf("something stayed: %+v", m.run))
	}
}

func (m *machine) act() {
	t, h := m.t, m.host
	pick := func(name string) *link.Interface {
		return h.named(rapid.SampledFrom([]string{"eth0", "eth1"}).Draw(t, name))
	}
	switch what := rapid.SampledFrom([]string{"reload", "reload", "elect", "elect", "work", "link", "replug", "rename", "fault", "remove", "add", "unmake", "kill", "errors", "sysctl", "loose"}).Draw(t, "what"); what {
	case "reload":
		m.plan = plan.New(routers(t), m.plan)
		m.note("reload")
		for _, v := range m.plan.Virtuals {
			m.note("  %s %s %v %s", v.ID, v.Router.VirtualMAC, v.Assigned, v.Router.XDPMode)
		}
	case "elect":
		ids := slices.SortedFunc(maps.Keys(m.run.loop), func(a, b plan.ID) int { return strings.Compare(a.String(), b.String()) })
		if len(ids) == 0 {
			return
		}
		l := m.run.loop[rapid.SampledFrom(ids).Draw(t, "router")]
		if l.Take == nil {
			return
		}
		m.note("elect %s: active %v", l.V.ID, !l.Active)
		if l.Active {
			m.run.deactivate(l)
		} else {
			m.run.activate(l)
		}
	case "work":
		m.note("work")
		m.run.work()
	case "link":
		if i := pick("interface"); i != nil {
			i.Running = !i.Running
			m.note("%s running %v", i.Name, i.Running)
		}
	case "replug":
		if i := pick("interface"); i != nil {
			m.note("unplug %s", i.Name)
			h.unplug(i)
		} else {
			for n, name := range []string{"eth0", "eth1"} {
				if h.named(name) == nil && h.named("lan"+name) == nil {
					m.note("plug %s", name)
					h.plug(name, n)
				}
			}
		}
	case "rename":
		if i := pick("interface"); i != nil && h.named("lan"+i.Name) == nil {
			m.renamed(i, "lan"+i.Name)
		} else if i := h.named("laneth0"); i != nil && h.named("eth0") == nil {
			m.renamed(i, "eth0")
		}
	case "fault":
		name := rapid.SampledFrom([]string{"r0", "r1", "r2"}).Draw(t, "router")
		if m.faults[name] == vrrp.CauseNone {
			m.faults[name] = vrrp.CauseFault
		} else {
			m.faults[name] = vrrp.CauseNone
		}
		m.note("fault %s %v", name, m.faults[name])
	case "remove":
		for _, at := range slices.SortedFunc(maps.Keys(h.put), func(a, b spot) int { return a.address.Compare(b.address) }) {
			m.note("a stranger removes %s", at.address)
			h.release(at.ifindex, at.address)
			break
		}
	case "add":
		for _, v := range m.plan.Virtuals {
			if l := m.run.loop[v.ID]; l != nil && l.Take != nil && !l.Active && l.V == v && len(v.Assigned) > 0 {
				m.note("a stranger adds %s", v.Assigned[0])
				h.assign(l.Take.On(), v.Assigned[0], plan.ID{})
				break
			}
		}
	case "unmake":
		for _, index := range slices.Sorted(maps.Keys(h.interfaces)) {
			if i := h.interfaces[index]; i.Kind != "" {
				m.note("a stranger removes %s", i.Name)
				h.unplug(i)
				break
			}
		}
	case "sysctl":
		if i := pick("interface"); i != nil {
			m.note("a stranger resets a setting of %s", i.Name)
			h.sysctls["ipv4/conf/"+i.Name+"/arp_announce"] = 0
		}
	case "kill":
		m.run.killAfter = rapid.IntRange(1, 12).Draw(t, "steps")
		m.note("to be killed after %d steps", m.run.killAfter)
	case "errors":
		m.errors = !m.errors
	case "loose": // nothing is reconciled between this and the next
		return
	}
	h.now = h.now.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "seconds")) * time.Second)
	m.reconcile()
}

func (m *machine) renamed(i *link.Interface, name string) {
	m.note("%s is renamed to %s", i.Name, name)
	from, to := "ipv4/conf/"+i.Name+"/arp_announce", "ipv4/conf/"+name+"/arp_announce"
	m.host.sysctls[to] = m.host.sysctls[from]
	delete(m.host.sysctls, from)
	i.Name = name
}

// TestModel plays random sequences of reloads, events of interfaces, strangers, steps that
// fail, and kills. At every moment each virtual address on the host is in the journal and
// behind the fence by its own slot; at rest the host is what the plan says; after the end
// it is what it was before.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { (&machine{t: t}).check() })
}
