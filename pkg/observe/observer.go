// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/notify"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/script"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Quiet is how long a message that could be caused by every packet is held
// back after it was logged, for each kind of message.
const RepeatInterval = 10 * time.Second

// discardsEvery is how often the counters of refused packets are looked at.
const discardsEvery = time.Second

// lookEvery is the least time between two looks at what is found, and waiting how many
// changes may wait until they are in the log and in the history, which keeps no more.
const (
	lookEvery = 50 * time.Millisecond
	waiting   = 4096
)

// Observer turns what the loop reports into counters, events and log lines. The loop
// leaves it here and goes on: writing a log line may block. What packets cause is kept
// where it was found (findings), and has its share of the log (room). Changes of state,
// failures and hooks wait in a row of their own. What acts on changes of state waits for
// nothing of that (Movements).
type Observer struct {
	log     *logrus.Logger
	dp      Counters
	history *control.History
	room    *LogBudget
	// problems are told of what is found.
	problems *Problems
	findings *findings

	wake     chan struct{} // has a value when changes wait
	mu       sync.Mutex    // for short: the event loop waits for it
	changes  []any
	lost     int
	failures map[failureKey]failed

	flapping unlogged[router.ID] // changes of state that there was no room for
	moved    map[router.ID]time.Time
	runs     unlogged[notify.Subject] // and hooks
	ran      map[notify.Subject]time.Time
	crowded  unlogged[router.ID] // and findings
	refused  [packet.ReasonCount]time.Time
	unsent   atomic.Bool // something could not be sent since it was last looked at
}

// failureKey is what has failed.
type failureKey struct {
	id     router.ID
	action string
}

// failed is a failure as it was last to be told.
type failed struct {
	router.Failure
	text string
	at   time.Time
	held uint64 // not told since then
}

// Counters count packets by what was found of them.
type Counters interface {
	Count(packet.Reason)
	Counters() [packet.ReasonCount]uint64
	LastDiscard(packet.Reason) (datapath.Discard, bool)
}

// NewObserver observes for the log, the history and the problems. What packets cause
// there has to share the room.
func NewObserver(log *logrus.Logger, dp Counters, history *control.History, room *LogBudget, problems *Problems) *Observer {
	return &Observer{
		log: log, dp: dp, history: history, room: room, problems: problems, findings: newFindings(),
		wake: make(chan struct{}, 1), failures: make(map[failureKey]failed),
		moved: make(map[router.ID]time.Time), ran: make(map[notify.Subject]time.Time),
	}
}

// Hook has it told how a hook was run.
func (o *Observer) Hook(r notify.Run) { o.put(r) }

// put has a change told, after those before it.
func (o *Observer) put(change any) {
	o.mu.Lock()
	o.add(change)
	o.mu.Unlock()
	nudge(o.wake)
}

func (o *Observer) add(change any) {
	if len(o.changes) == waiting { // the history wouldn't keep it either
		o.changes[0] = nil
		o.changes = o.changes[1:]
		o.lost++
	}
	o.changes = append(o.changes, change)
}

// Transition is called by the loop.
func (o *Observer) Transition(t router.Transition) {
	o.put(t)
}

// Failure is called by the loop. What goes on failing is told once in a while.
func (o *Observer) Failure(f router.Failure) {
	if f.Action == router.ActionSend {
		o.unsent.Store(true)
	}
	now, key, text := time.Now(), failureKey{f.ID, f.Action}, f.Err.Error()
	o.mu.Lock()
	defer o.mu.Unlock()
	last, known := o.failures[key]
	again := RepeatInterval
	if last.text != text {
		again = time.Second
	}
	if known && now.Sub(last.at) < again {
		last.held++
		o.failures[key] = last
		return
	}
	o.failures[key] = failed{Failure: f, text: text, at: now}
	o.add(failed{Failure: f, text: text, at: now, held: last.held})
	nudge(o.wake)
}

// Finding is called by the loop.
func (o *Observer) Finding(f router.Finding) {
	o.dp.Count(f.Reason)
	o.findings.note(time.Now(), &f)
}

// usual reports whether nothing is wrong with an advertisement of which this is
// found.
func usual(r packet.Reason) bool {
	return r == packet.ReasonAdvertisementReceived || r == packet.ReasonPriorityZero || r == packet.ReasonChecksumRFC5798
}

