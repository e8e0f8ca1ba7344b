// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Kind is the kind of a frame that a VRRP router sends.
type Kind int

// The kinds of frames.
const (
	KindOther Kind = iota
	KindAdvertisement
	KindGratuitousARP
	KindUnsolicitedNA
)

func (k Kind) String() string {
	return [...]string{"other", "advertisement", "gratuitous ARP", "unsolicited neighbour advertisement"}[k]
}

// Sent is the content of a well-formed frame.
type Sent struct {
	Kind      Kind
	Addresses []netip.Addr // advertised or announced

	// The other fields belong to an advertisement.
	Source   netip.Addr
	Version  int
	VRID     int
	Priority int
	Interval time.Duration
	Checksum string // "message", or "pseudo-header" over IPv4 in RFC 5798's form and over IPv6
}

// frame has the octets of a frame. It shares no code with failoverd's encoder, so it can judge
// that encoder.
type frame []byte

const (
	etherLen     = 14
	leastFrame   = 60 // without the checksum that the network interface adds
	vrrpProtocol = 112
)

// WellFormed checks every field of an advertisement, a gratuitous ARP or an unsolicited neighbour
// advertisement whose value the RFCs define. Other frames are KindOther and valid. The source MAC
// may be any unicast MAC, but the announced MAC must be the same.
func WellFormed(data []byte) (Sent, error) {
	f := frame(data)
	if len(f) < etherLen {
		return Sent{}, nil
	}
	var s Sent
	var err error
	switch body := f[etherLen:]; binary.BigEndian.Uint16(f[12:]) {
	case 0x0806:
		if len(body) < 28 || !bytes.Equal(body[14:18], body[24:28]) {
			return s, nil // a request or reply that announces nothing
		}
		if f[0]&1 == 0 && body[7] == 2 {
			return s, nil // the kernel's reply to the announcement of another host
		}
		s.Kind = KindGratuitousARP
		err = s.arp(f)
	case 0x0800:
		if len(body) < 20 || body[9] != vrrpProtocol {
			return s, nil
		}
		s.Kind = KindAdvertisement
		err = s.overIPv4(f)
	case 0x86dd:
		switch {
		case len(body) < 40:
			return s, nil
		case body[6] == vrrpProtocol:
			s.Kind = KindAdvertisement
			err = s.overIPv6(f)
		case body[6] == 58 && len(body) >= 48 && body[40] == 136 && body[44]&0x40 == 0:
			s.Kind = KindUnsolicitedNA
			err = s.neighbour(f)
		default:
			return s, nil
		}
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", s.Kind, err)
	}
	return s, nil
}

// expect returns an error if the octets of a field aren't the wanted ones.
func (f frame) expect(what string, at int, want ...byte) error {
	if got := f[at : at+len(want)]; !bytes.Equal(got, want) {
		return fmt.Errorf("%s is %x, not %x", what, []byte(got), want)
	}
	return nil
}

// source checks that the source MAC is a unicast MAC.
func (f frame) source() error {
	if f[6]&1 != 0 || bytes.Equal(f[6:12], make([]byte, 6)) {
		return fmt.Errorf("source MAC %x is no host's", []byte(f[6:12]))
	}
	return nil
}

// ends checks that the packet in the frame has the given length, without the Ethernet header.
// Short frames are padded with zeros.
func (f frame) ends(length int) error {
	end := etherLen + length
	if len(f) != end && len(f) != max(end, leastFrame) {
		return fmt.Errorf("frame has %d octets for a packet of %d", len(f), length)
	}
	for _, b := range f[end:] {
		if b != 0 {
			return errors.New("padding isn't zero")
		}
	}
	return nil
}

