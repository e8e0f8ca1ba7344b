// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// Instant is a time of the monotonic clock, in nanoseconds.
type Instant int64

// Add returns the time d after t.
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

// EventKind is the kind of an Event.
type EventKind uint8

// The events of RFC 9568 §6.4, and those that the kernel's stamps, refused sends
// and the administrator add.
const (
	// Startup: the interface is up and has an address.
	Startup EventKind = iota + 1
	// Shutdown: the router has to stop taking part.
	Shutdown
	// Relinquish: an Active has to leave the addresses to another router. It
	// continues as a Backup.
	Relinquish
	// Receive: an advertisement was received. The time of Step is the time of its
	// reception.
	Receive
	// StampHeard: an advertisement of at least Config.MinPriority was received at
	// the time of Step, but only its version, priority and interval are known.
	StampHeard
	// Repeated: the advertisement that the Router called Repeatable was received
	// again, once or more. The time of Step is the time of the last reception.
	Repeated
	// Unsent: the last advertisement of an Active could not be sent.
	Unsent
	// TimerExpired: the Deadline may have passed.
	TimerExpired
	// Continue: a router in Initialize goes on as the Active that another run was, which was
	// killed or has handed over. It advertises at once.
	Continue
)

// Event is the input of Step. The comment of each field names the kinds that use it.
type Event struct {
	Kind EventKind
	// Source is the primary address (RFC 9568 §1.7), from which the router sends.
	// Startup, Continue.
	Source netip.Addr
	// Learnt is the interval that another run has learnt from the Active, 0 for none, when this
	// one takes over its Backup. A Backup begins with its own interval (RFC 9568 §6.4.1) unless this
	// one is longer: otherwise its timer could expire before the Active's next advertisement.
	// Startup.
	Learnt time.Duration
	// Cause is the reason of a Startup, Continue, Shutdown or Relinquish. Detail replaces the
	// text of the cause if it isn't empty. For Unsent, Detail is the error.
	Cause  Cause
	Detail string
	// Left is the time at which an advertisement was last sent successfully, 0 if
	// never. Unsent; for Continue, the last advertisement of the other run.
	Left Instant
	// Advertisement, From and Checksum describe the received advertisement. Receive;
	// for StampHeard only the version, priority and interval of Advertisement. For Continue,
	// Checksum has the forms that the other run has sent; 0: they are unknown.
	Advertisement packet.Advertisement
	From          netip.Addr
	Checksum      packet.Checksum
	// TieElsewhere makes an Active wait before it yields to a router with the same
	// priority and a greater address. The caller sets it if this router is Active
	// together with others and one of those decides such a tie for all. By RFC 9568
	// §6.4.3 each router decides for itself, and then two hosts may both yield.
	// Receive.
	TieElsewhere bool
	// Forms are the checksum forms of the last two repetitions, the newest first.
	// The second is 0 if there was only one. Repeated.
	Forms [2]packet.Checksum
}

// ActionKind is the kind of an Action.
type ActionKind uint8

// The actions that the caller has to carry out.
const (
	// SendAdvertisement: send one advertisement with Priority in each of the
	// Checksum forms, and one of version 2 if Version2 is set.
	SendAdvertisement ActionKind = iota + 1
	// AssignAddresses: add the virtual addresses to the interface.
	AssignAddresses
	// AnnounceAddresses: send gratuitous ARP or unsolicited neighbour
	// advertisements, once the addresses are in place.
	AnnounceAddresses
	// ReleaseAddresses: remove the virtual addresses, and stop announcing them.
	ReleaseAddresses
	// TransitionTo: the state changed from From to To. Why explains it.
	TransitionTo
	// Report: an advertisement from Peer was counted for Reason.
	Report
)

// Action is one thing that the caller has to do or to report. The comment of each
// field names the kinds that use it.
type Action struct {
	Kind     ActionKind
	Priority uint8           // SendAdvertisement; TransitionTo: the priority of the peer
	Checksum packet.Checksum // SendAdvertisement
	Version2 bool            // SendAdvertisement: send version 2 too (RFC 9568 §8.4)

	From, To State         // TransitionTo
	Cause    Cause         // TransitionTo
	Detail   string        // TransitionTo: replaces the text of the cause
	Peer     netip.Addr    // TransitionTo, Report: the other router
	Silence  time.Duration // TransitionTo: the time without an advertisement
	Limit    time.Duration // TransitionTo: the limit of Silence

	Reason  packet.Reason // Report
	Refused bool          // Report: the advertisement was discarded
	// Comparison is set if the parameters of the advertisement differ from the
	// router's own, and if an Active accepts an advertisement of another router. It
	// is valid until the next Step, and Theirs.Addresses as long as the
	// Advertisement of the event. Report.
	Comparison *Comparison
}

