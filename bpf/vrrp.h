/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The types that the receiving programs share with user space. bpf2go generates Go types from them. */
#ifndef FAILOVER_VRRP_H
#define FAILOVER_VRRP_H

#include <linux/bpf.h>
#include <linux/types.h>

/*
 * The reasons for which packets are counted. Names and numbers are an interface to
 * administrators, and pkg/packet has the same ones. Only append to the list.
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

/* The counters of one CPU. The fields are named after the reasons. */
struct failover_counters {
#define X(name) __u64 name;
	FAILOVER_REASONS(X)
#undef X
};

/* What is accepted although RFC 9568 refuses it: see packet.Tolerance. */
enum failover_tolerance {
	TOLERATE_TRAILING_OCTETS = 1,
	TOLERATE_ANY_FIRST_ADDRESS = 2,
	TOLERATE_AUTH_TRAILER = 4,
	TOLERATE_AUTH_HEADER = 8,
	TOLERATE_NO_ADDRESS = 16,
};

/* Identifies a Virtual Router. */
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
	__u32 slot; /* its index in the array maps */
	__u8 versions; /* 1 << 2, 1 << 3 or both */
	__u8 running; /* 0 in Initialize */
	__u8 heed; /* the lowest priority that is stamped */
	__u8 forms; /* FORM_ bits: forms of the checksum that are stamped, in version 3 over IPv4 */
	__u8 source[16]; /* its own address; IPv4 in the first four octets */
	enum failover_tolerance tolerate; /* TOLERATE_ bits */
	__u8 unicast; /* 1: it accepts only what its peers send to its own address */
	__u8 drop_unchanged; /* 1: drop advertisements that are no news */
	__u8 priority; /* its own; 0: is_better is never true */
	__u8 enforce; /* 1: refuse advertisements without a trailer */
	enum failover_auth auth;
	__u16 window; /* the tolerance for the time in a trailer, in seconds; 0: any time */
	__u16 addresses; /* the number of its addresses */
};

/* A key of a Virtual Router, or its password under id 0. */
struct failover_secret_key {
	__u32 slot;
	__u32 id;
};

/*
 * The states of both hashes of an HMAC after the key, or a password. An MD5 state is in the
 * first four words.
 */
struct failover_secret {
	__u32 inner[8];
	__u32 outer[8];
};

/* The number of senders that are recorded for a Virtual Router. */
#define FAILOVER_SENDERS 16

/* A sender of authentic advertisements. */
struct failover_sender {
	__u8 address[16];
	__u64 sequence; /* the sequence number of its last trailer */
	__u64 heard; /* when that trailer was received; 0: the entry is unused */
};

/* What an authenticated Virtual Router has accepted and refused. */
struct failover_proof {
	struct bpf_spin_lock lock;
	__u32 numbered; /* the highest sequence number in an Authentication Header */
	__u32 addresses; /* the largest number of addresses in an authentic advertisement */
	__u32 unused;
	__u64 long_at; /* when the last digest of an overlong advertisement was computed */
	struct failover_sender sender[FAILOVER_SENDERS];
	struct failover_counters refused;
};

/* A peer of a unicast Virtual Router. */
struct failover_peer_key {
	__u32 ifindex;
	__u16 family;
	__u16 vrid;
	__u8 address[16]; /* IPv4 in the first four octets */
};

struct failover_peer_limits {
	__u16 min_ttl; /* TTL or Hop Limit on arrival */
	__u16 max_ttl;
};

struct failover_link {
	__u32 ifindex;
};

struct failover_interface {
	__u32 watch; /* 1: deliver every advertisement and drop nothing */
};

/* The number of expected advertisements: one in each form of the checksum. */
#define FAILOVER_EXPECTED 2

/*
 * The stamp: the last good advertisement that the Virtual Router heeds. Advertisements of
 * a lower priority don't change it. User space reads it from mapped memory, in aligned
 * words of 8 octets. received is written last.
 *
 * User space writes the signatures of the advertisements that are no news when they are
 * repeated. Such an advertisement is stamped and counted, but not delivered. Any other one
 * is delivered and clears the signatures.
 *
 * User space also writes until when advertisements of a lower priority are no news. These
 * are only counted.
 */
struct failover_liveness {
	__u64 received; /* CLOCK_MONOTONIC, ns */
	__u16 interval; /* as on the wire: cs, or s in version 2 */
	__u16 version;
	__u32 priority;
	__u64 expected[FAILOVER_EXPECTED]; /* 0: none */
	__u64 repeated[FAILOVER_EXPECTED]; /* the number of expected advertisements received */
	__u64 repeated_at; /* when the last expected one was received */
	__u64 order; /* the indexes of the last 64 expected ones, a bit each, the latest lowest */
	__u64 outranked_until; /* CLOCK_MONOTONIC, ns; 0: nothing is outranked */
	__u64 outranked; /* octets from the lowest: least priority, priority limit (excluded), FORM_ bits */
};

/* The last packet that was refused for a reason. */
struct failover_discard {
	__u64 received;
	__u32 ifindex;
	__u16 family;
	__u16 vrid; /* 0 if unknown */
	__u8 source[16];
};

/* The authentication trailer of draft-cassen-vrrp-auth-hmac. */
#define FAILOVER_TRAILER 28

/* An Authentication Header with HMAC-MD5-96 (RFC 2403). */
#define FAILOVER_AUTH_HEADER 24

/* The longest message: IPv6 with 255 addresses and a trailer. */
#define FAILOVER_MESSAGE_MAX (4088 + FAILOVER_TRAILER)

/* A record of the ring buffers. length octets of the VRRP message follow it. */
struct failover_record {
	__u64 received; /* CLOCK_MONOTONIC, ns */
	__u32 ifindex;
	__u16 family;
	__u16 length;
	__u8 source[16];
	__u8 destination[16];
	__u16 ttl;
	__u16 identification; /* of the IPv4 header */
	enum failover_reason reason; /* watched interfaces only: the reason to refuse it */
	__u8 header[FAILOVER_AUTH_HEADER]; /* the Authentication Header; zeros: none */
	__u64 signature; /* hash of the source and the message; 0: none */
};

#endif
