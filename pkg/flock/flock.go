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
// a process that lives has it, and waits for as long as one that is gone does.
func Take(f *os.File) error {
	for until := time.Now().Add(patience); ; time.Sleep(pause) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if alive(holder(f)) || time.Now().After(until) {
			return ErrHeld
		}
	}
}

// holder returns the process that has taken the lock, by /proc/locks; 0 if that
// can't be told, as from within a container.
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
		if _, err := fmt.Sscan(fields[4], &pid); err == nil {
			return pid
		}
	}
	return 0
}

func alive(pid int) bool {
	if pid == 0 {
		return false
	}
	err := unix.Kill(pid, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}
