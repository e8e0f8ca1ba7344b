// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//go:build ignore

/*
 * The receiving programs. failover_vrrp sees every frame of an interface at the XDP hook.
 * failover_tc does the same at TC ingress, where XDP would cost other traffic more. They
 * pass every frame that isn't VRRP, unchanged and uncounted. They validate VRRP
 * advertisements as RFC 9568 section 7.1 requires, stamp the last good one of each Virtual
 * Router, and deliver those that are news to user space through a ring buffer.
 *
 * They drop only bad packets for Virtual Routers that are configured here, and unchanged
 * advertisements if the Virtual Router asks for that. The order of the checks is that of
 * pkg/packet, so a packet raises the same counter in the kernel and in Go. The programs
 * run on Linux 5.15 and newer.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "auth.h"
#include "vmac.h"
#include "vrrp.h"
#include "work.h"

#define PROTOCOL_VRRP 112
#define PROTOCOL_FRAGMENT 44
#define VRRP_HEADER 8
#define VRRP_AUTH 8
#define AUTH_HEADER_WORDS (FAILOVER_AUTH_HEADER / 4 - 2) /* the value of its length field */
#define VLAN_TAGS 2
#define IPV4_HEADER_MAX 60
#define HEADERS (ETH_HLEN + 40) /* Ethernet and IPv6 */
#define VLAN_ID 0x0fff
#define IP_MORE_OR_OFFSET 0x3fff
#define SUM_WORDS 16 /* words that sum_message adds between two checks of the length */
#define MIX_PAIRS 16 /* the same for message_signature, in pairs of words */
#define OFFSET_MAX (ETH_HLEN + VLAN_TAGS * 4 + 60) /* the largest offset of the VRRP header */
#define GROUP_IPV4 0xe0000012 /* 224.0.0.18 */
#define MULTICAST_IPV4 0xe0000000 /* the first address that isn't unicast */

struct vlan {
	__be16 tci;
	__be16 type;
};

struct auth_header {
	__u8 next;
	__u8 words;
	__u8 rest[FAILOVER_AUTH_HEADER - 2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct failover_key);
	__type(value, struct failover_virtual_router);
} failover_router SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct failover_peer_key);
	__type(value, struct failover_peer_limits);
} failover_peer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct failover_link);
	__type(value, struct failover_interface);
} failover_iface SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct failover_liveness);
} failover_stamp SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct failover_counters);
} failover_count SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASON_COUNT);
	__type(key, __u32);
	__type(value, struct failover_discard);
} failover_last SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} failover_ring SEC(".maps");

/*
 * The ring for authentic advertisements. It is a ring of its own, so that unauthenticated
 * advertisements, which anybody can send, can't fill it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} failover_sealed SEC(".maps");

/*
 * Raises a counter. The kernel rewrites each lookup in a map when it loads a program, and
 * copies the whole program each time. So this is a function of its own, like count_error.
 */
__noinline int count(__u32 reason)
{
	struct failover_counters *c;
	__u32 zero = 0;

	c = bpf_map_lookup_elem(&failover_count, &zero);
	if (c && reason < REASON_COUNT)
		((__u64 *)c)[reason]++;
	return 0;
}

/* Counts an error of the packet in the work record, and stores the packet in failover_last. */
__noinline int count_error(__u32 reason, __u32 vrid)
{
	struct work *w = get_work();
	struct failover_discard *last;

	count(reason);
	last = bpf_map_lookup_elem(&failover_last, &reason);
	if (!w || !last)
		return 0;
	last->received = w->record.received;
	last->ifindex = w->record.ifindex;
	last->family = w->record.family;
	last->vrid = vrid;
	copy_address(last->source, w->record.source);
	return 0;
}

/* Delivers the record to user space through a ring. */
static __always_inline void deliver(struct work *w, void *ring, __u32 reason)
{
	__u32 length = w->record.length;

	if (length > FAILOVER_MESSAGE_MAX)
		return;
	w->record.reason = reason;
	count(bpf_ringbuf_output(ring, w, sizeof(w->record) + length, 0) ? REASON_ring_full : REASON_delivered);
}

