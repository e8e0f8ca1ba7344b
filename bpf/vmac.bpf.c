// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//go:build ignore

/*
 * failover_ingress and failover_egress give a virtual router its virtual MAC
 * without a device of its own, and are the fence: they hold back what would make
 * this host answer for a virtual address while the virtual router isn't Active,
 * whatever became of the daemon. It is Active as long as its lease lasts, which
 * the daemon renews with each advertisement it sends: one that hangs or is killed
 * stops answering before a Backup may take over.
 *
 * A frame to the virtual MAC of an Active router becomes the host's own. What
 * leaves from a virtual address leaves with the virtual MAC, which ARP and
 * neighbour discovery name too.
 *
 * The addresses of an owner (priority 255) are the host's own. They are fenced only as
 * long as another router is heard to be Active for them while the lease has ended: of an
 * owner that hangs, was killed, is in maintenance or has yielded to another owner.
 * Without another router the host goes on answering, as it would without failoverd. What
 * is fenced of an owner is what comes to its addresses, but for advertisements, and all
 * ARP and neighbour and router discovery that speaks for them. The host's other traffic
 * from them, its reports of multicast memberships among it, changes nobody's cache and
 * leaves.
 *
 * Linux answers ARP requests for all its addresses at each interface. At one that isn't
 * the virtual router's but is in the same network, nobody is answered.
 *
 * Both judge by addresses and leave bridged and forwarded frames alone. They
 * are attached by TCX, or as direct-action classifiers, on Linux 5.15 and newer.
 *
 * failover_in is failover_ingress where advertisements are received at TC too: one
 * program costs the other traffic less than two.
 */
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "vmac.h"

#define ARP_REQUEST 1
#define ARP_REPLY 2
#define PROTOCOL_ICMP 1
#define PROTOCOL_FRAGMENT 44
#define PROTOCOL_ICMPV6 58
#define PROTOCOL_VRRP 112
#define PROTOCOL_AH 51
#define AUTH_HEADER 24 /* around version 2 */
#define GROUP_IPV4 0xe0000012 /* 224.0.0.18 */
#define ICMP_REDIRECT 5
#define ROUTER_SOLICITATION 133
#define ROUTER_ADVERTISEMENT 134
#define NEIGHBOR_SOLICITATION 135
#define NEIGHBOR_ADVERTISEMENT 136
#define ICMPV6_REDIRECT 137
#define NEIGHBOR_IS_ROUTER 0x80
#define VLAN_ID 0x0fff
#define VRRP_BEGINNING 6 /* version and type, VRID, priority, count, interval */
#define OPTIONS_MAX 8 /* looked at in one message */

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

/* A link-layer address option (RFC 4861 section 4.6.1), or another's beginning. */
struct option {
	__u8 type; /* 1: source, 2: target */
	__u8 length; /* in 8 octets */
	__u8 mac[ETH_ALEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct failover_address_key);
	__type(value, struct failover_slot);
} failover_address SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32); /* the interface */
	__type(value, struct failover_vmacs);
} failover_vmac SEC(".maps");

/*
 * The program that receives. It is gone with the daemon; then there is nobody to
 * receive for.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} failover_next SEC(".maps");

/*
 * A bit for each pair of last octets that a virtual address has, so that a look
 * at memory is all that the other traffic costs.
 */
__u64 failover_filter[65536 / 64];

/* Which way a frame goes. */
enum way {
	WAY_IN,
	WAY_IN_RECEIVED, /* and what is VRRP is to be received */
	WAY_OUT,
};

/* What is to be done with a frame of the host's own for a lease that lasts. */
enum rewrite {
	REWRITE_NONE,
	REWRITE_SOURCE, /* the Ethernet header only */
	REWRITE_ARP,
	REWRITE_ND,
};

static __always_inline struct failover_lease_state *lease_at(__u32 slot)
{
	return bpf_map_lookup_elem(&failover_lease, &slot);
}

