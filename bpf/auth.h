/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Authentication of advertisements. An advertisement that isn't authentic is neither
 * stamped nor written to a ring. The order of the checks is that of pkg/auth: the cheap
 * ones come first and the digest last.
 */
#ifndef FAILOVER_AUTH_H
#define FAILOVER_AUTH_H

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "hash.h"
#include "vrrp.h"
#include "work.h"

#define TRAILER_WORDS (FAILOVER_TRAILER / 4)
#define TRAILER_SCHEME 1 /* HMAC-SHA-256, truncated */
#define TRAILER_SIGNED 3 /* words of the trailer before its digest */
#define TRAILER_DIGEST 4 /* words of the digest, which are hashed as zero */
#define HEADER_SIGNED 3 /* the same for an Authentication Header */
#define HEADER_DIGEST 3
#define IPV4_WORDS 5
#define PREFIX_ROOM 16 /* words: a power of two, at least IPV4_WORDS + HEADER_SIGNED + HEADER_DIGEST */
#define PSEUDO_WORDS 5 /* family, version, VRID and 0 in one word, and the source */
#define PROTOCOL_AH 51
#define SECOND 1000000000ULL

/* The least time between the digests of two overlong advertisements: see is_overlong. */
#define OVERLONG_INTERVAL (SECOND / 100)

/*
 * The keys: the states of both hashes of an HMAC after the key, or a password. A reader
 * of this map can sign advertisements, so it is never pinned.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct failover_secret_key);
	__type(value, struct failover_secret);
} failover_keys SEC(".maps");

/* What each authenticated Virtual Router has accepted and refused, by slot. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct failover_proof);
} failover_proven SEC(".maps");

/* CLOCK_REALTIME minus CLOCK_MONOTONIC in nanoseconds. User space updates it. */
__u64 failover_clock;

/*
 * 0 in programs that are loaded while no Virtual Router is authenticated. The verifier doesn't
 * follow what they can't reach, so they load in half the time.
 */
const volatile __u8 failover_authenticates = 1;

/* The input of the inner hash: a prefix, the message, zeros, and then the padding. */
struct stream {
	__u32 prefix[PREFIX_ROOM];
	__u32 prefix_words;
	__u32 message_words;
	__u32 words; /* the sum of prefix, message and zeros */
	__u32 md5; /* 1: MD5; 0: SHA-256 */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stream);
} failover_stream SEC(".maps");

static __always_inline struct stream *get_stream(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&failover_stream, &zero);
}

/* Converts a word to or from the byte order of the hash, without a branch. */
static __always_inline __u32 hash_order(__u32 word, __u32 md5)
{
	__u32 sha256 = md5 - 1; /* all ones, or 0 */

	barrier_var(sha256);
	return (bpf_ntohl(word) & sha256) | (bpf_htonl(__builtin_bswap32(word)) & ~sha256);
}

/* The length that the padding contains, in bits: the key's block and these words. */
static __always_inline __u32 hashed_bits(__u32 words)
{
	return (HASH_BLOCK + words) * 32;
}

/* All ones if a < b, else 0. Both are below 2^63, or a is a small negative number. */
static __always_inline __u32 below(__u64 a, __u64 b)
{
	__s64 difference = a - b;

	barrier_var(difference);
	return difference >> 63;
}

/* Fills the hash's block with block n of the stream. */
__noinline int fill_block(__u64 n)
{
	struct hash *x = get_hash();
	struct stream *s = get_stream();
	struct work *w = get_work();
	__u32 i;

	if (!x || !s || !w)
		return 0;
	/* There is no branch, because each one would double the work of the verifier. */
#pragma clang loop unroll(disable)
	for (i = 0; i < HASH_BLOCK; i++) {
		__u64 at = n * HASH_BLOCK + i, of_message = at - s->prefix_words;
		__u32 prefix, message;

		/* The compiler could drop the bounds below, but the verifier needs them. */
		barrier_var(at);
		barrier_var(of_message);
		prefix = s->prefix[at % PREFIX_ROOM] & below(at, s->prefix_words);
		message = w->message[of_message % MESSAGE_ROOM] & below(of_message, s->message_words) & ~below(at, s->prefix_words);
		/* SHA-256 is without the checksum, the second half of word 1. */
		message &= ~(below(of_message, 2) & ~below(of_message, 1) & (s->md5 - 1)) | bpf_htonl(0xffff0000);
		message |= bpf_htonl(0x80000000) & below(at, s->words + 1) & ~below(at, s->words);
		x->block[i] = hash_order(prefix | message, s->md5);
	}
	/* The length comes last. Its high word is 0. */
	if (n == (s->words + 2) / HASH_BLOCK)
		x->block[s->md5 ? 14 : 15] = hashed_bits(s->words);
	return 1;
}

