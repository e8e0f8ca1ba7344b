// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// TrailerLen is the length of the authentication trailer of draft-cassen-vrrp-auth-hmac,
// in octets. Only its length distinguishes it from other octets behind the message.
const TrailerLen = 28

const (
	trailerSHA256 = 1  // the scheme: HMAC-SHA-256, truncated
	trailerMAC    = 12 // the offset of the digest
	trailerMACLen = 16
)

// Trailer has the fields of an authentication trailer without its digest.
type Trailer struct {
	KeyID uint8 // the key of the digest, 1 to 255
	// Sequence grows with each advertisement: seconds since 1970 in the upper
	// 32 bits, below them 16 bits of their fraction and 16 of a counter.
	Sequence uint64
}

// ParseTrailer parses the authentication trailer of a datagram. It returns false if there
// is none, or one of another scheme or with reserved bits set.
func (d *Datagram) ParseTrailer() (trailer Trailer, ok bool) { return parseTrailer(d.Trailer) }

func parseTrailer(t []byte) (trailer Trailer, ok bool) {
	if len(t) != TrailerLen || t[0] != trailerSHA256 || t[2] != 0 || t[3] != 0 {
		return Trailer{}, false
	}
	return Trailer{KeyID: t[1], Sequence: binary.BigEndian.Uint64(t[4:])}, true
}

// TrailerKey computes and verifies the digests of authentication trailers. It must not be
// used concurrently. After the first use it doesn't allocate.
type TrailerKey struct {
	mac    hash.Hash
	pseudo [20]byte // family, version, VRID, 0, source address
	zeros  [trailerMACLen]byte
	sum    [sha256.Size]byte
}

// NewTrailerKey returns the TrailerKey for a secret.
func NewTrailerKey(secret []byte) *TrailerKey {
	return &TrailerKey{mac: hmac.New(sha256.New, secret)}
}

// NewTrailerStates returns the states of the HMAC for a secret of at most 64 octets. They
// are as secret as the secret itself.
func NewTrailerStates(secret []byte) HMACStates { return newStates(sha256.New, secret) }

// digest returns the digest of the pseudo-header in k.pseudo, the message, and the trailer
// without the digest. The checksum of the message counts as zero, because over IPv6 it
// covers the digest.
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

// setSource sets the source in the pseudo-header, an address of 4 or 16 octets.
func (k *TrailerKey) setSource(source []byte) {
	clear(k.pseudo[:])
	k.pseudo[0] = uint8(IPv6)
	if len(source) == 4 {
		k.pseudo[0] = uint8(IPv4)
	}
	copy(k.pseudo[4:], source)
}

// Verify reports whether the digest in the trailer of a datagram is right. It compares in
// constant time.
func (k *TrailerKey) Verify(d *Datagram) bool {
	if len(d.Trailer) != TrailerLen || len(d.Message) < headerLen {
		return false
	}
	if d.Source.Is4() {
		v := d.Source.As4()
		k.setSource(v[:])
	} else {
		v := d.Source.As16()
		k.setSource(v[:])
	}
	return hmac.Equal(k.digest(d.Message, d.Trailer), d.Trailer[trailerMAC:])
}

// WithTrailer returns a copy of an IP datagram with room for an authentication trailer. It
// leaves out octets behind the datagram, such as the padding of a frame. Sign has to be
// called before the datagram is sent.
func WithTrailer(datagram []byte) []byte {
	ip, payload := split(datagram)
	d := make([]byte, len(ip)+len(payload)+TrailerLen)
	copy(d[copy(d, ip):], payload)
	setLength(d)
	return d
}

// Sign writes the authentication trailer into a datagram of WithTrailer. Over IPv6 the
// checksum covers the trailer, because keepalived sends through a raw socket and the kernel
// computes the checksum there. Over IPv4 it doesn't. Sign doesn't allocate.
func (k *TrailerKey) Sign(datagram []byte, t Trailer) {
	ip, payload := split(datagram)
	if len(payload) < headerLen+TrailerLen {
		return
	}
	message, trailer := payload[:len(payload)-TrailerLen], payload[len(payload)-TrailerLen:]
	source, destination := addresses(ip)
	k.setSource(source)
	trailer[0], trailer[1], trailer[2], trailer[3] = trailerSHA256, t.KeyID, 0, 0
	binary.BigEndian.PutUint64(trailer[4:], t.Sequence)
	copy(trailer[trailerMAC:], k.digest(message, trailer))
	if len(source) == 16 {
		message[6], message[7] = 0, 0
		acc := sum(sum(sum(0, payload), source), destination) + ProtocolVRRP + uint64(len(payload))
		binary.BigEndian.PutUint16(message[6:], ^fold(acc))
	}
}

// split returns the header and the payload of an IP datagram without options.
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

// setLength sets the length in an IP header to that of the datagram, and updates the
// header's checksum.
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
