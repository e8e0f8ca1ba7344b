// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"hash/maphash"
	"time"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

const (
	// surely is how often somebody must be heard, each time an interval after the last
	// one, to be taken for a router.
	surely = 3
	// sieveSlots is how many who have no place are listened to, and sieveHold for how
	// long one keeps the slot without being heard again. After sieveFresh all begin anew.
	sieveSlots = 1 << 16
	sieveHold  = 1500 * time.Millisecond
	sieveFresh = 10 * time.Second
)

// sieve finds those who are heard again and again among many who are heard once. Two
// may want the same slot: who has it keeps it as long as it goes on, and after a while
// they want others.
type sieve struct {
	seed  maphash.Seed
	began vrrp.Instant
	slots [sieveSlots]struct {
		mark uint32 // whose it is; 0: nobody's
		hits uint8
		last vrrp.Instant
	}
}

func newSieve() *sieve { return &sieve{seed: maphash.MakeSeed()} }

// passes reports whether a sender, who says that it advertises in such intervals, has
// been heard often enough.
func (s *sieve) passes(key heardKey, now vrrp.Instant, interval time.Duration) bool {
	if now.Sub(s.began) >= sieveFresh {
		*s = sieve{seed: maphash.MakeSeed(), began: now}
	}
	hash := maphash.Comparable(s.seed, key)
	slot, mark := &s.slots[hash%sieveSlots], uint32(hash>>32)|1
	idle := now.Sub(slot.last)
	switch {
	case slot.mark == mark && idle < interval/2:
	case slot.mark == mark && idle < sieveHold:
		slot.hits, slot.last = min(slot.hits+1, surely), now
	case slot.mark == 0 || idle >= sieveHold:
		slot.mark, slot.hits, slot.last = mark, 1, now
	default:
		return false
	}
	return slot.hits >= surely
}
