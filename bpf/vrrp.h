/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the XDP program and user space share. bpf2go makes Go types of it. */
#ifndef FAILOVER_VRRP_H
#define FAILOVER_VRRP_H

#include <linux/bpf.h>
#include <linux/types.h>

/*
 * Why a packet was counted, in the order of the numbers. They are an interface
 * to administrators and to pkg/packet, whose names these are: only append.
 */
#define FAILOVER_REASONS(X)                                                    \
	X(none)                                                                \
	X(advertisement_rcvd)                                                  \
	X(priority_zero_pkts_rcvd)                                             \
	X(ip_malformed)                                                        \
	X(fragments)                                                           \
	X(tagged)                                                              \
	X(ip_ttl_errors)                                                       \
	X(version_errors)                                                      \
	X(packet_length_errors)                                                \
	X(invalid_type_pkts_rcvd)                                              \
	X(addr_count_errors)                                                   \
	X(zero_interval_errors)                                                \
	X(first_addr_errors)                                                   \
	X(checksum_errors)                                                     \
	X(source_errors)                                                       \
	X(own_source)                                                          \
	X(vrid_errors)                                                         \
	X(initialize)                                                          \
	X(auth_type_mismatch)                                                  \
	X(auth_failures)                                                       \
	X(owner_conflict)                                                      \
	X(interval_errors)                                                     \
	X(address_list_errors)                                                 \
	X(delivered)                                                           \
	X(ring_full)                                                           \
	X(csum_5798_form)                                                      \
	X(cast_errors)                                                         \
	X(peer_errors)                                                         \
	X(auth_missing)                                                        \
	X(auth_malformed)                                                      \
	X(auth_key_unknown)                                                    \
	X(auth_stale)                                                          \
	X(auth_replay)                                                         \
	X(unchanged)                                                           \
	X(outranked)                                                           \
	X(auth_overlong)

enum failover_reason {
#define X(name) REASON_##name,
	FAILOVER_REASONS(X)
#undef X
	REASON_COUNT,
};

/* One entry for each CPU; the fields are named after the reasons. */
struct failover_counters {
#define X(name) __u64 name;
	FAILOVER_REASONS(X)
#undef X
};

/* What is accepted although RFC 9568 has it refused: packet.Tolerance. */
enum failover_tolerance {
	TOLERATE_TRAILING_OCTETS = 1,
	TOLERATE_ANY_FIRST_ADDRESS = 2,
	TOLERATE_AUTH_TRAILER = 4,
	TOLERATE_AUTH_HEADER = 8,
};

/* A Virtual Router on the wire. */
struct failover_key {
	__u32 ifindex;
	__u16 family; /* 4 or 6 */
	__u16 vrid;
};

/* How a Virtual Router's advertisements are authenticated. */
enum failover_auth {
	AUTH_NONE,
	AUTH_PASSWORD,
	AUTH_HEADER,
	AUTH_HMAC,
};

enum failover_form {
	FORM_RFC9568 = 1,
	FORM_RFC5798 = 2,
};

struct failover_virtual_router {
	__u32 slot; /* of its stamp */
	__u8 versions; /* 1 << 2, 1 << 3 or both */
	__u8 running; /* 0 in Initialize */
	__u8 heed; /* the least priority that is stamped */
	__u8 forms; /* FORM_ bits of version 3 over IPv4 that are stamped */
	__u8 source[16]; /* its own address; IPv4 in the first four octets */
	enum failover_tolerance tolerate; /* any of them, joined */
	__u8 unicast; /* 1: it hears its peers only, which write to its own address */
	__u8 drop_unchanged; /* 1: what is no news doesn't get into the stack */
	__u8 priority; /* its own; 0: nobody is better */
	__u8 enforce; /* 1: what has no trailer is refused */
	enum failover_auth auth;
	__u16 window; /* of the time in a trailer, in seconds; 0: any time */
	__u16 addresses; /* how many it has itself */
};

