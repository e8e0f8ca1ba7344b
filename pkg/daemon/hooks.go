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

// leaveTime is the total time that hooks have to finish when the daemon ends.
const leaveTime = 10 * time.Second

// hooks runs the notification programs for changes of state and other events. There is one state
// for each configured router: hooks don't see its families, as in keepalived.
type hooks struct {
	dispatcher *notify.Dispatcher
	queue      *hookQueue
	log        *logrus.Logger
	describe   func(router.Transition, config.Router) any
	hurry      <-chan struct{} // closed when the administrator doesn't want to wait for hooks

	changing sync.Mutex // held for a whole change of the configuration
	own      map[notify.Subject][]notify.Hook
	fifo     *notify.FIFO
	left     bool

	mu      sync.Mutex // held while transitions are processed, so that they stay in order
	routers map[router.ID]*hookRouter
	groups  map[string]*hookGroup
	shown   *notify.FIFO // the FIFO that the status shows

	priorities bool // notify_priority_changes
}

// hookRouter is a configured router and the state that was last reported to its hooks.
type hookRouter struct {
	config   *config.Router
	states   [2]notify.State // of IPv4 and IPv6; "" if the router lacks the family or its state isn't known yet
	reported notify.State
	before   notify.State // the last one that the process before reported, "" once this one has reported
	priority uint8        // the last one that was reported because it changed
}

// hookGroup is a configured group and the state that was last reported to its hooks.
type hookGroup struct {
	config   config.Group
	members  []*hookRouter
	reported notify.State
	before   notify.State // as in hookRouter
}

func newHooks(runner notify.Runner, queue *hookQueue, report func(notify.Run), describe func(router.Transition, config.Router) any, hurry <-chan struct{}, log *logrus.Logger) *hooks {
	return &hooks{dispatcher: notify.New(runner, report), queue: queue, log: log, describe: describe, hurry: hurry, routers: make(map[router.ID]*hookRouter)}
}

// set applies the hooks of a configuration. Hooks of removed routers stay until prune, because
// they must still run for the stop. After an error nothing has changed.
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
		fifo, err = notify.OpenFIFO(g.NotifyFIFO, user, h.logLost(g.NotifyFIFO))
		switch {
		case errors.Is(err, notify.ErrStranger): // another user's file must not keep the daemon from running
			h.log.WithError(err).Error("changes of state are not written to the FIFO until its owner is corrected and the configuration is reloaded")
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
		h.adopt(r)
	}
	h.setGroups(file)
	for i := range file.Groups {
		own[groupOf(file.Groups[i].Name)] = hooksOf(&file.Groups[i].Hooks)
	}
	h.shown, h.priorities = fifo, g.NotifyPriorityChanges
	h.mu.Unlock()
	both := maps.Clone(h.own)
	if both == nil {
		both = own
	}
	maps.Copy(both, own)
	for _, err := range h.dispatcher.Configure(dispatch(g, both, user, fifo)) {
		h.log.WithError(err).Warn("a hook can't be run")
	}
	h.own = own
	if h.fifo != nil && h.fifo != fifo {
		h.close("close the FIFO", h.fifo.Close)
	}
	h.fifo = fifo
	return nil
}

