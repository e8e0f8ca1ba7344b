// SPDX-License-Identifier: Apache-2.0

package flock

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// A lock of a living process is refused at once.
func TestHeld(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	if err := Take(first); err != nil {
		t.Fatal(err)
	}
	if pid := holder(open(t, dir)); pid != os.Getpid() {
		t.Errorf("held by %d, want %d", pid, os.Getpid())
	}
	if err := Take(open(t, dir)); !errors.Is(err, ErrHeld) {
		t.Errorf("the lock was taken twice: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Take(open(t, dir)); err != nil {
		t.Errorf("after the holder has closed the file: %v", err)
	}
}

// A killed process holds no lock, although a child of it that hasn't called exec yet keeps the
// lock for a moment.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The shell takes the lock, and its child inherits the lock when the shell ends.
	taken, err := exec.Command("sh", "-c", `exec 9<"$0"; flock 9; (sleep 0.5; exec 9<&-) >/dev/null 2>&1 & echo taken`, path).Output()
	if err != nil || string(taken) != "taken\n" {
		t.Fatalf("%s, %v", taken, err)
	}
	if err := unix.Flock(int(open(t, path).Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Fatalf("the child doesn't hold the lock: %v", err)
	}
	began := time.Now()
	if err := Take(open(t, path)); err != nil {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// A user without privileges may lock a file that they can read, and doesn't keep root from it.
func TestStranger(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"-x", "-s"} {
		var users []*exec.Cmd
		for range 2 { // two processes may share a lock
			user := exec.Command("sh", "-c", `exec 9<"$0"; flock -w 1 $1 9; echo; read end`, path, how)
			user.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			in, err := user.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := user.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := user.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = in.Close(); _ = user.Wait() }()
			if _, err := out.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			users = append(users, user)
		}
		if err := Take(open(t, path)); err != nil {
			t.Errorf("%s by users %d and %d: %v", how, users[0].Process.Pid, users[1].Process.Pid, err)
		}
		for _, u := range users {
			_ = u.Process.Kill()
			_ = u.Wait()
		}
	}
}
