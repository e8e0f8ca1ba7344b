// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// everyType returns settings for each type of authentication, with random keys.
func everyType(random *rand.Rand) []auth.Settings {
	secret := func(n int) auth.Secret {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return auth.NewSecret(b)
	}
	id := uint8(1 + random.IntN(255))
	return []auth.Settings{
		{Type: auth.HMAC, Mode: auth.Enforce, Send: id, Window: 300 * time.Second, Keys: []auth.Key{{ID: id, Secret: secret(auth.KeyMin + random.IntN(auth.KeyMax-auth.KeyMin+1))}}},
		{Type: auth.Header, Keys: []auth.Key{{Secret: secret(1 + random.IntN(auth.PasswordMax))}}},
		{Type: auth.Password, Keys: []auth.Key{{Secret: secret(1 + random.IntN(auth.PasswordMax))}}},
	}
}

// now is a Verifier that judges by the clock of this host.
type now struct{ *auth.Guard }

func (g now) Verify(_ vrrp.Instant, d *packet.Datagram, a *packet.Advertisement) error {
	return g.Guard.Verify(time.Now(), d, a)
}

// virtual returns n addresses of the family.
func virtual(f packet.Family, n int) (all []netip.Addr) {
	next := netip.MustParseAddr(map[packet.Family]string{packet.IPv4: "198.18.0.1", packet.IPv6: "fe80::1:0"}[f])
	for range n {
		all = append(all, next)
		next = next.Next()
	}
	return all
}

// signedFrame returns a frame with an authentic advertisement of the given number of
// addresses.
func signedFrame(t testing.TB, g *auth.Guard, version uint8, source string, vrid uint8, addresses int, at time.Time) []byte {
	t.Helper()
	from := netip.MustParseAddr(source)
	a := packet.Advertisement{Version: version, VRID: vrid, Priority: 200, Interval: time.Second, Addresses: virtual(packet.FamilyOf(from), addresses)}
	frame, err := packet.AppendAdvertisementFrame(nil, packet.MAC{2, 0, 0, 0, 0, 0x0a}, from, &a, packet.ChecksumRFC9568)
	if err != nil {
		t.Fatal(err)
	}
	frame = packet.InFrame(frame, g.Prepare(packet.IPOf(frame)))
	g.Sign(packet.IPOf(frame), at)
	return frame
}

// guardedRouter registers a Virtual Router with authentication.
func (w *wire) guardedRouter(t testing.TB, k packet.Key, version uint8, s auth.Settings, addresses int) {
	t.Helper()
	source := netip.MustParseAddr(map[packet.Family]string{packet.IPv4: "192.0.2.3", packet.IPv6: "fe80::b"}[k.Family])
	r := Router{Version: version, Source: source, Running: true, Forms: packet.ChecksumRFC9568, Verifier: now{auth.NewGuard(s)}, Addresses: virtual(k.Family, addresses)}
	r.Tolerate.AuthTrailer, r.Tolerate.AuthHeader = s.Type == auth.HMAC, s.Type == auth.Header
	if err := w.dp.SetRouter(k, r); err != nil {
		t.Fatal(err)
	}
}

