// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// advert is an advertisement on the wire.
type advert struct {
	at       time.Time
	who      string
	priority int
	interval time.Duration
}

// apart is a time in which the routers could not hear each other. who is the router that lost its
// link, or empty if both had one but could not reach each other.
type apart struct {
	who      string
	from, to time.Time
}

func (a apart) String() string {
	who := "both"
	if a.who != "" {
		who = a.who
	}
	return fmt.Sprintf("%s %s cut off until %s", a.from.Format(clock), who, a.to.Format(clock))
}

const clock = "15:04:05.000000"

// claim is a time in which a router was Active: from its first advertisement to its last one
// before it fell silent. Advertisements of priority 0 end it.
type claim struct {
	who      string
	from, to time.Time
	interval time.Duration // the last advertised
	pause    time.Duration // the longest between two advertisements
	left     bool          // ended by priority 0
	pulled   bool          // ended by the loss of the link
}

func (c claim) String() string {
	end := fmt.Sprintf(", longest pause %v", c.pause)
	switch {
	case c.left:
		end += ", left"
	case c.pulled:
		end += ", pulled"
	}
	return fmt.Sprintf("%s from %s to %s%s", c.who, c.from.Format(clock), c.to.Format(clock), end)
}

// fellSilent reports whether the claim has ended by the given time. A silence of up to 2.5
// intervals doesn't end it: a router on a busy machine may be late, and a Backup waits for
// more than three.
func (c claim) fellSilent(by time.Time) bool { return by.Sub(c.to) > c.interval*5/2 }

// claims returns the claims that the advertisements show. A router that is silent for up to
// five intervals, during which no other router advertises, was only late.
func claims(adverts []advert, aparts []apart) []claim {
	var all []claim
	open := make(map[string]int) // the number of the claim that goes on
	for i, a := range adverts {
		n, claiming := open[a.who]
		if a.priority == 0 {
			if claiming {
				all[n].to, all[n].left = a.at, true
				delete(open, a.who)
			}
			continue
		}
		if claiming {
			c := &all[n]
			c.pulled = slices.ContainsFunc(aparts, func(p apart) bool {
				return p.who == a.who && !p.from.Before(c.to) && p.from.Before(a.at)
			})
			pause := a.at.Sub(c.to)
			late := pause <= 5*c.interval && adverts[i-1].who == a.who
			claiming = !c.pulled && (late || !c.fellSilent(a.at))
			if claiming {
				c.pause = max(c.pause, pause)
			}
		}
		if !claiming {
			n = len(all)
			open[a.who] = n
			all = append(all, claim{who: a.who, from: a.at})
		}
		all[n].to, all[n].interval = a.at, a.interval
	}
	for _, n := range open {
		c := &all[n]
		c.pulled = slices.ContainsFunc(aparts, func(p apart) bool { return p.who == c.who && !p.from.Before(c.to) })
	}
	return all
}

// unmute joins the claims of a router to one that lasts until the end. The router had the
// addresses all the time, but seldom advertised.
func unmute(all []claim, who string, end time.Time) []claim {
	var rest []claim
	at := -1
	for _, c := range all {
		switch {
		case c.who != who:
			rest = append(rest, c)
		case at < 0:
			at = len(rest)
			rest = append(rest, c)
		}
	}
	if at >= 0 {
		rest[at].to = end
	}
	return rest
}

// two returns the longest time in which two routers claimed although they could hear each
// other.
func two(all []claim, aparts []apart) time.Duration {
	var longest time.Duration
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.who != b.who {
				longest = max(longest, together(later(a.from, b.from), earlier(a.to, b.to), aparts))
			}
		}
	}
	return longest
}

// together returns the longest part of a time in which the routers could hear each other.
func together(from, to time.Time, aparts []apart) time.Duration {
	for i, p := range aparts {
		if p.from.Before(to) && p.to.After(from) {
			rest := aparts[i+1:]
			return max(together(from, earlier(to, p.from), rest), together(later(from, p.to), to, rest))
		}
	}
	return max(0, to.Sub(from))
}

// none returns how long no router was Active before the claim with the number. A router that
// falls silent because a better one advertises was Active until then.
func none(all []claim, n int) time.Duration {
	if n == 0 {
		return 0
	}
	last := all[0]
	for _, c := range all[:n] {
		if c.to.After(last.to) {
			last = c
		}
	}
	if yielded := !last.left && !last.pulled && !last.fellSilent(all[n].from); yielded {
		return 0
	}
	return max(0, all[n].from.Sub(last.to))
}

// finally returns the routers that still claim at the end.
func finally(all []claim, end time.Time) []string {
	var who []string
	for _, c := range all {
		if !c.left && !c.pulled && !c.fellSilent(end) {
			who = append(who, c.who)
		}
	}
	slices.Sort(who)
	return who
}

func sequence(all []claim) string {
	var who []string
	for _, c := range all {
		who = append(who, c.who)
	}
	return strings.Join(who, ", ")
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