/* Prepares the work record for a message. Returns its length, or 0 if it is empty or too long. */
static __always_inline __u32 prepare_message(struct work *w, __u32 length)
{
	__u32 last = length - 1;

	if (last >= FAILOVER_MESSAGE_MAX)
		return 0;
	barrier_var(last); /* from its bounds the verifier knows those of the length */
	length = last + 1;
	/* sum_message reads up to so many words behind the message. */
	__builtin_memset(&w->message[length / 4], 0, SUM_WORDS * 4);
	return length;
}

/*
 * Returns the sum of SUM_WORDS words of the message in the work record. The loop that calls
 * it is short, because the verifier follows each turn of a loop. The same is true of
 * mix_pairs.
 */
__noinline __u64 sum_words(__u32 at)
{
	struct work *w = get_work();
	__u64 sum = 0;
	__u32 i;

	if (!w || at > MESSAGE_ROOM - SUM_WORDS)
		return 0;
#pragma clang loop unroll(full)
	for (i = 0; i < SUM_WORDS; i++)
		sum += w->message[at + i];
	return sum;
}

/*
 * Returns the sum of the 16-bit words of the message in the work record, folded to 32
 * bits, in the byte order of the machine (RFC 1071 section 2 B).
 */
static __always_inline __u32 sum_message(__u32 length)
{
	__u64 sum = 0;
	__u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < MESSAGE_WORDS; i += SUM_WORDS) {
		if (i * 4 >= length)
			break;
		sum += sum_words(i);
	}
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return sum;
}

/*
 * Returns the sum of the 16-bit words of an IPv4 header, length octets at offset, folded to
 * 32 bits.
 */
static __always_inline __u32 sum_header(void *data, void *end, __u32 offset, __u32 length)
{
	__u64 sum = 0;
	__u32 i;

	if (offset > OFFSET_MAX)
		return 0;
	data += offset;
#pragma clang loop unroll(disable)
	for (i = 0; i < IPV4_HEADER_MAX / 4; i++) {
		__u32 *word = (__u32 *)data + i;

		if (i >= length / 4 || (void *)(word + 1) > end)
			break;
		sum += *word;
	}
	return (sum & 0xffffffff) + (sum >> 32);
}

/* These functions aren't inlined, so that the verifier checks each of them only once. */
__noinline __u32 sum_xdp(struct xdp_md *ctx, __u32 offset, __u32 length)
{
	return sum_header((void *)(long)ctx->data, (void *)(long)ctx->data_end, offset, length);
}

__noinline __u32 sum_tc(struct __sk_buff *ctx, __u32 offset, __u32 length)
{
	return sum_header((void *)(long)ctx->data, (void *)(long)ctx->data_end, offset, length);
}

/*
 * copy_xdp and copy_tc copy the message, length octets at offset, into the work record and
 * return its sum. The caller has checked that the message ends within the frame.
 */
__noinline __u32 copy_xdp(struct xdp_md *ctx, __u32 offset, __u32 length)
{
	struct work *w = get_work();

	if (!w)
		return 0;
	length = prepare_message(w, length);
	if (!length || bpf_xdp_load_bytes(ctx, offset, w->message, length))
		return 0;
	return sum_message(length);
}

__noinline __u32 copy_tc(struct __sk_buff *ctx, __u32 offset, __u32 length)
{
	struct work *w = get_work();

	if (!w)
		return 0;
	length = prepare_message(w, length);
	if (!length || bpf_skb_load_bytes(ctx, offset, w->message, length))
		return 0;
	return sum_message(length);
}

/*
 * Adds two words to a signature. Different words lead from the same signature to different
 * ones. The signature is no protection against an attacker, who can just as well repeat
 * an advertisement.
 */
static __always_inline __u64 mix(__u64 signature, __u64 words)
{
	signature = (signature ^ words) * 0x9e3779b97f4a7c15;
	return signature ^ signature >> 32;
}

