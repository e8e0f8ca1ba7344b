// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/script"
)

// successorVariable is the environment variable that tells a successor the number of its
// descriptor of the connection to its predecessor.
const (
	successorVariable = "FAILOVERD_SUCCESSOR"
	successorFD       = 3
)

// The limits of a hand-over.
const (
	// prepareTimeout is how long a successor may prepare itself. The predecessor works on
	// meanwhile.
	prepareTimeout = 30 * time.Second
	// takeOverTimeout is how long a successor may take from the hand-over until it runs.
	takeOverTimeout = 10 * time.Second
)

// succession is a message between a process and its successor. One of its fields is set.
type succession struct {
	Prepared bool            `json:"prepared,omitempty"` // the successor can take over
	State    json.RawMessage `json:"state,omitempty"`    // of the predecessor, which has stopped working
	Running  bool            `json:"running,omitempty"`  // the successor has taken over
	Error    string          `json:"error,omitempty"`    // the successor can't take over
}

// Successor is a process that is about to take over from this one.
type Successor struct {
	pid    int
	pidfd  int
	conn   net.Conn
	in     *json.Decoder
	killed sync.Once
}

// StartSuccessor starts this program again, from the file that has its path now, with the same
// arguments. It returns when the new process is prepared, or the reason why it isn't. Until
// TakeOver nothing has changed. first is false if this process is a successor itself.
func StartSuccessor(ctx context.Context, first bool) (*Successor, error) {
	path, err := os.Executable() // of the file at the start, even if the file was replaced
	if err != nil {
		return nil, err
	}
	s, err := startSuccessor(path, first)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, s.Kill)
	defer stop()
	m, err := s.receive()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("it was not prepared within %v", prepareTimeout)
	case ctx.Err() != nil:
		err = errors.New("the request was canceled")
	}
	if err == nil && !m.Prepared {
		err = errors.New("it sent an unexpected message")
	}
	if err != nil {
		s.Kill()
		return nil, fmt.Errorf("the new process %d can't take over: %w", s.pid, err)
	}
	return s, nil
}

func startSuccessor(path string, first bool) (*Successor, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(fds[1]), "successor")
	defer func() { _ = theirs.Close() }() // the new process has a copy
	conn, err := fileConn(fds[0])
	if err != nil {
		return nil, err
	}
	s := &Successor{conn: conn, in: json.NewDecoder(conn), pidfd: -1}
	attr := &syscall.ProcAttr{
		Env:   append(successorEnvironment(os.Environ()), fmt.Sprintf("%s=%d", successorVariable, successorFD)),
		Files: []uintptr{0, 1, 2, successorFD: theirs.Fd()},
		// A process group of its own, so that Attend finds all successors.
		Sys: &syscall.SysProcAttr{PidFD: &s.pidfd, Setpgid: first},
	}
	if s.pid, err = script.Fork(path, os.Args, attr); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

// successorEnvironment returns the environment of a successor. systemd's watchdog variable names
// this process.
func successorEnvironment(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		return strings.HasPrefix(v, "WATCHDOG_PID=") || strings.HasPrefix(v, successorVariable+"=")
	})
}

func fileConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "succession")
	defer func() { _ = f.Close() }() // FileConn makes a copy
	return net.FileConn(f)
}

// PID returns the process ID of the successor.
func (s *Successor) PID() int { return s.pid }

// receive receives a message of the successor. An error that the successor sent is returned as one.
func (s *Successor) receive() (m succession, err error) {
	if err := s.in.Decode(&m); err != nil {
		return m, errors.New("it ended; its reason is in the log")
	}
	if m.Error != "" {
		return m, errors.New(m.Error)
	}
	return m, nil
}

// TakeOver tells the successor that this process doesn't work any more, and waits until it has
// taken over. After an error it is killed, and this process has to work again.
func (s *Successor) TakeOver(state any) error {
	raw, err := json.Marshal(state)
	if err == nil {
		err = s.conn.SetDeadline(time.Now().Add(takeOverTimeout))
	}
	if err == nil {
		err = json.NewEncoder(s.conn).Encode(succession{State: raw})
	}
	if err == nil {
		var m succession
		if m, err = s.receive(); err == nil && !m.Running {
			err = errors.New("it sent an unexpected message")
		}
	}
	if err != nil {
		s.Kill()
		return fmt.Errorf("the new process %d could not take over: %w", s.pid, err)
	}
	return nil
}

