// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// lease returns the lease of a router. The methods of a missing one do nothing.
func (w *wire) lease(k packet.Key) Lease {
	l, _ := w.dp.Lease(k)
	return l
}

func (w *wire) stamp(k packet.Key) (vrrp.Stamp, bool) {
	e, ok := w.dp.ReceiveState(k)
	if !ok {
		return vrrp.Stamp{}, false
	}
	return e.Stamp()
}

// takes runs the XDP program on a frame. It reports whether the frame was delivered, and
// with which signature.
func (w *wire) takes(t *testing.T, r *receiver, frame []byte) (signature uint64, delivered bool) {
	t.Helper()
	if verdict := runProgram(t, r, frame); verdict != xdpPass {
		t.Errorf("verdict %d", verdict)
	}
	w.dp.Drain(func(rec *Record) { signature, delivered = rec.Signature, true })
	return signature, delivered
}

// An expected advertisement is stamped and counted, but not delivered. Any other is
// delivered, and so are all that follow, until Expect is called again.
func TestUnchanged(t *testing.T) {
	w := newWire(t, "")
	r := w.receiver(t, false)
	k := packet.Key{Ifindex: 1, Family: packet.IPv4, VRID: 51}
	config := w.dp.routers[k].Router
	config.MinPriority = 100
	if err := w.dp.SetRouter(k, config); err != nil {
		t.Fatal(err)
	}
	frames := readVectors(t)
	ours, other := frames["V04"], frames["V05"] // in either form of the checksum
	state, ok := w.dp.ReceiveState(k)
	if !ok {
		t.Fatal("no state")
	}
	first, delivered := w.takes(t, r, ours)
	if again, _ := w.takes(t, r, ours); !delivered || first == 0 || again != first {
		t.Fatalf("delivered %v with signatures %x and %x", delivered, first, again)
	}
	second, _ := w.takes(t, r, other)
	if second == first {
		t.Fatal("both forms of the checksum have the same signature")
	}

	state.SetExpected([Expected]uint64{first, second})
	for n, frame := range [][]byte{ours, other} {
		before, counted := monotonic(), w.dp.Counters()
		repeated, _ := state.Repeated()
		if _, delivered := w.takes(t, r, frame); delivered {
			t.Error("delivered although it was expected")
		}
		stamp, _ := w.stamp(k)
		if stamp.At < before || *state.RepeatedAt() != stamp.At {
			t.Errorf("stamp %+v, repeated at %d", stamp, *state.RepeatedAt())
		}
		if now, order := state.Repeated(); now[n] != repeated[n]+1 || order&1 != uint64(n) {
			t.Errorf("repeated %d, before %d, in the order %b", now, repeated, order)
		}
		want := []string{"advertisement_rcvd unchanged", "advertisement_rcvd csum_5798_form unchanged"}[n]
		if got := raised(counted, w.dp.Counters()); got != want {
			t.Errorf("raised %s, want %s", got, want)
		}
	}

	for _, c := range []struct {
		name   string
		change func(frame []byte)
	}{
		{"source", func(b []byte) { b[29] += 7 }},
		{"priority", func(b []byte) { b[36]++ }},
		{"lower priority, which isn't heeded", func(b []byte) { b[36] = 99 }},
		{"priority 0", func(b []byte) { b[36] = 0 }},
		{"interval", func(b []byte) { b[39]++ }},
		{"address", func(b []byte) { b[45]++ }},
	} {
		state.SetExpected([Expected]uint64{first, second})
		changed := slices.Clone(ours)
		c.change(changed)
		if _, delivered := w.takes(t, r, refit(changed, bendRFC9568)); !delivered {
			t.Errorf("another %s isn't delivered", c.name)
		}
		if _, delivered := w.takes(t, r, ours); !delivered {
			t.Errorf("after another %s: not delivered", c.name)
		}
	}

	config.DropUnchanged = true
	if err := w.dp.SetRouter(k, config); err != nil {
		t.Fatal(err)
	}
	state.SetExpected([Expected]uint64{0, second})
	if verdict := runProgram(t, r, other); verdict != xdpDrop {
		t.Errorf("verdict %d on an unchanged advertisement", verdict)
	}
	if _, delivered := w.takes(t, r, ours); !delivered {
		t.Error("not delivered")
	}
}

