// SPDX-License-Identifier: Apache-2.0

package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pipeSize is the capacity of a pipe in bytes.
const pipeSize = 64 << 10

// markName is the environment variable that marks all processes of a program, so that they are
// found in whatever session they are.
const markName = "FAILOVERD_RUN"

// soleMark is the suffix of the value for programs that may leave no processes behind.
const soleMark = "-sole"

// Runner runs programs. Its methods may be called from any goroutine.
type Runner struct {
	count   atomic.Uint64 // number of started programs
	adopted atomic.Bool

	// starting is held from the start of a process until it is in children.
	starting sync.RWMutex
	mu       sync.Mutex
	children map[int]*process // the programs that Run waits for, by process ID
}

// NewRunner returns a Runner.
func NewRunner() *Runner { return &Runner{children: make(map[int]*process)} }

// Run runs a program until it ends, its time limit is reached, or ctx ends. It needs no thread
// while it waits.
func (r *Runner) Run(ctx context.Context, c Command) Result {
	result := Result{Started: time.Now(), Status: -1}
	p, err := r.start(c)
	if err != nil {
		result.Err = err
		return result
	}
	defer p.close()
	tail := newTail(c.Keep)
	var reading sync.WaitGroup
	reading.Go(func() { tail.fill(p.output) })

	if c.Timeout > 0 {
		_ = p.pidfd.SetReadDeadline(result.Started.Add(c.Timeout)) // works, because start made it pollable
	}
	stop := context.AfterFunc(ctx, func() { _ = p.pidfd.SetReadDeadline(time.Unix(1, 0)) })
	err = p.wait()
	stop()
	switch {
	case err == nil:
		if c.Sole {
			p.killSession()
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		if result.Err = ctx.Err(); result.Err == nil {
			result.TimedOut = true
		}
		result.Killed = r.kill(p)
	default:
		result.Err = err
		result.Killed = r.kill(p)
	}
	for errors.Is(err, os.ErrDeadlineExceeded) { // AfterFunc may set the deadline again
		_ = p.pidfd.SetReadDeadline(time.Time{})
		err = p.wait()
	}
	status := r.reap(p)
	result.Took = time.Since(result.Started)
	if status.Exited() {
		result.Status = status.ExitStatus()
	} else if status.Signaled() {
		result.Signal = status.Signal()
	}
	// Processes that it left behind may hold the pipe open, so only the present output is
	// read.
	_ = p.output.SetReadDeadline(time.Unix(1, 0))
	reading.Wait()
	tail.rest(p.output)
	result.Output, result.Written = tail.bytes(), tail.written
	return result
}

// process is a running program.
type process struct {
	pid    int
	mark   string
	pidfd  *os.File
	output *os.File
}

func (p *process) close() {
	_ = p.pidfd.Close()
	_ = p.output.Close()
}

// start starts a program in a new session.
func (r *Runner) start(c Command) (*process, error) {
	if len(c.Args) == 0 || !filepath.IsAbs(c.Args[0]) {
		return nil, fmt.Errorf("run %q: the program's path must be absolute", c.Args)
	}
	in, err := input(c.Stdin)
	if err != nil {
		return nil, fmt.Errorf("prepare the input of %s: %w", c.Args[0], err)
	}
	defer func() { _ = in.Close() }()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make a pipe for %s: %w", c.Args[0], err)
	}
	defer func() { _ = unix.Close(pipe[1]) }()
	p := &process{mark: fmt.Sprintf("%s=%d-%d", markName, os.Getpid(), r.count.Add(1))}
	if c.Sole {
		p.mark += soleMark
	}
	fd := -1
	attr := &syscall.ProcAttr{
		Dir:   "/",
		Env:   append(environment(c), p.mark),
		Files: []uintptr{in.Fd(), uintptr(pipe[1]), uintptr(pipe[1])},
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &fd},
	}
	if c.Dir != "" {
		attr.Dir = c.Dir
	}
	if c.User != nil {
		attr.Sys.Credential = c.User.system()
	}
	r.starting.RLock()
	p.pid, err = Fork(c.Args[0], c.Args, attr)
	if err == nil {
		r.mu.Lock()
		r.children[p.pid] = p
		r.mu.Unlock()
	}
	r.starting.RUnlock()
	if err == nil && fd < 0 {
		err = errors.New("the kernel has no pidfd: use Linux 5.4 or newer")
	}
	if err != nil {
		_ = unix.Close(pipe[0])
		return nil, fmt.Errorf("start %s: %w", c.Args[0], err)
	}
	p.pidfd, p.output = pollable(fd, "pidfd"), pollable(pipe[0], "output")
	return p, nil
}

