// SPDX-License-Identifier: Apache-2.0

package control

import "time"

// The kinds of problems that a router may have with others, on its link or on its host.
const (
	TwoActives      = "two_actives"
	TwoOwners       = "two_owners"
	DuplicateVRID   = "duplicate_vrid"
	AddressConflict = "address_conflict"
	AddressInUse    = "address_in_use"
	BridgePort      = "bridge_port"
	OwnAddress      = "own_address"
	Version         = "version"
	CannotSend      = "cannot_send"
	SlowActive      = "slow_active"
	Interval        = "interval"
	AddressList     = "address_list"
	Checksum        = "checksum"
	Authentication  = "authentication"
	Peers           = "peers"
	Journal         = "journal"
	Detached        = "detached"
	MACBlocked      = "mac_blocked"
	Stuck           = "stuck"
	ProgramInFront  = "program_in_front"
)

// problems are all kinds, with what they mean.
var problems = []struct{ kind, meaning string }{
	{TwoActives, "another router is Active too and goes on, although this router wins the election"},
	{TwoOwners, "another router has priority 255 as well; the one with the smaller address yields"},
	{DuplicateVRID, "other routers use the VRID for addresses that have nothing in common with those of this router"},
	{AddressConflict, "while this host is Active, another host answers ARP or neighbour solicitations for a virtual address; the text has its MAC"},
	{AddressInUse, "the router took over because it heard no Active, but another host answered for a virtual address before"},
	{BridgePort, "the interface is a port of a bridge, a bond or the like, which takes what comes in, so nobody reaches the addresses"},
	{MACBlocked, "neighbours answer to the interface's MAC but not to the virtual MAC, because a hypervisor or a switch lets no other MAC through"},
	{OwnAddress, "another host sends from this host's address, or the network has a loop"},
	{Version, "another router speaks the other VRRP version"},
	{CannotSend, "this router's advertisements don't leave the host: they are longer than the MTU, or a firewall, a full queue or a TC program drops them; an Active gives the addresses up after 4 intervals and takes them back when it can send"},
	{SlowActive, "this Backup follows an Active whose interval is at least ten times its own, so it would wait ten seconds or more before it takes over; `max_interval` limits that"},
	{Interval, "another router has another Advertisement_Interval; the text has both"},
	{AddressList, "another router has another list of addresses; the text has both"},
	{Checksum, "the checksums of another router are wrong in each form that this router accepts"},
	{Authentication, "another router has another type of authentication or another key; the text has what is known"},
	{Peers, "a router that isn't among the peers advertises to this one, or one uses multicast and the other one unicast"},
	{Journal, "`/run/failoverd` is full, so a change on the host can't be written down: after a crash the next start could not undo it; a router whose fence doesn't hold waits instead"},
	{Detached, "somebody detached the BPF programs from the interface; failoverd attaches them again within a second"},
	{ProgramInFront, "another BPF program sees the interface's packets first and can keep them from failoverd, which goes in front of it again, up to five times in an hour"},
	{Stuck, "a change that the configuration asks of this host fails and is tried again; the text has the kernel's error"},
}

// ProblemKinds returns all kinds.
func ProblemKinds() []string {
	all := make([]string, 0, len(problems))
	for _, p := range problems {
		all = append(all, p.kind)
	}
	return all
}

// ProblemMeaning says what a kind of problem is.
func ProblemMeaning(kind string) string {
	for _, p := range problems {
		if p.kind == kind {
			return p.meaning
		}
	}
	return ""
}

// Problem is something that is wrong between a router and another one, or with its own
// advertisements, as long as it is seen.
type Problem struct {
	Kind string `json:"kind"` // its kind, like two_actives
	// the address of the other router, or the MAC of an address conflict; empty if it
	// concerns this host alone
	Peer   string    `json:"peer"`
	Since  time.Time `json:"since"`  // when it was first seen
	Last   time.Time `json:"last"`   // when it was last seen
	Count  uint64    `json:"count"`  // how often it was seen
	Text   string    `json:"text"`   // what is wrong, with the values of both
	Remedy string    `json:"remedy"` // what to do
}
