// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/script"
)

// maxPending is the maximum number of lines that wait to be written to a FIFO.
const maxPending = 4096

// FIFO is a named pipe that gets a line for each state change. It never blocks: if no program
// reads it, lines that don't fit are lost and counted. Its methods may be called from any
// goroutine.
type FIFO struct {
	Path string

	fd    int
	made  bool
	lines chan string
	done  chan struct{}

	written, lost atomic.Uint64
}

// ErrStranger is returned for a path with a file that belongs neither to root nor to the user
// of the FIFO.
var ErrStranger = errors.New("it belongs to another user")

// OpenFIFO opens a FIFO, or makes it, for a user; nil means the user of this process. It calls
// lost for the first line of each series of lost lines.
func OpenFIFO(path string, owner *script.Credential, lost func(total uint64)) (*FIFO, error) {
	f := &FIFO{Path: path, lines: make(chan string, maxPending), done: make(chan struct{})}
	if err := makeDirectory(path); err != nil {
		return nil, fmt.Errorf("make the directory of the FIFO %s: %w: create it, or use another path", path, err)
	}
	err := unix.Mkfifo(path, 0o600)
	f.made = err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the FIFO %s: %w: create its directory, or use another path", path, err)
	}
	if f.fd, err = openFIFO(path, owner, f.made); err != nil {
		if f.made {
			err = errors.Join(err, os.Remove(path))
		}
		return nil, err
	}
	go f.write(lost)
	return f, nil
}

// makeDirectory makes the directory of a FIFO below /run, because /run is empty after a reboot.
func makeDirectory(path string) error {
	dir := filepath.Dir(path)
	if !strings.HasPrefix(dir, "/run/") {
		return nil
	}
	return os.MkdirAll(dir, 0o755)
}

// openFIFO opens the FIFO at a path after it has checked it. If this process made the FIFO,
// openFIFO gives it to the owner. It checks an O_PATH descriptor and opens the FIFO through
// that, because another user might replace the file in a directory that they may write to.
func openFIFO(path string, owner *script.Credential, made bool) (int, error) {
	checked, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the FIFO %s: %w", path, err)
	}
	defer func() { _ = unix.Close(checked) }()
	var st unix.Stat_t
	if err := unix.Fstat(checked, &st); err != nil {
		return -1, fmt.Errorf("check the FIFO %s: %w", path, err)
	}
	stranger := st.Uid != 0 && int(st.Uid) != os.Geteuid() && (owner == nil || st.Uid != owner.UID)
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFIFO:
		err = fmt.Errorf("%s exists and isn't a FIFO: remove it, or use another path", path)
		if stranger {
			err = fmt.Errorf("%w (user %d): %w", ErrStranger, st.Uid, err)
		}
		return -1, err
	case stranger:
		return -1, fmt.Errorf("%s: %w (user %d), who could read and write the lines: use a path in a directory of root, like /run/failoverd-fifo", path, ErrStranger, st.Uid)
	case st.Nlink > 1:
		return -1, fmt.Errorf("%s has a second name, which another user may have made: remove it", path)
	}
	// Opened for reading too, the FIFO takes lines before a program reads them.
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", checked), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the FIFO %s: %w", path, err)
	}
	if made && owner != nil {
		if err := unix.Fchown(fd, int(owner.UID), int(owner.GID)); err != nil {
			return -1, errors.Join(fmt.Errorf("change the owner of the FIFO: %w", err), unix.Close(fd))
		}
	}
	return fd, nil
}

// put queues a line. It never blocks.
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
		_, err := unix.Write(f.fd, []byte(line)) // such short writes are atomic
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

// Counts returns how many lines were written and lost.
func (f *FIFO) Counts() (written, lost uint64) { return f.written.Load(), f.lost.Load() }

// Close writes the pending lines, closes the FIFO, and removes it if OpenFIFO made it. put must
// not be called afterwards.
func (f *FIFO) Close() error {
	close(f.lines)
	<-f.done
	err := unix.Close(f.fd)
	if f.made {
		err = errors.Join(err, os.Remove(f.Path))
	}
	return err
}
