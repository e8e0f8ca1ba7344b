// SPDX-License-Identifier: Apache-2.0

// Package script runs the programs of an administrator: as a given user, with bounded output,
// and with a time limit at which they and all processes that they started are killed. It also
// checks whether other users may change a program.
package script

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// DefaultKeep is the number of bytes that are kept of a program's output.
const DefaultKeep = 4096

// DefaultPath is the search path of a program without an environment.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Command is a program to run.
type Command struct {
	// Args are the program's absolute path and its arguments. There is no shell and no
	// search in PATH.
	Args []string
	// Env is the whole environment, like "NAME=value"; nil for only PATH.
	Env []string
	// Dir is the working directory; empty for the root directory.
	Dir string
	// User is the user that the program runs as; nil for the user of this process.
	User *Credential
	// Stdin is the input of the program, at most 64 KiB.
	Stdin []byte
	// Timeout is the time limit; 0 for none.
	Timeout time.Duration
	// Keep is the number of bytes to keep of the end of its output; 0 for DefaultKeep.
	Keep int
	// Sole kills the processes that the program started when it ends. Without Sole only
	// the time limit kills them, because a hook may leave a daemon behind. A check may not.
	Sole bool
}

// Result is the result of a run.
type Result struct {
	// Started is the time of the start, and Took the duration.
	Started time.Time
	Took    time.Duration
	// Status is the exit status, or -1 if there is none.
	Status int
	// Signal is the signal that ended the program, if one did.
	Signal syscall.Signal
	// TimedOut is true if the program was killed at its time limit.
	TimedOut bool
	// Killed is the number of processes, started by the program, that were killed too.
	Killed int
	// Output is the end of the standard output and the standard error together. Written is
	// the size of both, in bytes.
	Output  []byte
	Written int64
	// Err is the reason why the program could not run, or context.Canceled.
	Err error
}

// OK reports whether the program ended by itself with status 0.
func (r Result) OK() bool { return r.Err == nil && !r.TimedOut && r.Signal == 0 && r.Status == 0 }

// String describes the result for people.
func (r Result) String() string {
	var killed string
	if r.Killed > 0 {
		killed = fmt.Sprintf(", with %d processes that it started", r.Killed)
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

// LastLine returns the last line of the output that isn't empty, without control characters.
func (r Result) LastLine() string {
	lines := strings.Split(strings.TrimSpace(string(r.Output)), "\n")
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == '\uFFFD' {
			return -1
		}
		return c
	}, lines[len(lines)-1])
}
