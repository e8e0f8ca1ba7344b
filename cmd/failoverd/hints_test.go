// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/config"
)

// A wrong command line is answered with the remedy.
func TestHints(t *testing.T) {
	for args, want := range map[string]string{
		"status":               "did you mean failoverctl status?",
		"restart":              "did you mean failoverctl restart?",
		"eth0":                 `unexpected argument "eth0"`,
		"192.0.2.10/24":        "did you mean --vip 192.0.2.10/24?",
		"--accept false":       "write the flag with an equals sign, --accept=false",
		"--no-preempt true":    "write the flag with an equals sign, --no-preempt=true",
		"--state MASTER":       "the highest --priority",
		"--interface eth0":     "did you mean --iface?",
		"--prio 100":           "there is no flag --prio: did you mean --priority?; see failoverd --help",
		"--interfal 1s":        "did you mean --interval?",
		"--xyzzy":              "there is no flag --xyzzy; see failoverd --help",
		"-vip 192.0.2.10":      "there is no flag -vip: did you mean --vip?",
		"-v":                   "did you mean -V?",
		"--vip":                "--vip needs a value: --vip ADDRESS",
		"--vrid many":          `--vrid "many" is not a whole number`,
		"--preempt-delay soon": `--preempt-delay "soon" is not a duration`,
		"--accept=maybe":       `--accept "maybe" is neither true nor false`,
		"version 2":            `unexpected argument "2": the form is failoverd version`,
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), strings.Split(args, " "), &out, &errs)
		if code != exitUsage || !strings.Contains(errs.String(), want) || strings.Count(errs.String(), "\n") != 1 {
			t.Errorf("failoverd %s: exit code %d, %q, want %q", args, code, errs.String(), want)
		}
	}
}

// --version prints the version of failoverd. Before a number it still selects the VRRP
// version.
func TestVersion(t *testing.T) {
	for _, args := range []string{"--version", "-V", "version", "--vip 192.0.2.10/24 --version"} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Split(args, " "), &out, &errs); code != 0 || out.String() != "failoverd "+config.Version()+"\n" {
			t.Errorf("failoverd %s: exit code %d, %q %q", args, code, out.String(), errs.String())
		}
	}
	const want = "version 4 is"
	for _, args := range []string{"--version 4", "--version=4", "--vrrp-version 4"} {
		var out, errs bytes.Buffer
		code := run(t.Context(), strings.Split("--iface lo --vip 192.0.2.10/24 "+args, " "), &out, &errs)
		if code != exitUsage || !strings.Contains(errs.String(), want) {
			t.Errorf("failoverd %s: exit code %d, %q, want %q", args, code, errs.String(), want)
		}
	}
}

// The help shows [=true|false] only for the flag that is true by default.
func TestHelpOfSwitches(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &out, &errs); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, "[=true|false]") && !strings.Contains(line, "--accept[") {
			t.Errorf("noise: %s", line)
		}
	}
	if !strings.Contains(out.String(), "--accept[=true|false]") || !strings.Contains(out.String(), "  -V, --version  ") {
		t.Errorf("--accept or --version is missing or has the wrong form:\n%s", out.String())
	}
}
