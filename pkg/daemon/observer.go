// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
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

// quiet is how long a message that could be caused by every packet is held
// back after it was logged, for each kind of message.
const quiet = 10 * time.Second

// discardsEvery is how often the counters of refused packets are looked at.
const discardsEvery = time.Second

// observer turns what the loop reports into counters and log lines. The loop
// hands it values over a channel and goes on: writing a log line may block.
type observer struct {
	log     *logrus.Logger
	dp      *datapath.Datapath
	history *control.History
	// problems are told of what is found, and look is how the routers are known
	// that refused packets were for.
	problems *problems
	look     func() ([]router.Status, error)
	slow     map[router.ID]bool // those that have heard an Active that is much slower
	events   chan any
	lost     atomic.Uint64
	active   func(router.ID)         // told of each router that becomes Active
	moved    func(router.Transition) // told of each change of a state
	told     func(router.Transition) // on the loop
}

func newObserver(log *logrus.Logger, dp *datapath.Datapath, history *control.History) *observer {
	return &observer{log: log, dp: dp, history: history, problems: newProblems(log, history), slow: make(map[router.ID]bool), events: make(chan any, 4096)}
}

func (o *observer) put(event any) {
	select {
	case o.events <- event:
	default:
		o.lost.Add(1)
	}
}

func (o *observer) Transition(t router.Transition) {
	o.put(t)
	if o.told != nil {
		o.told(t)
	}
}

func (o *observer) Failure(f router.Failure) { o.put(f) }

func (o *observer) Finding(f router.Finding) {
	o.dp.Count(f.Reason)
	if f.Contrast == nil && usual(f.Reason) {
		return
	}
	if f.Contrast != nil { // the loop uses its memory again
		c := *f.Contrast
		c.Ours.Addresses, c.Theirs.Addresses = slices.Clone(c.Ours.Addresses), slices.Clone(c.Theirs.Addresses)
		f.Contrast = &c
	}
	o.put(f)
}

// usual reports whether nothing is wrong with an advertisement of which this is
// found.
func usual(r packet.Reason) bool {
	return r == packet.ReasonAdvertisementReceived || r == packet.ReasonPriorityZero || r == packet.ReasonChecksumRFC5798
}

// run writes the log until ctx ends.
func (o *observer) run(ctx context.Context) error {
	limited := limiter{last: make(map[string]time.Time), held: make(map[string]int)}
	tick := time.NewTicker(discardsEvery)
	defer tick.Stop()
	before := o.dp.Counters()
	last := before
	seen := make(map[packet.Reason]vrrp.Instant)
	for {
		select {
		case e := <-o.events:
			o.write(e, &limited)
		case <-tick.C:
			now := o.dp.Counters()
			before = o.discards(before, now, &limited)
			o.sightDiscards(last, now, seen)
			last = now
			o.sightSlow(time.Now())
			o.problems.tick(time.Now())
			if n := o.lost.Swap(0); n > 0 {
				o.log.Warnf("%d events came faster than they could be logged", n)
			}
		case <-ctx.Done():
			for len(o.events) > 0 {
				o.write(<-o.events, &limited)
			}
			return nil
		}
	}
}

