// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// balanced translates the test files that contain virtual servers. lvs is Options.LVS.
func balanced(t *testing.T, lvs bool) (names []string, all []*Result) {
	t.Helper()
	for _, path := range sources(t, "testdata/lvs/*.conf", 3) {
		o := alpha
		o.LVS = lvs
		open, glob := in(filepath.Dir(path))
		r, err := KeepalivedWith(filepath.Base(path), open, glob, o)
		if err != nil {
			t.Fatal(err)
		}
		check(t, r)
		names, all = append(names, strings.TrimSuffix(path, ".conf")), append(all, r)
	}
	return names, all
}

func TestLVS(t *testing.T) {
	names, all := balanced(t, true)
	for i, r := range all {
		golden(t, names[i]+".lvs", string(r.LVS))
		golden(t, names[i]+".findings.txt", written(r.Findings))
		for _, word := range []string{"vrrp", "not2tell", "unused"} {
			if strings.Contains(strings.ReplaceAll(string(r.LVS), "without VRRP", ""), word) {
				t.Errorf("%s: %q is in the file for the load balancer: %s", names[i], word, r.LVS)
			}
		}
		if strings.Contains(string(r.YAML)+written(r.Findings), "S3cretXy") {
			t.Errorf("%s: a password of SSL is shown", names[i])
		}
	}
	// A file that doesn't use the option names it, once for the virtual servers.
	_, all = balanced(t, false)
	for i, r := range all {
		about := func(f Finding) bool { return f.Kind != Unneeded && f.Text == lvsText }
		if n := slices.IndexFunc(r.Findings, about); n < 0 || slices.ContainsFunc(r.Findings[n+1:], about) {
			t.Errorf("%s: the remark about the load balancer isn't there once: %s", names[i], written(r.Findings))
		}
	}
}

// The translation keeps the meaning: a second translation of its result gives the same result,
// without the comment at its head.
func TestLVSKeepsItsMeaning(t *testing.T) {
	names, all := balanced(t, true)
	for i, r := range all {
		again := append([]byte("vrrp_instance a {\ninterface eth0\nvirtual_router_id 1\n}\n"), r.LVS...)
		second, err := KeepalivedWith("x", func(string) ([]byte, error) { return again, nil }, nil, alpha)
		if err != nil {
			t.Fatal(err)
		}
		body := func(b []byte) string { _, body, _ := strings.Cut(string(b), "\n\n"); return body }
		if body(r.LVS) != body(second.LVS) {
			t.Errorf("%s: first\n%s\nthen\n%s", names[i], body(r.LVS), body(second.LVS))
		}
	}
}
