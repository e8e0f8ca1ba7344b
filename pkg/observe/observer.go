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

// RepeatInterval is the minimum time between two log lines of one kind, for messages that every
// packet could cause.
const RepeatInterval = 10 * time.Second

// checkEvery is the interval at which the counters of discarded packets are compared and problems
// are updated.
const checkEvery = time.Second

// findingsEvery is the minimum time between two looks at new findings. maxChanges is the maximum
// number of changes that wait for the log and the history, which stores no more than that anyway.
const (
	findingsEvery = 50 * time.Millisecond
	maxChanges    = 4096
)

// Observer turns what the loop reports into counters, events and log lines. The loop leaves its
// reports here and goes on, because writing a log line may block. Findings, which packets cause,
// are stored in findings and share the log budget. Changes of state, failures and hooks wait in
// changes. What acts on changes of state uses LatestTransitions and doesn't wait for any of this.
type Observer struct {
	log     *logrus.Logger
	dp      Counters
	history *control.History
	budget  *LogBudget
	// problems receives the problems that findings show.
	problems *Problems
	findings *findings

	wake     chan struct{} // has a value when changes wait
	mu       sync.Mutex    // held briefly, because the event loop waits for it
	changes  []any
	lost     int
	failures map[failureKey]loggedFailure

	unloggedTransitions unlogged[router.ID] // transitions that the log budget had no room for
	loggedTransition    map[router.ID]time.Time
	unloggedRuns        unlogged[notify.Subject] // the same for hooks
	loggedRun           map[notify.Subject]time.Time
	dropped             unlogged[router.ID] // the same for findings
	loggedDiscard       [packet.ReasonCount]time.Time
	unsent              atomic.Bool // a send has failed since the last noteUnsent
}

// failureKey identifies a repeated failure.
type failureKey struct {
	id     router.ID
	action string
}

// loggedFailure is a failure when it was last logged.
type loggedFailure struct {
	router.Failure
	text       string
	at         time.Time
	suppressed uint64 // failures that were not logged since then
}

// Counters counts packets by reason, and stores the last discarded packet of each.
// datapath.Datapath implements it.
type Counters interface {
	Count(packet.Reason)
	Counters() [packet.ReasonCount]uint64
	LastDiscard(packet.Reason) (datapath.Discard, bool)
}

// NewObserver returns an Observer that writes to the log, the history and the problems. budget
// limits the log lines that packets cause.
func NewObserver(log *logrus.Logger, dp Counters, history *control.History, budget *LogBudget, problems *Problems) *Observer {
	return &Observer{
		log: log, dp: dp, history: history, budget: budget, problems: problems, findings: newFindings(),
		wake: make(chan struct{}, 1), failures: make(map[failureKey]loggedFailure),
		loggedTransition: make(map[router.ID]time.Time), loggedRun: make(map[notify.Subject]time.Time),
	}
}

// Hook reports a run of a hook.
func (o *Observer) Hook(r notify.Run) { o.put(r) }

// put queues a change for the log and the history.
func (o *Observer) put(change any) {
	o.mu.Lock()
	o.add(change)
	o.mu.Unlock()
	nudge(o.wake)
}

func (o *Observer) add(change any) {
	if len(o.changes) == maxChanges { // the history would drop it too
		o.changes[0] = nil
		o.changes = o.changes[1:]
		o.lost++
	}
	o.changes = append(o.changes, change)
}

// Transition implements router.Observer. The event loop calls it.
func (o *Observer) Transition(t router.Transition) {
	o.put(t)
}

// Failure implements router.Observer. A failure that continues is logged once in a RepeatInterval.
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
		last.suppressed++
		o.failures[key] = last
		return
	}
	o.failures[key] = loggedFailure{Failure: f, text: text, at: now}
	o.add(loggedFailure{Failure: f, text: text, at: now, suppressed: last.suppressed})
	nudge(o.wake)
}

// Finding implements router.Observer.
func (o *Observer) Finding(f router.Finding) {
	o.dp.Count(f.Reason)
	o.findings.note(time.Now(), &f)
}

// harmless reports whether a reason means that nothing is wrong with an advertisement.
func harmless(r packet.Reason) bool {
	return r == packet.ReasonAdvertisementReceived || r == packet.ReasonPriorityZero || r == packet.ReasonChecksumRFC5798
}