// Run writes the log until ctx ends. It looks at the routers when it has to know which of
// them something concerns.
func (o *Observer) Run(ctx context.Context, look func() ([]router.Status, error)) error {
	tick := time.NewTicker(discardsEvery)
	defer tick.Stop()
	summary := time.NewTicker(RepeatInterval)
	defer summary.Stop()
	rest := time.NewTimer(0) // between two looks
	defer rest.Stop()
	var news <-chan struct{}
	before := o.dp.Counters()
	last := before
	seen := make(map[packet.Reason]vrrp.Instant)
	for {
		select {
		case <-o.wake:
			o.tell()
		case <-rest.C:
			news = o.findings.news
		case <-news:
			o.find(time.Now(), false)
			news = nil
			rest.Reset(lookEvery)
		case <-tick.C:
			now := o.dp.Counters()
			before = o.discards(before, now, look)
			o.sightDiscards(last, now, seen, look)
			last = now
			o.find(time.Now(), true)
			o.sightFollowed(time.Now(), look)
			o.sightUnsent(time.Now(), look)
			o.problems.tick(time.Now())
			o.forget(time.Now())
		case <-summary.C:
			o.sumUp(time.Now())
		case <-ctx.Done():
			o.tell()
			o.find(time.Now(), true)
			o.sumUp(time.Now())
			return nil
		}
	}
}

// tell tells of the changes that wait.
func (o *Observer) tell() {
	o.mu.Lock()
	all, lost := o.changes, o.lost
	o.changes, o.lost = nil, 0
	o.mu.Unlock()
	if lost > 0 {
		o.log.Warnf("%d events came faster than they could be logged", lost)
	}
	for _, c := range all {
		switch c := c.(type) {
		case router.Transition:
			o.transition(time.Now(), &c)
		case notify.Run:
			o.hook(time.Now(), &c)
		case failed:
			o.failure(&c)
		}
	}
}

func (o *Observer) transition(now time.Time, t *router.Transition) {
	why := t.Why()
	o.history.Add(control.Event{
		Kind: "transition", Interface: t.ID.Interface, Family: t.ID.Family.String(), VRID: int(t.ID.VRID),
		From: t.From.String(), To: t.To.String(), Peer: Peer(t.Peer), Text: why,
	})
	// What packets can't cause is logged, and the first change in a while.
	if t.From != vrrp.Initialize && t.To != vrrp.Initialize && t.Cause != vrrp.CauseNobody {
		if now.Sub(o.moved[t.ID]) >= RepeatInterval {
			o.room.Spend(now, len(why))
		} else if !o.room.Take(now, len(why), TransitionsReserve) {
			o.flapping.add(1, t.ID)
			return
		}
		o.moved[t.ID] = now
	}
	entry := o.log.WithFields(Fields(t.ID)).WithFields(logrus.Fields{"from": t.From.String(), "to": t.To.String(), "cause": why})
	if t.From == vrrp.Initialize || t.To == vrrp.Backup || t.Cause == vrrp.CauseAdministrator {
		entry.Info("transition")
	} else {
		entry.Warn("transition")
	}
}

func (o *Observer) hook(now time.Time, r *notify.Run) {
	text := hookText(r)
	o.history.Add(control.Event{Kind: "hook", Name: r.Subject.Name, Text: text})
	if now.Sub(o.ran[r.Subject]) >= RepeatInterval {
		o.room.Spend(now, len(text))
	} else if !o.room.Take(now, len(text), TransitionsReserve) {
		o.runs.add(1, r.Subject)
		return
	}
	o.ran[r.Subject] = now
	entry := o.log.WithFields(logrus.Fields{"router": r.Subject.Name, "hook": r.Setting, "state": string(r.State), "outcome": string(r.Outcome)})
	if r.Outcome == notify.OK {
		entry.Info(text)
	} else {
		entry.Warn(text)
	}
}

func (o *Observer) failure(f *failed) {
	o.history.Add(control.Event{
		Kind: "failure", Interface: f.ID.Interface, Family: f.ID.Family.String(), VRID: int(f.ID.VRID), Text: f.Action + ": " + f.text,
	})
	Suppressed(o.log.WithFields(Fields(f.ID)).WithError(f.Err), f.held).Error(f.Action)
}

// find tells of what the state machines have found.
func (o *Observer) find(now time.Time, all bool) {
	o.findings.look(now, all, o.room, &o.crowded, func(v *verdict) {
		if s, ok := sighted(v.Finding, v.listed); ok && v.ripe {
			s.Since, s.Count = v.since, v.fresh
			o.problems.Note(v.last, v.ID, s)
		}
		o.crowded.add(v.unlogged, v.ID)
		if !v.log {
			return
		}
		o.history.Add(control.Event{
			Kind: "finding", Interface: v.ID.Interface, Family: v.ID.Family.String(), VRID: int(v.ID.VRID),
			Peer: Peer(v.Peer), Text: v.Reason.Error(),
		})
		entry := o.log.WithFields(Fields(v.ID)).WithFields(logrus.Fields{"peer": v.Peer.String(), "counter": v.Reason.String()})
		Suppressed(entry, v.held).Warn(v.Reason.Error())
	})
}

