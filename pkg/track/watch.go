// SPDX-License-Identifier: Apache-2.0

package track

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// fileEvents doesn't have IN_MODIFY, because a file may be half written until it is closed.
const fileEvents = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ONLYDIR

// files reports changes of files by inotify. The kernel doesn't report changes on network file
// systems, so file checks run at their interval too.
type files struct {
	poke func(path string)

	mu      sync.Mutex
	inotify *os.File
	dirs    map[int32]map[string]bool // the paths of the directory of each watch descriptor
}

// open creates the inotify instance.
func (f *files) open() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	f.mu.Lock()
	f.inotify, f.dirs = os.NewFile(uintptr(fd), "inotify"), make(map[int32]map[string]bool)
	f.mu.Unlock()
	return nil
}

// watch starts to report changes of a file. If that isn't possible it does nothing.
func (f *files) watch(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inotify == nil {
		return
	}
	conn, err := f.inotify.SyscallConn()
	if err != nil {
		return
	}
	dir := filepath.Dir(path)
	_ = conn.Control(func(fd uintptr) {
		if n, err := unix.InotifyAddWatch(int(fd), dir, fileEvents); err == nil {
			if f.dirs[int32(n)] == nil {
				f.dirs[int32(n)] = make(map[string]bool)
			}
			f.dirs[int32(n)][dir] = true
		}
	})
}

// run reports changes until close.
func (f *files) run() error {
	buffer := make([]byte, 64<<10)
	for {
		n, err := f.inotify.Read(buffer)
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch files: %w", err)
		}
		for b := buffer[:n]; len(b) >= unix.SizeofInotifyEvent; {
			dir := int32(binary.NativeEndian.Uint32(b))
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			if size > len(b) {
				break
			}
			f.tell(dir, strings.TrimRight(string(b[unix.SizeofInotifyEvent:size]), "\x00"), binary.NativeEndian.Uint32(b[4:]))
			b = b[size:]
		}
	}
}

func (f *files) tell(dir int32, name string, mask uint32) {
	f.mu.Lock()
	var paths []string
	for d := range f.dirs[dir] {
		paths = append(paths, filepath.Join(d, name))
	}
	if mask&unix.IN_IGNORED != 0 {
		delete(f.dirs, dir)
	}
	f.mu.Unlock()
	for _, p := range paths {
		f.poke(p)
	}
}

func (f *files) close() { _ = f.inotify.Close() }

// deaths reports the end of processes.
type deaths struct {
	poke func(pid int)

	mu      sync.Mutex
	closed  bool
	watched map[int]*os.File
	waits   sync.WaitGroup
}

// watch starts to report the end of a process. It needs a file descriptor and no thread.
func (d *deaths) watch(pid int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.watched[pid] != nil {
		return
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return // the next run of the check notices the end
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	if d.watched == nil {
		d.watched = make(map[int]*os.File)
	}
	d.watched[pid] = f
	d.waits.Go(func() {
		conn, err := f.SyscallConn()
		if err == nil {
			err = conn.Read(func(fd uintptr) bool {
				fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
				n, err := unix.Poll(fds, 0)
				return err == nil && n == 1
			})
		}
		d.mu.Lock()
		delete(d.watched, pid)
		d.mu.Unlock()
		_ = f.Close()
		if err == nil {
			d.poke(pid)
		}
	})
}

func (d *deaths) close() {
	d.mu.Lock()
	d.closed = true
	for _, f := range d.watched {
		_ = f.Close() // ends the wait, which closes it again
	}
	d.mu.Unlock()
	d.waits.Wait()
}