/* Adds n pairs of words of the message to a signature, but at most MIX_PAIRS. */
__noinline __u64 mix_pairs(__u64 signature, __u32 at, __u32 n)
{
	struct work *w = get_work();
	const __u64 *pairs;
	__u32 i;

	if (!w || at > MESSAGE_ROOM / 2 - MIX_PAIRS)
		return 0;
	pairs = (const __u64 *)w->message + at;
#pragma clang loop unroll(disable)
	for (i = 0; i < MIX_PAIRS; i++) {
		if (i >= n)
			break;
		signature = mix(signature, pairs[i]);
	}
	return signature;
}

/* Returns the signature of the sender and of the first words of the message in the work record. */
__noinline __u64 message_signature(__u32 words)
{
	struct work *w = get_work();
	__u64 signature = 1;
	__u32 i;

	if (!w)
		return 0;
	signature = mix(signature, ((const __u64 *)w->record.source)[0]);
	signature = mix(signature, ((const __u64 *)w->record.source)[1]);
	signature = mix(signature, w->message[0]);
	/* Over IPv6 without the checksum, because it covers the trailer. */
	signature = mix(signature, w->record.family == 6 ? w->message[1] & bpf_htonl(0xffff0000) : w->message[1]);
#pragma clang loop unroll(disable)
	for (i = 1; i < MESSAGE_WORDS / 2; i += MIX_PAIRS) {
		if (i >= words / 2)
			break;
		signature = mix_pairs(signature, i, words / 2 - i);
	}
	if (words % 2) {
		words--;
		barrier_var(words); /* the verifier must see the bound below */
		signature = mix(signature, w->message[words % MESSAGE_ROOM]);
	}
	return signature;
}

/* A frame, from XDP or from TC. */
struct frame {
	void *ctx;
	void *data;
	void *end;
	__u32 ifindex;
	int untagged; /* the NIC or the kernel has removed a VLAN tag */
	int tagged; /* that tag had a VLAN ID other than 0 */
	int xdp; /* 1: ctx is an xdp_md; 0: an __sk_buff */
};

