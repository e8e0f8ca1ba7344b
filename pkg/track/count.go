// SPDX-License-Identifier: Apache-2.0

package track

import "time"

// counter decides the state of a check from its results.
type counter struct {
	report Report
	run    int // number of results in a row for the other state
	looked bool
}

// feed adds the result of a run. It returns true if the change must be reported.
func (k *counter) feed(c Check, o outcome, now time.Time) bool {
	first := !k.looked
	k.looked = true
	r := &k.report
	r.Looked, r.Took, r.Output = now, o.took, o.output
	wanted, need := Up, c.Rise
	if !o.good {
		wanted, need = Down, c.Fall
	}
	if wanted == r.State {
		k.run = 0
		changed := r.Value != o.value
		r.Text, r.Value = o.text, o.value
		return changed
	}
	k.run++
	if decides := first && r.State == Unknown; k.run < need && !decides {
		return false
	}
	if !first {
		r.Changes++
	}
	k.run = 0
	r.State, r.Since, r.Text, r.Value = wanted, now, o.text, o.value
	return true
}

// pending reports whether more results must decide whether the state changes.
func (k *counter) pending() bool { return k.run > 0 }
