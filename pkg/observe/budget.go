// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"sync"
	"time"
)

const (
	// logBurst and logRate are how many octets of log may be caused by what arrives: at
	// once, and in a second. All routers share them, so that the log grows by 60 kB in
	// 10 s at most, whatever comes and however many routers there are.
	logBurst = 40_000
	logRate  = 2_000
	// lineOctets is how long a line of the log is beside its text, in either format.
	lineOctets = 240
)

// What must be left of logBurst for a line. What matters more may use what is kept
// from the rest.
const (
	FindingsReserve    = logBurst / 2
	ProblemsReserve    = logBurst / 4
	TransitionsReserve = 0
)

// Allowance is how much may be logged still because of what arrives.
type LogBudget struct {
	mu   sync.Mutex
	left int
	at   time.Time // when it was so much
}

// NewAllowance is a full one.
func NewLogBudget() *LogBudget { return &LogBudget{left: logBurst} }

// Take reports whether a line of such a text may be logged with so much kept for
// others, and takes it off.
func (a *LogBudget) Take(now time.Time, text, kept int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fill(now)
	if a.left-text-lineOctets < kept {
		return false
	}
	a.left -= text + lineOctets
	return true
}

// Spend takes a line off that is logged in any case.
func (a *LogBudget) Spend(now time.Time, text int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fill(now)
	a.left = max(a.left-text-lineOctets, 0)
}

func (a *LogBudget) fill(now time.Time) {
	since := min(now.Sub(a.at), time.Minute) // by then it is full
	if more := int(since * logRate / time.Second); more > 0 {
		a.left, a.at = min(a.left+more, logBurst), now
	}
}

// unlogged counts what there was no room in the log for.
type unlogged[K comparable] struct {
	count uint64
	of    map[K]bool // whom it was about
}

func (u *unlogged[K]) add(n uint64, of K) {
	if n == 0 {
		return
	}
	if u.of == nil {
		u.of = make(map[K]bool)
	}
	u.count += n
	u.of[of] = true
}

// take returns how many there were, and of how many, since the last time.
func (u *unlogged[K]) take() (count uint64, of int) {
	count, of = u.count, len(u.of)
	*u = unlogged[K]{}
	return count, of
}