/* Whether it may be a virtual address, by its last octets. */
static __always_inline int may_be_virtual(const __u8 *last)
{
	__u32 bit = last[0] << 8 | last[1];
	__u64 word = bit / 64;

	/* Nothing new to the compiler, but to the verifier of Linux 6.1. */
	barrier_var(word);
	return word < 65536 / 64 && failover_filter[word] & 1ULL << bit % 64;
}

/* Whether it may be a virtual MAC, by its first octets. */
static __always_inline int may_be_virtual_mac(const __u8 *mac)
{
	return *(const __u16 *)mac == 0 && *(const __u16 *)(mac + 2) == bpf_htons(0x5e00);
}

/*
 * Whether a frame has to be looked at more closely: little enough for all that
 * has nothing to do with virtual routers, which is nearly everything.
 */
static __always_inline int concerns(struct __sk_buff *skb, enum way way)
{
	int outgoing = way == WAY_OUT, wrapped = way != WAY_IN;
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip6 = data + ETH_HLEN;
	struct iphdr *ip4 = data + ETH_HLEN;
	struct ethhdr *eth = data;

	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		if ((void *)(ip4 + 1) > end)
			return 1;
		if (may_be_virtual((const __u8 *)(outgoing ? &ip4->saddr : &ip4->daddr) + 2))
			return 1;
		if (outgoing && ip4->protocol == PROTOCOL_ICMP)
			return 1;
		if (ip4->protocol == PROTOCOL_VRRP || (wrapped && ip4->protocol == PROTOCOL_AH))
			return 1;
		break;
	case bpf_htons(ETH_P_IPV6):
		if ((void *)(ip6 + 1) > end || ip6->nexthdr == PROTOCOL_ICMPV6)
			return 1;
		if (may_be_virtual((const __u8 *)(outgoing ? &ip6->saddr : &ip6->daddr) + 14))
			return 1;
		if (ip6->nexthdr == PROTOCOL_VRRP || (wrapped && ip6->nexthdr == PROTOCOL_FRAGMENT))
			return 1;
		break;
	case bpf_htons(ETH_P_ARP):
		return 1;
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		if (way == WAY_IN_RECEIVED)
			return 1;
		break;
	}
	return (void *)(eth + 1) > end || may_be_virtual_mac(outgoing ? eth->h_source : eth->h_dest);
}

/* Returns the lease of the virtual router whose address it is, if any. */
static __always_inline struct failover_lease_state *lease_of(__u32 ifindex, __u32 family, const __u8 *address)
{
	struct failover_address_key key = { .ifindex = ifindex, .family = family };
	const struct failover_slot *found;

	if (!may_be_virtual(address + (family == 4 ? 2 : 14)))
		return NULL;
	if (family == 4)
		__builtin_memcpy(key.address, address, 4);
	else
		__builtin_memcpy(key.address, address, 16);
	found = bpf_map_lookup_elem(&failover_address, &key);
	return found ? lease_at(found->slot) : NULL;
}

/* Returns the lease of a virtual router. */
static __always_inline struct failover_lease_state *router_lease(__u32 ifindex, __u16 family, __u8 vrid)
{
	const struct failover_vmacs *all = bpf_map_lookup_elem(&failover_vmac, &ifindex);
	__u32 slot;

	if (!all)
		return NULL;
	slot = all->slot[family != 4][vrid];
	return slot ? lease_at(slot - 1) : NULL;
}

/* Returns the lease of the virtual router whose virtual MAC it is, if any. */
static __always_inline struct failover_lease_state *mac_lease(__u32 ifindex, const __u8 *mac)
{
	if (!may_be_virtual_mac(mac))
		return NULL;
	if (mac[4] != 1 && mac[4] != 2)
		return NULL;
	return router_lease(ifindex, mac[4] == 1 ? 4 : 6, mac[5]);
}

static __always_inline int lasts(const __u64 *until)
{
	return *(const volatile __u64 *)until > bpf_ktime_get_ns();
}

