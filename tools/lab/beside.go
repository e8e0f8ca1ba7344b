// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Beside runs f on the node like Do, but on a thread of its own, so that a long f doesn't delay
// calls of Do. The lab must not be closed before f has returned.
func (n *Node) Beside(f func() error) error {
	var spaces []*os.File
	defer func() {
		for _, s := range spaces {
			_ = s.Close()
		}
	}()
	if err := n.Do(func() error {
		for _, name := range []string{"mnt", "net"} {
			s, err := os.Open("/proc/thread-self/ns/" + name)
			if err != nil {
				return err
			}
			spaces = append(spaces, s)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	t := newThread()
	defer t.stop()
	return t.do(func() error {
		err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(int(spaces[0].Fd()), unix.CLONE_NEWNS), unix.Setns(int(spaces[1].Fd()), unix.CLONE_NEWNET))
		if err != nil {
			return fmt.Errorf("node %s: enter its namespaces: %w", n.Name, err)
		}
		return f()
	})
}
