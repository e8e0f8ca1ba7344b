// SPDX-License-Identifier: Apache-2.0

// Package flock locks files for as long as a process lives, and tells living processes from
// killed ones.
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

// ErrHeld is the error for a file that a living process has locked.
var ErrHeld = errors.New("locked by a living process")

// A lock outlives its process while a child has the file open: between fork and exec, which may
// take a while on a busy machine. So if the holder of a lock is gone or unknown, Take tries again
// for this long.
const (
	patience = 2 * time.Second
	pause    = 10 * time.Millisecond
)

// Take locks an open file or directory until it is closed. It returns ErrHeld if a living process
// has the lock. If the holder is gone, Take waits for a while, and then ignores the lock. Locks
// of users other than root and this process's user are ignored too, because any user can lock a
// file that they can read. When a lock is ignored, the file isn't locked, but counts as this
// process's.
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
				return nil // a dead process's lock that another process has inherited for longer than an exec takes
			}
			return ErrHeld
		}
	}
}

// holder returns the process that holds the lock according to /proc/locks. Of several it prefers
// one that isn't a stranger. It returns 0 if the holder is unknown, as inside a container.
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

// stranger reports whether a process lives whose user is neither root nor this process's user.
func stranger(pid int) bool {
	var st unix.Stat_t
	if pid <= 0 || unix.Stat(fmt.Sprintf("/proc/%d", pid), &st) != nil {
		return false
	}
	return st.Uid != 0 && int(st.Uid) != os.Geteuid()
}

// alive reports whether a process exists.
func alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
		return true
	}
	err := unix.Kill(pid, 0) // /proc may hide processes of other users
	return err == nil || errors.Is(err, unix.EPERM)
}
