// SPDX-License-Identifier: Apache-2.0

// Package track watches what routers depend on: programs, TCP and HTTP services,
// processes, numbers in files, interfaces, addresses, routes and other routers.
//
// What the kernel tells is looked at when it does; the rest every interval, one
// look after the other for each check, and all of them spread over the interval.
package track

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/script"
)

// Kind is what a check looks at.
type Kind string

// The kinds.
const (
	Script    Kind = "script"    // a program's exit status
	TCP       Kind = "tcp"       // whether a connection is made
	HTTP      Kind = "http"      // a GET's status
	Process   Kind = "process"   // whether processes of a name run
	PIDFile   Kind = "pidfile"   // whether the process of a PID file runs
	File      Kind = "file"      // a number in a file
	Interface Kind = "interface" // whether it is up and has a carrier
	Address   Kind = "address"   // whether the host has it
	Route     Kind = "route"     // whether the host has it
	Router    Kind = "router"    // another router's state
)

// Check is something to watch. Two that are equal are the same one.
type Check struct {
	Name string
	Kind Kind
	// Rise is how many good looks in a row make it up, Fall how many bad ones
	// make it down; both are at least 1. The very first look decides alone.
	Rise, Fall int
	// Interval is the time between two looks, Timeout how long one may take.
	Interval, Timeout time.Duration
	// InitFail has it be down before the first look.
	InitFail bool

	Command script.Command // Script; Timeout is the check's
	Target  string         // TCP: HOST:PORT; HTTP: the URL; File and PIDFile: the path; Interface and Router: the name
	HTTP    Request
	Process Processes
	Address netip.Addr
	Route   routing.Sought
	State   string // Router: the state that is good
}

// Request is what an HTTP check asks, beside its URL.
type Request struct {
	Host     string   // instead of the URL's, in the header and for TLS
	Statuses []Status // that are good; none: 200 to 299
	Insecure bool     // accept any certificate
}

// Status is a range of HTTP statuses.
type Status struct{ From, To int }

// Processes are those that a process check counts.
type Processes struct {
	Name string // as in /proc/PID/comm
	// Arguments are the first words of the command line, instead of a name.
	Arguments []string
	// Min and Max are how many have to be there; Max -1: any number.
	Min, Max int
}

// State is what is known of a check.
type State int

// The states.
const (
	Unknown State = iota // not looked at yet
	Up
	Down
)

func (s State) String() string { return [...]string{"unknown", "up", "down"}[s] }

// Report is what is known of a check.
type Report struct {
	Name  string
	Kind  Kind
	State State
	// Value is a File's number.
	Value int
	// Text says what was found, for people.
	Text string
	// Since is when the state was entered, Looked when it was last looked.
	Since, Looked time.Time
	// Took is how long the last look took.
	Took time.Duration
	// Output is the end of what a Script wrote in its last run.
	Output string
	// Changes is how often the state has changed since the first look.
	Changes uint64
}

// Limits of what a check changes a priority by.
const (
	maxWeight = 253
	maxNumber = 1 << 20 // of a file, far beyond any priority
)

// Effect is what a check does to a router that depends on it, with a weight: with
// 0 a fault while it is down; a positive one is added while it is up, a negative
// one while it is down. Reverse takes up for down. A File's number is multiplied
// with the weight, or is a fault if the weight is 0 and the number isn't; a result
// below -253 is a fault. A check that is Unknown does nothing.
func Effect(r Report, weight int, reverse bool) (delta int, fault bool) {
	if r.State == Unknown {
		return 0, false
	}
	up := (r.State == Up && r.Value == 0) != reverse
	if r.Kind == File && weight != 0 {
		if r.State == Down {
			return 0, false
		}
		delta = r.Value * weight // both are small
		if reverse {
			delta = -delta
		}
		return delta, delta < -maxWeight
	}
	switch {
	case weight == 0:
		return 0, !up
	case weight > 0 && up, weight < 0 && !up:
		return weight, false
	}
	return 0, false
}

// outcome is what a look found.
type outcome struct {
	good   bool
	value  int
	text   string
	output string
	took   time.Duration
}

func bad(format string, args ...any) outcome { return outcome{text: fmt.Sprintf(format, args...)} }

func good(format string, args ...any) outcome {
	return outcome{good: true, text: fmt.Sprintf(format, args...)}
}

// told reports whether changes are told, so that nothing has to be polled.
func (k Kind) told() bool { return k == Interface || k == Address || k == Route || k == Router }
