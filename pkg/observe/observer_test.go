// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// watched is an Observer with its log.
type watched struct {
	*Observer
	out bytes.Buffer
}

func newWatched() *watched {
	w := new(watched)
	log := logrus.New()
	log.SetOutput(&w.out)
	log.SetFormatter(&logrus.TextFormatter{DisableTimestamp: true})
	w.Observer = newTestObserver(log)
	return w
}

func newTestObserver(log *logrus.Logger) *Observer {
	budget, history := NewLogBudget(), control.NewHistory()
	return NewObserver(log, new(counters), history, budget, NewProblems(log, history, budget))
}

// counters is a datapath that only counts.
type counters struct{ all [packet.ReasonCount]uint64 }

func (c *counters) Count(r packet.Reason)                { c.all[r]++ }
func (c *counters) Counters() [packet.ReasonCount]uint64 { return c.all }
func (c *counters) LastDiscard(packet.Reason) (d datapath.Discard, ok bool) {
	return d, false
}

// work does what Run does each second.
func (w *watched) work() {
	w.logChanges()
	w.noteFindings(time.Now(), true)
	w.problems.tick(time.Now())
	w.forget(time.Now())
}

// events returns the number of events of each kind in the history.
func (w *watched) events() map[string]int {
	kinds := make(map[string]int)
	for after := uint64(0); ; {
		events, _ := w.history.After(after)
		if len(events) == 0 {
			return kinds
		}
		for _, e := range events {
			kinds[e.Kind]++
			after = e.Number
		}
	}
}

func routerID(n int) router.ID {
	return router.ID{Interface: "eth" + string(rune('0'+n>>8)), Family: packet.IPv4, VRID: uint8(n)}
}

// invented returns a source address that no host has, a different one for each number.
func invented(n int) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 10<<24+uint32(n))))
}

// strange returns a finding about an advertisement of an invented source with the given number of
// addresses.
func strange(id router.ID, n, addresses int, reason packet.Reason) router.Finding {
	c := &vrrp.Comparison{
		State:  vrrp.Active,
		Ours:   vrrp.Parameters{Version: 3, Priority: 100, Interval: time.Second, Addresses: []netip.Addr{invented(1)}},
		Theirs: vrrp.Parameters{Version: 3, Priority: 90, Interval: 10 * time.Second},
	}
	for a := range addresses {
		c.Theirs.Addresses = append(c.Theirs.Addresses, invented(a+2))
	}
	return router.Finding{ID: id, Action: vrrp.Action{Kind: vrrp.Report, Reason: reason, Peer: invented(n), Comparison: c}}
}

func turn(id router.ID, from, to vrrp.State) router.Transition {
	return router.Transition{ID: id, Action: vrrp.Action{Kind: vrrp.TransitionTo, From: from, To: to, Cause: vrrp.CauseHigherPriority, Peer: invented(1)}}
}

// What packets cause is logged once in a RepeatInterval for each router, peer and reason, with
// the number of suppressed lines.
func TestLogIsLimited(t *testing.T) {
	t.Attr("proves", "O-02 O-10")
	synctest.Test(t, func(t *testing.T) {
		w := newWatched()
		finding := func(vrid uint8, peer string, reason packet.Reason) {
			w.Finding(router.Finding{
				ID:     router.ID{Interface: "eth0", Family: packet.IPv4, VRID: vrid},
				Action: vrrp.Action{Kind: vrrp.Report, Reason: reason, Peer: netip.MustParseAddr(peer)},
			})
		}
		for range 1000 {
			finding(51, "192.0.2.2", packet.ErrOwnerConflict)
			finding(51, "192.0.2.3", packet.ErrOwnerConflict)
			finding(52, "192.0.2.2", packet.ErrOwnerConflict)
			finding(51, "192.0.2.2", packet.ErrZeroInterval)
			w.Failure(router.Failure{Action: "send", Err: errors.New("no buffer space")})
		}
		w.work()
		if n := strings.Count(w.out.String(), "\n"); n != 5 {
			t.Errorf("%d lines, want one of each kind:\n%s", n, w.out.String())
		}
		w.out.Reset()
		time.Sleep(RepeatInterval - time.Millisecond)
		w.work()
		time.Sleep(time.Millisecond)
		finding(51, "192.0.2.2", packet.ErrOwnerConflict)
		w.Failure(router.Failure{Action: "send", Err: errors.New("no buffer space")})
		w.work()
		if got := w.out.String(); strings.Count(got, "\n") != 2 || strings.Count(got, "suppressed=999") != 2 {
			t.Errorf("after the RepeatInterval: %s", got)
		}
	})
}

