// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"testing"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

func TestConditions(t *testing.T) {
	t.Attr("proves", "S-X5")
	c := newConditions()
	changed := func() bool {
		select {
		case <-c.changes:
			return true
		default:
			return false
		}
	}
	web := config.Router{Name: "web", Priority: 100}
	if c.Priority(web) != 100 || c.first("web").cause != vrrp.CauseNone {
		t.Error("a router without conditions doesn't have its configured state")
	}

	c.SetWeight("web", "a", -30)
	c.SetWeight("web", "b", 10)
	if got := c.Priority(web); got != 80 || !changed() {
		t.Errorf("priority %d, want 100-30+10", got)
	}
	c.SetWeight("web", "b", 10)
	if changed() {
		t.Error("setting the same weight again counts as a change")
	}
	for weight, want := range map[int]int{-253: 1, 253: 254} {
		if c.SetWeight("web", "a", weight); c.Priority(web) != want {
			t.Errorf("weight %d: priority %d, want %d", weight, c.Priority(web), want)
		}
	}
	c.SetWeight("gateway", "a", -30)
	if got := c.Priority(config.Router{Name: "gateway", Priority: config.OwnerPriority}); got != config.OwnerPriority {
		t.Errorf("an owner's priority became %d", got)
	}

	c.SetFault("web", "a", vrrp.CauseFault, "a fails")
	c.SetFault("web", "b", vrrp.CauseMaintenance, "")
	c.SetFault("web", "a", vrrp.CauseFault, "a fails otherwise")
	if got := c.first("web"); got.detail != "a fails otherwise" {
		t.Errorf("%+v isn't the first fault", got)
	}
	if !c.Maintenance("web") || c.Maintenance("other") {
		t.Error("maintenance is not reported while there is an older fault")
	}
	c.SetFault("web", "a", vrrp.CauseNone, "")
	if got := c.first("web"); got.cause != vrrp.CauseMaintenance {
		t.Errorf("%+v isn't the remaining fault", got)
	}
	c.Forget("b")
	c.Forget("a")
	if c.first("web").cause != vrrp.CauseNone || c.Priority(web) != 100 || len(c.states) != 0 {
		t.Error("the conditions of forgotten sources are still there")
	}
}

// first returns the first fault of a router.
func (c *conditions) first(router string) (f fault) {
	f.cause, f.detail = c.Fault(router)
	return f
}
