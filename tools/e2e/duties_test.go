// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/failoverd/failoverd/pkg/transmit"
	"github.com/failoverd/failoverd/tools/lab"
)

// The virtual MACs of VRID 51 (RFC 9568 §7.3).
var virtualMACs = []string{"00:00:5e:00:01:33", "00:00:5e:00:02:33"}

// virtualMAC returns the virtual MAC for the family of an address.
func virtualMAC(address string) string {
	if strings.Contains(address, ":") {
		return virtualMACs[1]
	}
	return virtualMACs[0]
}

// inject sends frames from a node unchanged.
func (s *site) inject(n *lab.Node, frames ...[]byte) {
	s.t.Helper()
	s.ok(s.tryInject(n, frames...))
}

func (s *site) tryInject(n *lab.Node, frames ...[]byte) error {
	s.t.Helper()
	l, err := n.Netlink().LinkByName(ifname)
	s.ok(err)
	return n.Do(func() error { return transmit.Send(l.Attrs().Index, frames...) })
}

func (s *site) mac(n *lab.Node) string {
	s.t.Helper()
	mac, err := n.MAC(ifname)
	s.ok(err)
	return mac
}

// echo returns a frame with an echo request, with the given link-layer addresses.
func echo(t *testing.T, fromMAC, toMAC, from, to string, id uint16) []byte {
	t.Helper()
	parse := func(s string) net.HardwareAddr {
		mac, err := net.ParseMAC(s)
		if err != nil {
			t.Fatal(err)
		}
		return mac
	}
	eth := &layers.Ethernet{SrcMAC: parse(fromMAC), DstMAC: parse(toMAC)}
	var stack []gopacket.SerializableLayer
	if netip.MustParseAddr(to).Is4() {
		eth.EthernetType = layers.EthernetTypeIPv4
		stack = []gopacket.SerializableLayer{
			eth,
			&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: net.ParseIP(from), DstIP: net.ParseIP(to)},
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: id, Seq: 1},
		}
	} else {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP(from), DstIP: net.ParseIP(to)}
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
		if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		stack = []gopacket.SerializableLayer{eth, ip, icmp, &layers.ICMPv6Echo{Identifier: id, SeqNumber: 1}}
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// repliesTo returns the id of the echo request that the frame replies to, or 0.
func repliesTo(frame []byte) uint16 {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	if icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok && icmp.TypeCode.Type() == layers.ICMPv4TypeEchoReply {
		return icmp.Id
	}
	if icmp, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok && icmp.TypeCode.Type() == layers.ICMPv6TypeEchoReply {
		if e, ok := p.Layer(layers.LayerTypeICMPv6Echo).(*layers.ICMPv6Echo); ok {
			return e.Identifier
		}
	}
	return 0
}

// RFC 9568 §6.4.2: a Backup doesn't answer for the addresses. It accepts no packet to them and
// none to the virtual MAC, doesn't advertise itself as an IPv6 router, and sends nothing from the
// virtual MAC for a minute.
func TestBackupIsSilent(t *testing.T) {
	t.Attr("proves", "D-01 D-02 D-03 D-04 D-05 D-06 Q-07")
	inModes(t, (*site).backupIsSilent)
}

