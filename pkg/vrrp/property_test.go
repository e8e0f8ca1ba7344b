// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/failoverd/failoverd/pkg/packet"
)

// drawConfig draws a valid configuration.
func drawConfig(t *rapid.T) Config {
	c := Config{
		Version: 3, VRID: 51, Family: packet.IPv4,
		Priority:          rapid.Uint8Min(1).Draw(t, "priority"),
		Interval:          10 * time.Millisecond * time.Duration(rapid.IntRange(1, 4095).Draw(t, "interval")),
		Preempt:           rapid.Bool().Draw(t, "preempt"),
		Checksum:          ChecksumPolicy(rapid.IntRange(0, 2).Draw(t, "checksum")),
		IgnoreAddressList: rapid.Bool().Draw(t, "ignore addresses"),
	}
	switch rapid.IntRange(0, 2).Draw(t, "protocol") {
	case 0:
		c.Family = packet.IPv6
	case 1:
		c.Version, c.Interval = 2, time.Duration(rapid.IntRange(1, 255).Draw(t, "seconds"))*time.Second
		c.AuthType = uint8(rapid.IntRange(0, 1).Draw(t, "auth"))
	}
	c.MaxInterval = rapid.SampledFrom([]time.Duration{0, 0, c.Interval, 3 * c.Interval, time.Hour}).Draw(t, "max interval")
	c.Addresses = virtual(c.Family)
	return c
}

// drawEvent draws an event, mostly one that has an effect on the router.
func drawEvent(t *rapid.T, c Config) Event {
	kind := rapid.SampledFrom([]EventKind{Startup, Shutdown, Relinquish, Receive, Receive, Receive, StampHeard, TimerExpired, TimerExpired, 0, 99}).Draw(t, "event")
	ev := Event{Kind: kind, Source: local[c.Family]}
	if kind != Receive && kind != StampHeard {
		return ev
	}
	ev.From = peer(c.Family, rapid.SampledFrom([]int{2, 100, 200}).Draw(t, "from"))
	ev.Checksum = rapid.SampledFrom([]packet.Checksum{packet.ChecksumRFC9568, packet.ChecksumRFC5798}).Draw(t, "form")
	ev.Advertisement = packet.Advertisement{
		Version: c.Version, VRID: c.VRID, AuthType: c.AuthType,
		Priority:  rapid.SampledFrom([]uint8{0, 1, c.Priority - 1, c.Priority, c.Priority + 1, 255}).Draw(t, "priority"),
		Interval:  rapid.SampledFrom([]time.Duration{c.Interval, 10 * time.Millisecond, time.Second, 40950 * time.Millisecond}).Draw(t, "interval"),
		Addresses: rapid.SampledFrom([][]netip.Addr{c.Addresses, virtual(packet.IPv4), virtual(packet.IPv6), nil}).Draw(t, "addresses"),
	}
	if rapid.IntRange(0, 19).Draw(t, "other version") == 0 {
		ev.Advertisement.Version ^= 1
	}
	return ev
}

// A router keeps its contract with the caller for any sequence of events.
func TestAnyEvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfig(t)
		r, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		now, holding := start, false
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(2*c.Interval)).Draw(t, "pause")))
			if deadline, ok := r.Deadline(); ok && rapid.Bool().Draw(t, "at the deadline") {
				now = max(now, deadline)
			}
			ev := drawEvent(t, c)
			before := r.State()
			actions := r.Step(now, ev, nil)
			if ev.Kind == Receive && r.Repeatable(&ev, actions) {
				checkRepeatable(t, r, now, ev)
			}

			state, sends := before, 0
			for _, a := range actions {
				switch a.Kind {
				case TransitionTo:
					if a.From != state || a.To == state {
						t.Fatalf("transition %v>%v in state %v", a.From, a.To, state)
					}
					state = a.To
				case SendAdvertisement:
					sends++
					if a.Checksum == 0 || a.Priority != c.Priority && a.Priority != 0 {
						t.Fatalf("sends %+v", a)
					}
					if a.Priority == 0 && ev.Kind != Shutdown && ev.Kind != Relinquish {
						t.Fatal("S-A1: leaves without being told to")
					}
					if !holding {
						t.Fatal("S-X1: sends without the addresses")
					}
				case AssignAddresses, ReleaseAddresses:
					if assign := a.Kind == AssignAddresses; assign == holding {
						t.Fatalf("S-X1: assign %v while holding %v", assign, holding)
					}
					holding = !holding
				case AnnounceAddresses:
					if !holding {
						t.Fatal("S-X1: announces what it hasn't")
					}
				case Report:
					if a.Peer != ev.From || a.Refused && (a != actions[len(actions)-1] || len(actions) > 1) {
						t.Fatalf("R-22: report %+v of %d", a, len(actions))
					}
				}
			}
			if state != r.State() {
				t.Fatalf("state %v, but the transitions led to %v", r.State(), state)
			}
			if holding != (state == Active) {
				t.Fatalf("S-X1: holding %v in %v", holding, state)
			}
			if before != Active && state == Active && sends != 1 {
				t.Fatalf("S-B2: %d advertisements on becoming Active", sends)
			}
			if sends > 1 {
				t.Fatalf("%d advertisements for one event", sends)
			}
			deadline, ok := r.Deadline()
			if ok != (state != Initialize) {
				t.Fatalf("deadline %v in %v", ok, state)
			}
			// A caller that runs TimerExpired at the deadline makes progress.
			if ok && ev.Kind == TimerExpired && deadline <= now {
				t.Fatalf("TimerExpired at %d leaves the deadline %d", now, deadline)
			}
			if s := r.Status(); c.MaxInterval != 0 && s.ActiveAdverInterval > c.MaxInterval {
				t.Fatalf("Active_Adver_Interval %v is above the bound %v", s.ActiveAdverInterval, c.MaxInterval)
			}
			if s := r.Status(); ok && deadline > now.Add(max(3*s.ActiveAdverInterval+s.SkewTime, c.Interval)) {
				t.Fatalf("deadline in %v: %+v", deadline.Sub(now), s)
			}
		}
	})
}