// the kernel's programs accept what a Guard has signed, whatever the key, the version,
// the family and the length. They refuse a message that is signed with another key, and one
// with any octet changed, even if its checksum is right.
func TestDigests(t *testing.T) {
	t.Attr("proves", "A-03 A-04 A-09")
	w := newWire(t, "")
	w.setClock(t, time.Now())
	r := w.receiver(t, false)
	random := rand.New(rand.NewPCG(2104, 4231))
	for round := range 60 {
		for _, s := range everyType(random) {
			version, source, family := uint8(2), "192.0.2.2", packet.IPv4
			if s.Type == auth.HMAC && round%3 > 0 {
				version = 3
				if round%3 == 2 {
					source, family = "fe80::2", packet.IPv6
				}
			}
			addresses := 1 + random.IntN(200)
			if round < 12 {
				addresses = 1 + round
			}
			k := packet.Key{Ifindex: 1, Family: family, VRID: uint8(100 + round)}
			w.guardedRouter(t, k, version, s, addresses)
			frame := signedFrame(t, auth.NewGuard(s), version, source, k.VRID, addresses, time.Now())
			name := fmt.Sprintf("round %d, %s, version %d, %d addresses", round, s.Type, version, addresses)

			end := 14 + 20 + int(binary.BigEndian.Uint16(frame[16:])) - 20
			if family == packet.IPv6 {
				end = 14 + 40 + int(binary.BigEndian.Uint16(frame[18:]))
			}
			for range 4 {
				forged := slices.Clone(frame)
				from := 14 + 20 + 8
				if family == packet.IPv6 {
					from += 20
				}
				if s.Type == auth.Password {
					from = end - 8 // the rest isn't protected
				}
				at := from + random.IntN(end-from)
				if s.Type == auth.Header && slices.Contains([]int{59, 64, 65}, at) {
					continue // this changes the VRID, or the checksum, which is made right again
				}
				forged[at] ^= 1 << random.IntN(8)
				forged = refitAuthenticated(forged, s.Type)
				before, _ := w.stamp(k)
				counted := w.dp.Counters()
				runProgram(t, r, forged)
				w.dp.Drain(func(*Record) { t.Errorf("%s: octet %d of %d changed, and it is delivered", name, at, end) })
				if now, _ := w.stamp(k); now != before {
					t.Errorf("%s: octet %d of %d changed, and it is stamped", name, at, end)
				}
				if got := raised(counted, w.dp.Counters()); got == "" || got == packet.ReasonAdvertisementReceived.String() {
					t.Errorf("%s: octet %d of %d changed raises %q", name, at, end, got)
				}
			}
			other := s
			other.Keys = []auth.Key{{ID: s.Send, Secret: everyType(random)[slices.Index([]auth.Type{auth.HMAC, auth.Header, auth.Password}, s.Type)].Keys[0].Secret}}
			runProgram(t, r, signedFrame(t, auth.NewGuard(other), version, source, k.VRID, addresses, time.Now()))
			w.dp.Drain(func(*Record) { t.Errorf("%s: signed with another key, and delivered", name) })

			delivered := 0
			runProgram(t, r, frame)
			w.dp.Drain(func(*Record) { delivered++ })
			if _, stamped := w.stamp(k); delivered != 1 || !stamped {
				t.Errorf("%s: delivered %d times, refused %v", name, delivered, refusals(w.dp.Refused(k)))
			}
			if err := w.dp.DeleteRouter(k); err != nil {
				t.Fatal(err)
			}
		}
	}
	left := 0
	var key, value []byte
	for all := w.dp.objects.FailoverKeys.Iterate(); all.Next(&key, &value); {
		left++
	}
	if want := 5; left != want { // the receiver's own
		t.Errorf("%d keys are left in the kernel, want %d", left, want)
	}
}

func refusals(all [packet.ReasonCount]uint64) (names []string) {
	for r, n := range all {
		if n > 0 {
			names = append(names, fmt.Sprintf("%s %d", packet.Reason(r), n))
		}
	}
	return names
}

// refitAuthenticated corrects the checksum of a changed frame.
func refitAuthenticated(frame []byte, kind auth.Type) []byte {
	if kind != auth.Header {
		trailer := 0
		if kind == auth.HMAC && frame[14]>>4 == 4 { // over IPv4 the checksum doesn't cover the trailer
			trailer = packet.TrailerLen
		}
		return refitMessage(frame, 14+map[bool]int{true: 20, false: 40}[frame[14]>>4 == 4], trailer)
	}
	return refitMessage(frame, 14+20+24, 0)
}

func refitMessage(frame []byte, at, trailer int) []byte {
	end := 14 + int(binary.BigEndian.Uint16(frame[16:]))
	var pseudo []byte
	if frame[14]>>4 == 6 {
		end = 14 + 40 + int(binary.BigEndian.Uint16(frame[18:]))
		pseudo = append(slices.Clone(frame[14+8:14+40]), 0, 112)
		pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(end-at))
	}
	m := frame[at : end-trailer]
	m[6], m[7] = 0, 0
	binary.BigEndian.PutUint16(m[6:], internetChecksum(pseudo, m))
	return frame
}

