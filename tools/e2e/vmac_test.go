// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	virtual4 = "198.18.0.10"
	virtual6 = "2001:db8::10"
)

var (
	bothFamilies = []string{"--iface", ifname, "--vip", virtual4 + "/24", "--vip", virtual6 + "/64", "--vrid", "51", "--interval", "200ms"}
	virtuals     = []string{virtual4, virtual6, "fe80::12:33"}
)

// macOf returns the MAC at which the router answers for a virtual address.
func (s *site) macOf(n *lab.Node, address string) string {
	if s.mode == "off" {
		return s.mac(n)
	}
	return virtualMAC(address)
}

// fromVirtual checks every frame that a router has sent for one of the virtual addresses: it comes
// from the virtual MAC, if the router has one, and names no other MAC.
func (s *site) fromVirtual(n *lab.Node) {
	s.t.Helper()
	checked := 0
	for _, f := range s.capture.Frames() {
		if f.From != n.Name {
			continue
		}
		address, named := speaksFor(f)
		if _, d, _, ok := f.Advertisement(); ok {
			address = d.Source.String()
			if named[0] != s.macOf(n, address) {
				s.t.Errorf("an advertisement comes from %s: %v", named[0], f)
			}
		}
		if !slices.Contains(virtuals, address) {
			continue
		}
		checked++
		for _, mac := range named {
			if mac != s.macOf(n, address) {
				s.t.Errorf("a frame names %s for %s: %v", mac, address, f)
			}
		}
		if _, err := lab.WellFormed(f.Data); err != nil {
			s.t.Errorf("%v: %v", f, err)
		}
		if f.Data[12] == 0x86 && f.Data[20] == 58 && !goodICMPv6(f) {
			s.t.Errorf("wrong checksum: %v: %x", f, f.Data)
		}
	}
	if checked == 0 {
		s.t.Errorf("%s has sent nothing for its virtual addresses", n.Name)
	}
}

// speaksFor returns the address that a frame comes from or is about, and the MACs that it names
// for the address.
func speaksFor(f lab.Frame) (address string, macs []string) {
	p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy)
	eth, ok := p.LinkLayer().(*layers.Ethernet)
	if !ok {
		return "", nil
	}
	macs = []string{eth.SrcMAC.String()}
	if arp := arpOf(f); arp != nil {
		return net.IP(arp.SourceProtAddress).String(), append(macs, net.HardwareAddr(arp.SourceHwAddress).String())
	}
	if ip, ok := p.NetworkLayer().(*layers.IPv4); ok {
		return ip.SrcIP.String(), macs
	}
	ip, ok := p.NetworkLayer().(*layers.IPv6)
	if !ok {
		return "", nil
	}
	address = ip.SrcIP.String()
	var options layers.ICMPv6Options
	switch m := p.Layers()[len(p.Layers())-1].(type) {
	case *layers.ICMPv6NeighborAdvertisement:
		address, options = m.TargetAddress.String(), m.Options
	case *layers.ICMPv6NeighborSolicitation:
		options = m.Options
	case *layers.ICMPv6RouterAdvertisement:
		options = m.Options
	}
	for _, o := range options {
		if o.Type == layers.ICMPv6OptSourceAddress || o.Type == layers.ICMPv6OptTargetAddress {
			macs = append(macs, net.HardwareAddr(o.Data).String())
		}
	}
	return address, macs
}

// An Active answers for its addresses from the virtual MAC, to each kind of question: broadcast,
// unicast, and a probe for duplicates.
func TestActiveAnswersFromVirtualMAC(t *testing.T) {
	t.Attr("proves", "P-08 D-07 D-08 D-10 D-11 D-12 D-16 D-22 D-23 D-24 D-25 K-18")
	inModes(t, (*site).activeAnswers)
}

