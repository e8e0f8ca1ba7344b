// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/tools/lab"
)

// restart restarts failoverd without a failover, and waits until the new process is the one that
// answers.
func (c *configured) restart() {
	c.t.Helper()
	next, err := c.client.Restart(c.ctx, false)
	c.ok(err)
	c.awaitProcess(next.PID)
}

func (c *configured) awaitProcess(pid int) {
	c.t.Helper()
	c.until(fmt.Sprintf("process %d has taken over", pid), func() bool {
		s, err := c.client.Status(c.ctx)
		return err == nil && s.PID == pid
	})
}

// children returns the children of a process.
func children(pid int) (all []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is valid
	for _, list := range lists {
		b, _ := os.ReadFile(list) // the thread may have ended
		for f := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// processOf returns the process with a number in the PID namespace of the node, which is below
// another or that process itself. 0: there is none.
func processOf(top, number int) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", top)) // it may have ended
	if regexp.MustCompile(fmt.Sprintf(`(?m)^NSpid:.*\s%d$`, number)).Match(status) {
		return top
	}
	for _, pid := range children(top) {
		if found := processOf(pid, number); found != 0 {
			return found
		}
	}
	return 0
}

// awaitStart waits until the daemon answers.
func (c *configured) awaitStart() {
	c.t.Helper()
	c.until("the daemon answers", func() bool {
		_, err := c.client.Status(c.ctx)
		return err == nil
	})
}

// counters returns all counters of a daemon, by router and name.
func (c *configured) counters() map[string]uint64 {
	c.t.Helper()
	stats, err := c.client.Stats(c.ctx)
	c.ok(err)
	all := make(map[string]uint64)
	for _, n := range stats.Global {
		all[n.Name] = n.Value
	}
	for _, r := range stats.Routers {
		for _, n := range r.Counters {
			all[r.Name+" "+r.Family+" "+n.Name] = n.Value
		}
	}
	return all
}

// goOn checks that no counter has gone backwards since before.
func (c *configured) goOn(before map[string]uint64) {
	c.t.Helper()
	now := c.counters()
	for name, n := range before {
		if now[name] < n {
			c.t.Errorf("the counter %s was %d, and is %d after a restart", name, n, now[name])
		}
	}
}

// restarted checks that both routers go on after a restart, the Backup with the priority that the
// administrator has ordered.
func (c *crash) restarted(ordered int) {
	c.t.Helper()
	for _, f := range []string{"ipv4", "ipv6"} {
		if r := c.active.router("web", f, inState("Active")); !strings.Contains(r.Cause, "continued as Active after a restart") {
			c.t.Errorf("the status says %q", r.Cause)
		}
		if r := c.backup.router("web", f, inState("Backup")); r.Priority != ordered {
			c.t.Errorf("the Backup has priority %d, before its restart %d", r.Priority, ordered)
		}
	}
	c.answered(c.a)
}

// A restart is nobody's business: the Active stays Active, no address moves, no hook is called, no
// program is detached, and no other host notices anything. What the administrator has ordered and
// what has happened stays known.
func TestRestart(t *testing.T) {
	inModes(t, (*site).restart)
}

func (s *site) restart() {
	t := s.t
	c := s.crash("1s")
	watch, err := s.a.Start("ip", "monitor", "address")
	s.ok(err)
	_, err = c.backup.client.SetPriority(s.ctx, "web", 90, false)
	s.ok(err)
	called := s.lines(c.called)
	transitions, links := len(c.backup.Transitions()), c.attached()
	c.killed = len(s.capture.Frames())
	for range 3 {
		for _, each := range []*configured{c.active, c.backup} {
			before := each.counters()
			if each == c.active && before["web ipv4 advertisement_sent"] == 0 || each == c.backup && before["advertisement_rcvd"] == 0 {
				t.Errorf("the counters before the restart: %v", before)
			}
			each.restart()
			each.goOn(before)
		}
		c.restarted(90)
		time.Sleep(4 * time.Second) // longer than Active_Down_Interval
	}
	if now := c.attached(); now != links {
		t.Errorf("the programs are attached by the links %s, before by %s", now, links)
	}
	c.aloneOnTheWire()
	for _, all := range c.backup.Transitions()[transitions:] {
		if all.From != "Initialize" || all.To != "Backup" {
			t.Errorf("a transition of the Backup: %+v", all)
		}
	}
	c.untouched(called, watch)
	var numbers []uint64
	became := 0
	s.ok(c.active.client.Events(s.ctx, 0, false, func(e control.Event) error {
		numbers = append(numbers, e.Number)
		if e.Kind == "transition" && e.To == "Active" {
			became++
		}
		return nil
	}))
	if became != 8 || !slices.IsSorted(numbers) {
		t.Errorf("the history has %d transitions to Active, want those of the start and of three restarts, for each family; numbers %v", became, numbers)
	}
	// Signals reach the last process, and with it the first one ends.
	s.stop(s.a, c.active.Failoverd)
	for _, f := range []string{"ipv4", "ipv6"} {
		c.backup.router("web", f, inState("Active"))
	}
	c.answered(s.b)
	s.stop(s.b, c.backup.Failoverd)
}

// If the new process can't take over, the old one goes on, and the reason is shown.
func TestRestartRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.inMode("bpf")
	c := s.crash("1s")
	dir := t.TempDir()
	program := filepath.Join(dir, "failoverd")
	original, err := os.ReadFile(failoverd())
	s.ok(err)
	s.ok(os.WriteFile(program, original, 0o755))
	s.stop(s.a, c.active.Failoverd)
	c.active.Failoverd, err = s.a.Failoverd(nil, program, "--config", c.active.path)
	s.ok(err)
	c.active.client = control.NewClient(socketOf(c.active.Failoverd))
	for _, f := range []string{"ipv4", "ipv6"} {
		c.active.router("web", f, inState("Active"))
		c.backup.router("web", f, inState("Backup"))
	}
	before, err := c.active.client.Status(s.ctx)
	s.ok(err)
	transitions := len(c.backup.Transitions())

	good := c.file(200, "1s", "")
	replace := func(content []byte) func() {
		return func() {
			s.ok(os.WriteFile(program+".new", content, 0o755))
			s.ok(os.Rename(program+".new", program))
		}
	}
	for _, one := range []struct {
		name, text, want string
		before           func()
	}{
		{"a mistake in the file", strings.Replace(good, "vrid: 51", "vrid: 510", 1), "vrid", func() {}},
		{"another interval", c.file(200, "2s", ""), "its interval has changed", func() {}},
		{"another address", c.file(200, "1s", ", 198.18.0.11/24"), "its addresses have changed", func() {}},
		{"a version that crashes", good, "it ended", replace([]byte("#!/bin/sh\nkill -SEGV $$\n"))},
		{"a version that doesn't know it", good, "it ended", replace([]byte("#!/bin/sh\nexit 1\n"))},
		{"no program", good, "start " + program, func() { s.ok(os.Remove(program)) }},
		{"programs that the kernel refuses", good, "too many open files", replace([]byte("#!/bin/sh\nulimit -n 20\nexec " + failoverd() + " \"$@\"\n"))},
	} {
		c.active.write(one.text)
		one.before()
		if _, err := c.active.client.Restart(s.ctx, false); err == nil || !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s: the error is %v, want %q", one.name, err, one.want)
		}
		now, err := c.active.client.Status(s.ctx)
		s.ok(err)
		if now.PID != before.PID || !now.Started.Equal(before.Started) {
			t.Errorf("%s: the daemon isn't the one before", one.name)
		}
	}
	c.active.write(good)
	replace(original)()
	c.answered(s.a)
	if got := c.backup.Transitions()[transitions:]; len(got) > 0 {
		t.Errorf("transitions of the Backup: %v", got)
	}
	c.active.restart()
	s.stop(s.a, c.active.Failoverd)
	s.stop(s.b, c.backup.Failoverd)
}

