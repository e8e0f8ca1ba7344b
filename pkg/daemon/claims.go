// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"io"

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
