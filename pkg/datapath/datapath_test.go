// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// The XDP program and the Go receiver reach the same verdict on any frame: here on the
// vectors with octets changed, removed and added, and with VLAN tags.
func TestXDPAgreesWithGo(t *testing.T) {
	t.Attr("proves", "R-22 X-03 X-06")
	w := newWire(t, "")
	r := w.receiver(t, false)
	w.trusting(t)
	var frames [][]byte
	for _, f := range readVectors(t) {
		frames = append(frames, f)
	}
	slices.SortFunc(frames, bytes.Compare) // the same order in every run
	random := rand.New(rand.NewPCG(9568, 3768))
	for range 30000 {
		bend := random.Uint32()
		w.bend(t, bend)
		w.agree(t, r, refit(mutate(random, frames[random.IntN(len(frames))]), bend))
	}
}

// FuzzXDPAgreesWithGo is TestXDPAgreesWithGo with fuzzed frames. The first argument selects
// the configuration of the Virtual Routers and the corrections of the frame.
func FuzzXDPAgreesWithGo(f *testing.F) {
	w := newWire(f, "")
	r := w.receiver(f, false)
	w.trusting(f)
	for _, frame := range readVectors(f) {
		f.Add(uint32(0), frame)
	}
	f.Fuzz(func(t *testing.T, bend uint32, frame []byte) {
		if len(frame) < 14 || len(frame) > 3500 {
			return // Program.Run takes neither shorter frames nor ones longer than a page
		}
		w.bend(t, bend)
		w.agree(t, r, refit(slices.Clone(frame), bend))
	})
}

// trusting removes the Verifiers. A frame that is given to both receive paths would be a
// replay on the second one.
func (w *wire) trusting(t testing.TB) {
	t.Helper()
	for k, r := range maps.Clone(w.dp.routers) {
		r.Verifier = nil
		if err := w.dp.SetRouter(k, r.Router); err != nil {
			t.Fatal(err)
		}
	}
}

// The bits that select the configuration of the receivers and the corrections of the frame.
const (
	bendTrailingOctets = 1 << iota
	bendAnyFirstAddress
	bendDual
	bendStopped
	bendRFC9568 // the checksum is corrected, in this form
	bendRFC5798
	bendLength  // the length in the IP header is corrected
	bendUnicast // the receivers are unicast routers, with the vectors' senders as peers
	bendAddress // the frame's destination is their own address
	bendHeader  // the checksum of the IPv4 header is not corrected
	bendNoAddress
)

// bend configures the Virtual Routers of VRID 51.
func (w *wire) bend(t testing.TB, bits uint32) {
	t.Helper()
	for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
		k := packet.Key{Ifindex: w.ifindex, Family: f, VRID: 51}
		c := Router{
			Version: 3, Source: w.dp.routers[k].Source,
			Dual:    bits&bendDual != 0 && f == packet.IPv4,
			Running: bits&bendStopped == 0,
			Tolerate: packet.Tolerance{
				TrailingOctets:  bits&bendTrailingOctets != 0,
				AnyFirstAddress: bits&bendAnyFirstAddress != 0,
				NoAddress:       bits&bendNoAddress != 0,
			},
		}
		if bits&bendUnicast != 0 {
			c.Peers = map[netip.Addr]packet.Hops{
				netip.MustParseAddr("192.0.2.2"): packet.OnLink(), netip.MustParseAddr("fe80::a"): {Min: 64, Max: 254},
				netip.MustParseAddr("198.51.100.2"): {Max: 255},
			}
		}
		if err := w.dp.SetRouter(k, c); err != nil {
			t.Fatal(err)
		}
	}
}

