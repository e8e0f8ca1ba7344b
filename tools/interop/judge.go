// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// verdict is what came of a case.
type verdict struct {
	two, none time.Duration // the longest
	pause     time.Duration // the longest that a router was late with
	problems  []string
	frames    int // that were checked of ours
}

func (v *verdict) blame(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

// judge compares what was on the wire with what is expected.
func (v *verdict) judge(e expectation, all []claim, aparts []apart, end time.Time) {
	v.two = two(all, aparts)
	for n, c := range all {
		v.none = max(v.none, none(all, n))
		if c.fellSilent(c.to.Add(c.pause)) {
			v.pause = max(v.pause, c.pause)
		}
	}
	v.turns(e, all)
	want := slices.Clone(e.final)
	slices.Sort(want)
	if got := finally(all, end); !slices.Equal(got, want) {
		v.blame("at the end %v claim to be Active, not %v", got, want)
	}
	if e.leaves && (len(all) == 0 || !all[0].left) {
		v.blame("who was Active first has not left with priority 0")
	}
	if v.two > e.maxTwo {
		v.blame("two were Active for %v, longer than %v", v.two, e.maxTwo)
	}
	if v.two < e.minTwo {
		v.blame("two were Active for %v only; expected, because %s", v.two, e.why)
	}
}

// turns compares who claimed one after the other.
func (v *verdict) turns(e expectation, all []claim) {
	var want []string
	for _, t := range e.turns {
		want = append(want, t.who)
	}
	if got := sequence(all); got != strings.Join(want, ", ") {
		v.blame("Active were, one after the other: %s; expected: %s", got, strings.Join(want, ", "))
		return
	}
	for n, t := range e.turns {
		gap := none(all, n)
		if gap > t.max+noise {
			v.blame("nobody was Active for %v before %s was, longer than %v and %v for noise", gap, t.who, t.max, noise)
		}
		// A timer never fires early; the advertisement that it counts from
		// may have been heard a little later than it was captured.
		if gap < t.min {
			v.blame("%s was Active %v after the other fell silent, earlier than %v", t.who, gap, t.min)
		}
	}
}

// wellFormed checks every frame that our router has sent for its part in VRRP,
// and that it says what the router is configured with.
func (v *verdict) wellFormed(frames []lab.Frame, s setting, intervals []time.Duration) {
	var want []netip.Addr
	for _, a := range s.addresses {
		want = append(want, netip.MustParsePrefix(a).Addr())
	}
	announced := make(map[netip.Addr]bool)
	claimed := false
	for _, f := range frames {
		if f.From != ours {
			continue
		}
		sent, err := lab.WellFormed(f.Data)
		if sent.Kind == lab.KindOther && err == nil {
			continue
		}
		v.frames++
		switch {
		case err != nil:
			v.blame("malformed frame at %s: %v: %x", f.At.Format(clock), err, f.Data)
		case sent.Kind == lab.KindAdvertisement:
			claimed = claimed || sent.Priority != 0
			if wrong := misstated(sent, s, want, intervals); wrong != "" {
				v.blame("frame at %s: %s: %x", f.At.Format(clock), wrong, f.Data)
			}
		default:
			announced[sent.Addresses[0]] = true
			if !slices.Contains(want, sent.Addresses[0]) {
				v.blame("%s is announced at %s, but isn't virtual", sent.Addresses[0], f.At.Format(clock))
			}
		}
	}
	for _, a := range want {
		if claimed && !announced[a] {
			v.blame("%s was never announced", a)
		}
	}
}

// misstated says what an advertisement has different from the configuration.
func misstated(sent lab.Sent, s setting, addresses []netip.Addr, intervals []time.Duration) string {
	switch {
	case sent.Version != s.proto.version:
		return fmt.Sprintf("version %d", sent.Version)
	case sent.VRID != vrid:
		return fmt.Sprintf("VRID %d", sent.VRID)
	case sent.Priority != 0 && sent.Priority != s.priority:
		return fmt.Sprintf("priority %d", sent.Priority)
	case !slices.Contains(intervals, sent.Interval):
		return fmt.Sprintf("interval %v", sent.Interval)
	case !slices.Equal(sent.Addresses, addresses):
		return fmt.Sprintf("addresses %v", sent.Addresses)
	case s.proto.version == 2 && sent.Checksum != "message":
		return "checksum with pseudo-header in version 2"
	}
	return ""
}
