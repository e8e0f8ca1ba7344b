// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/packet"
)

// Whatever an administrator meets is explained: counters and maps in the
// README, flags in the help.
func TestDocumented(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(b)
	for n := range packet.ReasonCount {
		if name := packet.Reason(n).String(); n != 0 && strings.Count(readme, "| `"+name+"` |") != 1 {
			t.Errorf("the README does not explain the counter %s once", name)
		}
	}
	spec, err := bpf.LoadVrrp()
	if err != nil {
		t.Fatal(err)
	}
	for name := range spec.Maps {
		if name == bpf.VrrpMapFailoverWork { // isn't pinned
			continue
		}
		if strings.Count(readme, "| `"+name+"` |") != 1 {
			t.Errorf("the README does not explain the map %s once", name)
		}
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &out, &out); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	for _, flag := range []string{"iface", "vip", "vrid", "priority", "interval", "version", "no-preempt", "xdp-mode", "log-format", "log-level", "cleanup"} {
		if !strings.Contains(out.String(), "--"+flag) {
			t.Errorf("the help does not explain --%s", flag)
		}
	}
}
