// SPDX-License-Identifier: Apache-2.0

// Package control is the daemon's interface for administrators and programs on
// the same host: HTTP with JSON on a unix socket.
//
//	curl --unix-socket /run/failoverd/control.sock http://failoverd/
//
// lists the endpoints.
//
// Each user who may open the socket may read. Only root and the daemon's own user may change
// something.
package control

import "time"

// DefaultPath is the path of the socket.
const DefaultPath = "/run/failoverd/control.sock"

// Status is the state of the daemon and its routers.
type Status struct {
	Version    string      `json:"version"`               // the version of failoverd
	PID        int         `json:"pid"`                   // the process ID of the daemon
	Started    time.Time   `json:"started"`               // when the daemon started
	Now        time.Time   `json:"now"`                   // when the status was read
	Config     string      `json:"config,omitempty"`      // the path of the configuration file
	LastReload *LastReload `json:"last_reload,omitempty"` // the last reload since the start, if there was one
	Realtime   Realtime    `json:"realtime"`              // which threads of the daemon are real-time
	FIFO       *FIFO       `json:"fifo,omitempty"`        // the FIFO that gets the state changes
	Routers    []Router    `json:"routers"`               // the virtual routers
	Tracks     []Track     `json:"tracks,omitempty"`      // the checks that routers depend on, by name
}

// Realtime is the scheduling of the daemon's threads, with the values of the key realtime:
// the threads of the event loop are real-time (auto), all threads are (true), or none is
// (false).
type Realtime struct {
	Wanted string `json:"wanted"` // the configured value
	Is     string `json:"is"`     // the effective value
	// why the effective value differs, or which privilege is missing, and the remedy
	Problem string `json:"problem,omitempty"`
}

// Track is the state of one check.
type Track struct {
	Name string `json:"name"` // the name of the check
	// one of script, tcp, http, ping, arp, process, pidfile, file, interface, address, route or router
	Kind   string     `json:"kind"`
	State  string     `json:"state"`            // up or down, or unknown before the first run
	Since  time.Time  `json:"since"`            // when the state was entered
	Looked *time.Time `json:"looked,omitempty"` // when the check last ran
	Took   float64    `json:"took"`             // the duration of the last run, in seconds
	Text   string     `json:"text"`             // the result of the last run, for people
	Value  *int       `json:"value,omitempty"`  // the number in the file of a check of the kind file
	// how often the state has changed since the first run
	Changes uint64 `json:"changes"`
	Output  string `json:"output,omitempty"` // the end of a script's output, if it failed
}

// Dependency is a check that a router depends on.
type Dependency struct {
	Track   string `json:"track"`             // the name of the check
	State   string `json:"state"`             // one of up, down or unknown
	Weight  int    `json:"weight"`            // the configured weight
	Reverse bool   `json:"reverse,omitempty"` // whether up and down are exchanged
	Change  int    `json:"change"`            // what it adds to the priority now
	Fault   bool   `json:"fault"`             // whether it keeps the router in Initialize now
}