/* Whether this host must not answer for the addresses. */
static __always_inline int fenced(struct failover_lease_state *lease)
{
	if (lasts(&lease->answer))
		return 0;
	return !lease->owner || lasts(&lease->other);
}

/* Makes length octets readable that a NIC may have left in fragments. */
static __always_inline int readable(struct __sk_buff *skb, __u32 length)
{
	if (skb->data + length <= skb->data_end)
		return 1;
	return bpf_skb_pull_data(skb, length) == 0 && skb->data + length <= skb->data_end;
}

/* Returns the Ethernet header if length octets can be read behind it. */
static __always_inline void *header(struct __sk_buff *skb, __u32 length)
{
	void *data;

	if (!readable(skb, ETH_HLEN + length))
		return NULL;
	data = (void *)(long)skb->data;
	/* Nothing new, but to the verifier. */
	if (data + ETH_HLEN + length > (void *)(long)skb->data_end)
		return NULL;
	return data;
}

static __always_inline int hold_back(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
	return TC_ACT_SHOT;
}

static __always_inline int is_discovery(__u8 type)
{
	return type == NEIGHBOR_SOLICITATION || type == NEIGHBOR_ADVERTISEMENT;
}

/*
 * Finds the lease of the address that a received frame goes to or asks for.
 * *traffic says that it is neither ARP nor neighbour discovery.
 */
static __always_inline struct failover_lease_state *asked_for(struct __sk_buff *skb, int *traffic)
{
	struct failover_lease_state *lease;
	struct neighbor *neighbor;
	struct ipv6hdr *ip6;
	struct iphdr *ip4;
	struct arp *arp;
	void *eth;

	*traffic = 0;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		eth = header(skb, sizeof(*ip4));
		if (!eth)
			return NULL;
		ip4 = eth + ETH_HLEN;
		*traffic = 1;
		return lease_of(skb->ifindex, 4, (const __u8 *)&ip4->daddr);
	case bpf_htons(ETH_P_ARP):
		eth = header(skb, sizeof(*arp));
		if (!eth)
			return NULL;
		arp = eth + ETH_HLEN;
		if (arp->protocol != bpf_htons(ETH_P_IP) || arp->protocol_length != 4)
			return NULL;
		/* Answers and announcements are news of the others' addresses. */
		if (arp->operation != bpf_htons(ARP_REQUEST) || !__builtin_memcmp(arp->sender, arp->target, 4))
			return NULL;
		return lease_of(skb->ifindex, 4, arp->target);
	case bpf_htons(ETH_P_IPV6):
		eth = header(skb, sizeof(*ip6));
		if (!eth)
			return NULL;
		ip6 = eth + ETH_HLEN;
		lease = lease_of(skb->ifindex, 6, (const __u8 *)&ip6->daddr);
		*traffic = 1;
		if (ip6->nexthdr != PROTOCOL_ICMPV6)
			return lease;
		eth = header(skb, sizeof(*ip6) + sizeof(*neighbor));
		if (!eth)
			return lease;
		neighbor = eth + ETH_HLEN + sizeof(*ip6);
		if (is_discovery(neighbor->type))
			*traffic = 0;
		if (lease || neighbor->type != NEIGHBOR_SOLICITATION)
			return lease;
		return lease_of(skb->ifindex, 6, neighbor->target);
	}
	return NULL;
}

/* Whether an Authentication Header is around VRRP. */
static __always_inline int around_vrrp(struct __sk_buff *skb)
{
	__u8 next;

	return !bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(struct iphdr), &next, sizeof(next)) && next == PROTOCOL_VRRP;
}

