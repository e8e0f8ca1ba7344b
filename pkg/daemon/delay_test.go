// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
)

// The longer one of startup_delay and the rest of delay_after_boot counts.
func TestStartDelay(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		startup, boot, uptime, want time.Duration
		why                         string
	}{
		{0, 0, s, 0, "startup_delay of 0s"},
		{5 * s, 0, s, 5 * s, "startup_delay of 5s"},
		{0, 60 * s, 20 * s, 40 * s, "delay_after_boot of 1m0s"},
		{0, 60 * s, 70 * s, 0, "startup_delay of 0s"},
		{5 * s, 60 * s, 56 * s, 5 * s, "startup_delay of 5s"},
		{5 * s, 60 * s, 50 * s, 10 * s, "delay_after_boot of 1m0s"},
	} {
		if got, why := startDelay(&config.Global{StartupDelay: c.startup, DelayAfterBoot: c.boot}, c.uptime); got != c.want || why != c.why {
			t.Errorf("%+v: %v, %s", c, got, why)
		}
	}
}