/* Hashes the stream, starting from the current state. */
__noinline int hash_stream(void)
{
	struct stream *s = get_stream();
	__u64 n;

	if (!s)
		return 0;
#pragma clang loop unroll(disable)
	for (n = 0; n <= (MESSAGE_WORDS + PREFIX_ROOM + TRAILER_DIGEST + 2) / HASH_BLOCK; n++) {
		if (n > (s->words + 2) / HASH_BLOCK)
			break;
		fill_block(n);
		if (s->md5)
			compress_md5();
		else
			compress_sha256();
	}
	return 1;
}

/* Computes the outer hash over the digest of the inner hash (RFC 2104). */
static __always_inline void hash_outer(struct hash *x, const struct failover_secret *key, __u32 md5)
{
	__u32 i, words = md5 ? HASH_STATE / 2 : HASH_STATE;

#pragma clang loop unroll(full)
	for (i = 0; i < HASH_STATE; i++) {
		x->block[i] = i < words ? x->state[i] : 0;
		x->block[HASH_STATE + i] = 0;
		x->state[i] = key->outer[i];
	}
	if (md5) {
		x->block[HASH_STATE / 2] = 0x80;
		x->block[14] = hashed_bits(HASH_STATE / 2);
		compress_md5();
	} else {
		x->block[HASH_STATE] = 0x80000000;
		x->block[15] = hashed_bits(HASH_STATE);
		compress_sha256();
	}
}

/* Whether the digest is the HMAC of the stream with this key, truncated to words. */
static __always_inline int digest_good(const struct failover_secret *key, const __u32 *digest, __u32 words, __u32 md5)
{
	struct hash *x = get_hash();
	__u32 i, difference = 0;

	if (!x)
		return 0;
#pragma clang loop unroll(full)
	for (i = 0; i < HASH_STATE; i++)
		x->state[i] = key->inner[i];
	hash_stream();
	hash_outer(x, key, md5);
	/* Compares all words, so that the time reveals nothing about the digest. */
#pragma clang loop unroll(full)
	for (i = 0; i < words; i++)
		difference |= hash_order(digest[i], md5) ^ x->state[i];
	return difference == 0;
}

static __always_inline struct failover_sender *find_sender(struct failover_proof *p, const __u8 *source)
{
	int i;

	for (i = 0; i < FAILOVER_SENDERS; i++)
		if (p->sender[i].heard && same_address(p->sender[i].address, source))
			return &p->sender[i];
	return NULL;
}

/* Returns the sender that has been silent for the longest time. */
static __always_inline struct failover_sender *oldest_sender(struct failover_proof *p)
{
	struct failover_sender *oldest = &p->sender[0];
	int i;

	for (i = 1; i < FAILOVER_SENDERS; i++)
		if (p->sender[i].heard < oldest->heard)
			oldest = &p->sender[i];
	return oldest;
}

/* The time in a sequence number, in seconds. */
static __always_inline __u32 seconds(__u64 sequence)
{
	return sequence >> 32;
}

static __always_inline int within(__u32 a, __u32 b, __s64 window)
{
	__s64 ahead = (__s32)(a - b);

	return ahead <= window && -ahead <= window;
}

/*
 * Whether a sequence number is newer than the sender's last one. A last one outside the
 * window doesn't count, because the window alone then excludes a replay.
 */
static __always_inline int newer(const struct failover_sender *sender, __u64 sequence, __u32 now, __u32 window)
{
	__u64 last = *(const volatile __u64 *)&sender->sequence;

	if (window && !within(seconds(last), now, window))
		return 1;
	return (__s64)(sequence - last) > 0;
}

/*
 * Whether the sequence number of a trailer is new for the sender in the work record. This
 * is a function of its own, because inlined the verifier would follow the rest of the
 * program once for each sender. The same is true of accept_sequence.
 */
