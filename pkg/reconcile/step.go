// SPDX-License-Identifier: Apache-2.0

// Package reconcile brings the host to what the plan asks of it: it compares that with
// what the host has, and carries out the steps in an order that is safe at every moment.
package reconcile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Verb is what a step does. The order of the verbs is that of the steps: what goes
// is taken away from the top down, and what comes is built from the ground up.
type Verb int

// The verbs.
const (
	Stop        Verb = iota // end taking part: priority 0 is sent, the addresses are removed
	Withdraw                // remove an address that nobody has put there, or that stayed
	Unfence                 // have the kernel's programs forget a Virtual Router
	Reject                  // take the virtual MAC out of the interface's filter
	Unmake                  // remove a macvlan
	Unset                   // give a setting back its value
	Unsubscribe             // leave the group, or close the socket to the peers
	Unclaim                 // let another process run the Virtual Router
	Remove                  // have the event loop forget it
	Close                   // close a port
	Open                    // open a port: attach the programs, open the socket to send
	Add                     // have the event loop know a Virtual Router
	Claim                   // make sure that no other process runs it
	Subscribe               // join the group, or open the socket to the peers
	Write                   // write down what will be changed
	Make                    // make a macvlan
	Set                     // change a setting
	Accept                  // have the interface take frames to the virtual MAC
	Fence                   // have the kernel's programs know a Virtual Router
	Update                  // give the event loop another configuration
	Start                   // begin to take part
	Rebind                  // go on with another MAC of the interface
	Restore                 // put the addresses back
	Erase                   // end what Write began
	verbs
)

var verbNames = [verbs]string{
	"stop", "withdraw", "unfence", "reject", "unmake", "unset", "unsubscribe", "unclaim", "remove", "close",
	"open", "add", "claim", "subscribe", "write", "make", "set", "accept", "fence", "update", "start", "rebind", "restore", "erase",
}

func (v Verb) String() string { return verbNames[v] }

// Step is one change. Only the fields that its verb needs are set.
type Step struct {
	Verb         Verb
	ID           plan.ID // of the Virtual Router that it is for; zero: the host's, or a port's
	PortName     string
	Port         plan.Port
	Ifindex      int
	Cause        vrrp.Cause
	Detail       string
	V            *plan.VirtualRouter
	Priority     int
	Withheld     []netip.Addr
	Entry        *plan.Entry
	Binding      *plan.Binding
	Subscription plan.Subscription
	Device       link.Device
	Setting      link.Setting
	Prefix       netip.Prefix
	Notes        []plan.Note
}

func (s *Step) String() string {
	text := s.Verb.String()
	if s.ID != (plan.ID{}) {
		text += " " + s.ID.String()
	}
	if s.PortName != "" {
		text += " port " + s.PortName
	}
	switch s.Verb {
	case Stop:
		text += fmt.Sprintf(": %s", plan.Obstacle{Cause: s.Cause, Detail: s.Detail})
	case Withdraw:
		text += fmt.Sprintf(" %s from interface %d", s.Prefix, s.Ifindex)
	case Make, Unmake:
		text += " " + s.Device.Name
	case Set, Unset:
		text += fmt.Sprintf(" %s=%d", s.Setting.Path, s.Setting.Value)
	case Fence:
		text += fmt.Sprintf(" %v running=%v", s.Entry.Addresses, s.Entry.Running)
	case Update:
		text += fmt.Sprintf(" less %v", s.Withheld)
	case Write, Erase:
		var notes []string
		for _, n := range s.Notes {
			notes = append(notes, fmt.Sprint(n))
		}
		slices.Sort(notes)
		text += fmt.Sprintf(" %v", notes)
	}
	return text
}

// subject is what fails with the step: a Virtual Router, a port, an address, or a macvlan.
func (s *Step) subject() any {
	switch {
	case s.ID != (plan.ID{}):
		return s.ID
	case s.PortName != "":
		return s.PortName
	case s.Verb == Unmake:
		return s.Device
	case s.Verb == Withdraw:
		return link.JournalAddress{Ifindex: s.Ifindex, Prefix: s.Prefix}
	}
	return s.Verb
}

// order sorts steps as they have to be done.
func order(steps []Step) {
	slices.SortStableFunc(steps, func(a, b Step) int {
		return cmp.Or(cmp.Compare(a.Verb, b.Verb),
			strings.Compare(a.ID.Interface, b.ID.Interface), cmp.Compare(a.ID.VRID, b.ID.VRID), cmp.Compare(a.ID.Family, b.ID.Family),
			strings.Compare(a.PortName, b.PortName), cmp.Compare(a.Ifindex, b.Ifindex), a.Prefix.Compare(b.Prefix), strings.Compare(a.Setting.Path, b.Setting.Path))
	})
}
