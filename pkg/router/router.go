// SPDX-License-Identifier: Apache-2.0

// Package router runs Virtual Routers. One event loop owns the time, the deadlines and
// every state machine of package vrrp. It carries out their actions through interfaces
// that this package declares.
//
// The loop never blocks. It drains packets without waiting, sends frames through
// non-blocking sockets, and passes address changes to a worker, which reports their
// completion later. Observers must return at once.
//
// Before the loop believes an expired Active_Down_Timer, it drains the packets that the
// kernel has received and reads the kernel's stamp of the last good advertisement. So a
// process that was stopped or starved doesn't take over from a healthy Active.
package router

import (
	"net/netip"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Received is an advertisement that has passed every check that needs no state of the
// protocol. Its slices are valid only during the call that passes it.
type Received struct {
	At            vrrp.Instant // the kernel's receive time
	Key           packet.Key
	From          netip.Addr
	Advertisement packet.Advertisement
	Checksum      packet.Checksum
	// Signature is equal for equal advertisements of one sender. It is 0 if the kernel
	// can't recognise repetitions.
	Signature uint64
}

// Clock is the clock of the loop, CLOCK_MONOTONIC.
type Clock interface {
	Now() vrrp.Instant
}

// Packets is the source of advertisements.
type Packets interface {
	// Wait returns when there may be something to drain, after Wake, and at the given
	// time at the latest. An error ends the loop.
	Wait(until vrrp.Instant) error
	// Wake ends the current Wait, or the next one. It may be called from any goroutine.
	Wake()
	// Drain calls f for each advertisement received so far, in the order of reception.
	// It never waits.
	Drain(f func(*Received))
	// ReceiveState returns the kernel's receive state of a Virtual Router. It returns
	// nil if the kernel keeps none.
	ReceiveState(packet.Key) ReceiveState
	// Reception returns whether the interface receives packets, as of the last check. It
	// never waits.
	Reception(ifindex int) Reception
	// RequestCheck requests a check of the interface from another goroutine. It never
	// waits.
	RequestCheck(ifindex int)
}

// Reception says whether an interface receives packets. It doesn't after another process
// has detached the BPF programs.
type Reception struct {
	// Checked is when the last check began that found the programs attached; 0: never.
	Checked vrrp.Instant
	// Restored is when the programs were attached again; 0: they were never detached.
	Restored vrrp.Instant
	// Detached says that the programs are detached.
	Detached bool
}

// ReceiveState is what the kernel's programs keep for one Virtual Router, in memory that
// they share with this process. No method waits.
type ReceiveState interface {
	// Stamp returns the stamp, and false if there is none.
	Stamp() (vrrp.Stamp, bool)
	// SetExpected makes the kernel stamp and count advertisements with these signatures
	// instead of passing them on, until one with another signature arrives. 0 matches
	// none. The call replaces the previous signatures.
	SetExpected([2]uint64)
	// Repeated returns how many advertisements with each of these signatures there were
	// in all, and the order of the last ones: a bit for each, the latest in the lowest
	// bit.
	Repeated() (n [2]uint64, order uint64)
	// SetOutranked makes the kernel count these advertisements instead of passing them
	// on. The call replaces the previous value; the zero value matches none.
	SetOutranked(vrrp.Outranked)
	// RepeatedAt points to the time at which the last of the Repeated ones was received,
	// 0 if there was none. It must be read atomically.
	RepeatedAt() *vrrp.Instant
}

// Transmitter sends Ethernet frames on one interface, or IP datagrams. It never blocks.
type Transmitter interface {
	// Queue adds a frame to those that the next Flush sends. The caller must not change
	// the frame before.
	Queue(frame []byte)
	// Queued returns the number of queued frames.
	Queued() int
	// Flush sends the queued frames and returns how many were sent. It calls unsent for
	// each frame that could not be sent, in their order, with the index of the frame and
	// the error. An error with a method Unreachable that returns true says that the
	// destination can't be reached.
	Flush(unsent func(n int, err error)) (sent int)
}

// Authenticator adds the proof of their sender to advertisements. Its methods run on the
// loop and must return at once.
type Authenticator interface {
	// Prepare returns a copy of an IP datagram, from its header on, with room for the
	// proof.
	Prepare(datagram []byte) []byte
	// Sign writes the proof into a prepared datagram. It is called for each sending.
	Sign(datagram []byte)
}

// Addresses carries out address changes outside of the loop. Both methods return at once,
// and done is called later, from any goroutine. The changes of one interface keep the
// order of the calls. The id is that of the router that becomes or stops being Active. It
// is zero if a router gives up only some of its addresses. A router without
// addresses makes the calls too, because its routing set comes and goes with Active.
type Addresses interface {
	Assign(id ID, ifindex int, addresses []netip.Prefix, done func(error))
	Release(id ID, ifindex int, addresses []netip.Prefix, done func(error))
}

// Leases gives access to the leases of Virtual Routers in the kernel.
type Leases interface {
	// Lease returns the lease of a Virtual Router. It returns nil if the kernel doesn't
	// know the router.
	Lease(packet.Key) Lease
}

// Lease tells the kernel until when a Virtual Router is Active, so that this ends even if
// the process doesn't run any more. Its methods return at once.
type Lease interface {
	// Answer allows the host to answer for the addresses until the given time. The call
	// replaces the previous time; 0 ends the lease.
	Answer(until vrrp.Instant)
	// Renew is Answer if the lease ends at was. It returns false, and changes nothing, if
	// somebody else has changed the lease.
	Renew(was, until vrrp.Instant) bool
	// Advertise allows advertisements to be sent until the given time, also while the
	// host must not answer.
	Advertise(until vrrp.Instant)
	// Until returns the end of the lease, as the last Answer set it, or 0 if the kernel has
	// ended it.
	Until() vrrp.Instant
}

// Observer receives reports of the loop. Its methods run on the loop and must return at
// once.
type Observer interface {
	// Transition reports a change of state.
	Transition(Transition)
	// Finding reports the verdict of a state machine on one advertisement.
	Finding(Finding)
	// Failure reports an action that could not be carried out.
	Failure(Failure)
}

// Transition is a change of state of one Virtual Router, with its reason.
type Transition struct {
	ID   ID
	When vrrp.Instant
	// Own is the router's own priority. Action.Priority is that of a peer.
	Own uint8
	vrrp.Action
}

// Finding is the verdict of a state machine on one advertisement.
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

// ActionSend is the Action of a Failure to send. Such a Failure concerns all routers of
// the interface.
const ActionSend = "send"

// ID identifies a configured Virtual Router.
type ID = vrrp.ID

// Config is the configuration of one Virtual Router.
type Config struct {
	ID ID
	// Protocol is the configuration of the state machine.
	Protocol vrrp.Config
	// Group is the name of the group that the router is a member of, empty for none. The
	// members of a group are Active or Backup together.
	Group string
	// Addresses are those that are added to the interface while the router is Active: the
	// virtual addresses, and others of any family that aren't advertised. An address
	// owner has none here, because its addresses are never added or removed.
	Addresses []netip.Prefix
	// Elsewhere are the virtual addresses that are on other interfaces while the router is
	// Active. They are advertised like the others, but not announced on the router's interface.
	Elsewhere []netip.Addr
	// Peers are the hosts to which a unicast router sends its advertisements, instead of
	// to the group. It receives advertisements from no other host.
	Peers []netip.Addr
	TTL   uint8 // TTL or Hop Limit of advertisements to peers
	// Authenticator authenticates what is sent; nil for no authentication.
	Authenticator Authenticator
}

// Port is the interface through which a Virtual Router takes part.
type Port struct {
	Ifindex int
	// Device is the interface that gets the addresses, 0 if it is the same.
	Device int
	// MAC is the interface's own.
	MAC packet.MAC
	// VirtualMAC says that advertisements and announcements come from the virtual MAC
	// (RFC 9568 §7.3) instead.
	VirtualMAC bool
	// Source is the primary address (RFC 9568 §1.7), for IPv6 a link-local one.
	Source netip.Addr
	// Learnt is vrrp.Event.Learnt for the Start, and Checksum vrrp.Event.Checksum for Continue.
	Learnt   time.Duration
	Checksum packet.Checksum
	// Transmitter sends frames on the interface.
	Transmitter Transmitter
	// Unicast sends IP datagrams to the peers of a unicast router.
	Unicast Transmitter
}

// Status is the state of a Virtual Router for people and for tests.
type Status struct {
	ID       ID
	Ifindex  int
	MAC      packet.MAC // the MAC of the addresses while Active
	OwnMAC   packet.MAC // the interface's own
	Protocol vrrp.Status
	Assigned bool
	Counters Counters
	Group    string
	// HeldBy is the member of the group for which a Backup waits although its own
	// Active_Down_Timer has expired.
	HeldBy *ID
	Source netip.Addr // the source of its advertisements
	Peers  []Peer
	Sent   vrrp.Instant // when an advertisement was last sent; 0: never
	Octets int          // the length of its longest advertisement so far, as an IP datagram
	Unsent *Unsent      // nil: the last advertisement was sent, or there was none
}

// Unsent says that the last advertisement of a Virtual Router could not be sent.
type Unsent struct {
	Err   error
	Since vrrp.Instant // the first failure in a row
}

// Peer is a host to which a unicast Virtual Router sends its advertisements.
type Peer struct {
	Address   netip.Addr
	LastHeard vrrp.Instant // 0: never
}

// Counters count the events of a Virtual Router since it was added.
type Counters struct {
	Became [3]uint64 // how often it entered each vrrp.State
	// Sent counts its own advertisements that were sent, PriorityZeroSent those with
	// priority 0. Each counts once, in however many forms and versions it was sent.
	Sent, PriorityZeroSent uint64
	// SendErrors counts advertisements of which a frame could not be sent.
	SendErrors uint64
	// Announced counts the announcements of its addresses by gratuitous ARP or
	// unsolicited neighbour advertisements.
	Announced uint64
	// Found counts the verdicts of the state machine on advertisements.
	Found [packet.ReasonCount]uint64
}

// add adds the counters of a process before.
func (c *Counters) add(before *Counters) {
	for n, v := range before.Became {
		c.Became[n] += v
	}
	c.Sent += before.Sent
	c.PriorityZeroSent += before.PriorityZeroSent
	c.SendErrors += before.SendErrors
	c.Announced += before.Announced
	for n, v := range before.Found {
		c.Found[n] += v
	}
}