// refit corrects the lengths and the checksums that the bits select, so that the frame
// gets past the first check.
func refit(frame []byte, bits uint32) []byte {
	if len(frame) < 14 {
		return frame
	}
	if bits&bendHeader == 0 {
		defer sumHeader(frame)
	}
	ip := frame[14:]
	if bits&bendAddress != 0 {
		switch own := list("192.0.2.3", "fe80::b"); {
		case len(ip) >= 20 && ip[0]>>4 == 4:
			copy(ip[16:], own[0].AsSlice())
		case len(ip) >= 40 && ip[0]>>4 == 6:
			copy(ip[24:], own[1].AsSlice())
		}
	}
	var message, pseudo []byte
	switch {
	case len(ip) >= 28 && ip[0] == 0x45 && ip[9] == 112:
		if bits&bendLength != 0 {
			binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		}
		message = ip[20:min(len(ip), max(20, int(binary.BigEndian.Uint16(ip[2:]))))]
		if bits&bendRFC5798 != 0 {
			pseudo = append(slices.Clone(ip[12:20]), 0, 112)
		}
	case len(ip) >= 48 && ip[0]>>4 == 6 && ip[6] == 112:
		if bits&bendLength != 0 {
			binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
		}
		message = ip[40:min(len(ip), 40+int(binary.BigEndian.Uint16(ip[4:])))]
		pseudo = append(slices.Clone(ip[8:40]), 0, 112)
	}
	if len(message) < 8 || bits&(bendRFC9568|bendRFC5798) == 0 {
		return frame
	}
	size := 8 + int(message[3])*4
	if ip[0]>>4 == 6 {
		size = 8 + int(message[3])*16
	} else if message[0]>>4 == 2 {
		size += 8
	}
	if bits&bendTrailingOctets != 0 && size < len(message) {
		message = message[:size]
	}
	if pseudo != nil {
		pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(message)))
	}
	message[6], message[7] = 0, 0
	binary.BigEndian.PutUint16(message[6:], internetChecksum(pseudo, message))
	return frame
}

// sumHeader corrects the checksum of a frame's IPv4 header. The frame may have VLAN tags.
func sumHeader(frame []byte) {
	ip := frame[12:]
	for len(ip) >= 6 && (ip[0] == 0x81 && ip[1] == 0 || ip[0] == 0x88 && ip[1] == 0xa8) {
		ip = ip[4:]
	}
	if len(ip) < 2 || ip[0] != 8 || ip[1] != 0 {
		return
	}
	ip = ip[2:]
	if len(ip) < 20 || len(ip) < int(ip[0]&0xf)*4 || ip[0]&0xf < 5 {
		return
	}
	ip = ip[:int(ip[0]&0xf)*4]
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], internetChecksum(ip))
}