// Release tells a successor that has taken over that it is the main process now, and sends it what
// it didn't need before.
func (s *Successor) Release(rest any) error {
	raw, err := json.Marshal(rest)
	if err == nil {
		err = json.NewEncoder(s.conn).Encode(succession{State: raw})
	}
	return errors.Join(err, s.conn.Close())
}

// Kill kills the successor.
func (s *Successor) Kill() {
	s.killed.Do(func() {
		_ = unix.PidfdSendSignal(s.pidfd, unix.SIGKILL, nil, 0) // an error means that it has ended
		_ = unix.Close(s.pidfd)
		_ = s.conn.Close()
	})
}

// estateVariable has the number of the descriptor that StartOver leaves.
const estateVariable = "FAILOVERD_ESTATE"

// StartOver replaces this process by a new one of the same program and number, after the hand-over
// to a successor has failed. It returns only if that isn't possible.
func StartOver(state any) error {
	content, err := json.Marshal(state)
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("estate", 0) // open in the new process
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "estate")
	if _, err = file.Write(content); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	// The file of this process may have been replaced.
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), fmt.Sprintf("%s=%d", estateVariable, fd)))
}

// estateLasts is how long what LeaveEstate has left counts. The systemd unit knows it too.
const estateLasts = time.Minute

// estatePattern matches the names of the files that LeaveEstate writes.
const estatePattern = "estate-*.json"

// estatePath returns the path of what a process with these arguments leaves in a directory. Several
// processes may share it.
func estatePath(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("estate-%08x.json", crc32.ChecksumIEEE([]byte(strings.Join(os.Args, "\x00")))))
}

// LeaveEstate leaves state in a directory for the next process with the same arguments.
func LeaveEstate(dir string, state any) error {
	content, err := json.Marshal(state)
	if err != nil {
		return err
	}
	return os.WriteFile(estatePath(dir), content, 0o600)
}

// RemoveEstates removes what processes have left in a directory, and returns a line for each.
func RemoveEstates(dir string) (removed []string, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, estatePattern))
	for _, path := range paths {
		if e := os.Remove(path); e != nil {
			err = errors.Join(err, e)
			continue
		}
		removed = append(removed, "state for the next process "+path)
	}
	return removed, err
}

// Estate stores in state what StartOver, or LeaveEstate a moment ago, has left, and nothing
// if there is nothing.
func Estate(dir string, state any) error {
	value := os.Getenv(estateVariable)
	if value == "" {
		return errors.Join(readEstate(estatePath(dir), state), removeOldEstates(dir))
	}
	fd, err := strconv.Atoi(value)
	if err == nil {
		err = os.Unsetenv(estateVariable) // scripts must not see it
	}
	if err != nil {
		return fmt.Errorf("the environment variable %s is failoverd's own: unset it: %w", estateVariable, err)
	}
	file := os.NewFile(uintptr(fd), "estate")
	defer func() { _ = file.Close() }() // it was only read
	return json.NewDecoder(file).Decode(state)
}

