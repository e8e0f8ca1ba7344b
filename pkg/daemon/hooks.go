// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/notify"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/script"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// leaveTime is what hooks have in all when the daemon leaves.
const leaveTime = 10 * time.Second

// hooks have programs told of changes of state: one for each configured router,
// whose families are one to them, as they are to keepalived.
type hooks struct {
	dispatcher *notify.Dispatcher
	turns      *turns
	log        *logrus.Logger
	describe   func(router.Transition, config.Router) any
	hurry      <-chan struct{} // closed when leaving takes too long for somebody

	changing sync.Mutex // held for a whole change of what is here
	own      map[notify.Subject][]notify.Hook
	fifo     *notify.FIFO
	left     bool

	mu      sync.Mutex // also while changes are taken, so that they stay in their order
	routers map[router.ID]*hooked
	groups  map[string]*gathered
	shown   *notify.FIFO // for the status
}

// hooked is a configured router, as programs are told of it.
type hooked struct {
	config *config.Router
	states [2]notify.State // of its families; "": it has none, or nothing is known
	told   notify.State
}

// gathered is a group, as programs are told of it.
type gathered struct {
	config  config.Group
	members []*hooked
	told    notify.State
}

func newHooks(runner notify.Runner, turns *turns, report func(notify.Run), describe func(router.Transition, config.Router) any, hurry <-chan struct{}, log *logrus.Logger) *hooks {
	return &hooks{dispatcher: notify.New(runner, report), turns: turns, log: log, describe: describe, hurry: hurry, routers: make(map[router.ID]*hooked)}
}

// set makes a configuration's hooks those that are run from now on, with those of
// routers that it doesn't have any more, until prune: they have to be told that they
// stop. If that fails all stays as it is.
func (h *hooks) set(file *config.File) error {
	h.changing.Lock()
	defer h.changing.Unlock()
	if h.left {
		return errors.New("failoverd is about to end")
	}
	g := &file.Global
	user, err := scriptUser(g)
	if err != nil {
		return err
	}
	fifo := h.fifo
	if g.NotifyFIFO == "" {
		fifo = nil
	} else if fifo == nil || fifo.Path != g.NotifyFIFO {
		fifo, err = notify.OpenFIFO(g.NotifyFIFO, user, h.lost(g.NotifyFIFO))
		switch {
		case errors.Is(err, notify.ErrStranger): // who must not keep the addresses from being served
			h.log.WithError(err).Error("changes of state are not written to the FIFO until a reload finds it right")
		case err != nil:
			return fmt.Errorf("global.notify_fifo: %w", err)
		}
	}
	own := make(map[notify.Subject][]notify.Hook)
	h.mu.Lock()
	h.catchUp()
	for i := range file.Routers {
		r := &file.Routers[i]
		own[instanceOf(r.Name)] = hooksOf(&r.Hooks)
		h.know(r)
	}
	h.gather(file)
	for i := range file.Groups {
		own[groupOf(file.Groups[i].Name)] = hooksOf(&file.Groups[i].Hooks)
	}
	h.shown = fifo
	h.mu.Unlock()
	both := maps.Clone(h.own)
	if both == nil {
		both = own
	}
	maps.Copy(both, own)
	for _, err := range h.dispatcher.Configure(dispatch(g, both, user, fifo)) {
		h.log.WithError(err).Warn("a hook can't be run as it is")
	}
	h.own = own
	if h.fifo != nil && h.fifo != fifo {
		h.close("close the FIFO", h.fifo.Close)
	}
	h.fifo = fifo
	return nil
}

