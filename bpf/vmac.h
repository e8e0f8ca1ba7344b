/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the TC programs and user space share. bpf2go makes Go types of it. */
#ifndef FAILOVER_VMAC_H
#define FAILOVER_VMAC_H

#include <linux/types.h>

/*
 * A virtual address on an interface: on that of its virtual router, or on another one in
 * the same network, which must not answer for it.
 */
struct failover_address_key {
	__u32 ifindex;
	__u32 family; /* 4 or 6 */
	__u8 address[16]; /* IPv4 in the first four octets */
};

/* Whose lease decides. */
struct failover_slot {
	__u32 slot;
};

/*
 * The virtual routers of an interface, which are virtual MACs too (RFC 9568 section
 * 7.3): the slots of their leases and 1, or 0, IPv4 first, by VRIDs. An Active looks one
 * up for each advertisement; here they lie beside each other.
 */
struct failover_vmacs {
	__u32 slot[2][256];
};

/*
 * What a virtual router may do, and how long if nothing renews it. User space
 * writes it through mapped memory. Times are CLOCK_MONOTONIC in nanoseconds.
 */
struct failover_lease_state {
	__u64 answer; /* until when the host answers for the addresses */
	__u64 advertise; /* until when it advertises even though it doesn't yet */
	__u32 ifindex;
	__u16 family;
	__u16 vrid;
	__u32 active; /* 1: in state Active when last heard of */
	__u32 owner; /* 1: the addresses are the host's own, and fenced as long as they are another's */
	__u32 virtual_mac; /* 1: the addresses are at the virtual MAC */
	__u32 macvlan; /* 1: they are on a macvlan, which has it as its own */
	__u32 accept; /* Accept_Mode (RFC 9568 section 6.1) */
	__u32 unicast; /* 1: it advertises to peers, not to the group */
	/* Frames that were held back because it isn't Active, or no longer, */
	__u64 fenced_in;
	__u64 fenced_out;
	/* and because of Accept_Mode. */
	__u64 not_accepted;
	/* An owner's: until when another router is taken for Active, by its advertisements. */
	__u64 other;
};

/* By slots, the same for all programs. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct failover_lease_state);
} failover_lease SEC(".maps");

#endif
