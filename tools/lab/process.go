// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Line is a line that a process has written.
type Line struct {
	At   time.Time
	Text string
}

// Process is a program that runs on a node.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}

	mu      sync.Mutex
	lines   []Line
	changed chan struct{} // closed and replaced at each line
}

// Start runs a program on the node. What it writes is kept in lines.
func (n *Node) Start(path string, args ...string) (*Process, error) {
	return n.StartEnv(nil, path, args...)
}

// StartEnv is Start with additions to the environment.
func (n *Node) StartEnv(env []string, path string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(path, args...), done: make(chan struct{}), changed: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	err = n.Do(p.cmd.Start)
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("start %s on %s: %w", path, n.Name, err)
	}
	n.mu.Lock()
	n.processes = append(n.processes, p)
	n.mu.Unlock()
	go func() {
		p.read(r)
		_ = p.cmd.Wait() // its exit code tells
		close(p.done)
	}()
	return p, nil
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

// Lines returns what the process has written so far.
func (p *Process) Lines() []Line {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Line(nil), p.lines...)
}

// Output returns what the process has written so far as one text.
func (p *Process) Output() string {
	var b strings.Builder
	for _, l := range p.Lines() {
		fmt.Fprintln(&b, l.Text)
	}
	return b.String()
}

// WaitLine waits for a line from the given one on for which f is true and
// returns its number.
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

// SignalAll sends a signal to the process and to all those that it has started,
// itself first. keepalived is two: the one that speaks VRRP, and its parent.
func (p *Process) SignalAll(s syscall.Signal) error {
	all, err := family(p.PID())
	if err != nil {
		return err
	}
	for _, pid := range all {
		if err := syscall.Kill(pid, s); err != nil {
			return fmt.Errorf("send %v to process %d: %w", s, pid, err)
		}
	}
	return nil
}

// family returns a process and those that it has started, parents first.
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

// PID returns the number of the process as this process sees it.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end of the process and returns its exit code, -1 if a
// signal ended it.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s still runs: %w; it wrote:\n%s", p.cmd.Path, ctx.Err(), p.Output())
	}
}

// Stop asks the process to end and waits for its exit code.
func (p *Process) Stop(ctx context.Context) (int, error) {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	return p.Wait(ctx)
}

// Run runs a program on the node to its end and returns what it wrote.
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
