// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"slices"
	"sync"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// conditions collects what affects configured routers from outside the protocol: faults, which
// keep a router from taking part, and weights, which change its priority. Any goroutine may
// report these without blocking; the keeper acts on them.
type conditions struct {
	changes chan struct{} // has a value when something has changed

	mu     sync.Mutex
	states map[string]*condition // by the router's name
}

// condition has the faults and weights of one configured router.
type condition struct {
	faults  []fault // oldest first
	weights map[string]int
}

// fault is a reason for a router not to take part.
type fault struct {
	source string
	cause  vrrp.Cause
	detail string
}

func newConditions() *conditions {
	return &conditions{changes: make(chan struct{}, 1), states: make(map[string]*condition)}
}

// SetFault sets the fault that a source reports for a router; vrrp.CauseNone removes it. The
// detail is text for users: what fails and how.
func (c *conditions) SetFault(router, source string, cause vrrp.Cause, detail string) {
	c.alter(router, func(s *condition) bool {
		i := slices.IndexFunc(s.faults, func(f fault) bool { return f.source == source })
		f := fault{source, cause, detail}
		switch {
		case cause == vrrp.CauseNone && i < 0:
			return false
		case cause == vrrp.CauseNone:
			s.faults = slices.Delete(s.faults, i, i+1)
		case i < 0:
			s.faults = append(s.faults, f)
		case s.faults[i] == f:
			return false
		default:
			s.faults[i] = f
		}
		return true
	})
}

// SetWeight sets the amount by which a source changes a router's priority; 0 removes it.
func (c *conditions) SetWeight(router, source string, weight int) {
	c.alter(router, func(s *condition) bool {
		if s.weights[source] == weight {
			return false
		}
		if weight == 0 {
			delete(s.weights, source)
		} else {
			s.weights[source] = weight
		}
		return true
	})
}

// Forget removes all faults and weights of a source.
func (c *conditions) Forget(source string) {
	c.mu.Lock()
	var names []string
	for name := range c.states {
		names = append(names, name)
	}
	c.mu.Unlock()
	for _, name := range names {
		c.SetFault(name, source, vrrp.CauseNone, "")
		c.SetWeight(name, source, 0)
	}
}

func (c *conditions) alter(router string, f func(*condition) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.states[router]
	if s == nil {
		s = &condition{weights: make(map[string]int)}
		c.states[router] = s
	}
	changed := f(s)
	if len(s.faults) == 0 && len(s.weights) == 0 {
		delete(c.states, router)
	}
	if changed {
		c.signal()
	}
}

// signal wakes the keeper.
func (c *conditions) signal() {
	select {
	case c.changes <- struct{}{}:
	default:
	}
}

// Fault returns the oldest fault of a router, vrrp.CauseNone if there is none.
func (c *conditions) Fault(router string) (cause vrrp.Cause, detail string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.states[router]; s != nil && len(s.faults) > 0 {
		return s.faults[0].cause, s.faults[0].detail
	}
	return vrrp.CauseNone, ""
}

// Maintenance reports whether the administrator has taken a router out of service.
func (c *conditions) Maintenance(router string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.states[router]
	return s != nil && slices.ContainsFunc(s.faults, func(f fault) bool { return f.cause == vrrp.CauseMaintenance })
}

// Priority returns a router's effective priority: the configured one plus the sum of the weights,
// limited to 1 to 254. The priority of an address owner never changes (RFC 9568 §6.1).
func (c *conditions) Priority(r config.Router) int {
	if r.Priority == config.OwnerPriority {
		return r.Priority
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := r.Priority
	if s := c.states[r.Name]; s != nil {
		for _, w := range s.weights {
			sum += w
		}
	}
	return min(max(sum, 1), config.OwnerPriority-1)
}
