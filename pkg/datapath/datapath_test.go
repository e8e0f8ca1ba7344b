// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// The XDP program and the Go receiver come to the same verdict on whatever a
// network can send: here the vectors with octets changed, removed, added and
// tagged.
func TestXDPAgreesWithGo(t *testing.T) {
	w := newWire(t, "")
	r := w.receiver(t, false)
	var frames [][]byte
	for _, f := range readVectors(t) {
		frames = append(frames, f)
	}
	slices.SortFunc(frames, bytes.Compare) // the same order in every run
	random := rand.New(rand.NewPCG(9568, 3768))
	s := &socket{ifindex: 1}
	for n := range 30000 {
		frame := mutate(random, frames[random.IntN(len(frames))])

		before := w.dp.Counters()
		runProgram(t, r, frame)
		var kernel []*Record
		w.dp.Drain(func(rec *Record) { kernel = append(kernel, clone(rec)) })
		fromKernel := raised(before, w.dp.Counters())

		before = w.dp.Counters()
		var user []*Record
		if w.dp.fromSocket(s, frame, monotonic()) {
			user = append(user, clone(&w.dp.record))
		}
		fromGo := raised(before, w.dp.Counters())

		if fromKernel != fromGo {
			t.Fatalf("frame %d: XDP raises %q, Go %q:\n%x", n, fromKernel, fromGo, frame)
		}
		if diff := cmp.Diff(kernel, user, cmp.Comparer(func(a, b vrrp.Instant) bool { return true }), cmp.Comparer(sameRecord)); diff != "" {
			t.Fatalf("frame %d: the records differ (-XDP +Go):\n%s\n%x", n, diff, frame)
		}
	}
}

func mutate(random *rand.Rand, frame []byte) []byte {
	frame = slices.Clone(frame)
	for range random.IntN(4) {
		at := 12 + random.IntN(len(frame)-12)
		switch random.IntN(5) {
		case 0:
			frame[at] = byte(random.Uint32())
		case 1:
			frame[at] ^= 1 << random.IntN(8)
		case 2: // cut, but not shorter than what XDP is given
			frame = frame[:max(at, 20)]
		case 3:
			frame = append(frame, byte(random.Uint32()))
		case 4:
			frame = slices.Insert(frame, 12, 0x81, 0x00, 0x00, byte(random.Uint32()))
		}
	}
	return frame
}

func clone(r *Record) *Record {
	c := *r
	c.Datagram.Message = slices.Clone(r.Datagram.Message)
	c.Advertisement.Addresses = slices.Clone(r.Advertisement.Addresses)
	return &c
}

func sameRecord(a, b *Record) bool {
	return a.Key == b.Key && a.Checksum == b.Checksum && errors.Is(a.Err, b.Err) && errors.Is(b.Err, a.Err) &&
		a.Datagram.Source == b.Datagram.Source && a.Datagram.Destination == b.Datagram.Destination &&
		a.Datagram.TTL == b.Datagram.TTL && bytes.Equal(a.Datagram.Message, b.Datagram.Message) &&
		slices.Equal(a.Advertisement.Addresses, b.Advertisement.Addresses) &&
		a.Advertisement.Priority == b.Advertisement.Priority && a.Advertisement.Interval == b.Advertisement.Interval
}

// VLAN tags that the frame still has: it belongs to the VLAN's device.
func TestTagged(t *testing.T) {
	w := newWire(t, "")
	r := w.receiver(t, false)
	v04 := readVectors(t)["V04"]
	for tags := range 4 {
		frame := v04
		for range tags {
			frame = slices.Insert(slices.Clone(frame), 12, 0x81, 0x00, 0x00, 0x07)
		}
		before := w.dp.Counters()
		if got := runProgram(t, r, frame); got != xdpPass {
			t.Errorf("%d tags: verdict %d", tags, got)
		}
		r.drain()
		want := []string{"advertisement_rcvd", "tagged", "tagged", ""}[tags]
		if got := raised(before, w.dp.Counters()); got != want {
			t.Errorf("%d tags: raised %q, want %q", tags, got, want)
		}
	}
}

// A full ring is counted by a reason of its own, and the stamp still tells
// that the Active lives.
func TestRingFull(t *testing.T) {
	w := newWire(t, "")
	r := w.receiver(t, false)
	v04 := readVectors(t)["V04"]
	before := w.dp.Counters()
	for w.dp.Counters()[packet.ReasonRingFull] == before[packet.ReasonRingFull] {
		runProgram(t, r, v04)
	}
	full := monotonic()
	runProgram(t, r, v04)
	after := w.dp.Counters()
	sent := after[packet.ReasonDelivered] - before[packet.ReasonDelivered]
	if lost := after[packet.ReasonRingFull] - before[packet.ReasonRingFull]; lost != 2 {
		t.Errorf("%d advertisements lost, want 2", lost)
	}
	var drained uint64
	var last vrrp.Instant
	w.dp.Drain(func(rec *Record) { drained++; last = rec.ReceivedAt })
	if drained != sent {
		t.Errorf("%d records drained, %d delivered", drained, sent)
	}
	stamp, ok := w.dp.LastHeard(Key{Ifindex: 1, Family: packet.IPv4, VRID: 51})
	want := Stamp{ReceivedAt: stamp.ReceivedAt, Version: 3, Priority: 200, Interval: time.Second}
	if !ok || stamp != want || stamp.ReceivedAt < full || last >= full {
		t.Errorf("stamp %+v, want one after %d; last record of %d", stamp, full, last)
	}
}

// What XDP cannot be attached to is received through AF_PACKET, with the
// reason; an explicit mode that is impossible is an error.
func TestAttach(t *testing.T) {
	w := newWire(t, ModeGeneric)
	if _, err := w.dp.Attach(Link{Index: w.ifindex, Name: "eth0"}, ModeGeneric, false); err == nil {
		t.Error("attached twice")
	}
	var other *Datapath
	// The hook is taken: every mode falls back.
	for _, m := range []Mode{ModeAuto, ModeNative, ModeGeneric, ModeOff} {
		if err := w.here.Do(func() (err error) {
			if other, err = Load(Options{Unpinned: true}); err != nil {
				return err
			}
			path, err := other.Attach(Link{Index: w.ifindex, Name: "eth0", Kind: "veth"}, m, false)
			if err == nil && (path.Kind != PathPacket || path.Why == "") {
				t.Errorf("%s: %+v", m, path)
			}
			return err
		}); err != nil {
			t.Errorf("%s: %v", m, err)
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := w.here.Do(func() (err error) {
		if other, err = Load(Options{Unpinned: true}); err != nil {
			return err
		}
		if _, err := other.Attach(Link{Index: 4711, Name: "eth9"}, ModeNative, false); err == nil {
			t.Error("attached to an interface that does not exist")
		}
		if path, err := other.Attach(Link{Index: 1, Name: "lo", VLANs: true}, ModeAuto, false); err != nil || path.Kind != PathPacket {
			t.Errorf("an interface that carries VLANs: %+v, %v", path, err)
		}
		return other.Close()
	}); err != nil {
		t.Error(err)
	}
}
