// SPDX-License-Identifier: Apache-2.0

package vrrp

import "time"

// Stamp is the kernel's note of the last good advertisement for a Virtual Router
// with a priority of at least Config.MinPriority. The kernel writes it even if the
// record of the advertisement doesn't reach user space.
type Stamp struct {
	At       Instant
	Version  uint8
	Priority uint8
	Interval time.Duration
}
