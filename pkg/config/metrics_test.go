// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckMetrics(t *testing.T) {
	for _, good := range []string{"off", "127.0.0.1:9650", "[::1]:9650", ":9650", "localhost:9650", "127.0.0.1:0"} {
		if err := CheckMetrics(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "on", "9650", "127.0.0.1", "::1:9650", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:http", "http://127.0.0.1:9650/metrics"} {
		if err := CheckMetrics(bad); err == nil || !strings.Contains(err.Error(), "is not HOST:PORT: write it like 127.0.0.1:9650") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := CheckMetricsCompat("frr"); err == nil || !strings.Contains(err.Error(), "it is off or keepalived") {
		t.Error(err)
	}
}

func TestGlobalDifference(t *testing.T) {
	f, err := Parse("x", []byte("global: {metrics: \":9650\", metrics_compat: keepalived, log_level: debug, startup_delay: 1s}\nrouters: [{interface: eth0, vrid: 51, addresses: [192.0.2.10/24]}]"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"log_level: info → debug", `metrics: off → :9650`, "metrics_compat: off → keepalived"}
	if diff := cmp.Diff(want, GlobalDifference(defaultGlobal(), f.Global)); diff != "" {
		t.Error(diff)
	}
	if d := GlobalDifference(f.Global, f.Global); d != nil {
		t.Error(d)
	}
}

func TestGroupDifference(t *testing.T) {
	parse := func(group string) []Group {
		f, err := Parse("x", []byte("groups: ["+group+"]\nrouters: [{name: a, interface: eth0, vrid: 51, addresses: [192.0.2.10/24]}, {name: b, interface: eth1, vrid: 51, addresses: [198.51.100.10/24]}]"))
		if err != nil {
			t.Fatal(err)
		}
		return f.Groups
	}
	before := parse("{name: g, routers: [a, b], notify: /bin/a}")
	want := map[string][]string{"g": {"notify: [/bin/a] → []", "notify_backup: [] → [/bin/b]"}}
	got := GroupDifference(before, parse("{name: g, routers: [a, b], notify_backup: /bin/b}"))
	slices.Sort(got["g"])
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if d := GroupDifference(before, parse("{name: other, routers: [a, b]}")); len(d) > 0 {
		t.Errorf("%v", d)
	}
}