// If the new process is killed at any moment of the hand-over, the old one continues, or if it has
// ended already, the next start does.
func TestRestartKilled(t *testing.T) {
	inModes(t, (*site).restartKilled)
}

func (s *site) restartKilled() {
	t := s.t
	c := s.crash("3s")
	transitions, startedOver := len(c.backup.Transitions()), 0
	for range 15 {
		_, err := c.active.client.SetPriority(s.ctx, "web", 190, false)
		s.ok(err)
		before, err := c.active.client.Status(s.ctx)
		s.ok(err)
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			time.Sleep(time.Duration(rand.IntN(250)) * time.Millisecond)
			for _, pid := range children(processOf(c.active.PID(), before.PID)) {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
			}
		}()
		_, _ = c.active.client.Restart(s.ctx, false) // whether it can depends on the moment
		<-killed
		select {
		case <-c.active.Done():
			c.active = s.withFile(s.a, c.file(200, "3s", ""))
		case <-time.After(500 * time.Millisecond):
		}
		for _, f := range []string{"ipv4", "ipv6"} {
			c.active.router("web", f, inState("Active"))
		}
		now, err := c.active.client.Status(s.ctx)
		s.ok(err)
		if now.PID == before.PID && !now.Started.Equal(before.Started) {
			startedOver++
			if r := c.active.router("web", "ipv4", inState("Active")); r.Priority != 190 {
				t.Errorf("after a failed hand-over the priority is %d, before it was 190", r.Priority)
			}
		}
	}
	t.Logf("%d of 15 hand-overs failed after the old process had stopped", startedOver)
	c.answered(s.a)
	if got := c.backup.Transitions()[transitions:]; len(got) > 0 {
		t.Errorf("transitions of the Backup: %v", got)
	}
	for _, f := range s.capture.Frames() {
		if a, _, _, ok := f.Advertisement(); ok && f.From == s.a.Name && a.Priority == 0 {
			t.Error("the Active left")
		}
	}
	s.stop(s.a, c.active.Failoverd)
	s.stop(s.b, c.backup.Failoverd)
}