// However many sources are invented for however many routers, the log and the memory are bounded,
// transitions stay in the history, and what isn't logged is counted.
func TestFloodOfInventedSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const routers, seconds, each = 1000, 10, 20_000
		w := newWatched()
		for n := range routers {
			w.Transition(turn(routerID(n), vrrp.Initialize, vrrp.Backup))
		}
		w.work()
		time.Sleep(time.Minute)
		w.out.Reset()
		source := 0
		for range seconds {
			for range each {
				source++
				for _, reason := range []packet.Reason{packet.ErrInterval, packet.ErrAddressList, packet.ReasonAdvertisementReceived} {
					w.Finding(strange(routerID(source%routers), source, source%40, reason))
				}
			}
			w.work()
			time.Sleep(time.Second)
		}
		w.logSummary(time.Now())
		if n := w.out.Len(); n > 100_000 || n < 1000 {
			t.Errorf("%d octets of log in %d s", n, seconds)
		}
		if w.findings.total > maxFindings {
			t.Errorf("%d findings are kept", w.findings.total)
		}
		if n := len(w.problems.all); n > maxProblems {
			t.Errorf("%d problems are kept", n)
		}
		if kinds := w.events(); kinds["transition"] != routers {
			t.Errorf("of %d transitions %d are kept: %v", routers, kinds["transition"], kinds)
		}
		for _, text := range []string{"more findings of 1000 routers were not logged", "more problems of"} {
			if !strings.Contains(w.out.String(), text) {
				t.Errorf("the log lacks the summary: %s", text)
			}
		}
		time.Sleep(10 * time.Minute)
		w.work()
		if len(w.findings.routers) > 0 || w.findings.total > 0 || len(w.problems.all) > 0 || len(w.problems.peers) > 0 {
			t.Errorf("after the flood %d findings and %d problems are kept", w.findings.total, len(w.problems.all))
		}
	})
}

// Findings allocate no memory on the event loop unless there is a new peer, and none for peers
// that find no place.
func TestFindingsTakeNoMemory(t *testing.T) {
	w := newWatched()
	id := routerID(51)
	known := strange(id, 0, 20, packet.ErrAddressList)
	var strangers []router.Finding
	for n := range 1000 {
		strangers = append(strangers, strange(id, n, 20, packet.ErrAddressList))
	}
	for i := range strangers {
		w.Finding(strangers[i])
	}
	n := 0
	if got := testing.AllocsPerRun(900, func() {
		w.Finding(known)
		w.Finding(strangers[n])
		n++
	}); got != 0 {
		t.Errorf("%v allocations for each finding", got)
	}
}

// Routers that change their states all the time don't fill the log, and the first change of each
// is logged.
func TestLogOfFlappingRouters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const routers = 200
		w := newWatched()
		for n := range routers {
			w.Transition(turn(routerID(n), vrrp.Initialize, vrrp.Backup))
		}
		w.work()
		time.Sleep(time.Minute)
		w.out.Reset()
		for range 10 {
			for n := range routers {
				w.Transition(turn(routerID(n), vrrp.Backup, vrrp.Active))
				w.Transition(turn(routerID(n), vrrp.Active, vrrp.Backup))
			}
			w.work()
			time.Sleep(time.Second - 1)
		}
		w.logSummary(time.Now())
		lines := strings.Count(w.out.String(), "msg=transition")
		if n := w.out.Len(); n > 100_000 || lines < routers {
			t.Errorf("%d octets of log with %d transitions", n, lines)
		}
		if !strings.Contains(w.out.String(), " more changes of state of ") {
			t.Errorf("the log lacks the summary: %d octets, ends with %s", w.out.Len(), w.out.String()[max(0, w.out.Len()-700):])
		}
		if kinds := w.events(); kinds["transition"] != 4096 {
			t.Errorf("%v", kinds)
		}
	})
}

// blocked is a log whose reader is stuck.
type blocked chan struct{}

func (b blocked) Write(p []byte) (int, error) {
	<-b
	return len(p), nil
}

