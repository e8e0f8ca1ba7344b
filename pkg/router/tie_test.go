// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// dualLAN is a LAN of hosts, each with a Virtual Router of both families.
type dualLAN struct {
	hosts []*dualHost
	start time.Time

	mu  sync.Mutex
	cut map[packet.Family]bool // no frame arrives
}

// dualHost is a loop with a Virtual Router of each family, on the virtual time of a synctest
// bubble. Its kernel ends a lease when it receives an advertisement that the host has to
// yield to.
type dualHost struct {
	lan     *dualLAN
	name    string
	sources map[packet.Family]netip.Addr
	loop    *Loop
	stop    context.CancelFunc
	ended   chan error
	news    chan struct{}

	mu       sync.Mutex
	pending  []Received
	queued   [][]byte
	leases   map[packet.Family]vrrp.Instant
	assigned map[packet.Family]bool
	yielded  int
}

const dualInterval = 200 * time.Millisecond

var dualAddresses = map[packet.Family]netip.Prefix{packet.IPv4: netip.MustParsePrefix("198.18.0.10/24"), packet.IPv6: netip.MustParsePrefix("fe80::10/64")}

func (l *dualLAN) add(t *testing.T, name, group string, sources ...string) *dualHost {
	h := &dualHost{
		lan: l, name: name, sources: make(map[packet.Family]netip.Addr), ended: make(chan error, 1), news: make(chan struct{}, 1),
		leases: make(map[packet.Family]vrrp.Instant), assigned: make(map[packet.Family]bool),
	}
	h.loop = New(h, h, h, h, h)
	ctx, cancel := context.WithCancel(t.Context())
	h.stop = cancel
	go func() { h.ended <- h.loop.Run(ctx) }()
	for _, s := range sources {
		source := netip.MustParseAddr(s)
		f := packet.FamilyOf(source)
		h.sources[f] = source
		id := ID{Interface: name, Family: f, VRID: 51}
		errs := h.loop.Add(Config{ID: id, Group: group, Addresses: []netip.Prefix{dualAddresses[f]}, Protocol: vrrp.Config{
			Version: 3, VRID: 51, Family: f, Priority: 100, Interval: dualInterval, Preempt: true, Addresses: []netip.Addr{dualAddresses[f].Addr()},
		}})
		if errs[0] != nil {
			t.Fatal(errs[0])
		}
	}
	for f, source := range h.sources {
		if err := h.loop.Start(Start{ID{Interface: name, Family: f, VRID: 51}, Port{Ifindex: 7, MAC: packet.MAC{2, 0, 0, 0, 0, 1}, Source: source, Transmitter: h}, vrrp.CauseStarting}); err != nil {
			t.Fatal(err)
		}
	}
	l.hosts = append(l.hosts, h)
	return h
}

func (h *dualHost) Now() vrrp.Instant {
	return vrrp.Instant(time.Since(h.lan.start)) + vrrp.Instant(time.Hour)
}

func (h *dualHost) Wait(until vrrp.Instant) error {
	timer := time.NewTimer(until.Sub(h.Now()))
	defer timer.Stop()
	select {
	case <-h.news:
	case <-timer.C:
	}
	return nil
}

func (h *dualHost) Wake() {
	select {
	case h.news <- struct{}{}:
	default:
	}
}

func (h *dualHost) Drain(f func(*Received)) {
	h.mu.Lock()
	pending := h.pending
	h.pending = nil
	h.mu.Unlock()
	for i := range pending {
		f(&pending[i])
	}
}

func (h *dualHost) ReceiveState(packet.Key) ReceiveState { return nil }
func (h *dualHost) Reception(int) Reception              { return Reception{} }
func (h *dualHost) RequestCheck(int)                     {}

func (h *dualHost) Queue(frame []byte) { h.queued = append(h.queued, slices.Clone(frame)) }
func (h *dualHost) Queued() int        { return len(h.queued) }

// Flush delivers the frames to the other hosts.
func (h *dualHost) Flush(func(int, error)) int {
	n := len(h.queued)
	for _, frame := range h.queued {
		d, err := packet.ParseFrame(frame)
		if err != nil {
			continue // an announcement
		}
		r := Received{Key: packet.Key{Ifindex: 7, Family: packet.FamilyOf(d.Source), VRID: 51}, From: d.Source}
		if r.Checksum, err = r.Advertisement.Decode(d); err != nil {
			panic(err)
		}
		h.lan.mu.Lock()
		cut := h.lan.cut[r.Key.Family]
		h.lan.mu.Unlock()
		for _, other := range h.lan.hosts {
			if other != h && !cut {
				time.AfterFunc(time.Microsecond, func() { other.receive(r) })
			}
		}
	}
	h.queued = nil
	return n
}

func (h *dualHost) receive(r Received) {
	h.mu.Lock()
	r.At = h.Now()
	h.pending = append(h.pending, r)
	if p := r.Advertisement.Priority; p > 100 || p == 100 && r.From.Compare(h.sources[r.Key.Family]) > 0 {
		h.leases[r.Key.Family] = 0
	}
	h.mu.Unlock()
	h.Wake()
}

