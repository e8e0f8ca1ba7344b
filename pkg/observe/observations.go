// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

const sameAddresses = "give all routers of the VRID the same addresses"

const sameAuthentication = "give all routers of the VRID the same authentication and the same keys"

// refusals are the reasons for which packets are discarded before they reach a state machine, and
// which are problems.
var refusals = []packet.Reason{
	packet.ErrVersion, packet.ErrAddrCount, packet.ErrChecksum, packet.ErrOwnSource, packet.ErrAuthType, packet.ErrAuth, packet.ErrAuthMissing,
	packet.ErrAuthMalformed, packet.ErrAuthKey, packet.ErrAuthStale, packet.ErrAuthReplay, packet.ErrCast, packet.ErrPeer,
}

// observationOf returns the problem that a finding shows, if it shows one. listed is the number
// of addresses of the peer, because the finding may have only the first ones.
func observationOf(f router.Finding, listed int) (s Observation, ok bool) {
	c := f.Comparison
	who := Peer(f.Peer)
	if c == nil {
		s.Peer = who
		return s, s.refused(f.ID, f.Reason)
	}
	s = Observation{Peer: who, Interval: max(c.Ours.Interval, c.Theirs.Interval)}
	if bothOwners(&f) {
		owner := twoOwners(who)
		owner.Interval = s.Interval
		return owner, true
	}
	switch f.Reason {
	case packet.ReasonAdvertisementReceived, packet.ErrOwnerConflict:
		if c.State != vrrp.Active || c.Theirs.Priority == 0 || c.Theirs.Priority > c.Ours.Priority {
			return s, false // one of the two is about to stop being Active
		}
		s.Kind = control.TwoActives
		s.Text = fmt.Sprintf("%s (priority %d) is Active at the same time as this host (priority %d) and doesn't yield", who, c.Theirs.Priority, c.Ours.Priority)
		s.Remedy = "the advertisements of this host don't arrive there: look for a firewall, switch or IGMP snooping that passes VRRP in one direction only; if that host runs keepalived with vmac_xmit_base, which ignores advertisements from a virtual MAC, remove that setting there or set virtual_mac: off here; run failoverctl doctor on both"
	case packet.ErrInterval:
		s.Kind = control.Interval
		s.Text = fmt.Sprintf("%s advertises every %v, this host every %v", who, c.Theirs.Interval, c.Ours.Interval)
		s.Remedy = "give all routers of the VRID the same interval"
	case packet.ErrAddressList:
		s.lists(f.ID, c, listed)
	case packet.ErrAuthType:
		s.Kind = control.Authentication
		s.Text = fmt.Sprintf("%s has authentication type %d, this host %d", who, c.Theirs.AuthType, c.Ours.AuthType)
		s.Remedy = sameAuthentication
	default:
		return s, s.refused(f.ID, f.Reason)
	}
	if f.Refused {
		s.Text += "; this host ignores it"
	}
	return s, true
}

// lists compares the lists of addresses. If they have nothing in common, the peer is another
// Virtual Router with the same VRID.
func (s *Observation) lists(id router.ID, c *vrrp.Comparison, listed int) {
	if listed > len(c.Theirs.Addresses) {
		s.Kind = control.AddressList
		s.Text = fmt.Sprintf("%s has %d addresses, this host %d", s.Peer, listed, len(c.Ours.Addresses))
		s.Remedy = sameAddresses
		return
	}
	lacks := func(list, from []netip.Addr) []netip.Addr {
		return slices.DeleteFunc(slices.Clone(list), func(a netip.Addr) bool { return slices.Contains(from, a) })
	}
	more, less := lacks(c.Theirs.Addresses, c.Ours.Addresses), lacks(c.Ours.Addresses, c.Theirs.Addresses)
	if len(more) == len(c.Theirs.Addresses) {
		s.Kind = control.DuplicateVRID
		s.Text = fmt.Sprintf("%s uses VRID %d for %s, this host for %s", s.Peer, id.VRID, joinAddresses(c.Theirs.Addresses), joinAddresses(c.Ours.Addresses))
		s.Remedy = "different virtual routers on one link need different VRIDs: change one of them"
		return
	}
	var parts []string
	if len(more) > 0 {
		parts = append(parts, "has "+joinAddresses(more)+", which this host lacks")
	}
	if len(less) > 0 {
		parts = append(parts, "lacks "+joinAddresses(less)+", which this host has")
	}
	if len(parts) == 0 {
		parts = append(parts, "lists an address more than once")
	}
	s.Kind, s.Text = control.AddressList, s.Peer+" "+strings.Join(parts, ", and ")
	s.Remedy = sameAddresses
}