// defaultSlack is the default timer slack of the kernel, in nanoseconds.
const defaultSlack = 50_000

// atStart is the nice value of this process when it started.
var atStart = niceness()

// Niceness returns the nice value of this process when it started, which programs get too.
func Niceness() int32 { return atStart }

func niceness() int32 {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return 0
	}
	return 20 - int32(n) // the system call returns 20 minus the nice value
}

// Forking is held for reading during each Fork. Who changes the scheduling of all threads for a while
// holds it, because Fork restores that of its thread to what it was before.
var Forking sync.RWMutex

// Fork starts the program at a path with the default scheduling. The process inherits the scheduling
// policy, the nice value and the timer slack of the thread that forks, so Fork resets these for
// the thread and restores the policy and the nice value afterwards.
func Fork(path string, args []string, attr *syscall.ProcAttr) (pid int, err error) {
	Forking.RLock()
	defer Forking.RUnlock()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, defaultSlack, 0, 0, 0) // can't fail
	rank, err := unix.SchedGetAttr(0, 0)
	// A policy with SCHED_FLAG_RESET_ON_FORK isn't inherited. It is left alone, because
	// the thread may lack the privilege to restore it.
	if err == nil && rank.Flags&unix.SCHED_FLAG_RESET_ON_FORK == 0 {
		plain := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: atStart}
		if err := unix.SchedSetAttr(0, &plain, 0); err != nil && rank.Policy != unix.SCHED_NORMAL {
			return 0, fmt.Errorf("reset the scheduling policy: %w", err)
		}
		// Without the privilege for that the thread keeps the default.
		defer func() { _ = unix.SchedSetAttr(0, rank, 0) }()
	}
	return syscall.ForkExec(path, args, attr)
}

func environment(c Command) []string {
	if c.Env == nil {
		return []string{"PATH=" + DefaultPath}
	}
	return c.Env[:len(c.Env):len(c.Env)]
}

// input returns a file from which a program reads b.
func input(b []byte) (*os.File, error) {
	if len(b) == 0 {
		return os.Open(os.DevNull)
	}
	if len(b) > pipeSize {
		return nil, fmt.Errorf("%d bytes are too many: the limit is %d", len(b), pipeSize)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(pipe[1]) }()
	if _, err := unix.Write(pipe[1], b); err != nil {
		_ = unix.Close(pipe[0])
		return nil, err
	}
	return os.NewFile(uintptr(pipe[0]), "input"), nil
}

// pollable makes a file of a descriptor. Waiting for the file needs no thread.
func pollable(fd int, name string) *os.File {
	_ = unix.SetNonblock(fd, true) // can't fail for an open descriptor
	return os.NewFile(uintptr(fd), name)
}

// wait waits until the process ends. The process stays a zombie, so that its process ID and
// session ID aren't reused.
func (p *process) wait() error {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Read(func(fd uintptr) bool {
		var info unix.Siginfo
		failed = unix.Waitid(unix.P_PIDFD, int(fd), &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if errors.Is(failed, unix.EAGAIN) || errors.Is(failed, unix.EINTR) {
			failed = nil
			return false
		}
		return failed != nil || info.Signo != 0
	})
	return errors.Join(err, failed)
}

// reap removes a zombie and returns its status.
func (r *Runner) reap(p *process) (status unix.WaitStatus) {
	for {
		if _, err := unix.Wait4(p.pid, &status, 0, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	r.mu.Lock()
	delete(r.children, p.pid)
	r.mu.Unlock()
	return status
}

// tail keeps the end of an output.
type tail struct {
	kept    []byte
	keep    int
	written int64
	buffer  []byte
}

func newTail(keep int) *tail {
	if keep <= 0 {
		keep = DefaultKeep
	}
	return &tail{keep: keep, buffer: make([]byte, 4096)}
}

// fill reads until the end or the deadline.
func (t *tail) fill(from io.Reader) {
	for {
		n, err := from.Read(t.buffer)
		t.add(t.buffer[:n])
		if err != nil {
			return
		}
	}
}

// rest reads the present content of a pipe, at most pipeSize bytes.
func (t *tail) rest(from *os.File) {
	conn, err := from.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		for left := pipeSize; left > 0; {
			n, err := unix.Read(int(fd), t.buffer)
			if err != nil || n <= 0 {
				return
			}
			t.add(t.buffer[:n])
			left -= n
		}
	})
}

func (t *tail) add(b []byte) {
	t.written += int64(len(b))
	t.kept = append(t.kept, b...)
	if len(t.kept) > 2*t.keep { // moves the bytes only now and then
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-t.keep:]...)
	}
}

func (t *tail) bytes() []byte {
	return t.kept[max(len(t.kept)-t.keep, 0):]
}
