// SPDX-License-Identifier: Apache-2.0

// Package control is the daemon's interface for administrators and programs on
// the same host: HTTP with JSON on a unix socket.
//
//	curl --unix-socket /run/failoverd/control.sock http://failoverd/
//
// lists what can be asked and ordered.
//
// Who may open the socket may read; only root and the daemon's own user may
// change something.
package control

import "time"

// DefaultPath is the socket's.
const DefaultPath = "/run/failoverd/control.sock"

// Status is the state of everything.
type Status struct {
	Version    string      `json:"version"`               // the version of failoverd
	PID        int         `json:"pid"`                   // the process ID of the daemon
	Started    time.Time   `json:"started"`               // when the daemon started
	Now        time.Time   `json:"now"`                   // when this was asked
	Config     string      `json:"config,omitempty"`      // the path of the configuration file
	LastReload *LastReload `json:"last_reload,omitempty"` // the last reload since the start, if there was one
	Realtime   Realtime    `json:"realtime"`              // how the kernel ranks the daemon's threads
	FIFO       *FIFO       `json:"fifo,omitempty"`        // the FIFO that gets the changes of state
	Routers    []Router    `json:"routers"`               // the virtual routers
	Tracks     []Track     `json:"tracks,omitempty"`      // the checks that routers depend on, by name
}

// Realtime says which threads of the daemon are real-time ones, in the words of the key
// realtime: those of the event loop (auto), all (true) or none (false).
type Realtime struct {
	Wanted string `json:"wanted"` // what is configured
	Is     string `json:"is"`     // what is so
	// why it isn't what is configured, or what is lacking, and what to grant
	Problem string `json:"problem,omitempty"`
}

// Track is the state of one check.
type Track struct {
	Name string `json:"name"` // the name of the check
	// one of script, tcp, http, process, pidfile, file, interface, address, route or router
	Kind   string     `json:"kind"`
	State  string     `json:"state"`            // one of up, down, and unknown before the first look
	Since  time.Time  `json:"since"`            // when the state was entered
	Looked *time.Time `json:"looked,omitempty"` // when the last look was
	Took   float64    `json:"took"`             // how long the last look took, in seconds
	Text   string     `json:"text"`             // what was found
	Value  *int       `json:"value,omitempty"`  // the number in a file
	// how often the state has changed since the first look
	Changes uint64 `json:"changes"`
	Output  string `json:"output,omitempty"` // the end of what a script wrote, if it failed
}

// Dependency is a check that a router depends on.
type Dependency struct {
	Track   string `json:"track"`             // the name of the check
	State   string `json:"state"`             // one of up, down or unknown
	Weight  int    `json:"weight"`            // what it adds to the priority
	Reverse bool   `json:"reverse,omitempty"` // up and down are exchanged
	Change  int    `json:"change"`            // by how much it changes the priority now
	Fault   bool   `json:"fault"`             // it keeps the router from taking part
}

// Router is the state of one Virtual Router: a configured router has one for
// each family of its addresses.
type Router struct {
	Name      string   `json:"name"`                      // the name of the configured router
	Interface string   `json:"interface"`                 // its network interface
	Family    string   `json:"family"`                    // its family, ipv4 or ipv6
	VRID      int      `json:"vrid"`                      // its VRID
	Version   int      `json:"version"`                   // its VRRP version
	Addresses []string `json:"addresses"`                 // its virtual addresses
	Extra     []string `json:"extra_addresses,omitempty"` // its addresses that aren't advertised
	Routes    []string `json:"routes,omitempty"`          // the routes that go with the addresses
	Rules     []string `json:"rules,omitempty"`           // the rules that go with the addresses

	State   string    `json:"state"`             // Initialize, Backup or Active
	Since   time.Time `json:"since"`             // when the state was entered
	Cause   string    `json:"cause"`             // why the state was entered
	Waiting string    `json:"waiting,omitempty"` // what keeps the router in Initialize
	// whether the administrator has taken it out of service; what else keeps it in Initialize is in waiting
	Maintenance bool `json:"maintenance,omitempty"`

	Priority           int `json:"priority"`            // the priority with what the checks add to it
	ConfiguredPriority int `json:"configured_priority"` // the priority in the configuration

	// the address of the Active, also this host's own
	Active         string `json:"active,omitempty"`
	ActivePriority int    `json:"active_priority,omitempty"` // the priority of the Active
	// how long ago a Backup heard the Active, in seconds
	LastHeard float64    `json:"last_heard,omitempty"`
	LastSent  *time.Time `json:"last_sent,omitempty"`  // when the last advertisement left
	SendError string     `json:"send_error,omitempty"` // why the next advertisement could not be sent
	Source    string     `json:"source,omitempty"`     // the address that it advertises from
	// the peers that it advertises to, instead of to the group
	Peers []Peer `json:"peers,omitempty"`
	// the time until the next advertisement of an Active, or until a Backup that hears nothing
	// takes over, in seconds
	Deadline float64 `json:"deadline"`

	AdvertisementInterval float64 `json:"advertisement_interval"` // Advertisement_Interval, in seconds
	// the longest interval that is learned from an Active, in seconds
	MaxInterval         float64 `json:"max_interval,omitempty"`
	ActiveAdverInterval float64 `json:"active_adver_interval"` // Active_Adver_Interval, in seconds
	SkewTime            float64 `json:"skew_time"`             // Skew_Time, in seconds
	ActiveDownInterval  float64 `json:"active_down_interval"`  // Active_Down_Interval, in seconds

	// what it is Active or Backup together with: "group NAME", or "router NAME" for the
	// families of one router
	Group string `json:"group,omitempty"`
	// the member of the group that a Backup waits for, which would take over if it were alone
	HeldBy string `json:"held_by,omitempty"`

	Tracks []Dependency `json:"tracks,omitempty"` // the checks that it depends on

	// what is wrong between it and other routers, or on this host
	Problems []Problem `json:"problems,omitempty"`

	Preempt bool `json:"preempt"` // Preempt_Mode
	// how long it still tolerates an Active of lower priority, in seconds
	PreemptIn    float64 `json:"preempt_in,omitempty"`
	Accept       bool    `json:"accept"`        // Accept_Mode
	Assigned     bool    `json:"assigned"`      // the addresses are on this host
	BecameActive uint64  `json:"became_active"` // how often it became Active

	// the MAC that the addresses are at while it is Active
	MAC string `json:"mac"`
	// how it has the virtual MAC: bpf, macvlan or off
	VirtualMAC string `json:"virtual_mac"`
	Macvlan    string `json:"macvlan,omitempty"` // the name of the macvlan
	// how it receives: xdp-native, xdp-generic, tc or af_packet
	Receive    string `json:"receive"`
	ReceiveWhy string `json:"receive_why"` // why it receives in that way
	// how the fence is attached: tcx, clsact, or empty without a fence
	Fence          string `json:"fence"`
	Checksum       string `json:"checksum"`                 // the form of the checksum that it sends
	Authentication string `json:"authentication,omitempty"` // how advertisements are authenticated

	// the programs that are told the state of the configured router; both of its families have
	// the same ones
	Hooks []Hook `json:"hooks,omitempty"`
	// how many changes of state the hooks were never told, because the next one came first
	SkippedHooks uint64 `json:"skipped_hooks,omitempty"`
}

