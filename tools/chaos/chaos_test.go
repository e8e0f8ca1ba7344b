// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// A round of each kind runs without a violation.
func TestRounds(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "failoverd")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/failoverd").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var out strings.Builder
	if err := run(t.Context(), options{binary: binary, rounds: 2, first: 1, load: 6, seed: 42}, &out); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// A plan follows from the seed and the round, and each fault occurs at each moment.
func TestPlans(t *testing.T) {
	seen := make(map[string]bool)
	for round := range 1000 {
		p := planOf(7, round)
		if p != planOf(7, round) {
			t.Fatalf("round %d has two plans", round)
		}
		seen[p.fault+p.moment+p.after+hosts[p.victim]] = true
	}
	if want := 2 * len(moments) * 3 * 2; len(seen) != want {
		t.Errorf("%d kinds of rounds, want %d", len(seen), want)
	}
}

// A sequence follows from the seed and the round. Each kind of step occurs. No router is ever
// without an address, and none of version 2 has IPv6 addresses.
func TestSequences(t *testing.T) {
	seen := make(map[string]bool)
	for round := range 500 {
		q := sequenceOf(7, round)
		if q.String() != sequenceOf(7, round).String() {
			t.Fatalf("round %d has two sequences", round)
		}
		for _, s := range q.steps {
			for x := &s; x != nil; x = x.meanwhile {
				seen[x.kind.name] = true
				checkSetup(t, x.setup)
			}
		}
	}
	for _, k := range kinds {
		if !seen[k.name] {
			t.Errorf("no sequence has the step %q", k.name)
		}
	}
}

func checkSetup(t *testing.T, s setup) {
	t.Helper()
	seen := make(map[string]bool)
	for _, r := range s.routers {
		if len(r.addresses) == 0 || r.priority[0] == r.priority[1] || r.version == 2 && r.interval != slow {
			t.Errorf("%+v", r)
		}
		for _, a := range r.addresses {
			if seen[a] || !r.takes(a) {
				t.Errorf("%s is assigned twice, or to a router that can't have it: %+v", a, r)
			}
			seen[a] = true
		}
	}
	if all := len(asked4) + len(asked6) + unasked; len(s.routers) > 0 && len(seen) != all {
		t.Errorf("%d addresses, want %d", len(seen), all)
	}
}

// Two hosts that answer in turns differ from a host that follows another one.
func TestAlternate(t *testing.T) {
	start := time.Unix(0, 0)
	for text, want := range map[string]time.Duration{
		"aaaaa.bbbbb":                  0,
		"aaaabababbb":                  4 * 10 * time.Millisecond,
		"aaaa" + "bbbbbbbbbbbb" + "aa": 0, // 120 ms each way
		"":                             0,
	} {
		var answers lab.Answers
		for n, c := range text {
			if c != '.' {
				answers = append(answers, lab.Answer{At: start.Add(time.Duration(n) * 10 * time.Millisecond), From: string(c)})
			}
		}
		if got, _ := alternate(answers); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// A daemon that has ended is reported as such.
func TestDaemonEnds(t *testing.T) {
	s, err := newSite(t.Context(), options{binary: "/bin/false", load: 2})
	if err == nil {
		_ = s.close()
		t.Fatal("a site without a running failoverd is no error")
	}
	if !strings.Contains(err.Error(), "failoverd on a has ended") {
		t.Error(err)
	}
}