/* A key of a Virtual Router, or its password under id 0. */
struct failover_secret_key {
	__u32 slot;
	__u32 id;
};

/* The states of an HMAC's hashes after the key, MD5's in the first half; or a password. */
struct failover_secret {
	__u32 inner[8];
	__u32 outer[8];
};

/* How many senders of one Virtual Router are remembered. */
#define FAILOVER_SENDERS 16

/* A router that has proved who it is. */
struct failover_sender {
	__u8 address[16];
	__u64 sequence; /* of its last trailer */
	__u64 heard; /* when that was received; 0: never */
};

/* What an authenticated Virtual Router has accepted and refused. */
struct failover_proof {
	struct bpf_spin_lock lock;
	__u32 numbered; /* the highest in an Authentication Header */
	__u32 addresses; /* the most in an authentic advertisement */
	__u32 unused;
	__u64 long_at; /* when a digest of one with more was made last */
	struct failover_sender sender[FAILOVER_SENDERS];
	struct failover_counters refused;
};

/* Who may write to a unicast Virtual Router. */
struct failover_peer_key {
	__u32 ifindex;
	__u16 family;
	__u16 vrid;
	__u8 address[16]; /* IPv4 in the first four octets */
};

struct failover_peer_limits {
	__u16 min_ttl; /* or Hop Limit, as it arrives */
	__u16 max_ttl;
};

struct failover_link {
	__u32 ifindex;
};

struct failover_interface {
	__u32 watch; /* deliver everything, drop nothing */
};

/* How many advertisements a Backup can expect: one in each form of the checksum. */
#define FAILOVER_EXPECTED 2

/*
 * What is kept of the last good advertisement that counts, which one of a
 * priority that isn't heeded must not displace. User space reads it from
 * mapped memory, aligned 8-octet words; received is written last.
 *
 * User space writes the signatures of the advertisements whose repetition is no
 * news to a Backup: such a one is stamped and counted, and wakes nobody. All
 * others are handed over, which ends what was expected.
 *
 * It also writes for how long advertisements of a lower priority are no news: then
 * they are counted only.
 */
struct failover_liveness {
	__u64 received; /* CLOCK_MONOTONIC, ns */
	__u16 interval; /* as on the wire: cs, or s in version 2 */
	__u16 version;
	__u32 priority;
	__u64 expected[FAILOVER_EXPECTED]; /* 0: none */
	__u64 repeated[FAILOVER_EXPECTED]; /* how many of each there were */
	__u64 repeated_at; /* when the last of them was received */
	__u64 order; /* which of them came, a bit each, the last one lowest */
	__u64 outranked_until; /* CLOCK_MONOTONIC, ns; 0: none is */
	__u64 outranked; /* from the lowest octet: the least priority, the one above, FORM_ bits */
};

/* The last packet that raised a counter of errors. */
struct failover_discard {
	__u64 received;
	__u32 ifindex;
	__u16 family;
	__u16 vrid; /* 0 if it can't be told */
	__u8 source[16];
};

/* The authentication trailer of draft-cassen-vrrp-auth-hmac. */
#define FAILOVER_TRAILER 28

/* An Authentication Header with HMAC-MD5-96 (RFC 2403). */
#define FAILOVER_AUTH_HEADER 24

/* The longest message: IPv6 with 255 addresses, and a trailer. */
#define FAILOVER_MESSAGE_MAX (4088 + FAILOVER_TRAILER)

/* What the ring carries, followed by length octets of the VRRP message. */
struct failover_record {
	__u64 received; /* CLOCK_MONOTONIC, ns */
	__u32 ifindex;
	__u16 family;
	__u16 length;
	__u8 source[16];
	__u8 destination[16];
	__u16 ttl;
	__u16 identification; /* of the IPv4 header */
	enum failover_reason reason; /* watched interfaces only: why it would be refused */
	__u8 header[FAILOVER_AUTH_HEADER]; /* that the message was in; zeros: none */
	__u64 signature; /* of the source and the message */
};

#endif