// Hook is what is known of a program that is told of changes of state.
type Hook struct {
	// its key in the configuration: notify, notify_active and so on, or global.notify
	Setting string `json:"setting"`
	Command string `json:"command"` // the program with its arguments
	// why it could not be run when the configuration was read
	Problem    string   `json:"problem,omitempty"`
	Running    string   `json:"running,omitempty"`     // the state that it is being told
	RunningFor float64  `json:"running_for,omitempty"` // how long it has been running, in seconds
	Last       *HookRun `json:"last,omitempty"`        // the last run that has ended
}

// HookRun is one run of a hook.
type HookRun struct {
	State   string    `json:"state"`   // MASTER, BACKUP, FAULT or STOP
	Command string    `json:"command"` // the program with all arguments
	Started time.Time `json:"started"` // when it started
	Took    float64   `json:"took"`    // how long it took, in seconds
	Outcome string    `json:"outcome"` // one of ok, failed, timeout, refused or stopped
	Text    string    `json:"text"`    // how it ended, for people
	Output  string    `json:"output"`  // the end of what it wrote
	Written int64     `json:"written"` // how much it wrote, in octets
	// how many changes of state before this one were never told
	Skipped int `json:"skipped,omitempty"`
}

// FIFO is a named pipe that gets a line for each change of state.
type FIFO struct {
	Path    string `json:"path"`    // its path
	Written uint64 `json:"written"` // lines that were written
	// lines that were lost, because nobody read them in time
	Lost uint64 `json:"lost"`
}

// Peer is another host of a unicast router.
type Peer struct {
	Address string `json:"address"` // its address
	// the least TTL or Hop Limit of what comes from it
	MinTTL int `json:"min_ttl"`
	// the greatest TTL or Hop Limit of what comes from it
	MaxTTL int `json:"max_ttl"`
	// how long ago it advertised, in seconds, absent if it never has; a Backup doesn't
	// advertise
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
	Skipped uint64            `json:"skipped"` // how many changes of state were never told
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

// Event is something that has happened.
type Event struct {
	// the number of the event; the first one since the start is 1
	Number uint64    `json:"number"`
	Lost   uint64    `json:"lost,omitempty"` // how many events before this one are lost
	Time   time.Time `json:"time"`           // when it happened
	// one of transition, problem, track, hook, order, reload, failure, finding, restored or routing
	Kind      string `json:"kind"`
	Name      string `json:"name,omitempty"`      // the name of the router, group or check; an event of all routers of an interface has none
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

// Change is what a reload changes of one router, or of what holds for all, which
// has the name global.
type Change struct {
	Router  string   `json:"router"`            // the name of the router, or global
	What    string   `json:"what"`              // one of added, removed, changed or restarted
	Details []string `json:"details,omitempty"` // what is different, a line for each key
}

// Reload is what a reload has done, or would do.
type Reload struct {
	DryRun  bool     `json:"dry_run"` // nothing was changed, this is what would be
	Changes []Change `json:"changes"` // what changes
}

// Order is what an order was carried out for.
type Order struct {
	// the names of the routers that it was carried out for
	Routers []string `json:"routers"`
}

// failure is the body of an answer that isn't 200.
type failure struct {
	Error string `json:"error"`
}