func (s *site) activeAnswers() {
	t := s.t
	d := s.host("d", 101)
	a := s.failoverd(s.a, append(bothFamilies, "--announce-again", "1s")...)
	for _, address := range virtuals {
		s.waitHolder(address, s.a)
	}
	line, err := s.a.Run(s.ctx, "bridge", "fdb", "show", "dev", ifname)
	s.ok(err)
	for _, mac := range virtualMACs {
		if strings.Contains(line, mac) != (s.mode != "off") {
			t.Errorf("the NIC's filter for %s is not as expected:\n%s", mac, line)
		}
	}
	for _, client := range []*lab.Node{s.c, d} {
		for _, address := range virtuals {
			s.answers(client, address, broadcastQuestion)
			s.answers(client, address, unicastQuestion)
			s.answers(client, address, probe)
		}
	}
	// A question of the host itself from a virtual address names the virtual MAC.
	for n, from := range []string{virtual4, virtual6} {
		at := len(s.capture.Frames())
		to := []string{"198.18.0.101", "2001:db8::65"}[n]
		// The host may know the MAC already, because it was asked before.
		_, err := s.a.Run(s.ctx, "ip", "neigh", "flush", "to", to, "dev", ifname)
		s.ok(err)
		s.sendFrom(s.a, from, to)
		_, err = s.capture.Wait(s.ctx, at, func(f lab.Frame) bool {
			p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy)
			return f.From == s.a.Name && p.Layer(layers.LayerTypeUDP) != nil
		})
		s.ok(err)
		asks := func(f lab.Frame) bool {
			address, _ := speaksFor(f)
			p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy)
			arp := arpOf(f)
			if s.mode == "macvlan" {
				address = from // the interface asks, from its own address
			}
			return f.From == s.a.Name && address == from && (arp != nil && arp.Operation == layers.ARPRequest && net.IP(arp.DstProtAddress).String() == to ||
				p.Layer(layers.LayerTypeICMPv6NeighborSolicitation) != nil)
		}
		if !slices.ContainsFunc(s.capture.Frames()[at:], asks) {
			t.Errorf("it did not ask for %s from %s", to, from)
		}
	}
	// It announces twice: when it becomes Active, and again later.
	for _, address := range virtuals {
		first, err := s.capture.Wait(s.ctx, 0, func(f lab.Frame) bool { return f.From == s.a.Name && f.Announces(address, s.macOf(s.a, address)) })
		s.ok(err)
		_, err = s.capture.Wait(s.ctx, first+1, func(f lab.Frame) bool { return f.From == s.a.Name && f.Announces(address, s.macOf(s.a, address)) })
		s.ok(err)
	}
	s.fromVirtual(s.a)
	// Its own addresses are still at its own MAC.
	own := s.mac(s.a)
	for _, address := range []string{"198.18.0.1", "2001:db8::1"} {
		got, err := s.c.WhoHas(ifname, netip.MustParseAddr(address), 300*time.Millisecond)
		s.ok(err)
		if !slices.Equal(got, []string{own}) {
			t.Errorf("%v answer for %s, want %s", got, address, own)
		}
	}
	s.stop(s.a, a)
	line, err = s.a.Run(s.ctx, "bridge", "fdb", "show", "dev", ifname)
	s.ok(err)
	for _, mac := range virtualMACs {
		if strings.Contains(line, mac) {
			t.Errorf("the NIC still filters for %s:\n%s", mac, line)
		}
	}
}

// question is a way to ask for an address.
type question int

const (
	broadcastQuestion question = iota
	unicastQuestion            // to the virtual MAC, as a host that renews its entry asks
	probe                      // by a host that wants the address (RFC 5227, RFC 4862)
)

// answers asks for an address and checks the answer.
func (s *site) answers(client *lab.Node, address string, q question) {
	s.t.Helper()
	who, err := net.ParseMAC(s.mac(client))
	s.ok(err)
	answer := func(f lab.Frame) bool {
		about, _ := speaksFor(f)
		arp := arpOf(f)
		if _, ok := advertised(f); !ok && arp == nil {
			return false // the host sends other frames from such an address, for example about its groups
		}
		return f.From == s.a.Name && about == address && !f.Announces(address, s.macOf(s.a, address)) || // an answer
			f.From == s.a.Name && q == probe && arp == nil && about == address // to all nodes
	}
	n := 0
	for err = context.DeadlineExceeded; err != nil && s.ctx.Err() == nil; {
		at := len(s.capture.Frames())
		s.inject(client, s.question(who, address, q))
		// The kernel shows a new IPv6 address before it has joined its multicast group.
		ctx, cancel := context.WithTimeout(s.ctx, 2*time.Second)
		n, err = s.capture.Wait(ctx, at, answer)
		cancel()
	}
	if err != nil {
		s.t.Fatalf("%s got no answer for %s, question %d: %v", client.Name, address, q, err)
	}
	f := s.capture.Frames()[n]
	// A host that asks by unicast knows the MAC, so the answer for an IPv6 address needn't have
	// it.
	_, macs := speaksFor(f)
	renews := q == unicastQuestion && arpOf(f) == nil
	if !renews && len(macs) < 2 || slices.ContainsFunc(macs, func(mac string) bool { return mac != s.macOf(s.a, address) }) {
		s.t.Errorf("the answer for %s names %v: %v", address, macs, f)
	}
	na, ok := advertised(f)
	if !ok {
		return
	}
	want := map[question]uint8{broadcastQuestion: 0xe0, unicastQuestion: 0xc0, probe: 0xa0}[q] // Router, Solicited, Override
	if na.Flags != want {
		s.t.Errorf("flags %#x, want %#x: %v", na.Flags, want, f)
	}
}