/* Whether it may be for failover_tc, which judges once the fence has let it through. */
static __always_inline int to_receive(struct __sk_buff *skb)
{
	struct ipv6hdr *ip6;
	struct iphdr *ip4;
	void *eth;

	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		eth = header(skb, sizeof(*ip4));
		if (!eth)
			return 0;
		ip4 = eth + ETH_HLEN;
		return ip4->protocol == PROTOCOL_VRRP || (ip4->protocol == PROTOCOL_AH && around_vrrp(skb));
	case bpf_htons(ETH_P_IPV6):
		eth = header(skb, sizeof(*ip6));
		if (!eth)
			return 0;
		ip6 = eth + ETH_HLEN;
		return ip6->nexthdr == PROTOCOL_VRRP || (ip6->nexthdr == PROTOCOL_FRAGMENT && ip6->daddr.s6_addr[0] == 0xff);
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		return 1;
	}
	return 0;
}

/* Whether it belongs to a VLAN's device. */
static __always_inline int tagged(struct __sk_buff *skb)
{
	return skb->vlan_present && skb->vlan_tci & VLAN_ID;
}

/* Returns the lease of the virtual router that a frame advertises, if it does, and how the message begins. */
static __always_inline struct failover_lease_state *advertises(struct __sk_buff *skb, __u8 message[VRRP_BEGINNING])
{
	__u32 offset = ETH_HLEN + sizeof(struct ipv6hdr);
	struct failover_lease_state *lease;
	struct ipv6hdr *ip6;
	__u32 unicast;
	struct iphdr *ip4;
	__u16 family = 6;
	void *eth;

	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		eth = header(skb, sizeof(*ip4));
		if (!eth)
			return NULL;
		ip4 = eth + ETH_HLEN;
		if (ip4->protocol != PROTOCOL_VRRP && ip4->protocol != PROTOCOL_AH)
			return NULL;
		unicast = ip4->daddr != bpf_htonl(GROUP_IPV4);
		offset = ETH_HLEN + ip4->ihl * 4;
		if (ip4->protocol == PROTOCOL_AH) {
			if (!around_vrrp(skb))
				return NULL;
			offset += AUTH_HEADER;
		}
		family = 4;
		break;
	case bpf_htons(ETH_P_IPV6):
		eth = header(skb, sizeof(*ip6));
		if (!eth)
			return NULL;
		ip6 = eth + ETH_HLEN;
		if (ip6->nexthdr != PROTOCOL_VRRP)
			return NULL;
		unicast = ip6->daddr.s6_addr[0] != 0xff;
		break;
	default:
		return NULL;
	}
	if (bpf_skb_load_bytes(skb, offset, message, VRRP_BEGINNING))
		return NULL;
	lease = router_lease(skb->ifindex, family, message[1]);
	/* Another program may use the VRID the other way. */
	return lease && lease->unicast == unicast ? lease : NULL;
}

/*
 * Keeps until when another router is taken for Active that advertises an owner's virtual
 * router: as long as a Backup waits for it. What it sends is checked where it is received;
 * here it is enough for a host that doesn't answer for the address itself.
 */
static __always_inline void hear_other(struct __sk_buff *skb)
{
	struct failover_lease_state *lease;
	__u8 message[VRRP_BEGINNING];
	__u64 interval;

	lease = advertises(skb, message);
	if (!lease || !lease->owner || (message[0] & 0xf) != 1)
		return;
	interval = (__u64)message[5] * 1000000000; /* version 2 counts seconds */
	if (message[0] >> 4 == 3)
		interval = (__u64)((message[4] & 0xf) << 8 | message[5]) * 10000000;
	/* It leaves with priority 0. */
	*(volatile __u64 *)&lease->other = message[2] ? bpf_ktime_get_ns() + 4 * interval : 0;
}