func (h *dualHost) Lease(k packet.Key) Lease { return dualLease{h, k.Family} }

type dualLease struct {
	h *dualHost
	f packet.Family
}

func (l dualLease) Answer(until vrrp.Instant) {
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	l.h.leases[l.f] = until
}

func (dualLease) Renew(vrrp.Instant, vrrp.Instant) bool { return false }
func (dualLease) Advertise(vrrp.Instant)                {}
func (dualLease) Until() vrrp.Instant                   { return 0 }

func (h *dualHost) Assign(id ID, _ int, _ []netip.Prefix, done func(error)) { h.put(id, true, done) }

func (h *dualHost) Release(id ID, _ int, _ []netip.Prefix, done func(error)) { h.put(id, false, done) }

func (h *dualHost) put(id ID, there bool, done func(error)) {
	h.mu.Lock()
	h.assigned[id.Family] = there
	h.mu.Unlock()
	go done(nil)
}

func (h *dualHost) Transition(t Transition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.From == vrrp.Active {
		h.yielded++
	}
}
func (h *dualHost) Finding(Finding) {}
func (h *dualHost) Failure(Failure) {}

func (h *dualHost) answers(f packet.Family) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.assigned[f] && h.leases[f] > h.Now()
}

// answering returns how many hosts answer for the addresses of a family.
func (l *dualLAN) answering(f packet.Family) (n int) {
	for _, h := range l.hosts {
		if h.answers(f) {
			n++
		}
	}
	return n
}

func (l *dualLAN) set(cut bool, families ...packet.Family) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = make(map[packet.Family]bool)
	for _, f := range families {
		l.cut[f] = cut
	}
}

func (l *dualLAN) end(t *testing.T) {
	for _, h := range l.hosts {
		h.stop()
		if err := <-h.ended; err != nil {
			t.Error(err)
		}
	}
}

// Two hosts of the same priority are separated and connected again. The host with the greater
// IPv4 address stays Active for both families, whichever has the greater IPv6 address.
func TestTieOfGroup(t *testing.T) {
	both := []packet.Family{packet.IPv4, packet.IPv6}
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 12))
			wait := func(most time.Duration) { time.Sleep(time.Duration(rng.Int64N(int64(most)))) }
			l := &dualLAN{start: time.Now()}
			six := []string{"fe80::1", "fe80::2"}
			n := rng.IntN(2)
			a := l.add(t, "a", "router web", "198.18.0.1", six[n])
			wait(2 * time.Second)
			b := l.add(t, "b", "router web", "198.18.0.2", six[1-n])
			time.Sleep(2 * time.Second)
			for range 3 {
				l.set(true, both...)
				time.Sleep(2 * time.Second)
				wait(time.Second)
				a.yielded, b.yielded = 0, 0
				l.set(false)
				gap := 0
				for range 2000 {
					time.Sleep(time.Millisecond)
					synctest.Wait()
					if gap++; l.answering(packet.IPv6) > 0 {
						gap = 0
					}
					if gap > int(dualInterval/time.Millisecond) {
						t.Fatalf("seed %d: no host answers for IPv6 for more than an interval", seed)
					}
					if four := l.answering(packet.IPv4); four == 0 {
						t.Fatalf("seed %d: no host answers for IPv4 %v after the start", seed, time.Since(l.start))
					}
				}
				for _, f := range both {
					if !b.answers(f) || a.answers(f) {
						t.Errorf("seed %d: %v: a answers: %v, b answers: %v; b has the greater IPv4 address", seed, f, a.answers(f), b.answers(f))
					}
				}
				if a.yielded != 2 || b.yielded != 0 {
					t.Errorf("seed %d: a left Active %d times, b %d times", seed, a.yielded, b.yielded)
				}
			}
			l.end(t)
		})
	}
}

// One host is Active for each family in the end, also beside an implementation that decides
// each family for itself, and if one family is cut.
func TestTieWithOthers(t *testing.T) {
	for seed := range uint64(20) {
		for _, cut := range [][]packet.Family{nil, {packet.IPv4}, {packet.IPv6}} {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 13))
				l := &dualLAN{start: time.Now()}
				l.set(true, packet.IPv4, packet.IPv6)
				six := []string{"fe80::1", "fe80::2"}
				four := []string{"198.18.0.1", "198.18.0.2"}
				n, m := rng.IntN(2), rng.IntN(2)
				others := "" // without a group each family decides for itself
				if cut != nil {
					others = "router web"
				}
				l.add(t, "a", "router web", four[m], six[n])
				time.Sleep(time.Duration(rng.Int64N(int64(time.Second))))
				l.add(t, "b", others, four[1-m], six[1-n])
				time.Sleep(2 * time.Second)
				l.set(true, cut...)
				time.Sleep(10 * time.Second)
				for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
					if got := l.answering(f); got != 1 && !slices.Contains(cut, f) || got == 0 {
						t.Errorf("seed %d, cut %v: %d answer for %v", seed, cut, got, f)
					}
				}
				l.end(t)
			})
		}
	}
}