// Of forged advertisements that are longer than any authentic one, the programs compute at
// most one digest in 10 ms. An authentic one that is longer than all before passes at once
// if there is no flood. From then on all of its length pass.
func TestOverlong(t *testing.T) {
	w := newWire(t, "")
	w.setClock(t, time.Now())
	r := w.receiver(t, false)
	s := hmacSettings()
	k := packet.Key{Ifindex: 1, Family: packet.IPv6, VRID: 99}
	w.guardedRouter(t, k, 3, s, 2)
	forger := s
	forger.Keys = []auth.Key{{ID: 1, Secret: auth.NewSecret(make([]byte, auth.KeyMin))}}
	forged := signedFrame(t, auth.NewGuard(forger), 3, "fe80::2", 99, 150, time.Now().Add(time.Minute))
	const n = 5000
	begin := monotonic()
	for range n {
		runProgram(t, r, forged)
	}
	took := monotonic().Sub(begin)
	refused := w.dp.Refused(k)
	if most := uint64(took/(10*time.Millisecond)) + 2; refused[packet.ErrAuth] > most || refused[packet.ErrAuth] == 0 || refused[packet.ErrAuth]+refused[packet.ErrAuthOverlong] != n {
		t.Errorf("%d digests in %v, and %d refused without, of %d", refused[packet.ErrAuth], took, refused[packet.ErrAuthOverlong], n)
	}
	// The flood doesn't affect advertisements of ordinary length.
	runProgram(t, r, signedFrame(t, auth.NewGuard(s), 3, "fe80::2", 99, 2, time.Now()))
	time.Sleep(20 * time.Millisecond)
	guard := auth.NewGuard(s)
	for range 20 {
		runProgram(t, r, signedFrame(t, guard, 3, "fe80::3", 99, 150, time.Now()))
	}
	delivered := 0
	w.dp.Drain(func(*Record) { delivered++ })
	if delivered != 21 {
		t.Errorf("%d authentic ones are delivered, refused %v", delivered, refusals(w.dp.Refused(k)))
	}
}

// The first router with authentication gets programs that know it, in place of those that don't.
// Only a signed advertisement reaches it, and the programs can't be taken over any more.
func TestAuthenticateLater(t *testing.T) {
	for _, mode := range []Mode{ModeGeneric, ModeTC} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWireWith(t, mode, Options{Dir: "/sys/fs/bpf/failoverd", Namespace: namespace, Candidates: []Candidate{{Link{Index: 2, Kind: "veth"}, mode}}})
			marked := func() bool {
				_, err := os.Stat(filepath.Join(w.dp.pins.dir, programsMark()))
				return err == nil
			}
			if err := w.here.Do(func() error {
				if !marked() {
					t.Error("the programs aren't marked")
				}
				r := Router{Version: 3, Source: netip.MustParseAddr("192.0.2.3"), Running: true, Forms: packet.ChecksumRFC9568}
				if err := w.dp.SetRouter(packet.Key{Ifindex: w.ifindex, Family: packet.IPv4, VRID: 70}, r); err != nil || w.dp.collection.authenticates {
					return cmp.Or(err, errors.New("a router without authentication has changed the programs"))
				}
				w.guardedRouter(t, packet.Key{Ifindex: w.ifindex, Family: packet.IPv4, VRID: 71}, 3, hmacSettings(), 1)
				if marked() {
					t.Error("programs that know authentication are marked")
				}
				return w.dp.Attached(w.ifindex)
			}); err != nil {
				t.Fatal(err)
			}
			other := hmacSettings()
			other.Keys = []auth.Key{{ID: 1, Secret: auth.NewSecret(make([]byte, auth.KeyMin))}}
			w.setClock(t, time.Now())
			for _, frame := range [][]byte{
				signedFrame(t, auth.NewGuard(other), 3, "192.0.2.2", 71, 1, time.Now()),
				signedFrame(t, auth.NewGuard(hmacSettings()), 3, "192.0.2.2", 71, 1, time.Now()),
				signedFrame(t, auth.NewGuard(auth.Settings{}), 3, "192.0.2.2", 70, 1, time.Now()),
			} {
				w.conn.Queue(frame)
			}
			w.conn.Flush(func(_ int, err error) { t.Error(err) })
			var got []uint8
			for deadline := time.Now().Add(10 * time.Second); !slices.Contains(got, 70) && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				w.dp.Drain(func(r *Record) { got = append(got, r.Key.VRID) })
			}
			slices.Sort(got) // they come through two rings
			if n := w.dp.Counters()[packet.ErrAuth]; !slices.Equal(got, []uint8{70, 71}) || n != 1 {
				t.Errorf("delivered %v, refused %d", got, n)
			}
		})
	}
}

