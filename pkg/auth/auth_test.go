// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

var (
	noon   = time.Date(2026, 6, 26, 12, 0, 0, 0, time.UTC)
	source = map[packet.Family]netip.Addr{packet.IPv4: netip.MustParseAddr("192.0.2.2"), packet.IPv6: netip.MustParseAddr("fe80::2")}
)

// octets returns a key for tests.
func octets(b byte) Secret { return NewSecret(bytes.Repeat([]byte{b}, KeyMin)) }

func settings(mode Mode, send uint8, keys ...Key) Settings {
	return Settings{Type: HMAC, Mode: mode, Send: send, Keys: keys, Window: 5 * time.Second}
}

var one, two = Key{1, octets('a')}, Key{2, octets('b')}

// advertisement returns an IP datagram without a proof.
func advertisement(t testing.TB, version uint8, from netip.Addr) []byte {
	t.Helper()
	family := packet.FamilyOf(from)
	a := packet.Advertisement{Version: version, VRID: 60, Priority: 200, Interval: time.Second, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	if family == packet.IPv6 {
		a.Addresses = []netip.Addr{netip.MustParseAddr("fe80::1")}
	}
	d, err := packet.AppendAdvertisementDatagram(nil, from, family.Group(), 255, &a, packet.ChecksumRFC9568)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// receive decodes and verifies a datagram.
func receive(t testing.TB, g *Guard, at time.Time, datagram []byte) error {
	t.Helper()
	frame := append(make([]byte, 12), 8, 0)
	if datagram[0]>>4 == 6 {
		frame = append(frame[:12], 0x86, 0xdd)
	}
	d, err := packet.ParseFrame(append(frame, datagram...))
	if err != nil {
		t.Fatal(err)
	}
	var a packet.Advertisement
	if _, err := a.DecodeTolerant(&d, packet.Tolerance{AuthTrailer: g.settings.Type == HMAC, AuthHeader: g.settings.Type == Header}); err != nil {
		return err
	}
	return g.Verify(at, &d, &a)
}

// sent returns the datagram that a Guard sends.
func sent(t testing.TB, g *Guard, at time.Time, version uint8, from netip.Addr) []byte {
	t.Helper()
	d := g.Prepare(advertisement(t, version, from))
	g.Sign(d, at)
	return d
}

// each fault of a trailer is refused with its own reason and doesn't change the
// memory.
func TestRefused(t *testing.T) {
	t.Attr("proves", "A-09")
	trailer := func(at int, change func(*byte)) func([]byte) []byte {
		return func(d []byte) []byte {
			change(&d[len(d)-packet.TrailerLen+at])
			return d
		}
	}
	flip := func(b *byte) { *b ^= 4 }
	for _, c := range []struct {
		name   string
		sender Settings
		late   time.Duration // how much the receiver's clock is ahead
		change func([]byte) []byte
		want   error
	}{
		{name: "good", sender: settings(Enforce, 1, one)},
		{name: "the window's end", sender: settings(Enforce, 1, one), late: 5 * time.Second},
		{name: "five minutes late", sender: settings(Enforce, 1, one), late: 5 * time.Minute, want: packet.ErrAuthStale},
		{name: "five minutes early", sender: settings(Enforce, 1, one), late: -5 * time.Minute, want: packet.ErrAuthStale},
		{name: "wrong key", sender: settings(Enforce, 1, Key{1, octets('x')}), want: packet.ErrAuth},
		{name: "wrong id", sender: settings(Enforce, 9, Key{9, one.Secret}), want: packet.ErrAuthKey},
		{name: "no trailer", sender: settings(ReceiveOnly, 1, one), want: packet.ErrAuthMissing},
		{name: "digest flipped", sender: settings(Enforce, 1, one), change: trailer(20, flip), want: packet.ErrAuth},
		{name: "counter flipped", sender: settings(Enforce, 1, one), change: trailer(11, flip), want: packet.ErrAuth},
		{name: "other scheme", sender: settings(Enforce, 1, one), change: trailer(0, flip), want: packet.ErrAuthMalformed},
		{name: "reserved", sender: settings(Enforce, 1, one), change: trailer(3, flip), want: packet.ErrAuthMalformed},
		{name: "truncated", sender: settings(Enforce, 1, one), change: func(d []byte) []byte { return shortened(d, 4) }, want: packet.ErrPacketLength},
		{name: "truncated to the message", sender: settings(Enforce, 1, one), change: func(d []byte) []byte { return shortened(d, packet.TrailerLen) }, want: packet.ErrAuthMissing},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := NewGuard(settings(Enforce, 2, one, two))
			d := sent(t, NewGuard(c.sender), noon, 3, source[packet.IPv4])
			if c.change != nil {
				d = c.change(d)
			}
			if got := receive(t, g, noon.Add(c.late), d); !errors.Is(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
			reason, counted := c.want.(packet.Reason) //nolint:errorlint // it is one, unwrapped
			if counted && reason != packet.ErrPacketLength && g.Refused(reason) != 1 {
				t.Errorf("%s counted %d times", reason, g.Refused(reason))
			}
			if c.want != nil && len(g.senders) != 0 {
				t.Error("a sender is remembered that wasn't authentic")
			}
		})
	}
}

// shortened cuts octets off the end of an IPv4 datagram.
func shortened(d []byte, n int) []byte {
	d = d[:len(d)-n]
	d[11] += byte(n) // the checksum, which is the complement of a sum
	if d[11] < byte(n) {
		d[10]++
	}
	d[3] = byte(len(d))
	return d
}

// Only enforce refuses advertisements without a trailer. In every mode an existing trailer
// must be right. Receive-only sends none.
func TestModes(t *testing.T) {
	plain := advertisement(t, 3, source[packet.IPv6])
	for mode, want := range map[Mode]error{ReceiveOnly: nil, Permit: nil, Enforce: packet.ErrAuthMissing} {
		g := NewGuard(settings(mode, 1, one))
		if got := receive(t, g, noon, plain); !errors.Is(got, want) {
			t.Errorf("%s, no trailer: %v, want %v", mode, got, want)
		}
		wrong := sent(t, NewGuard(settings(Enforce, 1, Key{1, octets('x')})), noon, 3, source[packet.IPv6])
		if got := receive(t, g, noon, wrong); !errors.Is(got, packet.ErrAuth) {
			t.Errorf("%s, wrong key: %v", mode, got)
		}
		good := sent(t, NewGuard(settings(Permit, 1, one)), noon, 3, source[packet.IPv6])
		if got := receive(t, g, noon, good); got != nil {
			t.Errorf("%s, good: %v", mode, got)
		}
		if got := g.Prepare(plain); (len(got) == len(plain)) != (mode == ReceiveOnly) {
			t.Errorf("%s makes %d octets of %d", mode, len(got), len(plain))
		}
	}
}

// From each sender only newer advertisements are accepted, whatever the clocks do.
func TestReplay(t *testing.T) {
	for _, family := range []packet.Family{packet.IPv4, packet.IPv6} {
		for _, version := range []uint8{2, 3} {
			if version == 2 && family == packet.IPv6 {
				continue
			}
			from := source[family]
			a, b, g := NewGuard(settings(Enforce, 1, one)), NewGuard(settings(Enforce, 1, one)), NewGuard(settings(Enforce, 1, one))
			old := sent(t, a, noon, version, from)
			for n, d := range [][]byte{old, sent(t, a, noon, version, from), sent(t, a, noon.Add(-time.Second), version, from), sent(t, a, noon.Add(time.Second), version, from)} {
				if err := receive(t, g, noon, d); err != nil {
					t.Errorf("%s, advertisement %d: %v", family, n, err)
				}
				if err := receive(t, g, noon, d); !errors.Is(err, packet.ErrAuthReplay) {
					t.Errorf("%s, advertisement %d again: %v", family, n, err)
				}
			}
			if err := receive(t, g.With(settings(Enforce, 2, one, two)), noon, old); !errors.Is(err, packet.ErrAuthReplay) {
				t.Errorf("%s, after a change of keys: %v", family, err)
			}
			if err := receive(t, g, noon, sent(t, b, noon.Add(-2*time.Second), version, from.Next())); err != nil {
				t.Errorf("%s, another sender: %v", family, err)
			}
		}
	}
}

// Without a window any clock of the sender is accepted, as long as it advances.
func TestNoWindow(t *testing.T) {
	s := settings(Enforce, 1, one)
	s.Window = 0
	a, g := NewGuard(s), NewGuard(s)
	first := sent(t, a, noon, 3, source[packet.IPv4])
	for n, d := range [][]byte{first, sent(t, a, noon.Add(-time.Hour), 3, source[packet.IPv4]), sent(t, a, noon.Add(time.Hour), 3, source[packet.IPv4])} {
		if err := receive(t, g, noon.Add(-24*time.Hour), d); err != nil {
			t.Errorf("advertisement %d: %v", n, err)
		}
	}
	if err := receive(t, g, noon.Add(24*time.Hour), first); !errors.Is(err, packet.ErrAuthReplay) {
		t.Errorf("the first again: %v", err)
	}
}

// A sender whose clock was ahead is accepted again after its clock was corrected. Neither it
// nor the receiver keeps the sequence number of the wrong time.
func TestClockSetBack(t *testing.T) {
	a, g := NewGuard(settings(Enforce, 1, one)), NewGuard(settings(Enforce, 1, one))
	if err := receive(t, g, noon.Add(time.Hour), sent(t, a, noon.Add(time.Hour), 3, source[packet.IPv4])); err != nil {
		t.Fatal(err)
	}
	d := sent(t, a, noon, 3, source[packet.IPv4])
	if err := receive(t, g, noon, d); err != nil {
		t.Errorf("after both clocks were set back: %v", err)
	}
	if err := receive(t, g, noon, d); !errors.Is(err, packet.ErrAuthReplay) {
		t.Errorf("again: %v", err)
	}
}

// A key is rotated in three steps, each on one router after the other. No router refuses
// another one in between.
func TestRotation(t *testing.T) {
	steps := []Settings{
		settings(Enforce, 1, one), settings(Enforce, 1, one, two), settings(Enforce, 2, one, two), settings(Enforce, 2, two),
	}
	a, b := NewGuard(steps[0]), NewGuard(steps[0])
	now := noon
	exchange := func(step int) {
		t.Helper()
		now = now.Add(time.Second)
		if err := receive(t, b, now, sent(t, a, now, 3, source[packet.IPv6])); err != nil {
			t.Errorf("step %d: %v", step, err)
		}
		if err := receive(t, a, now, sent(t, b, now, 3, source[packet.IPv6].Next())); err != nil {
			t.Errorf("step %d, the other way: %v", step, err)
		}
	}
	for n, s := range steps[1:] {
		a = a.With(s)
		exchange(n)
		b = b.With(s)
		exchange(n)
	}
	if err := receive(t, b, now, sent(t, NewGuard(steps[0]), now, 3, source[packet.IPv6])); !errors.Is(err, packet.ErrAuthKey) {
		t.Errorf("with the old key: %v", err)
	}
}

// a password or an Authentication Header of the right type is required, and a
// header with an old sequence number is a replay.
func TestVersion2(t *testing.T) {
	t.Attr("proves", "A-03 A-04 A-05 R-16")
	of := func(kind Type, secret string) *Guard {
		return NewGuard(Settings{Type: kind, Keys: []Key{{Secret: NewSecret([]byte(secret))}}})
	}
	from := source[packet.IPv4]
	for _, c := range []struct {
		name     string
		sender   *Guard
		receiver *Guard
		want     error
	}{
		{"password", of(Password, "secret"), of(Password, "secret"), nil},
		{"other password", of(Password, "secret"), of(Password, "secre"), packet.ErrAuth},
		{"no password", NewGuard(Settings{}), of(Password, "secret"), packet.ErrAuthType},
		{"header", of(Header, "secret"), of(Header, "secret"), nil},
		{"header with another password", of(Header, "secret"), of(Header, "secret1"), packet.ErrAuth},
		{"no header", of(Password, "secret"), of(Header, "secret"), packet.ErrAuthType},
		{"header for who has a password", of(Header, "secret"), of(Password, "secret"), packet.ErrNotVRRP},
	} {
		if got := receive(t, c.receiver, noon, sent(t, c.sender, noon, 2, from)); !errors.Is(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	a, b := of(Header, "secret"), of(Header, "secret")
	first := sent(t, a, noon, 2, from)
	for n, d := range [][]byte{first, sent(t, a, noon, 2, from)} {
		if err := receive(t, b, noon, d); err != nil {
			t.Errorf("header %d: %v", n, err)
		}
	}
	if err := receive(t, b, noon, first); !errors.Is(err, packet.ErrAuthReplay) {
		t.Errorf("the first again: %v", err)
	}
	// A router that takes over continues the sequence, because others have accepted the
	// numbers of the previous Active.
	if err := receive(t, a, noon, sent(t, b, noon, 2, from.Next())); err != nil {
		t.Errorf("from who has taken over: %v", err)
	}
	plain := advertisement(t, 2, from)
	var ad packet.Advertisement
	d := packet.Datagram{Source: from, Destination: packet.IPv4.Group(), TTL: 255, Message: plain[20:]}
	if _, err := ad.Decode(d); err != nil {
		t.Fatal(err)
	}
	ad.AuthType = 2
	if err := b.Verify(noon, &d, &ad); !errors.Is(err, packet.ErrAuthMissing) {
		t.Errorf("of type 2 without a header: %v", err)
	}
}

// Forged senders don't grow the memory and don't displace real ones.
func TestSenders(t *testing.T) {
	a, g := NewGuard(settings(Enforce, 1, one)), NewGuard(settings(Enforce, 1, one))
	first := sent(t, a, noon, 3, source[packet.IPv4])
	if err := receive(t, g, noon, first); err != nil {
		t.Fatal(err)
	}
	forger := NewGuard(settings(Enforce, 1, Key{1, octets('x')}))
	from := netip.MustParseAddr("198.51.100.1")
	for range 3 * sendersMax {
		if err := receive(t, g, noon, sent(t, forger, noon, 3, from)); !errors.Is(err, packet.ErrAuth) {
			t.Fatal(err)
		}
		from = from.Next()
	}
	if err := receive(t, g, noon, first); !errors.Is(err, packet.ErrAuthReplay) {
		t.Errorf("the first again: %v", err)
	}
	for range 3 * sendersMax {
		if err := receive(t, g, noon, sent(t, a, noon, 3, from)); err != nil {
			t.Fatal(err)
		}
		from = from.Next()
	}
	if len(g.senders) != sendersMax {
		t.Errorf("%d senders are remembered", len(g.senders))
	}
}

func TestAllocates(t *testing.T) {
	a, g := NewGuard(settings(Enforce, 1, one)), NewGuard(settings(Enforce, 1, one))
	d := a.Prepare(advertisement(t, 3, source[packet.IPv6]))
	a.Sign(d, noon)
	n := len(d) - packet.TrailerLen
	datagram := packet.Datagram{Source: source[packet.IPv6], Message: d[40:n], Trailer: d[n:]}
	if err := g.Verify(noon, &datagram, nil); err != nil {
		t.Fatal(err)
	}
	if allocs := testing.AllocsPerRun(100, func() {
		a.Sign(d, noon)
		if err := g.Verify(noon, &datagram, nil); err != nil {
			t.Error(err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
