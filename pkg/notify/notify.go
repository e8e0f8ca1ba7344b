// SPDX-License-Identifier: Apache-2.0

// Package notify tells programs that a router's or a group's state has changed:
// it runs hooks, and writes lines to a FIFO. Names of states and arguments are
// keepalived's, whose scripts go on working.
//
// For each router or group one program runs at a time. While it does, only the
// latest change of state waits: what came before it is counted and never told.
package notify

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/failoverd/failoverd/pkg/script"
)

// Kind says what a Subject is, in keepalived's words.
type Kind string

// The kinds.
const (
	Instance Kind = "INSTANCE" // a configured router
	Group    Kind = "GROUP"
)

// State is a state in keepalived's words.
type State string

// The states.
const (
	Master State = "MASTER" // Active
	Backup State = "BACKUP"
	Fault  State = "FAULT" // in Initialize, because something keeps it from taking part
	Stop   State = "STOP"  // in Initialize, because the administrator wants it
)

// Subject is what has a state. It is the key of all that is kept.
type Subject struct {
	Kind Kind
	Name string
}

// Event is a change of state.
type Event struct {
	Subject
	State    State
	Priority int // 1 to 255; of a group 0
	Cause    string
	Time     time.Time
	// Describe returns what else a hook is told, an object in JSON. It is called
	// when the hook is to be run, by another goroutine than Notify's caller.
	Describe func() any
}

// line is the event as keepalived writes it to a FIFO.
func (e *Event) line() string {
	return fmt.Sprintf("%s \"%s\" %s %d\n", e.Kind, e.Name, e.State, e.Priority)
}

// arguments are the event as keepalived adds it to a hook's arguments.
func (e *Event) arguments() []string {
	return []string{string(e.Kind), e.Name, string(e.State), strconv.Itoa(e.Priority)}
}

// Hook is a program that is to be run.
type Hook struct {
	// Setting is what it is called in the configuration, like notify_active. It
	// is unique among the hooks of a Subject.
	Setting string
	// Command is the program's absolute path and its arguments.
	Command []string
	// On is the only state that it is run for, without the event's arguments;
	// empty: it is run for all of them, and has them behind its own.
	On      State
	Timeout time.Duration
}

func (h *Hook) matches(e *Event) bool { return h.On == "" || h.On == e.State }

func (h *Hook) arguments(e *Event) []string {
	if h.On != "" {
		return h.Command
	}
	return slices.Concat(h.Command, e.arguments())
}

// Outcome is how a run ended.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"  // it exited with another status than 0, or couldn't be run
	Timeout Outcome = "timeout" // it was killed at its time limit
	Refused Outcome = "refused" // others may write to it
	Stopped Outcome = "stopped" // it was killed for the daemon leaves
)

// Outcomes are all of them.
var Outcomes = []Outcome{OK, Failed, Timeout, Refused, Stopped}

// Run is one run of a hook.
type Run struct {
	Subject Subject
	Setting string
	State   State
	Command string // with all arguments
	Started time.Time
	Took    time.Duration
	Outcome Outcome
	Text    string // how it ended, for people
	Output  string // the end of what it wrote
	Written int64  // how much that was in all, in octets
	Skipped int    // how many changes of state were never told before this one
}

// record notes how a run went.
func (r *Run) record(result *script.Result) {
	r.Started, r.Took = result.Started, result.Took
	r.Text, r.Output, r.Written = result.String(), string(result.Output), result.Written
	switch {
	case result.OK():
		r.Outcome = OK
	case result.TimedOut:
		r.Outcome = Timeout
	case stopped(result.Err):
		r.Outcome = Stopped
	default:
		r.Outcome = Failed
	}
}

// HookState is what is known of one of a Subject's hooks.
type HookState struct {
	Setting string
	Command string
	Problem string // what is wrong with the program, as it was when it was configured
	Running State  // the state that it is being told; empty: it isn't running
	Since   time.Time
	Last    *Run // nil: it was never run
}

// Report is what is known of a Subject's hooks.
type Report struct {
	Hooks   []HookState
	Skipped uint64             // changes of state that were never told
	Runs    map[Outcome]uint64 // how many ended so
}
