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

// pipeSize is what a pipe takes without a reader.
const pipeSize = 64 << 10

// markName is the variable by which a program's processes are known, wherever
// they went.
const markName = "FAILOVERD_RUN"

// soleMark ends the value of programs that may leave nothing behind.
const soleMark = "-sole"

// Runner runs programs. Its methods may be called from any goroutine.
type Runner struct {
	count   atomic.Uint64 // of the programs that were started
	adopted atomic.Bool

	// starting is held while a process is started and is not yet in children.
	starting sync.RWMutex
	mu       sync.Mutex
	children map[int]*process // that are waited for here, by their numbers
}

// NewRunner returns a Runner.
func NewRunner() *Runner { return &Runner{children: make(map[int]*process)} }

// Run runs a program and returns when it has ended, at its time limit, or when
// ctx ends. A waiting Run costs no thread.
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
		_ = p.pidfd.SetReadDeadline(result.Started.Add(c.Timeout)) // it is pollable, or start would have failed
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
	for errors.Is(err, os.ErrDeadlineExceeded) { // ctx may end once more
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
	// What it left behind may hold the output open: only what is there is read.
	_ = p.output.SetReadDeadline(time.Unix(1, 0))
	reading.Wait()
	tail.rest(p.output)
	result.Output, result.Written = tail.bytes(), tail.written
	return result
}

// process is a program that runs.
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

// start starts a program in a session of its own.
func (r *Runner) start(c Command) (*process, error) {
	if len(c.Args) == 0 || !filepath.IsAbs(c.Args[0]) {
		return nil, fmt.Errorf("run %q: the program's path must be absolute", c.Args)
	}
	in, err := input(c.Stdin)
	if err != nil {
		return nil, fmt.Errorf("make the input of %s: %w", c.Args[0], err)
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
	p.pid, err = fork(c.Args, attr)
	if err == nil {
		r.mu.Lock()
		r.children[p.pid] = p
		r.mu.Unlock()
	}
	r.starting.RUnlock()
	if err == nil && fd < 0 {
		err = errors.New("the kernel has no pidfd: Linux 5.4 is needed")
	}
	if err != nil {
		_ = unix.Close(pipe[0])
		return nil, fmt.Errorf("start %s: %w", c.Args[0], err)
	}
	p.pidfd, p.output = pollable(fd, "pidfd"), pollable(pipe[0], "output")
	return p, nil
}

// usualSlack is how late, in nanoseconds, the kernel wakes a thread of nobody's choice.
const usualSlack = 50_000

// atStart is how nice this process was at its start.
var atStart = niceness()

// Niceness is how nice this process was at its start: so are the programs that it runs.
func Niceness() int32 { return atStart }

func niceness() int32 {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return 0
	}
	return 20 - int32(n) // as the kernel counts
}

// fork starts a process that the kernel ranks like any other, although this one may be
// real-time, ask for a short time at once or to be woken late: it inherits that of the
// thread that forks.
func fork(args []string, attr *syscall.ProcAttr) (pid int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, usualSlack, 0, 0, 0) // it can't fail
	rank, err := unix.SchedGetAttr(0, 0)
	// A rank that isn't inherited may be gone before it could be restored.
	if err == nil && rank.Flags&unix.SCHED_FLAG_RESET_ON_FORK == 0 {
		plain := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: atStart}
		if err := unix.SchedSetAttr(0, &plain, 0); err != nil && rank.Policy != unix.SCHED_NORMAL {
			return 0, fmt.Errorf("give up the rank: %w", err)
		}
		// Without the right to it the thread stays as it is.
		defer func() { _ = unix.SchedSetAttr(0, rank, 0) }()
	}
	return syscall.ForkExec(args[0], args, attr)
}

func environment(c Command) []string {
	if c.Env == nil {
		return []string{"PATH=" + DefaultPath}
	}
	return c.Env[:len(c.Env):len(c.Env)]
}

// input is a file from which a program reads what is given.
func input(b []byte) (*os.File, error) {
	if len(b) == 0 {
		return os.Open(os.DevNull)
	}
	if len(b) > pipeSize {
		return nil, fmt.Errorf("%d octets are too many", len(b))
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

// pollable makes a file of a descriptor that is waited for without a thread.
func pollable(fd int, name string) *os.File {
	_ = unix.SetNonblock(fd, true) // fails for no open descriptor
	return os.NewFile(uintptr(fd), name)
}

// wait waits until the process has ended. It stays a zombie, so that its number
// and its session's are nobody else's.
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

// reap takes the status of a process that has ended.
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

// tail keeps the end of what it is given.
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

// fill reads until there is an end or a deadline.
func (t *tail) fill(from io.Reader) {
	for {
		n, err := from.Read(t.buffer)
		t.add(t.buffer[:n])
		if err != nil {
			return
		}
	}
}

// rest reads what is in a pipe already, and no more than a pipe can have.
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
	if len(t.kept) > 2*t.keep { // so that little is moved
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-t.keep:]...)
	}
}

func (t *tail) bytes() []byte {
	return t.kept[max(len(t.kept)-t.keep, 0):]
}