// advertised returns the neighbour advertisement in a frame.
func advertised(f lab.Frame) (na *layers.ICMPv6NeighborAdvertisement, ok bool) {
	p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy)
	na, ok = p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
	return na, ok
}

// question returns a frame that asks for an address.
func (s *site) question(who net.HardwareAddr, about string, q question) []byte {
	s.t.Helper()
	address := netip.MustParseAddr(about)
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	to, err := net.ParseMAC(s.macOf(s.a, about))
	s.ok(err)
	eth := &layers.Ethernet{SrcMAC: who, DstMAC: to, EthernetType: layers.EthernetTypeARP}
	if address.Is4() {
		from := []byte{198, 18, 0, who[5]}
		if q == probe {
			from = make([]byte, 4)
		}
		if q != unicastQuestion {
			eth.DstMAC = layers.EthernetBroadcast
		}
		err = gopacket.SerializeLayers(buffer, options, eth, &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: layers.ARPRequest, SourceHwAddress: who, SourceProtAddress: from,
			DstHwAddress: make([]byte, 6), DstProtAddress: address.AsSlice(),
		})
	} else {
		b := address.As16()
		eth.EthernetType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP("fe80::77"), DstIP: b[:]}
		ns := &layers.ICMPv6NeighborSolicitation{TargetAddress: b[:], Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: who}}}
		if q != unicastQuestion {
			ip.DstIP = net.IP{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, b[13], b[14], b[15]}
			eth.DstMAC = net.HardwareAddr{0x33, 0x33, 0xff, b[13], b[14], b[15]}
		}
		if q == probe {
			ip.SrcIP, ns.Options = net.IPv6zero, nil
		}
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
		s.ok(icmp.SetNetworkLayerForChecksum(ip))
		err = gopacket.SerializeLayers(buffer, options, eth, ip, icmp, ns)
	}
	s.ok(err)
	return buffer.Bytes()
}

// sendFrom sends a UDP datagram from one of a node's addresses.
func (s *site) sendFrom(n *lab.Node, from, to string) {
	s.t.Helper()
	s.ok(n.Do(func() error {
		conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP(to), Port: 9})
		if err != nil {
			return err
		}
		_, err = conn.Write([]byte("x"))
		_ = conn.Close() // the datagram was sent
		return err
	}))
}

