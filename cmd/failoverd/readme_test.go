// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"

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
		switch name { // these have no pin
		case bpf.VrrpMapFailoverWork, bpf.VrrpMapFailoverHash, bpf.VrrpMapFailoverStream, ".bss", ".rodata":
			continue
		case bpf.VrrpMapFailoverKeys:
			if !strings.Contains(readme, "`"+name+"`") {
				t.Error("the README does not say where the keys are")
			}
			continue
		}
		if strings.Count(readme, "| `"+name+"` |") != 1 {
			t.Errorf("the README does not explain the map %s once", name)
		}
	}
	command(io.Discard, io.Discard).Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Usage == "" {
			t.Errorf("the help does not explain --%s", f.Name)
		}
	})
}
