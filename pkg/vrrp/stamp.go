// SPDX-License-Identifier: Apache-2.0

package vrrp

import "time"

// Stamp is what the kernel keeps of the last good advertisement it received
// for a Virtual Router of its Config.MinPriority priority or more, whether or not
// its record reached user space.
type Stamp struct {
	At       Instant
	Version  uint8
	Priority uint8
	Interval time.Duration
}
