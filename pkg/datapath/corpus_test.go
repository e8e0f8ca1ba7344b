// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/transmit"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// sample is one frame of the corpus.
type sample struct {
	name  string
	frame []byte
	peer  bool // a peer of another make has sent it
}

// verdict is the result of one receive path for a frame: the counters that it raises, and
// the advertisement that it delivers, if any.
type verdict struct {
	Counters  string
	Delivered uint64
	Records   []*Record
}

// notes are the counters that may be raised together with advertisement_rcvd. They describe
// an accepted advertisement further. Three of them are verdicts where the same difference
// refuses an advertisement, as in version 2. All other counters are
// verdicts, except delivered and ring_full, which describe how a packet reached the daemon.
var notes = []packet.Reason{
	packet.ReasonPriorityZero,
	packet.ReasonChecksumRFC5798,
	packet.ErrInterval,
	packet.ErrAddressList,
	packet.ErrOwnerConflict,
}

// on every receive path the same frame gets the same verdict and delivers the
// same advertisement, if any. A verdict is exactly one counter, raised by one. A frame that
// isn't VRRP raises none. The frames are those of the checklist, complete captures of
// keepalived 2.2.7 and FRR 8.4.4, some rare ones, and mutations of all that are VRRP.
func TestCorpus(t *testing.T) {
	t.Attr("proves", "A-07 A-09 C-06 Q-09 R-22 X-03")
	samples := corpus(t)
	last := readVectors(t)["V12"]
	want, wantOfSocket := verdicts(t, samples)
	for _, mode := range []Mode{ModeNative, ModeGeneric, ModeTC, ModeOff} {
		t.Run(string(mode), func(t *testing.T) {
			w := newCable(t, mode)
			r := w.corpusReceiver(t)
			want := want
			if mode == ModeOff {
				want = wantOfSocket
			}
			for n, s := range samples {
				got := w.judge(t, r, s, want[n], last)
				if diff := cmp.Diff(want[n], got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
					t.Errorf("%s (-program run +this way):\n%s\n%x", s.name, diff, s.frame)
				}
			}
		})
	}
}

// verdicts runs the XDP program on the samples. The verdicts of a socket must be the same,
// except for tagged frames: XDP sees them as they are on the wire, and a socket sees them
// after the kernel has removed tags.
func verdicts(t *testing.T, samples []sample) (want, wantOfSocket []verdict) {
	t.Helper()
	w := newCable(t, "")
	r := w.corpusReceiver(t)
	run := func(frame []byte) verdict {
		return r.judge(0, func() []*Record {
			runProgram(t, r, frame)
			return r.take()
		})
	}
	seen := make(map[string]bool)
	for _, s := range samples {
		v := run(s.frame)
		if err := v.sound(s); err != nil {
			t.Errorf("%s: %v\n%x", s.name, err, s.frame)
		}
		for _, counter := range strings.Fields(v.Counters) {
			seen[counter] = true
		}
		want = append(want, v)
		if v.Counters == packet.ErrTagged.String() {
			if v = (verdict{}); untag(s.frame) != nil {
				v = run(untag(s.frame))
			}
		}
		wantOfSocket = append(wantOfSocket, v)
	}
	for n := range packet.ReasonCount {
		switch r := packet.Reason(n); r {
		case packet.ErrNotVRRP, packet.ReasonDelivered, packet.ReasonRingFull, packet.ReasonUnchanged, packet.ReasonOutranked, packet.ErrAuthOverlong:
		default:
			if !seen[r.String()] {
				t.Errorf("no frame raises %s", r.String())
			}
		}
	}
	return want, wantOfSocket
}

// untag removes the tags that the kernel removes before a socket sees the frame: those of
// VLAN 0, which carry only a priority. It returns nil for a frame of another VLAN, because
// that frame belongs to the VLAN's device.
func untag(frame []byte) []byte {
	for len(frame) >= 18 && slices.Contains([]uint16{0x8100, 0x88a8}, binary.BigEndian.Uint16(frame[12:])) {
		if binary.BigEndian.Uint16(frame[14:])&0xfff != 0 {
			return nil
		}
		frame = slices.Delete(slices.Clone(frame), 12, 16)
	}
	return frame
}