__noinline int is_fresh(__u32 slot, __u64 sequence, __u32 now, __u32 window)
{
	struct failover_proof *p = bpf_map_lookup_elem(&failover_proven, &slot);
	const struct failover_sender *sender;
	struct work *w = get_work();

	if (!p || !w)
		return 0;
	sender = find_sender(p, w->record.source);
	return !sender || newer(sender, sequence, now, window);
}

/* Records the sequence number as accepted. Fails if another CPU accepted it first. */
__noinline int accept_sequence(__u32 slot, __u64 sequence, __u32 now, __u32 window)
{
	struct failover_proof *p = bpf_map_lookup_elem(&failover_proven, &slot);
	struct failover_sender *sender;
	struct work *w = get_work();
	int good;

	if (!p || !w)
		return 0;
	bpf_spin_lock(&p->lock);
	sender = find_sender(p, w->record.source);
	good = !sender || newer(sender, sequence, now, window);
	if (!sender) {
		sender = oldest_sender(p);
		copy_address(sender->address, w->record.source);
	}
	if (good) {
		sender->sequence = sequence;
		sender->heard = w->record.received;
	}
	bpf_spin_unlock(&p->lock);
	return good;
}

/*
 * Whether to refuse an advertisement without computing its digest. Anybody can send long
 * advertisements, and the cost of a digest grows with the length. So of those with more
 * addresses than the Virtual Router and any authentic advertisement before, at most one in
 * OVERLONG_INTERVAL gets a digest.
 */
static __always_inline int is_overlong(struct work *w, struct failover_proof *p)
{
	__u32 addresses = ((const __u8 *)w->message)[3];
	__u64 now = w->record.received;

	if (addresses <= w->terms.addresses || addresses <= p->addresses)
		return 0;
	if (now - *(volatile __u64 *)&p->long_at < OVERLONG_INTERVAL)
		return 1;
	*(volatile __u64 *)&p->long_at = now;
	return 0;
}

/* Checks the password in Authentication Data (RFC 2338 section 5.3.10). */
static __always_inline __u32 check_password(struct work *w, __u32 slot, __u32 length)
{
	struct failover_secret_key id = { .slot = slot };
	const __u8 *m = (const __u8 *)w->message;
	const struct failover_secret *secret;
	__u32 at = length / 4 - 2;

	if (m[0] >> 4 != 2 || m[4] != 1)
		return REASON_auth_type_mismatch;
	secret = bpf_map_lookup_elem(&failover_keys, &id);
	barrier_var(at);
	if (!secret || at > MESSAGE_WORDS - 2)
		return REASON_auth_failures;
	return (w->message[at] ^ secret->inner[0]) | (w->message[at + 1] ^ secret->inner[1]) ? REASON_auth_failures : REASON_none;
}

/* Checks an Authentication Header with HMAC-MD5-96: see packet.HeaderKey. */
static __always_inline __u32 check_header(struct work *w, struct failover_proof *p, __u32 slot, __u32 length)
{
	struct failover_secret_key id = { .slot = slot };
	struct failover_record *r = &w->record;
	const __u32 *header = (const __u32 *)r->header;
	const __u8 *m = (const __u8 *)w->message;
	const struct failover_secret *secret;
	struct stream *s = get_stream();
	__u32 sequence, newest, i;

	if (m[0] >> 4 != 2 || m[4] != 2)
		return REASON_auth_type_mismatch;
	if (!r->header[0])
		return REASON_auth_missing;
	sequence = bpf_ntohl(header[2]);
	newest = *(volatile __u32 *)&p->numbered;
	if (sequence <= newest)
		return REASON_auth_replay;
	if (is_overlong(w, p))
		return REASON_auth_overlong;
	secret = bpf_map_lookup_elem(&failover_keys, &id);
	if (!s || !secret || header[1] != *(__u32 *)r->source) /* the SPI */
		return REASON_auth_failures;
	s->md5 = 1;
	s->prefix[0] = bpf_htonl(0x45000000 | (IPV4_WORDS * 4 + FAILOVER_AUTH_HEADER + length));
	s->prefix[1] = bpf_htonl((__u32)r->identification << 16);
	s->prefix[2] = bpf_htonl((r->destination[0] >> 4 == 0xe ? (__u32)r->ttl << 24 : 0) | PROTOCOL_AH << 16);
	s->prefix[3] = *(__u32 *)r->source;
	s->prefix[4] = *(__u32 *)r->destination;
#pragma clang loop unroll(full)
	for (i = 0; i < HEADER_SIGNED + HEADER_DIGEST; i++)
		s->prefix[IPV4_WORDS + i] = i < HEADER_SIGNED ? header[i] : 0;
	s->prefix_words = IPV4_WORDS + HEADER_SIGNED + HEADER_DIGEST;
	s->message_words = length / 4;
	s->words = s->prefix_words + s->message_words;
	if (!digest_good(secret, header + HEADER_SIGNED, HEADER_DIGEST, 1))
		return REASON_auth_failures;
	/* Another CPU may have accepted a higher number meanwhile. */
	return __sync_bool_compare_and_swap(&p->numbered, newest, sequence) ? REASON_none : REASON_auth_replay;
}

