// SPDX-License-Identifier: Apache-2.0

package process

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// The time of the loop is the kernel's and never ahead of it.
func TestMonotonic(t *testing.T) {
	kernel := func() vrrp.Instant {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			t.Fatal(err)
		}
		return vrrp.Instant(ts.Nano())
	}
	least := vrrp.Instant(1 << 62)
	for range 10_000 {
		before := kernel()
		now := (Clock{}).Now()
		if after := kernel(); now > after {
			t.Fatalf("%v ahead", now.Sub(after))
		}
		least = min(least, before-now)
	}
	if least > 100_000 {
		t.Errorf("%d ns behind", least)
	}
}
