// SPDX-License-Identifier: Apache-2.0

package control

import "time"

// The kinds of problems that a router can have with other routers, on its link or on its
// host.
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
	NoCarrier       = "no_carrier"
	Stuck           = "stuck"
	ProgramInFront  = "program_in_front"
)

// problems has the meaning of each kind.
var problems = []struct{ kind, meaning string }{
	{TwoActives, "another router is Active too and stays Active, although this router wins the election"},
	{TwoOwners, "another router has priority 255 too; the router with the smaller address yields"},
	{DuplicateVRID, "other routers use the VRID for different addresses, none of which this router has, or for no address while this router has some"},
	{AddressConflict, "while this host is Active, another host answers ARP or neighbour solicitations for a virtual address; the text has its MAC"},
	{AddressInUse, "the router took over because it heard no Active, but before that another host answered for a virtual address"},
	{BridgePort, "the interface is a port of a bridge, a bond or a similar device, which takes all packets that arrive, so no host reaches the addresses"},
	{MACBlocked, "neighbours answer to the interface's MAC but not to the virtual MAC, because a hypervisor or a switch drops frames of other MACs"},
	{NoCarrier, "the interface has no carrier, so nobody hears this router, which runs because of `without_carrier`"},
	{OwnAddress, "another host sends with this host's source address, or the network has a loop"},
	{Version, "another router speaks the other VRRP version"},
	{CannotSend, "this router's advertisements don't leave the host, because they are longer than the MTU, or because a firewall, a full queue or a TC program drops them; an Active gives the addresses up after 4 intervals and takes them back when it can send"},
	{SlowActive, "this Backup follows an Active whose interval is at least ten times its own, so it would wait ten seconds or more before it takes over; `max_interval` limits that"},
	{Interval, "another router has a different Advertisement_Interval; the text has both"},
	{AddressList, "another router has a different list of addresses; the text has both"},
	{Checksum, "the checksums of another router are wrong in each form that this router accepts"},
	{Authentication, "another router has a different type of authentication or a different key; the text has the details"},
	{Peers, "a router that isn't among the peers advertises to this one, or one of the two uses multicast and the other one unicast"},
	{Journal, "`/run/failoverd` is full, so a change of the host can't be recorded, and after a crash the next start could not undo it; a router whose fence doesn't hold waits instead"},
	{Detached, "another program detached the BPF programs from the interface; failoverd attaches them again within a second"},
	{ProgramInFront, "another BPF program sees the packets of the interface first and can drop them; failoverd attaches its program in front again, up to five times in an hour"},
	{Stuck, "a change of the host that the configuration needs fails and is tried again; the text has the kernel's error"},
}

// ProblemKinds returns all kinds.
func ProblemKinds() []string {
	all := make([]string, 0, len(problems))
	for _, p := range problems {
		all = append(all, p.kind)
	}
	return all
}

// ProblemMeaning returns the meaning of a kind of problem.
func ProblemMeaning(kind string) string {
	for _, p := range problems {
		if p.kind == kind {
			return p.meaning
		}
	}
	return ""
}

// Problem is a fault between a router and another one, or on this host, that was seen a
// short time ago.
type Problem struct {
	Kind string `json:"kind"` // its kind, like two_actives
	// the address of the other router, or the MAC of an address conflict; empty if the problem
	// concerns only this host
	Peer   string    `json:"peer"`
	Since  time.Time `json:"since"`  // when it was first seen
	Last   time.Time `json:"last"`   // when it was last seen
	Count  uint64    `json:"count"`  // how often it was seen
	Text   string    `json:"text"`   // the facts, with the values of both routers
	Remedy string    `json:"remedy"` // the remedy
}
