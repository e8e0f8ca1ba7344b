// SPDX-License-Identifier: Apache-2.0

package transmit

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"

	"github.com/failoverd/failoverd/pkg/packet"
)

// Members returns the indexes of the interfaces of this network namespace that are
// members of the family's VRRP group.
func Members(f packet.Family) (map[int]bool, error) {
	list, group := "/proc/thread-self/net/igmp", groupIPv4()
	parse := membersIPv4
	if f == packet.IPv6 {
		list, group, parse = "/proc/thread-self/net/igmp6", groupIPv6(), membersIPv6
	}
	b, err := os.ReadFile(list)
	if err != nil {
		return nil, fmt.Errorf("list the members of %s: %w", f.Group(), err)
	}
	members := make(map[int]bool)
	parse(b, group, members)
	return members, nil
}

// groupIPv4 returns the IPv4 group in the kernel's notation: in the machine's byte order.
func groupIPv4() []byte {
	a := packet.IPv4.Group().As4()
	return fmt.Appendf(nil, "%08X", binary.NativeEndian.Uint32(a[:]))
}

// groupIPv6 returns the IPv6 group in the kernel's notation.
func groupIPv6() []byte {
	a := packet.IPv6.Group().As16()
	return hex.AppendEncode(nil, a[:])
}

// membersIPv4 parses /proc/net/igmp. The list has a line with the index for each interface,
// followed by an indented line for each of its groups:
//
//	Idx	Device    : Count Querier	Group    Users Timer	Reporter
//	2	eth0      :     2      V3
//					120000E0     1 0:00000000		0
func membersIPv4(list, group []byte, members map[int]bool) {
	index := 0
	for line := range bytes.Lines(list) {
		fields := bytes.Fields(line)
		switch {
		case len(fields) == 0:
		case line[0] != '\t':
			index, _ = strconv.Atoi(string(fields[0])) // 0 for the heading
		case bytes.Equal(fields[0], group):
			members[index] = true
		}
	}
}

// membersIPv6 parses /proc/net/igmp6. The list has a line for each group of each interface:
//
//	2    eth0            ff020000000000000000000000000012     1 0000000C 0
func membersIPv6(list, group []byte, members map[int]bool) {
	for line := range bytes.Lines(list) {
		if fields := bytes.Fields(line); len(fields) > 2 && bytes.Equal(fields[2], group) {
			if index, err := strconv.Atoi(string(fields[0])); err == nil {
				members[index] = true
			}
		}
	}
}
