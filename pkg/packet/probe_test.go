// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"net/netip"
	"testing"
)

// A probe has no sender address, and only the neighbour's reply to the MAC of the probe
// counts as an answer.
func TestARPProbe(t *testing.T) {
	mac, neighbor := VirtualMAC(IPv4, 51), netip.MustParseAddr("192.0.2.9")
	frame, err := AppendARPProbe(nil, mac, neighbor)
	if err != nil {
		t.Fatal(err)
	}
	want := []byte{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x5e, 0, 1, 51, 8, 6,
		0, 1, 8, 0, 6, 4, 0, 1,
		0, 0, 0x5e, 0, 1, 51, 0, 0, 0, 0,
		0, 0, 0, 0, 0, 0, 192, 0, 2, 9,
	}
	if len(frame) != 60 || !bytes.Equal(frame[:len(want)], want) || !bytes.Equal(frame[len(want):], make([]byte, 60-len(want))) {
		t.Errorf("%x", frame)
	}
	if _, err := AppendARPProbe(nil, mac, netip.MustParseAddr("fe80::1")); err == nil {
		t.Error("an IPv6 address has no ARP")
	}
	answer := bytes.Clone(frame)
	copy(answer, mac[:])
	copy(answer[6:], []byte{2, 0, 0, 0, 0, 9})
	answer[21] = 2
	copy(answer[28:], []byte{192, 0, 2, 9})
	if !AnswersARPProbe(answer, mac, neighbor) {
		t.Errorf("an answer isn't taken for one: %x", answer)
	}
	for what, at := range map[string]int{"another destination": 5, "another type": 13, "a question": 21, "another's": 31} {
		other := bytes.Clone(answer)
		other[at] ^= 3
		if AnswersARPProbe(other, mac, neighbor) {
			t.Errorf("%s is taken for an answer: %x", what, other)
		}
	}
	if AnswersARPProbe(answer[:41], mac, neighbor) {
		t.Error("a short frame is taken for an answer")
	}
}