// Subscribers of LatestTransitions get the last transition of each router, even while the log is
// blocked and its queue overflows.
func TestStatesDontWaitForTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched()
		log := make(blocked)
		w.log.SetOutput(log)
		ctx, cancel := context.WithCancel(t.Context())
		told := make(map[router.ID]vrrp.State)
		moves := NewLatestTransitions()
		go func() { _ = moves.Run(ctx, func(m router.Transition) { told[m.ID] = m.To }) }()
		transition := func(t router.Transition) {
			moves.Put(t)
			w.Transition(t)
		}
		transition(turn(routerID(0), vrrp.Initialize, vrrp.Backup))
		go w.logChanges()
		synctest.Wait()
		for range 100 {
			for n := range 200 {
				transition(turn(routerID(n), vrrp.Active, vrrp.Backup))
				transition(turn(routerID(n), vrrp.Backup, vrrp.Active))
			}
		}
		synctest.Wait()
		for n := range 200 {
			if told[routerID(n)] != vrrp.Active {
				t.Errorf("router %d: %v", n, told[routerID(n)])
			}
		}
		if len(w.changes) > maxChanges {
			t.Errorf("%d changes wait", len(w.changes))
		}
		close(log)
		synctest.Wait()
		w.logChanges()
		if kinds := w.events(); kinds["transition"] != maxChanges {
			t.Errorf("%v", kinds)
		}
		cancel()
		synctest.Wait()
	})
}

// Findings that are normal for a moment during transitions are no problem.
func TestShortFindingIsNoProblem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched()
		id := routerID(51)
		see := func(times int, every time.Duration) {
			for range times {
				time.Sleep(every)
				f := strange(id, 1, 1, packet.ReasonAdvertisementReceived)
				f.Comparison.Ours.Interval, f.Comparison.Theirs.Interval = 100*time.Millisecond, 100*time.Millisecond
				w.Finding(f)
				w.work()
			}
		}
		see(100, time.Millisecond)
		see(100, 300*time.Millisecond)
		if all := w.problems.of(id); len(all) > 0 {
			t.Errorf("there were only short episodes, but there is the problem %v", all)
		}
		see(3, 100*time.Millisecond)
		if all := w.problems.of(id); len(all) != 1 || all[0].Kind != control.TwoActives {
			t.Errorf("the finding lasts, but the problems are %v", all)
		}
	})
}

// A finding that is a problem is one warning in the log, that of the problem.
func TestProblemIsOneWarning(t *testing.T) {
	w := newWatched()
	w.Finding(strange(routerID(51), 1, 1, packet.ErrInterval))
	w.work()
	out := w.out.String()
	if n := strings.Count(out, "level=warning"); n != 1 || !strings.Contains(out, "counter=interval_errors") {
		t.Errorf("%d warnings, want one and a line for the counter:\n%s", n, out)
	}
}

// A real peer with a wrong list is reported during a flood of invented peers, if it was there
// before the flood.
func TestRealPeerBesideInventedOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched()
		id := routerID(51)
		peer := strange(id, 0, 3, packet.ErrAddressList)
		for second := range 60 {
			w.Finding(peer)
			for n := range 1000 {
				w.Finding(strange(id, 1+second*1000+n, 2, packet.ErrAddressList))
			}
			w.work()
			time.Sleep(time.Second)
		}
		for _, p := range w.problems.of(id) {
			if p.Peer == peer.Peer.String() && p.Count == 60 {
				return
			}
		}
		t.Errorf("%v", w.problems.of(id))
	})
}

func TestLogBudget(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := NewLogBudget()
	count := func(kept int) (octets int) {
		for a.Take(now, 60, kept) {
			octets += 60 + lineOctets
		}
		return octets
	}
	if n := count(FindingsReserve) + count(ProblemsReserve) + count(TransitionsReserve); n > logBurst || n < logBurst-2*lineOctets {
		t.Errorf("%d octets at once", n)
	}
	total := 0
	for range 1000 {
		now = now.Add(10 * time.Millisecond)
		total += count(0)
	}
	if total > 10*logRate+60+lineOctets || total < 9*logRate {
		t.Errorf("%d octets in 10 s", total)
	}
	for range 1000 {
		a.Spend(now, 60)
	}
	if n := count(0); n != 0 {
		t.Errorf("%d octets after the budget was spent", n)
	}
	now = now.Add(time.Hour)
	if n := count(0); n > logBurst || n == 0 {
		t.Errorf("%d octets after an hour", n)
	}
}