static __always_inline int enters(struct __sk_buff *skb)
{
	struct failover_lease_state *lease;
	struct ethhdr *eth;
	int traffic;

	if (tagged(skb))
		return TC_ACT_UNSPEC;
	eth = header(skb, 0);
	if (!eth)
		return TC_ACT_UNSPEC;
	lease = mac_lease(skb->ifindex, eth->h_dest);
	if (lease && lease->virtual_mac) {
		if (!lasts(&lease->answer))
			return hold_back(&lease->fenced_in);
		if (skb->pkt_type != PACKET_HOST)
			bpf_skb_change_type(skb, PACKET_HOST);
	}
	hear_other(skb);
	lease = asked_for(skb, &traffic);
	if (!lease)
		return TC_ACT_UNSPEC;
	if (lease->ifindex != skb->ifindex)
		return !traffic || fenced(lease) ? hold_back(&lease->fenced_in) : TC_ACT_UNSPEC;
	if (lease->owner) /* which hears its peers at its address */
		return fenced(lease) && !to_receive(skb) ? hold_back(&lease->fenced_in) : TC_ACT_UNSPEC;
	if (fenced(lease))
		return hold_back(&lease->fenced_in);
	if (traffic && !lease->accept)
		return hold_back(&lease->not_accepted);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int failover_ingress(struct __sk_buff *skb)
{
	return concerns(skb, WAY_IN) ? enters(skb) : TC_ACT_UNSPEC;
}

SEC("tc")
int failover_in(struct __sk_buff *skb)
{
	int action;

	if (!concerns(skb, WAY_IN_RECEIVED))
		return TC_ACT_UNSPEC;
	action = enters(skb);
	if (action == TC_ACT_UNSPEC && to_receive(skb))
		bpf_tail_call(skb, &failover_next, 0);
	return action;
}

static __always_inline void set_source(struct __sk_buff *skb, const __u8 *mac)
{
	bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_source), mac, ETH_ALEN, 0);
}

static __always_inline void rewrite_arp(struct __sk_buff *skb, const __u8 *mac)
{
	bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct arp, sender_mac), mac, ETH_ALEN, 0);
}

/* Replaces eight octets of an ICMPv6 message and mends its checksum. */
static __always_inline void replace(struct __sk_buff *skb, __u32 offset, void *from, void *to)
{
	const __u32 checksum = ETH_HLEN + sizeof(struct ipv6hdr) + offsetof(struct neighbor, checksum);
	__s64 difference = bpf_csum_diff(from, 8, to, 8, 0);

	if (difference < 0)
		return;
	bpf_l4_csum_replace(skb, checksum, 0, difference, 0);
	bpf_skb_store_bytes(skb, offset, to, 8, 0);
}

/*
 * Has a message of neighbour or router discovery name the virtual MAC, and an
 * advertisement say that the address is a router's (RFC 9568 section 8.2.3).
 */
static __always_inline void rewrite_nd(struct __sk_buff *skb, const __u8 *mac)
{
	const __u32 message = ETH_HLEN + sizeof(struct ipv6hdr);
	struct option option, other;
	__u32 offset;
	__u8 type;
	int i;

	if (bpf_skb_load_bytes(skb, message, &type, 1))
		return;
	switch (type) {
	case ROUTER_SOLICITATION:
		offset = message + 8;
		break;
	case ROUTER_ADVERTISEMENT:
		offset = message + 16;
		break;
	case NEIGHBOR_ADVERTISEMENT: {
		__u32 old[2], new[2];

		/* The flags, and four octets of the target. */
		if (bpf_skb_load_bytes(skb, message + offsetof(struct neighbor, flags), old, 8))
			return;
		new[0] = old[0] | bpf_htonl((__u32)NEIGHBOR_IS_ROUTER << 24);
		new[1] = old[1];
		if (new[0] != old[0])
			replace(skb, message + offsetof(struct neighbor, flags), old, new);
	}
		/* fallthrough */
	case NEIGHBOR_SOLICITATION:
		offset = message + sizeof(struct neighbor);
		break;
	default:
		return;
	}
	for (i = 0; i < OPTIONS_MAX; i++) {
		if (bpf_skb_load_bytes(skb, offset, &option, sizeof(option)) || option.length == 0)
			return;
		if ((option.type == 1 || option.type == 2) && option.length == 1) {
			other = option;
			__builtin_memcpy(other.mac, mac, ETH_ALEN);
			replace(skb, offset, &option, &other);
		}
		offset += option.length * 8;
	}
}

