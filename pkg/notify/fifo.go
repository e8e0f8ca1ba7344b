// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/script"
)

// waiting is how many lines may wait to be written to a FIFO.
const waiting = 4096

// FIFO is a named pipe that gets a line for each change of state. Who doesn't read
// it keeps nobody waiting: the lines that don't fit it any more are lost, and
// counted. Its methods may be called from any goroutine.
type FIFO struct {
	Path string

	fd    int
	made  bool
	lines chan string
	done  chan struct{}

	written, lost atomic.Uint64
}

// OpenFIFO opens a FIFO, or makes it, for a user; nil for this process's own. lost
// is called when a line is lost and the one before wasn't.
func OpenFIFO(path string, owner *script.Credential, lost func(total uint64)) (*FIFO, error) {
	f := &FIFO{Path: path, lines: make(chan string, waiting), done: make(chan struct{})}
	remedy := "make its directory, or name another path"
	err := unix.Mkfifo(path, 0o600)
	f.made = err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the FIFO %s: %w: %s", path, err, remedy)
	}
	if f.made && owner != nil {
		if err := os.Lchown(path, int(owner.UID), int(owner.GID)); err != nil {
			return nil, errors.Join(fmt.Errorf("give the FIFO to its user: %w", err), os.Remove(path))
		}
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		return nil, errors.Join(fmt.Errorf("%s is there and is no FIFO: remove it, or name another path", path), err)
	}
	// Open for reading too, it takes lines before somebody reads them.
	f.fd, err = unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open the FIFO %s: %w", path, err)
	}
	go f.write(lost)
	return f, nil
}

// put has a line written, later.
func (f *FIFO) put(line string) {
	select {
	case f.lines <- line:
	default:
		f.lost.Add(1)
	}
}

func (f *FIFO) write(lost func(uint64)) {
	defer close(f.done)
	losing := false
	for line := range f.lines {
		_, err := unix.Write(f.fd, []byte(line)) // all of it or nothing, as short as it is
		if err == nil {
			losing = false
			f.written.Add(1)
			continue
		}
		total := f.lost.Add(1)
		if !losing {
			lost(total)
		}
		losing = true
	}
}

// Counts are how many lines were written and lost.
func (f *FIFO) Counts() (written, lost uint64) { return f.written.Load(), f.lost.Load() }

// Close writes the lines that wait and closes the FIFO; one that was made is
// removed. Nothing may be put any more.
func (f *FIFO) Close() error {
	close(f.lines)
	<-f.done
	err := unix.Close(f.fd)
	if f.made {
		err = errors.Join(err, os.Remove(f.Path))
	}
	return err
}
