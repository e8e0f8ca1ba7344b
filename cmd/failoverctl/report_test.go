// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/doctor"
)

// The report fits the width, and lists the checks that weren't possible.
func TestReport(t *testing.T) {
	long := strings.Repeat("a long reason ", 20)
	var b bytes.Buffer
	err := writeReport(&b, doctor.Report{
		Findings: []doctor.Finding{
			{Level: doctor.Problem, Check: "interface", Interface: "eth0", Cause: long, Remedy: long, Commands: []string{"ip link set eth0 up"}},
			{Level: doctor.Warning, Check: "clock", Cause: "the clock source is hpet", Remedy: "use tsc"},
			{Level: doctor.OK, Check: "bpf", Cause: "Linux loads all programs"},
		},
		Unchecked: []doctor.Unchecked{{Check: "firewall", Why: "it needs root"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "doctor", b.String())
	for line := range strings.Lines(b.String()) {
		if n := len([]rune(line)) - 1; n > tableWidth {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// A mistake in the command line is an error before any check runs.
func TestDoctorUsage(t *testing.T) {
	for _, args := range [][]string{{"doctor", "eth0"}, {"doctor", "-o", "xml"}, {"doctor", "--interface", "eth0"}} {
		if code, out, _ := call(t, args...); code != exitUsage || out != "" {
			t.Errorf("%v: exit code %d: %s", args, code, out)
		}
	}
	socket := filepath.Join(t.TempDir(), "none")
	code, out, _ := call(t, "doctor", "--socket", socket, "--config", filepath.Join(t.TempDir(), "missing.yaml"))
	if code != exitFailure || !strings.Contains(out, "no configuration file") {
		t.Errorf("a missing file: exit code %d: %s", code, out)
	}
	if code, out, _ = call(t, "doctor", "--socket", socket, "--iface", fmt.Sprint("none", os.Getpid())); code != exitFailure || !strings.Contains(out, "doesn't exist") {
		t.Errorf("a missing interface: exit code %d: %s", code, out)
	}
}
