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
	// quietRounds is the number of searches in a row that must find no process to kill. One
	// search can miss a process that forks or gets another parent meanwhile.
	quietRounds = 3
	// maxKilled is the number of processes after which killing stops, because the program
	// forks faster than it can be killed.
	maxKilled = 100_000
	// reapEvery is the interval between searches for adopted processes that ended.
	reapEvery = 5 * time.Second
)

// Adopt makes this process the subreaper of its programs, so that it finds processes that left
// their session when it kills a program at its time limit. It reaps adopted processes until ctx
// ends. Only one Runner of a process may do so, and the process must start no other children.
func (r *Runner) Adopt(ctx context.Context) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the subreaper of scripts: %w", err)
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

// childless reports whether this process has no children, as on most hosts.
func childless() bool {
	return errors.Is(unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil), unix.ECHILD)
}

// sweep kills the processes that programs with Sole left behind outside of their sessions.
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
	killed := make(map[int]bool) // processes that aren't killed again
	for quiet := 0; quiet < quietRounds && len(killed) < maxKilled; quiet++ {
		for _, pid := range children(os.Getpid()) {
			if r.children[pid] != nil || killed[pid] {
				continue
			}
			// The process ID of an adopted child isn't reused until the child is
			// reaped. A zombie has no mark.
			if mark := markOf(pid); strings.HasSuffix(mark, soleMark) && !running[mark] {
				kill(pid)
				killed[pid], quiet = true, 0
			}
		}
	}
}

// markOf returns the mark in the environment of a process, or "" if there is none or it can't
// be read.
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

// killSession kills the process group of a program that has ended but isn't reaped yet.
func (p *process) killSession() { _ = unix.Kill(-p.pid, unix.SIGKILL) }

// reapAdopted reaps the adopted processes that have ended.
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
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // does nothing to a running process
		}
	}
}

// kill kills a process that isn't reaped yet, and all processes that it started. It returns the
// number of the latter.
func (r *Runner) kill(p *process) int {
	killed := make(map[int]bool)
	for _, pid := range r.descendants(p) {
		if pid != p.pid && p.killOne(pid) {
			killed[pid] = true
		}
	}
	_ = unix.Kill(-p.pid, unix.SIGKILL) // no process of the group can escape this by a fork
	for quiet := 0; quiet < quietRounds && len(killed) < maxKilled; quiet++ {
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

// descendants returns the processes of a program: its descendants, and adopted processes in
// its session or with its mark. It skips the other running programs, because there may be
// hundreds of them.
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

// runs reports whether a process is a program that Run waits for.
func (r *Runner) runs(pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.children[pid] != nil
}

// owns reports whether a process is in the program's session or has its mark.
func (p *process) owns(pid int) bool {
	if session, err := unix.Getsid(pid); err == nil && session == p.pid {
		return true
	}
	return markOf(pid) == p.mark
}

// killOne kills a process of the program and reports whether it was alive. It opens a pidfd and
// then checks the process again, because the process ID may have been reused meanwhile.
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

// ended reports whether the process of a pidfd has ended.
func ended(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1
}

// under reports whether a process is a descendant of another.
func under(pid, ancestor int) bool {
	for range 1000 { // the chain may look like a ring if it changes meanwhile
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

// parent returns the parent of a process, or 0 if the process is gone.
func parent(pid int) int {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The name in parentheses can contain any character.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1]) // 0 is no parent
	return n
}

// children returns the children of a process. Without CONFIG_PROC_CHILDREN it has to read the
// parents of all processes.
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
