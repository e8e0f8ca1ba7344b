// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"io"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/reconcile"
)

// claims is the executor that makes sure that no other failoverd of this network namespace runs
// one of the Virtual Routers.
type claims struct{ held map[plan.ID]claim }

type claim struct {
	ifindex int
	io.Closer
}

func (c *claims) Look(_ *plan.Target, p *plan.Picture) error {
	for id, held := range c.held {
		installed(p, id).Claim = held.ifindex
	}
	return nil
}

// Do claims all Virtual Routers in one call, because each call reads all claims of the host.
func (c *claims) Do(steps []*reconcile.Step) []error {
	errs := make([]error, len(steps))
	var wanted []int
	var ids []plan.ID
	var keys []packet.Key
	for n, s := range steps {
		c.release(s.ID)
		if s.Verb == reconcile.Claim {
			wanted, ids, keys = append(wanted, n), append(ids, s.ID), append(keys, keyOf(s.ID, s.Ifindex))
		}
	}
	for i, err := range c.hold(ids, keys) {
		errs[wanted[i]] = err
	}
	return errs
}

// hold claims Virtual Routers, and returns one error for each.
func (c *claims) hold(ids []plan.ID, keys []packet.Key) []error {
	held, errs := link.Claim(keys...)
	for n, id := range ids {
		switch {
		case errs[n] == nil:
			c.held[id] = claim{keys[n].Ifindex, held[n]}
		case errors.Is(errs[n], link.ErrClaimed):
			errs[n] = fmt.Errorf("another failoverd already runs VRID %d on %s: stop it first, or use another VRID", id.VRID, id.Interface)
		}
	}
	return errs
}

// holdAll claims the Virtual Routers of a plan whose interfaces exist.
func (c *claims) holdAll(p *plan.Plan, snapshot []link.Interface) error {
	index := make(map[string]int, len(snapshot))
	for _, i := range snapshot {
		index[i.Name] = i.Index
	}
	var ids []plan.ID
	var keys []packet.Key
	for _, v := range p.Sorted() {
		if i, there := index[v.Interface]; there {
			ids, keys = append(ids, v.ID), append(keys, keyOf(v.ID, i))
		}
	}
	for _, err := range c.hold(ids, keys) {
		if err != nil {
			return err
		}
	}
	return nil
}

// release ends a claim. Closing it can't lose data, so its error is ignored.
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
