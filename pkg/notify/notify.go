// SPDX-License-Identifier: Apache-2.0

// Package notify runs hooks and writes lines to a FIFO when the state of a router or a group
// changes, or an Active router hears one of lower priority. The names of states and the
// arguments are those of keepalived, so its scripts go on working.
//
// One program runs at a time for each router or group. While it runs, only the latest state
// change waits. The changes before it are skipped and counted.
package notify

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/failoverd/failoverd/pkg/script"
)

// Kind is the kind of a Subject, as keepalived names it.
type Kind string

// The kinds.
const (
	Instance Kind = "INSTANCE" // a configured router
	Group    Kind = "GROUP"
)

// State is a state, as keepalived names it.
type State string

// The states.
const (
	Master State = "MASTER" // Active
	Backup State = "BACKUP"
	Fault  State = "FAULT" // Initialize, because of an obstacle
	Stop   State = "STOP"  // Initialize, because of maintenance, a reload or the daemon's end
)

// What keepalived reports in place of a state, while the state stays.
const (
	LowerPriority  State = "MASTER_RX_LOWER_PRI" // an Active has heard a router of lower priority
	MasterPriority State = "MASTER_PRIORITY"     // the priority of an Active has changed
	BackupPriority State = "BACKUP_PRIORITY"     // that of another router
)

// Subject is a router or a group.
type Subject struct {
	Kind Kind
	Name string
}

// Event is a state change.
type Event struct {
	Subject
	State    State
	Priority int // 1 to 255, or 0 for a group
	Cause    string
	Time     time.Time
	// Describe returns a value whose JSON is an object with more fields for the hook. It is
	// called just before the hook runs, from another goroutine than the caller of Notify.
	Describe func() any
}

// line returns the event as keepalived writes it to a FIFO.
func (e *Event) line() string {
	return fmt.Sprintf("%s \"%s\" %s %d\n", e.Kind, e.Name, e.State, e.Priority)
}

// changes reports whether the event is a change of state.
func (e *Event) changes() bool {
	return e.State != LowerPriority && e.State != MasterPriority && e.State != BackupPriority
}

// arguments returns the arguments that keepalived appends to those of a hook.
func (e *Event) arguments() []string {
	return []string{string(e.Kind), e.Name, string(e.State), strconv.Itoa(e.Priority)}
}

// Hook is a program that runs for state changes.
type Hook struct {
	// Setting is its key in the configuration, like notify_active. It is unique among the
	// hooks of a Subject.
	Setting string
	// Command is the program's absolute path and its arguments.
	Command []string
	// On is the only state, or LowerPriority, that the hook runs for. It gets only its own
	// arguments then. A hook with an empty On runs for all states, and the arguments of the
	// event are appended.
	On      State
	Timeout time.Duration
}

func (h *Hook) matches(e *Event) bool { return h.On == e.State || h.On == "" && e.changes() }

func (h *Hook) arguments(e *Event) []string {
	if h.On != "" {
		return h.Command
	}
	return slices.Concat(h.Command, e.arguments())
}

// Outcome is the result of a run.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"  // exit status other than 0, or the program could not run
	Timeout Outcome = "timeout" // killed at its time limit
	Refused Outcome = "refused" // other users may change the program
	Stopped Outcome = "stopped" // killed because the daemon ends
)

// Outcomes are all outcomes.
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
	Text    string // the result, for people
	Output  string // the end of its output
	Written int64  // size of its whole output, in bytes
	Skipped int    // number of state changes before this one that ran no hook
}

// record copies the result of a program.
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

// HookState is the state of one hook of a Subject.
type HookState struct {
	Setting string
	Command string
	Problem string // why the program could not run when it was configured
	Running State  // the state that it runs for now; empty if it isn't running
	Since   time.Time
	Last    *Run // nil before the first run
}

// Report is the state of all hooks of a Subject.
type Report struct {
	Hooks   []HookState
	Skipped uint64             // state changes that ran no hook
	Runs    map[Outcome]uint64 // number of runs with each outcome
}
