// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Line is one line of a process's output.
type Line struct {
	At   time.Time // when the lab read it
	Text string
}

// Process is a program that runs on a node.
type Process struct {
	Began time.Time // just before it was executed

	cmd  *exec.Cmd
	file *os.File // with the output, nil if that goes through a pipe into lines
	done chan struct{}

	mu      sync.Mutex
	lines   []Line
	changed chan struct{} // closed and replaced at each line
}

// Start runs a program on the node and reads its standard output and error, line by line,
// from a pipe.
func (n *Node) Start(path string, args ...string) (*Process, error) {
	return n.StartEnv(nil, path, args...)
}

// StartEnv is Start with additions to the environment.
func (n *Node) StartEnv(env []string, path string, args ...string) (*Process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p := newProcess(path, args...)
	p.cmd.Env = append(os.Environ(), env...)
	err = p.start(n, w)
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	go func() {
		p.read(r)
		p.end()
	}()
	return p, nil
}

// StartToFile is Start for a program that is measured: its output goes to a file in memory,
// because a reader at the other end of a pipe would slow the program down. Such a process has
// no Lines, and WaitLine finds none.
func (n *Node) StartToFile(path string, args ...string) (*Process, error) {
	fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create a file in memory: %w", err)
	}
	p := newProcess(path, args...)
	p.file = os.NewFile(uintptr(fd), "output")
	if err := p.start(n, p.file); err != nil {
		return nil, errors.Join(err, p.file.Close())
	}
	go p.end()
	return p, nil
}

func newProcess(path string, args ...string) *Process {
	return &Process{cmd: exec.Command(path, args...), done: make(chan struct{}), changed: make(chan struct{})}
}

func (p *Process) start(n *Node, output *os.File) error {
	p.cmd.Stdout, p.cmd.Stderr = output, output
	if err := n.Do(func() error {
		p.Began = time.Now()
		return p.cmd.Start()
	}); err != nil {
		return fmt.Errorf("start %s on %s: %w", p.cmd.Path, n.Name, err)
	}
	n.mu.Lock()
	n.processes = append(n.processes, p)
	n.mu.Unlock()
	return nil
}

// end waits for the end of the process.
func (p *Process) end() {
	_ = p.cmd.Wait() // ProcessState has the exit code
	close(p.done)
}

func (p *Process) read(r io.ReadCloser) {
	defer func() { _ = r.Close() }()
	s := bufio.NewScanner(r)
	for s.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, Line{time.Now(), s.Text()})
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
	}
}

// Lines returns the output so far.
func (p *Process) Lines() []Line {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Line(nil), p.lines...)
}

// Output returns the output so far as one text.
func (p *Process) Output() string {
	if p.file != nil {
		text, err := io.ReadAll(io.NewSectionReader(p.file, 0, math.MaxInt64))
		if err != nil {
			return fmt.Sprintf("could not read the output of %s: %v", p.cmd.Path, err)
		}
		return string(text)
	}
	var b strings.Builder
	for _, l := range p.Lines() {
		fmt.Fprintln(&b, l.Text)
	}
	return b.String()
}

// WaitLine waits until f is true for a line, beginning with line from, and returns the
// number of that line.
func (p *Process) WaitLine(ctx context.Context, from int, f func(string) bool) (int, error) {
	for {
		p.mu.Lock()
		lines, changed := p.lines, p.changed
		p.mu.Unlock()
		for ; from < len(lines); from++ {
			if f(lines[from].Text) {
				return from, nil
			}
		}
		select {
		case <-changed:
		case <-p.done:
			p.mu.Lock()
			more := len(p.lines) > from
			p.mu.Unlock()
			if !more {
				return 0, fmt.Errorf("%s ended (exit code %d); it wrote:\n%s", p.cmd.Path, p.cmd.ProcessState.ExitCode(), p.Output())
			}
		case <-ctx.Done():
			return 0, fmt.Errorf("%w; %s wrote:\n%s", ctx.Err(), p.cmd.Path, p.Output())
		}
	}
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// SignalAll sends a signal to the process and then to all its descendants. keepalived is
// two processes: the child speaks VRRP, and the parent restarts it.
func (p *Process) SignalAll(s syscall.Signal) error {
	all, err := family(p.PID())
	if err != nil {
		return err
	}
	for _, pid := range all {
		err := syscall.Kill(pid, s)
		if errors.Is(err, syscall.ESRCH) && pid != p.PID() {
			continue // a script that has ended meanwhile
		}
		if err != nil {
			return fmt.Errorf("send %v to process %d: %w", s, pid, err)
		}
	}
	return nil
}

// family returns a process and its descendants, parents first.
func family(pid int) ([]int, error) {
	all := []int{pid}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has just ended
		}
		for _, child := range strings.Fields(string(children)) {
			number, err := strconv.Atoi(child)
			if err != nil {
				return nil, fmt.Errorf("children of process %d: %w", pid, err)
			}
			theirs, err := family(number)
			if err != nil {
				return nil, err
			}
			all = append(all, theirs...)
		}
	}
	return all, nil
}

// PID returns the process ID in the namespace of the calling program.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end of the process and returns its exit code, or -1 if a signal
// ended it.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s still runs: %w; it wrote:\n%s", p.cmd.Path, ctx.Err(), p.Output())
	}
}

// Stop sends SIGTERM and waits for the exit code.
func (p *Process) Stop(ctx context.Context) (int, error) {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	return p.Wait(ctx)
}

// Run runs a program on the node to its end and returns its output.
func (n *Node) Run(ctx context.Context, path string, args ...string) (string, error) {
	p, err := n.Start(path, args...)
	if err != nil {
		return "", err
	}
	code, err := p.Wait(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("%s %s: exit code %d: %s", path, strings.Join(args, " "), code, p.Output())
	}
	return p.Output(), err
}
