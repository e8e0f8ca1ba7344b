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

// ErrStranger is returned for a path at which somebody has put something who is
// neither root nor the user of the FIFO.
var ErrStranger = errors.New("it is somebody else's")

// OpenFIFO opens a FIFO, or makes it, for a user; nil for this process's own. lost
// is called when a line is lost and the one before wasn't.
func OpenFIFO(path string, owner *script.Credential, lost func(total uint64)) (*FIFO, error) {
	f := &FIFO{Path: path, lines: make(chan string, waiting), done: make(chan struct{})}
	if err := makeDirectory(path); err != nil {
		return nil, fmt.Errorf("make the directory of the FIFO %s: %w: make it, or name another path", path, err)
	}
	err := unix.Mkfifo(path, 0o600)
	f.made = err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the FIFO %s: %w: make its directory, or name another path", path, err)
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

// makeDirectory makes the directory of a FIFO below /run, which is empty after a reboot.
func makeDirectory(path string) error {
	dir := filepath.Dir(path)
	if !strings.HasPrefix(dir, "/run/") {
		return nil
	}
	return os.MkdirAll(dir, 0o755)
}

// openFIFO opens what is at a path after it has looked at it, and makes it the owner's
// if this process has made it. It looks at what it has in its hand: in a directory that
// others may write to, another thing is soon in its place.
func openFIFO(path string, owner *script.Credential, made bool) (int, error) {
	hand, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the FIFO %s: %w", path, err)
	}
	defer func() { _ = unix.Close(hand) }()
	var st unix.Stat_t
	if err := unix.Fstat(hand, &st); err != nil {
		return -1, fmt.Errorf("look at the FIFO %s: %w", path, err)
	}
	stranger := st.Uid != 0 && int(st.Uid) != os.Geteuid() && (owner == nil || st.Uid != owner.UID)
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFIFO:
		err = fmt.Errorf("%s is there and is no FIFO: remove it, or name another path", path)
		if stranger {
			err = fmt.Errorf("%w: user %d's: %w", ErrStranger, st.Uid, err)
		}
		return -1, err
	case stranger:
		return -1, fmt.Errorf("%s: %w: user %d's, who could read and write what is told: name a path in a directory of root's, like /run/failoverd-fifo", path, ErrStranger, st.Uid)
	case st.Nlink > 1:
		return -1, fmt.Errorf("%s has another name too, which somebody else may have given it: remove it", path)
	}
	// Open for reading too, it takes lines before somebody reads them.
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", hand), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the FIFO %s: %w", path, err)
	}
	if made && owner != nil {
		if err := unix.Fchown(fd, int(owner.UID), int(owner.GID)); err != nil {
			return -1, errors.Join(fmt.Errorf("give the FIFO to its user: %w", err), unix.Close(fd))
		}
	}
	return fd, nil
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
