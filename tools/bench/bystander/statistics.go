// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"slices"
)

// middle is the median.
func middle(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// interval holds the true median with 95 %: between the values whose ranks a
// fair coin leaves out with 2.5 % on each side.
func interval(values []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	k := max(0, int(math.Floor(float64(n)/2-0.98*math.Sqrt(float64(n)))))
	return sorted[k], sorted[n-1-k]
}
