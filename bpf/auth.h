/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Authenticates advertisements, so that what isn't authentic ends here: it is not
 * stamped and has no place in a ring. The order of the checks is that of pkg/auth. What
 * costs nothing comes first, the digest last.
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
#define TRAILER_SIGNED 3 /* words of it in front of its digest, */
#define TRAILER_DIGEST 4 /* whose words count as zero */
#define HEADER_SIGNED 3 /* the same of an Authentication Header */
#define HEADER_DIGEST 3
#define IPV4_WORDS 5
#define PREFIX_ROOM 16 /* words: a power of two, enough for IPV4_WORDS + HEADER_SIGNED + HEADER_DIGEST */
#define PSEUDO_WORDS 5 /* family, version, VRID, 0, and the source */
#define PROTOCOL_AH 51
#define SECOND 1000000000ULL

/* Between two that are longer than any authentic one that is known of. */
#define LONG_EVERY (SECOND / 100)

/*
 * The keys: the states of an HMAC's two hashes after its key, or a password. Whoever
 * reads this can sign. It is never pinned.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct failover_secret_key);
	__type(value, struct failover_secret);
} failover_keys SEC(".maps");

/* What authenticated Virtual Routers have accepted and refused, by slots. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct failover_proof);
} failover_proven SEC(".maps");

/* CLOCK_REALTIME less CLOCK_MONOTONIC in nanoseconds, which user space keeps right. */
__u64 failover_clock;

/* What is hashed: the words of a prefix, of the message, zeros, and the padding. */
struct stream {
	__u32 prefix[PREFIX_ROOM];
	__u32 prefix_words;
	__u32 message_words;
	__u32 words; /* of all three */
	__u32 md5; /* or SHA-256 */
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

/* A word in the byte order in which the hash reads it. */
static __always_inline __u32 as_read(__u32 word, __u32 md5)
{
	return md5 ? bpf_htonl(__builtin_bswap32(word)) : bpf_ntohl(word);
}

/* How many bits a digest says that it covers: the key's block and these words. */
static __always_inline __u32 bits(__u32 words)
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

/* Makes a block of the stream the one to be compressed. */
__noinline int fill_block(__u64 n)
{
	struct hash *x = get_hash();
	struct stream *s = get_stream();
	struct work *w = get_work();
	__u32 i;

	if (!x || !s || !w)
		return 0;
	/* Without branches, each of which would double the verifier's work. */
#pragma clang loop unroll(disable)
	for (i = 0; i < HASH_BLOCK; i++) {
		__u64 at = n * HASH_BLOCK + i, of_message = at - s->prefix_words;
		__u32 prefix, message;

		barrier_var(at);
		barrier_var(of_message);
		prefix = s->prefix[at % PREFIX_ROOM] & below(at, s->prefix_words);
		message = w->message[of_message % MESSAGE_ROOM] & below(of_message, s->message_words) & ~below(at, s->prefix_words);
		/* Without the checksum, which is made last. */
		message &= ~(below(of_message, 2) & ~below(of_message, 1) & (s->md5 - 1)) | bpf_htonl(0xffff0000);
		message |= bpf_htonl(0x80000000) & below(at, s->words + 1) & ~below(at, s->words);
		x->block[i] = as_read(prefix | message, s->md5);
	}
	/* The length comes last, of which the higher half is 0. */
	if (n == (s->words + 2) / HASH_BLOCK)
		x->block[s->md5 ? 14 : 15] = bits(s->words);
	return 1;
}

/* Hashes the stream, from the state that there is on. */
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

/* Has the inner hash's digest compressed by the outer one (RFC 2104). */
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
		x->block[14] = bits(HASH_STATE / 2);
		compress_md5();
	} else {
		x->block[HASH_STATE] = 0x80000000;
		x->block[15] = bits(HASH_STATE);
		compress_sha256();
	}
}

/* Whether a digest of some words is the one that the key makes of the stream. */
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
	/* All of them, so that the time tells nothing. */
#pragma clang loop unroll(full)
	for (i = 0; i < words; i++)
		difference |= as_read(digest[i], md5) ^ x->state[i];
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

/* The one that wasn't heard for the longest time. */
static __always_inline struct failover_sender *oldest_sender(struct failover_proof *p)
{
	struct failover_sender *oldest = &p->sender[0];
	int i;

	for (i = 1; i < FAILOVER_SENDERS; i++)
		if (p->sender[i].heard < oldest->heard)
			oldest = &p->sender[i];
	return oldest;
}

/* The seconds of a sequence number's time. */
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
 * Whether a sequence number is newer than the sender's last. One that is outside the
 * window says nothing that the window doesn't.
 */
static __always_inline int newer(const struct failover_sender *sender, __u64 sequence, __u32 now, __u32 window)
{
	__u64 last = *(const volatile __u64 *)&sender->sequence;

	if (window && !within(seconds(last), now, window))
		return 1;
	return (__s64)(sequence - last) > 0;
}

/*
 * Whether the number of a trailer may be accepted from the sender in the work record.
 * Functions of their own, or what follows would be verified for each sender.
 */
__noinline int fresh(__u32 slot, __u64 sequence, __u32 now, __u32 window)
{
	struct failover_proof *p = bpf_map_lookup_elem(&failover_proven, &slot);
	const struct failover_sender *sender;
	struct work *w = get_work();

	if (!p || !w)
		return 0;
	sender = find_sender(p, w->record.source);
	return !sender || newer(sender, sequence, now, window);
}

/* Remembers the number as accepted, unless another CPU was faster. */
__noinline int accept(__u32 slot, __u64 sequence, __u32 now, __u32 window)
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
 * Whether an advertisement has to be refused without a digest, because it has more
 * addresses than its Virtual Router and any authentic one, and another one had so a
 * moment before. The time that a digest takes grows with them, and anybody can send the
 * longest.
 */
static __always_inline int overlong(struct work *w, struct failover_proof *p)
{
	__u32 addresses = ((const __u8 *)w->message)[3];
	__u64 now = w->record.received;

	if (addresses <= w->terms.addresses || addresses <= p->addresses)
		return 0;
	if (now - *(volatile __u64 *)&p->long_at < LONG_EVERY)
		return 1;
	*(volatile __u64 *)&p->long_at = now;
	return 0;
}

/* The password in Authentication Data (RFC 2338 section 5.3.10). */
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

/* An Authentication Header with HMAC-MD5-96: see packet.HeaderKey. */
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
	if (overlong(w, p))
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
	/* Of two that come at the same time on two CPUs the older one may be second. */
	return __sync_bool_compare_and_swap(&p->numbered, newest, sequence) ? REASON_none : REASON_auth_replay;
}

/* A trailer of draft-cassen-vrrp-auth-hmac: see packet.TrailerKey. */
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
	if (!fresh(slot, sequence, now, window))
		return REASON_auth_replay;
	if (overlong(w, p))
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

	return accept(slot, sequence, now, window) ? REASON_none : REASON_auth_replay;
}

static __always_inline void count_refused(struct failover_proof *p, __u32 reason)
{
	if (reason && reason < REASON_COUNT)
		__sync_fetch_and_add((__u64 *)&p->refused + reason, 1);
}

/*
 * Returns why the advertisement in the work record isn't authentic. Its message has
 * length octets; what the record has more is a trailer.
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