// internetSum returns the one's complement sum of RFC 1071. It is all ones if the parts include
// a valid checksum.
func internetSum(parts ...[]byte) uint16 {
	var sum uint32
	for _, p := range parts {
		for i, b := range p { // every part but the last has an even length
			if i%2 == 0 {
				sum += uint32(b) << 8
			} else {
				sum += uint32(b)
			}
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

func (s *Sent) overIPv4(f frame) error {
	ip := f[etherLen:]
	length := int(binary.BigEndian.Uint16(ip[2:]))
	if length < 28 || etherLen+length > len(f) {
		return fmt.Errorf("IP total length %d doesn't fit a frame of %d octets", length, len(f))
	}
	if err := errors.Join(
		f.expect("destination MAC", 0, 0x01, 0x00, 0x5e, 0x00, 0x00, 0x12),
		f.source(),
		f.ends(length),
		ip.expect("IP version and header length", 0, 0x45),
		ip.expect("TOS", 1, 0xc0),
		ip.expect("TTL", 8, 255),
		ip.expect("IP destination", 16, 224, 0, 0, 18),
	); err != nil {
		return err
	}
	if fragment := binary.BigEndian.Uint16(ip[6:]); fragment&^0x4000 != 0 {
		return fmt.Errorf("fragment field is %#04x", fragment)
	}
	if internetSum(ip[:20]) != 0xffff {
		return errors.New("IP header checksum is wrong")
	}
	s.Source = netip.AddrFrom4([4]byte(ip[12:]))
	if first := ip[12]; first == 0 || first == 127 || first >= 224 {
		return fmt.Errorf("source %s is no host's", s.Source)
	}
	message := ip[20:length]
	if err := s.message(message, 4); err != nil {
		return err
	}
	pseudo := append(bytes.Clone(ip[12:20]), 0, vrrpProtocol, byte(len(message)>>8), byte(len(message)))
	switch {
	case internetSum(message) == 0xffff:
		s.Checksum = "message"
	case s.Version == 3 && internetSum(pseudo, message) == 0xffff:
		s.Checksum = "pseudo-header"
	default:
		return errors.New("VRRP checksum is wrong in every form")
	}
	return nil
}

func (s *Sent) overIPv6(f frame) error {
	ip := f[etherLen:]
	length := int(binary.BigEndian.Uint16(ip[4:]))
	if length < 8 || etherLen+40+length > len(f) {
		return fmt.Errorf("IPv6 payload length %d doesn't fit a frame of %d octets", length, len(f))
	}
	if err := errors.Join(
		f.expect("destination MAC", 0, 0x33, 0x33, 0, 0, 0, 0x12),
		f.source(),
		f.ends(40+length),
		ip.expect("IP version, traffic class and flow label", 0, 0x6c, 0, 0, 0),
		ip.expect("hop limit", 7, 255),
		ip.expect("IP destination", 24, 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12),
	); err != nil {
		return err
	}
	s.Source = netip.AddrFrom16([16]byte(ip[8:]))
	if !linkLocal(ip[8:]) {
		return fmt.Errorf("source %s isn't link-local", s.Source)
	}
	message := ip[40 : 40+length]
	if err := s.message(message, 16); err != nil {
		return err
	}
	if s.Version != 3 {
		return fmt.Errorf("version %d over IPv6", s.Version)
	}
	if !linkLocal(message[8:]) {
		return fmt.Errorf("first address %s isn't link-local", s.Addresses[0])
	}
	if internetSum(pseudoIPv6(ip, vrrpProtocol, length), message) != 0xffff {
		return errors.New("VRRP checksum is wrong")
	}
	s.Checksum = "pseudo-header"
	return nil
}

// linkLocal reports whether an address is in fe80::/10.
func linkLocal(b []byte) bool { return b[0] == 0xfe && b[1]&0xc0 == 0x80 }

// pseudoIPv6 returns the pseudo-header of RFC 8200 §8.1.
func pseudoIPv6(ip []byte, protocol byte, length int) []byte {
	b := binary.BigEndian.AppendUint32(bytes.Clone(ip[8:40]), uint32(length))
	return append(b, 0, 0, 0, protocol)
}

// message decodes and checks an advertisement without its checksum (RFC 9568 §5.2, RFC 3768 §5.3
// in version 2). size is the length of an address.
func (s *Sent) message(m frame, size int) error {
	s.Version, s.VRID, s.Priority = int(m[0]>>4), int(m[1]), int(m[2])
	count := int(m[3])
	want := 8 + count*size
	switch {
	case m[0] != 0x21 && m[0] != 0x31:
		return fmt.Errorf("version and type are %#02x", m[0])
	case s.VRID == 0:
		return errors.New("VRID is 0")
	case count == 0:
		return errors.New("address count is 0")
	case s.Version == 2:
		want += 8
	}
	if len(m) != want {
		return fmt.Errorf("message has %d octets, but %d addresses make it %d", len(m), count, want)
	}
	if s.Version == 2 {
		s.Interval = time.Duration(m[5]) * time.Second
		if m[4] != 0 {
			return fmt.Errorf("authentication type is %d", m[4])
		}
		if !bytes.Equal(m[want-8:], make([]byte, 8)) {
			return fmt.Errorf("authentication data is %x without authentication", []byte(m[want-8:]))
		}
	} else {
		s.Interval = time.Duration(binary.BigEndian.Uint16(m[4:])&0xfff) * 10 * time.Millisecond
		if m[4]&0xf0 != 0 {
			return fmt.Errorf("reserved bits are %#x", m[4]>>4)
		}
	}
	if s.Interval == 0 {
		return errors.New("interval is 0")
	}
	s.Addresses = nil
	for n := range count {
		a, _ := netip.AddrFromSlice(m[8+n*size : 8+(n+1)*size])
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
			return fmt.Errorf("address %s is no host's", a)
		}
		s.Addresses = append(s.Addresses, a)
	}
	return nil
}

// arp checks the announcement of an IPv4 address: an ARP request whose sender and target are the
// same (RFC 9568 §6.4.1 with errata 7947 and 7949).
func (s *Sent) arp(f frame) error {
	arp := f[etherLen:]
	a := netip.AddrFrom4([4]byte(arp[14:]))
	s.Addresses = []netip.Addr{a}
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		return fmt.Errorf("address %s is no host's", a)
	}
	return errors.Join(
		f.expect("destination MAC", 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		f.source(),
		f.ends(28),
		arp.expect("hardware type", 0, 0, 1),
		arp.expect("protocol type", 2, 8, 0),
		arp.expect("address lengths", 4, 6, 4),
		arp.expect("operation", 6, 0, 1),
		arp.expect("sender hardware address", 8, f[6:12]...),
		arp.expect("target hardware address", 18, f[6:12]...),
	)
}

// neighbour checks the announcement of an IPv6 address: a neighbour advertisement to all nodes
// with the Router and Override flags and the target link-layer address (RFC 9568 §6.4.1, RFC
// 4861 §4.4).
func (s *Sent) neighbour(f frame) error {
	ip := f[etherLen:]
	const length = 32
	if err := ip.expect("IPv6 payload length", 4, 0, length); err != nil {
		return err
	}
	if len(f) < etherLen+40+length {
		return fmt.Errorf("frame has %d octets", len(f))
	}
	icmp := ip[40 : 40+length]
	a := netip.AddrFrom16([16]byte(icmp[8:]))
	s.Addresses = []netip.Addr{a}
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		return fmt.Errorf("address %s is no host's", a)
	}
	if err := errors.Join(
		f.expect("destination MAC", 0, 0x33, 0x33, 0, 0, 0, 1),
		f.source(),
		f.ends(40+length),
		ip.expect("IP version, traffic class and flow label", 0, 0x60, 0, 0, 0),
		ip.expect("hop limit", 7, 255),
		ip.expect("IP source", 8, icmp[8:24]...),
		ip.expect("IP destination", 24, 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
		icmp.expect("code", 1, 0),
		icmp.expect("flags and reserved bits", 4, 0xa0, 0, 0, 0),
		icmp.expect("option", 24, 2, 1),
		icmp.expect("target link-layer address", 26, f[6:12]...),
	); err != nil {
		return err
	}
	if internetSum(pseudoIPv6(ip, 58, length), icmp) != 0xffff {
		return errors.New("ICMPv6 checksum is wrong")
	}
	return nil
}
