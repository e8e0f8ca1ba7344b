// SPDX-License-Identifier: Apache-2.0

package process

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Clock reads CLOCK_MONOTONIC. This is the clock of bpf_ktime_get_ns too, so its time can
// be compared with the kernel's receive times.
type Clock struct{}

// Now returns the time.
func (Clock) Now() vrrp.Instant { return Instant(time.Now()) }

// Instant converts a reading of Go's clock to CLOCK_MONOTONIC. Go's monotonic clock is the
// same clock and needs no system call, but counts from an unknown origin.
func Instant(t time.Time) vrrp.Instant { return origin.at.Add(t.Sub(origin.time)) }

// origin is one point in time on both clocks. The kernel's clock is read before Go's, so
// Now is never ahead of the kernel: everything that the kernel received before Now is in the
// ring.
var origin = func() (o struct {
	at   vrrp.Instant
	time time.Time
},
) {
	least := time.Duration(1<<63 - 1)
	for range 100 { // the pair of readings with the least time between them counts
		began := time.Now()
		var ts unix.Timespec
		// This fails only for a bad pointer or an unknown clock.
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
		ended := time.Now()
		if took := ended.Sub(began); took < least {
			least, o.at, o.time = took, vrrp.Instant(ts.Nano()), ended
		}
	}
	return o
}()