// Until the time given to Outrank, an outranked advertisement is only counted. Any other is
// delivered. An outranked one doesn't end what Expect began.
func TestOutranked(t *testing.T) {
	w := newWire(t, "")
	r := w.receiver(t, false)
	k := packet.Key{Ifindex: 1, Family: packet.IPv4, VRID: 51}
	frames := readVectors(t)
	with := func(name string, priority uint8) []byte {
		frame := slices.Clone(frames[name])
		frame[36] = priority
		if name == "V05" {
			return refit(frame, bendRFC5798)
		}
		return refit(frame, bendRFC9568)
	}
	state, ok := w.dp.ReceiveState(k)
	if !ok {
		t.Fatal("no state")
	}
	expected, _ := w.takes(t, r, frames["V04"])
	hour := monotonic().Add(time.Hour)
	for _, c := range []struct {
		name     string
		until    vrrp.Instant
		least    uint8
		forms    packet.Checksum
		frame    []byte
		outranks bool
	}{
		{"just below", hour, 1, 3, with("V04", 99), true},
		{"the least", hour, 1, 3, with("V04", 1), true},
		{"priority 0", hour, 1, 3, with("V04", 0), false},
		{"priority 0, to an Active", hour, 0, 3, with("V04", 0), true},
		{"an equal", hour, 0, 3, with("V04", 100), false},
		{"above", hour, 0, 3, with("V04", 255), false},
		{"the other form", hour, 0, packet.ChecksumRFC9568, with("V05", 99), false},
		{"either form", hour, 0, 3, with("V05", 99), true},
		{"too late", monotonic(), 0, 3, with("V04", 99), false},
		{"ended", 0, 0, 3, with("V04", 99), false},
	} {
		state.SetExpected([Expected]uint64{expected})
		state.SetOutranked(vrrp.Outranked{Until: c.until, Least: c.least, Below: 100, Forms: c.forms})
		stamp, _ := w.stamp(k)
		counted := w.dp.Counters()
		_, delivered := w.takes(t, r, c.frame)
		if delivered == c.outranks {
			t.Errorf("%s: delivered %v", c.name, delivered)
		}
		if !c.outranks {
			continue
		}
		if got := raised(counted, w.dp.Counters()); got != "outranked" {
			t.Errorf("%s raises %q", c.name, got)
		}
		if now, _ := w.stamp(k); now != stamp {
			t.Errorf("%s is stamped", c.name)
		}
		if _, delivered := w.takes(t, r, frames["V04"]); delivered {
			t.Errorf("after %s: an expected advertisement is delivered", c.name)
		}
	}
}

// With authentication too an expected advertisement isn't delivered, although each has a
// different trailer. A replay doesn't count as expected.
func TestAuthenticUnchanged(t *testing.T) {
	w := newWire(t, "")
	r := w.receiver(t, false)
	frames := readFrames(t, "../packet/testdata/auth.json")
	k := packet.Key{Ifindex: 1, Family: packet.IPv6, VRID: 60}
	signature, delivered := w.takes(t, r, frames["H6-1"])
	if !delivered || signature == 0 {
		t.Fatalf("delivered %v, signature %x", delivered, signature)
	}
	state, _ := w.dp.ReceiveState(k)
	state.SetExpected([Expected]uint64{signature})
	if _, delivered := w.takes(t, r, frames["H6-2"]); delivered || *state.RepeatedAt() == 0 {
		t.Errorf("delivered %v, repeated at %d", delivered, *state.RepeatedAt())
	}
	repeated := *state.RepeatedAt()
	before := w.dp.Counters()
	runProgram(t, r, frames["H6-2"])
	w.dp.Drain(func(*Record) { t.Error("a replay is delivered") })
	if got := raised(before, w.dp.Counters()); got != "auth_replay" || *state.RepeatedAt() != repeated {
		t.Errorf("a replay raises %s, repeated at %d", got, *state.RepeatedAt())
	}
	if _, delivered := w.takes(t, r, frames["H6-3"]); delivered {
		t.Error("a replay has ended what Expect began")
	}
}

// Advertisements with an Authentication Header are always delivered, because user space
// continues their sequence numbers.
func TestNumberedIsNews(t *testing.T) {
	w := newWire(t, "")
	r := w.receiver(t, false)
	frames := readFrames(t, "../packet/testdata/auth.json")
	for _, id := range []string{"AH-1", "AH-2"} {
		if signature, delivered := w.takes(t, r, frames[id]); !delivered || signature != 0 {
			t.Errorf("%s: delivered %v, signature %x", id, delivered, signature)
		}
	}
}