// sound checks that a frame raises one verdict, and that the deliveries match it.
func (v verdict) sound(s sample) error {
	raised := strings.Fields(v.Counters)
	accepted := slices.Contains(raised, packet.ReasonAdvertisementReceived.String())
	if accepted {
		raised = slices.DeleteFunc(raised, func(name string) bool {
			return slices.ContainsFunc(notes, func(r packet.Reason) bool { return r.String() == name })
		})
	}
	want := 1
	d, err := packet.ParseFrame(s.frame)
	if errors.Is(err, packet.ErrNotVRRP) || err == nil && (d.Unicast() || d.Header != nil) && v.Counters == "" { // for another program
		want = 0
	}
	switch {
	case s.peer && want == 1 && !accepted:
		return fmt.Errorf("the peer's advertisement is refused as %q", v.Counters)
	case len(raised) != want:
		return fmt.Errorf("it raises %q, want %d verdict(s)", v.Counters, want)
	case len(v.Records) > 1 || accepted && len(v.Records) == 0:
		return fmt.Errorf("it raises %q and is delivered %d times", v.Counters, len(v.Records))
	case uint64(len(v.Records)) != v.Delivered:
		return fmt.Errorf("%d records delivered, but the counter says %d", len(v.Records), v.Delivered)
	}
	return nil
}

// judge returns the verdict on the frame that receive receives. The frames that receive
// sends after it raise ip_ttl_errors; their number is others.
func (r *receiver) judge(others uint64, receive func() []*Record) verdict {
	before := r.dp.Counters()
	records := receive()
	after := r.dp.Counters()
	before[packet.ErrTTL] += others
	return verdict{raised(before, after), after[packet.ReasonDelivered] - before[packet.ReasonDelivered], records}
}

// take drains the datapath as the event loop does, and returns the records without the
// fields that differ between the receive paths.
func (r *receiver) take() (records []*Record) {
	r.dp.Drain(func(rec *Record) { records = append(records, clone(rec)) })
	for _, rec := range records {
		if m, ok := r.machines[rec.Key]; ok {
			for _, a := range m.Step(rec.ReceivedAt, vrrp.Event{
				Kind: vrrp.Receive, Advertisement: rec.Advertisement, From: rec.Datagram.Source, Checksum: rec.Checksum,
			}, nil) {
				if a.Kind == vrrp.Report {
					r.dp.Count(a.Reason)
				}
			}
		}
		rec.ReceivedAt, rec.Key.Ifindex = 0, 0
	}
	return records
}

// judge sends a frame over the cable and returns the verdict on it. Like send, it sends
// last after it, which only raises ip_ttl_errors.
func (w *wire) judge(t *testing.T, r *receiver, s sample, want verdict, last []byte) verdict {
	t.Helper()
	ttl := r.dp.Counters()[packet.ErrTTL] + 1
	if want.Counters == packet.ErrTTL.String() {
		ttl++
	}
	return r.judge(1, func() (records []*Record) {
		w.conn.Queue(s.frame)
		w.conn.Queue(last)
		w.conn.Flush(func(_ int, err error) { t.Fatal(err) })
		for end := time.Now().Add(10 * time.Second); r.dp.Counters()[packet.ErrTTL] < ttl; time.Sleep(100 * time.Microsecond) {
			records = append(records, r.take()...)
			if time.Now().After(end) {
				t.Fatalf("%s did not arrive:\n%x", s.name, s.frame)
			}
		}
		return append(records, r.take()...)
	})
}

// corpus returns the frames. They are the same in every run.
func corpus(t *testing.T) []sample {
	t.Helper()
	var all []sample
	for id, frame := range readVectors(t) {
		all = append(all, sample{name: id, frame: frame})
	}
	for id, frame := range readFrames(t, "../packet/testdata/auth.json") {
		all = append(all, sample{name: id, frame: frame, peer: true})
	}
	captures, err := filepath.Glob("../packet/testdata/captures/*.pcap")
	if err != nil || len(captures) == 0 {
		t.Fatalf("no captures: %v", err)
	}
	for _, path := range captures {
		for n, frame := range readCapture(t, path) {
			all = append(all, sample{fmt.Sprintf("%s frame %d", filepath.Base(path), n+1), frame, true})
		}
	}
	slices.SortFunc(all, func(a, b sample) int { return strings.Compare(a.name, b.name) })
	all = append(all, rarities(t)...)
	random := rand.New(rand.NewPCG(9568, 8347))
	for _, original := range all[:len(all):len(all)] {
		if _, err := packet.ParseFrame(original.frame); errors.Is(err, packet.ErrNotVRRP) {
			continue
		}
		for range 5 {
			all = append(all, sample{name: original.name + " mutated", frame: mutate(random, original.frame)})
		}
	}
	return all
}