// sumUp says what there was no room for in the log.
func (o *Observer) sumUp(now time.Time) {
	say := func(count uint64, of int, text string) {
		if count > 0 {
			o.room.Spend(now, len(text))
			o.log.Warnf(text, count, of)
		}
	}
	count, of := o.flapping.take()
	say(count, of, "%d more changes of state of %d routers were not logged; see failoverctl events")
	count, of = o.runs.take()
	say(count, of, "%d more hooks of %d routers or groups were not logged; see failoverctl events")
	count, of = o.problems.missed()
	say(count, of, "%d more problems of %d routers were not logged; see failoverctl status")
	count, of = o.crowded.take()
	say(count, of, "%d more findings of %d routers were not logged; see failoverctl stats")
}

// forget forgets what hasn't happened for a while.
func (o *Observer) forget(now time.Time) {
	old := func(at time.Time) bool { return now.Sub(at) >= RepeatInterval }
	maps.DeleteFunc(o.moved, func(_ router.ID, at time.Time) bool { return old(at) })
	maps.DeleteFunc(o.ran, func(_ notify.Subject, at time.Time) bool { return old(at) })
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.failures, func(_ failureKey, f failed) bool {
		return old(f.at) && (f.held == 0 || now.Sub(f.at) >= 10*RepeatInterval)
	})
}

// hookText says how a hook was run.
func hookText(r *notify.Run) string {
	text := fmt.Sprintf("%s: %s: %s", r.Setting, r.Command, r.Text)
	if r.Took > 0 {
		text += fmt.Sprintf(", after %v", r.Took.Round(time.Millisecond))
	}
	if r.Skipped > 0 {
		text += fmt.Sprintf("; %d changes before it were never told", r.Skipped)
	}
	if line := (script.Result{Output: []byte(r.Output)}).LastLine(); line != "" {
		text += ": " + line
	}
	return text
}

// discards logs what was refused before it reached a state machine, one line
// for each reason, and returns the counters to compare with next time.
func (o *Observer) discards(before, now [packet.ReasonCount]uint64, look func() ([]router.Status, error)) [packet.ReasonCount]uint64 {
	at := time.Now()
	for n := range now {
		reason := packet.Reason(n)
		delta := now[n] - before[n]
		if delta == 0 || reason == packet.ErrVRID {
			continue // other groups on the same link are not worth a line
		}
		last, ok := o.dp.LastDiscard(reason)
		if !ok {
			continue
		}
		text := reason.Error() + remedy(reason)
		if at.Sub(o.refused[n]) < RepeatInterval || !o.room.Take(at, len(text), FindingsReserve) {
			now[n] = before[n] // so that a later line counts them all
			continue
		}
		o.refused[n] = at
		fields := logrus.Fields{
			"counter": reason.String(), "packets": delta, "ifindex": last.Ifindex,
			"vrid": last.VRID, "family": last.Family.String(), "peer": last.Source.String(),
		}
		if routers, err := look(); err == nil {
			for _, r := range routers {
				if concerns(last, &r) {
					fields["interface"] = r.ID.Interface
				}
			}
		}
		o.log.WithFields(fields).Warn("refused: " + text)
	}
	return now
}

// concerns reports whether a refused packet was for a router.
func concerns(d datapath.Discard, r *router.Status) bool {
	return r.Ifindex == d.Ifindex && r.ID.Family == d.Family && r.ID.VRID == d.VRID
}

// sightDiscards notes the problems that the last refused packets show.
func (o *Observer) sightDiscards(before, now [packet.ReasonCount]uint64, seen map[packet.Reason]vrrp.Instant, look func() ([]router.Status, error)) {
	for _, reason := range refusals {
		if now[reason] == before[reason] {
			continue
		}
		last, ok := o.dp.LastDiscard(reason)
		if !ok || last.ReceivedAt <= seen[reason] {
			continue
		}
		seen[reason] = last.ReceivedAt
		routers, err := look()
		if err != nil {
			return // the loop has ended
		}
		for _, r := range routers {
			if !concerns(last, &r) {
				continue
			}
			if s, ok := discarded(reason, last, r); ok {
				o.problems.Note(time.Now(), r.ID, s)
			}
		}
	}
}

// remedy says what to do about a refusal that is likely a mistake in the
// configuration.
func remedy(reason packet.Reason) string {
	if reason == packet.ErrVersion {
		return ": a router of the same VRID speaks the other version, and both will be Active; give all of them the same --vrrp-version, or --dual while you move them"
	}
	return ""
}
