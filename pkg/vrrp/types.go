// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// Instant is a moment of the monotonic clock, in nanoseconds.
type Instant int64

// Add returns the moment d after t.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Sub returns the time from u to t.
func (t Instant) Sub(u Instant) time.Duration { return time.Duration(t - u) }

// State is a state of RFC 9568 §6.4.
type State uint8

// The states.
const (
	Initialize State = iota
	Backup
	Active
)

func (s State) String() string {
	switch s {
	case Initialize:
		return "Initialize"
	case Backup:
		return "Backup"
	case Active:
		return "Active"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// EventKind tells what an Event is.
type EventKind uint8

// The events of RFC 9568 §6.4, and one that a lossy receiver needs.
const (
	// Startup: the interface is up and has an address.
	Startup EventKind = iota + 1
	// Shutdown: the router is to leave.
	Shutdown
	// Relinquish: an Active router is to let another one have the addresses,
	// and goes on as a Backup.
	Relinquish
	// Receive: an advertisement has been received. Step's time is that of
	// its reception.
	Receive
	// StampHeard: an advertisement of Config.MinPriority or more is known to have
	// been received at Step's time, but only its version, priority and
	// interval are known.
	StampHeard
	// Repeated: the advertisement that the Router has called Repeatable has been
	// received again, at Step's time for the last time.
	Repeated
	// Unsent: the advertisement that an Active was last to send could not be sent.
	Unsent
	// TimerExpired: the Deadline may have passed.
	TimerExpired
)

// Event is something that happens to a Router.
type Event struct {
	Kind EventKind
	// Source is the primary address (RFC 9568 §1.7) that the router sends
	// from. Startup only.
	Source netip.Addr
	// Cause is why the router starts or leaves, and Detail what exactly is
	// meant, if the cause alone doesn't say it. Startup, Shutdown and Relinquish;
	// of Unsent the Detail, which is why it could not be sent.
	Cause  Cause
	Detail string
	// Left is when an advertisement has left for the last time; 0: never. Unsent.
	Left Instant
	// Advertisement, From and Checksum are what was received. Receive; of
	// StampHeard the Advertisement's version, priority and interval.
	Advertisement packet.Advertisement
	From          netip.Addr
	Checksum      packet.Checksum
	// TieElsewhere has an Active wait before it yields to another one of the same priority
	// and a greater address: the router is Active together with others, of which another
	// one decides such a tie for all (RFC 9568 §6.4.3 has each decide for itself, and two
	// hosts may then both yield). Receive.
	TieElsewhere bool
	// Forms are the checksum forms of the last two of those that were Repeated,
	// the newest first; the second is 0 if there was one only.
	Forms [2]packet.Checksum
}

// ActionKind tells what an Action is.
type ActionKind uint8

// What a Router has its caller do.
const (
	// SendAdvertisement: send one advertisement with Priority in each of the
	// Checksum forms, and one of version 2 if Version2 says so.
	SendAdvertisement ActionKind = iota + 1
	// AssignAddresses: put the virtual addresses on the interface.
	AssignAddresses
	// AnnounceAddresses: send gratuitous ARP or unsolicited neighbour
	// advertisements, once the addresses are in place.
	AnnounceAddresses
	// ReleaseAddresses: take the virtual addresses away, and stop announcing.
	ReleaseAddresses
	// TransitionTo: the state has changed From To; Why says why.
	TransitionTo
	// Report: Reason is what became of an advertisement from Peer.
	Report
)

// Action is something the caller has to do, or to know.
type Action struct {
	Kind     ActionKind
	Priority uint8           // SendAdvertisement; of a TransitionTo the peer's
	Checksum packet.Checksum // SendAdvertisement
	Version2 bool            // SendAdvertisement: also in version 2 (RFC 9568 §8.4)

	From, To State         // TransitionTo
	Cause    Cause         // TransitionTo
	Detail   string        // TransitionTo: instead of what the cause is called
	Peer     netip.Addr    // TransitionTo, Report: the router it is about
	Silence  time.Duration // TransitionTo: how long nothing was heard
	Limit    time.Duration // TransitionTo: how long that was allowed to be

	Reason  packet.Reason // Report
	Refused bool          // Report: the advertisement was discarded for it
	// Comparison is there if the advertisement isn't as the router's own are, and
	// if an Active accepts that of another one. It holds until the next Step, and
	// what it says of the other one as long as the event's Advertisement. Report.
	Comparison *Comparison
}

// Comparison is a router beside another one that it has heard.
type Comparison struct {
	State        State // the router's own, before it has drawn a conclusion
	Ours, Theirs Parameters
}

// Parameters is what the advertisements of a router say. Authentication data isn't
// among it.
type Parameters struct {
	Version   uint8
	Priority  uint8 // 0 on leaving
	AuthType  uint8 // RFC 3768 §5.3.6, version 2 only
	Interval  time.Duration
	Addresses []netip.Addr
}

// Cause is why a state changed.
type Cause uint8

// The causes.
const (
	CauseNone Cause = iota
	CauseStarting
	CauseAdministrator
	CauseInterfaceDown
	CauseInterfaceRemoved
	CauseInterfaceRenamed
	CauseNoAddress
	CauseAddressChanged
	CauseAssignFailed
	CauseInterfaceUp
	CauseInterfaceBack
	CauseAddressBack
	CauseOwner          // Startup with priority 255
	CauseSilence        // the Active fell silent
	CauseNobody         // nobody was heard since the router started
	CauseReleased       // the Active left with priority 0
	CausePreempted      // an Active of lower priority was overruled
	CauseHigherPriority // a rival of higher priority
	CauseGreaterAddress // a rival of equal priority and greater address
	CauseLapsed         // another took over while this one didn't advertise
	CauseWaiting        // the interface isn't there yet, or can't be used yet
	CauseRemoved        // it isn't configured any more
	CauseReconfigured   // a change that needs a restart
	CauseFault          // something that the router depends on fails
	CauseRecovered      // nothing of it fails any more
	CauseMaintenance    // the administrator has taken it out of service
	CauseMaintained     // and back
	CauseGroup          // another member of its group has changed, or fails
	CauseHandedOver     // the administrator has it given away
	CauseCannotSend     // its advertisements can't be sent
)

var causes = [...]string{
	CauseNone:             "no cause",
	CauseStarting:         "starting",
	CauseAdministrator:    "stopped by the administrator",
	CauseInterfaceDown:    "interface is down",
	CauseInterfaceRemoved: "interface was removed",
	CauseInterfaceRenamed: "interface was renamed",
	CauseNoAddress:        "interface has no address to send from",
	CauseAddressChanged:   "the interface's address changed",
	CauseAssignFailed:     "virtual addresses could not be assigned",
	CauseInterfaceUp:      "interface is up",
	CauseInterfaceBack:    "interface is there again",
	CauseAddressBack:      "interface has an address to send from",
	CauseOwner:            "this host owns the addresses",
	CauseSilence:          "the Active router fell silent",
	CauseNobody:           "nobody else was heard",
	CauseReleased:         "the Active router left",
	CausePreempted:        "the Active router has a lower priority",
	CauseHigherPriority:   "a router of higher priority is Active",
	CauseGreaterAddress:   "a router of equal priority and greater address is Active",
	CauseLapsed:           "another router took over while this one didn't advertise",
	CauseWaiting:          "interface isn't there or can't be used yet",
	CauseRemoved:          "removed from the configuration",
	CauseReconfigured:     "configured anew",
	CauseFault:            "something that it depends on fails",
	CauseRecovered:        "everything that it depends on works again",
	CauseMaintenance:      "taken out of service for maintenance",
	CauseMaintained:       "back from maintenance",
	CauseGroup:            "another router of its group",
	CauseHandedOver:       "handed over by the administrator",
	CauseCannotSend:       "it can't advertise",
}

func (c Cause) String() string {
	if int(c) >= len(causes) {
		return fmt.Sprintf("cause %d", uint8(c))
	}
	return causes[c]
}

// Why says why a transition happened, with the values that decided it.
func (a Action) Why() string {
	peer := "the Active router"
	if a.Peer.IsValid() {
		peer = a.Peer.String()
	}
	if a.Cause == CauseCannotSend {
		return fmt.Sprintf("can't advertise, for %v (limit %v): %s", rounded(a.Silence), rounded(a.Limit), a.Detail)
	}
	if a.Detail != "" {
		return a.Detail
	}
	switch a.Cause {
	case CauseSilence:
		return fmt.Sprintf("nothing heard from %s for %v (Active_Down_Interval %v)", peer, rounded(a.Silence), rounded(a.Limit))
	case CauseNobody:
		return fmt.Sprintf("nobody else heard for %v (Active_Down_Interval %v)", rounded(a.Silence), rounded(a.Limit))
	case CauseReleased:
		return fmt.Sprintf("%s left with priority 0", peer)
	case CausePreempted:
		return fmt.Sprintf("%s has the lower priority %d", peer, a.Priority)
	case CauseHigherPriority:
		return fmt.Sprintf("%s has the higher priority %d", peer, a.Priority)
	case CauseLapsed:
		return fmt.Sprintf("%s took over, for this one hadn't advertised for %v (limit %v)", peer, rounded(a.Silence), rounded(a.Limit))
	case CauseGreaterAddress:
		return fmt.Sprintf("%s has the same priority %d and the greater address", peer, a.Priority)
	}
	return a.Cause.String()
}

func rounded(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}
