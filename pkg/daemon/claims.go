// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/router"
)

// claims make sure that no other failoverd of this network namespace runs one of
// the Virtual Routers.
type claims struct{ held map[router.ID]claim }

type claim struct {
	ifindex int
	io.Closer
}

// hold claims a Virtual Router on an interface.
func (c *claims) hold(id router.ID, ifindex int) error {
	if held, ok := c.held[id]; ok && held.ifindex == ifindex {
		return nil
	}
	c.release(id)
	closer, err := link.Claim(ifindex, id.Family, id.VRID)
	if errors.Is(err, link.ErrClaimed) {
		return fmt.Errorf("another failoverd already runs VRID %d on %s: stop it first, or use another VRID", id.VRID, id.Interface)
	}
	if err != nil {
		return err
	}
	if c.held == nil {
		c.held = make(map[router.ID]claim)
	}
	c.held[id] = claim{ifindex, closer}
	return nil
}

// holdAll claims the Virtual Routers whose interfaces are there, in an order that is
// the same for all: of two that begin at the same moment, the one that gets the first
// that both want gets the others too.
func (c *claims) holdAll(all []*member, snapshot []link.Interface) error {
	order := slices.SortedFunc(slices.Values(all), func(a, b *member) int {
		return cmp.Or(cmp.Compare(a.id.Interface, b.id.Interface), cmp.Compare(a.id.Family, b.id.Family), cmp.Compare(a.id.VRID, b.id.VRID))
	})
	for _, m := range order {
		if i, err := link.Find(snapshot, m.id.Interface); err == nil {
			if err := c.hold(m.id, i.Index); err != nil {
				return err
			}
		}
	}
	return nil
}

// release gives a claim up. There is nothing that could be lost with it.
func (c *claims) release(id router.ID) {
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
