// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
)

// What a shell is told to complete, and the manual page.
func TestComplete(t *testing.T) {
	for args, want := range map[string]string{
		"--xdp-mode ":       "auto\nnative\ngeneric\ntc\noff\n",
		"--virtual-mac ":    "auto\nbpf\nmacvlan\noff\n",
		"--checksum ":       "auto\nrfc9568\nrfc5798\n",
		"--log-format ":     "auto\nterminal\ntext\njson\njournal\n",
		"--metrics-compat ": "off\nkeepalived\n",
		"--iface ":          "lo\n",
		"--no-pre":          "--no-preempt",
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"__complete"}, strings.Split(args, " ")...), &out, &errs)
		if code != 0 || !strings.HasPrefix(out.String(), want) {
			t.Errorf("%s: exit code %d, %s%s, want %s", args, code, out.String(), errs.String(), want)
		}
	}
}

func TestManual(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"man"}, &out, &errs); code != 0 || errs.Len() > 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	for _, want := range []string{".TH \"FAILOVERD\" 8", "\\fB\\-\\-vip\\fR \\fIADDRESS\\fR", ".SH \"EXIT STATUS\"", ".SH \"SIGNALS\""} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("not there: %s", want)
		}
	}
}