// A router advertisement of another program, from the virtual link-local address, leaves with the
// virtual MAC. From a Backup it doesn't leave.
func TestRouterAdvertisementOfAnother(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.failoverd(s.a, append(bothFamilies, "--priority", "200")...)
	s.waitHolder("fe80::12:33", s.a)
	b := s.failoverd(s.b, bothFamilies...)
	s.waitState(b, 0, "ipv6", "Backup")
	advertise := func(n *lab.Node, lifetime uint16) {
		t.Helper()
		own, err := net.ParseMAC(s.mac(n))
		s.ok(err)
		from, all := net.ParseIP("fe80::12:33"), net.ParseIP("ff02::1")
		ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: from, DstIP: all}
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeRouterAdvertisement, 0)}
		s.ok(icmp.SetNetworkLayerForChecksum(ip))
		b := gopacket.NewSerializeBuffer()
		s.ok(gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
			&layers.Ethernet{SrcMAC: own, DstMAC: net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, EthernetType: layers.EthernetTypeIPv6}, ip, icmp,
			&layers.ICMPv6RouterAdvertisement{RouterLifetime: lifetime, Options: layers.ICMPv6Options{
				{Type: layers.ICMPv6OptMTU, Data: []byte{0, 0, 0, 0, 5, 220}},
				{Type: layers.ICMPv6OptSourceAddress, Data: own},
			}}))
		_ = s.tryInject(n, b.Bytes()) // it fails where the frame is dropped
	}
	advertise(s.b, 1)
	advertise(s.a, 2)
	n, err := s.capture.Wait(s.ctx, 0, func(f lab.Frame) bool { return routerLifetime(f) == 2 })
	s.ok(err)
	f := s.capture.Frames()[n]
	if _, macs := speaksFor(f); !slices.Equal(macs, []string{virtualMACs[1], virtualMACs[1]}) {
		t.Errorf("the router advertisement names %v", macs)
	}
	if !goodICMPv6(f) {
		t.Errorf("its checksum is wrong: %x", f.Data)
	}
	for _, f := range s.capture.Frames() {
		if routerLifetime(f) == 1 {
			t.Errorf("a router advertisement left a Backup: %v", f)
		}
	}
	s.stop(s.b, b)
	s.stop(s.a, a)
}

func routerLifetime(f lab.Frame) uint16 {
	ra, ok := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy).Layer(layers.LayerTypeICMPv6RouterAdvertisement).(*layers.ICMPv6RouterAdvertisement)
	if !ok {
		return 0
	}
	return ra.RouterLifetime
}

// goodICMPv6 reports whether the checksum of an ICMPv6 message right behind the IPv6 header is
// good (RFC 4443 §2.3).
func goodICMPv6(f lab.Frame) bool {
	ip := f.Data[14:]
	message := ip[40:][:int(ip[4])<<8|int(ip[5])]
	sum := uint32(len(message)) + 58
	for _, part := range [][]byte{ip[8:40], message} {
		for i, b := range part {
			sum += uint32(b) << (8 * (1 - i%2))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return sum == 0xffff
}

// Only the Active forwards packets to the virtual MAC, even if the Backup receives them too.
func TestRoutesForVirtualMAC(t *testing.T) {
	t.Attr("proves", "D-05 D-13 D-18")
	t.Parallel()
	for _, mode := range []string{"bpf", "macvlan"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.inMode(mode)
			s.routes()
		})
	}
}

