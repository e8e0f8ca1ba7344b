// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

// keyring has the key files of a test.
type keyring struct {
	dir  string
	text map[int]string
}

func newKeyring(t *testing.T, ids ...int) *keyring {
	t.Helper()
	k := &keyring{dir: t.TempDir(), text: make(map[int]string)}
	for _, id := range ids {
		k.text[id] = fmt.Sprintf("key %d of a test: 0123456789 0123456789", id)
		if err := os.WriteFile(k.path(id), []byte(k.text[id]+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func (k *keyring) path(id int) string { return filepath.Join(k.dir, fmt.Sprint("key-", id)) }

// file returns a configuration with a router of both families that accepts the keys and signs with
// the first one.
func (k *keyring) file(priority int, receive, mode string, ids ...int) string {
	var keys []string
	for _, id := range ids {
		keys = append(keys, fmt.Sprintf("{id: %d, file: %s}", id, k.path(id)))
	}
	return fmt.Sprintf(`
global: {xdp_mode: %s}
routers:
  - name: web
    interface: eth0
    vrid: 51
    priority: %d
    interval: 200ms
    checksum: rfc9568
    addresses: [198.18.0.10/24, 2001:db8::10/64]
    authentication: {type: hmac, mode: %s, send: %d, keys: [%s]}
`, receive, priority, mode, ids[0], strings.Join(keys, ", "))
}

// guard returns a Guard that signs with a key.
func (k *keyring) guard(id int, text string) *auth.Guard {
	return auth.NewGuard(auth.Settings{
		Type: auth.HMAC, Mode: auth.Enforce, Window: auth.WindowMax, Send: uint8(id),
		Keys: []auth.Key{{ID: uint8(id), Secret: auth.NewSecret([]byte(text))}},
	})
}

var eachFamily = []string{"ipv4", "ipv6"}

// heard waits until a node has sent an advertisement of the family, and returns its frame.
func (s *site) heard(n *lab.Node, family string, since int) lab.Frame {
	s.t.Helper()
	at, err := s.capture.Wait(s.ctx, since, func(f lab.Frame) bool {
		a, d, _, ok := f.Advertisement()
		return ok && f.From == n.Name && a.Priority != 0 && packet.FamilyOf(d.Source).String() == family
	})
	s.ok(err)
	return s.capture.Frames()[at]
}

// reworked returns a frame with another priority and a trailer that g signs for the given time, or
// without a trailer if g is nil.
func reworked(t *testing.T, frame []byte, g *auth.Guard, at time.Time) []byte {
	t.Helper()
	var a packet.Advertisement
	d, err := packet.ParseFrame(frame)
	if err != nil {
		t.Fatal(err)
	}
	form, err := a.DecodeTolerant(&d, packet.Tolerance{AuthTrailer: true})
	if err != nil {
		t.Fatal(err)
	}
	a.Priority = 254
	again, err := packet.AppendAdvertisementFrame(nil, packet.MAC(frame[6:]), d.Source, &a, form)
	if err != nil {
		t.Fatal(err)
	}
	if g != nil {
		again = packet.InFrame(again, g.Prepare(packet.IPOf(again)))
		g.Sign(packet.IPOf(again), at)
	}
	return again
}

// truncated returns a frame without the last octets of its datagram.
func truncated(frame []byte, n int) []byte {
	frame = bytes.Clone(frame)
	ip := packet.IPOf(frame)
	if ip[0]>>4 == 6 {
		length := binary.BigEndian.Uint16(ip[4:]) - uint16(n)
		binary.BigEndian.PutUint16(ip[4:], length)
		return frame[:14+40+int(length)]
	}
	length := binary.BigEndian.Uint16(ip[2:]) - uint16(n)
	binary.BigEndian.PutUint16(ip[2:], length)
	binary.BigEndian.PutUint16(ip[10:], 0)
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	return frame[:14+int(length)]
}

// flipped inverts a bit of the digest in a frame, and updates the checksum if it covers the
// trailer (RFC 1624).
func flipped(frame []byte, family string) []byte {
	last := frame[len(frame)-2:]
	before := binary.BigEndian.Uint16(last)
	last[1] ^= 1
	if family == "ipv6" {
		checksum := frame[14+40+6:]
		sum := uint32(^binary.BigEndian.Uint16(checksum)) + uint32(^before) + uint32(binary.BigEndian.Uint16(last))
		sum = sum>>16 + sum&0xffff
		binary.BigEndian.PutUint16(checksum, ^uint16(sum+sum>>16))
	}
	return frame
}

// a pair with authentication fails over like any other. Other advertisements from the
// Active's address are refused, and a counter for each reason counts them. They make no router
// Active, and don't keep a Backup from taking over when the Active has gone.
func TestAuthentication(t *testing.T) {
	t.Attr("proves", "A-09")
	inReceiveModes(t, func(s *site, mode string) {
		keys := newKeyring(t, 1, 2)
		a := s.withFile(s.a, keys.file(200, mode, "enforce", 1))
		for _, f := range eachFamily {
			a.router("web", f, inState("Active"))
		}
		b := s.withFile(s.b, keys.file(100, mode, "enforce", 1))
		for _, f := range eachFamily {
			b.router("web", f, func(r control.Router) bool { return r.State == "Backup" && r.ActivePriority == 200 })
		}
		s.waitHolder("198.18.0.10", s.a)
		s.waitHolder("2001:db8::10", s.a)

		// Each frame is made right before it is sent. A frame whose number isn't newer than the
		// Active's last one counts as a replay, whatever else is wrong with it.
		attacks := make(map[string][]func() []byte)
		attack := func(counter string, of func() []byte) { attacks[counter] = append(attacks[counter], of) }
		for _, f := range eachFamily {
			frame := s.heard(s.a, f, len(s.capture.Frames())).Data
			signed := func(id int, key string, ahead time.Duration) func() []byte {
				return func() []byte { return reworked(t, frame, keys.guard(id, key), time.Now().Add(ahead)) }
			}
			good := signed(1, keys.text[1], 2*time.Second)
			attack("auth_replay", func() []byte { return frame })
			attack("packet_length_errors", func() []byte { return truncated(frame, 4) })
			attack("auth_missing", func() []byte { return reworked(t, frame, nil, time.Now()) })
			attack("auth_failures", signed(1, keys.text[2], 2*time.Second))
			attack("auth_failures", func() []byte { return flipped(good(), f) })
			attack("auth_key_unknown", signed(2, keys.text[1], 0))
			attack("auth_stale", signed(1, keys.text[1], -5*time.Minute))
			attack("auth_stale", signed(1, keys.text[1], 5*time.Minute))
			bits := bytes.Clone(frame)
			bits[14+map[string]int{"ipv4": 20, "ipv6": 40}[f]+2] ^= 1 // in the priority
			attack("checksum_errors", func() []byte { return bits })
		}
		for counter, frames := range attacks {
			for _, of := range frames {
				before := b.counter(counter)
				s.ok(s.ports[s.b].Deliver(of()))
				b.waitCounter(counter, before)
			}
		}
		for _, f := range eachFamily {
			if r := b.router("web", f, inState("Backup")); r.ActivePriority != 200 {
				t.Errorf("it heeded a forged advertisement: %+v", r)
			}
		}

		// When the Active has gone, repeated old advertisements, of the Active or of another
		// sender, don't keep the Backup from taking over.
		s.ok(s.ports[s.a].Pull())
		for _, f := range eachFamily {
			for r := b.state("web", f); r.State != "Active"; r = b.state("web", f) {
				for _, frames := range attacks {
					for _, of := range frames {
						s.ok(s.ports[s.b].Deliver(of()))
					}
				}
				if s.ctx.Err() != nil {
					t.Fatalf("forged advertisements keep it from taking over: %+v", r)
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
		s.ok(s.ports[s.a].Plug())
		for _, f := range eachFamily {
			b.router("web", f, inState("Backup"))
			a.router("web", f, inState("Active"))
		}
		s.stop(s.a, a.Failoverd)
		b.router("web", "ipv6", func(r control.Router) bool { return r.State == "Active" && strings.Contains(r.Cause, "priority 0") })
		s.stop(s.b, b.Failoverd)
	})
}

// A Backup is stopped for longer than the window and goes on. It doesn't take over from an Active
// that was there all the time, because advertisements are judged by the time when the kernel
// received them.
func TestAuthenticationStopped(t *testing.T) {
	t.Attr("proves", "A-09 TM-02")
	inReceiveModes(t, func(s *site, mode string) {
		keys := newKeyring(t, 1)
		text := func(priority int) string {
			return strings.Replace(keys.file(priority, mode, "enforce", 1), "send:", "window: 1s, send:", 1)
		}
		a := s.withFile(s.a, text(200))
		for _, f := range eachFamily {
			a.router("web", f, inState("Active"))
		}
		b := s.withFile(s.b, text(100))
		for _, f := range eachFamily {
			b.router("web", f, func(r control.Router) bool { return r.State == "Backup" && r.ActivePriority == 200 })
		}
		transitions := len(b.Transitions())
		s.ok(b.Signal(syscall.SIGSTOP))
		time.Sleep(3500 * time.Millisecond)
		s.ok(b.Signal(syscall.SIGCONT))
		before := b.accepted()
		for _, f := range eachFamily {
			for b.accepted()[f] < before[f]+5 {
				if s.ctx.Err() != nil {
					t.Fatalf("%s: it no longer hears the Active", f)
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
		if n := len(b.Transitions()); n != transitions {
			t.Errorf("transitions after SIGCONT: %+v", b.Transitions()[transitions:])
		}
		if n := b.counter("auth_stale"); n != 0 {
			t.Errorf("%d advertisements were refused as stale", n)
		}
		s.stop(s.a, a.Failoverd)
		s.stop(s.b, b.Failoverd)
	})
}

// state returns the current status of a router.
func (c *configured) state(name, family string) control.Router {
	c.t.Helper()
	return c.router(name, family, func(control.Router) bool { return true })
}

// Unicast advertisements are authenticated like multicast ones.
func TestAuthenticationUnicast(t *testing.T) {
	t.Attr("proves", "A-09 O-09")
	t.Parallel()
	s := newSite(t)
	keys := newKeyring(t, 1)
	file := func(priority, peer int) string {
		return keys.file(priority, "auto", "enforce", 1) + fmt.Sprintf("    unicast: {peers: [198.18.0.%[1]d, \"2001:db8::%[1]d\"]}\n", peer)
	}
	a, b := s.withFile(s.a, file(200, 2)), s.withFile(s.b, file(100, 1))
	for _, f := range eachFamily {
		a.router("web", f, inState("Active"))
		b.router("web", f, func(r control.Router) bool { return r.State == "Backup" && r.ActivePriority == 200 })
	}
	for _, f := range s.sentBy(s.a, 0) {
		if _, d, _, _ := f.Advertisement(); len(d.Trailer) == 0 {
			t.Fatalf("an advertisement without a trailer: %v", f)
		}
	}
	s.stop(s.a, a.Failoverd)
	for _, f := range eachFamily {
		b.router("web", f, func(r control.Router) bool { return r.State == "Active" && strings.Contains(r.Cause, "priority 0") })
	}
	for _, reason := range []packet.Reason{packet.ErrAuth, packet.ErrAuthMissing, packet.ErrAuthKey, packet.ErrAuthStale, packet.ErrAuthReplay, packet.ErrPeer} {
		if n := b.counter(reason.String()); n != 0 {
			t.Errorf("counter %s is %d", reason, n)
		}
	}
}

// The key is changed on a running pair: the Backup misses and refuses none of the Active's
// advertisements with the first or the second key. The same holds for the introduction of
// authentication by receive-only and permit.
func TestAuthenticationRotation(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	keys := newKeyring(t, 1, 2)
	plain := strings.Replace(keys.file(100, "auto", "enforce", 1), "    authentication:", "    # authentication:", 1)
	b := s.withFile(s.b, plain)
	for _, f := range eachFamily {
		b.router("web", f, inState("Active"))
	}
	a := s.withFile(s.a, strings.Replace(plain, "priority: 100", "priority: 200", 1))
	for _, f := range eachFamily {
		a.router("web", f, inState("Active"))
		b.router("web", f, inState("Backup"))
	}
	rcvd := b.accepted()
	for _, step := range []struct {
		mode string
		ids  []int
	}{
		{"receive-only", []int{1}},
		{"permit", []int{1}},
		{"enforce", []int{1}},
		{"enforce", []int{1, 2}},
		{"enforce", []int{2, 1}},
		{"enforce", []int{2}},
	} {
		for c, priority := range map[*configured]int{a: 200, b: 100} {
			c.write(keys.file(priority, "auto", step.mode, step.ids...))
			if changes := c.reload(); len(changes) != 1 || changes[0].What != "changed" {
				t.Errorf("%v: changes %+v", step, changes)
			}
			since := len(s.capture.Frames())
			for range 3 {
				for _, f := range eachFamily {
					s.heard(s.a, f, since)
				}
				since = len(s.capture.Frames())
			}
		}
	}
	// The file gets another key with the same id.
	a.write(keys.file(200, "auto", "enforce", 2, 1))
	a.reload()
	s.ok(os.WriteFile(keys.path(1), []byte("another key of a test: 0123456789 0123456789"), 0o600))
	if changes := a.reload(); len(changes) != 1 || !slices.Equal(changes[0].Details, []string{"authentication: key 1 changed"}) {
		t.Errorf("changes %+v", changes)
	}
	s.stop(s.a, a.Failoverd)
	for _, f := range eachFamily {
		b.router("web", f, inState("Active"))
	}
	for _, reason := range []packet.Reason{packet.ErrAuth, packet.ErrAuthMissing, packet.ErrAuthKey, packet.ErrAuthStale, packet.ErrAuthReplay, packet.ErrPacketLength} {
		if n := b.counter(reason.String()); n != 0 {
			t.Errorf("counter %s is %d", reason, n)
		}
	}
	if n := len(b.Transitions()); n != 8 { // for each family: Backup, Active, Backup, Active
		t.Errorf("%d transitions: %+v", n, b.Transitions())
	}
	s.missedNone(b, rcvd, keys)
}

// accepted returns the number of accepted advertisements by family.
func (c *configured) accepted() map[string]uint64 {
	c.t.Helper()
	stats, err := c.client.Stats(c.ctx)
	c.ok(err)
	n := make(map[string]uint64)
	for _, r := range stats.Routers {
		for _, one := range r.Counters {
			if one.Name == packet.ReasonAdvertisementReceived.String() {
				n[r.Family] = one.Value
			}
		}
	}
	return n
}

// missedNone compares the advertisements that node a has sent with those that b has accepted.
func (s *site) missedNone(b *configured, before map[string]uint64, keys *keyring) {
	s.t.Helper()
	sent, signed := make(map[string]uint64), make(map[uint8]int)
	for _, f := range s.sentBy(s.a, 0) {
		_, d, _, _ := f.Advertisement()
		sent[packet.FamilyOf(d.Source).String()]++
		trailer, _ := d.ParseTrailer()
		signed[trailer.KeyID]++
	}
	for _, f := range eachFamily {
		if got := b.accepted()[f]; got != sent[f] || got <= before[f] {
			s.t.Errorf("%s: %d accepted of %d sent; before the changes it was %d", f, got, sent[f], before[f])
		}
	}
	for id := range uint8(len(keys.text) + 1) {
		if signed[id] == 0 {
			s.t.Errorf("no advertisement was sent with key %d (0: without a trailer): %v", id, signed)
		}
	}
}

// No key appears in a log, the status, an event, a reload's answer, the process's arguments or a
// BPF map, in any form.
func TestAuthenticationSecret(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	keys := newKeyring(t, 1, 2)
	c := s.withFile(s.a, keys.file(200, "tc", "enforce", 1), "--log-level", "debug")
	for _, f := range eachFamily {
		c.router("web", f, inState("Active"))
	}
	var told bytes.Buffer
	note := func(v any, err error) {
		t.Helper()
		s.ok(err)
		b, err := json.Marshal(v)
		s.ok(err)
		told.Write(b)
		fmt.Fprintf(&told, "%+v\n", v)
	}
	c.write(keys.file(200, "tc", "enforce", 2, 1))
	for _, dry := range []bool{true, false} {
		r, err := c.client.Reload(s.ctx, dry)
		note(r, err)
	}
	// A malformed key must not appear either.
	s.ok(os.WriteFile(keys.path(1), []byte("hex:"+keys.text[1]), 0o600))
	_, err := c.client.Reload(s.ctx, false)
	if err == nil || !strings.Contains(err.Error(), "not hexadecimal") {
		t.Errorf("a reload with a malformed key: %v", err)
	}
	fmt.Fprintln(&told, err)
	s.ok(os.Chmod(keys.path(1), 0o644))
	_, err = c.client.Reload(s.ctx, false)
	if err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a reload with a key that all users may read: %v", err)
	}
	fmt.Fprintln(&told, err)
	status, err := c.client.Status(s.ctx)
	note(status, err)
	stats, err := c.client.Stats(s.ctx)
	note(stats, err)
	s.ok(c.client.Events(s.ctx, 0, false, func(e control.Event) error { note(e, nil); return nil }))
	for _, name := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", c.PID(), name))
		s.ok(err)
		told.Write(b)
	}
	names, err := s.a.Run(s.ctx, "ls", "/sys/fs/bpf/failoverd/maps")
	s.ok(err)
	if len(strings.Fields(names)) < 5 {
		t.Errorf("the maps are %s", names)
	}
	for _, name := range strings.Fields(names) {
		dump, err := s.a.Run(s.ctx, "bpftool", "map", "dump", "pinned", "/sys/fs/bpf/failoverd/maps/"+name)
		if err != nil && !slices.Contains([]string{"failover_ring", "failover_sealed", "failover_next"}, name) { // ring buffer or program maps
			t.Errorf("%s: %.500v", name, err)
		}
		told.WriteString(dump)
	}
	s.stop(s.a, c.Failoverd)
	told.WriteString(c.Output())

	for _, text := range keys.text {
		part := []byte(text[:12])
		decimal := strings.Trim(fmt.Sprintf("%d", part), "[]")
		forms := []string{string(part), hex.EncodeToString(part), base64.StdEncoding.EncodeToString(part), decimal, strings.ReplaceAll(decimal, " ", ",")}
		var bytewise []string // in bpftool's form
		for _, b := range part {
			bytewise = append(bytewise, fmt.Sprintf("0x%02x", b))
		}
		for _, form := range append(forms, strings.Join(bytewise, `","`), strings.Join(bytewise, " ")) {
			if bytes.Contains(told.Bytes(), []byte(form)) {
				t.Errorf("a key appears as %s", form)
			}
		}
	}
}

// a sender without the key can't delay a take-over. While the Active dies, the Backup's
// daemon hangs and receives more forged advertisements than a queue holds. Each claims to come
// from a router of priority 255 with an interval of 40.95 s.
func TestFloodOfForgeries(t *testing.T) {
	t.Attr("proves", "A-09 TM-02")
	inReceiveModes(t, func(s *site, mode string) {
		keys := newKeyring(t, 1, 2)
		a, b := s.withFile(s.a, keys.file(200, mode, "enforce", 1)), s.withFile(s.b, keys.file(100, mode, "enforce", 1))
		for _, f := range eachFamily {
			a.router("web", f, inState("Active"))
			b.router("web", f, func(r control.Router) bool { return r.State == "Backup" && r.ActivePriority == 200 })
		}
		var forged [][]byte
		for _, f := range eachFamily {
			heard := s.heard(s.a, f, len(s.capture.Frames())).Data
			d, err := packet.ParseFrame(heard)
			s.ok(err)
			for n := range 200 {
				source := d.Source // that of the Active, and others
				if b := source.AsSlice(); n%2 == 0 {
					b[len(b)-1] += byte(10 + n%100)
					source, _ = netip.AddrFromSlice(b)
				}
				a := packet.Advertisement{Version: 3, VRID: d.Message[1], Priority: 255, Interval: 40950 * time.Millisecond}
				for i := range 1 + n%80 {
					address := netip.AddrFrom4([4]byte{198, 18, 1, byte(i)})
					if f == "ipv6" {
						address = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: byte(i + 1)})
					}
					a.Addresses = append(a.Addresses, address)
				}
				frame, err := packet.AppendAdvertisementFrame(nil, packet.MAC(heard[6:]), source, &a, packet.ChecksumRFC9568)
				s.ok(err)
				guard := keys.guard(1, keys.text[2])
				frame = packet.InFrame(frame, guard.Prepare(packet.IPOf(frame)))
				guard.Sign(packet.IPOf(frame), time.Now().Add(time.Second))
				forged = append(forged, frame)
			}
		}
		transitions := len(b.Transitions())
		s.ok(b.Signal(syscall.SIGSTOP))
		s.ok(s.ports[s.a].Pull())
		blast, err := s.c.Blast(ifname, forged, 20_000, 2*time.Second)
		s.ok(err)
		s.ok(b.Signal(syscall.SIGCONT))
		for _, f := range eachFamily {
			b.router("web", f, inState("Active"))
		}
		told := func() int { return len(b.Transitions()) - transitions } // the log follows with a delay
		s.until("both families have told of it", func() bool { return told() >= len(eachFamily) })
		if n := told(); n != len(eachFamily) {
			s.t.Errorf("%v, and %d transitions", blast, n)
		}
		if mode != "off" {
			if lost, forged := b.counter("ring_full"), b.counter("auth_failures")+b.counter("auth_overlong"); lost != 0 || forged == 0 {
				s.t.Errorf("%d advertisements found no room in the ring, %d were refused", lost, forged)
			}
		}
	})
}
