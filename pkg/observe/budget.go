// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"sync"
	"time"
)

const (
	// logBurst is the number of octets that events from the network may add to the log at once,
	// and logRate the number in each second. All routers share them, so the log grows by at most
	// 60 kB in 10 s, whatever arrives and however many routers there are.
	logBurst = 40_000
	logRate  = 2_000
	// lineOctets is the length of a log line without its text, in either format.
	lineOctets = 240
)

// The part of logBurst that a line of each kind must leave for more important kinds.
const (
	FindingsReserve    = logBurst / 2
	ProblemsReserve    = logBurst / 4
	TransitionsReserve = 0
)

// LogBudget limits how much of the log events from the network may fill. It is safe for
// concurrent use.
type LogBudget struct {
	mu   sync.Mutex
	left int
	at   time.Time // when left was computed
}

// NewLogBudget returns a full budget.
func NewLogBudget() *LogBudget { return &LogBudget{left: logBurst} }

// Take reports whether a line with a text of that length may be logged so that the reserve stays,
// and if so subtracts it.
func (a *LogBudget) Take(now time.Time, text, reserve int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fill(now)
	if a.left-text-lineOctets < reserve {
		return false
	}
	a.left -= text + lineOctets
	return true
}

// Spend subtracts a line that is logged in any case.
func (a *LogBudget) Spend(now time.Time, text int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fill(now)
	a.left = max(a.left-text-lineOctets, 0)
}

func (a *LogBudget) fill(now time.Time) {
	since := min(now.Sub(a.at), time.Minute) // after a minute it is full
	if more := int(since * logRate / time.Second); more > 0 {
		a.left, a.at = min(a.left+more, logBurst), now
	}
}

// unlogged counts what was not logged because the budget was spent.
type unlogged[K comparable] struct {
	count uint64
	of    map[K]bool // the routers or groups concerned
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

// take returns the count, and the number of routers or groups concerned, since the last call.
func (u *unlogged[K]) take() (count uint64, of int) {
	count, of = u.count, len(u.of)
	*u = unlogged[K]{}
	return count, of
}
