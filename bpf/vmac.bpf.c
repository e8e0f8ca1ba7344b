// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//go:build ignore

/*
 * failover_ingress and failover_egress are the fence: they hold back what would
 * make this host answer for a virtual address while its virtual router isn't
 * Active, whatever became of the daemon. It is Active as long as its lease
 * lasts, which the daemon renews with each advertisement it sends: one that
 * hangs or is killed stops answering before a Backup may take over.
 *
 * They judge by addresses, so that bridged frames of others pass. ARP and
 * neighbour discovery count by the address they are about. Attached by TCX, or
 * as direct-action classifiers, on Linux 5.15 and newer.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "vmac.h"

#define ARP_REQUEST 1
#define PROTOCOL_ICMPV6 58
#define NEIGHBOR_SOLICITATION 135
#define NEIGHBOR_ADVERTISEMENT 136

/* ARP over Ethernet and IPv4 (RFC 826). */
struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target[4];
};

/* Neighbour solicitation and advertisement (RFC 4861 section 4.3). */
struct neighbor {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 flags;
	__u8 target[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct failover_address_key);
	__type(value, struct failover_virtual_address);
} failover_address SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct failover_lease_state);
} failover_lease SEC(".maps");

/* Returns the lease of the virtual router whose address it is, if any. */
static __always_inline struct failover_lease_state *lease_of(__u32 ifindex, __u32 family, const __u8 *address)
{
	struct failover_address_key key = { .ifindex = ifindex, .family = family };
	struct failover_virtual_address *found;
	__u32 slot;

	if (family == 4)
		__builtin_memcpy(key.address, address, 4);
	else
		__builtin_memcpy(key.address, address, 16);
	found = bpf_map_lookup_elem(&failover_address, &key);
	if (!found)
		return NULL;
	slot = found->slot;
	return bpf_map_lookup_elem(&failover_lease, &slot);
}

static __always_inline int expired(struct failover_lease_state *lease)
{
	return *(volatile __u64 *)&lease->deadline < bpf_ktime_get_ns();
}

/* Makes length octets readable that a NIC may have left in fragments. */
static __always_inline int readable(struct __sk_buff *skb, __u32 length)
{
	if (skb->data + length <= skb->data_end)
		return 1;
	return bpf_skb_pull_data(skb, length) == 0 && skb->data + length <= skb->data_end;
}

/*
 * Finds the lease that decides about a frame: of the address that it comes
 * from, or that it goes to or asks for. NULL if there is none.
 */
static __always_inline struct failover_lease_state *decisive(struct __sk_buff *skb, int outgoing)
{
	struct failover_lease_state *lease;
	struct neighbor *neighbor;
	struct ipv6hdr *ip6;
	struct iphdr *ip4;
	struct arp *arp;
	void *data, *end;

	if (skb->vlan_present)
		return NULL; /* it belongs to the VLAN's device */
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		if (!readable(skb, ETH_HLEN + sizeof(*ip4)))
			return NULL;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		ip4 = data + ETH_HLEN;
		if ((void *)(ip4 + 1) > end)
			return NULL;
		return lease_of(skb->ifindex, 4, (const __u8 *)(outgoing ? &ip4->saddr : &ip4->daddr));
	case bpf_htons(ETH_P_ARP):
		if (!readable(skb, ETH_HLEN + sizeof(*arp)))
			return NULL;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		arp = data + ETH_HLEN;
		if ((void *)(arp + 1) > end || arp->protocol != bpf_htons(ETH_P_IP) || arp->protocol_length != 4)
			return NULL;
		if (outgoing)
			return lease_of(skb->ifindex, 4, arp->sender);
		/* Answers and announcements are news of the others' addresses. */
		if (arp->operation != bpf_htons(ARP_REQUEST) || !__builtin_memcmp(arp->sender, arp->target, 4))
			return NULL;
		return lease_of(skb->ifindex, 4, arp->target);
	case bpf_htons(ETH_P_IPV6):
		if (!readable(skb, ETH_HLEN + sizeof(*ip6)))
			return NULL;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		ip6 = data + ETH_HLEN;
		if ((void *)(ip6 + 1) > end)
			return NULL;
		lease = lease_of(skb->ifindex, 6, (const __u8 *)(outgoing ? &ip6->saddr : &ip6->daddr));
		if (lease || ip6->nexthdr != PROTOCOL_ICMPV6)
			return lease;
		if (!readable(skb, ETH_HLEN + sizeof(*ip6) + sizeof(*neighbor)))
			return NULL;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		neighbor = data + ETH_HLEN + sizeof(*ip6);
		if ((void *)(neighbor + 1) > end ||
		    neighbor->type != (outgoing ? NEIGHBOR_ADVERTISEMENT : NEIGHBOR_SOLICITATION))
			return NULL;
		return lease_of(skb->ifindex, 6, neighbor->target);
	}
	return NULL;
}

SEC("tc")
int failover_ingress(struct __sk_buff *skb)
{
	struct failover_lease_state *lease = decisive(skb, 0);

	if (!lease || !expired(lease))
		return TC_ACT_UNSPEC;
	__sync_fetch_and_add(&lease->fenced_in, 1);
	return TC_ACT_SHOT;
}

SEC("tc")
int failover_egress(struct __sk_buff *skb)
{
	struct failover_lease_state *lease;

	if (skb->ingress_ifindex)
		return TC_ACT_UNSPEC; /* forwarded, not the host's own */
	lease = decisive(skb, 1);
	if (!lease || !expired(lease))
		return TC_ACT_UNSPEC;
	__sync_fetch_and_add(&lease->fenced_out, 1);
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