/* Whether a checksum is right, by the sum over it and the data that it covers. */
static __always_inline int sum_good(__u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

/* Returns the length of the message according to its first four octets. */
static __always_inline __u32 declared_length(const __u8 *m, __u16 family)
{
	__u32 length = VRRP_HEADER + m[3] * (family == 4 ? 4 : 16);

	return m[0] >> 4 == 2 ? length + VRRP_AUTH : length;
}

/* Returns the number of octets that the checksum covers. Only over IPv6 it covers the trailer. */
static __always_inline __u32 covered_length(const struct work *w)
{
	return w->record.family == 4 ? declared_length((const __u8 *)w->message, 4) : w->record.length;
}

/* Returns the sum without the words of the trailer, which begins at length. */
static __always_inline __u64 without_trailer(const struct work *w, __u64 sum, __u32 length)
{
	__u32 i, at = length / 4;

	if (at > MESSAGE_WORDS - TRAILER_WORDS)
		return sum;
#pragma clang loop unroll(full)
	for (i = 0; i < TRAILER_WORDS; i++)
		sum += (__u32)~w->message[at + i];
	return sum;
}

/* Returns the form in which the checksum is right, 0 if it is wrong in both. */
static __always_inline __u32 checksum_form(const struct work *w, __u64 sum)
{
	const struct failover_record *r = &w->record;
	const __u32 *source = (const __u32 *)r->source;
	const __u32 *destination = (const __u32 *)r->destination;
	__u32 length = covered_length(w);
	__u64 pseudo;

	if (length + FAILOVER_TRAILER == r->length)
		sum = without_trailer(w, sum, length);
	pseudo = sum;
	if (r->family == 4 && sum_good(sum))
		return FORM_RFC9568;
	if (*(const __u8 *)w->message >> 4 == 2)
		return 0;
	/* For IPv4 the unused octets are zero and add nothing. */
	pseudo += (__u64)source[0] + source[1] + source[2] + source[3];
	pseudo += (__u64)destination[0] + destination[1] + destination[2] + destination[3];
	pseudo += bpf_htons(PROTOCOL_VRRP) + bpf_htons(length);
	if (!sum_good(pseudo))
		return 0;
	return r->family == 4 ? FORM_RFC5798 : FORM_RFC9568;
}

/* Whether the source address can be a router's: see packet.saneSource. */
static __always_inline int source_good(struct failover_record *r, int unicast)
{
	const __u32 *words = (const __u32 *)r->source;

	if (r->family == 4)
		return r->source[0] != 0 && r->source[0] != 127 && r->source[0] < 224;
	if (unicast)
		return r->source[0] != 0xff && (words[0] || words[1] || words[2] || bpf_ntohl(words[3]) > 1);
	return r->source[0] == 0xfe && (r->source[1] & 0xc0) == 0x80;
}

/* Whether an authentication trailer follows the message: see packet.ParseTrailer. */
static __always_inline int has_trailer(const struct work *w, __u32 length)
{
	__u32 at = length / 4;

	if (w->record.length != length + FAILOVER_TRAILER || at > MESSAGE_WORDS - TRAILER_WORDS)
		return 0;
	return (w->message[at] & bpf_htonl(0xff00ffff)) == bpf_htonl(TRAILER_SCHEME << 24);
}

/* Checks what doesn't depend on the Virtual Router. Returns the reason to refuse the message. */
__noinline __u32 validate(__u32 sum)
{
	struct work *w = get_work();
	struct failover_record *r;
	struct terms *terms;
	__u32 length;
	__u16 interval;
	const __u8 *m;
	__u8 version;

	if (!w)
		return REASON_packet_length_errors;
	m = (const __u8 *)w->message;
	r = &w->record;
	terms = &w->terms;
	version = m[0] >> 4;
	if (r->ttl < terms->min_ttl || r->ttl > terms->max_ttl)
		return REASON_ip_ttl_errors;
	if (r->length < 1)
		return REASON_packet_length_errors;
	if (version != 3 && (version != 2 || r->family != 4))
		return REASON_version_errors;
	if (r->length < VRRP_HEADER)
		return REASON_packet_length_errors;
	if ((m[0] & 0xf) != 1)
		return REASON_invalid_type_pkts_rcvd;
	if (m[3] == 0 && !(terms->tolerate & TOLERATE_NO_ADDRESS))
		return REASON_addr_count_errors;
	length = declared_length(m, r->family);
	if (r->length != length && !(terms->tolerate & TOLERATE_AUTH_TRAILER && r->length == length + FAILOVER_TRAILER))
		return has_trailer(w, length) ? REASON_auth_type_mismatch : REASON_packet_length_errors;
	interval = version == 2 ? m[5] : (m[4] & 0xf) << 8 | m[5];
	if (interval == 0)
		return REASON_zero_interval_errors;
	if (r->family == 6 && m[3] != 0 && !(terms->tolerate & TOLERATE_ANY_FIRST_ADDRESS) && (m[8] != 0xfe || (m[9] & 0xc0) != 0x80))
		return REASON_first_addr_errors;
	terms->form = checksum_form(w, sum);
	if (!terms->form)
		return REASON_checksum_errors;
	if (!source_good(r, terms->unicast))
		return REASON_source_errors;
	return REASON_none;
}

/*
 * Copies the limits of the peer that sent the message into the terms. Returns 0 if there is
 * no such peer. It isn't inlined, because the stack of its caller has no room for the key.
 */
__noinline int find_peer(__u32 vrid)
{
	struct failover_peer_key key = { .vrid = vrid };
	struct failover_peer_limits *peer;
	struct work *w = get_work();

	if (!w)
		return 0;
	key.ifindex = w->record.ifindex;
	key.family = w->record.family;
	copy_address(key.address, w->record.source);
	peer = bpf_map_lookup_elem(&failover_peer, &key);
	if (!peer)
		return 0;
	w->terms.min_ttl = peer->min_ttl;
	w->terms.max_ttl = peer->max_ttl;
	return 1;
}

/*
 * Checks that the message was sent to the group, or to a unicast router by one of its peers.
 * For a peer the terms get the peer's limits.
 */
static __always_inline __u32 validate_peer(struct work *w, struct failover_virtual_router *router, __u32 vrid)
{
	if (!router->unicast != !w->terms.unicast)
		return REASON_cast_errors;
	if (!router->unicast)
		return REASON_none;
	if (same_address(w->record.source, router->source))
		return REASON_own_source;
	return find_peer(vrid) ? REASON_none : REASON_peer_errors;
}

/* Checks the message against the Virtual Router. */
static __always_inline __u32 validate_router(struct work *w, struct failover_virtual_router *router)
{
	const __u8 *m = (const __u8 *)w->message;

	if (same_address(w->record.source, router->source))
		return REASON_own_source;
	if (!(router->versions & 1 << (m[0] >> 4)))
		return REASON_version_errors;
	return REASON_none;
}

/* Stamps the advertisement. Returns 0 if the Virtual Router doesn't heed it. */
static __always_inline int update_stamp(struct work *w, struct failover_virtual_router *router, struct failover_liveness *s, __u32 form)
{
	const __u8 *m = (const __u8 *)w->message;
	struct failover_liveness now = {
		.version = m[0] >> 4,
		.priority = m[2],
		.interval = m[0] >> 4 == 2 ? m[5] : (m[4] & 0xf) << 8 | m[5],
	};

	if (m[2] < router->heed)
		return 0;
	if (m[0] >> 4 == 3 && w->record.family == 4 && !(router->forms & form))
		return 0;
	((volatile __u64 *)s)[1] = ((__u64 *)&now)[1];
	((volatile __u64 *)s)[0] = w->record.received;
	return 1;
}

/*
 * Whether the advertisement is expected. If it isn't, this clears the signatures: everything
 * that follows is delivered too, until user space sets them again.
 */
static __always_inline int is_expected(struct failover_liveness *s, __u64 signature, __u64 now)
{
	volatile __u64 *e = s->expected;
	int i;

#pragma clang loop unroll(full)
	for (i = 0; i < FAILOVER_EXPECTED; i++) {
		if (signature && e[i] == signature) {
			*(volatile __u64 *)&s->repeated_at = now;
			*(volatile __u64 *)&s->order = s->order << 1 | i;
			__sync_fetch_and_add(&s->repeated[i], 1);
			return 1;
		}
	}
#pragma clang loop unroll(full)
	for (i = 0; i < FAILOVER_EXPECTED; i++)
		if (e[i])
			e[i] = 0;
	return 0;
}

/* Whether the advertisement has a lower priority and is currently no news. */
static __always_inline int is_outranked(struct work *w, struct failover_liveness *s, __u32 form)
{
	__u64 which = *(volatile __u64 *)&s->outranked;
	const __u8 *m = (const __u8 *)w->message;

	if (w->record.received >= *(volatile __u64 *)&s->outranked_until)
		return 0;
	return m[2] >= (which & 0xff) && m[2] < (which >> 8 & 0xff) && (m[0] >> 4 == 2 || which >> 16 & form);
}

/* Whether an Active yields to the sender (RFC 9568 section 6.4.3, step 670). */
static __always_inline int is_better(struct work *w, struct failover_virtual_router *router)
{
	const __u32 *theirs = (const __u32 *)w->record.source, *ours = (const __u32 *)router->source;
	const __u8 *m = (const __u8 *)w->message;
	int i;

	if (m[0] >> 4 != 3 || !router->priority)
		return 0; /* in version 2 user space first compares interval and addresses */
	if (m[2] != router->priority)
		return m[2] > router->priority;
#pragma clang loop unroll(full)
	for (i = 0; i < 4; i++)
		if (theirs[i] != ours[i])
			return bpf_ntohl(theirs[i]) > bpf_ntohl(ours[i]);
	return 0;
}

/*
 * Ends the lease of an Active that has to yield. The other router answers from now on, and
 * the daemon here may react only later.
 */
static __always_inline void end_lease(__u32 slot)
{
	struct failover_lease_state *lease = bpf_map_lookup_elem(&failover_lease, &slot);

	if (lease && lease->active)
		*(volatile __u64 *)&lease->answer = 0;
}

enum verdict {
	PASS,
	DROP,
};

/* Decides about a VRRP message at offset. w->record describes its datagram. */
static __always_inline enum verdict process_message(void *ctx, const __u8 *m, void *end, __u32 offset, int xdp)
{
	struct work *w = get_work();
	struct failover_virtual_router *router = NULL;
	struct failover_liveness *live;
	struct failover_interface *iface;
	struct failover_key key = {};
	struct failover_link link = {};
	__u32 reason = REASON_none, sum, slot, length;
	struct failover_record *r;
	struct terms *terms;
	int watched, heeded;

	if (!w || offset > OFFSET_MAX)
		return PASS;
	m += offset;
	r = &w->record;
	terms = &w->terms;
	terms->min_ttl = 255;
	terms->max_ttl = 255;

	link.ifindex = r->ifindex;
	iface = bpf_map_lookup_elem(&failover_iface, &link);
	watched = iface && iface->watch;
	if (r->length >= 2 && (void *)(m + 2) <= end) {
		key.ifindex = link.ifindex;
		key.family = r->family;
		key.vrid = m[1];
		router = bpf_map_lookup_elem(&failover_router, &key);
	}
	/* Most users of the Authentication Header aren't VRRP. */
	if (terms->header && !watched && !(router && router->tolerate & TOLERATE_AUTH_HEADER))
		return PASS;
	if (terms->unicast) {
		/* It may be for another host, or for another program of this host. */
		if (router && !same_address(r->destination, router->source))
			router = NULL;
		if (!router && !watched)
			return PASS;
		terms->min_ttl = 0;
	}
	/* Virtual Routers that aren't configured here may use authentication or have no address. */
	terms->tolerate = router ? router->tolerate : TOLERATE_AUTH_TRAILER | TOLERATE_NO_ADDRESS;
	if (terms->tolerate & TOLERATE_TRAILING_OCTETS && r->length >= 4 && (void *)(m + 4) <= end) {
		length = declared_length(m, r->family);
		if (r->length > length && !(terms->tolerate & TOLERATE_AUTH_TRAILER && r->length == length + FAILOVER_TRAILER))
			r->length = length;
	}

	w->message[0] = 0;
	sum = xdp ? copy_xdp(ctx, offset, r->length) : copy_tc(ctx, offset, r->length);
	if (router)
		reason = validate_peer(w, router, key.vrid);
	if (reason == REASON_none)
		reason = validate(sum);
	barrier_var(reason); /* the compiler knows its range, but the verifier doesn't */
	if (reason == REASON_none && router)
		reason = validate_router(w, router);
	if (reason != REASON_none) {
		count_error(reason, key.vrid);
		if (watched) {
			deliver(w, &failover_ring, reason);
			return PASS;
		}
		return router ? DROP : PASS;
	}
	if (watched) {
		deliver(w, &failover_ring, reason);
		return PASS;
	}
	if (!router) {
		count_error(REASON_vrid_errors, key.vrid);
		return PASS;
	}
	if (!router->running) {
		count(REASON_initialize);
		return PASS;
	}
	slot = router->slot;
	length = declared_length((const __u8 *)w->message, r->family);
	if (router->auth != AUTH_NONE) {
		w->terms.addresses = router->addresses;
		reason = REASON_auth_failures;
		if (failover_authenticates)
			reason = authenticate(slot, router->auth, router->enforce, router->window, length);
		barrier_var(reason); /* the verifier must see the check below */
		if (reason != REASON_none) {
			count_error(reason, key.vrid);
			return DROP;
		}
	}
	live = bpf_map_lookup_elem(&failover_stamp, &slot);
	if (!live)
		return PASS;
	if (is_outranked(w, live, terms->form)) {
		count(REASON_outranked);
		return router->drop_unchanged ? DROP : PASS;
	}
	/*
	 * An advertisement with an Authentication Header is always delivered, because user
	 * space continues its sequence number.
	 */
	if (router->auth != AUTH_HEADER)
		r->signature = message_signature(length / 4);
	heeded = update_stamp(w, router, live, terms->form);
	if (is_expected(live, heeded ? r->signature : 0, r->received)) {
		count(REASON_advertisement_rcvd);
		if (r->family == 4 && terms->form == FORM_RFC5798)
			count(REASON_csum_5798_form);
		count(REASON_unchanged);
		return router->drop_unchanged ? DROP : PASS;
	}
	if (heeded && is_better(w, router))
		end_lease(slot);
	if (router->auth == AUTH_NONE)
		deliver(w, &failover_ring, reason);
	else
		deliver(w, &failover_sealed, reason);
	return PASS;
}

/* Not inlined, so that the verifier checks it once and not for each kind of frame. */
__noinline int process_xdp(struct xdp_md *ctx, __u32 offset)
{
	return process_message(ctx, (const __u8 *)(long)ctx->data, (void *)(long)ctx->data_end, offset, 1);
}

__noinline int process_tc(struct __sk_buff *ctx, __u32 offset)
{
	return process_message(ctx, (const __u8 *)(long)ctx->data, (void *)(long)ctx->data_end, offset, 0);
}

/* Whether the checksum of the IPv4 header, length octets at offset, is right. */
static __always_inline int ipv4_checksum_good(struct frame *f, __u32 offset, __u32 length)
{
	return sum_good(f->xdp ? sum_xdp(f->ctx, offset, length) : sum_tc(f->ctx, offset, length));
}

/* Decides about a frame. */
static __always_inline enum verdict process_frame(struct frame *f)
{
	struct ethhdr *eth = f->data;
	void *end = f->end;
	struct failover_record *r;
	int tags, good, tagged = f->tagged, fragment = 0;
	__u32 header, total, offset;
	struct auth_header *ah;
	int unicast, authenticated = 0;
	struct iphdr *ip4;
	struct ipv6hdr *ip6;
	struct work *w;
	__be16 type;
	void *ip;

	if ((void *)(eth + 1) > end)
		return PASS;
	type = eth->h_proto;
	ip = eth + 1;
#pragma clang loop unroll(full)
	for (tags = 0; tags < VLAN_TAGS; tags++) {
		struct vlan *vlan = ip;

		if (f->untagged && tags == VLAN_TAGS - 1)
			break; /* the tag that was removed counts too */
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(vlan + 1) > end)
			return PASS;
		/* A tag with VLAN ID 0 carries only a priority (IEEE 802.1Q). */
		if (vlan->tci & bpf_htons(VLAN_ID))
			tagged = 1;
		type = vlan->type;
		ip = vlan + 1;
	}

	if (type == bpf_htons(ETH_P_IP)) {
		ip4 = ip;
		if ((void *)(ip4 + 1) > end || ip4->version != 4)
			return PASS;
		ah = (void *)(ip4 + 1);
		authenticated = ip4->protocol == PROTOCOL_AH;
		if (authenticated) {
			if (ip4->ihl != 5 || (void *)(ah + 1) > end || ah->next != PROTOCOL_VRRP || ah->words != AUTH_HEADER_WORDS)
				return PASS;
		} else if (ip4->protocol != PROTOCOL_VRRP) {
			return PASS;
		}
		unicast = ip4->daddr != bpf_htonl(GROUP_IPV4);
		if (unicast && bpf_ntohl(ip4->daddr) >= MULTICAST_IPV4)
			return PASS;
		w = get_work();
		if (!w)
			return PASS;
		r = &w->record;
		__builtin_memset(r, 0, sizeof(*r));
		r->family = 4;
		r->ttl = ip4->ttl;
		__builtin_memcpy(r->source, &ip4->saddr, 4);
		__builtin_memcpy(r->destination, &ip4->daddr, 4);
		fragment = ip4->frag_off & bpf_htons(IP_MORE_OR_OFFSET);
		header = ip4->ihl * 4;
		if (authenticated) {
			header = sizeof(*ip4) + sizeof(*ah);
			if ((void *)(ah + 1) > end)
				return PASS;
			__builtin_memcpy(r->header, ah, sizeof(r->header));
			r->identification = bpf_ntohs(ip4->id);
		}
		total = bpf_ntohs(ip4->tot_len);
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		ip6 = ip;
		if ((void *)(ip6 + 1) > end || ip6->version != 6)
			return PASS;
		if (ip6->nexthdr == PROTOCOL_FRAGMENT) {
			__u8 *next = (__u8 *)(ip6 + 1);

			if ((void *)(next + 1) > end || *next != PROTOCOL_VRRP)
				return PASS;
			fragment = 1;
		} else if (ip6->nexthdr != PROTOCOL_VRRP) {
			return PASS;
		}
		/* ff02::12 */
		unicast = ip6->daddr.s6_addr32[0] != bpf_htonl(0xff020000) || ip6->daddr.s6_addr32[1] ||
			     ip6->daddr.s6_addr32[2] || ip6->daddr.s6_addr32[3] != bpf_htonl(0x12);
		if (unicast && ip6->daddr.s6_addr[0] == 0xff)
			return PASS;
		w = get_work();
		if (!w)
			return PASS;
		r = &w->record;
		__builtin_memset(r, 0, sizeof(*r));
		r->family = 6;
		r->ttl = ip6->hop_limit;
		__builtin_memcpy(r->source, &ip6->saddr, 16);
		__builtin_memcpy(r->destination, &ip6->daddr, 16);
		header = sizeof(*ip6);
		total = header + bpf_ntohs(ip6->payload_len);
	} else {
		return PASS;
	}

	r->received = bpf_ktime_get_ns();
	r->ifindex = f->ifindex;
	good = header >= sizeof(*ip4) && total >= header && total <= (__u64)end - (__u64)ip;
	if (good && r->family == 4)
		good = ipv4_checksum_good(f, ETH_HLEN + tags * sizeof(struct vlan), authenticated ? sizeof(*ip4) : header);
	/* What isn't sent to the group may be for another host, and may not be VRRP. */
	if ((unicast || authenticated) && (tagged || fragment || !good || total - header > FAILOVER_MESSAGE_MAX))
		return PASS;
	if (tagged) {
		count_error(REASON_tagged, 0);
		return PASS;
	}
	if (fragment) {
		count_error(REASON_fragments, 0);
		return PASS;
	}
	if (!good || total - header > FAILOVER_MESSAGE_MAX) {
		/* If the header is good, the message is longer than any valid one. */
		count_error(good ? REASON_packet_length_errors : REASON_ip_malformed, 0);
		return PASS;
	}
	r->length = total - header;
	w->terms.unicast = unicast;
	w->terms.header = authenticated;
	offset = ETH_HLEN + tags * sizeof(struct vlan) + header;
	return f->xdp ? process_xdp(f->ctx, offset) : process_tc(f->ctx, offset);
}

