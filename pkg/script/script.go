// SPDX-License-Identifier: Apache-2.0

// Package script runs programs that an administrator has written: with a time
// limit after which they and all that they started are killed, with their output
// bounded, as a user of their own. It also says whether others may write to one.
package script

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// DefaultKeep is how much of a program's output is kept, in octets.
const DefaultKeep = 4096

// DefaultPath is the search path of a program without an environment.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Command is a program to run.
type Command struct {
	// Args are the program's path and its arguments. There is no shell, and no
	// search for the program: the path must be absolute.
	Args []string
	// Env is the whole environment, like "NAME=value"; nil for a PATH alone.
	Env []string
	// Dir is the working directory, empty for the root.
	Dir string
	// User is whom to run it as, nil for this process's own.
	User *Credential
	// Stdin is what the program reads, at most 64 KiB.
	Stdin []byte
	// Timeout is how long it may take, 0 for as long as it likes.
	Timeout time.Duration
	// Keep is how much of the end of its output is kept, in octets; 0 for
	// DefaultKeep. The rest is read and thrown away.
	Keep int
	// Sole has what it started killed when it ends, too. Without it only the
	// time limit does that: a hook may leave a daemon behind, a check may not.
	Sole bool
}

// Result is how a run went.
type Result struct {
	// Started is when, and Took how long.
	Started time.Time
	Took    time.Duration
	// Status is the exit status, -1 if there is none.
	Status int
	// Signal is what ended it, if it was a signal.
	Signal syscall.Signal
	// TimedOut says that it was killed at its time limit.
	TimedOut bool
	// Killed is how many more processes were killed: what it had started.
	Killed int
	// Output is the end of what it wrote, to either output; Written is how
	// much it wrote in all, in octets.
	Output  []byte
	Written int64
	// Err is why it could not be run, or context.Canceled.
	Err error
}

// OK reports whether the program ran and ended with status 0.
func (r Result) OK() bool { return r.Err == nil && !r.TimedOut && r.Signal == 0 && r.Status == 0 }

// String says how it went, for people.
func (r Result) String() string {
	var killed string
	if r.Killed > 0 {
		killed = fmt.Sprintf(", with %d processes that it had started", r.Killed)
	}
	switch {
	case errors.Is(r.Err, context.Canceled):
		return "stopped" + killed
	case r.Err != nil:
		return r.Err.Error()
	case r.TimedOut:
		return "killed at its time limit, after " + r.Took.Round(time.Millisecond).String() + killed
	case r.Signal != 0:
		return "ended by signal " + r.Signal.String()
	}
	return fmt.Sprintf("exit status %d", r.Status)
}

// LastLine is the last line of the output that isn't empty, as it can be shown.
func (r Result) LastLine() string {
	lines := strings.Split(strings.TrimSpace(string(r.Output)), "\n")
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == '\uFFFD' {
			return -1
		}
		return c
	}, lines[len(lines)-1])
}