// prune forgets routers that a configuration doesn't have.
func (h *hooks) prune(file *config.File) {
	h.changing.Lock()
	defer h.changing.Unlock()
	user, err := scriptUser(&file.Global)
	if err != nil || h.left {
		return // it was there a moment ago
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.catchUp()
	h.dispatcher.Configure(dispatch(&file.Global, h.own, user, h.fifo))
	kept := make(map[router.ID]*hooked)
	for i := range file.Routers {
		for _, id := range idsOf(&file.Routers[i]) {
			kept[id] = h.routers[id]
		}
	}
	for id, r := range h.routers {
		if kept[id] == nil {
			*r.of(id.Family) = ""
		}
	}
	h.routers = kept
}

// know has the Virtual Routers of a configured router be one, with the state that is
// known of them.
func (h *hooks) know(r *config.Router) {
	ids := idsOf(r)
	var one *hooked
	for _, id := range ids {
		if one = h.routers[id]; one != nil {
			break
		}
	}
	if one == nil {
		one = new(hooked)
	}
	one.config = r
	for _, id := range ids {
		h.routers[id] = one
	}
}

// gather makes a file's groups of the routers that are known.
func (h *hooks) gather(file *config.File) {
	groups := make(map[string]*gathered)
	for _, c := range file.Groups {
		g := &gathered{config: c}
		if before := h.groups[c.Name]; before != nil {
			g.told = before.told
		}
		groups[c.Name] = g
	}
	for i := range file.Routers {
		r := &file.Routers[i]
		if g := groups[r.Group]; g != nil {
			g.members = append(g.members, h.routers[idsOf(r)[0]])
		}
	}
	h.groups = groups
}

func groupOf(name string) notify.Subject { return notify.Subject{Kind: notify.Group, Name: name} }

func idsOf(r *config.Router) []router.ID {
	var ids []router.ID
	for _, f := range plan.Families(r) {
		ids = append(ids, router.ID{Interface: r.Interface, Family: f, VRID: uint8(r.VRID)})
	}
	return ids
}

func instanceOf(name string) notify.Subject { return notify.Subject{Kind: notify.Instance, Name: name} }

func scriptUser(g *config.Global) (*script.Credential, error) {
	if g.ScriptUser == "" {
		return nil, nil
	}
	user, err := script.Lookup(g.ScriptUser)
	if err != nil {
		return nil, fmt.Errorf("global.script_user: %w: make it, or name another", err)
	}
	return user, nil
}

func dispatch(g *config.Global, own map[notify.Subject][]notify.Hook, user *script.Credential, fifo *notify.FIFO) notify.Config {
	c := notify.Config{Hooks: own, User: user, Insecure: g.AllowInsecureScripts, FIFO: fifo}
	if len(g.Notify) > 0 {
		c.Common = []notify.Hook{{Setting: "global.notify", Command: g.Notify, Timeout: g.NotifyTimeout}}
	}
	return c
}

// hooksOf are the hooks of a router, in keepalived's order.
func hooksOf(c *config.Hooks) []notify.Hook {
	var all []notify.Hook
	for _, h := range []notify.Hook{
		{Setting: "notify_active", Command: c.Active, On: notify.Master},
		{Setting: "notify_backup", Command: c.Backup, On: notify.Backup},
		{Setting: "notify_fault", Command: c.Fault, On: notify.Fault},
		{Setting: "notify_stop", Command: c.Stop, On: notify.Stop},
		{Setting: "notify", Command: c.Any},
	} {
		if h.Timeout = c.Timeout; len(h.Command) > 0 {
			all = append(all, h)
		}
	}
	return all
}

// run has the changes of state told until ctx ends.
func (h *hooks) run(ctx context.Context) error {
	for {
		select {
		case <-h.turns.wake:
			h.mu.Lock()
			h.catchUp()
			h.mu.Unlock()
		case <-ctx.Done():
			return nil
		}
	}
}

// catchUp has told what has happened so far. h.mu is held.
func (h *hooks) catchUp() {
	for _, t := range h.turns.take() {
		h.transition(t)
	}
}

// transition has a change of state told. h.mu is held.
func (h *hooks) transition(t router.Transition) {
	r := h.routers[t.ID]
	if r == nil {
		return
	}
	*r.of(t.ID.Family) = notifyState(t.To, t.Cause)
	h.tell(r, notify.Event{
		Priority: int(t.Own), Cause: t.Why(), Time: timeOf(t),
		Describe: h.description(t, r),
	})
}

// timeOf is when a change of state was.
func timeOf(t router.Transition) time.Time {
	if t.When == 0 {
		return time.Now()
	}
	return time.Now().Add(t.When.Sub(process.Clock{}.Now()))
}

// description is what describes a router later, when a program is run.
func (h *hooks) description(t router.Transition, r *hooked) func() any {
	c := r.config
	return func() any { return h.describe(t, *c) }
}

// tell tells a router's state if it is another than the one that was told.
func (h *hooks) tell(r *hooked, e notify.Event) {
	e.Subject, e.State = instanceOf(r.config.Name), r.state()
	if e.State == r.told {
		return
	}
	r.told = e.State
	h.dispatcher.Notify(e)
	if g := h.groups[r.config.Group]; g != nil {
		h.tellGroup(g, e)
	}
}

// tellGroup tells a group's state after one of its routers has been told.
func (h *hooks) tellGroup(g *gathered, e notify.Event) {
	state, settled := g.state()
	if !settled || state == g.told {
		return
	}
	g.told = state
	routers := g.config.Routers
	h.dispatcher.Notify(notify.Event{
		Subject: groupOf(g.config.Name), State: state, Cause: e.Cause, Time: e.Time,
		Describe: func() any { return map[string]any{"routers": routers} },
	})
}

// state is the state that all of a group's routers have, or a fault if one of them has
// one. It isn't settled while they differ otherwise.
func (g *gathered) state() (state notify.State, settled bool) {
	settled = true
	for i, r := range g.members {
		if r.told == notify.Fault {
			return notify.Fault, true
		}
		if i == 0 {
			state = r.told
		}
		settled = settled && r.told == state && r.told != ""
	}
	return state, settled
}

// of is the state of a family.
func (r *hooked) of(f packet.Family) *notify.State {
	if f == packet.IPv4 {
		return &r.states[0]
	}
	return &r.states[1]
}

// state is the state of a router of one or two families: that of the one that has
// come farthest, and a stop for both where one was stopped.
func (r *hooked) state() notify.State {
	for _, state := range []notify.State{notify.Master, notify.Backup, notify.Stop} {
		for _, s := range r.states {
			if s == state {
				return state
			}
		}
	}
	return notify.Fault
}

// notifyState is a state in keepalived's words.
func notifyState(s vrrp.State, cause vrrp.Cause) notify.State {
	switch s {
	case vrrp.Active:
		return notify.Master
	case vrrp.Backup:
		return notify.Backup
	}
	switch cause {
	case vrrp.CauseAdministrator, vrrp.CauseRemoved, vrrp.CauseReconfigured, vrrp.CauseMaintenance:
		return notify.Stop
	}
	return notify.Fault
}

// waiting tells of routers that can't take part from their start on: they have no
// transition. What only waits for a moment isn't one of them.
func (h *hooks) waiting(views map[router.ID]view) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.catchUp()
	for id, v := range views {
		r := h.routers[id]
		if r == nil || r.told != "" || v.running || v.brief {
			continue
		}
		*r.of(id.Family) = notify.Fault
		t := router.Transition{ID: id, Own: uint8(v.config.Priority)}
		h.tell(r, notify.Event{
			Priority: v.config.Priority, Cause: v.waiting, Time: time.Now(), Describe: h.description(t, r),
		})
	}
}

