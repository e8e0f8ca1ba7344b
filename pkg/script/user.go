// SPDX-License-Identifier: Apache-2.0

package script

import (
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Credential is the user and the groups that a program runs with.
type Credential struct {
	UID, GID uint32
	Groups   []uint32 // supplementary groups
}

// Lookup parses USER or USER:GROUP, as names or numbers. Without a group it returns the primary
// and supplementary groups of the user. It may read files and ask a name service.
func Lookup(s string) (*Credential, error) {
	name, group, grouped := strings.Cut(s, ":")
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return nil, fmt.Errorf("there is no user %q on this host", name)
		}
	}
	c := new(Credential)
	if c.UID, err = number(u.Uid); err != nil {
		return nil, err
	}
	if c.GID, err = number(u.Gid); err != nil {
		return nil, err
	}
	if grouped {
		g, err := user.LookupGroup(group)
		if err != nil {
			if g, err = user.LookupGroupId(group); err != nil {
				return nil, fmt.Errorf("there is no group %q on this host", group)
			}
		}
		c.GID, err = number(g.Gid)
		return c, err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("look up the groups of %s: %w", name, err)
	}
	for _, id := range ids {
		n, err := number(id)
		if err != nil {
			return nil, err
		}
		if n != c.GID {
			c.Groups = append(c.Groups, n)
		}
	}
	return c, nil
}

func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

// Self returns the effective user and the groups of this process.
func Self() *Credential {
	c := &Credential{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	groups, err := os.Getgroups()
	if err != nil {
		return c
	}
	for _, g := range groups {
		c.Groups = append(c.Groups, uint32(g))
	}
	return c
}

// system returns nil if nothing has to change, because an unprivileged process may not set
// even its own IDs.
func (c *Credential) system() *syscall.Credential {
	self := Self()
	if c.UID == self.UID && c.GID == self.GID && (self.UID != 0 || slices.Equal(c.Groups, self.Groups)) {
		return nil
	}
	return &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups}
}

func (c *Credential) in(group uint32) bool {
	return c.GID == group || slices.Contains(c.Groups, group)
}
