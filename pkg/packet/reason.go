// SPDX-License-Identifier: Apache-2.0

package packet

// Reason is the reason for which a datagram was refused, or another result that is
// counted. It is the error of the decoder and the number of the counter, the same in Go
// and in the XDP program. New reasons are only appended.
type Reason uint8

// The reasons, with the numbers of bpf/vrrp.h. Counters have the names of RFC 8347 where
// it has one.
const (
	ErrNotVRRP                  Reason = iota // not for us: never counted
	ReasonAdvertisementReceived               // accepted by the state machine
	ReasonPriorityZero                        // accepted, with priority 0
	ErrIPMalformed                            // lengths of the IP header contradict each other
	ErrFragment                               // a fragment: left to the stack
	ErrTagged                                 // inside a VLAN tag: left to the VLAN device
	ErrTTL                                    // RFC 9568 §7.1: TTL or Hop Limit is not 255, or not what a unicast peer may have
	ErrVersion                                // RFC 9568 §7.1: version is not the router's
	ErrPacketLength                           // RFC 9568 §7.1: incomplete, or octets behind the message
	ErrType                                   // RFC 9568 §7.1: not an ADVERTISEMENT
	ErrAddrCount                              // RFC 9568 §5.2.5: no address
	ErrZeroInterval                           // RFC 9568 §7.1, erratum 8301: interval 0
	ErrFirstAddr                              // RFC 9568 §7.1, erratum 8300: first IPv6 address not link-local
	ErrChecksum                               // RFC 9568 §7.1: checksum wrong in every form
	ErrSource                                 // source can't be the address of a host
	ErrOwnSource                              // source is the own address: a loop or a duplicate address
	ErrVRID                                   // RFC 9568 §7.1: VRID not configured on the interface
	ErrInitialize                             // RFC 9568 §6.4.1: configured, but not taking part
	ErrAuthType                               // RFC 3768 §7.1: authentication type differs
	ErrAuth                                   // RFC 2338 §7.1: authentication data differs
	ErrOwnerConflict                          // RFC 9568 §7.1: received by the owner of the addresses
	ErrInterval                               // RFC 9568 §7.1: interval differs
	ErrAddressList                            // RFC 9568 §7.1: addresses differ
	ReasonDelivered                           // passed to the daemon by the kernel
	ReasonRingFull                            // not passed to the daemon because the ring was full
	ReasonChecksumRFC5798                     // accepted, with the checksum in RFC 5798's form
	ErrCast                                   // sent to the group for a unicast router, or the other way round
	ErrPeer                                   // source is none of a unicast router's peers
	ErrAuthMissing                            // no authentication, although the router requires it
	ErrAuthMalformed                          // authentication trailer of another scheme
	ErrAuthKey                                // authenticated with a key that the router doesn't have
	ErrAuthStale                              // authenticated at a time too far from the clock of this host
	ErrAuthReplay                             // authenticated, but not newer than one that was accepted
	ReasonUnchanged                           // accepted by the kernel: a repetition, no news for a Backup
	ReasonOutranked                           // ignored by the kernel: no effect on a router of higher priority
	ErrAuthOverlong                           // not verified: more addresses than any authentic one has, right after another such one

	// ReasonCount is the number of reasons.
	ReasonCount = int(ErrAuthOverlong) + 1
)

// What happens to most packets.
const (
	dropped = "dropped"
	toStack = "it goes on to the network stack"
)