// If the old process is killed before the service manager knows of the new one, the new one ends and
// leaves everything in place, because the service manager is about to stop it. The next start
// continues, and no router ever leaves.
func TestRestartOrphaned(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.inMode("bpf")
	c := s.crash("3s")
	c.kill()
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path})
	s.ok(err)
	t.Cleanup(func() { _ = manager.Close() })
	var told atomic.Pointer[string] // the process that the service manager was told of
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := manager.Read(b)
			if err != nil {
				return
			}
			if pid, ok := strings.CutPrefix(string(b[:n]), "MAINPID="); ok {
				told.Store(&pid)
			}
		}
	}()
	transitions, alone := len(c.backup.Transitions()), 0
	for range 20 {
		told.Store(nil)
		c.active = s.withFileEnv(s.a, []string{"NOTIFY_SOCKET=" + path}, c.file(200, "3s", ""))
		for _, f := range []string{"ipv4", "ipv6"} {
			if r := c.active.router("web", f, inState("Active")); !strings.Contains(r.Cause, "continued as Active after") {
				t.Fatalf("it did not continue, but: %s", r.Cause)
			}
		}
		now, err := c.active.client.Status(s.ctx)
		s.ok(err)
		old := processOf(c.active.PID(), now.PID)
		if old == 0 {
			t.Fatalf("there is no process %d", now.PID)
		}
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			_, _ = c.active.client.Restart(s.ctx, false) // whether it can depends on the moment
		}()
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		_ = syscall.Kill(old, syscall.SIGKILL) // it may have ended
		<-asked
		s.until("no process answers, or the service manager knows the new one", func() bool {
			_, err := c.active.client.Status(s.ctx)
			return err != nil || told.Load() != nil
		})
		if pid := told.Load(); pid != nil {
			_, _ = s.a.Run(s.ctx, "kill", "-KILL", *pid) // it may have ended
		} else {
			alone++
		}
		_, err = c.active.Wait(s.ctx)
		s.ok(err)
	}
	t.Logf("in %d of 20 rounds the service manager knew of no other process", alone)
	if got := c.backup.Transitions()[transitions:]; len(got) > 0 {
		t.Errorf("transitions of the Backup: %v", got)
	}
	for _, f := range s.capture.Frames() {
		if a, _, _, ok := f.Advertisement(); ok && f.From == s.a.Name && a.Priority == 0 {
			t.Error("the Active left")
		}
	}
	_, err = s.a.Run(s.ctx, failoverd(), "--cleanup")
	s.ok(err)
	s.clean(s.a)
	s.stop(s.b, c.backup.Failoverd)
}

// The results of checks are handed over, so that an Active doesn't wait for the next one, which may
// take longer than its lease lasts.
func TestRestartWithCheck(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.inMode("bpf")
	dir := t.TempDir()
	slow := s.program(dir, "slow", "sleep 4")
	text := func(priority int) string {
		return fmt.Sprintf("tracks:\n  - {name: slow, script: %s, interval: 1s, timeout: 10s}\nrouters:\n  - {name: web, interface: eth0, vrid: 51, priority: %d, interval: 1s, track: [slow], addresses: [198.18.0.10/24]}\n", slow, priority)
	}
	active := s.withFile(s.a, text(200))
	active.router("web", "ipv4", inState("Active"))
	backup := s.withFile(s.b, text(100))
	backup.router("web", "ipv4", func(r control.Router) bool { return r.State == "Backup" && r.Active != "" })
	transitions := len(backup.Transitions())
	for range 2 {
		active.restart()
		r := active.router("web", "ipv4", inState("Active"))
		if !strings.Contains(r.Cause, "continued as Active after a restart") {
			t.Errorf("the status says %q", r.Cause)
		}
	}
	if got := backup.Transitions()[transitions:]; len(got) > 0 {
		t.Errorf("transitions of the Backup: %v", got)
	}
	s.stop(s.a, active.Failoverd)
	s.stop(s.b, backup.Failoverd)
}

