// SPDX-License-Identifier: Apache-2.0

package router

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// twin is a host with a clock and a network that the test controls. With shortcut its kernel
// keeps advertisements that are no news from the loop.
type twin struct {
	pending  int
	shortcut bool
	loop     *Loop
	now      vrrp.Instant
	ring     []Received
	kernel   map[packet.Key]*twinReceiveState
	told     []string // transitions and failures
	found    [packet.ReasonCount]uint64
	handed   int // advertisements that reached the loop
	ignored  int // outranked advertisements that the kernel kept from it

	queued, flushed int // the number of frames, and of flushes
}

type twinReceiveState struct {
	stamp              vrrp.Stamp
	expected, repeated [2]uint64
	order              uint64
	at                 vrrp.Instant
	outranked          vrrp.Outranked
}

func (e *twinReceiveState) Stamp() (vrrp.Stamp, bool)        { return e.stamp, e.stamp.At != 0 }
func (e *twinReceiveState) SetOutranked(o vrrp.Outranked)    { e.outranked = o }
func (e *twinReceiveState) SetExpected(signatures [2]uint64) { e.expected = signatures }
func (e *twinReceiveState) Repeated() ([2]uint64, uint64)    { return e.repeated, e.order }
func (e *twinReceiveState) RepeatedAt() *vrrp.Instant        { return &e.at }
func (w *twin) Now() vrrp.Instant                            { return w.now }
func (w *twin) Wait(vrrp.Instant) error                      { return errors.ErrUnsupported }
func (w *twin) Wake()                                        {}
func (w *twin) ReceiveState(k packet.Key) ReceiveState       { return w.kernel[k] }
func (w *twin) Reception(int) Reception                      { return Reception{} }
func (w *twin) RequestCheck(int)                             {}
func (w *twin) Queue([]byte)                                 { w.queued++; w.pending++ }
func (w *twin) Queued() int                                  { return w.pending }
func (w *twin) Flush(func(int, error)) int                   { w.flushed++; w.pending = 0; return 0 }
func (w *twin) Lease(packet.Key) Lease                       { return w }
func (w *twin) Answer(vrrp.Instant)                          {}
func (w *twin) Renew(vrrp.Instant, vrrp.Instant) bool        { return true }
func (w *twin) Advertise(vrrp.Instant)                       {}
func (w *twin) Until() vrrp.Instant                          { return 0 }
func (w *twin) Finding(f Finding)                            { w.found[f.Reason]++ }
func (w *twin) Failure(f Failure)                            { w.told = append(w.told, fmt.Sprint(f)) }

func (w *twin) Transition(t Transition) {
	w.told = append(w.told, fmt.Sprint(t.When, t.ID, t.From, t.To, t.Why()))
}
func (w *twin) Assign(_ ID, _ int, _ []netip.Prefix, done func(error))  { done(nil) }
func (w *twin) Release(_ ID, _ int, _ []netip.Prefix, done func(error)) { done(nil) }

func (w *twin) Drain(f func(*Received)) {
	ring := w.ring
	w.ring = nil
	for i := range ring {
		f(&ring[i])
	}
}

// hear processes an arriving advertisement like bpf/vrrp.bpf.c.
func (w *twin) hear(p Received, c *vrrp.Config) {
	e := w.kernel[p.Key]
	a := &p.Advertisement
	if o := e.outranked; w.shortcut && p.At < o.Until && a.Priority >= o.Least && a.Priority < o.Below && p.Checksum&o.Forms != 0 {
		w.ignored++
		return
	}
	stamped := a.Priority >= c.MinPriority() && p.Checksum&c.Forms() != 0
	if stamped {
		e.stamp = vrrp.Stamp{At: p.At, Version: a.Version, Priority: a.Priority, Interval: a.Interval}
	}
	for n, s := range e.expected {
		if w.shortcut && stamped && s == p.Signature {
			e.at = p.At
			e.repeated[n]++
			e.order = e.order<<1 | uint64(n)
			w.found[packet.ReasonAdvertisementReceived]++
			if p.Checksum == packet.ChecksumRFC5798 {
				w.found[packet.ReasonChecksumRFC5798]++
			}
			return
		}
	}
	e.expected = [2]uint64{}
	w.handed++
	w.ring = append(w.ring, p)
	w.turn()
}

