// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/script"
)

// OpenFIFO makes a directory below /run, because a reboot removes it, and no other one.
func TestFIFODirectory(t *testing.T) {
	run, err := os.MkdirTemp("/run", "failoverd-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	f, err := OpenFIFO(filepath.Join(run, "a", "b", "fifo"), nil, func(uint64) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Join(run, "a", "b")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the directory is %v, %v", info, err)
	}
	if f, err := OpenFIFO(filepath.Join(t.TempDir(), "a", "fifo"), nil, nil); !errors.Is(err, fs.ErrNotExist) || f != nil {
		t.Errorf("a FIFO without its directory: %v", err)
	}
}

// A line waits in the FIFO for a reader, in the format of keepalived. Close removes a FIFO that
// OpenFIFO made.
func TestFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	f, err := OpenFIFO(path, nil, func(uint64) { t.Error("lost") })
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeNamedPipe|0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	d := New(&fake{}, func(Run) {})
	d.Configure(Config{FIFO: f})
	d.Notify(event(web, Backup, 100))
	d.Notify(event(web, Master, 100))
	d.Notify(event(pair, Fault, 0))
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	lines := bufio.NewReader(reader)
	for _, want := range []string{"INSTANCE \"web\" BACKUP 100\n", "INSTANCE \"web\" MASTER 100\n", "GROUP \"pair\" FAULT 0\n"} {
		if got, err := lines.ReadString('\n'); got != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	d.Notify(event(web, Stop, 100))
	d.Close(time.Second, nil)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := lines.ReadString('\n'); got != "INSTANCE \"web\" STOP 100\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if written, lost := f.Counts(); written != 4 || lost != 0 {
		t.Errorf("%d written, %d lost", written, lost)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// A FIFO without a reader loses lines, which are counted and reported once.
func TestFIFONobodyReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	told := 0
	f, err := OpenFIFO(path, nil, func(uint64) { told++ })
	if err != nil {
		t.Fatal(err)
	}
	const lines = 10000
	for range lines {
		f.put("INSTANCE \"a-router-with-a-long-name\" MASTER 100\n")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	written, lost := f.Counts()
	if written+lost != lines || lost == 0 || written == 0 {
		t.Errorf("%d written, %d lost", written, lost)
	}
	if told > 1 {
		t.Errorf("told %d times", told)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("one that was there is gone: %v", err)
	}
}

func TestFIFORefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file:                             "isn't a FIFO: remove it",
		link:                             "isn't a FIFO: remove it",
		filepath.Join(dir, "no", "fifo"): "create its directory",
	} {
		if _, err := OpenFIFO(path, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// OpenFIFO neither uses nor changes a file that another user put at the path.
func TestFIFOOfAStranger(t *testing.T) {
	const stranger = 65534
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	owner := &script.Credential{UID: 65533, GID: 65533}
	for name, put := range map[string]func(path string) error{
		"FIFO": func(path string) error { return unix.Mkfifo(path, 0o666) },
		"file": func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"link": func(path string) error { return os.Symlink(target, path) },
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(put(path), os.Lchown(path, stranger, stranger)); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenFIFO(path, owner, nil); !errors.Is(err, ErrStranger) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	hard := filepath.Join(dir, "hard")
	if err := errors.Join(unix.Mkfifo(hard, 0o600), os.Link(hard, hard+"-link")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFIFO(hard, owner, nil); err == nil || !strings.Contains(err.Error(), "second name") {
		t.Errorf("a hard link: %v", err)
	}
	if info, err := os.Stat(target); err != nil || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
		t.Errorf("the link's target: %v, %v", info, err)
	}
	path := filepath.Join(dir, "own")
	f, err := OpenFIFO(path, owner, nil)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Sys().(*syscall.Stat_t).Uid != owner.UID {
		t.Errorf("one that was made: %v, %v", info, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
