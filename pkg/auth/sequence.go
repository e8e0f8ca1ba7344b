// SPDX-License-Identifier: Apache-2.0

package auth

import "time"

// sequence numbers the advertisements of a sender by the time: seconds since 1970
// in the upper 32 bits, then 16 bits of their fraction and 16 of a counter. It
// may wrap around, so it is compared as RFC 1982 has it.
type sequence uint64

// at returns the first sequence number of a moment.
func at(t time.Time) sequence {
	fraction := uint64(t.Nanosecond()) << 16 / uint64(time.Second)
	return sequence(uint64(uint32(t.Unix()))<<32 | fraction<<16)
}

func (s sequence) after(o sequence) bool { return int64(s-o) > 0 }

// seconds is how many whole seconds of the clock it is ahead of another.
func (s sequence) seconds(o sequence) int64 { return int64(int32(uint32(s>>32) - uint32(o>>32))) }

// within reports whether it is not further from another than the window, in
// whole seconds of the clock.
func (s sequence) within(o sequence, window time.Duration) bool {
	d, limit := s.seconds(o), int64(window/time.Second)
	return d <= limit && -d <= limit
}

// next returns the number to send after s: the clock's, or one more than s while
// the clock stands or goes back. With a window, numbers that the clock has been
// set back from are given up, because nobody would accept them.
func (s sequence) next(now sequence, window time.Duration) sequence {
	if now.after(s) || window > 0 && s.seconds(now) > int64(window/time.Second) {
		return now
	}
	return s + 1
}
