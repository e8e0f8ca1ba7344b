// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Without --only the usual experiments of the table run. Extra ones and studies run only where
// --only names them.
func TestOnly(t *testing.T) {
	usual := 0
	for _, e := range experiments() {
		if !e.extra {
			usual++
		}
	}
	for _, c := range []struct {
		only                 string
		quick                bool
		experiments, studies int
	}{
		{"", false, usual, 0},
		{"^Churn$", false, 1, 0},
		{"^Fence$", false, 0, 1},
		{"^Fence", false, 0, 2},
		{"^(Bystander|Checks)$", false, 0, 2},
		{"^Backup 1,000", false, 2, 0},
		{"^Outage|^Checks$", false, 1, 1},
		{"^Outage", true, 0, 0},
		{"nothing of the kind", false, 0, 0},
	} {
		b := &bench{only: regexp.MustCompile(c.only), share: 1, quick: c.quick}
		if e, s := len(b.chosen()), len(b.studies()); e != c.experiments || s != c.studies {
			t.Errorf("--only %q, quick %v: %d experiments and %d studies, want %d and %d", c.only, c.quick, e, s, c.experiments, c.studies)
		}
	}
	var names []string
	for _, e := range experiments() {
		names = append(names, e.name)
	}
	for _, s := range studies() {
		names = append(names, s.name)
	}
	slices.Sort(names)
	if len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("two experiments have the same name: %q", names)
	}
}

// publish replaces the generated part of the results and nothing else.
func TestPublish(t *testing.T) {
	path := filepath.Join(t.TempDir(), "RESULTS.md")
	before, after := "# By hand\n"+generatedBegin+"\n", generatedEnd+"\nBy hand too.\n"
	if err := os.WriteFile(path, []byte(before+"old table\n"+after), 0o600); err != nil {
		t.Fatal(err)
	}
	o := outcome{experiment: experiment{name: "x", setup: defaults}, measured: map[string][]values{
		"failoverd": {{cpu: 2}, {cpu: 3}}, "keepalived": {{cpu: 4}, {cpu: 4}},
	}}
	o.rows = []row{{key: cpu, name: "CPU", unit: "%", target: ratio(0.5)}}
	r := newReport(about{Keepalived: "Keepalived v9"}, &bench{}, []outcome{o})
	for range 2 {
		if err := r.publish(path); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	inside, ok := strings.CutPrefix(string(text), before)
	inside, ended := strings.CutSuffix(inside, after)
	if !ok || !ended || inside != r.markdown() {
		t.Errorf("the file is:\n%s", text)
	}
	for _, want := range []string{
		"Keepalived v9",
		"| Measure | Unit | Configured | failoverd | keepalived | Ratio | Aim |\n|---|---|---|---|---|---|---|\n",
		"| CPU | % | defaults | 2.50 (2–3) | 4 | 0.62 (0.50–0.75) | ratio ≤ 0.5: **missed** |\n",
	} {
		if !strings.Contains(inside, want) {
			t.Errorf("the table lacks %q:\n%s", want, inside)
		}
	}
	if err := os.WriteFile(path, []byte(after), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.publish(path); err == nil {
		t.Error("a file without a place for the table was accepted")
	}
}

// Only a complete run at the defaults of the benchmark replaces the results.
func TestPublishes(t *testing.T) {
	full := options{share: 1, results: "RESULTS.md"}
	if !full.publishes() {
		t.Error("a complete run doesn't replace the results")
	}
	for name, change := range map[string]func(*options){
		"no file":   func(o *options) { o.results = "" },
		"--only":    func(o *options) { o.only = "Backup" },
		"--who":     func(o *options) { o.who = "failoverd" },
		"--quick":   func(o *options) { o.quick = true },
		"--share":   func(o *options) { o.share = 0.5 },
		"--global":  func(o *options) { o.global = "realtime: true" },
		"--against": func(o *options) { o.against = "realtime: false" },
	} {
		o := full
		change(&o)
		if o.publishes() {
			t.Errorf("a run with %s replaces the results", name)
		}
	}
}

// At the defaults nothing is configured but what a router can't do without, and otherwise all
// that RESULTS.md lists.
func TestSetups(t *testing.T) {
	for _, c := range []struct {
		how                   setup
		failoverd, keepalived []string
	}{
		{alike, []string{"checksum: rfc5798", "virtual_mac: off", "announce_again: 0s"}, []string{"garp_master_delay 0"}},
		{virtualMACs, []string{"checksum: rfc5798", "virtual_mac: auto", "announce_again: 0s"}, []string{"garp_master_delay 0", "use_vmac"}},
		{defaults, nil, nil},
	} {
		routers := grid(1, 1, 100, time.Second)
		for daemon, config := range map[string]struct {
			text     string
			want, of []string
		}{
			"failoverd":  {failoverdConfig("", routers, c.how), c.failoverd, []string{"checksum: rfc5798", "virtual_mac: off", "virtual_mac: auto", "announce_again: 0s"}},
			"keepalived": {keepalivedConfig("", routers, c.how), c.keepalived, []string{"garp_master_delay 0", "use_vmac"}},
		} {
			for _, setting := range config.of {
				if strings.Contains(config.text, setting) != slices.Contains(config.want, setting) {
					t.Errorf("%s, %s: %s, want only %q:\n%s", daemon, c.how, setting, config.want, config.text)
				}
			}
		}
	}
}

// The estimate of a complete run stays below 45 minutes.
func TestEstimate(t *testing.T) {
	b := &bench{only: regexp.MustCompile(""), who: regexp.MustCompile(""), share: 1, contenders: newContenders(options{})}
	if e := b.estimate(b.chosen()); e > 45*time.Minute {
		t.Errorf("a complete run takes %v", e)
	}
}
