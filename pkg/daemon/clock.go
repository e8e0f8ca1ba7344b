// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// monotonic reads CLOCK_MONOTONIC, the clock of bpf_ktime_get_ns, so that the
// kernel's receive times and the loop's time compare.
type monotonic struct{}

func (monotonic) Now() vrrp.Instant {
	var ts unix.Timespec
	// It fails only for a bad pointer or an unknown clock.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return vrrp.Instant(ts.Nano())
}
