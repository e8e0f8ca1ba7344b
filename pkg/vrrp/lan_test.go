// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/failoverd/failoverd/pkg/packet"
)

// lan is a perfect LAN of routers in simulated time.
type lan struct {
	now     Instant
	delay   Instant
	routers []*station
	flying  []delivery
	sent    int
}

type station struct {
	*Router
	source  netip.Addr
	config  Config
	cut     bool
	holding bool // has the addresses
	fault   string
}

type delivery struct {
	at       Instant
	from     *station
	priority uint8
	form     packet.Checksum
}

func newLAN(delay time.Duration, priorities ...uint8) *lan {
	l := &lan{now: start, delay: Instant(delay)}
	for i, p := range priorities {
		c := Config{Version: 3, VRID: 51, Family: packet.IPv4, Priority: p, Interval: 100 * time.Millisecond, Preempt: true, Addresses: virtual(packet.IPv4)}
		r, err := New(c)
		if err != nil {
			panic(err)
		}
		l.routers = append(l.routers, &station{Router: r, config: c, source: peer(packet.IPv4, i+2)})
	}
	return l
}

// step processes an event and carries out its actions.
func (l *lan) step(s *station, ev Event) {
	entered := false
	for _, a := range s.Step(l.now, ev, nil) {
		switch a.Kind {
		case TransitionTo:
			entered = a.To == Active
		case SendAdvertisement:
			entered = false
			l.sent++
			if s.cut {
				continue
			}
			for _, form := range []packet.Checksum{packet.ChecksumRFC9568, packet.ChecksumRFC5798} {
				if a.Checksum&form != 0 {
					l.flying = append(l.flying, delivery{l.now + l.delay, s, a.Priority, form})
				}
			}
		case AssignAddresses:
			if s.holding {
				s.fault = "assigned twice"
			}
			s.holding = true
		case ReleaseAddresses:
			if !s.holding {
				s.fault = "released what it did not have"
			}
			s.holding = false
		case AnnounceAddresses:
			if !s.holding {
				s.fault = "announced what it does not have"
			}
		}
	}
	if entered {
		s.fault = "became Active without an advertisement"
	}
	if _, ok := s.Deadline(); ok != (s.State() != Initialize) {
		s.fault = "deadline and state do not agree"
	}
	if s.holding != (s.State() == Active) {
		s.fault = fmt.Sprintf("holds the addresses: %v, in state %v", s.holding, s.State())
	}
}

// run lets the time pass.
func (l *lan) run(d time.Duration) {
	end := l.now.Add(d)
	for {
		next := end
		for _, s := range l.routers {
			if deadline, ok := s.Deadline(); ok {
				next = min(next, max(deadline, l.now))
			}
		}
		if len(l.flying) > 0 {
			next = min(next, max(l.flying[0].at, l.now))
		}
		l.now = next
		if l.now >= end {
			return
		}
		for len(l.flying) > 0 && l.flying[0].at <= l.now {
			d := l.flying[0]
			l.flying = l.flying[1:]
			for _, s := range l.routers {
				if s == d.from || s.cut || d.from.cut {
					continue
				}
				a := packet.Advertisement{Version: 3, VRID: 51, Priority: d.priority, Interval: d.from.config.Interval, Addresses: d.from.config.Addresses}
				l.step(s, Event{Kind: Receive, Advertisement: a, From: d.from.source, Checksum: d.form})
			}
		}
		for _, s := range l.routers {
			if deadline, ok := s.Deadline(); ok && deadline <= l.now {
				l.step(s, Event{Kind: TimerExpired})
			}
		}
	}
}

func (l *lan) start(n int) {
	l.step(l.routers[n], Event{Kind: Startup, Source: l.routers[n].source})
}

func (l *lan) stop(n int) { l.step(l.routers[n], Event{Kind: Shutdown, Cause: CauseAdministrator}) }

// active returns the numbers of the routers that are Active.
func (l *lan) active() (all []int) {
	for n, s := range l.routers {
		if s.State() == Active {
			all = append(all, n)
		}
	}
	return all
}

const settle = 2 * time.Second // twenty intervals

// After any history exactly one of the running routers of a LAN is Active: with
// preemption, the one with the highest priority.
func TestAnyHistoryConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		priorities := rapid.SliceOfN(rapid.Uint8Range(1, 254), 2, 4).Draw(t, "priorities")
		delay := time.Duration(rapid.IntRange(0, 3000).Draw(t, "delay µs")) * time.Microsecond
		l := newLAN(delay, priorities...)
		for range rapid.IntRange(0, 30).Draw(t, "events") {
			n := rapid.IntRange(0, len(priorities)-1).Draw(t, "router")
			switch rapid.IntRange(0, 4).Draw(t, "event") {
			case 0, 1:
				l.start(n)
			case 2:
				l.stop(n)
			case 3:
				l.routers[n].cut = true
			case 4:
				l.routers[n].cut = false
			}
			l.run(time.Duration(rapid.IntRange(0, 700).Draw(t, "ms")) * time.Millisecond)
		}
		best := -1
		for n, s := range l.routers {
			s.cut = false
			if s.State() == Initialize {
				continue
			}
			if best < 0 || priorities[n] > priorities[best] {
				best = n
			}
		}
		l.run(settle)
		got := l.active()
		if best >= 0 && (len(got) != 1 || priorities[got[0]] != priorities[best]) {
			t.Fatalf("Active are %v of %v, want one of priority %d", got, priorities, priorities[best])
		}
		for n, s := range l.routers {
			if s.fault != "" {
				t.Fatalf("router %d %s", n, s.fault)
			}
		}
	})
}