// until advances the clock and runs the loop whenever it is due.
func (w *twin) until(t vrrp.Instant) {
	for w.loop.next() <= t {
		w.now = max(w.now, w.loop.next())
		w.turn()
	}
	w.now = t
}

func (w *twin) turn() {
	w.loop.runQueued()
	w.loop.turn()
	w.loop.runQueued()
	w.loop.turn()
}

// states returns the status of the routers.
func (w *twin) states(ids []ID) (all []Status) {
	for _, id := range ids {
		r := w.loop.routers[id]
		w.loop.catchUp(r)
		all = append(all, Status{ID: id, Protocol: r.machine.Status(), Counters: r.counters, HeldBy: r.holder()})
	}
	return all
}

// A host with the shortcut does the same at the same times as one whose loop gets every
// advertisement, and has the same status.
func TestShortcut(t *testing.T) {
	var handed, all, ignored int
	rapid.Check(t, func(t *rapid.T) {
		const interval = 100 * time.Millisecond
		twins := []*twin{{shortcut: true}, {}}
		grouped := rapid.Bool().Draw(t, "a group")
		var ids []ID
		var configs []Config
		for vrid := range uint8(2) {
			c := Config{ID: ID{Interface: "eth0", Family: packet.IPv4, VRID: vrid + 1}}
			c.Protocol = vrrp.Config{
				Version: 3, VRID: vrid + 1, Family: packet.IPv4, Priority: 100, Interval: interval,
				Preempt:   rapid.Bool().Draw(t, "preempt"),
				Checksum:  vrrp.ChecksumPolicy(rapid.IntRange(0, 2).Draw(t, "checksum")),
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{198, 18, 0, vrid + 10})},
			}
			if rapid.Bool().Draw(t, "preempt delay") {
				c.Protocol.PreemptDelay = 5 * interval
			}
			c.Addresses = []netip.Prefix{netip.PrefixFrom(c.Protocol.Addresses[0], 24)}
			if grouped {
				c.Group = "both"
			}
			ids, configs = append(ids, c.ID), append(configs, c)
		}
		port := Port{Ifindex: 7, Source: netip.MustParseAddr("198.18.0.3")}
		each := func(f func(w *twin)) {
			for _, w := range twins {
				f(w)
			}
		}
		each(func(w *twin) {
			w.now, w.kernel = vrrp.Instant(time.Hour), make(map[packet.Key]*twinReceiveState)
			w.loop = New(w, w, w, w, w)
			w.loop.coalescing = 0 // otherwise the host with more wake-ups sends more advertisements early
			port := port
			port.Transmitter = w
			for _, c := range configs {
				machine, err := vrrp.New(c.Protocol)
				if err != nil {
					t.Fatal(err)
				}
				w.kernel[packet.Key{Ifindex: 7, Family: packet.IPv4, VRID: c.ID.VRID}] = &twinReceiveState{}
				if err := w.loop.add(c, machine); err != nil {
					t.Fatal(err)
				}
				w.loop.start(c.ID, port, vrrp.CauseStarting)
			}
			w.turn()
		})

		now := twins[0].now
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			n := rapid.IntRange(0, 1).Draw(t, "router")
			c := &configs[n]
			event := rapid.SampledFrom([]string{"steady", "steady", "steady", "steady", "advertisement", "advertisement", "rivals", "silence", "priority", "relinquish", "restart"}).Draw(t, "event")
			switch event {
			case "steady", "advertisement":
				p := drawReceived(t, c, event == "steady")
				forms := []packet.Checksum{p.Checksum}
				if rapid.Bool().Draw(t, "both forms") {
					forms = []packet.Checksum{packet.ChecksumRFC9568, packet.ChecksumRFC5798}
				}
				for range rapid.IntRange(1, 8).Draw(t, "times") {
					now = now.Add(time.Duration(rapid.IntRange(1, 150).Draw(t, "ms")) * time.Millisecond)
					each(func(w *twin) {
						w.until(now)
						for _, form := range forms {
							p.At, p.Checksum = now, form
							p.Signature = signature(&p)
							w.hear(p, &c.Protocol)
						}
					})
				}
			case "rivals":
				p, q := drawReceived(t, c, false), drawReceived(t, c, false)
				for range rapid.IntRange(1, 30).Draw(t, "times") {
					now = now.Add(time.Duration(rapid.IntRange(0, 12_000).Draw(t, "us")) * time.Microsecond)
					each(func(w *twin) {
						w.until(now)
						for _, p := range []Received{p, q, p} {
							p.At, p.Signature = now, signature(&p)
							w.hear(p, &c.Protocol)
						}
					})
				}
			case "silence":
				now = now.Add(time.Duration(rapid.IntRange(1, 1000).Draw(t, "ms")) * time.Millisecond)
				each(func(w *twin) { w.until(now) })
			case "priority":
				c.Protocol.Priority = rapid.SampledFrom([]uint8{50, 100, 150}).Draw(t, "own priority")
				each(func(w *twin) {
					if err := w.loop.update(*c); err != nil {
						t.Fatal(err)
					}
					w.turn()
				})
			case "relinquish":
				each(func(w *twin) {
					w.loop.step(w.loop.routers[c.ID], now, vrrp.Event{Kind: vrrp.Relinquish, Cause: vrrp.CauseHandedOver})
					w.turn()
				})
			case "restart":
				each(func(w *twin) {
					w.loop.shutdown(c.ID, vrrp.CauseInterfaceDown, "")
					w.turn()
					port := port
					port.Transmitter = w
					w.loop.start(c.ID, port, vrrp.CauseInterfaceUp)
					w.turn()
				})
			}
			if rapid.Bool().Draw(t, "somebody asks") {
				sameStates(t, twins, ids)
			}
			same(t, "what is told", twins[0].told, twins[1].told)
		}
		sameStates(t, twins, ids)
		if twins[0].ignored == 0 {
			same(t, "what is counted", twins[0].found, twins[1].found)
		}
		handed, all, ignored = handed+twins[0].handed, all+twins[1].handed, ignored+twins[0].ignored
	})
	if handed == all {
		t.Errorf("all of %d advertisements were handed over", all)
	}
	if ignored == 0 {
		t.Error("none was ignored")
	}
	t.Logf("of %d advertisements %d were handed over and %d ignored", all, handed, ignored)
}