// Router is the state of one Virtual Router. A configured router has one Virtual Router for
// each family of its addresses.
type Router struct {
	Name      string   `json:"name"`                      // the name of the configured router
	Interface string   `json:"interface"`                 // its network interface
	Family    string   `json:"family"`                    // its family, ipv4 or ipv6
	VRID      int      `json:"vrid"`                      // its VRID
	Version   int      `json:"version"`                   // its VRRP version
	Addresses []string `json:"addresses"`                 // its virtual addresses; one on another interface ends with that, like 192.0.2.10/24 on eth1
	Extra     []string `json:"extra_addresses,omitempty"` // its addresses that aren't advertised
	// the labels of its addresses, like 192.0.2.10/24, and of its extra addresses
	Labels map[string]string `json:"labels,omitempty"`
	Routes []string          `json:"routes,omitempty"` // the routes that go with the addresses
	Rules  []string          `json:"rules,omitempty"`  // the rules that go with the addresses

	State   string    `json:"state"`             // Initialize, Backup or Active
	Since   time.Time `json:"since"`             // when the state was entered
	Cause   string    `json:"cause"`             // why the state was entered
	Waiting string    `json:"waiting,omitempty"` // what keeps the router in Initialize
	// whether the administrator took the router out of service; waiting has other reasons
	Maintenance bool `json:"maintenance,omitempty"`

	Priority           int `json:"priority"`            // the effective priority, with the weights of the checks
	ConfiguredPriority int `json:"configured_priority"` // the priority in the configuration

	// the address of the Active, which can be this host
	Active         string `json:"active,omitempty"`
	ActivePriority int    `json:"active_priority,omitempty"` // the priority of the Active
	// how long ago a Backup heard the Active, in seconds
	LastHeard float64    `json:"last_heard,omitempty"`
	LastSent  *time.Time `json:"last_sent,omitempty"`  // when the last advertisement was sent
	SendError string     `json:"send_error,omitempty"` // why the advertisement after it could not be sent
	Source    string     `json:"source,omitempty"`     // the source address of its advertisements
	// the unicast peers; absent for multicast
	Peers []Peer `json:"peers,omitempty"`
	// the time until an Active sends its next advertisement, or until a Backup takes over if it
	// hears none, in seconds
	Deadline float64 `json:"deadline"`

	AdvertisementInterval float64 `json:"advertisement_interval"` // Advertisement_Interval, in seconds
	// the longest interval that the router learns from an Active, in seconds
	MaxInterval         float64 `json:"max_interval,omitempty"`
	ActiveAdverInterval float64 `json:"active_adver_interval"` // Active_Adver_Interval, in seconds
	SkewTime            float64 `json:"skew_time"`             // Skew_Time, in seconds
	ActiveDownInterval  float64 `json:"active_down_interval"`  // Active_Down_Interval, in seconds

	// what it changes state together with: "group NAME", or "router NAME" for the families of
	// one router
	Group string `json:"group,omitempty"`
	// the member of the group that keeps a Backup from taking over, because it hears an Active
	HeldBy string `json:"held_by,omitempty"`

	Tracks []Dependency `json:"tracks,omitempty"` // the checks that it depends on

	// its problems with other routers or with this host
	Problems []Problem `json:"problems,omitempty"`

	Preempt bool `json:"preempt"` // Preempt_Mode
	// the time until it preempts an Active with a lower priority, in seconds
	PreemptIn    float64 `json:"preempt_in,omitempty"`
	Accept       bool    `json:"accept"`        // Accept_Mode
	Assigned     bool    `json:"assigned"`      // whether the addresses are on this host
	BecameActive uint64  `json:"became_active"` // how often it became Active

	// the MAC of the addresses while it is Active
	MAC string `json:"mac"`
	// the mode of the virtual MAC: bpf, macvlan or off
	VirtualMAC string `json:"virtual_mac"`
	Macvlan    string `json:"macvlan,omitempty"` // the name of the macvlan
	// the mode of receiving: xdp-native, xdp-generic, tc or af_packet
	Receive    string `json:"receive"`
	ReceiveWhy string `json:"receive_why"` // why it has this mode
	// how the fence is attached: tcx, clsact, or empty without a fence
	Fence          string `json:"fence"`
	Checksum       string `json:"checksum"`                 // the form of its checksums
	Authentication string `json:"authentication,omitempty"` // how advertisements are authenticated

	// the hooks of the configured router, the same ones for both families
	Hooks []Hook `json:"hooks,omitempty"`
	// how many state changes ran no hook, because the next one came first
	SkippedHooks uint64 `json:"skipped_hooks,omitempty"`
}

// Hook is a program that runs when a state changes.
type Hook struct {
	// its key in the configuration: notify, notify_active and so on, or global.notify
	Setting string `json:"setting"`
	Command string `json:"command"` // the program with its arguments
	// why the program could not be run when the configuration was read
	Problem    string   `json:"problem,omitempty"`
	Running    string   `json:"running,omitempty"`     // the state that it runs for now
	RunningFor float64  `json:"running_for,omitempty"` // how long it has been running, in seconds
	Last       *HookRun `json:"last,omitempty"`        // the last completed run
}

// HookRun is one run of a hook.
type HookRun struct {
	State   string    `json:"state"`   // MASTER, BACKUP, FAULT, STOP or MASTER_RX_LOWER_PRI
	Command string    `json:"command"` // the program with all arguments
	Started time.Time `json:"started"` // when it started
	Took    float64   `json:"took"`    // how long it took, in seconds
	Outcome string    `json:"outcome"` // one of ok, failed, timeout, refused or stopped
	Text    string    `json:"text"`    // the outcome, for people
	Output  string    `json:"output"`  // the end of its output
	Written int64     `json:"written"` // the size of its output, in bytes
	// how many state changes before this one ran no hook
	Skipped int `json:"skipped,omitempty"`
}

