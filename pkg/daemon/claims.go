// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"io"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/reconcile"
)

// claims make sure that no other failoverd of this network namespace runs one of the
// Virtual Routers.
type claims struct{ held map[plan.ID]claim }

type claim struct {
	ifindex int
	io.Closer
}

func (c *claims) Look(_ *plan.Host, p *plan.Picture) error {
	for id, held := range c.held {
		member(p, id).Claim = held.ifindex
	}
	return nil
}

// Do claims Virtual Routers in an order that is the same for all, in which the steps are:
// of two processes that begin at the same moment, the one that gets the first that both
// want gets the others too.
func (c *claims) Do(steps []reconcile.Step) []error {
	return each(steps, func(s *reconcile.Step) error {
		c.release(s.ID)
		if s.Verb == reconcile.Unclaim {
			return nil
		}
		return c.hold(s.ID, s.Ifindex)
	})
}

func (c *claims) hold(id plan.ID, ifindex int) error {
	closer, err := link.Claim(ifindex, id.Family, id.VRID)
	if errors.Is(err, link.ErrClaimed) {
		return fmt.Errorf("another failoverd already runs VRID %d on %s: stop it first, or use another VRID", id.VRID, id.Interface)
	}
	if err != nil {
		return err
	}
	c.held[id] = claim{ifindex, closer}
	return nil
}

// holdAll claims the Virtual Routers whose interfaces are there.
func (c *claims) holdAll(p *plan.Plan, snapshot []link.Interface) error {
	for _, v := range p.Ordered() {
		if i, err := link.Find(snapshot, v.Interface); err == nil {
			if err := c.hold(v.ID, i.Index); err != nil {
				return err
			}
		}
	}
	return nil
}

// release gives a claim up. There is nothing that could be lost with it.
func (c *claims) release(id plan.ID) {
	if held, ok := c.held[id]; ok {
		_ = held.Close()
		delete(c.held, id)
	}
}

func (c *claims) close() {
	for id := range c.held {
		c.release(id)
	}
}