// An advertisement of version 3 that an Active yields to ends its lease in the kernel, before
// the daemon reacts. No other advertisement does.
func TestLeaseEnds(t *testing.T) {
	t.Attr("proves", "S-A4 S-C1")
	w := newWire(t, "")
	r := w.receiver(t, true)
	k := packet.Key{Ifindex: 1, Family: packet.IPv4, VRID: 51}
	config := w.dp.routers[k].Router
	config.MinPriority, config.Priority = 100, 100
	if err := w.dp.SetRouter(k, config); err != nil {
		t.Fatal(err)
	}
	better := readVectors(t)["V04"] // of priority 200, from 192.0.2.2, and the router is 192.0.2.3
	change := func(priority, host byte) []byte {
		frame := slices.Clone(better)
		frame[29], frame[36] = host, priority
		return refit(frame, bendRFC9568)
	}
	spoiled := slices.Clone(better)
	spoiled[36]++
	for _, c := range []struct {
		name  string
		frame []byte
		ends  bool
	}{
		{"a higher priority", better, true},
		{"a lower one", change(99, 2), false},
		{"the same, and a lesser address", change(100, 2), false},
		{"the same, and a greater address", change(100, 4), true},
		{"the own address", change(200, 3), false},
		{"priority 0", change(0, 4), false},
		{"a wrong checksum", spoiled, false},
	} {
		until := monotonic().Add(time.Hour)
		w.lease(k).Answer(until)
		runProgram(t, r, c.frame)
		w.dp.Drain(func(*Record) {})
		if answer := w.lease(k).state.Answer; (answer == 0) != c.ends || !c.ends && answer != uint64(until) {
			t.Errorf("%s: answers until %d of %d", c.name, answer, until)
		}
		// A process that hands over must not revive a lease that the kernel has ended.
		later := until.Add(time.Second)
		if renewed := w.lease(k).Renew(until, later); renewed == c.ends || (w.lease(k).Until() == later) == c.ends {
			t.Errorf("%s: renewed %v, answers until %d of %d", c.name, renewed, w.lease(k).Until(), later)
		}
	}
	config.Forms = packet.ChecksumRFC5798
	if err := w.dp.SetRouter(k, config); err != nil {
		t.Fatal(err)
	}
	w.lease(k).Answer(monotonic().Add(time.Hour))
	runProgram(t, r, better)
	if w.lease(k).state.Answer == 0 {
		t.Error("an advertisement in a checksum form that isn't accepted has ended the lease")
	}
	config.Forms, config.Verifier = packet.ChecksumRFC9568|packet.ChecksumRFC5798, guarded{auth.NewGuard(hmacSettings())}
	if err := w.dp.SetRouter(k, config); err != nil {
		t.Fatal(err)
	}
	w.lease(k).Answer(monotonic().Add(time.Hour))
	runProgram(t, r, better)
	if w.lease(k).state.Answer == 0 {
		t.Error("an advertisement that isn't authentic has ended the lease")
	}
}

// The kernel too breaks a tie by the addresses as numbers in network byte order (RFC 9568
// section 6.4.3): the first octet counts most.
func TestTieIsBrokenByOctets(t *testing.T) {
	w := newWire(t, "")
	r := w.receiver(t, true)
	for _, c := range []struct{ ours, theirs string }{
		{"10.0.0.200", "10.0.1.1"},
		{"10.0.1.1", "10.0.0.200"},
		{"10.255.255.255", "11.0.0.0"},
		{"192.0.2.9", "192.0.2.10"},
		{"192.0.2.10", "192.0.2.9"},
		{"128.0.0.1", "126.255.255.255"},
		{"fe80::ff", "fe80::100"},
		{"fe80::100", "fe80::ff"},
		{"fe80::1:0:0:2", "fe80::2:0:0:1"},
		{"fe80::2:0:0:1", "fe80::1:0:0:2"},
		{"fe80::8000:0", "fe80::7fff:ffff"},
	} {
		ours, theirs := netip.MustParseAddr(c.ours), netip.MustParseAddr(c.theirs)
		k := packet.Key{Ifindex: 1, Family: packet.FamilyOf(ours), VRID: 90}
		if err := w.dp.SetRouter(k, Router{Version: 3, Running: true, Source: ours, MinPriority: 100, Priority: 100, Forms: packet.ChecksumRFC9568}); err != nil {
			t.Fatal(err)
		}
		a := packet.Advertisement{Version: 3, VRID: 90, Priority: 100, Interval: time.Second, Addresses: []netip.Addr{ours}}
		frame, err := packet.AppendAdvertisementFrame(nil, packet.MAC{2, 0, 0, 0, 0, 9}, theirs, &a, packet.ChecksumRFC9568)
		if err != nil {
			t.Fatal(err)
		}
		w.lease(k).Answer(monotonic().Add(time.Hour))
		runProgram(t, r, frame)
		w.dp.Drain(func(*Record) {})
		if yields, greater := w.lease(k).state.Answer == 0, theirs.Compare(ours) > 0; yields != greater {
			t.Errorf("%s receives from %s: yields %v, want %v", ours, theirs, yields, greater)
		}
	}
}
