// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// TrailerLen is the length of the authentication trailer of
// draft-cassen-vrrp-auth-hmac, in octets. Nothing but its length tells it from
// other octets behind the message.
const TrailerLen = 28

const (
	trailerSHA256 = 1  // the scheme: HMAC-SHA-256, truncated
	trailerMAC    = 12 // where its digest begins
	trailerMACLen = 16
)

// Trailer is what an authentication trailer says beside its digest.
type Trailer struct {
	KeyID uint8 // 1 to 255: the key that the digest was made with
	// Sequence grows with each advertisement: seconds since 1970 in the upper
	// 32 bits, below them 16 bits of their fraction and 16 of a counter.
	Sequence uint64
}

// ParseTrailer reads the authentication trailer of a datagram; ok is false for
// one of another scheme or with reserved bits, and if there is none.
func (d *Datagram) ParseTrailer() (trailer Trailer, ok bool) { return parseTrailer(d.Trailer) }

func parseTrailer(t []byte) (trailer Trailer, ok bool) {
	if len(t) != TrailerLen || t[0] != trailerSHA256 || t[2] != 0 || t[3] != 0 {
		return Trailer{}, false
	}
	return Trailer{KeyID: t[1], Sequence: binary.BigEndian.Uint64(t[4:])}, true
}

// TrailerKey makes and checks the digests of authentication trailers. It must
// not be used concurrently. It allocates nothing once it was used.
type TrailerKey struct {
	mac    hash.Hash
	pseudo [20]byte // family, version, VRID, 0, source address
	zeros  [trailerMACLen]byte
	sum    [sha256.Size]byte
}

// NewTrailerKey returns the key that the octets are.
func NewTrailerKey(secret []byte) *TrailerKey {
	return &TrailerKey{mac: hmac.New(sha256.New, secret)}
}

// NewTrailerStates returns the HMAC's states of a key of a block's length at most, which
// is 64 octets. They are as good as the key to whoever has them.
func NewTrailerStates(secret []byte) HMACStates { return newStates(sha256.New, secret) }

// digest covers what k.pseudo says of the source, the message, and the trailer
// but for the digest. The checksum counts as zero: over IPv6 it covers the
// digest.
func (k *TrailerKey) digest(message, trailer []byte) []byte {
	k.pseudo[1], k.pseudo[2], k.pseudo[3] = message[0]>>4, message[1], 0
	k.mac.Reset()
	k.mac.Write(k.pseudo[:])
	k.mac.Write(message[:6])
	k.mac.Write(k.zeros[:2])
	k.mac.Write(message[8:])
	k.mac.Write(trailer[:trailerMAC])
	k.mac.Write(k.zeros[:])
	return k.mac.Sum(k.sum[:0])[:trailerMACLen]
}

// from takes the source, an address of 4 or 16 octets.
func (k *TrailerKey) from(source []byte) {
	clear(k.pseudo[:])
	k.pseudo[0] = uint8(IPv6)
	if len(source) == 4 {
		k.pseudo[0] = uint8(IPv4)
	}
	copy(k.pseudo[4:], source)
}

// Verify reports whether the digest in a datagram's trailer is right, in the
// same time whatever is wrong with it.
func (k *TrailerKey) Verify(d *Datagram) bool {
	if len(d.Trailer) != TrailerLen || len(d.Message) < headerLen {
		return false
	}
	if d.Source.Is4() {
		v := d.Source.As4()
		k.from(v[:])
	} else {
		v := d.Source.As16()
		k.from(v[:])
	}
	return hmac.Equal(k.digest(d.Message, d.Trailer), d.Trailer[trailerMAC:])
}

// WithTrailer returns an IP datagram, from its header on, with room for an
// authentication trailer: until it is signed no one accepts it. What lies behind
// the datagram, a frame's padding, is left out.
func WithTrailer(datagram []byte) []byte {
	ip, payload := split(datagram)
	d := make([]byte, len(ip)+len(payload)+TrailerLen)
	copy(d[copy(d, ip):], payload)
	setLength(d)
	return d
}

// Sign writes the authentication trailer into a datagram that has room for it.
// Over IPv6 the checksum covers it, as the kernel has it for who sends through a
// raw socket; over IPv4 it doesn't. It allocates nothing.
func (k *TrailerKey) Sign(datagram []byte, t Trailer) {
	ip, payload := split(datagram)
	if len(payload) < headerLen+TrailerLen {
		return
	}
	message, trailer := payload[:len(payload)-TrailerLen], payload[len(payload)-TrailerLen:]
	source, destination := addresses(ip)
	k.from(source)
	trailer[0], trailer[1], trailer[2], trailer[3] = trailerSHA256, t.KeyID, 0, 0
	binary.BigEndian.PutUint64(trailer[4:], t.Sequence)
	copy(trailer[trailerMAC:], k.digest(message, trailer))
	if len(source) == 16 {
		message[6], message[7] = 0, 0
		acc := sum(sum(sum(0, payload), source), destination) + ProtocolVRRP + uint64(len(payload))
		binary.BigEndian.PutUint16(message[6:], ^fold(acc))
	}
}

// split divides an IP datagram without options into its header and the payload.
func split(datagram []byte) (ip, payload []byte) {
	if datagram[0]>>4 == 6 {
		return datagram[:ipv6Len], datagram[ipv6Len : ipv6Len+int(binary.BigEndian.Uint16(datagram[4:]))]
	}
	return datagram[:ipv4Len], datagram[ipv4Len:binary.BigEndian.Uint16(datagram[2:])]
}

// addresses returns the source and the destination in an IP header.
func addresses(ip []byte) (source, destination []byte) {
	if len(ip) == ipv6Len {
		return ip[8:24], ip[24:40]
	}
	return ip[12:16], ip[16:20]
}

// setLength has an IP header tell the length of the datagram.
func setLength(datagram []byte) {
	if datagram[0]>>4 == 6 {
		binary.BigEndian.PutUint16(datagram[4:], uint16(len(datagram)-ipv6Len))
		return
	}
	ip := datagram[:ipv4Len]
	binary.BigEndian.PutUint16(ip[2:], uint16(len(datagram)))
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^fold(sum(0, ip)))
}
