// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/observe"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/script"
	"github.com/failoverd/failoverd/pkg/track"
	"github.com/failoverd/failoverd/pkg/transmit"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// tracks runs the checks, and turns their results into faults and weights of routers.
type tracks struct {
	tracker    *track.Tracker
	conditions *conditions
	history    *control.History
	budget     *observe.LogBudget
	log        *logrus.Logger
	monitor    *link.Monitor
	routes     *link.RouteMonitor

	mu         sync.Mutex
	routers    map[string]config.Router      // the routers that depend on checks, by name
	virtual    link.AddressSet               // the virtual addresses
	configured map[string]bool               // the names of all configured routers
	reports    map[string]track.Report       // by the check's name
	ids        map[string][]router.ID        // of all routers, by name
	states     map[router.ID]vrrp.State      // no entry means Initialize
	applied    map[string]map[string]applied // by router and check
	logged     map[string]lastLogged         // by the check's name
}

// lastLogged is when a change of a check was last logged.
type lastLogged struct {
	at         time.Time
	suppressed uint64 // the number of changes since then that were not logged
}

// applied is the current effect of a check on a router.
type applied struct {
	delta int
	fault bool
}

func newTracks(runner *script.Runner, monitor *link.Monitor, c *conditions, h *control.History, budget *observe.LogBudget, log *logrus.Logger) (*tracks, error) {
	t := &tracks{conditions: c, history: h, budget: budget, log: log, monitor: monitor, logged: make(map[string]lastLogged), states: make(map[router.ID]vrrp.State), applied: make(map[string]map[string]applied)}
	t.tracker = track.New(track.Sources{Runner: runner, Network: hostNetwork{t}, Routers: t, Ping: sendEcho, Solicit: t.solicit}, t.report)
	var err error
	if t.routes, err = link.NewRouteMonitor(func() { t.poke(track.Route) }); err != nil {
		return nil, err
	}
	monitor.Subscribe(func() { t.poke(track.Interface, track.Address) })
	return t, nil
}

func (t *tracks) close() { t.routes.Close() }

func (t *tracks) poke(kinds ...track.Kind) {
	t.tracker.Poke(func(c track.Check) bool { return slices.Contains(kinds, c.Kind) })
}

// set runs the checks of a configuration. New routers wait for the first result of their checks;
// for others the known result stays in effect.
func (t *tracks) set(f *config.File) error {
	checks, routes := checksOf(f)
	if err := t.routes.Watch(routes); err != nil {
		return err
	}
	t.mu.Lock()
	before := t.configured
	t.routers, t.configured, t.ids = make(map[string]config.Router), make(map[string]bool), make(map[string][]router.ID)
	t.virtual = make(link.AddressSet) // a new one, because others read the old one
	for _, r := range f.Routers {
		t.virtual.Add(plan.VirtualAddresses(&r)...)
		t.configured[r.Name] = true
		for _, family := range plan.Families(&r) {
			t.ids[r.Name] = append(t.ids[r.Name], router.ID{Interface: r.Interface, Family: family, VRID: uint8(r.VRID)})
		}
		if len(r.Track) > 0 {
			t.routers[r.Name] = r
		}
	}
	t.mu.Unlock()

	var interfaces []string
	for _, c := range checks {
		switch c.Kind {
		case track.Interface:
			interfaces = append(interfaces, c.Target)
		case track.ARP:
			interfaces = append(interfaces, c.Targets.Interface)
		}
	}
	t.monitor.Watch("checks", interfaces)
	t.tracker.Set(checks)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reports = make(map[string]track.Report)
	for _, r := range t.tracker.Reports() {
		t.reports[r.Name] = r
	}
	maps.DeleteFunc(t.logged, func(name string, _ lastLogged) bool { _, there := t.reports[name]; return !there })
	for name, effects := range t.applied {
		for check := range effects {
			if r, there := t.routers[name]; !there || !depends(r, check) {
				t.apply(name, check, applied{}, "")
			}
		}
	}
	for name, r := range t.routers {
		for _, u := range r.Track {
			report := t.reports[u.Name]
			if report.State == track.Unknown && !before[name] {
				t.conditions.SetFault(name, sourceOf(u.Name), vrrp.CauseWaiting, "check "+u.Name+" has no result yet")
				continue
			}
			t.effect(r, u, report)
		}
	}
	return nil
}