func (o *observer) write(event any, limited *limiter) {
	switch e := event.(type) {
	case router.Transition:
		o.history.Add(control.Event{
			Kind: "transition", Interface: e.ID.Interface, Family: e.ID.Family.String(), VRID: int(e.ID.VRID),
			From: e.From.String(), To: e.To.String(), Peer: peer(e.Peer), Text: e.Why(),
		})
		entry := o.log.WithFields(fields(e.ID)).WithFields(logrus.Fields{
			"from": e.From.String(), "to": e.To.String(), "cause": e.Why(),
		})
		if o.moved != nil {
			o.moved(e)
		}
		if e.To == vrrp.Active && o.active != nil {
			o.active(e.ID)
		}
		if e.From == vrrp.Initialize || e.To == vrrp.Backup {
			entry.Info("transition")
		} else {
			entry.Warn("transition")
		}
	case notify.Run:
		o.history.Add(control.Event{Kind: "hook", Name: e.Subject.Name, Text: hookText(&e)})
		entry := o.log.WithFields(logrus.Fields{"router": e.Subject.Name, "hook": e.Setting, "state": string(e.State), "outcome": string(e.Outcome)})
		if e.Outcome == notify.OK {
			entry.Info(hookText(&e))
		} else {
			entry.Warn(hookText(&e))
		}
	case router.Finding:
		if s, ok := sighted(e); ok {
			o.problems.note(time.Now(), e.ID, s)
		}
		if mayBeSlow(e) {
			o.slow[e.ID] = true
		}
		if usual(e.Reason) {
			return
		}
		if held, ok := limited.allow(fmt.Sprint(e.ID, e.Reason, e.Peer)); ok {
			o.history.Add(control.Event{
				Kind: "finding", Interface: e.ID.Interface, Family: e.ID.Family.String(), VRID: int(e.ID.VRID),
				Peer: peer(e.Peer), Text: e.Reason.Error(),
			})
			entry := o.log.WithFields(fields(e.ID)).WithFields(logrus.Fields{"peer": e.Peer.String(), "counter": e.Reason.String()})
			if held > 0 {
				entry = entry.WithField("suppressed", held)
			}
			entry.Warn(e.Reason.Error())
		}
	case router.Failure:
		if held, ok := limited.allow(fmt.Sprint(e.ID, e.Action, e.Err)); ok {
			o.history.Add(control.Event{
				Kind: "failure", Interface: e.ID.Interface, Family: e.ID.Family.String(), VRID: int(e.ID.VRID),
				Text: fmt.Sprintf("%s: %v", e.Action, e.Err),
			})
			entry := o.log.WithFields(fields(e.ID)).WithError(e.Err)
			if held > 0 {
				entry = entry.WithField("suppressed", held)
			}
			entry.Error(e.Action)
		}
	}
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

// peer names a peer, if there is one.
func peer(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// discards logs what was refused before it reached a state machine, one line
// for each reason, and returns the counters to compare with next time.
func (o *observer) discards(before, now [packet.ReasonCount]uint64, limited *limiter) [packet.ReasonCount]uint64 {
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
		if _, ok := limited.allow("refused " + reason.String()); !ok {
			now[n] = before[n] // so that a later line counts them all
			continue
		}
		o.log.WithFields(logrus.Fields{
			"counter": reason.String(), "packets": delta, "ifindex": last.Ifindex,
			"vrid": last.VRID, "family": last.Family.String(), "peer": last.Source.String(),
		}).Warnf("refused: %s", reason.Error()+remedy(reason))
	}
	return now
}

// sightDiscards notes the problems that the last refused packets show.
func (o *observer) sightDiscards(before, now [packet.ReasonCount]uint64, seen map[packet.Reason]vrrp.Instant) {
	for _, reason := range refusals {
		if now[reason] == before[reason] {
			continue
		}
		last, ok := o.dp.LastDiscard(reason)
		if !ok || last.ReceivedAt <= seen[reason] {
			continue
		}
		seen[reason] = last.ReceivedAt
		routers, err := o.look()
		if err != nil {
			return // the loop has ended
		}
		for _, r := range routers {
			if r.Ifindex != last.Ifindex || r.ID.Family != last.Family || r.ID.VRID != last.VRID {
				continue
			}
			if s, ok := discarded(reason, last, r); ok {
				o.problems.note(time.Now(), r.ID, s)
			}
		}
	}
}

// remedy says what to do about a refusal that is likely a mistake in the
// configuration.
func remedy(reason packet.Reason) string {
	if reason == packet.ErrVersion {
		return ": a router of the same VRID speaks the other version, and both will be Active; give all of them the same --version, or --dual while you move them"
	}
	return ""
}

// limiter lets one message of a kind pass in each quiet period and counts the
// others.
type limiter struct {
	last map[string]time.Time
	held map[string]int
}

func (l *limiter) allow(kind string) (held int, ok bool) {
	now := time.Now()
	if last, seen := l.last[kind]; seen && now.Sub(last) < quiet {
		l.held[kind]++
		return 0, false
	}
	if len(l.last) > 1024 { // addresses in the keys come from the network
		clear(l.last)
		clear(l.held)
	}
	held = l.held[kind]
	delete(l.held, kind)
	l.last[kind] = now
	return held, true
}
