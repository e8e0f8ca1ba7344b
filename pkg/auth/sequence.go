// SPDX-License-Identifier: Apache-2.0

package auth

import "time"

// sequence is the sequence number of an advertisement: seconds since 1970 in the upper 32
// bits, then 16 bits of their fraction and a 16-bit counter. It may wrap around, so it is
// compared by the arithmetic of RFC 1982.
type sequence uint64

// at returns the first sequence number of a time.
func at(t time.Time) sequence {
	fraction := uint64(t.Nanosecond()) << 16 / uint64(time.Second)
	return sequence(uint64(uint32(t.Unix()))<<32 | fraction<<16)
}

func (s sequence) after(o sequence) bool { return int64(s-o) > 0 }

// seconds returns the difference s - o in seconds, without the fractions.
func (s sequence) seconds(o sequence) int64 { return int64(int32(uint32(s>>32) - uint32(o>>32))) }

// within reports whether s and o differ by no more than the window, in whole seconds.
func (s sequence) within(o sequence, window time.Duration) bool {
	d, limit := s.seconds(o), int64(window/time.Second)
	return d <= limit && -d <= limit
}

// next returns the number to send after s: that of the clock, or s + 1 if the clock isn't
// ahead of s. With a window, if the clock was set back by more than the window, it returns
// that of the clock too, because no peer would accept a larger one.
func (s sequence) next(now sequence, window time.Duration) sequence {
	if now.after(s) || window > 0 && s.seconds(now) > int64(window/time.Second) {
		return now
	}
	return s + 1
}
