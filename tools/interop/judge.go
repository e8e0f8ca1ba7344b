// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// verdict is what judging a case has found.
type verdict struct {
	two, none time.Duration // the longest times with two Actives, and with none
	pause     time.Duration // the longest pause between two advertisements
	problems  []string
	frames    int // the number of failoverd's frames that were checked
}

func (v *verdict) blame(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

// judge compares the claims with what is expected.
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
		v.blame("Active at the end: %v, want %v", got, want)
	}
	if e.leaves && (len(all) == 0 || !all[0].left) {
		v.blame("the first Active did not leave with priority 0")
	}
	if v.two > e.maxTwo {
		v.blame("two Actives for %v, longer than %v", v.two, e.maxTwo)
	}
	if v.two < e.minTwo {
		v.blame("two Actives for only %v; they are expected, because %s", v.two, e.why)
	}
}

// turns compares the sequence of claims, and the gaps between them.
func (v *verdict) turns(e expectation, all []claim) {
	var want []string
	for _, t := range e.turns {
		want = append(want, t.who)
	}
	if got := sequence(all); got != strings.Join(want, ", ") {
		v.blame("the sequence of Actives is %q, want %q", got, strings.Join(want, ", "))
		return
	}
	for n, t := range e.turns {
		gap := none(all, n)
		if gap > t.max+noise {
			v.blame("no Active for %v before %s, longer than %v and %v for noise", gap, t.who, t.max, noise)
		}
		// A timer never fires early. It may count from a little after the capture of
		// the advertisement.
		if gap < t.min {
			v.blame("%s was Active %v after the last advertisement of the other router, earlier than %v", t.who, gap, t.min)
		}
	}
}

// wellFormed checks each advertisement and announcement of failoverd, and compares it with the
// settings.
func (v *verdict) wellFormed(frames []lab.Frame, had []setting) {
	if len(had) == 0 {
		return // it was never started
	}
	var want []netip.Addr
	for _, a := range had[0].addresses {
		want = append(want, netip.MustParsePrefix(a).Addr())
	}
	announced := make(map[netip.Addr]bool)
	claimed := false
	for _, f := range frames {
		if f.From != ours {
			continue
		}
		sent, err := lab.WellFormed(f.Data)
		if had[0].proto.hmac {
			sent, err = authentic(f, sent, err)
		}
		if sent.Kind == lab.KindOther && err == nil {
			continue
		}
		v.frames++
		switch {
		case err != nil:
			v.blame("malformed frame at %s: %v: %x", f.At.Format(clock), err, f.Data)
		case sent.Kind == lab.KindAdvertisement:
			claimed = claimed || sent.Priority != 0
			if wrong := misstated(sent, had, want); wrong != "" {
				v.blame("frame at %s: %s: %x", f.At.Format(clock), wrong, f.Data)
			}
		default:
			announced[sent.Addresses[0]] = true
			if !slices.Contains(want, sent.Addresses[0]) {
				v.blame("failoverd announced %s at %s, which isn't a virtual address", sent.Addresses[0], f.At.Format(clock))
			}
		}
	}
	for _, a := range want {
		if claimed && !announced[a] {
			v.blame("failoverd never announced %s", a)
		}
	}
}

// authentic returns what an advertisement of a router with HMAC says. lab.WellFormed
// knows neither trailers nor unicast, so its verdict counts for other frames only.
func authentic(f lab.Frame, sent lab.Sent, malformed error) (lab.Sent, error) {
	if sent.Kind != lab.KindAdvertisement {
		return sent, malformed
	}
	a, d, _, ok := f.Advertisement()
	if !ok {
		return sent, errors.New("the advertisement can't be decoded")
	}
	return lab.Sent{
		Kind: lab.KindAdvertisement, Addresses: a.Addresses, Source: d.Source, Version: int(a.Version), VRID: int(a.VRID),
		Priority: int(a.Priority), Interval: a.Interval,
	}, nil
}

// signed checks that a router has signed each advertisement as one of its settings says: with
// the key, or not at all.
func (v *verdict) signed(frames []lab.Frame, p *party) {
	for _, f := range frames {
		_, d, _, ok := f.Advertisement()
		if !ok || f.From != p.name {
			continue
		}
		if id := signer(&d); !slices.ContainsFunc(p.had, func(s setting) bool { return s.auth.signs() == id }) {
			v.blame("%s has signed the advertisement at %s with key %d (0: not at all)", p.name, f.At.Format(clock), id)
		}
	}
}

// misstated returns the first field of an advertisement that differs from the settings of the
// router. Of a router's settings only the interval and the authentication differ.
func misstated(sent lab.Sent, had []setting, addresses []netip.Addr) string {
	switch s := had[0]; {
	case sent.Version != s.proto.version:
		return fmt.Sprintf("version %d", sent.Version)
	case sent.VRID != vrid:
		return fmt.Sprintf("VRID %d", sent.VRID)
	case sent.Priority != 0 && sent.Priority != s.priority:
		return fmt.Sprintf("priority %d", sent.Priority)
	case !slices.ContainsFunc(had, func(s setting) bool { return s.interval == sent.Interval }):
		return fmt.Sprintf("interval %v", sent.Interval)
	case !slices.Equal(sent.Addresses, addresses):
		return fmt.Sprintf("addresses %v", sent.Addresses)
	case s.proto.version == 2 && sent.Checksum != "message":
		return "checksum with pseudo-header in version 2"
	}
	return ""
}