// Run writes the log until ctx ends. It calls look for the status of the routers when it has to
// know which router something concerns.
func (o *Observer) Run(ctx context.Context, look func() ([]router.Status, error)) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	summary := time.NewTicker(RepeatInterval)
	defer summary.Stop()
	rest := time.NewTimer(0) // until the next look at new findings
	defer rest.Stop()
	var news <-chan struct{}
	before := o.dp.Counters()
	last := before
	seen := make(map[packet.Reason]vrrp.Instant)
	for {
		select {
		case <-o.wake:
			o.logChanges()
		case <-rest.C:
			news = o.findings.news
		case <-news:
			o.noteFindings(time.Now(), false)
			news = nil
			rest.Reset(findingsEvery)
		case <-tick.C:
			now := o.dp.Counters()
			before = o.discards(before, now, look)
			o.noteDiscards(last, now, seen, look)
			last = now
			o.noteFindings(time.Now(), true)
			o.noteFollowed(time.Now(), look)
			o.noteUnsent(time.Now(), look)
			o.problems.tick(time.Now())
			o.forget(time.Now())
		case <-summary.C:
			o.logSummary(time.Now())
		case <-ctx.Done():
			o.logChanges()
			o.noteFindings(time.Now(), true)
			o.logSummary(time.Now())
			return nil
		}
	}
}