// rarities returns frames that neither the checklist nor a peer has, and that mutations
// hardly ever produce.
func rarities(t *testing.T) (all []sample) {
	t.Helper()
	add := func(name, source string, a packet.Advertisement) {
		a.Priority, a.Interval, a.Addresses = 200, time.Second, list("192.0.2.1")
		frame, err := packet.AppendAdvertisementFrame(nil, packet.VirtualMAC(packet.IPv4, a.VRID), netip.MustParseAddr(source), &a, packet.ChecksumRFC9568)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, sample{name: name, frame: frame})
	}
	add("R-12 from 127.0.0.1", "127.0.0.1", packet.Advertisement{Version: 3, VRID: 51})
	add("R-13 in Initialize", "192.0.2.2", packet.Advertisement{Version: 3, VRID: idle})
	add("R-14 other version", "192.0.2.2", packet.Advertisement{Version: 2, VRID: 51})
	add("R-15 to the owner", "192.0.2.2", packet.Advertisement{Version: 3, VRID: owner})
	add("R-16 without its password", "192.0.2.2", packet.Advertisement{Version: 2, VRID: 53})
	all = append(all, unicasts(t)...)
	all = append(all, forgeries(t)...)
	all = append(all, addressless(t)...)
	v04, v06 := readVectors(t)["V04"], readVectors(t)["V06"]
	insert := func(name string, frame []byte, at int, octets ...byte) {
		all = append(all, sample{name: name, frame: slices.Insert(slices.Clone(frame), at, octets...)})
	}
	insert("X-01 VLAN 7", v04, 12, 0x81, 0x00, 0, 7)
	insert("X-01 VLAN 7 of 5", v04, 12, 0x88, 0xa8, 0, 5, 0x81, 0x00, 0, 7)
	insert("X-01 priority", v04, 12, 0x81, 0x00, 0xe0, 0)
	insert("X-01 VLAN 7 and priority", v04, 12, 0x81, 0x00, 0xe0, 0, 0x81, 0x00, 0, 7)
	insert("P-11 octets behind the datagram", v06, len(v06), 1, 2, 3, 4)
	insert("R-02 IPv6 fragment", v06, 54, packet.ProtocolVRRP, 0, 0, 1, 0, 0, 0, 0)
	fragment := all[len(all)-1].frame
	fragment[19], fragment[20] = 48, 44 // Payload Length, Next Header
	insert("R-02 IPv4 fragment", v04, len(v04))
	all[len(all)-1].frame[20] = 0x20 // More Fragments
	return all
}

// addressless returns advertisements without addresses: of routers without addresses, which are
// accepted, and of VRID 51, which has some.
func addressless(t *testing.T) (all []sample) {
	t.Helper()
	for _, from := range []string{"192.0.2.2", "fe80::2"} {
		for _, vrid := range []uint8{bare, 51} {
			source := netip.MustParseAddr(from)
			a := packet.Advertisement{Version: 3, VRID: vrid, Priority: 200, Interval: time.Second}
			frame, err := packet.AppendAdvertisementFrame(nil, packet.VirtualMAC(packet.FamilyOf(source), vrid), source, &a, packet.ChecksumRFC9568)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, sample{name: fmt.Sprintf("E-04 no address for VRID %d from %s", vrid, from), frame: frame, peer: vrid == bare})
		}
	}
	return all
}

// forgeries returns advertisements for routers with authentication: authentic ones, and
// ones that fail in different ways.
func forgeries(t *testing.T) (all []sample) {
	t.Helper()
	for _, from := range []string{"192.0.2.2", "fe80::2"} {
		source := netip.MustParseAddr(from)
		a := packet.Advertisement{Version: 3, VRID: 60, Priority: 200, Interval: time.Second, Addresses: list("192.0.2.1")}
		if source.Is6() {
			a.Addresses = list("fe80::1", "2001:db8::1")
		}
		plain, err := packet.AppendAdvertisementFrame(nil, packet.MAC{2, 0, 0, 0, 0, 0x0a}, source, &a, packet.ChecksumRFC9568)
		if err != nil {
			t.Fatal(err)
		}
		add := func(name string, frame []byte) {
			all = append(all, sample{name: "A-09 from " + from + ": " + name, frame: frame})
		}
		signed := func(s auth.Settings, at int64) []byte {
			g := auth.NewGuard(s)
			frame := packet.InFrame(plain, g.Prepare(packet.IPOf(plain)))
			g.Sign(packet.IPOf(frame), time.Unix(at, 0))
			return frame
		}
		good := hmacSettings()
		otherKey, otherID := good, good
		otherKey.Keys = []auth.Key{{ID: 1, Secret: auth.NewSecret(make([]byte, auth.KeyMin))}}
		otherID.Keys, otherID.Send = []auth.Key{{ID: 2, Secret: good.Keys[0].Secret}}, 2
		add("authentic", signed(good, 1795579900))
		add("a replay", signed(good, 1795579900))
		add("old", signed(good, 1795579000))
		add("of another key", signed(otherKey, 1795579901))
		add("of another key id", signed(otherID, 1795579901))
		add("without a trailer", plain)
		end := 14 + 20 + 12
		if source.Is6() {
			end = 14 + 40 + 8 + 32
		}
		reserved := signed(good, 1795579901)
		reserved[end+3] = 1
		if source.Is6() { // the checksum covers it
			binary.BigEndian.PutUint16(reserved[14+40+6:], binary.BigEndian.Uint16(reserved[14+40+6:])-1)
		}
		add("with reserved bits", reserved)
	}
	return all
}

