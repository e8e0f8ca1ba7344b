// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"os"
	"regexp"
	"testing"

	"github.com/cilium/ebpf"
)

// README.md has a row for each program and each map, as bpftool shows them.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := func(what, name string) {
		t.Helper()
		row := regexp.MustCompile("(?m)^\\|[^|]*`" + regexp.QuoteMeta(name) + "`[^|]*\\|")
		if n := len(row.FindAll(readme, -1)); n != 1 {
			t.Errorf("README.md explains the %s %s in %d rows, not in one", what, name, n)
		}
	}
	maps := make(map[string]bool)
	for _, load := range []func() (*ebpf.CollectionSpec, error){LoadVrrp, LoadVmac} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		for name := range spec.Programs {
			explained("program", name)
		}
		for name := range spec.Maps {
			maps[name] = true
		}
	}
	for name := range maps { // some are in both
		switch name {
		case ".bss": // variables
		case ".rodata":
			explained("map", ".rodata.vrrp")
		default:
			explained("map", name)
		}
	}
}
