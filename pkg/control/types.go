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
	Version string    `json:"version"` // of failoverd
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	Now     time.Time `json:"now"`
	// Config is the path of the configuration file, empty without one.
	Config string `json:"config,omitempty"`
	// LastReload is absent if there was none since the start.
	LastReload *LastReload `json:"last_reload,omitempty"`
	// Realtime is how the kernel ranks the daemon's threads.
	Realtime Realtime `json:"realtime"`
	// FIFO is the one that changes of state are written to, if there is one.
	FIFO    *FIFO    `json:"fifo,omitempty"`
	Routers []Router `json:"routers"`
	// Tracks are the checks that routers depend on, by name.
	Tracks []Track `json:"tracks,omitempty"`
}

// Realtime says which threads of the daemon are real-time ones, in the words of the key
// realtime: those of the event loop (auto), all (true) or none (false).
type Realtime struct {
	Wanted string `json:"wanted"`
	Is     string `json:"is"`
	// Problem is why it isn't what is wanted, or what is lacking, and what to grant.
	Problem string `json:"problem,omitempty"`
}

// Track is the state of one check.
type Track struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`  // script, tcp, http, process, pidfile, file, interface, address, route or router
	State string `json:"state"` // up, down, or unknown before the first look
	// Since is when the state was entered, Looked when it was last looked; Took is
	// how long that took, in seconds.
	Since  time.Time  `json:"since"`
	Looked *time.Time `json:"looked,omitempty"`
	Took   float64    `json:"took"`
	// Text says what was found; Value is a file's number.
	Text  string `json:"text"`
	Value *int   `json:"value,omitempty"`
	// Changes is how often the state has changed since the first look.
	Changes uint64 `json:"changes"`
	// Output is the end of what a script wrote, if it failed.
	Output string `json:"output,omitempty"`
}

// Dependency is a check that a router depends on.
type Dependency struct {
	Track   string `json:"track"`
	State   string `json:"state"`
	Weight  int    `json:"weight"`
	Reverse bool   `json:"reverse,omitempty"`
	// Change is by how much it changes the priority now; Fault says that it keeps
	// the router from taking part.
	Change int  `json:"change"`
	Fault  bool `json:"fault"`
}

// Router is the state of one Virtual Router: a configured router has one for
// each family of its addresses.
type Router struct {
	Name      string   `json:"name"`
	Interface string   `json:"interface"`
	Family    string   `json:"family"` // ipv4 or ipv6
	VRID      int      `json:"vrid"`
	Version   int      `json:"version"`
	Addresses []string `json:"addresses"`
	// Extra are addresses that aren't advertised, Routes and Rules those of the
	// kernel that go with the addresses.
	Extra  []string `json:"extra_addresses,omitempty"`
	Routes []string `json:"routes,omitempty"`
	Rules  []string `json:"rules,omitempty"`

	State string `json:"state"` // Initialize, Backup or Active
	// Since is when the state was entered.
	Since time.Time `json:"since"`
	// Cause says why.
	Cause string `json:"cause"`
	// Waiting says what keeps the router in Initialize, if something does.
	Waiting string `json:"waiting,omitempty"`
	// Maintenance says that the administrator has taken it out of service. What else keeps
	// it in Initialize is in Waiting.
	Maintenance bool `json:"maintenance,omitempty"`

	// Priority is the effective one: the configured one and what the checks
	// add to it.
	Priority           int `json:"priority"`
	ConfiguredPriority int `json:"configured_priority"`

	Active         string `json:"active,omitempty"` // the Active's address, this host's own too
	ActivePriority int    `json:"active_priority,omitempty"`
	// LastHeard is how long ago a Backup heard the Active, in seconds.
	LastHeard float64 `json:"last_heard,omitempty"`
	// LastSent is when its last advertisement left, and SendError why the one after that
	// could not be sent.
	LastSent  *time.Time `json:"last_sent,omitempty"`
	SendError string     `json:"send_error,omitempty"`
	// Source is the address that it advertises from, and Peers to whom, if not to
	// the group.
	Source string `json:"source,omitempty"`
	Peers  []Peer `json:"peers,omitempty"`
	// Deadline is the time until the next advertisement of an Active, or until
	// a Backup that hears nothing takes over, in seconds.
	Deadline float64 `json:"deadline"`

	// In seconds, in the terms of RFC 9568 §6.1.
	AdvertisementInterval float64 `json:"advertisement_interval"`
	MaxInterval           float64 `json:"max_interval,omitempty"` // absent: the Active_Adver_Interval has no bound
	ActiveAdverInterval   float64 `json:"active_adver_interval"`
	SkewTime              float64 `json:"skew_time"`
	ActiveDownInterval    float64 `json:"active_down_interval"`

	// Group is what it is Active or Backup together with: "group NAME", or "router
	// NAME" for the families of one. HeldBy is the member of it for which a
	// Backup waits that would take over if it were alone.
	Group  string `json:"group,omitempty"`
	HeldBy string `json:"held_by,omitempty"`

	Tracks []Dependency `json:"tracks,omitempty"`

	// Problems are what is wrong between the router and others on its link.
	Problems []Problem `json:"problems,omitempty"`

	Preempt bool `json:"preempt"`
	// PreemptIn is how long an Active of lower priority is still let be, in
	// seconds.
	PreemptIn float64 `json:"preempt_in,omitempty"`
	Accept    bool    `json:"accept"`
	// Assigned says that the addresses are on this host.
	Assigned     bool   `json:"assigned"`
	BecameActive uint64 `json:"became_active"`

	MAC        string `json:"mac"`         // that the addresses are at while Active here
	VirtualMAC string `json:"virtual_mac"` // how: bpf, macvlan or off
	Macvlan    string `json:"macvlan,omitempty"`
	Receive    string `json:"receive"` // xdp-native, xdp-generic, tc or af_packet
	ReceiveWhy string `json:"receive_why"`
	Fence      string `json:"fence"` // tcx, clsact, or empty for none
	Checksum   string `json:"checksum"`
	// Authentication is how advertisements are authenticated, empty for not at all.
	Authentication string `json:"authentication,omitempty"`

	// Hooks are the programs that are told of the configured router's state; both
	// of its families have the same. SkippedHooks counts changes of state that they
	// were never told, for the next one came before the last was told.
	Hooks        []Hook `json:"hooks,omitempty"`
	SkippedHooks uint64 `json:"skipped_hooks,omitempty"`
}

// Hook is what is known of a program that is told of changes of state.
type Hook struct {
	Setting string `json:"setting"` // its key: notify, notify_active, …, or global.notify
	Command string `json:"command"`
	// Problem says why it couldn't be run when the configuration was read.
	Problem string `json:"problem,omitempty"`
	// Running is the state that it is being told, RunningFor for how long, in
	// seconds.
	Running    string   `json:"running,omitempty"`
	RunningFor float64  `json:"running_for,omitempty"`
	Last       *HookRun `json:"last,omitempty"` // that has ended
}

// HookRun is one run of a hook.
type HookRun struct {
	State   string    `json:"state"`   // MASTER, BACKUP, FAULT or STOP
	Command string    `json:"command"` // with all arguments
	Started time.Time `json:"started"`
	Took    float64   `json:"took"`    // in seconds
	Outcome string    `json:"outcome"` // ok, failed, timeout, refused or stopped
	Text    string    `json:"text"`    // how it ended, for people
	Output  string    `json:"output"`  // the end of what it wrote
	Written int64     `json:"written"` // how much that was in all, in octets
	// Skipped is how many changes of state before it were never told.
	Skipped int `json:"skipped,omitempty"`
}

// FIFO is a named pipe that gets a line for each change of state.
type FIFO struct {
	Path    string `json:"path"`
	Written uint64 `json:"written"` // lines
	Lost    uint64 `json:"lost"`    // for nobody read them in time
}

// Peer is another host of a unicast router.
type Peer struct {
	Address string `json:"address"`
	// MinTTL and MaxTTL are the limits of the TTL or Hop Limit of what comes from
	// it.
	MinTTL int `json:"min_ttl"`
	MaxTTL int `json:"max_ttl"`
	// LastHeard is how long ago it advertised, in seconds; absent if it never has.
	// A Backup doesn't.
	LastHeard *float64 `json:"last_heard,omitempty"`
}

// Stats are counters since the daemon's start.
type Stats struct {
	Global  []Counter     `json:"global"`
	Routers []RouterStats `json:"routers"`
	Hooks   []HookStats   `json:"hooks"`
}

// HookStats count the runs of a configured router's hooks.
type HookStats struct {
	Name string `json:"name"`
	// Runs are how many ended with each outcome: ok, failed, timeout, refused, stopped.
	Runs map[string]uint64 `json:"runs"`
	// Skipped is how many changes of state were never told.
	Skipped uint64 `json:"skipped"`
}

// Counter is one counter.
type Counter struct {
	Name  string `json:"name"`
	Help  string `json:"help"`
	Value uint64 `json:"value"`
}

// RouterStats are the counters of one Virtual Router.
type RouterStats struct {
	Name      string    `json:"name"`
	Interface string    `json:"interface"`
	Family    string    `json:"family"`
	VRID      int       `json:"vrid"`
	Counters  []Counter `json:"counters"`
}

// Event is something that has happened.
type Event struct {
	// Number counts the events from 1. Lost is how many before this one are
	// known no more.
	Number uint64    `json:"number"`
	Lost   uint64    `json:"lost,omitempty"`
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"` // one of EventKinds
	// Name is the router's, the check's or the group's. An event of all routers of an
	// interface has none.
	Name      string `json:"name,omitempty"`
	Interface string `json:"interface,omitempty"`
	Family    string `json:"family,omitempty"`
	VRID      int    `json:"vrid,omitempty"`
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
	Peer      string `json:"peer,omitempty"`
	Text      string `json:"text"`
}

// EventKinds returns the kinds of events.
func EventKinds() []string {
	return []string{"transition", "problem", "track", "hook", "order", "reload", "failure", "finding", "restored", "routing"}
}

// Change is what a reload changes of one router, or of what holds for all, which
// has the name global.
type Change struct {
	Router  string   `json:"router"`
	What    string   `json:"what"` // added, removed, changed or restarted
	Details []string `json:"details,omitempty"`
}

// Reload is what a reload has done, or would do.
type Reload struct {
	DryRun  bool     `json:"dry_run"`
	Changes []Change `json:"changes"`
}

// Order is what an order was carried out for.
type Order struct {
	Routers []string `json:"routers"`
}

// failure is the body of an answer that isn't 200.
type failure struct {
	Error string `json:"error"`
}