// checkRepeatable receives a Repeatable advertisement again and compares the effect
// with that of a Repeated event.
func checkRepeatable(t *rapid.T, r *Router, now Instant, ev Event) {
	deadline, _ := r.Deadline()
	last := now
	received, repeated := *r, *r
	for range rapid.IntRange(2, 4).Draw(t, "repetitions") {
		last = Instant(rapid.Int64Range(int64(last), int64(max(last, deadline-1))).Draw(t, "repeated at"))
		for _, a := range received.Step(last, ev, nil) {
			if a.Kind != Report || a.Refused || a.Reason != packet.ReasonAdvertisementReceived && a.Reason != packet.ReasonChecksumRFC5798 {
				t.Fatalf("the repetition of what is no news leads to %+v", a)
			}
		}
	}
	if actions := repeated.Step(last, Event{Kind: Repeated, Forms: [2]packet.Checksum{ev.Checksum, ev.Checksum}}, nil); len(actions) > 0 {
		t.Fatalf("Repeated leads to %+v", actions)
	}
	if !reflect.DeepEqual(received, repeated) {
		t.Fatalf("received again:\n%+v\nRepeated:\n%+v", received, repeated)
	}
}

// Two routers of any priorities, intervals, modes and checksum forms, started at any
// time on a LAN without losses, end with one Active that stays Active.
func TestTwoRoutersConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLAN(time.Duration(rapid.IntRange(0, 2000).Draw(t, "delay µs")) * time.Microsecond)
		longest := time.Duration(0)
		hosts := rapid.Permutation([]int{2, 200}).Draw(t, "hosts")
		for n := range 2 {
			c := Config{
				Version: 3, VRID: 51, Family: packet.IPv4, Addresses: virtual(packet.IPv4),
				Priority: rapid.SampledFrom([]uint8{1, 100, 101, 254, 255}).Draw(t, "priority"),
				Interval: 10 * time.Millisecond * time.Duration(rapid.IntRange(1, 300).Draw(t, "interval")),
				Preempt:  rapid.Bool().Draw(t, "preempt"),
				// A bound below the other router's interval would make this one take over.
				MaxInterval: rapid.SampledFrom([]time.Duration{0, 3 * time.Second}).Draw(t, "max interval"),
			}
			r, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			longest = max(longest, c.Interval)
			l.routers = append(l.routers, &station{Router: r, config: c, source: peer(packet.IPv4, hosts[n])})
		}
		l.start(0)
		l.run(time.Duration(rapid.Int64Range(0, int64(6*longest)).Draw(t, "apart")))
		l.start(1)
		if rapid.Bool().Draw(t, "partition") {
			l.routers[0].cut = true
			l.run(5 * longest)
			l.routers[0].cut = false
		}
		l.run(10 * longest)

		a, b := l.routers[0], l.routers[1]
		settled := l.active()
		changes := a.Status().BecameActive + b.Status().BecameActive
		sent := l.sent
		l.run(10 * longest)
		if got := l.active(); len(got) != 1 || len(settled) != 1 || got[0] != settled[0] {
			t.Fatalf("Active are %v, later %v", settled, got)
		}
		if now := a.Status().BecameActive + b.Status().BecameActive; now != changes {
			t.Fatalf("became Active %d times more", now-changes)
		}
		winner, loser := l.routers[settled[0]], l.routers[1-settled[0]]
		if loser.config.Preempt && loser.config.Priority > winner.config.Priority {
			t.Fatalf("priority %d is Active, %d preempts", winner.config.Priority, loser.config.Priority)
		}
		if most := int(10*longest/winner.config.Interval) + 1; l.sent-sent > most {
			t.Fatalf("%d advertisements, at most %d", l.sent-sent, most)
		}
		if a.fault != "" || b.fault != "" {
			t.Fatalf("faults %q, %q", a.fault, b.fault)
		}
	})
}
