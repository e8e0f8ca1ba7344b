// SPDX-License-Identifier: Apache-2.0

package transmit

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/failoverd/failoverd/pkg/packet"
)

// An interface whose MTU was too small for a moment is a member again only after Rejoin.
func TestJoinAgain(t *testing.T) {
	n, _, c := newConn(t)
	defer c.Close()
	eth0, err := n.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	in := func(f func() error) {
		t.Helper()
		if err := n.Do(f); err != nil {
			t.Fatal(err)
		}
	}
	join := func() error { return errors.Join(c.Join(packet.IPv4), c.Join(packet.IPv6)) }
	member := func(want ...packet.Family) {
		t.Helper()
		in(func() error {
			for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
				members, err := Members(f)
				if err != nil {
					return err
				}
				if got := members[eth0.Attrs().Index]; got != slices.Contains(want, f) || len(members) > 1 {
					return fmt.Errorf("a member of %s: %v", f.Group(), got)
				}
			}
			return nil
		})
	}
	member()
	in(join)
	member(packet.IPv4, packet.IPv6)
	in(join) // a second time
	member(packet.IPv4, packet.IPv6)
	if err := n.Netlink().LinkSetMTU(eth0, 1200); err != nil {
		t.Fatal(err)
	}
	in(func() error {
		for range 2 {
			if err := c.Rejoin(packet.IPv6); err == nil {
				t.Error("joined without IPv6")
			}
		}
		return nil
	})
	if err := n.Netlink().LinkSetMTU(eth0, 1500); err != nil {
		t.Fatal(err)
	}
	member(packet.IPv4)
	in(func() error { return c.Rejoin(packet.IPv6) })
	member(packet.IPv4, packet.IPv6)
	if !c.Wants(packet.IPv4) || !c.Wants(packet.IPv6) {
		t.Error("Wants forgets a group that was joined")
	}
}

// The parsers read the kernel's lists, which have other groups and interfaces too.
func TestMembers(t *testing.T) {
	four := "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n" +
		"1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n" +
		"7\teth0      :     2      V3\n\t\t\t\t%s     1 0:00000000\t\t0\n\t\t\t\t010000E0     1 0:00000000\t\t0\n"
	six := "1    lo              ff020000000000000000000000000001     1 0000000C 0\n" +
		"7    eth0            %s     1 00000006 0\n"
	for name, parse := range map[string]func(map[int]bool){
		"IPv4": func(m map[int]bool) { membersIPv4(fmt.Appendf(nil, four, groupIPv4()), groupIPv4(), m) },
		"IPv6": func(m map[int]bool) { membersIPv6(fmt.Appendf(nil, six, groupIPv6()), groupIPv6(), m) },
		"long": func(m map[int]bool) {
			membersIPv6(fmt.Appendf(nil, "7    a-name-of-15-oc %s     1 00000006 0\n", groupIPv6()), groupIPv6(), m)
		},
	} {
		members := make(map[int]bool)
		if parse(members); len(members) != 1 || !members[7] {
			t.Errorf("%s: %v", name, members)
		}
	}
}