// internetChecksum returns the checksum of RFC 1071 over the parts. Each part except the
// last must have an even length.
func internetChecksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, part := range parts {
		for n, b := range part {
			sum += uint32(b) << (8 * (1 - n%2))
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// agree gives a frame to the XDP program and to the Go receiver, and compares the results.
func (w *wire) agree(t testing.TB, r *receiver, frame []byte) {
	t.Helper()
	before := w.dp.Counters()
	verdict := runProgram(t, r, frame)
	var kernel []*Record
	w.dp.Drain(func(rec *Record) { kernel = append(kernel, clone(rec)) })
	after := w.dp.Counters()
	fromKernel := raised(before, after)

	before = after
	var user []*Record
	if w.dp.fromSocket(&socket{ifindex: w.ifindex}, frame, monotonic()) {
		user = append(user, clone(&w.dp.record))
	}
	fromGo := raised(before, w.dp.Counters())

	if fromKernel != fromGo {
		t.Fatalf("XDP raises %q, Go %q:\n%x", fromKernel, fromGo, frame)
	}
	if strings.Contains(fromKernel, " ") {
		t.Fatalf("more than one counter, %q:\n%x", fromKernel, frame)
	}
	if verdict == xdpDrop && (fromKernel == "" || fromKernel == packet.ErrVRID.String()) || verdict != xdpDrop && verdict != xdpPass {
		t.Fatalf("verdict %d on %q:\n%x", verdict, fromKernel, frame)
	}
	if diff := cmp.Diff(kernel, user, cmp.Comparer(func(a, b vrrp.Instant) bool { return true }), cmp.Comparer(sameRecord)); diff != "" {
		t.Fatalf("the records differ (-XDP +Go):\n%s\n%x", diff, frame)
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
		case 2: // truncated, but not below the minimum of Program.Run
			frame = frame[:max(at, 20)]
		case 3:
			frame = append(frame, byte(random.Uint32()))
		case 4:
			frame = slices.Insert(frame, 12, 0x81, 0x00, 0x00, byte(random.IntN(3)))
		}
	}
	return frame
}

// clone returns a deep copy without the signature, which records from sockets don't have.
func clone(r *Record) *Record {
	c := *r
	c.Signature = 0
	c.Datagram.Message = slices.Clone(r.Datagram.Message)
	c.Datagram.Trailer = slices.Clone(r.Datagram.Trailer)
	c.Datagram.Header = slices.Clone(r.Datagram.Header)
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

// A frame that still has a VLAN tag belongs to the VLAN's device.
func TestTagged(t *testing.T) {
	t.Attr("proves", "X-04")
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
	// A tag of VLAN 0 carries only a priority. Switches may add one.
	for tags := range 3 {
		frame := v04
		for range tags {
			frame = slices.Insert(slices.Clone(frame), 12, 0x88, 0xa8, 0xe0, 0x00)
		}
		before := w.dp.Counters()
		runProgram(t, r, frame)
		r.drain()
		if got := raised(before, w.dp.Counters()); got != "advertisement_rcvd" {
			t.Errorf("%d tags of VLAN 0: raised %q", tags, got)
		}
	}
}

// A full ring raises a counter of its own, and the stamp is still updated.
func TestRingFull(t *testing.T) {
	t.Attr("proves", "TM-02")
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
	stamp, ok := w.stamp(packet.Key{Ifindex: 1, Family: packet.IPv4, VRID: 51})
	want := vrrp.Stamp{At: stamp.At, Version: 3, Priority: 200, Interval: time.Second}
	if !ok || stamp != want || stamp.At < full || last >= full {
		t.Errorf("stamp %+v, want one after %d; last record of %d", stamp, full, last)
	}
}

// TM-02: only advertisements that a Backup heeds update the stamp. One with a lower
// priority or with priority 0 doesn't.
func TestStampIsHeeded(t *testing.T) {
	t.Attr("proves", "TM-02")
	w := newWire(t, "")
	r := w.receiver(t, false)
	k := packet.Key{Ifindex: 1, Family: packet.IPv4, VRID: 51}
	frames := readVectors(t)
	lower := slices.Clone(frames["V04"])
	lower[36] = 99
	lower = refit(lower, bendRFC9568)
	for _, heed := range []uint8{100, 1} {
		c := w.dp.routers[k].Router
		c.MinPriority = heed
		if err := w.dp.SetRouter(k, c); err != nil {
			t.Fatal(err)
		}
		for _, frame := range [][]byte{frames["V04"], lower, frames["V07"]} {
			runProgram(t, r, frame)
		}
		want := uint8(200)
		if heed == 1 {
			want = 99
		}
		if stamp, ok := w.stamp(k); !ok || stamp.Priority != want {
			t.Errorf("heeding %d: stamp %+v, want priority %d", heed, stamp, want)
		}
	}
	// Neither does one in a checksum form that isn't accepted.
	c := w.dp.routers[k].Router
	c.Forms = packet.ChecksumRFC5798
	if err := w.dp.SetRouter(k, c); err != nil {
		t.Fatal(err)
	}
	before, _ := w.stamp(k)
	runProgram(t, r, frames["V04"])
	if now, _ := w.stamp(k); now != before {
		t.Errorf("RFC 9568's form was stamped: %+v", now)
	}
	runProgram(t, r, frames["V05"])
	if now, _ := w.stamp(k); now == before {
		t.Error("RFC 5798's form was not stamped")
	}
}

// An advertisement that isn't authentic updates no stamp and gets into no ring. An authentic
// one updates the stamp and gets into its ring, even during a flood of advertisements for
// routers without authentication.
func TestStampNeedsProof(t *testing.T) {
	t.Attr("proves", "A-09 TM-02")
	w := newWire(t, "")
	r := w.receiver(t, false)
	frames := readFrames(t, "../packet/testdata/auth.json")
	for n, id := range []string{"H6-1", "H6-2"} {
		k := packet.Key{Ifindex: 1, Family: packet.IPv6, VRID: 60}
		good := frames[id]
		forged := slices.Clone(good)
		forged[len(forged)-1] ^= 1 // the digest's last octet, and a checksum that fits
		forged[54+7] += 2*(good[len(good)-1]&1) - 1
		before, _ := w.stamp(k)
		counted := w.dp.Counters()
		if verdict := runProgram(t, r, forged); verdict != xdpDrop {
			t.Errorf("verdict %d on a forged one", verdict)
		}
		w.dp.Drain(func(*Record) { t.Error("a forged one is delivered") })
		if got := raised(counted, w.dp.Counters()); got != "auth_failures" {
			t.Errorf("a forged one raises %q", got)
		}
		if now, _ := w.stamp(k); now != before {
			t.Errorf("a forged one is stamped: %+v", now)
		}
		if n == 1 { // fill the ring of routers without authentication
			for before := w.dp.Counters(); w.dp.Counters()[packet.ReasonRingFull] == before[packet.ReasonRingFull]; {
				runProgram(t, r, readVectors(t)["V04"])
			}
		}
		runProgram(t, r, good)
		stamp, ok := w.stamp(k)
		if !ok || stamp.Priority != 200 || stamp == before {
			t.Errorf("an authentic one is not stamped: %+v", stamp)
		}
		counted = w.dp.Counters()
		if verdict := runProgram(t, r, good); verdict != xdpDrop {
			t.Errorf("verdict %d on a replay", verdict)
		}
		if got := raised(counted, w.dp.Counters()); got != "auth_replay" {
			t.Errorf("a replay raises %q", got)
		}
		if now, _ := w.stamp(k); now != stamp {
			t.Error("a replay is stamped")
		}
		var records int
		w.dp.Drain(func(rec *Record) {
			if rec.Key == k {
				records++
			}
		})
		if records != 1 {
			t.Errorf("%d authentic records", records)
		}
		if refused := w.dp.Refused(k); refused[packet.ErrAuth] != uint64(n+1) || refused[packet.ErrAuthReplay] != uint64(n+1) {
			t.Errorf("counted as refused: %d and %d", refused[packet.ErrAuth], refused[packet.ErrAuthReplay])
		}
	}
}

// If XDP can't be attached, TC or an AF_PACKET socket receives, and Path has the reason. An
// explicit mode that is impossible is an error.
func TestAttach(t *testing.T) {
	t.Attr("proves", "X-04")
	w := newWire(t, ModeGeneric)
	if _, err := w.dp.Attach(Link{Index: w.ifindex, Name: "eth0"}, ModeGeneric, false); err == nil {
		t.Error("attached twice")
	}
	var other *Datapath
	// The XDP hook is taken: every mode that needs it falls back.
	for m, kind := range map[Mode]string{ModeAuto: PathTC, ModeTC: PathTC, ModeNative: PathPacket, ModeGeneric: PathPacket, ModeOff: PathPacket} {
		if err := w.here.Do(func() (err error) {
			if other, err = Load(Options{Dir: "/sys/fs/bpf/other"}); err != nil {
				return err
			}
			path, err := other.Attach(Link{Index: w.ifindex, Name: "eth0"}, m, false)
			if err == nil && (path.Kind != kind || path.Why == "") {
				t.Errorf("%s: %+v", m, path)
			}
			return errors.Join(err, other.Close())
		}); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
	if err := w.here.Do(func() (err error) {
		if other, err = Load(Options{Dir: "/sys/fs/bpf/other"}); err != nil {
			return err
		}
		if _, err := other.Attach(Link{Index: 4711, Name: "eth9"}, ModeNative, false); err == nil {
			t.Error("attached to an interface that does not exist")
		}
		if path, err := other.Attach(Link{Index: 1, Name: "lo", VLANs: true}, ModeAuto, false); err != nil || path.Kind != PathTC || !strings.Contains(path.Why, "VLAN") {
			t.Errorf("an interface that carries VLANs: %+v, %v", path, err)
		}
		return other.Close()
	}); err != nil {
		t.Error(err)
	}
}

// O-09: the peers of a unicast router change in place, and none is left in the kernel's map
// when the router is deleted.
func TestPeersChange(t *testing.T) {
	t.Attr("proves", "O-09")
	w := newWire(t, "")
	r := w.receiver(t, false)
	k := packet.Key{Ifindex: 1, Family: packet.IPv4, VRID: 51}
	frame := readVectors(t)["V29"]
	for _, step := range []struct {
		peers   map[netip.Addr]packet.Hops
		counter string
	}{
		{map[netip.Addr]packet.Hops{netip.MustParseAddr("192.0.2.2"): packet.OnLink()}, ""},
		{map[netip.Addr]packet.Hops{netip.MustParseAddr("192.0.2.4"): packet.OnLink()}, "peer_errors"},
		{map[netip.Addr]packet.Hops{netip.MustParseAddr("192.0.2.2"): {Min: 1, Max: 254}, netip.MustParseAddr("192.0.2.4"): {}}, "ip_ttl_errors"},
		{nil, "cast_errors"},
		{map[netip.Addr]packet.Hops{netip.MustParseAddr("192.0.2.2"): {Max: 255}}, ""},
	} {
		c := w.dp.routers[k].Router
		c.Peers = step.peers
		if err := w.dp.SetRouter(k, c); err != nil {
			t.Fatal(err)
		}
		before := w.dp.Counters()
		runProgram(t, r, frame)
		if got := raised(before, w.dp.Counters()); got != step.counter {
			t.Errorf("peers %v: raised %q, want %q", step.peers, got, step.counter)
		}
	}
	if err := w.dp.DeleteRouter(k); err != nil {
		t.Fatal(err)
	}
	var left bpf.VrrpFailoverPeerKey
	if err := w.dp.objects.FailoverPeer.NextKey(nil, &left); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Errorf("%+v is left, %v", left, err)
	}
}
