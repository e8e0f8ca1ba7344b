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
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// tracks has the checks run, and makes conditions of what they find.
type tracks struct {
	tracker    *track.Tracker
	conditions *conditions
	history    *control.History
	room       *observe.LogBudget
	log        *logrus.Logger
	monitor    *link.Monitor
	routes     *link.RouteMonitor

	mu      sync.Mutex
	routers map[string]config.Router      // that depend on something, by name
	known   map[string]bool               // routers that run
	reports map[string]track.Report       // by the check's name
	ids     map[string][]router.ID        // of all routers, by name
	states  map[router.ID]vrrp.State      // without an entry: Initialize
	applied map[string]map[string]applied // by router and check
	told    map[string]told               // by the check's name
}

// told is what was last logged of a check.
type told struct {
	at   time.Time
	held uint64 // changes that weren't since then
}

// applied is what a check does to a router now.
type applied struct {
	delta int
	fault bool
}

func newTracks(runner *script.Runner, monitor *link.Monitor, c *conditions, h *control.History, room *observe.LogBudget, log *logrus.Logger) (*tracks, error) {
	t := &tracks{conditions: c, history: h, room: room, log: log, monitor: monitor, told: make(map[string]told), states: make(map[router.ID]vrrp.State), applied: make(map[string]map[string]applied)}
	t.tracker = track.New(track.Sources{Runner: runner, Network: surroundings{t}, Routers: t}, t.report)
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

// set has the checks of a configuration run. Routers that are new wait for the
// first look of theirs; others go on with what is known.
func (t *tracks) set(f *config.File) error {
	checks, routes := checksOf(f)
	if err := t.routes.Watch(routes); err != nil {
		return err
	}
	t.mu.Lock()
	before := t.known
	t.routers, t.known, t.ids = make(map[string]config.Router), make(map[string]bool), make(map[string][]router.ID)
	for _, r := range f.Routers {
		t.known[r.Name] = true
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
		if c.Kind == track.Interface {
			interfaces = append(interfaces, c.Target)
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
	maps.DeleteFunc(t.told, func(name string, _ told) bool { _, there := t.reports[name]; return !there })
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
				t.conditions.SetFault(name, sourceOf(u.Name), vrrp.CauseWaiting, "check "+u.Name+" has not been looked at yet")
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

// report takes what a check has found.
func (t *tracks) report(r track.Report) {
	if !t.take(r) {
		return
	}
	t.history.Add(control.Event{Kind: "track", Name: r.Name, To: r.State.String(), Text: r.Text})
	held, ok := t.mayTell(time.Now(), r)
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

// mayTell reports whether a change is logged, and after how many that weren't: the first
// one in a while is, and others if there is room. What a check looks at may be anybody's.
func (t *tracks) mayTell(now time.Time, r track.Report) (held uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.told[r.Name]
	if now.Sub(last.at) >= observe.RepeatInterval {
		t.room.Spend(now, len(r.Text))
	} else if !t.room.Take(now, len(r.Text), observe.FindingsReserve) {
		last.held++
		t.told[r.Name] = last
		return 0, false
	}
	t.told[r.Name] = told{at: now}
	return last.held, true
}

// take reports whether it is worth an event.
func (t *tracks) take(r track.Report) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, there := t.reports[r.Name]
	if !there {
		return false // it was removed meanwhile
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

// effect has a check do to a router what it has to, now.
func (t *tracks) effect(r config.Router, u config.Use, report track.Report) {
	if report.State == track.Unknown {
		return // what was known before holds until the first look
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

// transition is told of each change of a router's state.
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

// dependencies says what a router depends on, for people.
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

// all says what is known of all checks.
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

// surroundings is what checks see of the host's network.
type surroundings struct{ *tracks }

func (s surroundings) Interface(name string) (bool, string) {
	i, err := named(s.monitor.Snapshot(), name)
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

func named(snapshot []link.Interface, name string) (link.Interface, error) {
	for _, i := range snapshot {
		if i.Name == name {
			return i, nil
		}
	}
	return link.Interface{}, fmt.Errorf("there is no interface %s", name)
}

func (s surroundings) Address(a netip.Addr) (bool, string) {
	for _, i := range s.monitor.Snapshot() {
		for _, has := range i.Addresses {
			switch {
			case has.Prefix.Addr() != a:
			case has.Tentative || has.DADFailed:
				return false, fmt.Sprintf("%s on %s can't be used: another host may have it", a, i.Name)
			default:
				return true, i.Name + " has it"
			}
		}
	}
	return false, "no interface has " + a.String()
}

func (s surroundings) Route(r routing.Sought) (bool, string) {
	what := "route to " + r.Prefix.String()
	if r.Via.IsValid() {
		what += " via " + r.Via.String()
	}
	if s.routes.Has(r) {
		return true, what + " is there"
	}
	return false, "no " + what + " that can be used"
}