// A Backup keeps the longer interval that it has learnt from the Active. With its own it would take
// over before the next advertisement.
func TestRestartLearnt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.inMode("bpf")
	text := func(priority int, interval string) string {
		return fmt.Sprintf("routers:\n  - {name: web, interface: eth0, vrid: 51, priority: %d, interval: %s, addresses: [198.18.0.10/24]}\n", priority, interval)
	}
	active := s.withFile(s.a, text(200, "4s"))
	active.router("web", "ipv4", inState("Active"))
	backup := s.withFile(s.b, text(100, "500ms"))
	backup.router("web", "ipv4", func(r control.Router) bool { return r.State == "Backup" && r.Active != "" })
	transitions := len(backup.Transitions())
	for range 3 {
		backup.restart()
		time.Sleep(5 * time.Second) // longer than Active_Down_Interval of its own interval
	}
	for _, all := range backup.Transitions()[transitions:] {
		if all.To == "Active" {
			t.Errorf("a transition of the Backup: %+v", all)
		}
	}
	if r := backup.router("web", "ipv4", func(r control.Router) bool { return r.State != "" }); r.State != "Backup" {
		t.Errorf("it is %s: %s", r.State, r.Cause)
	}
	s.stop(s.a, active.Failoverd)
	s.stop(s.b, backup.Failoverd)
}

// A service manager that restarts failoverd by a stop and a start moves nothing either, if the stop is
// that of "failoverctl restart --only-stop".
func TestRestartOnlyStop(t *testing.T) {
	inModes(t, (*site).restartOnlyStop)
}

func (s *site) restartOnlyStop() {
	t := s.t
	c := s.crash("2s")
	watch, err := s.a.Start("ip", "monitor", "address")
	s.ok(err)
	_, err = c.backup.client.SetPriority(s.ctx, "web", 90, false)
	s.ok(err)
	called := s.lines(c.called)
	links := c.attached()
	c.killed = len(s.capture.Frames())
	for range 2 {
		for _, each := range []struct {
			process **configured
			node    *lab.Node
		}{{&c.active, s.a}, {&c.backup, s.b}} {
			before := (*each.process).counters()
			_, err := each.node.Run(s.ctx, failoverctl(), "restart", "--only-stop")
			s.ok(err)
			code, err := (*each.process).Wait(s.ctx)
			s.ok(err)
			if code != 0 {
				t.Fatalf("exit code %d:\n%s", code, (*each.process).Output())
			}
			*each.process = s.withPath(each.node, nil, (*each.process).path)
			(*each.process).awaitStart()
			(*each.process).goOn(before)
		}
		c.restarted(90)
		time.Sleep(8 * time.Second) // longer than Active_Down_Interval
	}
	if now := c.attached(); now != links {
		t.Errorf("the programs are attached by the links %s, before by %s", now, links)
	}
	c.aloneOnTheWire()
	for _, all := range c.backup.Transitions() {
		if all.From != "Initialize" || all.To != "Backup" {
			t.Errorf("a transition of the Backup: %+v", all)
		}
	}
	c.untouched(called, watch)
	became := 0
	s.ok(c.active.client.Events(s.ctx, 0, false, func(e control.Event) error {
		if e.Kind == "transition" && e.To == "Active" {
			became++
		}
		return nil
	}))
	if became != 6 {
		t.Errorf("the history has %d transitions to Active, want those of the start and of two restarts, for each family", became)
	}
	s.stop(s.a, c.active.Failoverd)
	s.stop(s.b, c.backup.Failoverd)
}

// A request to restart does no harm while the last restart isn't complete.
func TestRestartTwice(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.inMode("bpf")
	c := s.crash("1s")
	watch, err := s.a.Start("ip", "monitor", "address")
	s.ok(err)
	called := s.lines(c.called)
	c.killed = len(s.capture.Frames())
	takenOver := func() int { return strings.Count(c.active.Output(), "takes over from this one") }
	for n := range 12 {
		before := takenOver()
		s.ok(c.active.Signal(syscall.SIGUSR2))
		s.until("a process takes over", func() bool { return takenOver() > before })
		time.Sleep(time.Duration(n*5) * time.Millisecond)
		s.ok(c.active.Signal(syscall.SIGUSR2)) // nobody may get it
		time.Sleep(500 * time.Millisecond)
	}
	time.Sleep(4 * time.Second) // longer than Active_Down_Interval
	if out := c.active.Output(); strings.Contains(out, "could not") {
		t.Errorf("failoverd wrote:\n%s", out)
	}
	c.answered(s.a)
	c.aloneOnTheWire()
	c.untouched(called, watch)
	s.stop(s.a, c.active.Failoverd)
	s.stop(s.b, c.backup.Failoverd)
}