/*
 * Finds the lease of the address that a frame comes from or answers for, and
 * what has to be rewritten in it.
 */
static __always_inline struct failover_lease_state *speaks_for(struct __sk_buff *skb, enum rewrite *rewrite)
{
	struct failover_lease_state *lease;
	struct neighbor *neighbor;
	struct ipv6hdr *ip6;
	struct iphdr *ip4;
	struct arp *arp;
	void *eth;

	*rewrite = REWRITE_SOURCE;
	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		eth = header(skb, sizeof(*ip4));
		if (!eth)
			return NULL;
		ip4 = eth + ETH_HLEN;
		return lease_of(skb->ifindex, 4, (const __u8 *)&ip4->saddr);
	case bpf_htons(ETH_P_ARP):
		eth = header(skb, sizeof(*arp));
		if (!eth)
			return NULL;
		arp = eth + ETH_HLEN;
		if (arp->protocol != bpf_htons(ETH_P_IP) || arp->protocol_length != 4)
			return NULL;
		*rewrite = REWRITE_ARP;
		return lease_of(skb->ifindex, 4, arp->sender);
	case bpf_htons(ETH_P_IPV6):
		eth = header(skb, sizeof(*ip6));
		if (!eth)
			return NULL;
		ip6 = eth + ETH_HLEN;
		lease = lease_of(skb->ifindex, 6, (const __u8 *)&ip6->saddr);
		if (ip6->nexthdr != PROTOCOL_ICMPV6)
			return lease;
		*rewrite = REWRITE_ND;
		if (lease)
			return lease;
		eth = header(skb, sizeof(*ip6) + sizeof(*neighbor));
		if (!eth)
			return NULL;
		neighbor = eth + ETH_HLEN + sizeof(*ip6);
		if (neighbor->type != NEIGHBOR_ADVERTISEMENT)
			return NULL;
		return lease_of(skb->ifindex, 6, neighbor->target);
	}
	return NULL;
}

/*
 * Whether it tells a host of a better router. Hosts must not learn of one by the
 * address of another than the virtual router (RFC 9568 sections 8.1.1, 8.2.1).
 */
static __always_inline int redirects(struct __sk_buff *skb)
{
	__u32 offset = ETH_HLEN + sizeof(struct ipv6hdr);
	struct ipv6hdr *ip6;
	__u8 type, redirect = ICMPV6_REDIRECT;
	struct iphdr *ip4;
	void *eth;

	switch (skb->protocol) {
	case bpf_htons(ETH_P_IP):
		eth = header(skb, sizeof(*ip4));
		if (!eth)
			return 0;
		ip4 = eth + ETH_HLEN;
		if (ip4->protocol != PROTOCOL_ICMP || ip4->frag_off & bpf_htons(0x1fff))
			return 0;
		offset = ETH_HLEN + ip4->ihl * 4;
		redirect = ICMP_REDIRECT;
		break;
	case bpf_htons(ETH_P_IPV6):
		eth = header(skb, sizeof(*ip6));
		if (!eth)
			return 0;
		ip6 = eth + ETH_HLEN;
		if (ip6->nexthdr != PROTOCOL_ICMPV6)
			return 0;
		break;
	default:
		return 0;
	}
	return bpf_skb_load_bytes(skb, offset, &type, 1) == 0 && type == redirect;
}

/*
 * What is forwarded leaves from the interface's own MAC, and bridged frames from
 * their sender's: nothing to judge, unless it leaves through a macvlan.
 */
static __always_inline int transit(struct __sk_buff *skb)
{
	struct failover_lease_state *lease;
	struct ethhdr *eth = header(skb, 0);

	if (!eth)
		return TC_ACT_UNSPEC;
	lease = mac_lease(skb->ifindex, eth->h_source);
	if (lease && lease->macvlan && !lasts(&lease->answer))
		return hold_back(&lease->fenced_out);
	return TC_ACT_UNSPEC;
}

