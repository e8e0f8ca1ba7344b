// SPDX-License-Identifier: Apache-2.0

package control

import "time"

// The kinds of problems that a router may have with others, on its link or on its host.
const (
	TwoActives      = "two_actives"      // another router is Active beside this one, and goes on
	TwoOwners       = "two_owners"       // another router has priority 255 as well
	DuplicateVRID   = "duplicate_vrid"   // strangers use the VRID for other addresses
	AddressConflict = "address_conflict" // another host answers for a virtual address
	AddressInUse    = "address_in_use"   // another host had a virtual address before this router took it, hearing nobody
	BridgePort      = "bridge_port"      // the interface is a port of a bridge, and nobody reaches the addresses
	OwnAddress      = "own_address"      // another host sends from this one's address, or there is a loop
	Version         = "version"          // another router speaks the other version
	CannotSend      = "cannot_send"      // its advertisements don't leave this host
	SlowActive      = "slow_active"      // the Active's interval is many times this one's own, which waits that much longer
	Interval        = "interval"         // its Advertisement_Interval is another
	AddressList     = "address_list"     // its virtual addresses are others, not all of them
	Checksum        = "checksum"         // its checksums are wrong in every form that is accepted
	Authentication  = "authentication"   // its authentication type or data is another
	Peers           = "peers"            // it is unicast and this one isn't, or the other way round, or none of the peers
	Journal         = "journal"          // what it changes on the host can't be written down
	Detached        = "detached"         // the BPF programs were detached from the interface
	MACBlocked      = "mac_blocked"      // the network lets nothing from or to the virtual MAC through
	Stuck           = "stuck"            // the host can't be changed as the configuration wants it
	ProgramInFront  = "program_in_front" // another BPF program sees the packets first and can end the chain
)

// ProblemKinds returns all kinds.
func ProblemKinds() []string {
	return []string{TwoActives, TwoOwners, DuplicateVRID, AddressConflict, AddressInUse, BridgePort, MACBlocked, OwnAddress, Version, CannotSend, SlowActive, Interval, AddressList, Checksum, Authentication, Peers, Journal, Detached, ProgramInFront, Stuck}
}

// Problem is something that is wrong between a router and another one, or with its own
// advertisements, as long as it is seen.
type Problem struct {
	Kind string `json:"kind"` // one of ProblemKinds
	// Peer is the other's address, of an address conflict its MAC; empty if it concerns
	// this host alone.
	Peer   string    `json:"peer"`
	Since  time.Time `json:"since"`
	Last   time.Time `json:"last"`   // when it was last seen
	Count  uint64    `json:"count"`  // how often it was seen
	Text   string    `json:"text"`   // what is wrong, with the values of both
	Remedy string    `json:"remedy"` // what to do
}
