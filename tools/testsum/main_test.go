// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestSummarise(t *testing.T) {
	const pass = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n" + `{"Action":"pass","Package":"p"}` + "\n"
	const skip = `{"Action":"skip","Package":"p","Test":"TestB"}` + "\n"
	const fail = `{"Action":"output","Package":"p","Test":"TestC","Output":"why it failed\n"}` + "\n" +
		`{"Action":"fail","Package":"p","Test":"TestC"}` + "\n" + `{"Action":"fail","Package":"p"}` + "\n"
	for _, test := range []struct {
		name, in string
		strict   bool
		ok       bool
		want     string
	}{
		{"pass", pass, true, true, "1 passed, 0 failed, 0 skipped\n"},
		{"skip", pass + skip, false, true, "skipped: p TestB\n1 passed, 0 failed, 1 skipped\n"},
		{"strict skip", pass + skip, true, false, "skipped: p TestB\n1 passed, 0 failed, 1 skipped\n"},
		{"fail", pass + fail, false, false, "failed: p TestC\n1 passed, 1 failed, 0 skipped\n"},
		{"nothing ran", "", false, false, "0 passed, 0 failed, 0 skipped\n"},
		{"broken build", pass + `{"Action":"fail","Package":"q"}` + "\n", false, false, "1 passed, 0 failed, 0 skipped\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			ok, err := summarise(strings.NewReader(test.in), &out, test.strict)
			if err != nil || ok != test.ok {
				t.Errorf("ok = %v, err = %v, want ok = %v", ok, err, test.ok)
			}
			if !strings.HasSuffix(out.String(), test.want) {
				t.Errorf("the output is %q, want %q at its end", out.String(), test.want)
			}
			if test.name == "fail" && !strings.Contains(out.String(), "why it failed") {
				t.Errorf("the output lacks that of the failed test: %q", out.String())
			}
		})
	}
}
