// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding"
	"encoding/binary"
	"hash"
)

// hashBlock is the length of a block of SHA-256 and of MD5, in octets.
const hashBlock = 64

// HMACStates are the states of an HMAC's inner and outer hash once they have read the
// key (RFC 2104 §4). Who has them needs no key, and two blocks less for each digest.
type HMACStates struct{ Inner, Outer [8]uint32 }

// newStates reads a key of a block's length at most.
func newStates(of func() hash.Hash, key []byte) HMACStates {
	return HMACStates{Inner: stateAfter(of(), key, 0x36), Outer: stateAfter(of(), key, 0x5c)}
}

// stateAfter returns the state of a hash that has read a key's block, of which each octet
// is changed by pad. The hash's own encoding has it behind four octets of a name.
func stateAfter(h hash.Hash, key []byte, pad byte) (state [8]uint32) {
	var block [hashBlock]byte
	copy(block[:], key)
	for i := range block {
		block[i] ^= pad
	}
	h.Write(block[:])
	encoded, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(err) // the standard library's hashes return none
	}
	for i := range h.Size() / 4 {
		state[i] = binary.BigEndian.Uint32(encoded[4+4*i:])
	}
	return state
}
