// SPDX-License-Identifier: Apache-2.0

package track

import "time"

// counter decides the state of a check from its results.
type counter struct {
	report Report
	run    int       // number of results in a row for the other state
	since  time.Time // of the last one that counted
	extra  bool      // whether a Poke caused that one
	looked bool
}

// feed adds the result of a run, which a Poke may have caused. It returns true if the change must
// be reported.
func (k *counter) feed(c Check, o outcome, now time.Time, poked bool) bool {
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
	// The kernel often reports one change several times. Runs that this causes must not shorten
	// the time that a result has to last. A quarter is for runs that are early.
	if k.run > 0 && (poked || k.extra) && now.Sub(k.since) < c.Interval-c.Interval/4 {
		return false
	}
	k.run++
	k.since, k.extra = now, poked
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
