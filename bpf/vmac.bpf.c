// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//go:build ignore

/*
 * Virtual MAC and fence.
 *
 * failover_ingress and failover_egress give a virtual router its virtual MAC without a
 * network device of its own. A frame to the virtual MAC of an Active router is accepted as
 * the host's own. A frame from a virtual address leaves with the virtual MAC, and ARP and
 * neighbour discovery announce that MAC.
 *
 * They are also the fence: they drop what would make this host answer for a virtual address
 * while the virtual router isn't Active, whatever state the daemon is in. A virtual router
 * counts as Active as long as its lease lasts. The daemon renews the lease with each
 * advertisement that it sends, so a daemon that hangs or is killed stops answering before a
 * Backup may take over.
 *
 * The addresses of an owner (priority 255) are the host's own. They are fenced only while
 * the lease has ended and another router is Active: when the owner hangs, was killed, is in
 * maintenance or has yielded to another owner. Without another Active the host goes on
 * answering, as it would without failoverd. For an owner the fence drops everything that is
 * sent to the addresses except advertisements, and the messages of ARP, neighbour discovery
 * and router discovery that the host sends for the addresses. Other traffic from them, such
 * as reports of multicast memberships, changes no neighbour's cache and may leave.
 *
 * Linux answers ARP requests for all its addresses at each interface. A sibling, another
 * interface in the network of the virtual router, never answers for the virtual addresses.
 *
 * The programs decide by addresses, and leave bridged and forwarded frames alone. They are
 * attached with TCX or as direct-action classifiers, on Linux 5.15 and newer.
 *
 * failover_in is failover_ingress with failover_tc behind it, for interfaces that receive
 * advertisements at TC: one program costs other traffic less than two.
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
#define AUTH_HEADER 24 /* length of the Authentication Header */
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
#define OPTIONS_MAX 8 /* the number of options of a message that are rewritten */

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

/* A link-layer address option (RFC 4861 section 4.6.1), or the start of another option. */
struct option {
	__u8 type; /* 1: source, 2: target */
	__u8 length; /* in units of 8 octets */
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
 * The receiving program. It is pinned, because otherwise the kernel empties it with the daemon.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} failover_next SEC(".maps");

/*
 * A bit for each value of the last two octets of an address, set if a virtual address has
 * it. So other traffic costs only a read of memory.
 */
__u64 failover_filter[65536 / 64];

/* The direction of a frame. */
enum way {
	WAY_IN,
	WAY_IN_RECEIVED, /* inward, and failover_tc receives VRRP */
	WAY_OUT,
};

/* How to rewrite a frame that leaves from an address with a valid lease. */
enum rewrite {
	REWRITE_NONE,
	REWRITE_SOURCE, /* only the source in the Ethernet header */
	REWRITE_ARP,
	REWRITE_ND,
};

static __always_inline struct failover_lease_state *lease_at(__u32 slot)
{
	return bpf_map_lookup_elem(&failover_lease, &slot);
}

/* Whether an address may be virtual, by its last two octets. */
static __always_inline int may_be_virtual(const __u8 *last)
{
	__u32 bit = last[0] << 8 | last[1];
	__u64 word = bit / 64;

	/* The compiler could drop the check below, but the verifier of Linux 6.1 needs it. */
	barrier_var(word);
	return word < 65536 / 64 && failover_filter[word] & 1ULL << bit % 64;
}

/* Whether a MAC may be virtual, by its first four octets. */
static __always_inline int may_be_virtual_mac(const __u8 *mac)
{
	return *(const __u16 *)mac == 0 && *(const __u16 *)(mac + 2) == bpf_htons(0x5e00);
}

/*
 * Whether a frame may concern a virtual router. Nearly all frames don't, so this must be
 * cheap.
 */
static __always_inline int is_relevant(struct __sk_buff *skb, enum way way)
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

/* Returns the lease of the virtual router that has the address, if any. */
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

/* Returns the lease of the virtual router that has the virtual MAC, if any. */
static __always_inline struct failover_lease_state *mac_lease(__u32 ifindex, const __u8 *mac)
{
	if (!may_be_virtual_mac(mac))
		return NULL;
	if (mac[4] != 1 && mac[4] != 2)
		return NULL;
	return router_lease(ifindex, mac[4] == 1 ? 4 : 6, mac[5]);
}

/* Whether a time of a lease is in the future. */
static __always_inline int unexpired(const __u64 *until)
{
	return *(const volatile __u64 *)until > bpf_ktime_get_ns();
}

/* Whether this host must not answer for the addresses of the lease. */
static __always_inline int fenced(struct failover_lease_state *lease)
{
	if (unexpired(&lease->answer))
		return 0;
	return !lease->owner || unexpired(&lease->other);
}