/* Checks a trailer of draft-cassen-vrrp-auth-hmac: see packet.TrailerKey. */
static __always_inline __u32 check_trailer(struct work *w, struct failover_proof *p, __u32 slot, __u32 length, __u32 window)
{
	struct failover_secret_key id = { .slot = slot };
	struct failover_record *r = &w->record;
	__u32 at = length / 4, now, i;
	const struct failover_secret *secret;
	const __u8 *m = (const __u8 *)w->message;
	struct stream *s = get_stream();
	const __u32 *trailer;
	const __u8 *octets;
	__u64 sequence;

	barrier_var(at);
	if (!s || at > MESSAGE_WORDS - TRAILER_WORDS)
		return REASON_auth_malformed;
	trailer = &w->message[at];
	octets = (const __u8 *)trailer;
	if (octets[0] != TRAILER_SCHEME || octets[2] || octets[3])
		return REASON_auth_malformed;
	sequence = (__u64)bpf_ntohl(trailer[1]) << 32 | bpf_ntohl(trailer[2]);
	now = (r->received + *(volatile __u64 *)&failover_clock) / SECOND;
	if (window && !within(seconds(sequence), now, window))
		return REASON_auth_stale;
	id.id = octets[1];
	secret = bpf_map_lookup_elem(&failover_keys, &id);
	if (!secret)
		return REASON_auth_key_unknown;
	if (!is_fresh(slot, sequence, now, window))
		return REASON_auth_replay;
	if (is_overlong(w, p))
		return REASON_auth_overlong;

	s->md5 = 0;
	s->prefix[0] = bpf_htonl((__u32)r->family << 24 | (__u32)(m[0] >> 4) << 16 | (__u32)m[1] << 8);
#pragma clang loop unroll(full)
	for (i = 0; i < PSEUDO_WORDS - 1; i++)
		s->prefix[1 + i] = ((const __u32 *)r->source)[i];
	s->prefix_words = PSEUDO_WORDS;
	s->message_words = at + TRAILER_SIGNED;
	s->words = s->prefix_words + s->message_words + TRAILER_DIGEST;
	if (!digest_good(secret, trailer + TRAILER_SIGNED, TRAILER_DIGEST, 0))
		return REASON_auth_failures;

	return accept_sequence(slot, sequence, now, window) ? REASON_none : REASON_auth_replay;
}

static __always_inline void count_refused(struct failover_proof *p, __u32 reason)
{
	if (reason && reason < REASON_COUNT)
		__sync_fetch_and_add((__u64 *)&p->refused + reason, 1);
}

/*
 * Returns the reason why the advertisement in the work record isn't authentic, or
 * REASON_none. Its message has length octets. If the record is longer, a trailer follows.
 */
__noinline __u32 authenticate(__u32 slot, __u32 kind, __u32 enforce, __u32 window, __u32 length)
{
	struct failover_proof *p = bpf_map_lookup_elem(&failover_proven, &slot);
	struct work *w = get_work();
	__u32 reason = REASON_none, addresses;

	if (!p || !w)
		return REASON_auth_failures;
	switch (kind) {
	case AUTH_PASSWORD:
		reason = check_password(w, slot, length);
		break;
	case AUTH_HEADER:
		reason = check_header(w, p, slot, length);
		break;
	case AUTH_HMAC:
		if (w->record.length == length)
			reason = enforce ? REASON_auth_missing : REASON_none;
		else
			reason = check_trailer(w, p, slot, length, window);
		break;
	}
	count_refused(p, reason);
	addresses = ((const __u8 *)w->message)[3];
	if (reason == REASON_none && addresses > p->addresses)
		p->addresses = addresses;
	return reason;
}

#endif
