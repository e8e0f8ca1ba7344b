// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/notify"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/script"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// recorder records commands instead of running them.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

func (r *recorder) Run(_ context.Context, c script.Command) script.Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, strings.Join(c.Args[1:], " "))
	return script.Result{}
}

// took returns the commands since the last call.
func (r *recorder) took() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

func hookFile(t *testing.T, text string) *config.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := config.Parse("x", []byte(strings.ReplaceAll(text, "HOOK", path)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func testHooks(r *recorder) *hooks {
	log := logrus.New()
	log.SetOutput(io.Discard)
	describe := func(t router.Transition, c config.Router) any { return map[string]string{"state": t.To.String()} }
	return newHooks(r, newHookQueue(), func(notify.Run) {}, describe, nil, log)
}

func moves(family packet.Family, from, to vrrp.State, cause vrrp.Cause) router.Transition {
	return router.Transition{
		ID: router.ID{Interface: "eth0", Family: family, VRID: 51}, Own: 120,
		Action: vrrp.Action{Kind: vrrp.TransitionTo, From: from, To: to, Cause: cause},
	}
}

// The families of a router have one state, that of the most active family. The cause of a
// transition to Initialize decides between Fault and Stop.
func TestHookStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		h := testHooks(r)
		f := hookFile(t, "routers: [{name: web, interface: eth0, vrid: 51, addresses: [192.0.2.10/24, '2001:db8::10/64'], notify: HOOK}]")
		if err := h.set(f); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			t    router.Transition
			want string // empty: no hook runs
		}{
			{moves(packet.IPv4, vrrp.Initialize, vrrp.Backup, vrrp.CauseStarting), "BACKUP"},
			{moves(packet.IPv4, vrrp.Backup, vrrp.Active, vrrp.CauseNobody), "MASTER"},
			{moves(packet.IPv6, vrrp.Initialize, vrrp.Backup, vrrp.CauseStarting), ""},
			{moves(packet.IPv6, vrrp.Backup, vrrp.Active, vrrp.CauseNobody), ""},
			{moves(packet.IPv4, vrrp.Active, vrrp.Backup, vrrp.CauseHigherPriority), ""},
			{moves(packet.IPv6, vrrp.Active, vrrp.Backup, vrrp.CauseHigherPriority), "BACKUP"},
			{moves(packet.IPv4, vrrp.Backup, vrrp.Initialize, vrrp.CauseInterfaceDown), ""},
			{moves(packet.IPv6, vrrp.Backup, vrrp.Initialize, vrrp.CauseInterfaceDown), "FAULT"},
			{moves(packet.IPv4, vrrp.Initialize, vrrp.Backup, vrrp.CauseInterfaceUp), "BACKUP"},
			{moves(packet.IPv4, vrrp.Backup, vrrp.Initialize, vrrp.CauseMaintenance), "STOP"},
			{moves(packet.IPv6, vrrp.Initialize, vrrp.Backup, vrrp.CauseInterfaceUp), "BACKUP"},
			{moves(packet.IPv6, vrrp.Backup, vrrp.Initialize, vrrp.CauseAdministrator), "STOP"},
		} {
			h.transition(c.t)
			var want []string
			if c.want != "" {
				want = []string{"INSTANCE web " + c.want + " 120"}
			}
			if diff := cmp.Diff(want, r.took()); diff != "" {
				t.Errorf("%v %v: %s", c.t.ID.Family, c.t.Action, diff)
			}
		}
		h.transition(router.Transition{ID: router.ID{Interface: "eth1", Family: packet.IPv4, VRID: 1}}) // of an unknown router
		h.leave()
	})
}

// Every cause of a transition to Initialize is a fault or a stop.
func TestHookCauses(t *testing.T) {
	stops := map[vrrp.Cause]bool{vrrp.CauseAdministrator: true, vrrp.CauseRemoved: true, vrrp.CauseReconfigured: true, vrrp.CauseMaintenance: true}
	for cause := vrrp.CauseNone; !strings.HasPrefix(cause.String(), "cause "); cause++ {
		want := "FAULT"
		if stops[cause] {
			want = "STOP"
		}
		if got := notifyState(vrrp.Initialize, cause); string(got) != want {
			t.Errorf("%s: %s", cause, got)
		}
	}
}