// refused fills in the problem for a packet that was refused for a reason, and reports whether it
// is one.
func (s *Observation) refused(id router.ID, reason packet.Reason) bool {
	switch reason {
	case packet.ErrVersion:
		s.Kind = control.Version
		s.Text = fmt.Sprintf("%s uses another version of VRRP for VRID %d, and this host ignores it: both become Active", s.Peer, id.VRID)
		s.Remedy = "give all routers of the VRID the same version, or set dual during the migration"
	case packet.ErrAddrCount:
		s.Kind = control.DuplicateVRID
		s.Text = fmt.Sprintf("%s uses VRID %d for no address, and this host ignores it: both become Active", s.Peer, id.VRID)
		s.Remedy = sameAddresses + ", `addresses: []` if they are to have none; if that host belongs to another virtual router, change one VRID"
	case packet.ErrChecksum:
		s.Kind = control.Checksum
		s.Text = s.Peer + " sends checksums that this host doesn't accept, and this host ignores it"
		s.Remedy = "give all routers of the VRID the same checksum, or auto; if they have that already, a device on the way corrupts packets"
	case packet.ErrOwnSource:
		s.Kind = control.OwnAddress
		s.Text = "received advertisements from this host's own address " + s.Peer
		s.Remedy = "find the other host with this address, or the loop in the network"
	case packet.ErrAuthType, packet.ErrAuth, packet.ErrAuthMissing, packet.ErrAuthMalformed, packet.ErrAuthKey, packet.ErrAuthStale, packet.ErrAuthReplay:
		s.Kind = control.Authentication
		s.Text = "this host ignores " + s.Peer + ": " + reason.Error()
		switch reason {
		case packet.ErrAuthType:
			s.Text = "this host ignores " + s.Peer + ", because it uses another type of authentication, for example an HMAC: both become Active"
			s.Remedy = sameAuthentication
		case packet.ErrAuthStale:
			s.Remedy = "synchronize the clocks of both hosts; if they are right, somebody replays old advertisements"
		case packet.ErrAuthReplay:
			s.Remedy = "somebody replays old advertisements, or two hosts have the same address"
		default:
			s.Remedy = sameAuthentication
		}
	case packet.ErrCast:
		s.Kind = control.Peers
		s.Text = "this host ignores " + s.Peer + ", because one of them uses multicast and the other one unicast peers"
		s.Remedy = "configure unicast peers on all hosts of the VRID, or on none; if that host belongs to another virtual router, change one VRID"
	case packet.ErrPeer:
		s.Kind = control.Peers
		s.Text = "this host ignores " + s.Peer + ", because it isn't one of the router's peers"
		s.Remedy = "add it as a peer here, with the address that it sends from, or remove this host from its peers"
	default:
		return false
	}
	return true
}

// discardObservation returns the problem that a discarded packet shows. A packet of another
// version is no problem if its sender is the current Active, which may send both versions, or if
// it came before the current state began.
func discardObservation(reason packet.Reason, d datapath.Discard, s router.Status) (Observation, bool) {
	if reason == packet.ErrVersion && (s.Protocol.Active == d.Source.WithZone("") || d.ReceivedAt < s.Protocol.Since) {
		return Observation{}, false
	}
	seen := Observation{Peer: Peer(d.Source.WithZone("")), Interval: s.Protocol.ActiveAdverInterval}
	return seen, seen.refused(s.ID, reason)
}