// stopped tells of the stop where there was no transition: a router with a fault was
// in Initialize already.
func (h *hooks) stopped() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.catchUp()
	for id, r := range h.routers {
		if r.told == "" || r.told == notify.Stop {
			continue
		}
		t := router.Transition{ID: id, Own: uint8(r.config.Priority)}
		t.Cause = vrrp.CauseAdministrator
		r.states = [2]notify.State{notify.Stop}
		h.tell(r, notify.Event{
			Priority: int(t.Own), Cause: t.Why(), Time: time.Now(), Describe: h.description(t, r),
		})
	}
}

// lost returns what is called when a FIFO begins to lose lines.
func (h *hooks) lost(path string) func(uint64) {
	return func(total uint64) {
		h.log.WithFields(logrus.Fields{"fifo": path, "lost": total}).Warn("nobody reads the FIFO, lines are lost")
	}
}

// leave waits for what is to be told, for a while, and ends.
func (h *hooks) leave() {
	h.changing.Lock()
	defer h.changing.Unlock()
	h.left = true
	h.stopped()
	h.dispatcher.Close(leaveTime, h.hurry)
	select {
	case <-h.hurry:
		h.log.Warn("stopping in a hurry: hooks were not waited for")
	default:
	}
	if h.fifo != nil {
		h.close("close the FIFO", h.fifo.Close)
		h.fifo = nil
	}
}

func (h *hooks) close(what string, f func() error) {
	if err := f(); err != nil {
		h.log.WithError(err).Warn(what)
	}
}

// report says what is known of a router's hooks, and of its group's.
func (h *hooks) report(r *config.Router) (list []control.Hook, skipped uint64) {
	list, skipped = h.reportOf(instanceOf(r.Name), "")
	if r.Group != "" {
		more, n := h.reportOf(groupOf(r.Group), "group "+r.Group+" ")
		return append(list, more...), skipped + n
	}
	return list, skipped
}

func (h *hooks) reportOf(subject notify.Subject, prefix string) (list []control.Hook, skipped uint64) {
	r := h.dispatcher.Report(subject)
	for _, s := range r.Hooks {
		hook := control.Hook{Setting: prefix + s.Setting, Command: s.Command, Problem: s.Problem, Running: string(s.Running)}
		if s.Running != "" {
			hook.RunningFor = time.Since(s.Since).Seconds()
		}
		if l := s.Last; l != nil {
			hook.Last = &control.HookRun{
				State: string(l.State), Command: l.Command, Started: l.Started, Took: l.Took.Seconds(),
				Outcome: string(l.Outcome), Text: l.Text, Output: l.Output, Written: l.Written, Skipped: l.Skipped,
			}
		}
		list = append(list, hook)
	}
	return list, r.Skipped
}

// counts are how hooks of a router or a group have ended, and how many changes were never told.
func (h *hooks) counts(subject notify.Subject) (control.HookStats, bool) {
	r := h.dispatcher.Report(subject)
	name := subject.Name
	if subject.Kind == notify.Group {
		name = "group " + name // no router has this name
	}
	s := control.HookStats{Name: name, Skipped: r.Skipped, Runs: make(map[string]uint64)}
	for _, outcome := range notify.Outcomes {
		s.Runs[string(outcome)] = r.Runs[outcome]
	}
	return s, len(r.Hooks) > 0
}

// pipe says what is known of the FIFO, nil without one.
func (h *hooks) pipe() *control.FIFO {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shown == nil {
		return nil
	}
	written, lost := h.shown.Counts()
	return &control.FIFO{Path: h.shown.Path, Written: written, Lost: lost}
}
