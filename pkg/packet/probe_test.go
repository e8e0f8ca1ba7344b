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

// A request names its source, and a probe is a request without one.
func TestARPRequest(t *testing.T) {
	mac, source, target := MAC{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.9")
	frame, err := AppendARPRequest(nil, mac, source, target)
	if err != nil {
		t.Fatal(err)
	}
	probe, err := AppendARPProbe(nil, mac, target)
	if err != nil {
		t.Fatal(err)
	}
	if sender := frame[28:32]; !bytes.Equal(sender, source.AsSlice()) {
		t.Errorf("the source is %v", sender)
	}
	copy(frame[28:], []byte{0, 0, 0, 0})
	if !bytes.Equal(frame, probe) {
		t.Errorf("%x, but the probe is %x", frame, probe)
	}
	for _, pair := range [][2]string{{"fe80::1", "192.0.2.9"}, {"192.0.2.1", "fe80::9"}} {
		if _, err := AppendARPRequest(nil, mac, netip.MustParseAddr(pair[0]), netip.MustParseAddr(pair[1])); err == nil {
			t.Errorf("ARP has no IPv6: %v", pair)
		}
	}
}

// Only a solicited advertisement of the target, to the MAC of the solicitation, is its answer.
func TestNeighborAnswer(t *testing.T) {
	mac, target := MAC{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("2001:db8::9")
	answer, err := AppendUnsolicitedNA(nil, MAC{2, 0, 0, 0, 0, 9}, target)
	if err != nil {
		t.Fatal(err)
	}
	if AnswersNeighborSolicitation(answer, mac, target) {
		t.Error("an unsolicited advertisement is taken for an answer")
	}
	copy(answer, mac[:])
	answer[58] |= 0x40
	if !AnswersNeighborSolicitation(answer, mac, target) {
		t.Errorf("an answer isn't taken for one: %x", answer)
	}
	for what, at := range map[string]int{"another destination": 5, "another EtherType": 13, "another protocol": 20, "a hop limit of 254": 21, "another type": 54, "another target": 77} {
		other := bytes.Clone(answer)
		other[at] ^= 1
		if AnswersNeighborSolicitation(other, mac, target) {
			t.Errorf("%s is taken for an answer: %x", what, other)
		}
	}
	for n := range 78 {
		if AnswersNeighborSolicitation(answer[:n], mac, target) {
			t.Errorf("%d octets are taken for an answer", n)
		}
	}
}
