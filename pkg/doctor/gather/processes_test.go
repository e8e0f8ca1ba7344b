// SPDX-License-Identifier: Apache-2.0

package gather

import (
	"strings"
	"testing"
)

func TestBalancesOnly(t *testing.T) {
	for args, want := range map[string]bool{
		"/usr/sbin/keepalived --dont-fork --check": true,
		"keepalived -C":                true,
		"keepalived -nC --use-file x":  true,
		"keepalived -DC":               true,
		"keepalived":                   false,
		"keepalived --dont-fork":       false,
		"keepalived -P":                false,
		"keepalived --config-id Check": false,
		"keepalived -fC":               false, // a file of this name
		"keepalived --checkers_pid=/run/keepalived/c.pid": false,
	} {
		if got := balancesOnly(strings.Fields(args)); got != want {
			t.Errorf("%s: %v", args, got)
		}
	}
}