// S-A5: of a flood that was in the ring before the kernel began to ignore it, only what has
// to be answered reaches the state machine, and the kernel keeps ignoring meanwhile.
// Otherwise a loop that is behind would stay behind.
func TestBacklog(t *testing.T) {
	c := Config{
		ID: ID{Interface: "eth0", Family: packet.IPv4, VRID: 1},
		Protocol: vrrp.Config{
			Version: 3, VRID: 1, Family: packet.IPv4, Priority: 100, Interval: 100 * time.Millisecond, Preempt: true,
			Checksum: vrrp.ChecksumOnlyRFC5798, Addresses: []netip.Addr{netip.MustParseAddr("198.18.0.10")},
		},
	}
	key := packet.Key{Ifindex: 7, Family: packet.IPv4, VRID: 1}
	w := &twin{shortcut: true, now: vrrp.Instant(time.Hour), kernel: map[packet.Key]*twinReceiveState{key: {}}}
	w.loop = New(w, w, w, w, w)
	machine, err := vrrp.New(c.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.loop.add(c, machine); err != nil {
		t.Fatal(err)
	}
	w.loop.start(c.ID, Port{Ifindex: 7, Source: netip.MustParseAddr("198.18.0.3"), Transmitter: w}, vrrp.CauseStarting)
	w.until(w.now.Add(500 * time.Millisecond))
	r := w.loop.routers[c.ID]
	if s := r.machine.State(); s != vrrp.Active {
		t.Fatal(s)
	}
	const flood, millisecond = 1000, 40 // 40 in each millisecond
	state, times := w.kernel[key], 0
	for n := range flood {
		p := Received{
			Key: key, At: w.now.Add(time.Duration(n) * time.Millisecond / millisecond), From: netip.MustParseAddr("198.18.0.1"), Checksum: packet.ChecksumRFC5798,
			Advertisement: packet.Advertisement{Version: 3, VRID: 1, Priority: 40, Interval: 100 * time.Millisecond, Addresses: c.Protocol.Addresses},
		}
		p.Signature = signature(&p)
		w.ring = append(w.ring, p)
	}
	w.now = w.now.Add(flood / millisecond * time.Millisecond)
	last := state.outranked
	w.loop.received = func(p *Received) {
		w.loop.receive(p)
		if state.outranked != last {
			times, last = times+1, state.outranked
		}
	}
	w.loop.turn()
	// The flood lasted 25 ms, and the router answers every 10 ms.
	if times != 3 || state.outranked.Until <= w.now {
		t.Errorf("the kernel was told %d times to ignore such, the last time until %v from now", times, state.outranked.Until.Sub(w.now))
	}
	if looked := w.found[packet.ReasonAdvertisementReceived]; looked != 3 || r.counters.Found[packet.ReasonOutranked] != flood-3 {
		t.Errorf("%d were looked at and %d counted", looked, r.counters.Found[packet.ReasonOutranked])
	}
}

// drawReceived draws an advertisement for a router: with steady always the same good one.
func drawReceived(t *rapid.T, c *Config, steady bool) Received {
	p := Received{
		Key: packet.Key{Ifindex: 7, Family: packet.IPv4, VRID: c.ID.VRID}, From: netip.MustParseAddr("198.18.0.1"), Checksum: packet.ChecksumRFC5798,
		Advertisement: packet.Advertisement{Version: 3, VRID: c.ID.VRID, Priority: 200, Interval: c.Protocol.Interval, Addresses: c.Protocol.Addresses},
	}
	if steady {
		return p
	}
	a := &p.Advertisement
	p.From = rapid.SampledFrom([]netip.Addr{p.From, netip.MustParseAddr("198.18.0.2")}).Draw(t, "from")
	p.Checksum = rapid.SampledFrom([]packet.Checksum{packet.ChecksumRFC9568, packet.ChecksumRFC5798}).Draw(t, "form")
	a.Priority = rapid.SampledFrom([]uint8{0, 40, 120, 200, 201}).Draw(t, "priority")
	a.Interval = rapid.SampledFrom([]time.Duration{a.Interval, 2 * a.Interval}).Draw(t, "interval")
	a.Addresses = rapid.SampledFrom([][]netip.Addr{a.Addresses, {netip.MustParseAddr("198.18.0.99")}}).Draw(t, "addresses")
	return p
}

// signature returns a hash of everything but the time.
func signature(p *Received) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, p.From, p.Advertisement, p.Checksum)
	return h.Sum64()
}

// sameStates compares the status of the routers. It leaves out the counters if the kernel
// has ignored advertisements.
func sameStates(t *rapid.T, twins []*twin, ids []ID) {
	with, without := twins[0].states(ids), twins[1].states(ids)
	if twins[0].ignored != 0 {
		for n := range with {
			with[n].Counters.Found, without[n].Counters.Found = [packet.ReasonCount]uint64{}, [packet.ReasonCount]uint64{}
		}
	}
	same(t, "the states", with, without)
}

func same(t *rapid.T, what string, with, without any) {
	if !reflect.DeepEqual(with, without) {
		t.Fatalf("%s differ:\nwith the shortcut    %+v\nwithout the shortcut %+v", what, with, without)
	}
}
