// SPDX-License-Identifier: Apache-2.0

package bystander

import (
	"math"
	"slices"
)

// interval holds the true median with 95 %: between the values whose ranks a
// fair coin leaves out with 2.5 % on each side.
func interval(values []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	k := max(0, int(math.Floor(float64(n)/2-0.98*math.Sqrt(float64(n)))))
	return sorted[k], sorted[n-1-k]
}
