// SPDX-License-Identifier: Apache-2.0

package main

import "time"

// episodes returns the moments at which a router began to advertise: its first advertisement,
// and each one after a silence that is longer than the given time.
func episodes(seen []sighting, silence time.Duration) (began []time.Time) {
	last := make(map[key]int64)
	for _, s := range seen {
		if s.kind != advertisement || s.priority == 0 {
			continue
		}
		if at, before := last[s.router()]; !before || s.at-at > int64(silence) {
			began = append(began, s.time())
		}
		last[s.router()] = s.at
	}
	return began
}

// takeovers counts the takeovers of routers that had to stay Backup. It counts a takeover as
// excused if the machine stood still for two intervals or more during the Active_Down_Interval
// before it, which is three to four intervals long.
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

// stood returns for how long the processor that stood still the longest did so between two
// moments.
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