// FIFO is a named pipe that gets a line for each state change.
type FIFO struct {
	Path    string `json:"path"`    // its path
	Written uint64 `json:"written"` // how many lines were written
	// how many lines were lost, because no program read them in time
	Lost uint64 `json:"lost"`
}

// Peer is another host of a unicast router.
type Peer struct {
	Address string `json:"address"` // its address
	// the lowest TTL or Hop Limit that is accepted from it
	MinTTL int `json:"min_ttl"`
	// the highest TTL or Hop Limit that is accepted from it
	MaxTTL int `json:"max_ttl"`
	// how long ago its last advertisement arrived, in seconds; absent if there was none, as a
	// Backup sends none
	LastHeard *float64 `json:"last_heard,omitempty"`
}

// Stats are counters since the daemon's start.
type Stats struct {
	// the counters of the daemon and of all interfaces
	Global  []Counter     `json:"global"`
	Routers []RouterStats `json:"routers"` // the counters of each virtual router
	Hooks   []HookStats   `json:"hooks"`   // the runs of hooks
}

// HookStats count the runs of a configured router's hooks.
type HookStats struct {
	// the name of the configured router or of the group
	Name string `json:"name"`
	// how many runs ended with each outcome: ok, failed, timeout, refused, stopped
	Runs    map[string]uint64 `json:"runs"`
	Skipped uint64            `json:"skipped"` // how many state changes ran no hook
}

// Counter is one counter.
type Counter struct {
	Name  string `json:"name"`  // its name
	Help  string `json:"help"`  // what it counts
	Value uint64 `json:"value"` // its value
}

// RouterStats are the counters of one Virtual Router.
type RouterStats struct {
	Name      string    `json:"name"`      // the name of the configured router
	Interface string    `json:"interface"` // its network interface
	Family    string    `json:"family"`    // its family, ipv4 or ipv6
	VRID      int       `json:"vrid"`      // its VRID
	Counters  []Counter `json:"counters"`  // its counters
}

// Event is one entry of the history.
type Event struct {
	// the number of the event; the first one since the start is 1
	Number uint64    `json:"number"`
	Lost   uint64    `json:"lost,omitempty"` // how many events before this one are missing
	Time   time.Time `json:"time"`           // when it happened
	// one of transition, problem, track, hook, order, reload, failure, finding, restored or routing
	Kind      string `json:"kind"`
	Name      string `json:"name,omitempty"`      // the name of the router, group or check; absent if the event concerns a whole interface
	Interface string `json:"interface,omitempty"` // the network interface
	Family    string `json:"family,omitempty"`    // its family, ipv4 or ipv6
	VRID      int    `json:"vrid,omitempty"`      // the VRID
	From      string `json:"from,omitempty"`      // the state before
	To        string `json:"to,omitempty"`        // the state after
	Peer      string `json:"peer,omitempty"`      // the address of the other router
	Text      string `json:"text"`                // what happened, for people
}

// EventKinds returns the kinds of events.
func EventKinds() []string {
	return []string{"transition", "problem", "track", "hook", "order", "reload", "failure", "finding", "restored", "routing"}
}

// Change is a change that a reload makes to one router, or to the global settings, which have
// the name global.
type Change struct {
	Router  string   `json:"router"`            // the name of the router, or global
	What    string   `json:"what"`              // one of added, removed, changed or restarted
	Details []string `json:"details,omitempty"` // the differences, a line for each key
}

// Restart is the answer to a restart. The new process takes over right after it.
type Restart struct {
	PID int `json:"pid"` // the process ID of the new process; 0 with only_stop
}

// Reload is the answer to a reload.
type Reload struct {
	DryRun  bool     `json:"dry_run"` // whether nothing was changed
	Changes []Change `json:"changes"` // the changes that were made, or that a reload would make
}

// Order is the answer to a change of maintenance or priority, or to a failover.
type Order struct {
	// the names of the routers that were changed
	Routers []string `json:"routers"`
}

// failure is the body of an answer with another status than 200.
type failure struct {
	Error string `json:"error"`
}
