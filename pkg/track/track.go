// SPDX-License-Identifier: Apache-2.0

// Package track runs the checks that routers depend on: programs, TCP and HTTP services, hosts
// and neighbours, processes, numbers in files, interfaces, addresses, routes and other routers.
//
// A check runs once per interval, or when the kernel reports a change. The runs of a check never
// overlap, and the runs of different checks are spread over the interval.
package track

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/script"
)

// Kind is the kind of a check.
type Kind string

// The kinds.
const (
	Script    Kind = "script"    // the exit status of a program
	TCP       Kind = "tcp"       // whether a connection succeeds
	HTTP      Kind = "http"      // the status of a GET
	Ping      Kind = "ping"      // whether hosts answer ICMP echo requests
	ARP       Kind = "arp"       // whether neighbours answer ARP requests or neighbour solicitations
	Process   Kind = "process"   // the number of processes
	PIDFile   Kind = "pidfile"   // whether the process of a PID file runs
	File      Kind = "file"      // a number in a file
	Interface Kind = "interface" // whether an interface is up and has a carrier
	Address   Kind = "address"   // whether the host has an address
	Route     Kind = "route"     // whether the host has a route
	Router    Kind = "router"    // the state of another router
)

// Check is the configuration of a check. Equal checks are the same check.
type Check struct {
	Name string
	Kind Kind
	// Rise is the number of good results in a row that make the check up, and Fall the number
	// of bad ones that make it down. Both are at least 1. The first result decides alone.
	Rise, Fall int
	// Interval is the time between two runs, and Timeout the time limit of a run.
	Interval, Timeout time.Duration
	// InitFail makes the check down before its first run.
	InitFail bool

	Command script.Command // for Script; its Timeout is that of the check
	Target  string         // TCP: HOST:PORT; HTTP: the URL; File and PIDFile: the path; Interface and Router: the name
	HTTP    Request
	Targets Targets // for Ping and ARP
	Process Processes
	Address netip.Addr
	Route   routing.Sought
	State   string // Router: the good state
}

// Request has the parameters of an HTTP check, beside the URL.
type Request struct {
	Host     string   // replaces the host of the URL in the header and for TLS
	Statuses []Status // the good statuses; 200 to 299 if empty
	Insecure bool     // accept any certificate
}

// Targets are hosts that a check asks for an answer.
type Targets struct {
	Addresses []netip.Addr // without zones
	Interface string       // the name of the interface to ask on; if it is empty, the routes decide, for Ping
	AtLeast   int          // the number of hosts that must answer, at least 1
}

// Status is a range of HTTP statuses.
type Status struct{ From, To int }

// Processes has the parameters of a process check.
type Processes struct {
	Name string // as in /proc/PID/comm
	// Arguments are the first words of the command line. They replace Name.
	Arguments []string
	// Min and Max are the limits for the number of processes. Max -1 is no limit.
	Min, Max int
}

// State is the state of a check.
type State int

// The states.
const (
	Unknown State = iota // before the first run
	Up
	Down
)

func (s State) String() string { return [...]string{"unknown", "up", "down"}[s] }

// Report is the state and the last result of a check.
type Report struct {
	Name  string
	Kind  Kind
	State State
	// Value is the number of a File.
	Value int
	// Text is the result for people.
	Text string
	// Since is the time at which the state was entered, Looked the time of the last run.
	Since, Looked time.Time
	// Took is the duration of the last run.
	Took time.Duration
	// Output is the end of the output of a Script's last run.
	Output string
	// Changes counts the changes of the state after the first run.
	Changes uint64
}

// Limits of the numbers that checks use.
const (
	maxWeight = 253
	maxNumber = 1 << 20 // of a file, far beyond any priority
)

// Effect returns the effect of a check on a router that depends on it: the change of the
// priority, and whether the check is a fault that keeps the router in Initialize. With weight 0
// the check is a fault while it is down. A positive weight is added while the check is up, and a
// negative one while it is down. Reverse exchanges up and down. The number of a File is
// multiplied with the weight; with weight 0 a number other than 0 is a fault, and so is a product
// below -253. An Unknown check has no effect.
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

// outcome is the result of one run of a check.
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

// pushed reports whether Poke is called for all changes, so that the check needs no interval.
func (k Kind) pushed() bool { return k == Interface || k == Address || k == Route || k == Router }