func depends(r config.Router, check string) bool {
	return slices.ContainsFunc(r.Track, func(u config.Use) bool { return u.Name == check })
}

func sourceOf(check string) string { return "track " + check }

// report handles a result of a check.
func (t *tracks) report(r track.Report) {
	if !t.store(r) {
		return
	}
	t.history.Add(control.Event{Kind: "track", Name: r.Name, To: r.State.String(), Text: r.Text})
	held, ok := t.mayLog(time.Now(), r)
	if !ok {
		return
	}
	entry := observe.Suppressed(t.log.WithFields(logrus.Fields{"check": r.Name, "found": r.Text}), held)
	if r.State == track.Down {
		entry.Warn("check is down")
	} else {
		entry.Info("check is up")
	}
}

// mayLog reports whether a change of a check may be logged, and how many changes before it were
// not. The first change in a RepeatInterval is always logged, others as the budget allows,
// because other hosts and users can make a check change.
func (t *tracks) mayLog(now time.Time, r track.Report) (held uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.logged[r.Name]
	if now.Sub(last.at) >= observe.RepeatInterval {
		t.budget.Spend(now, len(r.Text))
	} else if !t.budget.Take(now, len(r.Text), observe.FindingsReserve) {
		last.suppressed++
		t.logged[r.Name] = last
		return 0, false
	}
	t.logged[r.Name] = lastLogged{at: now}
	return last.suppressed, true
}

// store stores a report, applies its effects, and reports whether it is a change worth an event.
func (t *tracks) store(r track.Report) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, there := t.reports[r.Name]
	if !there {
		return false // the check was removed in the meantime
	}
	t.reports[r.Name] = r
	for _, router := range t.routers {
		for _, u := range router.Track {
			if u.Name == r.Name {
				t.effect(router, u, r)
			}
		}
	}
	return before.State != r.State || r.Kind == track.File && before.Value != r.Value
}

// effect applies the result of a check to a router.
func (t *tracks) effect(r config.Router, u config.Use, report track.Report) {
	if report.State == track.Unknown {
		return // the last known result holds until there is a new one
	}
	delta, fault := track.Effect(report, u.Weight, u.Reverse)
	t.apply(r.Name, u.Name, applied{delta, fault}, fmt.Sprintf("check %s is %s: %s", u.Name, report.State, report.Text))
}

func (t *tracks) apply(router, check string, a applied, why string) {
	cause := vrrp.CauseNone
	if a.fault {
		cause = vrrp.CauseFault
	} else {
		why = ""
	}
	t.conditions.SetFault(router, sourceOf(check), cause, why)
	t.conditions.SetWeight(router, sourceOf(check), a.delta)
	if t.applied[router] == nil {
		t.applied[router] = make(map[string]applied)
	}
	if t.applied[router][check] = a; a == (applied{}) {
		delete(t.applied[router], check)
	}
}

// transition takes in a change of a router's state, for checks of kind router.
func (t *tracks) transition(e router.Transition) {
	t.mu.Lock()
	t.states[e.ID] = e.To
	t.mu.Unlock()
	t.poke(track.Router)
}

// State returns the states of a router's families.
func (t *tracks) State(name string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []string
	for _, id := range t.ids[name] {
		all = append(all, t.states[id].String())
	}
	return all
}

// dependencies returns what the status shows of the checks that a router depends on.
func (t *tracks) dependencies(name string) []control.Dependency {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []control.Dependency
	for _, u := range t.routers[name].Track {
		a := t.applied[name][u.Name]
		all = append(all, control.Dependency{
			Track: u.Name, State: t.reports[u.Name].State.String(), Weight: u.Weight, Reverse: u.Reverse, Change: a.delta, Fault: a.fault,
		})
	}
	return all
}

