// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// check names the routers that don't fit the limits of the kernel's maps.
func TestCheckSaysWhatDoesNotFit(t *testing.T) {
	var text strings.Builder
	text.WriteString("routers:\n")
	for i := range 255 {
		fmt.Fprintf(&text, "  - {name: r%d, interface: eth0, vrid: %d, addresses: [", i, i+1)
		for k := range 255 {
			fmt.Fprintf(&text, "10.%d.%d.%d/8, ", 1+i/250, i%250, k+1)
		}
		text.WriteString("]}\n")
	}
	for i := range 4 {
		fmt.Fprintf(&text, "  - {name: s%d, interface: eth1, vrid: %d, addresses: [", i, i+1)
		for k := range 255 {
			fmt.Fprintf(&text, "10.9.%d.%d/8, ", i, k+1)
		}
		text.WriteString("]}\n")
	}
	path := filepath.Join(t.TempDir(), "large.yaml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	c := checkCommand()
	c.SetArgs([]string{path})
	c.SetOut(&out)
	c.SetErr(&out)
	if err := c.Execute(); err == nil || !strings.Contains(out.String(), "router s2 (ipv4): the kernel has room for 65536 virtual addresses") || strings.Contains(out.String(), "router s1 ") {
		t.Errorf("%v: %.500s", err, out.String())
	}
}
