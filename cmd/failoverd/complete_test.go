// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
)

// The completions that a shell gets.
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