func (s *site) backupIsSilent() {
	t := s.t
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	s.ctx = ctx
	start := time.Now()
	args := []string{"--iface", ifname, "--vip", "198.18.0.10/24", "--vip", "2001:db8::10/64", "--vrid", "51"}
	a := s.failoverd(s.a, append(args, "--priority", "200")...)
	s.waitHolder("2001:db8::10", s.a)
	b := s.failoverd(s.b, append(args, "--priority", "100")...)
	s.waitState(b, 0, "ipv4", "Backup")
	s.waitState(b, 0, "ipv6", "Backup")
	s.answeredBy("198.18.0.10", s.a)
	s.answeredBy("2001:db8::10", s.a)

	client, backup := s.mac(s.c), s.mac(s.b)
	s.inject(s.c,
		echo(t, client, backup, "198.18.0.100", "198.18.0.10", 1), // to a virtual address
		echo(t, client, backup, "2001:db8::64", "2001:db8::10", 2),
		echo(t, client, virtualMACs[0], "198.18.0.100", "198.18.0.2", 3), // to the virtual MAC
		echo(t, client, virtualMACs[1], "2001:db8::64", "2001:db8::2", 4),
		echo(t, client, backup, "198.18.0.100", "198.18.0.2", 5), // to its own address
		echo(t, client, backup, "2001:db8::64", "2001:db8::2", 6),
	)
	for id := uint16(5); id <= 6; id++ {
		if _, err := s.capture.Wait(s.ctx, 0, func(f lab.Frame) bool { return f.From == s.b.Name && repliesTo(f.Data) == id }); err != nil {
			t.Fatalf("no answer from its own addresses: %v", err)
		}
	}
	time.Sleep(time.Until(start.Add(time.Minute)))
	if len(b.Transitions()) != 2 {
		t.Errorf("it did not stay Backup:\n%s", b.Output())
	}
	for _, f := range s.capture.Frames() {
		if f.From != s.b.Name {
			continue
		}
		p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy)
		switch eth := p.LinkLayer().(*layers.Ethernet); {
		case eth.SrcMAC.String() == virtualMACs[0], eth.SrcMAC.String() == virtualMACs[1]:
			t.Errorf("a frame from the virtual MAC: %v", f)
		case repliesTo(f.Data) > 0 && repliesTo(f.Data) < 5:
			t.Errorf("it answered ping %d: %v", repliesTo(f.Data), f)
		case p.Layer(layers.LayerTypeICMPv6RouterAdvertisement) != nil:
			t.Errorf("a router advertisement: %v", f)
		}
		if _, _, _, ok := f.Advertisement(); ok {
			t.Errorf("an advertisement: %v", f)
		}
	}
	s.stop(s.b, b)
	s.stop(s.a, a)
}

// D-21, D-22: failoverd doesn't probe for virtual addresses, and the kernel doesn't check them for
// duplicates. A host that probes for one is told that it is taken.
func TestConflictDetection(t *testing.T) {
	t.Attr("proves", "D-21 D-22")
	t.Parallel()
	s := newSite(t)
	a := s.failoverd(s.a, "--iface", ifname, "--vip", "198.18.0.10/24", "--vip", "2001:db8::10/64", "--interval", "100ms")
	s.waitHolder("198.18.0.10", s.a)
	s.waitHolder("2001:db8::10", s.a)
	out, err := s.a.Run(s.ctx, "ip", "-6", "-o", "addr", "show", "dev", ifname)
	s.ok(err)
	for line := range strings.Lines(out) {
		if strings.Contains(line, "2001:db8::10/") && (!strings.Contains(line, "nodad") || strings.Contains(line, "tentative")) {
			t.Errorf("duplicate address detection is on: %s", line)
		}
	}

	who, err := net.ParseMAC(s.mac(s.c))
	s.ok(err)
	probe := gopacket.NewSerializeBuffer()
	s.ok(gopacket.SerializeLayers(probe, gopacket.SerializeOptions{FixLengths: true},
		&layers.Ethernet{SrcMAC: who, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: layers.ARPRequest, SourceHwAddress: who, SourceProtAddress: net.IPv4zero.To4(),
			DstHwAddress: make([]byte, 6), DstProtAddress: net.IPv4(198, 18, 0, 10).To4(),
		}))
	s.inject(s.c, probe.Bytes())
	if _, err := s.capture.Wait(s.ctx, 0, func(f lab.Frame) bool {
		arp := arpOf(f)
		return f.From == s.a.Name && arp != nil && arp.Operation == layers.ARPReply && net.IP(arp.SourceProtAddress).String() == "198.18.0.10"
	}); err != nil {
		t.Errorf("the probe was not answered: %v", err)
	}
	taken := false
	for _, f := range s.capture.Frames() {
		// Before it adds the addresses it asks for their owner, but doesn't wait for an answer.
		_, _, _, advertises := f.Advertisement()
		if taken = taken || advertises && f.From == s.a.Name; !taken {
			continue
		}
		arp := arpOf(f)
		if f.From == s.a.Name && arp != nil && net.IP(arp.SourceProtAddress).Equal(net.IPv4zero) {
			t.Errorf("it probed: %v", f)
		}
		ns, ok := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy).Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation)
		if ok && f.From == s.a.Name && ns.TargetAddress.String() == "2001:db8::10" {
			t.Errorf("it solicited its own address: %v", f)
		}
	}
	s.stop(s.a, a)
}

func arpOf(f lab.Frame) *layers.ARP {
	arp, _ := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy).Layer(layers.LayerTypeARP).(*layers.ARP)
	return arp
}
