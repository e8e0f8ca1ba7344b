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

// refusals are why a packet may be refused before a state machine hears of it, if
// that is a problem.
var refusals = []packet.Reason{
	packet.ErrVersion, packet.ErrChecksum, packet.ErrOwnSource, packet.ErrAuthType, packet.ErrAuth, packet.ErrAuthMissing,
	packet.ErrAuthMalformed, packet.ErrAuthKey, packet.ErrAuthStale, packet.ErrAuthReplay, packet.ErrCast, packet.ErrPeer,
}

// sighted returns the problem that a finding shows, if it shows one. The peer has so
// many addresses, of which the finding may have only the first.
func sighted(f router.Finding, listed int) (s Observation, ok bool) {
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
			return s, false // it doesn't go on, or this one won't
		}
		s.Kind = control.TwoActives
		s.Text = fmt.Sprintf("%s (priority %d) is Active as well as this host (priority %d), and goes on", who, c.Theirs.Priority, c.Ours.Priority)
		s.Remedy = "it doesn't hear this host: look for a firewall, switch or IGMP snooping that lets VRRP pass one way only; if it is a keepalived with vmac_xmit_base, which hears nobody that sends from the virtual MAC, take that off there or give this router virtual_mac: off; run failoverctl doctor on both"
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
		s.Text += "; it isn't heeded"
	}
	return s, true
}

// lists compares lists of addresses. Those of strangers have nothing in common.
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
		s.Remedy = "different virtual routers of a link need different VRIDs: give one of them another"
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

// refused is the problem of what was refused for a reason, wherever that was.
func (s *Observation) refused(id router.ID, reason packet.Reason) bool {
	switch reason {
	case packet.ErrVersion:
		s.Kind = control.Version
		s.Text = fmt.Sprintf("%s speaks another version of VRRP for VRID %d, and isn't heeded: both will be Active", s.Peer, id.VRID)
		s.Remedy = "give all routers of the VRID the same version, or dual while you move them"
	case packet.ErrChecksum:
		s.Kind = control.Checksum
		s.Text = s.Peer + " sends checksums that this host doesn't accept, and isn't heeded"
		s.Remedy = "give all routers of the VRID the same checksum form, or auto; if it is so already, something on the way spoils packets"
	case packet.ErrOwnSource:
		s.Kind = control.OwnAddress
		s.Text = "advertisements come in that were sent from this host's own address " + s.Peer
		s.Remedy = "another host has this one's address, or there is a loop in the network"
	case packet.ErrAuthType, packet.ErrAuth, packet.ErrAuthMissing, packet.ErrAuthMalformed, packet.ErrAuthKey, packet.ErrAuthStale, packet.ErrAuthReplay:
		s.Kind = control.Authentication
		s.Text = s.Peer + " isn't heeded: " + reason.Error()
		switch reason {
		case packet.ErrAuthType:
			s.Text = s.Peer + " isn't heeded: it authenticates its advertisements in a way that this router doesn't, by an HMAC for example: both will be Active"
			s.Remedy = sameAuthentication
		case packet.ErrAuthStale:
			s.Remedy = "set the clocks of both hosts; if they are right, somebody sends again what was sent before"
		case packet.ErrAuthReplay:
			s.Remedy = "somebody sends again what was sent before, or two hosts have one address"
		default:
			s.Remedy = sameAuthentication
		}
	case packet.ErrCast:
		s.Kind = control.Peers
		s.Text = s.Peer + " isn't heeded: one of it and this host advertises to the group, the other one to its peers"
		s.Remedy = "list the peers on all hosts of the VRID, or on none; with strangers to it, take another VRID"
	case packet.ErrPeer:
		s.Kind = control.Peers
		s.Text = s.Peer + " advertises to this host, which doesn't have it among the router's peers, and isn't heeded"
		s.Remedy = "list it as a peer here, by the address that it sends from; or have it send to its own peers only"
	default:
		return false
	}
	return true
}

// discarded is the problem with what was refused before a state machine heard of
// it. Who is heard as the Active in one version may well speak the other too; what
// came before the state was entered may be from one that was.
func discarded(reason packet.Reason, d datapath.Discard, s router.Status) (Observation, bool) {
	if reason == packet.ErrVersion && (s.Protocol.Active == d.Source.WithZone("") || d.ReceivedAt < s.Protocol.Since) {
		return Observation{}, false
	}
	seen := Observation{Peer: Peer(d.Source.WithZone("")), Interval: s.Protocol.ActiveAdverInterval}
	return seen, seen.refused(s.ID, reason)
}