// Every transition is reported in order, also at the end.
func TestHookOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		h := testHooks(r)
		if err := h.set(hookFile(t, "routers: [{name: web, interface: eth0, vrid: 51, addresses: [192.0.2.10/24], notify: HOOK}]")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = h.run(ctx) }()
		h.queue.push(hookEvent{Transition: moves(packet.IPv4, vrrp.Initialize, vrrp.Backup, vrrp.CauseStarting)})
		if diff := cmp.Diff([]string{"INSTANCE web BACKUP 120"}, r.took()); diff != "" {
			t.Error(diff)
		}
		cancel()
		synctest.Wait()
		h.queue.push(hookEvent{Transition: moves(packet.IPv4, vrrp.Backup, vrrp.Initialize, vrrp.CauseAdministrator)})
		h.leave()
		if diff := cmp.Diff([]string{"INSTANCE web STOP 120"}, r.took()); diff != "" {
			t.Error(diff)
		}
	})
}

// A router that waits from the start is reported once as a fault, but not while it waits only
// briefly.
func TestHookWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		h := testHooks(r)
		f := hookFile(t, "routers: [{name: web, interface: eth0, vrid: 51, addresses: [192.0.2.10/24], notify: HOOK}]")
		if err := h.set(f); err != nil {
			t.Fatal(err)
		}
		id := router.ID{Interface: "eth0", Family: packet.IPv4, VRID: 51}
		h.reportWaiting(map[router.ID]details{id: {config: &f.Routers[0], waiting: "startup_delay of 1s", briefly: true}})
		if got := r.took(); got != nil {
			t.Errorf("reported %v", got)
		}
		for range 2 {
			h.reportWaiting(map[router.ID]details{id: {config: &f.Routers[0], waiting: "there is no interface eth0"}})
		}
		if diff := cmp.Diff([]string{"INSTANCE web FAULT 100"}, r.took()); diff != "" {
			t.Error(diff)
		}
		h.leave() // without ever taking part
		if diff := cmp.Diff([]string{"INSTANCE web STOP 100"}, r.took()); diff != "" {
			t.Error(diff)
		}
	})
}

// A router that takes part later is reported then.
func TestHookWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		h := testHooks(r)
		f := hookFile(t, "routers: [{name: web, interface: eth0, vrid: 51, addresses: [192.0.2.10/24], notify: HOOK}]")
		if err := h.set(f); err != nil {
			t.Fatal(err)
		}
		id := router.ID{Interface: "eth0", Family: packet.IPv4, VRID: 51}
		h.reportWaiting(map[router.ID]details{id: {config: &f.Routers[0], waiting: "eth0 is down"}})
		r.took()
		h.transition(moves(packet.IPv4, vrrp.Initialize, vrrp.Backup, vrrp.CauseInterfaceBack))
		if diff := cmp.Diff([]string{"INSTANCE web BACKUP 120"}, r.took()); diff != "" {
			t.Error(diff)
		}
		h.leave()
	})
}

// The hooks of a router that continues after a crash were told that it is Active before the
// crash. They run for the next change.
func TestHooksAfterCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		h := testHooks(r)
		if err := h.set(hookFile(t, "groups: [{name: all, routers: [web], notify: HOOK}]\nrouters: [{name: web, interface: eth0, vrid: 51, addresses: [192.0.2.10/24, '2001:db8::10/64'], notify: HOOK}]")); err != nil {
			t.Fatal(err)
		}
		h.queue.push(hookEvent{Transition: moves(packet.IPv4, vrrp.Initialize, vrrp.Active, vrrp.CauseContinued)})
		h.queue.push(hookEvent{Transition: moves(packet.IPv6, vrrp.Initialize, vrrp.Active, vrrp.CauseContinued)})
		h.reportWaiting(nil)
		if got := r.took(); len(got) > 0 {
			t.Errorf("run after the crash: %q", got)
		}
		h.queue.push(hookEvent{Transition: moves(packet.IPv4, vrrp.Active, vrrp.Backup, vrrp.CauseHigherPriority)})
		h.queue.push(hookEvent{Transition: moves(packet.IPv6, vrrp.Active, vrrp.Backup, vrrp.CauseGroup)})
		h.reportWaiting(nil)
		if diff := cmp.Diff([]string{"GROUP all BACKUP 0", "INSTANCE web BACKUP 120"}, slices.Sorted(slices.Values(r.took()))); diff != "" {
			t.Errorf("want (-), got (+):\n%s", diff)
		}
		h.leave()
	})
}