// all returns what the status shows of all checks.
func (t *tracks) all() []control.Track {
	var all []control.Track
	for _, r := range t.tracker.Reports() {
		c := control.Track{
			Name: r.Name, Kind: string(r.Kind), State: r.State.String(), Since: r.Since, Took: r.Took.Seconds(), Text: r.Text, Changes: r.Changes,
		}
		if !r.Looked.IsZero() {
			c.Looked = &r.Looked
		}
		if r.Kind == track.File {
			c.Value = &r.Value
		}
		if r.State == track.Down {
			c.Output = r.Output
		}
		all = append(all, c)
	}
	return all
}

func (t *tracks) run(ctx context.Context) error { return t.tracker.Run(ctx) }

// hostNetwork implements track.Network: it shows the checks the interfaces, addresses and routes
// of this host.
type hostNetwork struct{ *tracks }

func (s hostNetwork) Interface(name string) (bool, string) {
	i, err := findInterface(s.monitor.Snapshot(), name)
	switch {
	case err != nil:
		return false, err.Error()
	case !i.Up:
		return false, name + " is down"
	case !i.Running:
		return false, name + " has no carrier"
	}
	return true, name + " is up"
}

func findInterface(snapshot []link.Interface, name string) (link.Interface, error) {
	for _, i := range snapshot {
		if i.Name == name {
			return i, nil
		}
	}
	return link.Interface{}, fmt.Errorf("there is no interface %s", name)
}

func (s hostNetwork) Address(a netip.Addr) (bool, string) {
	for _, i := range s.monitor.Snapshot() {
		for _, has := range i.Addresses {
			switch {
			case has.Prefix.Addr() != a:
			case has.Tentative || has.DADFailed:
				return false, fmt.Sprintf("%s on %s can't be used, because another host may have it", a, i.Name)
			default:
				return true, i.Name + " has it"
			}
		}
	}
	return false, "no interface has " + a.String()
}

func (s hostNetwork) Route(r routing.Sought) (bool, string) {
	what := "route to " + r.Prefix.String()
	if r.Via.IsValid() {
		what += " via " + r.Via.String()
	}
	if s.routes.Has(r) {
		return true, what + " is there"
	}
	return false, "no " + what + " that can be used"
}

// sendEcho pings a host.
func sendEcho(target netip.Addr, ifname string) (track.Echo, error) {
	return transmit.SendEcho(target, ifname)
}

// solicit asks a neighbour for its MAC from an address of the interface that isn't a virtual one.
func (t *tracks) solicit(ctx context.Context, ifname string, neighbor netip.Addr) (answered bool, err error) {
	i, err := findInterface(t.monitor.Snapshot(), ifname)
	if err != nil {
		return false, err
	}
	if !i.IsEthernet() {
		return false, fmt.Errorf("%s has no MAC addresses: use ping instead of arp", ifname)
	}
	t.mu.Lock()
	virtual := t.virtual
	t.mu.Unlock()
	source := ownAddress(i, neighbor, virtual)
	if !source.IsValid() {
		return false, fmt.Errorf("%s has no IPv6 address of its own to ask from", ifname)
	}
	return transmit.Solicit(ctx, i.Index, i.MAC, source, neighbor)
}

// ownAddress returns the address of an interface from which to ask for a neighbour. For IPv4 it
// prefers one in the neighbour's network, and without any the request has no sender address.
func ownAddress(i link.Interface, neighbor netip.Addr, virtual link.AddressSet) netip.Addr {
	if neighbor.Is6() {
		if a := link.LinkLocalIPv6(i, virtual); a.IsValid() {
			return a
		}
		return link.GlobalIPv6(i, virtual)
	}
	near := i
	near.Addresses = slices.DeleteFunc(slices.Clone(i.Addresses), func(a link.Address) bool { return !a.Prefix.Contains(neighbor) })
	for _, on := range []link.Interface{near, i} {
		if a := link.PrimaryIPv4(on, virtual); a.IsValid() {
			return a
		}
	}
	return netip.IPv4Unspecified()
}
