// SPDX-License-Identifier: Apache-2.0

// Package reconcile brings the host to the state that the plan asks for: it compares that with
// the present state, and carries out steps in an order that is safe at every moment.
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

// Verb is what a step does. Steps are carried out in the order of the verbs: first what is no
// longer wanted is removed from the top down, then what is missing is added from the bottom up.
type Verb int

// The verbs.
const (
	Stop        Verb = iota // stop a Virtual Router: it sends priority 0 and removes its addresses
	Disown                  // end the lease that a killed run left, and remove its addresses: the router can't continue
	Withdraw                // remove an address that another program added, or that is left over
	Unfence                 // delete a Virtual Router from the BPF maps
	Reject                  // remove the virtual MAC from the interface's filter
	Unmake                  // delete a macvlan
	Unset                   // restore the old value of a setting
	Unsubscribe             // leave the multicast group, or close the socket for the unicast peers
	Unclaim                 // allow other processes to run the Virtual Router
	Remove                  // remove a Virtual Router from the event loop
	Close                   // close a port
	Open                    // open a port: attach the programs, open the sending socket
	Add                     // add a Virtual Router to the event loop
	Claim                   // make sure that no other process runs the Virtual Router
	Subscribe               // join the multicast group, or open the socket for the unicast peers
	Write                   // write notes to the journal
	Make                    // create a macvlan
	Set                     // change a setting
	Accept                  // add the virtual MAC to the interface's filter
	Fence                   // add a Virtual Router to the BPF maps, or change its entry
	Update                  // change the configuration of a Virtual Router in the event loop
	Start                   // start a Virtual Router
	Rebind                  // continue with a changed MAC of the interface
	Restore                 // add missing addresses again
	Erase                   // remove notes from the journal
	verbCount
)

var verbNames = [verbCount]string{
	"stop", "disown", "withdraw", "unfence", "reject", "unmake", "unset", "unsubscribe", "unclaim", "remove", "close",
	"open", "add", "claim", "subscribe", "write", "make", "set", "accept", "fence", "update", "start", "rebind", "restore", "erase",
}

func (v Verb) String() string { return verbNames[v] }

// Step is one change. Only the fields that its verb needs are set.
type Step struct {
	Verb         Verb
	ID           plan.ID // of the Virtual Router concerned; zero: the step is for a port or the host
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
	Heir         *plan.Heir // Disown; Start: it continues as Active after a crash
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
	case Start:
		if s.Heir != nil {
			text += " as Active"
		}
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

// subject identifies what fails if the step fails: a Virtual Router, a port, an address, or a
// macvlan.
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

// order puts the steps in the order in which they have to be carried out.
func order(steps []*Step) []*Step {
	slices.SortStableFunc(steps, func(a, b *Step) int {
		if a.Verb != b.Verb {
			return int(a.Verb - b.Verb)
		}
		if c := strings.Compare(a.ID.Interface, b.ID.Interface); c != 0 {
			return c
		}
		if a.ID != b.ID { // that is so for most steps, of which there may be thousands
			return cmp.Or(cmp.Compare(a.ID.VRID, b.ID.VRID), cmp.Compare(a.ID.Family, b.ID.Family))
		}
		return cmp.Or(strings.Compare(a.PortName, b.PortName), cmp.Compare(a.Ifindex, b.Ifindex), a.Prefix.Compare(b.Prefix), strings.Compare(a.Setting.Path, b.Setting.Path))
	})
	return steps
}
