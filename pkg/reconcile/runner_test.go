// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/reconcile"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// fails has steps of one verb for a router fail.
func (m *machine) fails(verb reconcile.Verb, name string) {
	m.run.failing = func(s *reconcile.Step) error {
		v := m.plan.VirtualRouter(s.ID)
		if s.Verb == verb && (name == "" || v != nil && v.Router.Name == name) {
			return unix.ENOSPC
		}
		return nil
	}
}

// tried counts what was tried of a verb since it was called last.
func (m *machine) tried(verb reconcile.Verb) (n int) {
	for _, line := range m.history {
		if d, is := line.(done); is && strings.HasPrefix(d.what.String(), verb.String()+" ") {
			n++
		}
	}
	m.history = nil
	return n
}

// runs reconciles a while later.
func (m *machine) runs(after time.Duration) reconcile.Result {
	m.host.now = m.host.now.Add(after)
	m.reconcile()
	return m.result
}

// One router's failing step is tried again later and later, and is no other router's.
func TestRetry(t *testing.T) {
	m := newMachine()
	web, lan := router("web", "eth0", 51, "192.0.2.10/24"), router("lan", "eth0", 52, "192.0.2.11/24")
	m.load(web, lan)
	m.fails(reconcile.Fence, "web")
	result := m.runs(0)
	id := m.plan.VirtualRouters[0].ID
	if f := result.Failed[id]; f == nil || f.Verb != reconcile.Fence || !errors.Is(f.Err, unix.ENOSPC) || len(result.Failed) != 1 || !result.Settled {
		t.Fatalf("%+v", result)
	}
	if m.run.loop[id].Binding != nil || m.run.loop[m.plan.VirtualRouters[1].ID].Binding == nil {
		t.Error("the one that the kernel doesn't take takes part, or the other one doesn't")
	}
	if wait := m.waits(id); wait.Cause != vrrp.CauseWaiting || !strings.Contains(wait.String(), unix.ENOSPC.Error()) {
		t.Errorf("it waits for %v", wait)
	}
	m.tried(reconcile.Fence)
	wait := reconcile.RetryLeast
	for range 8 {
		if next := result.Next; next != m.host.now.Add(wait) {
			t.Errorf("it is tried again after %v, not %v", next.Sub(m.host.now), wait)
		}
		m.runs(wait / 2)
		if n := m.tried(reconcile.Fence); n != 0 {
			t.Errorf("tried %d times too early", n)
		}
		result = m.runs(wait - wait/2)
		if n := m.tried(reconcile.Fence); n != 1 {
			t.Errorf("tried %d times", n)
		}
		if wait = min(2*wait, reconcile.RetryMost); result.Next == 0 {
			t.Fatal("it isn't tried again")
		}
	}
	m.run.failing = func(*reconcile.Step) error { return nil }
	if result = m.runs(reconcile.RetryMost); len(result.Failed) > 0 || result.Next != 0 || m.run.loop[id].Binding == nil {
		t.Errorf("it doesn't take part though it can: %+v", result)
	}
}

// What fails keeps what comes after it from being tried for the same router, or port.
func TestSkip(t *testing.T) {
	for verb, never := range map[reconcile.Verb][]reconcile.Verb{
		reconcile.Open:      {reconcile.Claim, reconcile.Subscribe, reconcile.Write, reconcile.Make, reconcile.Accept, reconcile.Fence, reconcile.Start},
		reconcile.Claim:     {reconcile.Subscribe, reconcile.Make, reconcile.Accept, reconcile.Fence, reconcile.Start},
		reconcile.Subscribe: {reconcile.Make, reconcile.Accept, reconcile.Fence, reconcile.Start},
		reconcile.Make:      {reconcile.Accept, reconcile.Fence, reconcile.Start},
		reconcile.Accept:    {reconcile.Fence, reconcile.Start},
		reconcile.Fence:     {reconcile.Start},
		reconcile.Set:       {reconcile.Start},
	} {
		m := newMachine()
		web := router("web", "eth0", 51, "192.0.2.10/24")
		web.VirtualMAC = config.VirtualMACMacvlan
		m.load(web)
		m.fails(verb, "")
		m.runs(0)
		history := m.history
		for _, v := range never {
			if m.history = history; m.tried(v) > 0 {
				t.Errorf("%s after a %s that failed", v, verb)
			}
		}
		if m.run.loop[m.plan.VirtualRouters[0].ID].Binding != nil || len(m.result.Failed) != 1 {
			t.Errorf("%s fails: %+v", verb, m.result)
		}
	}
}

// What isn't wanted any more doesn't fail.
func TestFailureEnds(t *testing.T) {
	m := newMachine()
	m.load(router("web", "eth0", 51, "192.0.2.10/24"))
	m.fails(reconcile.Open, "")
	if result := m.runs(0); result.Failed["eth0"] == nil {
		t.Fatalf("%+v", result)
	}
	if wait := m.waits(m.plan.VirtualRouters[0].ID); !strings.Contains(wait.String(), unix.ENOSPC.Error()) {
		t.Errorf("it waits for %v", wait)
	}
	m.load()
	if result := m.runs(time.Millisecond); len(result.Failed) > 0 || result.Next != 0 {
		t.Errorf("%+v", result)
	}
}

