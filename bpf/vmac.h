/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* The types that the TC programs share with user space. bpf2go generates Go types from them. */
#ifndef FAILOVER_VMAC_H
#define FAILOVER_VMAC_H

#include <linux/types.h>

/*
 * A virtual address on an interface. The interface is that of its virtual router, or a
 * sibling: another one in the same network, which must not answer for the address.
 */
struct failover_address_key {
	__u32 ifindex;
	__u32 family; /* 4 or 6 */
	__u8 address[16]; /* IPv4 in the first four octets */
};

/* The lease that decides whether the host answers. */
struct failover_slot {
	__u32 slot;
};

/*
 * The virtual routers of an interface, and so its virtual MACs (RFC 9568 section 7.3): by
 * family (IPv4 first) and VRID, the slot of the lease plus 1, or 0 for none. They are in
 * one entry, so that the lookups for the advertisements of an Active stay in the cache.
 */
struct failover_vmacs {
	__u32 slot[2][256];
};

/*
 * The lease of a virtual router: what it may do, and until when. User space writes it
 * through mapped memory. Times are CLOCK_MONOTONIC in nanoseconds.
 */
struct failover_lease_state {
	__u64 answer; /* until then the host answers for the addresses, and advertises */
	__u64 advertise; /* until then it may advertise even if it doesn't answer yet */
	__u32 ifindex;
	__u16 family;
	__u16 vrid;
	__u32 active; /* 1: user space last set it as Active */
	__u32 owner; /* 1: address owner; fenced only while another router is Active */
	__u32 virtual_mac; /* 1: the addresses use the virtual MAC */
	__u32 macvlan; /* 1: the addresses are on a macvlan that has the virtual MAC */
	__u32 accept; /* Accept_Mode (RFC 9568 section 6.1) */
	__u32 unicast; /* 1: it advertises to peers, not to the group */
	/* Frames that were dropped because it isn't Active or no longer Active. */
	__u64 fenced_in;
	__u64 fenced_out;
	/* Frames that were dropped because of Accept_Mode. */
	__u64 not_accepted;
	/* Owners only: until then another router counts as Active, by its advertisements. */
	__u64 other;
};

/* The leases, by slot. All programs share the map. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct failover_lease_state);
} failover_lease SEC(".maps");

#endif
