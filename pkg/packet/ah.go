// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"
	"hash"
)

// ProtocolAH is the IP protocol number of the Authentication Header.
const ProtocolAH = 51

// AuthenticationHeaderLen is the length of an Authentication Header, in octets.
const AuthenticationHeaderLen = ahLen

const (
	// ahLen is the length of a header with HMAC-MD5-96 (RFC 2403). ahWords is the
	// value of its length field: the number of 32-bit words minus two (RFC 2402 §2.2).
	ahLen   = 24
	ahWords = ahLen/4 - 2
	ahMAC   = 12 // the offset of the digest
)

// isAH reports whether the payload of an IPv4 datagram begins with an Authentication
// Header of VRRP, with VRRP as the next header.
func isAH(payload []byte) bool {
	return len(payload) >= ahLen && payload[0] == ProtocolVRRP && payload[1] == ahWords
}

// HeaderSequence returns the sequence number in the Authentication Header. It returns
// false if the datagram has none.
func (d *Datagram) HeaderSequence() (sequence uint32, ok bool) {
	if len(d.Header) != ahLen {
		return 0, false
	}
	return binary.BigEndian.Uint32(d.Header[8:]), true
}

// HeaderKey computes and verifies the digests of Authentication Headers of version 2
// (RFC 2338 §5.3.6.3). It is compatible with keepalived: the SPI is the source
// address, and the digest covers the TTL of datagrams to the group, although the TTL
// is mutable in RFC 2402. It must not be used concurrently. After the first use it
// doesn't allocate.
type HeaderKey struct {
	mac   hash.Hash
	ip    [ipv4Len]byte
	zeros [ahLen - ahMAC]byte
	sum   [md5.Size]byte
}

// NewHeaderKey returns the HeaderKey for a password, which is padded with zeros or cut
// to eight octets.
func NewHeaderKey(password []byte) *HeaderKey {
	return &HeaderKey{mac: hmac.New(md5.New, headerKey(password))}
}

// NewHeaderStates returns the states of the HMAC for a password, in the first four
// words of each. They are as secret as the password.
func NewHeaderStates(password []byte) HMACStates { return newStates(md5.New, headerKey(password)) }

func headerKey(password []byte) []byte {
	var key [8]byte
	copy(key[:], password)
	return key[:]
}

// digest returns the digest of the IP header in k.ip without its mutable fields, the
// Authentication Header without the digest, and the message.
func (k *HeaderKey) digest(header, message []byte) []byte {
	ip := k.ip[:]
	ip[1], ip[6], ip[7], ip[10], ip[11] = 0, 0, 0, 0, 0 // TOS, fragment, checksum
	if ip[16]&0xf0 != 0xe0 {
		ip[8] = 0
	}
	k.mac.Reset()
	k.mac.Write(ip)
	k.mac.Write(header[:ahMAC])
	k.mac.Write(k.zeros[:])
	k.mac.Write(message)
	return k.mac.Sum(k.sum[:0])[:ahLen-ahMAC]
}

// Verify reports whether the digest in a datagram's Authentication Header is
// right and its SPI is the source.
func (k *HeaderKey) Verify(d *Datagram) bool {
	if len(d.Header) != ahLen || !d.Source.Is4() || !d.Destination.Is4() {
		return false
	}
	source, destination := d.Source.As4(), d.Destination.As4()
	k.ip = [ipv4Len]byte{0: 0x45, 8: d.TTL, 9: ProtocolAH}
	binary.BigEndian.PutUint16(k.ip[2:], uint16(ipv4Len+ahLen+len(d.Message)))
	binary.BigEndian.PutUint16(k.ip[4:], d.Identification)
	copy(k.ip[12:], source[:])
	copy(k.ip[16:], destination[:])
	return hmac.Equal(k.digest(d.Header, d.Message), d.Header[ahMAC:]) && [4]byte(d.Header[4:]) == source
}

// WithHeader returns a copy of an IPv4 datagram with an unsigned Authentication Header
// in front of VRRP. It leaves out octets behind the datagram, such as the padding of a
// frame. Sign has to be called before the datagram is sent.
func WithHeader(datagram []byte) []byte {
	ip, message := split(datagram)
	d := make([]byte, ipv4Len+ahLen+len(message))
	copy(d, ip)
	d[5] = 1 // the kernel would replace an identification of 0, which the digest covers
	d[9] = ProtocolAH
	header := d[ipv4Len:]
	header[0], header[1] = ProtocolVRRP, ahWords
	copy(header[4:], ip[12:16])
	copy(header[ahLen:], message)
	setAuthType(header[ahLen:], 2)
	setLength(d)
	return d
}

// Sign writes a sequence number and the digest into a datagram of WithHeader. It
// doesn't allocate.
func (k *HeaderKey) Sign(datagram []byte, sequence uint32) {
	ip, payload := split(datagram)
	if !isAH(payload) {
		return
	}
	copy(k.ip[:], ip)
	binary.BigEndian.PutUint32(payload[8:], sequence)
	copy(payload[ahMAC:ahLen], k.digest(payload[:ahLen], payload[ahLen:]))
}

// WithPassword returns a copy of an IPv4 datagram of version 2 with a password as its
// Authentication Data (RFC 2338 §5.3.10).
func WithPassword(datagram []byte, password [8]byte) []byte {
	d := append([]byte(nil), datagram...)
	_, message := split(d)
	if len(message) < headerLen+authLen {
		return d
	}
	copy(message[len(message)-authLen:], password[:])
	setAuthType(message, 1)
	return d
}

// setAuthType sets the authentication type of a version 2 message and updates the
// checksum, which also covers the Authentication Data.
func setAuthType(message []byte, authType uint8) {
	message[4] = authType
	message[6], message[7] = 0, 0
	binary.BigEndian.PutUint16(message[6:], ^fold(sum(0, message)))
}

// IPOf returns the IP datagram in an untagged Ethernet frame.
func IPOf(frame []byte) []byte { return frame[ethernetLen:] }

// InFrame returns a frame with a datagram behind the Ethernet header of another frame.
func InFrame(frame, datagram []byte) []byte {
	b := append(frame[:ethernetLen:ethernetLen], datagram...)
	return pad(b, 0)
}
