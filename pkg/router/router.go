// SPDX-License-Identifier: Apache-2.0

// Package router runs Virtual Routers: one event loop owns the time, the
// deadlines and every state machine of package vrrp, and carries out the
// actions they return through interfaces that it declares itself.
//
// Nothing on the loop blocks. Packets are drained without waiting, frames go
// out through a non-blocking socket, address changes are handed to somebody
// else and come back as a completion, and observers must return at once.
//
// Before the loop believes an expired Active_Down_Timer it drains the packets
// that the kernel has already received and looks at the kernel's own stamp of
// the last good advertisement: a process that was stopped, starved or paused
// does not take over from a healthy Active.
package router

import (
	"net/netip"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Received is one advertisement that passed every check which needs no
// protocol state. Its slices are valid only during the call that hands it over.
type Received struct {
	At            vrrp.Instant // the kernel's receive time
	Key           packet.Key
	From          netip.Addr
	Advertisement packet.Advertisement
	Checksum      packet.Checksum
	// Signature is the same for advertisements that are the same, from the same
	// sender; 0 where the kernel can't be told to expect it.
	Signature uint64
}

// Clock tells the monotonic time of CLOCK_MONOTONIC.
type Clock interface {
	Now() vrrp.Instant
}

// Packets is where advertisements come from.
type Packets interface {
	// Wait returns when there may be something to drain, after Wake, and when a
	// time has come at the latest. An error ends the loop.
	Wait(until vrrp.Instant) error
	// Wake ends the Wait that is under way, or the next one. Any goroutine may
	// call it.
	Wake()
	// Drain calls f for each advertisement received so far, in the order of
	// reception, and never waits.
	Drain(f func(*Received))
	// ReceiveState returns what the kernel hears for a Virtual Router; nil where it keeps
	// nothing.
	ReceiveState(packet.Key) ReceiveState
	// Reception returns whether the interface receives packets, as of the last look. It never
	// waits.
	Reception(ifindex int) Reception
	// RequestCheck requests a look at the interface from another goroutine. It never waits.
	RequestCheck(ifindex int)
}

// Reception says whether an interface receives packets: somebody may detach the programs that
// do.
type Reception struct {
	// Checked is when the last look began that found the programs in place. 0: there was none.
	Checked vrrp.Instant
	// Restored is when the programs were attached again. 0: they were never detached.
	Restored vrrp.Instant
	// Detached says that the programs are detached.
	Detached bool
}

// ReceiveState is what the kernel hears for a Virtual Router, in memory that it shares. No
// method waits.
type ReceiveState interface {
	// Stamp returns the stamp, false if there is none.
	Stamp() (vrrp.Stamp, bool)
	// Expect has advertisements of these signatures counted and stamped only,
	// instead of handed over, until another one has come; 0 stands for none.
	// What it was told before is forgotten.
	SetExpected([2]uint64)
	// Repeated is how many of each of these there were in all, and which came, a
	// bit for each, the last one lowest.
	Repeated() (n [2]uint64, order uint64)
	// Outrank has these advertisements counted only, instead of handed over. What it
	// was told before is forgotten, and the zero value stands for none.
	SetOutranked(vrrp.Outranked)
	// RepeatedAt is where it says when the last of them was received, 0: there was none.
	// It is to be read atomically.
	RepeatedAt() *vrrp.Instant
}

// Transmitter sends whole Ethernet frames on one interface, or IP datagrams. It never
// blocks.
type Transmitter interface {
	// Queue adds a frame to what the next Flush sends. It may be used until then.
	Queue(frame []byte)
	// Queued is how many there are.
	Queued() int
	// Flush sends them. It calls unsent for each that could not be sent, in their order,
	// with its number from 0 and the error; one that has a method Unreachable, which
	// returns true, concerns a destination that can't be reached. It returns how many
	// were sent.
	Flush(unsent func(n int, err error)) (sent int)
}

// Authenticator proves to the peers who has sent an advertisement. Its methods run on the
// loop and must return at once.
type Authenticator interface {
	// Prepare returns an IP datagram, from its header on, with room for the
	// proof. It leaves the one that it is given as it is.
	Prepare(datagram []byte) []byte
	// Sign writes the proof into a prepared one, anew whenever it is sent.
	Sign(datagram []byte)
}

// Addresses carries out address changes somewhere else than on the loop. Both
// methods return at once; done is called later, from any goroutine. For one
// interface the order of calls is kept. The id is of the router that becomes or
// ceases to be Active; the zero ID if it gives up some of its addresses only.
type Addresses interface {
	Assign(id ID, ifindex int, addresses []netip.Prefix, done func(error))
	Release(id ID, ifindex int, addresses []netip.Prefix, done func(error))
}

// Leases tell the kernel which Virtual Routers are Active.
type Leases interface {
	// Lease returns that of a Virtual Router, nil if the kernel doesn't know of it.
	Lease(packet.Key) Lease
}

// Lease tells the kernel until when a Virtual Router is Active, so that it
// ends even if nothing here runs any more. Both methods return at once.
type Lease interface {
	// Answer lets the host answer for the addresses until then, instead of
	// what was said before; 0 ends it.
	Answer(until vrrp.Instant)
	// Advertise lets advertisements leave until then, also while the host
	// doesn't answer.
	Advertise(until vrrp.Instant)
}

// Observer is told what happens. Its methods run on the loop and must return
// at once.
type Observer interface {
	// Transition reports a change of state.
	Transition(Transition)
	// Finding reports what the state machine concluded about one packet.
	Finding(Finding)
	// Failure reports an action that could not be carried out.
	Failure(Failure)
}

// Transition is a change of state of one Virtual Router and the reason for it.
type Transition struct {
	ID   ID
	When vrrp.Instant
	// Own is the router's own priority; the Action's is a peer's.
	Own uint8
	vrrp.Action
}

// Finding is a verdict of the state machine on an advertisement.
type Finding struct {
	ID ID
	vrrp.Action
}

// Failure is an action that could not be carried out.
type Failure struct {
	ID     ID
	Action string // a verb phrase: "assign addresses"
	Err    error
}

// ActionSend is what failed if something could not be sent. The Failure is of all routers
// of the interface.
const ActionSend = "send"

// ID names a configured Virtual Router for people.
type ID = vrrp.ID

// Config describes one Virtual Router.
type Config struct {
	ID ID
	// Protocol is the state machine's configuration.
	Protocol vrrp.Config
	// Group is the name of the group that the router is a member of; empty for
	// none. Its members are Active or Backup together.
	Group string
	// Addresses are the virtual addresses as they are put on the interface
	// while Active, and others, of any family, that aren't advertised. An owner's
	// addresses are there already and are never touched: for priority 255 they
	// aren't among them.
	Addresses []netip.Prefix
	// Peers are who advertisements are sent to, one by one, instead of the
	// group. Of nobody else are there any to receive.
	Peers []netip.Addr
	TTL   uint8 // that they are sent with to peers, or the Hop Limit
	// Authenticator authenticates what is sent; nil for advertisements without proof.
	Authenticator Authenticator
}

// Port is the interface as a Virtual Router needs it to take part.
type Port struct {
	Ifindex int
	// Device is the interface that the addresses are put on, if it is another.
	Device int
	// MAC is the interface's own.
	MAC packet.MAC
	// VirtualMAC has the virtual MAC (RFC 9568 §7.3) in its place in
	// advertisements and announcements.
	VirtualMAC bool
	// Source is the primary address (RFC 9568 §1.7), for IPv6 a link-local.
	Source netip.Addr
	// Transmitter sends on the interface.
	Transmitter Transmitter
	// Unicast sends IP datagrams to the peers of a router that has some.
	Unicast Transmitter
}

// Status is a Virtual Router's state for people and for tests.
type Status struct {
	ID       ID
	Ifindex  int
	MAC      packet.MAC // that the addresses are at while Active
	OwnMAC   packet.MAC // the interface's
	Protocol vrrp.Status
	Assigned bool
	Counters Counters
	Group    string
	// HeldBy is the member of the group for which a Backup waits that would
	// take over if it were alone.
	HeldBy *ID
	Source netip.Addr // that it advertises from
	Peers  []Peer
	Sent   vrrp.Instant // when an advertisement last left; 0: never
	Octets int          // of its longest advertisement so far, an IP datagram
	Unsent *Unsent      // nil: the last advertisement has left, or there was none
}

// Unsent says that the last advertisement of a Virtual Router could not be sent.
type Unsent struct {
	Err   error
	Since vrrp.Instant // when the first of them in a row couldn't
}

// Peer is whom a unicast Virtual Router advertises to.
type Peer struct {
	Address   netip.Addr
	LastHeard vrrp.Instant // 0: never
}

// Counters count what happened to a Virtual Router since it was added.
type Counters struct {
	Became [3]uint64 // how often it entered each vrrp.State
	// Sent are its own advertisements that have left, PriorityZeroSent those with which
	// it ended to be Active: each counts once, however many forms and versions it is
	// sent in.
	Sent, PriorityZeroSent uint64
	// SendErrors are those of which a frame could not be sent, or all.
	SendErrors uint64
	// Announced is how often its addresses were announced by gratuitous ARP or
	// unsolicited neighbour advertisements.
	Announced uint64
	// Found are the state machine's verdicts on advertisements.
	Found [packet.ReasonCount]uint64
}