/* Makes the first length octets readable. The NIC may have left them in page fragments. */
static __always_inline int pull(struct __sk_buff *skb, __u32 length)
{
	if (skb->data + length <= skb->data_end)
		return 1;
	return bpf_skb_pull_data(skb, length) == 0 && skb->data + length <= skb->data_end;
}

/* Returns the Ethernet header if length octets can be read after it. */
static __always_inline void *header(struct __sk_buff *skb, __u32 length)
{
	void *data;

	if (!pull(skb, ETH_HLEN + length))
		return NULL;
	data = (void *)(long)skb->data;
	/* pull has checked this already, but the verifier doesn't see that. */
	if (data + ETH_HLEN + length > (void *)(long)skb->data_end)
		return NULL;
	return data;
}

/* Counts a frame and drops it. */
static __always_inline int drop(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
	return TC_ACT_SHOT;
}

static __always_inline int is_discovery(__u8 type)
{
	return type == NEIGHBOR_SOLICITATION || type == NEIGHBOR_ADVERTISEMENT;
}

/*
 * Returns the lease of the address that a received frame is sent to or asks for. *traffic
 * says that the frame is neither ARP nor neighbour discovery.
 */
static __always_inline struct failover_lease_state *target_lease(struct __sk_buff *skb, int *traffic)
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
		/* Replies and announcements only tell where other hosts' addresses are. */
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

/* Whether the Authentication Header of an IPv4 frame carries VRRP. */
static __always_inline int ah_carries_vrrp(struct __sk_buff *skb)
{
	__u8 next;

	return !bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(struct iphdr), &next, sizeof(next)) && next == PROTOCOL_VRRP;
}

/* Whether a frame that passed the fence may be VRRP. failover_tc makes the real decision. */
static __always_inline int may_be_vrrp(struct __sk_buff *skb)
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
		return ip4->protocol == PROTOCOL_VRRP || (ip4->protocol == PROTOCOL_AH && ah_carries_vrrp(skb));
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

/* Whether the frame belongs to the device of a VLAN. */
static __always_inline int tagged(struct __sk_buff *skb)
{
	return skb->vlan_present && skb->vlan_tci & VLAN_ID;
}

/*
 * Returns the lease of the virtual router that a frame is an advertisement for, if it is one,
 * and the beginning of the message.
 */
static __always_inline struct failover_lease_state *advertised_lease(struct __sk_buff *skb, __u8 message[VRRP_BEGINNING])
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
			if (!ah_carries_vrrp(skb))
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
	/* Another program may use the same VRID with the other kind of destination: group or peers. */
	return lease && lease->unicast == unicast ? lease : NULL;
}

/*
 * If the frame is another router's advertisement for an owner's virtual router, records
 * until when that router counts as Active: about as long as a Backup waits. The receiving
 * program validates advertisements. Less is enough here, because this only matters while
 * the lease of the owner has ended.
 */
static __always_inline void note_other_active(struct __sk_buff *skb)
{
	struct failover_lease_state *lease;
	__u8 message[VRRP_BEGINNING];
	__u64 interval;

	lease = advertised_lease(skb, message);
	if (!lease || !lease->owner || (message[0] & 0xf) != 1)
		return;
	interval = (__u64)message[5] * 1000000000; /* version 2 counts seconds */
	if (message[0] >> 4 == 3)
		interval = (__u64)((message[4] & 0xf) << 8 | message[5]) * 10000000;
	/* With priority 0 it gives the addresses up. */
	*(volatile __u64 *)&lease->other = message[2] ? bpf_ktime_get_ns() + 4 * interval : 0;
}

static __always_inline int filter_ingress(struct __sk_buff *skb)
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
		if (!unexpired(&lease->answer))
			return drop(&lease->fenced_in);
		if (skb->pkt_type != PACKET_HOST)
			bpf_skb_change_type(skb, PACKET_HOST);
	}
	note_other_active(skb);
	lease = target_lease(skb, &traffic);
	if (!lease)
		return TC_ACT_UNSPEC;
	if (lease->ifindex != skb->ifindex)
		return !traffic || fenced(lease) ? drop(&lease->fenced_in) : TC_ACT_UNSPEC;
	if (lease->owner) /* unicast peers advertise to the owner's address */
		return fenced(lease) && !may_be_vrrp(skb) ? drop(&lease->fenced_in) : TC_ACT_UNSPEC;
	if (fenced(lease))
		return drop(&lease->fenced_in);
	if (traffic && !lease->accept)
		return drop(&lease->not_accepted);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int failover_ingress(struct __sk_buff *skb)
{
	return is_relevant(skb, WAY_IN) ? filter_ingress(skb) : TC_ACT_UNSPEC;
}

