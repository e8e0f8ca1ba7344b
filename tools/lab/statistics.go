// SPDX-License-Identifier: Apache-2.0

package lab

import "slices"

// Median is the middle value, or the mean of the two in the middle. There has to be one.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