// logChanges logs the queued changes.
func (o *Observer) logChanges() {
	o.mu.Lock()
	all, lost := o.changes, o.lost
	o.changes, o.lost = nil, 0
	o.mu.Unlock()
	if lost > 0 {
		o.log.Warnf("%d events were dropped because they came faster than they could be logged", lost)
	}
	for _, c := range all {
		switch c := c.(type) {
		case router.Transition:
			o.transition(time.Now(), &c)
		case notify.Run:
			o.hook(time.Now(), &c)
		case loggedFailure:
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
	// A transition that packets can't cause is always logged, and the first one in a RepeatInterval.
	if t.From != vrrp.Initialize && t.To != vrrp.Initialize && t.Cause != vrrp.CauseNobody {
		if now.Sub(o.loggedTransition[t.ID]) >= RepeatInterval {
			o.budget.Spend(now, len(why))
		} else if !o.budget.Take(now, len(why), TransitionsReserve) {
			o.unloggedTransitions.add(1, t.ID)
			return
		}
		o.loggedTransition[t.ID] = now
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
	if now.Sub(o.loggedRun[r.Subject]) >= RepeatInterval {
		o.budget.Spend(now, len(text))
	} else if !o.budget.Take(now, len(text), TransitionsReserve) {
		o.unloggedRuns.add(1, r.Subject)
		return
	}
	o.loggedRun[r.Subject] = now
	entry := o.log.WithFields(logrus.Fields{"router": r.Subject.Name, "hook": r.Setting, "state": string(r.State), "outcome": string(r.Outcome)})
	if r.Outcome == notify.OK {
		entry.Info(text)
	} else {
		entry.Warn(text)
	}
}

func (o *Observer) failure(f *loggedFailure) {
	o.history.Add(control.Event{
		Kind: "failure", Interface: f.ID.Interface, Family: f.ID.Family.String(), VRID: int(f.ID.VRID), Text: f.Action + ": " + f.text,
	})
	Suppressed(o.log.WithFields(Fields(f.ID)).WithError(f.Err), f.suppressed).Error(f.Action)
}

// noteFindings reports and logs what the state machines have found.
func (o *Observer) noteFindings(now time.Time, all bool) {
	o.findings.look(now, all, o.budget, &o.dropped, func(v *verdict) {
		s, isProblem := observationOf(v.Finding, v.listed)
		isProblem = isProblem && v.lasting
		if isProblem {
			s.Since, s.Count = v.since, v.fresh
			o.problems.Note(v.last, v.ID, s)
		}
		o.dropped.add(v.unlogged, v.ID)
		if !v.log {
			return
		}
		o.history.Add(control.Event{
			Kind: "finding", Interface: v.ID.Interface, Family: v.ID.Family.String(), VRID: int(v.ID.VRID),
			Peer: Peer(v.Peer), Text: v.Reason.Error(),
		})
		entry := o.log.WithFields(Fields(v.ID)).WithFields(logrus.Fields{"peer": v.Peer.String(), "counter": v.Reason.String()})
		level := logrus.WarnLevel
		if isProblem {
			level = logrus.InfoLevel // the line of the problem is the warning
		}
		Suppressed(entry, v.suppressed).Log(level, v.Reason.Error())
	})
}

// logSummary logs how much was not logged because the budget was spent.
func (o *Observer) logSummary(now time.Time) {
	say := func(count uint64, of int, text string) {
		if count > 0 {
			o.budget.Spend(now, len(text))
			o.log.Warnf(text, count, of)
		}
	}
	count, of := o.unloggedTransitions.take()
	say(count, of, "%d more changes of state of %d routers were not logged; see failoverctl events")
	count, of = o.unloggedRuns.take()
	say(count, of, "%d more hooks of %d routers or groups were not logged; see failoverctl events")
	count, of = o.problems.missed()
	say(count, of, "%d more problems of %d routers were not logged; see failoverctl status")
	count, of = o.dropped.take()
	say(count, of, "%d more findings of %d routers were not logged; see failoverctl stats")
}

// forget removes entries older than a RepeatInterval.
func (o *Observer) forget(now time.Time) {
	old := func(at time.Time) bool { return now.Sub(at) >= RepeatInterval }
	maps.DeleteFunc(o.loggedTransition, func(_ router.ID, at time.Time) bool { return old(at) })
	maps.DeleteFunc(o.loggedRun, func(_ notify.Subject, at time.Time) bool { return old(at) })
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.failures, func(_ failureKey, f loggedFailure) bool {
		return old(f.at) && (f.suppressed == 0 || now.Sub(f.at) >= 10*RepeatInterval)
	})
}

// hookText describes a run of a hook.
func hookText(r *notify.Run) string {
	text := fmt.Sprintf("%s: %s: %s", r.Setting, r.Command, r.Text)
	if r.Took > 0 {
		text += fmt.Sprintf(", after %v", r.Took.Round(time.Millisecond))
	}
	if r.Skipped > 0 {
		text += fmt.Sprintf("; %d changes before it were never reported", r.Skipped)
	}
	if line := (script.Result{Output: []byte(r.Output)}).LastLine(); line != "" {
		text += ": " + line
	}
	return text
}

// discards logs the packets that were discarded before they reached a state machine, one line for
// each reason. It returns the counters to compare with next time.
func (o *Observer) discards(before, now [packet.ReasonCount]uint64, look func() ([]router.Status, error)) [packet.ReasonCount]uint64 {
	at := time.Now()
	for n := range now {
		reason := packet.Reason(n)
		delta := now[n] - before[n]
		if delta == 0 || reason == packet.ErrVRID {
			continue // packets for other VRIDs on the same link are normal
		}
		last, ok := o.dp.LastDiscard(reason)
		if !ok {
			continue
		}
		text := reason.Error() + remedy(reason)
		if at.Sub(o.loggedDiscard[n]) < RepeatInterval || !o.budget.Take(at, len(text), FindingsReserve) {
			now[n] = before[n] // so that a later line includes these packets
			continue
		}
		o.loggedDiscard[n] = at
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

// concerns reports whether a discarded packet was for a router.
func concerns(d datapath.Discard, r *router.Status) bool {
	return r.Ifindex == d.Ifindex && r.ID.Family == d.Family && r.ID.VRID == d.VRID
}

// noteDiscards reports the problems that the last discarded packets show.
func (o *Observer) noteDiscards(before, now [packet.ReasonCount]uint64, seen map[packet.Reason]vrrp.Instant, look func() ([]router.Status, error)) {
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
			if s, ok := discardObservation(reason, last, r); ok {
				o.problems.Note(time.Now(), r.ID, s)
			}
		}
	}
}

// remedy returns what to do about a discard that is probably caused by the configuration.
func remedy(reason packet.Reason) string {
	if reason == packet.ErrVersion {
		return ": a router of the same VRID uses the other version of VRRP, so both become Active; give all of them the same --vrrp-version, or use --dual during the migration"
	}
	return ""
}
