// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding"
	"encoding/binary"
	"hash"
)

// hashBlock is the length of a block of SHA-256 and of MD5, in octets.
const hashBlock = 64

// HMACStates are the states of the inner and the outer hash of an HMAC after they have
// processed the key (RFC 2104 §4). With them a digest needs no key, and two blocks less.
type HMACStates struct{ Inner, Outer [8]uint32 }

// newStates returns the states for a key of at most the length of a block.
func newStates(of func() hash.Hash, key []byte) HMACStates {
	return HMACStates{Inner: stateAfter(of(), key, 0x36), Outer: stateAfter(of(), key, 0x5c)}
}

// stateAfter returns the state of a hash after one block: the key with each octet XORed
// with pad. The state begins after four octets in the hash's binary encoding.
func stateAfter(h hash.Hash, key []byte, pad byte) (state [8]uint32) {
	var block [hashBlock]byte
	copy(block[:], key)
	for i := range block {
		block[i] ^= pad
	}
	h.Write(block[:])
	encoded, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(err) // the hashes of the standard library return no error
	}
	for i := range h.Size() / 4 {
		state[i] = binary.BigEndian.Uint32(encoded[4+4*i:])
	}
	return state
}