func (s *site) routes() {
	t := s.t
	beyond, err := s.lab.LAN("beyond")
	s.ok(err)
	for n, node := range []*lab.Node{s.a, s.b} {
		_, err := beyond.Connect(node, "eth1", fmt.Sprintf("192.0.2.%d/24", n+1), fmt.Sprintf("2001:db8:1::%d/64", n+1), fmt.Sprintf("fe80::1:%d/64", n+1))
		s.ok(err)
		for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
			s.ok(node.Sysctl(key, "1"))
		}
	}
	far, err := s.lab.Node("far")
	s.ok(err)
	_, err = beyond.Connect(far, "eth0", "192.0.2.100/24", "2001:db8:1::100/64")
	s.ok(err)
	seen, err := beyond.Capture()
	s.ok(err)
	t.Cleanup(func() { _ = seen.Close() })

	a := s.failoverd(s.a, append(bothFamilies, "--priority", "200")...)
	s.waitHolder(virtual6, s.a)
	s.waitHolder(virtual4, s.a)
	b := s.failoverd(s.b, bothFamilies...)
	line := max(s.waitState(b, 0, "ipv4", "Backup"), s.waitState(b, 0, "ipv6", "Backup"))

	through := func(id uint16) [][]byte {
		return [][]byte{
			echo(t, s.mac(s.c), virtualMACs[0], "198.18.0.100", "192.0.2.100", id),
			echo(t, s.mac(s.c), virtualMACs[1], "2001:db8::64", "2001:db8:1::100", id+1),
		}
	}
	// forwards sends pings until one is forwarded, because the addresses may be there a moment
	// before the lease.
	forwards := func(by *lab.Node, id uint16) {
		t.Helper()
		for i := range uint16(2) {
			for there := false; !there; {
				s.ok(s.ports[by].Deliver(through(id)...))
				soon, cancel := context.WithTimeout(s.ctx, 200*time.Millisecond)
				_, err := seen.Wait(soon, 0, func(f lab.Frame) bool { return f.From == by.Name && asks(f.Data) == id+i })
				cancel()
				if there = err == nil; !there && s.ctx.Err() != nil {
					t.Fatalf("%s did not forward ping %d: %v; frames on the other side: %v", by.Name, id+i, err, seen.Frames())
				}
			}
		}
	}
	s.ok(s.ports[s.b].Deliver(through(1)...))
	forwards(s.a, 3)
	// To a neighbour of the client: a host would get a redirect.
	s.ok(s.ports[s.a].Deliver(
		echo(t, s.mac(s.c), virtualMACs[0], "198.18.0.100", "198.18.0.2", 20),
		echo(t, s.mac(s.c), virtualMACs[1], "2001:db8::64", "2001:db8::2", 21),
	))
	for id := uint16(20); id <= 21; id++ {
		_, err := s.capture.Wait(s.ctx, 0, func(f lab.Frame) bool { return f.From == s.a.Name && asks(f.Data) == id })
		s.ok(err)
	}
	s.stop(s.a, a)
	s.waitState(b, line, "ipv4", "Active")
	s.waitState(b, line, "ipv6", "Active")
	s.waitHolder(virtual6, s.b)
	forwards(s.b, 5)
	for _, f := range seen.Frames() {
		if id := asks(f.Data); f.From == s.b.Name && (id == 1 || id == 2) {
			t.Errorf("the Backup forwarded: %v", f)
		}
	}
	for _, f := range s.capture.Frames() {
		if redirect(f) {
			t.Errorf("a redirect: %v", f)
		}
	}
	s.stop(s.b, b)
	// Without failoverd the host would send it, so the test can see it.
	at := len(s.capture.Frames())
	s.ok(s.ports[s.a].Deliver(echo(t, s.mac(s.c), s.mac(s.a), "198.18.0.100", "198.18.0.2", 22)))
	if _, err := s.capture.Wait(s.ctx, at, redirect); err != nil {
		t.Errorf("no redirect without failoverd: %v", err)
	}
}

func redirect(f lab.Frame) bool {
	p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy)
	icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	return ok && icmp.TypeCode.Type() == layers.ICMPv4TypeRedirect || p.Layer(layers.LayerTypeICMPv6Redirect) != nil
}

// asks returns the number of the ping in a frame, or 0.
func asks(frame []byte) uint16 {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	if icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok && icmp.TypeCode.Type() == layers.ICMPv4TypeEchoRequest {
		return icmp.Id
	}
	if m, ok := p.Layer(layers.LayerTypeICMPv6Echo).(*layers.ICMPv6Echo); ok {
		if icmp, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok && icmp.TypeCode.Type() == layers.ICMPv6TypeEchoRequest {
			return m.Identifier
		}
	}
	return 0
}

// Without Accept_Mode the router answers ARP and neighbour discovery for the addresses, but no
// pings. An owner answers pings too.
func TestAcceptMode(t *testing.T) {
	t.Attr("proves", "D-14 D-15")
	inModes(t, (*site).acceptMode)
}