// VRIDs that only the corpus uses.
const (
	idle  = 56 // its interface has no address
	owner = 57
	cast  = 58 // unicast
	bare  = 59 // without addresses
)

// unicasts returns unicast advertisements, with right and wrong senders, destinations and
// TTLs.
func unicasts(t *testing.T) (all []sample) {
	t.Helper()
	for _, c := range []struct {
		name, from, to string
		vrid, ttl      uint8
		form           packet.Checksum
	}{
		{"O-09 from a peer", "192.0.2.2", "192.0.2.3", cast, 255, packet.ChecksumRFC9568},
		{"O-09 from a peer with RFC 5798's checksum", "192.0.2.2", "192.0.2.3", cast, 255, packet.ChecksumRFC5798},
		{"O-09 from a peer, forwarded", "192.0.2.2", "192.0.2.3", cast, 254, packet.ChecksumRFC9568},
		{"O-09 from a peer far away", "198.51.100.2", "192.0.2.3", cast, 200, packet.ChecksumRFC9568},
		{"O-09 from a peer too far away", "198.51.100.2", "192.0.2.3", cast, 199, packet.ChecksumRFC9568},
		{"O-09 from a peer too near", "198.51.100.2", "192.0.2.3", cast, 251, packet.ChecksumRFC9568},
		{"O-09 from no peer", "192.0.2.4", "192.0.2.3", cast, 255, packet.ChecksumRFC9568},
		{"O-09 from itself", "192.0.2.3", "192.0.2.3", cast, 255, packet.ChecksumRFC9568},
		{"O-09 to another address", "192.0.2.2", "192.0.2.9", cast, 255, packet.ChecksumRFC9568},
		{"O-09 to the group", "192.0.2.2", "224.0.0.18", cast, 255, packet.ChecksumRFC9568},
		{"O-09 of another router", "192.0.2.2", "192.0.2.3", 99, 255, packet.ChecksumRFC9568},
		{"O-09 to a router of the group", "192.0.2.2", "192.0.2.3", 51, 255, packet.ChecksumRFC9568},
		{"O-09 from an IPv6 peer", "2001:db8::2", "2001:db8::3", cast, 64, packet.ChecksumRFC9568},
		{"O-09 from no IPv6 peer", "fe80::2", "2001:db8::3", cast, 255, packet.ChecksumRFC9568},
	} {
		source, destination := netip.MustParseAddr(c.from), netip.MustParseAddr(c.to)
		a := packet.Advertisement{Version: 3, VRID: c.vrid, Priority: 200, Interval: time.Second, Addresses: list("192.0.2.1")}
		frame := []byte{2, 0, 0, 0, 0, 0x0b, 2, 0, 0, 0, 0, 2, 8, 0}
		if source.Is6() {
			a.Addresses, frame[12], frame[13] = list("fe80::1"), 0x86, 0xdd
		}
		frame, err := packet.AppendAdvertisementDatagram(frame, source, destination, c.ttl, &a, c.form)
		if err != nil {
			t.Fatal(err)
		}
		if len(frame) < 60 {
			frame = append(frame, make([]byte, 60-len(frame))...)
		}
		all = append(all, sample{name: c.name, frame: frame})
	}
	return all
}

