// SPDX-License-Identifier: Apache-2.0

// Package flock locks what belongs to a process for as long as it lives, and tells
// a living process from one that was killed.
package flock

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrHeld is returned for a file that a living process has locked.
var ErrHeld = errors.New("locked by a living process")

// A lock outlives the process that has taken it for as long as a child of that one
// has the file open: between fork and exec, which may take a while on a busy
// machine. So who finds it taken by a process that is gone, or that can't be seen,
// tries again for this long.
const (
	patience = 2 * time.Second
	pause    = 10 * time.Millisecond
)

// Take locks an open file or directory, until it is closed. It returns ErrHeld if
// a process that lives has it, and waits for a while if one that is gone does. A lock
// of a user who is neither root nor this process's own doesn't count, nor one that
// such a user was left: everybody may lock what they can read. Without their lock the
// file is this process's all the same.
func Take(f *os.File) error {
	for until := time.Now().Add(patience); ; time.Sleep(pause) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		pid := holder(f)
		if stranger(pid) {
			return nil
		}
		if alive(pid) {
			return ErrHeld
		}
		if time.Now().After(until) {
			if pid > 0 {
				return nil // it was left to somebody, who is no child of a moment
			}
			return ErrHeld
		}
	}
}

// holder returns the process that has taken the lock, by /proc/locks, and of several
// one that isn't a stranger's; 0 if that can't be told, as from within a container.
func holder(f *os.File) (pid int) {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	// 1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF
	where := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(string(locks)) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1] != "FLOCK" || fields[5] != where {
			continue
		}
		if _, err := fmt.Sscan(fields[4], &pid); err == nil && !stranger(pid) {
			return pid
		}
	}
	return pid
}

// stranger reports whether a process lives that is neither root's nor this user's.
func stranger(pid int) bool {
	var st unix.Stat_t
	if pid <= 0 || unix.Stat(fmt.Sprintf("/proc/%d", pid), &st) != nil {
		return false
	}
	return st.Uid != 0 && int(st.Uid) != os.Geteuid()
}

// alive reports whether there is a process, by the /proc that has its number.
func alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		return true
	}
	err := unix.Kill(pid, 0) // /proc may hide those of others
	return err == nil || errors.Is(err, unix.EPERM)
}