SEC("xdp")
int failover_vrrp(struct xdp_md *ctx)
{
	struct frame f = {
		.ctx = ctx,
		.data = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
		.ifindex = ctx->ingress_ifindex,
		.xdp = 1,
	};

	return process_frame(&f) == DROP ? XDP_DROP : XDP_PASS;
}

/* Whether the frame may carry VRRP. This is what other traffic pays, so it is cheap. */
static __always_inline int may_be_vrrp(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip6 = data + ETH_HLEN;
	struct iphdr *ip4 = data + ETH_HLEN;

	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		if ((void *)(ip4 + 1) > end)
			return 0;
		if (ip4->protocol == PROTOCOL_AH)
			return (void *)(ip4 + 1) + 1 <= end && *(__u8 *)(ip4 + 1) == PROTOCOL_VRRP;
		return ip4->protocol == PROTOCOL_VRRP;
	case bpf_htons(ETH_P_IPV6):
		return (void *)(ip6 + 1) <= end && (ip6->nexthdr == PROTOCOL_VRRP || ip6->nexthdr == PROTOCOL_FRAGMENT);
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		return 1;
	}
	return 0;
}

SEC("tc")
int failover_tc(struct __sk_buff *skb)
{
	struct frame f = { .ctx = skb };

	/* The NIC may have left a part of the headers in page fragments. */
	if (skb->data + ETH_HLEN + sizeof(struct ipv6hdr) > skb->data_end && skb->len > skb->data_end - skb->data)
		bpf_skb_pull_data(skb, skb->len < HEADERS ? skb->len : HEADERS);
	if (!may_be_vrrp(skb) || bpf_skb_pull_data(skb, skb->len))
		return TC_ACT_UNSPEC;
	f.data = (void *)(long)skb->data;
	f.end = (void *)(long)skb->data_end;
	f.ifindex = skb->ifindex;
	f.untagged = skb->vlan_present;
	f.tagged = skb->vlan_present && skb->vlan_tci & VLAN_ID;
	return process_frame(&f) == DROP ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Dual BSD/GPL";