// failover_clock follows the host's clock.
func TestClock(t *testing.T) {
	d, err := Load(Options{Unpinned: true, Authenticates: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	var offset uint64
	if err := d.objects.FailoverClock.Get(&offset); err != nil {
		t.Fatal(err)
	}
	if off := time.Duration(offsetNow() - int64(offset)).Abs(); off > time.Second {
		t.Errorf("the offset is wrong by %v", off)
	}
	// A wrong offset stands for a step of the clock, which a test must not make.
	if err := d.objects.FailoverClock.Set(uint64(1)); err != nil {
		t.Fatal(err)
	}
	if err := d.clock.update(); err != nil {
		t.Fatal(err)
	}
	if err := d.objects.FailoverClock.Get(&offset); err != nil || offset == 1 {
		t.Errorf("the offset is %d, %v", offset, err)
	}
}

// BenchmarkReceive measures the cost of a frame in the receiving program.
func BenchmarkReceive(b *testing.B) {
	w := newWire(b, "")
	w.setClock(b, time.Now())
	s := hmacSettings()
	other := s
	other.Keys = []auth.Key{{ID: 1, Secret: auth.NewSecret(make([]byte, auth.KeyMin))}}
	unknown := other
	unknown.Keys, unknown.Send = []auth.Key{{ID: 7, Secret: other.Keys[0].Secret}}, 7
	none := auth.NewGuard(auth.Settings{})
	for _, c := range []struct {
		name      string
		source    string
		vrid      uint8
		addresses int
		guard     *auth.Guard
		at        time.Duration
		settings  *auth.Settings
	}{
		{"plain", "192.0.2.2", 71, 1, none, 0, nil},
		{"authentic", "192.0.2.2", 72, 1, auth.NewGuard(s), 0, &s},
		{"forged", "192.0.2.2", 73, 1, auth.NewGuard(other), time.Minute, &s},
		{"old", "192.0.2.2", 73, 1, auth.NewGuard(other), -time.Hour, &s},
		{"unknown_key", "192.0.2.2", 73, 1, auth.NewGuard(unknown), time.Minute, &s},
		{"plain_ipv6_16", "fe80::2", 71, 16, none, 0, nil},
		{"authentic_ipv6_16", "fe80::2", 72, 16, auth.NewGuard(s), 0, &s},
		{"forged_ipv6_16", "fe80::2", 73, 16, auth.NewGuard(other), time.Minute, &s},
		{"forged_ipv6_200_overlong", "fe80::2", 73, 200, auth.NewGuard(other), time.Minute, &s},
		{"plain_ipv6_200", "fe80::2", 71, 200, none, 0, nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			k := packet.Key{Ifindex: 1, Family: packet.FamilyOf(netip.MustParseAddr(c.source)), VRID: c.vrid}
			if c.settings != nil {
				w.guardedRouter(b, k, 3, *c.settings, min(c.addresses, 16))
			} else if err := w.dp.SetRouter(k, Router{Version: 3, Source: netip.MustParseAddr("192.0.2.3"), Running: true, Forms: packet.ChecksumRFC9568}); err != nil {
				b.Fatal(err)
			}
			frame := signedFrame(b, c.guard, 3, c.source, c.vrid, c.addresses, time.Now().Add(c.at))
			var total time.Duration
			for range b.N {
				if c.settings != nil && c.at == 0 { // each needs a sequence number of its own
					c.guard.Sign(packet.IPOf(frame), time.Now())
				}
				_, took, err := w.dp.objects.FailoverVrrp.Benchmark(frame, 1, nil)
				if err != nil {
					b.Fatal(err)
				}
				total += took
				w.dp.Drain(func(*Record) {})
			}
			b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "ns/frame")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// byKernel accepts everything that the kernel has judged, and verifies what a socket has
// received.
type byKernel struct {
	*auth.Guard
	socket *bool
}

func (g byKernel) Verify(_ vrrp.Instant, d *packet.Datagram, a *packet.Advertisement) error {
	if !*g.socket {
		return nil
	}
	return g.Guard.Verify(sentAt, d, a)
}

// FuzzAuthenticated signs a frame, changes one octet, and gives the frame to the kernel's
// program and to the Go receiver. Both must raise the same counter. The fuzzer chooses the
// router with its type of authentication, the octet, and whether the checksum is corrected.
func FuzzAuthenticated(f *testing.F) {
	w := newWire(f, "")
	r := w.receiver(f, false)
	socket := false
	random := rand.New(rand.NewPCG(5, 6))
	signers := make(map[packet.Key]*auth.Guard)
	kinds := make(map[packet.Key]auth.Type)
	for n, s := range everyType(random) {
		for _, family := range []packet.Family{packet.IPv4, packet.IPv6} {
			if family == packet.IPv6 && s.Type != auth.HMAC {
				continue
			}
			k := packet.Key{Ifindex: 1, Family: family, VRID: uint8(80 + n)}
			w.guardedRouter(f, k, map[bool]uint8{true: 3, false: 2}[s.Type == auth.HMAC], s, addressesMax)
			c := w.dp.routers[k].Router
			c.Verifier = byKernel{auth.NewGuard(s), &socket}
			if err := w.dp.SetRouter(k, c); err != nil {
				f.Fatal(err)
			}
			signers[k], kinds[k] = auth.NewGuard(s), s.Type
		}
	}
	for _, frame := range readVectors(f) {
		f.Add(uint8(0), uint32(bendLength|bendRFC9568), uint16(0), byte(0), frame)
		f.Add(uint8(1), uint32(bendLength|bendRFC9568), uint16(70), byte(1), frame)
		f.Add(uint8(2), uint32(bendLength|bendRFC9568), uint16(58), byte(4), frame)
	}
	f.Fuzz(func(t *testing.T, which uint8, bend uint32, at uint16, change byte, frame []byte) {
		if len(frame) < 60 || len(frame) > 3400 {
			return
		}
		frame = slices.Clone(frame)
		k := packet.Key{Ifindex: 1, Family: packet.IPv4, VRID: 80 + which%3}
		message := 14 + 20
		if frame[14]>>4 == 6 {
			k.Family, message = packet.IPv6, 14+40
		}
		frame[message+1] = k.VRID
		frame = refit(frame, bend&^uint32(bendAddress|bendUnicast))
		g := signers[k]
		if g == nil {
			return
		}
		if d, err := packet.ParseFrame(frame); err == nil && len(d.Message) >= 16 && (frame[14] == 0x45 && frame[23] == packet.ProtocolVRRP || k.Family == packet.IPv6) {
			frame = packet.InFrame(frame, g.Prepare(packet.IPOf(frame)))
			g.Sign(packet.IPOf(frame), sentAt)
		}
		frame[int(at)%len(frame)] ^= change
		if which&128 != 0 && len(frame) > 100 && change != 0 {
			if d, err := packet.ParseFrame(frame); err == nil && len(d.Message) > 40 {
				frame = refitAuthenticated(frame, kinds[k])
			}
		}
		socket = false
		w.setClock(t, sentAt) // again, because the clock runs on while the Guard's stands still
		before := w.dp.Counters()
		runProgram(t, r, frame)
		var kernel, user []*Record
		w.dp.Drain(func(rec *Record) { kernel = append(kernel, clone(rec)) })
		after := w.dp.Counters()
		fromKernel := raised(before, after)
		socket = true
		if w.dp.fromSocket(&socketOfWire, frame, monotonic()) {
			user = append(user, clone(&w.dp.record))
		}
		if fromGo := raised(after, w.dp.Counters()); fromGo != fromKernel || len(kernel) != len(user) {
			t.Fatalf("the kernel raises %q and delivers %d, Go %q and %d:\n%x", fromKernel, len(kernel), fromGo, len(user), frame)
		}
	})
}

var socketOfWire = socket{ifindex: 1}

// An authentication trailer doesn't make an advertisement too long. For a VRID that isn't
// configured here it raises vrid_errors, and for one without authentication
// auth_type_mismatch.
func TestTrailersOfOthers(t *testing.T) {
	frames := readVectors(t)
	foreign := slices.Clone(frames["V26"])
	foreign[14+20+1] = 77
	foreign = refitMessage(foreign, 14+20, packet.TrailerLen)
	for _, mode := range []Mode{"", ModeGeneric, ModeTC, ModeOff} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWire(t, mode)
			for want, frame := range map[string][]byte{"vrid_errors": foreign, "auth_type_mismatch": frames["V26"]} {
				r := w.receiver(t, false)
				before := r.dp.Counters()
				if mode == "" {
					runProgram(t, r, frame)
					r.drain()
				} else {
					before[packet.ErrTTL]++ // by the frame that is sent after it
					w.send(t, r, frame, false, frames["V12"])
				}
				if got := raised(before, r.dp.Counters()); got != want {
					t.Errorf("%q is counted, want %q", got, want)
				}
			}
		})
	}
}
