// SPDX-License-Identifier: Apache-2.0

package process

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Clock reads CLOCK_MONOTONIC, the clock of bpf_ktime_get_ns, so that the
// kernel's receive times and the loop's time compare.
type Clock struct{}

// Now is the time.
func (Clock) Now() vrrp.Instant { return Instant(time.Now()) }

// Instant is a reading of Go's clock, which is this one too, and read without a system
// call, but Go doesn't say from when.
func Instant(t time.Time) vrrp.Instant { return origin.at.Add(t.Sub(origin.time)) }

// origin is one moment by both. Of the two readings the kernel's is the earlier one:
// what it received before Now has been received by then.
var origin = func() (o struct {
	at   vrrp.Instant
	time time.Time
},
) {
	least := time.Duration(1<<63 - 1)
	for range 100 { // one in between which nothing else ran
		began := time.Now()
		var ts unix.Timespec
		// It fails only for a bad pointer or an unknown clock.
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
		ended := time.Now()
		if took := ended.Sub(began); took < least {
			least, o.at, o.time = took, vrrp.Instant(ts.Nano()), ended
		}
	}
	return o
}()
