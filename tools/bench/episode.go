// SPDX-License-Identifier: Apache-2.0

package main

import "time"

// episodes are the moments at which a router began to advertise, of what was heard:
// after a while in which it was silent.
func episodes(seen []sighting, silence time.Duration) (began []time.Time) {
	type key struct{ port, vrid uint8 }
	last := make(map[key]int64)
	for _, s := range seen {
		if s.kind != advertisement || s.priority == 0 {
			continue
		}
		k := key{s.port, s.vrid}
		if at, before := last[k]; !before || s.at-at > int64(silence) {
			began = append(began, s.time())
		}
		last[k] = s.at
	}
	return began
}

// takeovers counts those of routers that should be Backup, and apart those that the
// machine explains: it stood still for two intervals or more in Active_Down_Interval,
// which is three to four of them, at the end of which the takeover came.
func (b *bench) takeovers(v values, seen []sighting, interval time.Duration) {
	v[falsely], v[excused] = 0, 0
	for _, at := range episodes(seen, 3*interval) {
		key := falsely
		if b.stood(at.Add(-4*interval), at) >= 2*interval {
			key = excused
		}
		v[key]++
	}
}

// stood is for how long the processor that stood still longest did so in a time.
func (b *bench) stood(from, to time.Time) (longest time.Duration) {
	sums := make(map[int]time.Duration)
	for _, s := range b.canary.Stalls(from, to) {
		if s.From.Before(from) {
			s.From = from
		}
		if s.To.After(to) {
			s.To = to
		}
		sums[s.CPU] += s.To.Sub(s.From)
		longest = max(longest, sums[s.CPU])
	}
	return longest
}