// Comparison has the parameters of a router and of another one that it has heard.
type Comparison struct {
	State        State // of this router before the advertisement took effect
	Ours, Theirs Parameters
}

// Parameters are the values in the advertisements of a router, without the
// authentication data.
type Parameters struct {
	Version   uint8
	Priority  uint8 // 0 if the router leaves
	AuthType  uint8 // RFC 3768 §5.3.6, version 2 only
	Interval  time.Duration
	Addresses []netip.Addr
}

// Cause is the reason of a change of state.
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
	CauseNobody         // no other router was heard since this one started
	CauseReleased       // the Active left with priority 0
	CausePreempted      // this router preempted an Active of lower priority
	CauseHigherPriority // another Active has a higher priority
	CauseGreaterAddress // another Active has the same priority and a greater address
	CauseLapsed         // another router took over while this one didn't advertise
	CauseWaiting        // the interface doesn't exist or can't be used yet
	CauseRemoved        // the router was removed from the configuration
	CauseReconfigured   // a change of the configuration needs a restart
	CauseFault          // a condition that the router depends on fails
	CauseRecovered      // all these conditions are met again
	CauseMaintenance    // the administrator started maintenance
	CauseMaintained     // the administrator ended maintenance
	CauseGroup          // another member of the group changed its state, or fails
	CauseHandedOver     // the administrator handed the addresses over
	CauseCannotSend     // the advertisements can't be sent
	CauseContinued      // the router was Active when failoverd was killed
	CauseRestarted      // the router was Active when failoverd was restarted
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
	CauseInterfaceBack:    "interface is back",
	CauseAddressBack:      "interface has an address to send from",
	CauseOwner:            "this host owns the addresses",
	CauseSilence:          "the Active router fell silent",
	CauseNobody:           "nobody else was heard",
	CauseReleased:         "the Active router left",
	CausePreempted:        "the Active router has a lower priority",
	CauseHigherPriority:   "a router of higher priority is Active",
	CauseGreaterAddress:   "a router of equal priority and greater address is Active",
	CauseLapsed:           "another router took over while this one didn't advertise",
	CauseWaiting:          "interface doesn't exist or can't be used yet",
	CauseRemoved:          "removed from the configuration",
	CauseReconfigured:     "its configuration changed",
	CauseFault:            "a condition that it depends on fails",
	CauseRecovered:        "all conditions that it depends on are met again",
	CauseMaintenance:      "taken out of service for maintenance",
	CauseMaintained:       "back from maintenance",
	CauseGroup:            "another member of its group changed its state",
	CauseHandedOver:       "handed over by the administrator",
	CauseCannotSend:       "its advertisements can't be sent",
	CauseContinued:        "continued as Active after a crash",
	CauseRestarted:        "continued as Active after a restart",
}

// Continues reports whether the cause is that of a Continue.
func (c Cause) Continues() bool { return c == CauseContinued || c == CauseRestarted }

func (c Cause) String() string {
	if int(c) >= len(causes) {
		return fmt.Sprintf("cause %d", uint8(c))
	}
	return causes[c]
}

// Why returns the reason of a transition for people, with the values that decided
// it.
func (a Action) Why() string {
	peer := "the Active router"
	if a.Peer.IsValid() {
		peer = a.Peer.String()
	}
	if a.Cause == CauseCannotSend {
		return fmt.Sprintf("could not advertise for %v (limit %v): %s", rounded(a.Silence), rounded(a.Limit), a.Detail)
	}
	if a.Detail != "" {
		return a.Detail
	}
	switch a.Cause {
	case CauseContinued, CauseRestarted:
		return fmt.Sprintf("%v: no advertisement for %v (limit %v)", a.Cause, rounded(a.Silence), rounded(a.Limit))
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
		return fmt.Sprintf("%s took over because this router hadn't advertised for %v (limit %v)", peer, rounded(a.Silence), rounded(a.Limit))
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