SEC("tc")
int failover_in(struct __sk_buff *skb)
{
	int action;

	if (!is_relevant(skb, WAY_IN_RECEIVED))
		return TC_ACT_UNSPEC;
	action = filter_ingress(skb);
	if (action == TC_ACT_UNSPEC && may_be_vrrp(skb))
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

/* Replaces eight octets of an ICMPv6 message and updates its checksum. */
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
 * Writes the virtual MAC into a message of neighbour or router discovery, and sets the
 * Router flag of a neighbour advertisement (RFC 9568 section 8.2.3).
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
 * Returns the lease of the address that a frame is sent from or answers for. *rewrite says
 * how to rewrite the frame.
 */
static __always_inline struct failover_lease_state *sender_lease(struct __sk_buff *skb, enum rewrite *rewrite)
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
 * Whether the frame is an ICMP redirect. Redirects would reveal the address of a router
 * other than the virtual router (RFC 9568 sections 8.1.1, 8.2.1).
 */
static __always_inline int is_redirect(struct __sk_buff *skb)
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
 * Decides about a frame that isn't the host's own. Forwarded frames leave from the MAC of
 * the interface and bridged ones from that of their sender, so the fence only concerns those
 * that leave through a macvlan.
 */
static __always_inline int filter_forwarded(struct __sk_buff *skb)
{
	struct failover_lease_state *lease;
	struct ethhdr *eth = header(skb, 0);

	if (!eth)
		return TC_ACT_UNSPEC;
	lease = mac_lease(skb->ifindex, eth->h_source);
	if (lease && lease->macvlan && !unexpired(&lease->answer))
		return drop(&lease->fenced_out);
	return TC_ACT_UNSPEC;
}

/*
 * Whether a frame is the interface's own ARP reply for an address on a macvlan. The
 * interface receives the request too, and the macvlan's reply is enough.
 */
static __always_inline int is_duplicate_answer(struct __sk_buff *skb)
{
	struct ethhdr *eth = header(skb, sizeof(struct arp));
	struct arp *arp;

	if (skb->protocol != bpf_htons(ETH_P_ARP) || !eth)
		return 0;
	arp = (void *)(eth + 1);
	return arp->operation == bpf_htons(ARP_REPLY) && !may_be_virtual_mac(eth->h_source);
}

/* Whether a frame is an ARP reply or announcement, which tells others where an address is. */
static __always_inline int is_arp_answer(struct __sk_buff *skb)
{
	struct ethhdr *eth = header(skb, sizeof(struct arp));
	struct arp *arp;

	if (skb->protocol != bpf_htons(ETH_P_ARP) || !eth)
		return 0;
	arp = (void *)(eth + 1);
	return arp->operation == bpf_htons(ARP_REPLY) || !__builtin_memcmp(arp->sender, arp->target, 4);
}

/* Whether others update their neighbour caches from a frame. */
static __always_inline int updates_neighbors(struct __sk_buff *skb, enum rewrite rewrite)
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
	__u8 mac[ETH_ALEN] = { 0, 0, 0x5e, 0, 0, 0 }; /* the MAC to announce for the address */
	__u8 message[VRRP_BEGINNING];
	enum rewrite rewrite;
	struct ethhdr *eth;

	if (!is_relevant(skb, WAY_OUT) || tagged(skb))
		return TC_ACT_UNSPEC;
	if (skb->ingress_ifindex)
		return filter_forwarded(skb);
	if (is_redirect(skb))
		return TC_ACT_SHOT;
	lease = sender_lease(skb, &rewrite);
	if (lease && lease->ifindex != skb->ifindex)
		return is_arp_answer(skb) || fenced(lease) ? drop(&lease->fenced_out) : TC_ACT_UNSPEC;
	if (lease && unexpired(&lease->answer)) {
		if (lease->macvlan && is_duplicate_answer(skb))
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
	if (lease && fenced(lease) && (!lease->owner || updates_neighbors(skb, rewrite)))
		return drop(&lease->fenced_out);
	lease = advertised_lease(skb, message);
	if (lease) {
		if (unexpired(&lease->answer) || unexpired(&lease->advertise))
			return TC_ACT_UNSPEC;
		return drop(&lease->fenced_out);
	}
	eth = header(skb, 0);
	if (!eth)
		return TC_ACT_UNSPEC;
	/* No frame leaves from the virtual MAC of a Backup, whichever program sends it. */
	lease = mac_lease(skb->ifindex, eth->h_source);
	if (lease && lease->virtual_mac && !unexpired(&lease->answer))
		return drop(&lease->fenced_out);
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Dual BSD/GPL";