// corpusReceiver returns the checklist's receiver with four more Virtual Routers.
func (w *wire) corpusReceiver(t *testing.T) *receiver {
	t.Helper()
	r := w.receiver(t, false)
	k := packet.Key{Ifindex: w.ifindex, Family: packet.IPv4, VRID: owner}
	m, err := vrrp.New(vrrp.Config{Version: 3, VRID: owner, Family: packet.IPv4, Addresses: list("192.0.2.1"), Priority: vrrp.OwnerPriority, Interval: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	own := netip.MustParseAddr("192.0.2.3")
	m.Step(r.start, vrrp.Event{Kind: vrrp.Startup, Source: own}, nil)
	r.machines[k] = m
	if err := w.dp.SetRouter(k, Router{Version: 3, Source: own, Running: true}); err != nil {
		t.Fatal(err)
	}
	k.VRID = cast
	for _, c := range []struct {
		own, address string
		peers        map[netip.Addr]packet.Hops
	}{
		{"192.0.2.3", "192.0.2.1", map[netip.Addr]packet.Hops{netip.MustParseAddr("192.0.2.2"): packet.OnLink(), netip.MustParseAddr("198.51.100.2"): {Min: 200, Max: 250}}},
		{"2001:db8::3", "fe80::1", map[netip.Addr]packet.Hops{netip.MustParseAddr("2001:db8::2"): {Max: 255}}},
	} {
		own := netip.MustParseAddr(c.own)
		k.Family = packet.FamilyOf(own)
		m, err := vrrp.New(vrrp.Config{Version: 3, VRID: cast, Family: k.Family, Addresses: list(c.address), Priority: 100, Interval: time.Second, Preempt: true})
		if err != nil {
			t.Fatal(err)
		}
		m.Step(r.start, vrrp.Event{Kind: vrrp.Startup, Source: own}, nil)
		r.machines[k] = m
		if err := w.dp.SetRouter(k, Router{Version: 3, Source: own, Running: true, Forms: packet.ChecksumRFC9568 | packet.ChecksumRFC5798, Peers: c.peers}); err != nil {
			t.Fatal(err)
		}
	}
	k.VRID = bare
	for _, own := range list("192.0.2.3", "fe80::b") {
		k.Family = packet.FamilyOf(own)
		m, err := vrrp.New(vrrp.Config{Version: 3, VRID: bare, Family: k.Family, Priority: 100, Interval: time.Second, Preempt: true})
		if err != nil {
			t.Fatal(err)
		}
		m.Step(r.start, vrrp.Event{Kind: vrrp.Startup, Source: own}, nil)
		r.machines[k] = m
		if err := w.dp.SetRouter(k, Router{Version: 3, Source: own, Running: true, Forms: packet.ChecksumRFC9568 | packet.ChecksumRFC5798, Tolerate: packet.Tolerance{NoAddress: true}}); err != nil {
			t.Fatal(err)
		}
	}
	k.Family = packet.IPv4
	k.VRID = idle
	if err := w.dp.SetRouter(k, Router{Version: 3}); err != nil {
		t.Fatal(err)
	}
	return r
}

// readCapture reads the frames of a little-endian pcap file.
func readCapture(t *testing.T, path string) (frames [][]byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < 24 || binary.LittleEndian.Uint32(b) != 0xa1b2c3d4 || binary.LittleEndian.Uint32(b[20:]) != 1 {
		t.Fatalf("%s is no pcap file of Ethernet frames", path)
	}
	for b = b[24:]; len(b) > 0; {
		length := binary.LittleEndian.Uint32(b[8:])
		frames = append(frames, b[16:16+length])
		b = b[16+length:]
	}
	return frames
}

// newCable is like newWire, but without a switch, which would remove VLAN tags: both ends
// of the cable are on the host.
func newCable(t *testing.T, mode Mode) *wire {
	t.Helper()
	w := newWire(t, "")
	if mode == "" {
		return w
	}
	if err := w.here.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"); err != nil {
		t.Fatal(err)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "far"}
	if err := w.here.Netlink().LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"eth0", "far"} {
		if err := w.here.SetUp(name); err != nil {
			t.Fatal(err)
		}
	}
	far, err := w.here.Netlink().LinkByName("far")
	if err != nil {
		t.Fatal(err)
	}
	w.ifindex = index(t, w.here)
	addressee(t, w.here)
	if err := w.here.Do(func() (err error) {
		if w.conn, err = transmit.Open(far.Attrs().Index); err != nil {
			return err
		}
		_, err = w.dp.Attach(Link{Index: w.ifindex, Name: "eth0", Kind: "veth"}, mode, false)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.conn.Close() })
	return w
}