func (s *site) acceptMode() {
	t := s.t
	a := s.failoverd(s.a, append(bothFamilies, "--accept=false")...)
	pings := func(router *lab.Node, id uint16) {
		s.ok(s.ports[router].Deliver(
			echo(t, s.mac(s.c), s.macOf(router, virtual4), "198.18.0.100", virtual4, id),
			echo(t, s.mac(s.c), s.macOf(router, virtual6), "2001:db8::64", virtual6, id+1),
			echo(t, s.mac(s.c), s.macOf(router, virtual4), "198.18.0.100", "198.18.0.1", id+2),
			echo(t, s.mac(s.c), s.macOf(router, virtual6), "2001:db8::64", "2001:db8::1", id+3),
		))
	}
	replied := func(id uint16) error {
		_, err := s.capture.Wait(s.ctx, 0, func(f lab.Frame) bool { return repliesTo(f.Data) == id })
		return err
	}
	for _, address := range virtuals {
		s.waitHolder(address, s.a)
		s.answers(s.c, address, broadcastQuestion)
		s.answers(s.c, address, unicastQuestion)
		s.answers(s.c, address, probe)
	}
	pings(s.a, 1)
	for id := uint16(3); id <= 4; id++ {
		s.ok(replied(id)) // its own addresses answer
	}
	for _, f := range s.capture.Frames() {
		if id := repliesTo(f.Data); id == 1 || id == 2 {
			t.Errorf("a virtual address answered: %v", f)
		}
		if id := asks(f.Data); f.From == s.a.Name && (id == 1 || id == 2) {
			t.Errorf("a packet to a virtual address was forwarded: %v", f)
		}
	}
	s.stop(s.a, a)
	if s.mode == "macvlan" {
		return // an owner has its addresses on the interface
	}

	for _, address := range []string{virtual4 + "/24", virtual6 + "/64"} {
		s.ok(s.a.AddAddress(ifname, address))
	}
	a = s.failoverd(s.a, append(bothFamilies, "--accept=false", "--priority", "255", "--vip", "fe80::1/64")...)
	line := s.waitState(a, 0, "ipv4", "Active")
	_ = max(line, s.waitState(a, 0, "ipv6", "Active"))
	s.answers(s.c, virtual4, broadcastQuestion)
	pings(s.a, 11)
	for id := uint16(11); id <= 14; id++ {
		s.ok(replied(id))
	}
	code, err := a.Stop(s.ctx)
	s.ok(err)
	if code != 0 {
		t.Errorf("exit code %d:\n%s", code, a.Output())
	}
	for _, address := range []string{virtual4 + "/24", virtual6 + "/64"} {
		s.ok(s.a.RemoveAddress(ifname, address)) // it is still there
	}
	s.clean(s.a)
}

// A client that never renews its neighbour entry still gets answers after the address moved,
// because the virtual MAC moves too, even if no announcement reaches the client.
func TestUnrefreshedClient(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, n := range []*lab.Node{s.a, s.b} {
		mute, err := n.Mute(ifname)
		s.ok(err)
		t.Cleanup(func() { _ = mute.Close() })
	}
	a := s.failoverd(s.a, append(bothFamilies, "--priority", "200")...)
	for _, address := range virtuals {
		s.waitHolder(address, s.a)
	}
	b := s.failoverd(s.b, bothFamilies...)
	line := max(s.waitState(b, 0, "ipv4", "Backup"), s.waitState(b, 0, "ipv6", "Backup"))
	for n, address := range []string{virtual4, virtual6} {
		_, err := s.c.Run(s.ctx, "ip", "neigh", "replace", address, "lladdr", virtualMACs[n], "dev", ifname, "nud", "permanent")
		s.ok(err)
	}
	for _, n := range []*lab.Node{s.a, s.b} {
		// It can't ask for the client's MAC.
		_, err := n.Run(s.ctx, "ip", "neigh", "replace", "198.18.0.100", "lladdr", s.mac(s.c), "dev", ifname, "nud", "permanent")
		s.ok(err)
		stop, err := n.EchoUDP(7777)
		s.ok(err)
		t.Cleanup(func() { _ = stop.Close() })
	}
	var talks []*lab.Talk
	for _, address := range []string{virtual4, virtual6} {
		talk, err := s.c.TalkUDP(netip.AddrPortFrom(netip.MustParseAddr(address), 7777), time.Millisecond)
		s.ok(err)
		t.Cleanup(func() { _ = talk.Close() })
		s.ok(talk.WaitReply(s.ctx, time.Now()))
		talks = append(talks, talk)
	}
	down := time.Now()
	s.ok(s.ports[s.a].Pull())
	s.waitState(b, line, "ipv4", "Active")
	s.waitState(b, line, "ipv6", "Active")
	for n, talk := range talks {
		s.ok(talk.WaitReply(s.ctx, time.Now()))
		t.Logf("%s: %v without a reply after the link went down", []string{virtual4, virtual6}[n], talk.Outage(down))
	}
	for _, f := range s.capture.Frames() {
		for _, address := range virtuals {
			if f.Announces(address, s.macOf(s.a, address)) {
				t.Errorf("an announcement reached the switch: %v", f)
			}
		}
	}
	s.stop(s.b, b)
	s.stop(s.a, a)
}