// prune forgets the routers that a configuration doesn't have.
func (h *hooks) prune(file *config.File) {
	h.changing.Lock()
	defer h.changing.Unlock()
	user, err := scriptUser(&file.Global)
	if err != nil || h.left {
		return // set has already checked the user
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.catchUp()
	h.dispatcher.Configure(dispatch(&file.Global, h.own, user, h.fifo))
	kept := make(map[router.ID]*hookRouter)
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

// adopt joins the Virtual Routers of a configured router into one hookRouter, and keeps its known
// state.
func (h *hooks) adopt(r *config.Router) {
	ids := idsOf(r)
	var one *hookRouter
	for _, id := range ids {
		if one = h.routers[id]; one != nil {
			break
		}
	}
	if one == nil {
		one = new(hookRouter)
	}
	one.config = r
	for _, id := range ids {
		h.routers[id] = one
	}
}

// setGroups builds the groups of a configuration from the known routers.
func (h *hooks) setGroups(file *config.File) {
	groups := make(map[string]*hookGroup)
	for _, c := range file.Groups {
		g := &hookGroup{config: c}
		if before := h.groups[c.Name]; before != nil {
			g.reported = before.reported
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
		return nil, fmt.Errorf("global.script_user: %w: create it, or use another user", err)
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

// hooksOf returns the hooks of a router in the order in which keepalived runs them.
func hooksOf(c *config.Hooks) []notify.Hook {
	var all []notify.Hook
	for _, h := range []notify.Hook{
		{Setting: "notify_active", Command: c.Active, On: notify.Master},
		{Setting: "notify_backup", Command: c.Backup, On: notify.Backup},
		{Setting: "notify_fault", Command: c.Fault, On: notify.Fault},
		{Setting: "notify_stop", Command: c.Stop, On: notify.Stop},
		{Setting: "notify", Command: c.Any},
		{Setting: "notify_lower_priority", Command: c.LowerPriority, On: notify.LowerPriority},
	} {
		if h.Timeout = c.Timeout; len(h.Command) > 0 {
			all = append(all, h)
		}
	}
	return all
}

// run processes transitions until ctx ends.
func (h *hooks) run(ctx context.Context) error {
	for {
		select {
		case <-h.queue.wake:
			h.mu.Lock()
			h.catchUp()
			h.mu.Unlock()
		case <-ctx.Done():
			return nil
		}
	}
}

// catchUp processes the events in the queue. The caller holds h.mu.
func (h *hooks) catchUp() {
	for _, e := range h.queue.drain() {
		if e.what == "" {
			h.transition(e.Transition)
		} else {
			h.event(e)
		}
	}
}

// event notifies of an event that changes no state. The caller holds h.mu.
func (h *hooks) event(e hookEvent) {
	r := h.routers[e.ID]
	if r == nil {
		return
	}
	if e.what == notify.MasterPriority {
		if !h.priorities || r.priority == e.Own {
			return // the other family has changed it already
		}
		r.priority = e.Own
		if r.reported != notify.Master {
			e.what = notify.BackupPriority
		}
	}
	h.dispatcher.Notify(notify.Event{
		Subject: instanceOf(r.config.Name), State: e.what, Priority: int(e.Own), Cause: e.Why(), Time: timeOf(e.Transition),
		Describe: h.description(e.Transition, r),
	})
}

// transition records a change of state and notifies the hooks. The caller holds h.mu.
func (h *hooks) transition(t router.Transition) {
	r := h.routers[t.ID]
	if r == nil {
		return
	}
	*r.of(t.ID.Family) = notifyState(t.To, t.Cause)
	if t.Cause.Continues() {
		h.assume(r)
		return
	}
	h.notify(r, notify.Event{
		Priority: int(t.Own), Cause: t.Why(), Time: timeOf(t),
		Describe: h.description(t, r),
	})
}

// timeOf returns the wall-clock time of a transition.
func timeOf(t router.Transition) time.Time {
	if t.When == 0 {
		return time.Now()
	}
	return time.Now().Add(t.When.Sub(process.Clock{}.Now()))
}

// description returns a function that describes a router when the hook is run, which may be
// later.
func (h *hooks) description(t router.Transition, r *hookRouter) func() any {
	c := r.config
	return func() any { return h.describe(t, *c) }
}

// hookStates are the states that were last reported to hooks, by the name of the router or group.
type hookStates struct {
	Routers map[string]notify.State `json:"routers"`
	Groups  map[string]notify.State `json:"groups"`
}

// states returns what was last reported.
func (h *hooks) states() hookStates {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.catchUp()
	s := hookStates{Routers: make(map[string]notify.State), Groups: make(map[string]notify.State)}
	for _, r := range h.routers {
		s.Routers[r.config.Name] = r.reported
	}
	for name, g := range h.groups {
		s.Groups[name] = g.reported
	}
	return s
}

// restore takes over what the process before has last reported, so that it isn't reported again.
func (h *hooks) restore(s hookStates) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.routers {
		r.before = s.Routers[r.config.Name]
	}
	for name, g := range h.groups {
		g.before = s.Groups[name]
	}
}

// assume notes the state of a router that continues after a crash or a restart. Its hooks were told
// of that state before.
func (h *hooks) assume(r *hookRouter) {
	r.reported = r.state()
	if g := h.groups[r.config.Group]; g != nil {
		if state, settled := g.state(); settled {
			g.reported = state
		}
	}
}

// notify notifies the hooks of a router if its state differs from the one last reported.
func (h *hooks) notify(r *hookRouter, e notify.Event) {
	e.Subject, e.State = instanceOf(r.config.Name), r.state()
	if e.State == r.reported {
		return
	}
	told := r.before == e.State
	r.reported, r.before = e.State, ""
	if !told {
		h.dispatcher.Notify(e)
	}
	if g := h.groups[r.config.Group]; g != nil {
		h.notifyGroup(g, e)
	}
}

// notifyGroup notifies the hooks of a group after one of its routers was reported.
func (h *hooks) notifyGroup(g *hookGroup, e notify.Event) {
	state, settled := g.state()
	if !settled || state == g.reported {
		return
	}
	told := g.before == state
	g.reported, g.before = state, ""
	if told {
		return
	}
	routers := g.config.Routers
	h.dispatcher.Notify(notify.Event{
		Subject: groupOf(g.config.Name), State: state, Cause: e.Cause, Time: e.Time,
		Describe: func() any { return map[string]any{"routers": routers} },
	})
}

// state returns the state that all routers of a group have, or Fault if one of them has a fault.
// It isn't settled while the routers differ otherwise.
func (g *hookGroup) state() (state notify.State, settled bool) {
	settled = true
	for i, r := range g.members {
		if r.reported == notify.Fault {
			return notify.Fault, true
		}
		if i == 0 {
			state = r.reported
		}
		settled = settled && r.reported == state && r.reported != ""
	}
	return state, settled
}

// of returns the state of a family.
func (r *hookRouter) of(f packet.Family) *notify.State {
	if f == packet.IPv4 {
		return &r.states[0]
	}
	return &r.states[1]
}

// state returns the state of a router: the most active state of its families, and Stop only if no
// family is Active or Backup.
func (r *hookRouter) state() notify.State {
	for _, state := range []notify.State{notify.Master, notify.Backup, notify.Stop} {
		for _, s := range r.states {
			if s == state {
				return state
			}
		}
	}
	return notify.Fault
}

// notifyState translates a state to keepalived's term. In Initialize the cause decides between
// Stop and Fault.
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

// reportWaiting reports a fault for routers that can't take part from the start, because they
// have no transition. Routers that wait only briefly are left out.
func (h *hooks) reportWaiting(byID map[router.ID]details) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.catchUp()
	for id, v := range byID {
		r := h.routers[id]
		if r == nil || r.reported != "" || v.running || v.briefly {
			continue
		}
		*r.of(id.Family) = notify.Fault
		t := router.Transition{ID: id, Own: uint8(v.config.Priority)}
		h.notify(r, notify.Event{
			Priority: v.config.Priority, Cause: v.waiting, Time: time.Now(), Describe: h.description(t, r),
		})
	}
}

// reportStopped reports the stop of routers that were already in Initialize, because they have no
// transition.
func (h *hooks) reportStopped() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.catchUp()
	for id, r := range h.routers {
		if r.reported == "" || r.reported == notify.Stop {
			continue
		}
		t := router.Transition{ID: id, Own: uint8(r.config.Priority)}
		t.Cause = vrrp.CauseAdministrator
		r.states = [2]notify.State{notify.Stop}
		h.notify(r, notify.Event{
			Priority: int(t.Own), Cause: t.Why(), Time: time.Now(), Describe: h.description(t, r),
		})
	}
}

// logLost returns the callback for a FIFO that begins to lose lines.
func (h *hooks) logLost(path string) func(uint64) {
	return func(total uint64) {
		h.log.WithFields(logrus.Fields{"fifo": path, "lost": total}).Warn("no process reads the FIFO, so lines are lost")
	}
}

// leave reports the stop, waits for running hooks for at most leaveTime, and ends.
func (h *hooks) leave() { h.end(h.reportStopped) }

// finish is leave for a process whose successor has taken over, so nothing has stopped.
func (h *hooks) finish() { h.end(func() {}) }

func (h *hooks) end(report func()) {
	h.changing.Lock()
	defer h.changing.Unlock()
	h.left = true
	report()
	h.dispatcher.Close(leaveTime, h.hurry)
	select {
	case <-h.hurry:
		h.log.Warn("stopped without waiting for hooks, because of a second signal")
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

// report returns what the status shows of the hooks of a router and of its group.
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

// counts returns the results of the hooks of a router or a group, and the number of changes that
// were never reported.
func (h *hooks) counts(subject notify.Subject) (control.HookStats, bool) {
	r := h.dispatcher.Report(subject)
	name := subject.Name
	if subject.Kind == notify.Group {
		name = "group " + name // can't be a router's name, because of the space
	}
	s := control.HookStats{Name: name, Skipped: r.Skipped, Runs: make(map[string]uint64)}
	for _, outcome := range notify.Outcomes {
		s.Runs[string(outcome)] = r.Runs[outcome]
	}
	return s, len(r.Hooks) > 0
}

// fifoStatus returns the status of the FIFO, nil if there is none.
func (h *hooks) fifoStatus() *control.FIFO {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shown == nil {
		return nil
	}
	written, lost := h.shown.Counts()
	return &control.FIFO{Path: h.shown.Path, Written: written, Lost: lost}
}
