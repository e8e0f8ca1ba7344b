// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/script"
)

// policies counts the threads of a process by their scheduling policy.
func (s *site) policies(pid int) map[uint32]int {
	s.t.Helper()
	tasks, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	s.ok(err)
	all := make(map[uint32]int)
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		s.ok(err)
		a, err := unix.SchedGetAttr(tid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		s.ok(err)
		all[a.Policy]++
	}
	return all
}

// locked returns the locked memory of a process in kB.
func (s *site) locked(pid int) int {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	s.ok(err)
	_, rest, _ := strings.Cut(string(b), "VmLck:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	s.ok(err)
	return n
}

// By default only the thread of the event loop is real-time, its children aren't, and the memory
// is locked. A reload changes that, and so does a thread that runs for too long. A daemon without
// the permission says in one line what to grant, and does its work.
func TestRealtimeByDefault(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := t.TempDir()
	hook := s.program(dir, "hook", "chrt -p $$ > "+dir+"/rank.new; echo niceness $(nice) >> "+dir+"/rank.new; cat /proc/$$/timerslack_ns >> "+dir+"/rank.new; mv "+dir+"/rank.new "+dir+"/rank")
	file := func(keys string) string {
		return "global: {" + keys + "}\nrouters: [{name: web, interface: eth0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24], notify: " + hook + "}]\n"
	}
	a := s.withFile(s.a, file(""))
	a.router("web", "ipv4", inState("Active"))
	a.ran("web", "MASTER")
	lines := s.lines(dir + "/rank")
	if rank := strings.Join(lines, "\n"); !strings.Contains(rank, "SCHED_OTHER") || strings.Contains(rank, "RESET") || !strings.Contains(rank, fmt.Sprintf("niceness %d", script.Niceness())) {
		t.Errorf("the policy of the hook is\n%s", rank)
	}
	if slack, err := strconv.Atoi(lines[len(lines)-1]); err != nil || slack > 50_000 {
		t.Errorf("the timer slack of the hook is %d ns (%v)", slack, err)
	}
	is := func(loop, others int) func() bool {
		return func() bool {
			p := s.policies(a.PID())
			return p[unix.SCHED_FIFO] == loop && min(p[unix.SCHED_RR], 1) == others && (s.locked(a.PID()) > 0) == (loop > 0)
		}
	}
	s.until("the loop alone is real-time", is(1, 0))
	for _, c := range []struct {
		keys         string
		loop, others int
	}{{"realtime: false", 0, 0}, {"realtime: true", 1, 1}, {"realtime: auto", 1, 0}, {"realtime: false", 0, 0}, {"", 1, 0}} {
		a.write(file(c.keys))
		a.reload()
		s.until("it is after a reload with "+c.keys, is(c.loop, c.others))
	}
	// The kernel sends a signal when a thread runs for too long.
	s.ok(unix.Kill(a.PID(), unix.SIGXCPU))
	s.until("it gives its rank up", is(0, 0))
	if r := a.router("web", "ipv4", inState("Active")); r.BecameActive != 1 {
		t.Errorf("became Active %d times", r.BecameActive)
	}

	b, err := s.b.Failoverd(nil, "setpriv", "--bounding-set=-sys_nice", "--", failoverd(), "--iface", "eth0", "--vip", "198.18.0.10/24", "--priority", "50", "--interval", "100ms")
	s.ok(err)
	_, _, err = b.WaitState(s.ctx, 0, "ipv4", "Backup")
	s.ok(err)
	said := 0
	for _, l := range b.Lines() {
		if strings.Contains(l.Text, "real-time") {
			said++
			if !strings.Contains(l.Text, "not real-time") || !strings.Contains(l.Text, "CAP_SYS_NICE") {
				t.Error(l.Text)
			}
		}
	}
	if said != 1 {
		t.Errorf("%d log lines are about it, want 1", said)
	}
}

// With `realtime: true` every thread is real-time, so that none waits for another program, and the
// memory is locked. A hook runs with normal priority. A reload turns it on and off. A daemon
// without the permission does its work.
func TestRealtime(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := t.TempDir()
	hook := s.program(dir, "hook", "chrt -p $$ > "+dir+"/rank.new; ulimit -l >> "+dir+"/rank.new; mv "+dir+"/rank.new "+dir+"/rank")
	file := func(realtime, priority string) string {
		return "global: {realtime: " + realtime + "}\nrouters: [{name: web, interface: eth0, vrid: 51, interval: 100ms, priority: " + priority + ", addresses: [198.18.0.10/24], notify: " + hook + "}]\n"
	}
	a := s.withFile(s.a, file("true", "100"))
	a.router("web", "ipv4", inState("Active"))
	a.ran("web", "MASTER")
	if rank := strings.Join(s.lines(dir+"/rank"), "\n"); !strings.Contains(rank, "SCHED_OTHER") {
		t.Errorf("the policy of the hook is\n%s", rank)
	}
	is := func(realtime bool) func() bool {
		return func() bool {
			p := s.policies(a.PID())
			if realtime {
				return p[unix.SCHED_FIFO] == 1 && p[unix.SCHED_RR] > 0 && p[unix.SCHED_NORMAL] == 0 && s.locked(a.PID()) > 0
			}
			return p[unix.SCHED_FIFO] == 0 && p[unix.SCHED_RR] == 0 && s.locked(a.PID()) == 0
		}
	}
	s.until("all threads are real-time", is(true))
	a.write(file("false", "100"))
	a.reload()
	s.until("none is", is(false))
	a.write(file("true", "100"))
	a.reload()
	s.until("all are again", is(true))
	if r := a.router("web", "ipv4", inState("Active")); r.BecameActive != 1 {
		t.Errorf("became Active %d times", r.BecameActive)
	}
	// The kernel sends a signal when a thread runs for too long.
	s.ok(unix.Kill(a.PID(), unix.SIGXCPU))
	s.until("it gives its rank up", is(false))

	path := filepath.Join(dir, "b.yaml")
	s.ok(os.WriteFile(path, []byte(file("true", "50")), 0o644))
	b, err := s.b.Failoverd(nil, "setpriv", "--bounding-set=-sys_nice", "--", failoverd(), "--config", path)
	s.ok(err)
	_, err = b.WaitLine(s.ctx, 0, func(line string) bool {
		return strings.Contains(line, "not real-time") && strings.Contains(line, "CAP_SYS_NICE")
	})
	s.ok(err)
	_, _, err = b.WaitState(s.ctx, 0, "ipv4", "Backup")
	s.ok(err)
}
