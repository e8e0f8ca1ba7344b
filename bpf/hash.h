/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The digests of authenticated advertisements need the compression functions of SHA-256
 * (FIPS 180-4 section 6.2.2) and MD5 (RFC 1321 section 3.4). State and block are in a
 * map, because the stack is too small for them. The functions aren't inlined, so that the
 * verifier checks each of them only once.
 */
#ifndef FAILOVER_HASH_H
#define FAILOVER_HASH_H

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#define HASH_STATE 8 /* words of SHA-256's state; MD5 has half as many */
#define HASH_BLOCK 16 /* words */

/* A hash under computation. */
struct hash {
	__u32 state[HASH_STATE];
	/*
	 * In the byte order of the machine. It is volatile to keep the compiler from copying
	 * it to the stack, which is too small.
	 */
	volatile __u32 block[HASH_BLOCK];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hash);
} failover_hash SEC(".maps");

static __always_inline struct hash *get_hash(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&failover_hash, &zero);
}

static const __u32 sha256_constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* Returns the word twice in a row, so that a single shift rotates it. */
static __always_inline __u64 twice(__u32 x)
{
	return (__u64)x << 32 | x;
}

#define SHA256_SCHEDULE(i)                                                     \
	do {                                                                   \
		__u64 early = twice(w[((i) + 1) & 15]), late = twice(w[((i) + 14) & 15]); \
		w[i] += (__u32)(early >> 7 ^ early >> 18) ^ (__u32)early >> 3; \
		w[i] += w[((i) + 9) & 15];                                     \
		w[i] += (__u32)(late >> 17 ^ late >> 19) ^ (__u32)late >> 10;  \
	} while (0)

#define SHA256_ROUND(i, a, b, c, d, e, f, g, h)                                \
	do {                                                                   \
		__u64 ee = twice(e), aa = twice(a);                            \
		h += (__u32)(ee >> 6 ^ ee >> 11 ^ ee >> 25) + (g ^ (e & (f ^ g))) + w[i] + k[i]; \
		d += h;                                                        \
		h += (__u32)(aa >> 2 ^ aa >> 13 ^ aa >> 22) + ((a & b) | (c & (a | b))); \
	} while (0)

#define SHA256_EIGHT(i)                                                        \
	do {                                                                   \
		SHA256_ROUND((i) + 0, a, b, c, d, e, f, g, h);                 \
		SHA256_ROUND((i) + 1, h, a, b, c, d, e, f, g);                 \
		SHA256_ROUND((i) + 2, g, h, a, b, c, d, e, f);                 \
		SHA256_ROUND((i) + 3, f, g, h, a, b, c, d, e);                 \
		SHA256_ROUND((i) + 4, e, f, g, h, a, b, c, d);                 \
		SHA256_ROUND((i) + 5, d, e, f, g, h, a, b, c);                 \
		SHA256_ROUND((i) + 6, c, d, e, f, g, h, a, b);                 \
		SHA256_ROUND((i) + 7, b, c, d, e, f, g, h, a);                 \
	} while (0)

__noinline int compress_sha256(void)
{
	struct hash *x = get_hash();
	__u32 a, b, c, d, e, f, g, h, i, round;
	const __u32 *k = sha256_constants;
	volatile __u32 *w;

	if (!x)
		return 0;
	w = x->block;
	a = x->state[0];
	b = x->state[1];
	c = x->state[2];
	d = x->state[3];
	e = x->state[4];
	f = x->state[5];
	g = x->state[6];
	h = x->state[7];
#pragma clang loop unroll(disable)
	for (round = 0; round < 64; round += HASH_BLOCK, k += HASH_BLOCK) {
		if (round) {
#pragma clang loop unroll(full)
			for (i = 0; i < HASH_BLOCK; i++)
				SHA256_SCHEDULE(i);
		}
		SHA256_EIGHT(0);
		SHA256_EIGHT(8);
	}
	x->state[0] += a;
	x->state[1] += b;
	x->state[2] += c;
	x->state[3] += d;
	x->state[4] += e;
	x->state[5] += f;
	x->state[6] += g;
	x->state[7] += h;
	return 1;
}

#define MD5_STEP(mix, a, b, c, d, i, shift, constant)                          \
	do {                                                                   \
		a += (mix) + w[i] + (constant);                                \
		a = (__u32)(twice(a) >> (32 - (shift))) + b;                   \
	} while (0)

#define MD5_F(a, b, c, d, i, s, k) MD5_STEP(d ^ (b & (c ^ d)), a, b, c, d, i, s, k)
#define MD5_G(a, b, c, d, i, s, k) MD5_STEP(c ^ (d & (b ^ c)), a, b, c, d, i, s, k)
#define MD5_H(a, b, c, d, i, s, k) MD5_STEP(b ^ c ^ d, a, b, c, d, i, s, k)
#define MD5_I(a, b, c, d, i, s, k) MD5_STEP(c ^ (b | ~d), a, b, c, d, i, s, k)

