// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// Reply is an answered echo request.
type Reply struct {
	Sequence uint16
	Sent, At time.Time
}

// Pinger sends echo requests to an address at an interval.
type Pinger struct {
	file   *os.File
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu      sync.Mutex
	sent    map[uint16]time.Time // the requests without a reply
	lost    []time.Time          // those whose sequence number was used again
	replies []Reply
}

// Ping starts a Pinger on the node.
func (n *Node) Ping(to netip.Addr, interval time.Duration) (*Pinger, error) {
	p := &Pinger{sent: make(map[uint16]time.Time)}
	err := n.Do(func() error {
		domain, protocol := unix.AF_INET, unix.IPPROTO_ICMP
		var sa unix.Sockaddr = &unix.SockaddrInet4{Addr: as4(to)}
		if to.Is6() {
			domain, protocol, sa = unix.AF_INET6, unix.IPPROTO_ICMPV6, &unix.SockaddrInet6{Addr: to.As16()}
		}
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
		if err != nil {
			return err
		}
		p.file = os.NewFile(uintptr(fd), "ping")
		return unix.Connect(fd, sa)
	})
	if err != nil {
		return nil, fmt.Errorf("ping %s from %s: %w", to, n.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.wait.Go(func() { p.send(ctx, to, interval) })
	p.wait.Go(func() { p.receive(to) })
	return p, nil
}

func (p *Pinger) send(ctx context.Context, to netip.Addr, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for seq := uint16(1); ; seq++ {
		m := []byte{8, 0, 0, 0, 0x56, 0x52, byte(seq >> 8), byte(seq)}
		if to.Is6() {
			m[0] = 128 // the kernel adds the checksum
		} else {
			sum := 0x0800 + 0x5652 + uint32(seq)
			binary.BigEndian.PutUint16(m[2:], ^uint16(sum&0xffff+sum>>16))
		}
		p.mu.Lock()
		if before, lost := p.sent[seq]; lost {
			p.lost = append(p.lost, before)
		}
		p.sent[seq] = time.Now()
		p.mu.Unlock()
		_, _ = p.file.Write(m) // an error means an outage, which is measured by the replies
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *Pinger) receive(to netip.Addr) {
	b := make([]byte, 1500)
	for {
		n, err := p.file.Read(b)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		m := b[:max(n, 0)]
		reply := byte(129)
		if to.Is4() {
			reply = 0
			if len(m) < 20 || len(m) < int(m[0]&0xf)*4 {
				continue
			}
			m = m[int(m[0]&0xf)*4:] // a raw socket delivers the IP header
		}
		if len(m) < 8 || m[0] != reply || m[4] != 0x56 || m[5] != 0x52 {
			continue
		}
		seq := binary.BigEndian.Uint16(m[6:])
		p.mu.Lock()
		if sent, ok := p.sent[seq]; ok {
			p.replies = append(p.replies, Reply{seq, sent, time.Now()})
			delete(p.sent, seq)
		}
		p.mu.Unlock()
	}
}

// Replies returns the replies so far.
func (p *Pinger) Replies() []Reply {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.replies)
}

// Outage returns the longest time between two consecutive replies, the second of which came
// after the given moment.
func (p *Pinger) Outage(since time.Time) time.Duration {
	var longest time.Duration
	replies := p.Replies()
	for i := 1; i < len(replies); i++ {
		if replies[i].At.After(since) {
			longest = max(longest, replies[i].At.Sub(replies[i-1].At))
		}
	}
	return longest
}

// Lost returns the number of requests that were sent between two moments and had no reply so far.
func (p *Pinger) Lost(from, to time.Time) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := func(sent time.Time) {
		if sent.After(from) && sent.Before(to) {
			n++
		}
	}
	for _, sent := range p.lost {
		count(sent)
	}
	for _, sent := range p.sent {
		count(sent)
	}
	return n
}

// WaitReply waits for the reply to a request sent after the given moment.
func (p *Pinger) WaitReply(ctx context.Context, after time.Time) (Reply, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if r := p.Replies(); len(r) > 0 && r[len(r)-1].Sent.After(after) {
			return r[len(r)-1], nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return Reply{}, fmt.Errorf("no reply: %w", ctx.Err())
		}
	}
}

// Close stops the echo requests.
func (p *Pinger) Close() error {
	p.cancel()
	err := p.file.Close()
	p.wait.Wait()
	return err
}

// WhoHas solicits an address by ARP or by neighbour solicitation, and returns the MACs that
// answer within wait. It doesn't use the node's neighbour table.
func (n *Node) WhoHas(ifname string, addr netip.Addr, wait time.Duration) ([]string, error) {
	device, err := n.link(ifname)
	if err != nil {
		return nil, err
	}
	mac := device.Attrs().HardwareAddr
	addresses, err := n.Addresses(ifname)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(addresses, func(p netip.Prefix) bool {
		return p.Addr().Is4() == addr.Is4() && (addr.Is4() || p.Addr().IsLinkLocalUnicast())
	})
	if i < 0 {
		return nil, fmt.Errorf("%s of %s has no address of the family to send from", ifname, n.Name)
	}
	question, err := solicitation(mac, addresses[i].Addr(), addr)
	if err != nil {
		return nil, err
	}
	var fd int
	if err := n.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_ALL)))
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: device.Attrs().Index})
	}); err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "who has")
	defer func() { _ = file.Close() }()
	if err := file.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	if _, err := file.Write(question); err != nil {
		return nil, err
	}
	var all []string
	b := make([]byte, 1<<16)
	for {
		n, err := file.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if who := answers(b[:n], addr); who != "" && !slices.Contains(all, who) {
			all = append(all, who)
		}
	}
}

func solicitation(mac net.HardwareAddr, from, to netip.Addr) ([]byte, error) {
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	eth := &layers.Ethernet{SrcMAC: mac, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP}
	if to.Is4() {
		err := gopacket.SerializeLayers(buffer, options, eth, &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4,
			HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
			SourceHwAddress: mac, SourceProtAddress: from.AsSlice(),
			DstHwAddress: make([]byte, 6), DstProtAddress: to.AsSlice(),
		})
		return buffer.Bytes(), err
	}
	t := to.As16()
	group := net.IP{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, t[13], t[14], t[15]}
	eth.DstMAC = net.HardwareAddr{0x33, 0x33, 0xff, t[13], t[14], t[15]}
	eth.EthernetType = layers.EthernetTypeIPv6
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: from.AsSlice(), DstIP: group}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		return nil, err
	}
	err := gopacket.SerializeLayers(buffer, options, eth, ip, icmp, &layers.ICMPv6NeighborSolicitation{
		TargetAddress: to.AsSlice(),
		Options:       layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: mac}},
	})
	return buffer.Bytes(), err
}

// answers returns the MAC that the frame gives for the address, empty if it gives none.
func answers(frame []byte, addr netip.Addr) string {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	if arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		if a, _ := netip.AddrFromSlice(arp.SourceProtAddress); arp.Operation == layers.ARPReply && a == addr {
			return net.HardwareAddr(arp.SourceHwAddress).String()
		}
	}
	if na, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement); ok {
		if a, _ := netip.AddrFromSlice(na.TargetAddress); a == addr && na.Flags&0x40 != 0 { // solicited
			for _, o := range na.Options {
				if o.Type == layers.ICMPv6OptTargetAddress {
					return net.HardwareAddr(o.Data).String()
				}
			}
		}
	}
	return ""
}

func as4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		b = a.As4()
	}
	return b
}

func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

func native64(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }
