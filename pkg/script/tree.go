// SPDX-License-Identifier: Apache-2.0

package script

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// quietRounds is how often nothing more to kill must be found: what forks, or
	// gets another parent, while it is looked is found the next time.
	quietRounds = 3
	// mostKilled is when it is given up: a program that forks faster than it can
	// be killed.
	mostKilled = 100_000
	// reapEvery is how often it is looked for adopted processes that ended.
	reapEvery = 5 * time.Second
)

// Adopt makes this process the parent of what its programs leave behind, so that
// processes that fork away are found at the time limit, and takes their statuses
// until ctx ends. There is one Runner that does so in a process, and no other
// child is started beside it.
func (r *Runner) Adopt(ctx context.Context) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of what scripts leave behind: %w", err)
	}
	r.adopted.Store(true)
	tick := time.NewTicker(reapEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			r.sweep()
			return nil
		case <-tick.C:
			if !childless() {
				r.sweep()
				r.reapAdopted()
			}
		}
	}
}

// childless reports whether there is nothing to look for, as on most hosts.
func childless() bool {
	return errors.Is(unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil), unix.ECHILD)
}

// sweep kills what programs that may leave nothing behind have left behind
// outside of their sessions.
func (r *Runner) sweep() {
	r.starting.Lock()
	defer r.starting.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	running := make(map[string]bool, len(r.children))
	for _, p := range r.children {
		running[p.mark] = true
	}
	var kill func(pid int)
	kill = func(pid int) {
		below := children(pid)
		_ = unix.Kill(pid, unix.SIGKILL)
		for _, child := range below {
			kill(child)
		}
	}
	killed := make(map[int]bool) // one that can't die now is not waited for
	for quiet := 0; quiet < quietRounds && len(killed) < mostKilled; quiet++ {
		for _, pid := range children(os.Getpid()) {
			if r.children[pid] != nil || killed[pid] {
				continue
			}
			// An adopted child is this process's until its status is taken: its
			// number is nobody else's. A zombie has no mark.
			if mark := markOf(pid); strings.HasSuffix(mark, soleMark) && !running[mark] {
				kill(pid)
				killed[pid], quiet = true, 0
			}
		}
	}
}

// markOf is the mark in a process's environment, if it has one that can be read.
func markOf(pid int) string {
	env, err := environmentOf(pid)
	if err != nil {
		return ""
	}
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.HasPrefix(v, []byte(markName+"=")) {
			return string(v)
		}
	}
	return ""
}

// killSession kills what a program that has ended, but isn't reaped, left in its
// process group.
func (p *process) killSession() { _ = unix.Kill(-p.pid, unix.SIGKILL) }

// reapAdopted takes the statuses of adopted processes that have ended.
func (r *Runner) reapAdopted() {
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil || info.Signo == 0 {
		return // no child has ended: the usual case
	}
	r.starting.Lock()
	defer r.starting.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, pid := range children(os.Getpid()) {
		if r.children[pid] == nil {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // it may be alive
		}
	}
}

// kill kills a process that isn't reaped yet, and all that it has started. It
// returns how many there were beside it.
func (r *Runner) kill(p *process) int {
	killed := make(map[int]bool)
	for _, pid := range r.descendants(p) {
		if pid != p.pid && p.killOne(pid) {
			killed[pid] = true
		}
	}
	_ = unix.Kill(-p.pid, unix.SIGKILL) // nobody in the group can fork away from this
	for quiet := 0; quiet < quietRounds && len(killed) < mostKilled; quiet++ {
		for _, pid := range r.descendants(p) {
			if pid != p.pid && !killed[pid] && p.killOne(pid) {
				killed[pid], quiet = true, 0
			}
		}
	}
	if r.adopted.Load() && len(killed) > 0 {
		r.reapAdopted()
	}
	return len(killed)
}

// descendants are the processes that belong to a program: below it, or adopted and
// in its session or with its mark. Other programs' are not looked at: there may be
// hundreds.
func (r *Runner) descendants(p *process) []int {
	var all []int
	var walk func(pid int, below bool)
	walk = func(pid int, below bool) {
		for _, child := range children(pid) {
			if pid == os.Getpid() && child != p.pid && r.runs(child) {
				continue
			}
			mine := below || child == p.pid || p.owns(child)
			if mine {
				all = append(all, child)
			}
			walk(child, mine)
		}
	}
	walk(os.Getpid(), false)
	return all
}

// runs reports whether a process is a program that is waited for.
func (r *Runner) runs(pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.children[pid] != nil
}

// owns reports whether a process is of the program's session, or has its mark.
func (p *process) owns(pid int) bool {
	if session, err := unix.Getsid(pid); err == nil && session == p.pid {
		return true
	}
	return markOf(pid) == p.mark
}

// killOne kills a process if it lives. Its number may have become another's since
// it was found: a descriptor for it is opened first, then it is looked again.
func (p *process) killOne(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	if !p.owns(pid) && !under(pid, p.pid) {
		return false
	}
	if ended(fd) {
		return false
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil
}

// ended reports whether the process of a descriptor is a zombie or gone.
func ended(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1
}

// under reports whether a process is a descendant of another.
func under(pid, ancestor int) bool {
	for range 1000 { // a chain that changes while it is followed may be a ring
		if pid == ancestor {
			return true
		}
		if pid <= 1 {
			return false
		}
		pid = parent(pid)
	}
	return false
}

// parent returns a process's parent, 0 if the process is gone.
func parent(pid int) int {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The name in parentheses may have anything in it.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1]) // 0 is no parent
	return n
}

// children are a process's children. Without CONFIG_PROC_CHILDREN all processes
// are looked at.
func children(pid int) []int {
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	threads, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var all []int
	for _, t := range threads {
		b, err := os.ReadFile(dir + "/" + t.Name() + "/children")
		if errors.Is(err, os.ErrNotExist) && t.Name() == strconv.Itoa(pid) {
			return childrenOfAll(pid)
		}
		for f := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

func childrenOfAll(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && parent(n) == pid {
			all = append(all, n)
		}
	}
	return all
}