var reasons = [ReasonCount]struct{ counter, text, fate string }{
	ErrNotVRRP:                  {"none", "not a VRRP datagram to the VRRP group or to a unicast router", ""},
	ReasonAdvertisementReceived: {"advertisement_rcvd", "advertisement accepted", ""},
	ReasonPriorityZero:          {"priority_zero_pkts_rcvd", "advertisement of priority 0 accepted", ""},
	ErrIPMalformed:              {"ip_malformed", "lengths in the IP header contradict each other, or the IPv4 header's checksum is wrong", toStack},
	ErrFragment:                 {"fragments", "IP fragment", toStack},
	ErrTagged:                   {"tagged", "inside a VLAN tag", "it goes on to the VLAN device"},
	ErrTTL:                      {"ip_ttl_errors", "TTL or Hop Limit is not 255, or a unicast peer's is out of its limits", dropped},
	ErrVersion:                  {"version_errors", "VRRP version is not the router's", dropped},
	ErrPacketLength:             {"packet_length_errors", "length doesn't fit the number of addresses", dropped},
	ErrType:                     {"invalid_type_pkts_rcvd", "VRRP type is not ADVERTISEMENT", dropped},
	ErrAddrCount:                {"addr_count_errors", "no virtual address in it", dropped},
	ErrZeroInterval:             {"zero_interval_errors", "advertisement interval is 0", dropped},
	ErrFirstAddr:                {"first_addr_errors", "first IPv6 address is not link-local", dropped},
	ErrChecksum:                 {"checksum_errors", "checksum is wrong", dropped},
	ErrSource:                   {"source_errors", "source address can't be a router's", dropped},
	ErrOwnSource:                {"own_source", "source is this router's own address: a loop, or a duplicate address", dropped},
	ErrVRID:                     {"vrid_errors", "VRID is not configured on this interface", toStack},
	ErrInitialize:               {"initialize", "the virtual router is not taking part", "it has no effect"},
	ErrAuthType:                 {"auth_type_mismatch", "authentication type is not the router's", "dropped; in version 2 without authentication it has no effect"},
	ErrAuth:                     {"auth_failures", "authentication data is wrong: another password or key", dropped},
	ErrOwnerConflict:            {"owner_conflict", "another router advertises addresses that this host owns", "in version 2 it has no effect, in version 3 it is processed and logged"},
	ErrInterval:                 {"interval_errors", "advertisement interval is not the router's", "in version 2 it has no effect, in version 3 the interval is learned and logged"},
	ErrAddressList:              {"address_list_errors", "virtual addresses are not the router's", "in version 2 it has no effect, in version 3 it is processed and logged"},
	ReasonDelivered:             {"delivered", "passed to the daemon", ""},
	ReasonRingFull:              {"ring_full", "not passed to the daemon because the ring was full", "its stamp still counts"},
	ReasonChecksumRFC5798:       {"csum_5798_form", "advertisement with RFC 5798's checksum accepted", ""},
	ErrCast:                     {"cast_errors", "sent to the group although the router is unicast, or to its address although it isn't", dropped},
	ErrPeer:                     {"peer_errors", "source is none of the router's unicast peers", dropped},
	ErrAuthMissing:              {"auth_missing", "without the authentication that the router requires", dropped},
	ErrAuthMalformed:            {"auth_malformed", "authentication trailer of an unknown scheme", dropped},
	ErrAuthKey:                  {"auth_key_unknown", "authenticated with a key id that the router doesn't have", dropped},
	ErrAuthStale:                {"auth_stale", "authenticated at a time outside the router's window: compare the clocks", dropped},
	ErrAuthReplay:               {"auth_replay", "authenticated, but not newer than the last one: a replay", dropped},
	ReasonUnchanged:             {"unchanged", "advertisement accepted by the kernel: the same as the last one", "it isn't passed to the daemon, and `unchanged: drop` drops it"},
	ReasonOutranked:             {"outranked", "advertisement of lower priority, right after another one that was answered or overruled", "it is neither passed to the daemon nor answered, and `unchanged: drop` drops it"},
	ErrAuthOverlong:             {"auth_overlong", "more addresses than any authentic advertisement has, right after another such one: not verified", dropped},
}

// String returns the name of the reason's counter.
func (r Reason) String() string {
	if int(r) >= ReasonCount {
		return "unknown"
	}
	return reasons[r].counter
}

// Error describes the reason for people.
func (r Reason) Error() string {
	if int(r) >= ReasonCount {
		return "unknown reason"
	}
	return reasons[r].text
}

// Fate describes for people what happens to a packet with this reason. It may be empty.
func (r Reason) Fate() string {
	if int(r) >= ReasonCount {
		return ""
	}
	return reasons[r].fate
}