// What kept a router out and isn't wanted any more keeps it out no longer, at once.
func TestFailureNoLongerWanted(t *testing.T) {
	m := newMachine()
	m.load(router("web", "eth0", 51, "192.0.2.10/24"))
	m.runs(0)
	id := m.plan.VirtualRouters[0].ID
	var eth0 *link.Interface
	for _, i := range m.host.interfaces {
		if i.Name == "eth0" {
			eth0 = i
		}
	}
	m.host.rename(eth0, "wan")
	m.fails(reconcile.Write, "")
	for range 2 {
		if result := m.runs(time.Minute); result.Failed[id] == nil || m.run.loop[id].Binding != nil {
			t.Fatalf("it can't be written down: %+v", result)
		}
	}
	m.host.rename(eth0, "eth0")
	if result := m.runs(time.Millisecond); len(result.Failed) > 0 || m.run.loop[id].Binding == nil {
		t.Errorf("it needn't be written down: %+v", result)
	}
}

// An address, and a macvlan, that can't be removed fail alone.
func TestFailuresOfNobody(t *testing.T) {
	m := newMachine()
	web := router("web", "eth0", 51, "192.0.2.10/24")
	web.VirtualMAC = config.VirtualMACMacvlan
	m.load(web)
	m.runs(0)
	m.active("web")
	m.load()
	m.detach()
	m.run.failing = func(s *reconcile.Step) error {
		if s.Verb == reconcile.Unmake || s.Verb == reconcile.Withdraw {
			return unix.EBUSY
		}
		return nil
	}
	m.runs(0)
	for range m.run.jobs {
		m.run.work()
	}
	for range 3 {
		m.runs(reconcile.RetryMost)
	}
	if len(m.result.Failed) == 0 || len(m.host.journal) == 0 || m.result.Next == 0 {
		t.Errorf("nothing fails: %+v, %v", m.result, m.host.journal)
	}
	m.run.failing = func(*reconcile.Step) error { return nil }
	m.rest()
	m.clean("at the end")
}

// A router whose macvlan can't be made does without, if it may; it is tried again when
// the router changes, or the port.
func TestWithoutMacvlan(t *testing.T) {
	m := newMachine()
	web := router("web", "eth1", 51, "192.0.3.10/24")
	web.XDPMode = "off"
	m.load(web)
	m.fails(reconcile.Make, "")
	result := m.runs(0)
	id := m.plan.VirtualRouters[0].ID
	if l := m.run.loop[id]; len(result.Failed) > 0 || !result.Settled || l.Binding == nil || l.Binding.MACMode != config.VirtualMACOff {
		t.Fatalf("%+v %+v", result, l)
	}
	m.run.failing = func(*reconcile.Step) error { return nil }
	m.runs(reconcile.RetryMost)
	if way := m.run.loop[id].Binding.MACMode; way != config.VirtualMACOff {
		t.Errorf("it is %s though nothing has changed", way)
	}
	m.load(with(web, func(r *plan.ConfiguredRouter) { r.Interval = 2 * time.Second }))
	m.runs(0)
	m.runs(0)
	if way := m.run.loop[id].Binding.MACMode; way != config.VirtualMACMacvlan {
		t.Errorf("it is %s though it may have one now", way)
	}
}

// blind can't look.
type blind struct{ *run }

func (blind) Look(*plan.Target, *plan.Picture) error { return unix.EIO }

func TestLookFails(t *testing.T) {
	r := reconcile.New(make(surroundings), []reconcile.Executor{blind{}}, nil)
	p := plan.New(nil, nil)
	if _, err := r.Run(p, func() vrrp.Instant { return 1 }); !errors.Is(err, unix.EIO) {
		t.Error(err)
	}
	if _, err := r.Plan(p); !errors.Is(err, unix.EIO) {
		t.Error(err)
	}
}

// What never comes to rest ends, and says so.
func TestRounds(t *testing.T) {
	m := newMachine()
	m.load(router("web", "eth0", 51, "192.0.2.10/24"))
	m.wrong = func(r *run) reconcile.Executor {
		return &wrong{r, nil, func(s *reconcile.Step) (bool, error) { return s.Verb == reconcile.Subscribe, nil }}
	}
	m.begin()
	if result := m.runs(0); result.Settled || len(result.Failed) > 0 || result.Now == nil || result.Want == nil {
		t.Errorf("%+v", result)
	}
	if n := m.tried(reconcile.Open); n != 1 {
		t.Errorf("the port was opened %d times", n)
	}
}

// The order of the verbs is what makes the steps safe.
func TestVerbs(t *testing.T) {
	seen := make(map[string]bool)
	for v := reconcile.Stop; v <= reconcile.Erase; v++ {
		if seen[v.String()] || v.String() == "" {
			t.Errorf("%d is %q", v, v)
		}
		seen[v.String()] = true
	}
	if !slices.IsSorted([]reconcile.Verb{reconcile.Stop, reconcile.Withdraw, reconcile.Unfence, reconcile.Unmake, reconcile.Close, reconcile.Open, reconcile.Write, reconcile.Make, reconcile.Set, reconcile.Accept, reconcile.Fence, reconcile.Update, reconcile.Start, reconcile.Erase}) {
		t.Error("the order isn't safe")
	}
}