__noinline int compress_md5(void)
{
	struct hash *x = get_hash();
	__u32 a, b, c, d;
	volatile __u32 *w;

	if (!x)
		return 0;
	w = x->block;
	a = x->state[0];
	b = x->state[1];
	c = x->state[2];
	d = x->state[3];
	MD5_F(a, b, c, d, 0, 7, 0xd76aa478);
	MD5_F(d, a, b, c, 1, 12, 0xe8c7b756);
	MD5_F(c, d, a, b, 2, 17, 0x242070db);
	MD5_F(b, c, d, a, 3, 22, 0xc1bdceee);
	MD5_F(a, b, c, d, 4, 7, 0xf57c0faf);
	MD5_F(d, a, b, c, 5, 12, 0x4787c62a);
	MD5_F(c, d, a, b, 6, 17, 0xa8304613);
	MD5_F(b, c, d, a, 7, 22, 0xfd469501);
	MD5_F(a, b, c, d, 8, 7, 0x698098d8);
	MD5_F(d, a, b, c, 9, 12, 0x8b44f7af);
	MD5_F(c, d, a, b, 10, 17, 0xffff5bb1);
	MD5_F(b, c, d, a, 11, 22, 0x895cd7be);
	MD5_F(a, b, c, d, 12, 7, 0x6b901122);
	MD5_F(d, a, b, c, 13, 12, 0xfd987193);
	MD5_F(c, d, a, b, 14, 17, 0xa679438e);
	MD5_F(b, c, d, a, 15, 22, 0x49b40821);
	MD5_G(a, b, c, d, 1, 5, 0xf61e2562);
	MD5_G(d, a, b, c, 6, 9, 0xc040b340);
	MD5_G(c, d, a, b, 11, 14, 0x265e5a51);
	MD5_G(b, c, d, a, 0, 20, 0xe9b6c7aa);
	MD5_G(a, b, c, d, 5, 5, 0xd62f105d);
	MD5_G(d, a, b, c, 10, 9, 0x02441453);
	MD5_G(c, d, a, b, 15, 14, 0xd8a1e681);
	MD5_G(b, c, d, a, 4, 20, 0xe7d3fbc8);
	MD5_G(a, b, c, d, 9, 5, 0x21e1cde6);
	MD5_G(d, a, b, c, 14, 9, 0xc33707d6);
	MD5_G(c, d, a, b, 3, 14, 0xf4d50d87);
	MD5_G(b, c, d, a, 8, 20, 0x455a14ed);
	MD5_G(a, b, c, d, 13, 5, 0xa9e3e905);
	MD5_G(d, a, b, c, 2, 9, 0xfcefa3f8);
	MD5_G(c, d, a, b, 7, 14, 0x676f02d9);
	MD5_G(b, c, d, a, 12, 20, 0x8d2a4c8a);
	MD5_H(a, b, c, d, 5, 4, 0xfffa3942);
	MD5_H(d, a, b, c, 8, 11, 0x8771f681);
	MD5_H(c, d, a, b, 11, 16, 0x6d9d6122);
	MD5_H(b, c, d, a, 14, 23, 0xfde5380c);
	MD5_H(a, b, c, d, 1, 4, 0xa4beea44);
	MD5_H(d, a, b, c, 4, 11, 0x4bdecfa9);
	MD5_H(c, d, a, b, 7, 16, 0xf6bb4b60);
	MD5_H(b, c, d, a, 10, 23, 0xbebfbc70);
	MD5_H(a, b, c, d, 13, 4, 0x289b7ec6);
	MD5_H(d, a, b, c, 0, 11, 0xeaa127fa);
	MD5_H(c, d, a, b, 3, 16, 0xd4ef3085);
	MD5_H(b, c, d, a, 6, 23, 0x04881d05);
	MD5_H(a, b, c, d, 9, 4, 0xd9d4d039);
	MD5_H(d, a, b, c, 12, 11, 0xe6db99e5);
	MD5_H(c, d, a, b, 15, 16, 0x1fa27cf8);
	MD5_H(b, c, d, a, 2, 23, 0xc4ac5665);
	MD5_I(a, b, c, d, 0, 6, 0xf4292244);
	MD5_I(d, a, b, c, 7, 10, 0x432aff97);
	MD5_I(c, d, a, b, 14, 15, 0xab9423a7);
	MD5_I(b, c, d, a, 5, 21, 0xfc93a039);
	MD5_I(a, b, c, d, 12, 6, 0x655b59c3);
	MD5_I(d, a, b, c, 3, 10, 0x8f0ccc92);
	MD5_I(c, d, a, b, 10, 15, 0xffeff47d);
	MD5_I(b, c, d, a, 1, 21, 0x85845dd1);
	MD5_I(a, b, c, d, 8, 6, 0x6fa87e4f);
	MD5_I(d, a, b, c, 15, 10, 0xfe2ce6e0);
	MD5_I(c, d, a, b, 6, 15, 0xa3014314);
	MD5_I(b, c, d, a, 13, 21, 0x4e0811a1);
	MD5_I(a, b, c, d, 4, 6, 0xf7537e82);
	MD5_I(d, a, b, c, 11, 10, 0xbd3af235);
	MD5_I(c, d, a, b, 2, 15, 0x2ad7d2bb);
	MD5_I(b, c, d, a, 9, 21, 0xeb86d391);
	x->state[0] += a;
	x->state[1] += b;
	x->state[2] += c;
	x->state[3] += d;
	return 1;
}

#endif
