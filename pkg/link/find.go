// SPDX-License-Identifier: Apache-2.0

package link

import (
	"fmt"
	"slices"
	"strings"
)

// Find returns the interface with the name. If there is none, the error lists the existing
// ones. For the loopback it returns both the interface and an error.
func Find(snapshot []Interface, name string) (Interface, error) {
	var names []string
	for n := range snapshot {
		i := &snapshot[n]
		if i.Name == name {
			if i.Kind == KindLoopback {
				return *i, fmt.Errorf("interface %s is the loopback: VRRP needs a network shared with other hosts", name)
			}
			return *i, nil
		}
	}
	for n := range snapshot {
		if i := &snapshot[n]; i.Kind != KindLoopback {
			names = append(names, i.Name)
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return Interface{}, fmt.Errorf("no interface %q: this host has none but the loopback", name)
	}
	return Interface{}, fmt.Errorf("no interface %q: this host has %s", name, strings.Join(names, ", "))
}