/*
 * The interface gets the questions for a macvlan's addresses too, and answers.
 * One answer is enough.
 */
static __always_inline int answered_twice(struct __sk_buff *skb)
{
	struct ethhdr *eth = header(skb, sizeof(struct arp));
	struct arp *arp;

	if (skb->protocol != bpf_htons(ETH_P_ARP) || !eth)
		return 0;
	arp = (void *)(eth + 1);
	return arp->operation == bpf_htons(ARP_REPLY) && !may_be_virtual_mac(eth->h_source);
}

/* Whether it is an answer or an announcement, from which others learn where an address is. */
static __always_inline int answers(struct __sk_buff *skb)
{
	struct ethhdr *eth = header(skb, sizeof(struct arp));
	struct arp *arp;

	if (skb->protocol != bpf_htons(ETH_P_ARP) || !eth)
		return 0;
	arp = (void *)(eth + 1);
	return arp->operation == bpf_htons(ARP_REPLY) || !__builtin_memcmp(arp->sender, arp->target, 4);
}

/* Whether others learn from a frame of an address at which MAC that is. */
static __always_inline int teaches(struct __sk_buff *skb, enum rewrite rewrite)
{
	__u8 type;

	if (rewrite == REWRITE_ND && !bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(struct ipv6hdr), &type, 1))
		return type >= ROUTER_SOLICITATION && type <= NEIGHBOR_ADVERTISEMENT;
	return rewrite == REWRITE_ARP;
}

SEC("tc")
int failover_egress(struct __sk_buff *skb)
{
	struct failover_lease_state *lease;
	__u8 mac[ETH_ALEN] = { 0, 0, 0x5e, 0, 0, 0 }; /* that the address is at */
	__u8 message[VRRP_BEGINNING];
	enum rewrite rewrite;
	struct ethhdr *eth;

	if (!concerns(skb, WAY_OUT) || tagged(skb))
		return TC_ACT_UNSPEC;
	if (skb->ingress_ifindex)
		return transit(skb);
	if (redirects(skb))
		return TC_ACT_SHOT;
	lease = speaks_for(skb, &rewrite);
	if (lease && lease->ifindex != skb->ifindex)
		return answers(skb) || fenced(lease) ? hold_back(&lease->fenced_out) : TC_ACT_UNSPEC;
	if (lease && lasts(&lease->answer)) {
		if (lease->macvlan && answered_twice(skb))
			return TC_ACT_SHOT;
		if (lease->virtual_mac) {
			mac[4] = lease->family == 4 ? 1 : 2;
			mac[5] = lease->vrid;
			set_source(skb, mac);
		} else if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_source), mac, ETH_ALEN)) {
			return TC_ACT_UNSPEC;
		}
		if (rewrite == REWRITE_ARP)
			rewrite_arp(skb, mac);
		else if (rewrite == REWRITE_ND)
			rewrite_nd(skb, mac);
		return TC_ACT_UNSPEC;
	}
	if (lease && fenced(lease) && (!lease->owner || teaches(skb, rewrite)))
		return hold_back(&lease->fenced_out);
	lease = advertises(skb, message);
	if (lease) {
		if (lasts(&lease->answer) || lasts(&lease->advertise))
			return TC_ACT_UNSPEC;
		return hold_back(&lease->fenced_out);
	}
	eth = header(skb, 0);
	if (!eth)
		return TC_ACT_UNSPEC;
	/* Nothing leaves from the virtual MAC of a Backup, whoever sends it. */
	lease = mac_lease(skb->ifindex, eth->h_source);
	if (lease && lease->virtual_mac && !lasts(&lease->answer))
		return hold_back(&lease->fenced_out);
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Dual BSD/GPL";
