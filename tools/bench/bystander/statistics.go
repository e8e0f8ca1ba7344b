// SPDX-License-Identifier: Apache-2.0

package bystander

import (
	"math"
	"slices"
)

// interval returns the 95 % confidence interval of the median, by the normal approximation of the
// binomial distribution of ranks.
func interval(values []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	k := max(0, int(math.Floor(float64(n)/2-0.98*math.Sqrt(float64(n)))))
	return sorted[k], sorted[n-1-k]
}
