/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* What the TC programs and user space share. bpf2go makes Go types of it. */
#ifndef FAILOVER_VMAC_H
#define FAILOVER_VMAC_H

#include <linux/types.h>

/* A virtual address on an interface. */
struct failover_address_key {
	__u32 ifindex;
	__u32 family; /* 4 or 6 */
	__u8 address[16]; /* IPv4 in the first four octets */
};

struct failover_virtual_address {
	__u32 slot; /* of its virtual router's lease */
};

/*
 * How long a virtual router is Active if nothing renews it. User space writes
 * it through mapped memory, deadline last.
 */
struct failover_lease_state {
	__u64 deadline; /* CLOCK_MONOTONIC, ns; 0: not Active */
	__u32 ifindex;
	__u16 family;
	__u16 vrid;
	/* Frames that were held back because it isn't Active, or no longer. */
	__u64 fenced_in;
	__u64 fenced_out;
};

#endif