// A lower priority that an Active hears, and changes of priority, go to the FIFO in keepalived's
// words. Only the former has a hook.
func TestHookEvents(t *testing.T) {
	r := &recorder{}
	h := testHooks(r)
	path := filepath.Join(t.TempDir(), "fifo")
	text := "global: {notify_fifo: " + path + ", notify_priority_changes: true}\nrouters: [{name: web, interface: eth0, vrid: 51, addresses: [192.0.2.10/24, '2001:db8::10/64'], notify_lower_priority: HOOK lower}]"
	if err := h.set(hookFile(t, text)); err != nil {
		t.Fatal(err)
	}
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	id := func(f packet.Family) router.ID { return router.ID{Interface: "eth0", Family: f, VRID: 51} }
	priority := func(f packet.Family, p uint8) {
		h.queue.push(hookEvent{router.Transition{ID: id(f), Own: p}, notify.MasterPriority})
	}
	h.queue.push(hookEvent{Transition: moves(packet.IPv4, vrrp.Initialize, vrrp.Backup, vrrp.CauseStarting)})
	priority(packet.IPv4, 90)
	priority(packet.IPv6, 90) // of the same router
	h.queue.push(hookEvent{Transition: moves(packet.IPv4, vrrp.Backup, vrrp.Active, vrrp.CauseNobody)})
	priority(packet.IPv4, 120)
	h.queue.push(hookEvent{router.Transition{ID: id(packet.IPv4), Own: 120}, notify.LowerPriority})
	h.queue.push(hookEvent{router.Transition{ID: router.ID{Interface: "eth1", Family: packet.IPv4, VRID: 1}, Own: 1}, notify.LowerPriority}) // of an unknown router
	h.leave()
	content, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	want := `INSTANCE "web" BACKUP 120
INSTANCE "web" BACKUP_PRIORITY 90
INSTANCE "web" MASTER 120
INSTANCE "web" MASTER_PRIORITY 120
INSTANCE "web" MASTER_RX_LOWER_PRI 120
INSTANCE "web" STOP 100
`
	if diff := cmp.Diff(want, string(content)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"lower"}, r.lines); diff != "" {
		t.Error(diff)
	}
}

// Only an accepted advertisement that doesn't end the Active state is one of lower priority.
func TestLowerPriorityOnly(t *testing.T) {
	for _, c := range []struct {
		state        vrrp.State
		ours, theirs uint8
		refused      bool
		want         int
	}{
		{vrrp.Active, 100, 90, false, 1},
		{vrrp.Active, 100, 0, false, 0},
		{vrrp.Active, 100, 100, false, 0},
		{vrrp.Active, 100, 110, false, 0},
		{vrrp.Active, 100, 90, true, 0},
		{vrrp.Backup, 100, 90, false, 0},
	} {
		q := newHookQueue()
		f := router.Finding{Action: vrrp.Action{Kind: vrrp.Report, Refused: c.refused, Comparison: &vrrp.Comparison{State: c.state, Ours: vrrp.Parameters{Priority: c.ours}, Theirs: vrrp.Parameters{Priority: c.theirs}}}}
		q.pushLower(&f)
		if got := len(q.drain()); got != c.want {
			t.Errorf("%+v: %d events", c, got)
		}
	}
}

// A flood of advertisements of lower priority makes one event each second for each router.
func TestLowerPriorityFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newHookQueue()
		for range 2500 {
			for vrid := range uint8(3) {
				q.pushLower(&router.Finding{ID: router.ID{VRID: vrid}, Action: vrrp.Action{Comparison: &vrrp.Comparison{State: vrrp.Active, Ours: vrrp.Parameters{Priority: 100}, Theirs: vrrp.Parameters{Priority: 90}}}})
			}
			time.Sleep(time.Millisecond)
		}
		if got := len(q.drain()); got != 9 {
			t.Errorf("%d events of 3 routers in 2.5 s, want 9", got)
		}
	})
}

// A FIFO of another user at the path isn't used, and keeps nothing from running.
func TestFIFOOfAStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fifo := filepath.Join(t.TempDir(), "fifo")
		if err := errors.Join(unix.Mkfifo(fifo, 0o666), os.Chown(fifo, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		r := &recorder{}
		h := testHooks(r)
		if err := h.set(hookFile(t, "global: {notify_fifo: "+fifo+"}\nrouters: [{name: web, interface: eth0, vrid: 51, addresses: [192.0.2.10/24], notify: HOOK web}]")); err != nil {
			t.Fatal(err)
		}
		if h.fifoStatus() != nil {
			t.Error("the FIFO of another user is used")
		}
		h.transition(moves(packet.IPv4, vrrp.Initialize, vrrp.Backup, vrrp.CauseStarting))
		if diff := cmp.Diff([]string{"web INSTANCE web BACKUP 120"}, r.took()); diff != "" {
			t.Error(diff)
		}
		h.leave()
	})
}