// removeOldEstates removes what no process has read in time.
func removeOldEstates(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, estatePattern))
	for _, path := range paths {
		if info, e := os.Stat(path); e == nil && time.Since(info.ModTime()) > estateLasts {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// readEstate reads and removes the file of LeaveEstate.
func readEstate(path string, state any) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	content, err := os.ReadFile(path)
	if err := errors.Join(err, os.Remove(path)); err != nil {
		return err
	}
	if age := time.Since(info.ModTime()); age < 0 || age > estateLasts {
		return nil
	}
	return json.Unmarshal(content, state)
}

// Attend stays until a successor and all its successors have ended, where no service manager could
// follow the change of the process. It passes signals on, and SIGTERM when ctx ends. It returns the
// exit code of the last process. pid is that of the first successor.
func Attend(ctx context.Context, pid int, signals <-chan os.Signal) int {
	ended := make(chan int, 1)
	go func() { ended <- reapAll(pid) }()
	stop := ctx.Done()
	for {
		var sig os.Signal
		select {
		case code := <-ended:
			return code
		case <-stop:
			stop, sig = nil, syscall.SIGTERM
		case sig = <-signals:
		}
		if number, ok := sig.(syscall.Signal); ok {
			_ = unix.Kill(-pid, number) // the group of all successors; it may have ended
		}
	}
}

// reapAll waits until all successors have ended, also those that this process, a subreaper, adopts
// meanwhile. They are in one process group, and scripts aren't. It returns the exit code of the
// last one.
func reapAll(group int) (code int) {
	for {
		var status unix.WaitStatus
		switch _, err := unix.Wait4(-group, &status, 0, nil); {
		case errors.Is(err, unix.EINTR):
		case err != nil: // no child is left
			return code
		case status.Signaled():
			code = 128 + int(status.Signal())
		default:
			code = status.ExitStatus()
		}
	}
}

// Predecessor is the process that this one takes over from. For nil, Running and Fail do nothing.
type Predecessor struct {
	conn net.Conn
	in   *json.Decoder
	pid  int
}

// FindPredecessor returns the process that has started this one as its successor, nil if there is
// none.
func FindPredecessor() (*Predecessor, error) {
	value := os.Getenv(successorVariable)
	if value == "" {
		return nil, nil
	}
	if err := os.Unsetenv(successorVariable); err != nil { // scripts must not see it
		return nil, err
	}
	if value != fmt.Sprint(successorFD) {
		return nil, fmt.Errorf("the environment variable %s is failoverd's own: unset it", successorVariable)
	}
	unix.CloseOnExec(successorFD)
	conn, err := fileConn(successorFD)
	if err != nil {
		return nil, fmt.Errorf("the environment variable %s is failoverd's own: unset it: %w", successorVariable, err)
	}
	return &Predecessor{conn: conn, in: json.NewDecoder(conn), pid: os.Getppid()}, nil
}

// PID returns the process ID of the predecessor.
func (p *Predecessor) PID() int { return p.pid }

// Ended reports whether the predecessor has ended.
func (p *Predecessor) Ended() bool { return os.Getppid() != p.pid }

// AwaitEnd waits for the end of the predecessor, at most for a time. The kernel closes the
// descriptors of a process that is killed some milliseconds before it ends.
func (p *Predecessor) AwaitEnd(most time.Duration) {
	for end := time.Now().Add(most); !p.Ended() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// Prepared tells the predecessor that this process can take over, waits until it has stopped
// working, and stores its state in state.
func (p *Predecessor) Prepared(ctx context.Context, state any) error {
	defer context.AfterFunc(ctx, func() { _ = p.conn.SetReadDeadline(time.Now()) })()
	if err := json.NewEncoder(p.conn).Encode(succession{Prepared: true}); err != nil {
		return err
	}
	var m succession
	err := p.in.Decode(&m)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil || len(m.State) == 0 {
		return errors.New("the running failoverd has not handed over")
	}
	return json.Unmarshal(m.State, state)
}

// Running tells the predecessor that this process has taken over, waits until it has released this
// process, and stores the rest of its state in rest.
func (p *Predecessor) Running(rest any) error {
	if p == nil {
		return nil
	}
	var m succession
	err := json.NewEncoder(p.conn).Encode(succession{Running: true})
	if err == nil {
		err = p.conn.SetReadDeadline(time.Now().Add(takeOverTimeout))
	}
	if err == nil {
		err = p.in.Decode(&m)
	}
	if err == nil {
		err = json.Unmarshal(m.State, rest)
	}
	return errors.Join(err, p.conn.Close())
}

// Fail tells the predecessor why this process can't take over.
func (p *Predecessor) Fail(why error) {
	if p == nil {
		return
	}
	_ = json.NewEncoder(p.conn).Encode(succession{Error: why.Error()}) // it may be gone
	_ = p.conn.Close()
}
