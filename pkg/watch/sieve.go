// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"hash/maphash"
	"time"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

const (
	// sureHits is the number of advertisements, each an interval after the one before,
	// after which a sender counts as a router and not as a forged address.
	sureHits = 3
	// sieveSlots is the number of senders that the sieve observes, sieveHold the time after
	// which a silent sender loses its slot, and sieveFresh the time after which the sieve
	// starts again with another hash.
	sieveSlots = 1 << 16
	sieveHold  = 1500 * time.Millisecond
	sieveFresh = 10 * time.Second
)

// sieve finds the senders that go on advertising among many that are heard once. It is a
// hash table. If two senders hash to the same slot, the first one keeps it while it goes on.
// The seed changes from time to time, so two such senders don't collide for long.
type sieve struct {
	seed  maphash.Seed
	began vrrp.Instant
	slots [sieveSlots]struct {
		mark uint32 // hash of the sender that has the slot; 0 if it is free
		hits uint8
		last vrrp.Instant
	}
}

func newSieve() *sieve { return &sieve{seed: maphash.MakeSeed()} }

// passes counts an advertisement of a sender with this Advertisement_Interval, and reports
// whether the sender has reached sureHits.
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
		slot.hits, slot.last = min(slot.hits+1, sureHits), now
	case slot.mark == 0 || idle >= sieveHold:
		slot.mark, slot.hits, slot.last = mark, 1, now
	default:
		return false
	}
	return slot.hits >= sureHits
}
