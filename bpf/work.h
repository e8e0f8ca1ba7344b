/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The advertisement that a CPU works on. */
#ifndef FAILOVER_WORK_H
#define FAILOVER_WORK_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "vrrp.h"

#define MESSAGE_WORDS (FAILOVER_MESSAGE_MAX / 4)
#define MESSAGE_ROOM 2048 /* words: a power of two above MESSAGE_WORDS */

/* What the checks depend on beside the message. */
struct terms {
	__u32 tolerate;
	__u16 min_ttl;
	__u16 max_ttl;
	__u8 unicast; /* to a host, not to the group */
	__u8 header; /* in an Authentication Header */
	__u16 form; /* of the checksum, once it is found right */
	__u32 addresses; /* how many its Virtual Router has itself */
};

/* A record under construction, too large for the stack. */
struct work {
	struct failover_record record;
	__u32 message[MESSAGE_ROOM];
	struct terms terms;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct work);
} failover_work SEC(".maps");

static __always_inline struct work *get_work(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&failover_work, &zero);
}

static __always_inline void copy_address(__u8 *to, const __u8 *from)
{
	__builtin_memcpy(to, from, 16);
}

static __always_inline int same_address(const __u8 *a, const __u8 *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

#endif