// After a reload the old hook of a removed router is told of its stop, and a renamed router is
// reported by its new name. A reload that fails changes nothing.
func TestHookReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		h := testHooks(r)
		const web = "{name: %s, interface: eth0, vrid: 51, addresses: [192.0.2.10/24], notify: HOOK web}"
		first := hookFile(t, "routers: ["+fmt.Sprintf(web, "web")+", {name: db, interface: eth0, vrid: 52, addresses: [192.0.2.11/24], notify: HOOK}]")
		if err := h.set(first); err != nil {
			t.Fatal(err)
		}
		h.transition(moves(packet.IPv4, vrrp.Initialize, vrrp.Backup, vrrp.CauseStarting))
		if diff := cmp.Diff([]string{"web INSTANCE web BACKUP 120"}, r.took()); diff != "" {
			t.Error(diff)
		}
		for _, global := range []string{"script_user: nobody-knows-this-user", "notify_fifo: /no/such/fifo"} {
			if err := h.set(hookFile(t, "global: {"+global+"}\nrouters: ["+fmt.Sprintf(web, "other")+"]")); err == nil || !strings.HasPrefix(err.Error(), "global.") {
				t.Errorf("%s: %v", global, err)
			}
		}
		second := hookFile(t, "routers: ["+fmt.Sprintf(web, "front")+"]")
		if err := h.set(second); err != nil {
			t.Fatal(err)
		}
		removed := moves(packet.IPv4, vrrp.Backup, vrrp.Initialize, vrrp.CauseRemoved)
		removed.ID.VRID = 52
		h.transition(removed)
		if diff := cmp.Diff([]string{"INSTANCE db STOP 120"}, r.took()); diff != "" {
			t.Error(diff)
		}
		h.prune(second)
		h.transition(removed)
		h.transition(moves(packet.IPv4, vrrp.Backup, vrrp.Active, vrrp.CauseNobody))
		if diff := cmp.Diff([]string{"web INSTANCE front MASTER 120"}, r.took()); diff != "" {
			t.Error(diff)
		}
		if list, skipped := h.report(&second.Routers[0]); len(list) != 1 || skipped != 0 || list[0].Last == nil || list[0].Last.State != "MASTER" {
			t.Errorf("%+v", list)
		}
		began := time.Now()
		h.leave()
		if took := time.Since(began); took != 0 {
			t.Errorf("leaving took %v although no hook was running", took)
		}
		if err := h.set(second); err == nil {
			t.Error("a reload after the end is no error")
		}
	})
}

// A group is reported when all its routers have the same state, and at the first fault.
func TestHookGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		h := testHooks(r)
		f := hookFile(t, `routers:
  - {name: lan, interface: eth0, vrid: 51, addresses: [192.0.2.10/24]}
  - {name: wan, interface: eth0, vrid: 52, addresses: [192.0.2.11/24]}
groups: [{name: gw, routers: [lan, wan], notify: HOOK, notify_fault: HOOK fault}]
`)
		if err := h.set(f); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			vrid     uint8
			from, to vrrp.State
			cause    vrrp.Cause
			want     []string
		}{
			{51, vrrp.Initialize, vrrp.Backup, vrrp.CauseStarting, nil},
			{52, vrrp.Initialize, vrrp.Backup, vrrp.CauseStarting, []string{"GROUP gw BACKUP 0"}},
			{52, vrrp.Backup, vrrp.Active, vrrp.CauseSilence, nil},
			{51, vrrp.Backup, vrrp.Active, vrrp.CauseGroup, []string{"GROUP gw MASTER 0"}},
			{51, vrrp.Active, vrrp.Initialize, vrrp.CauseInterfaceDown, []string{"fault", "GROUP gw FAULT 0"}},
			{52, vrrp.Active, vrrp.Initialize, vrrp.CauseGroup, nil},
		} {
			m := moves(packet.IPv4, c.from, c.to, c.cause)
			m.ID.VRID = c.vrid
			h.transition(m)
			if diff := cmp.Diff(c.want, r.took()); diff != "" {
				t.Errorf("%+v: %s", c, diff)
			}
		}
		if list, _ := h.report(&f.Routers[0]); len(list) != 2 || list[1].Setting != "group gw notify" || list[1].Last.State != "FAULT" {
			t.Errorf("%+v", list)
		}
		h.leave()
		if diff := cmp.Diff([]string{"GROUP gw STOP 0"}, r.took()); diff != "" {
			t.Error(diff)
		}
	})
}
