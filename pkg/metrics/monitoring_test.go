// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/control"
)

const monitoring = "../../tools/package/examples/monitoring/"

var (
	metricName = regexp.MustCompile(`\bfailoverd_[a-z0-9_]+`)
	labelList  = regexp.MustCompile(`(?:by|on|without) \(([^)]*)\)`)
	matcher    = regexp.MustCompile(`([a-z_]+) ?(?:=~|!~|!=|=)"`)
)

// The metrics and labels that the alert rules and the dashboard use exist.
func TestMonitoring(t *testing.T) {
	s := lan()
	s.status.LastReload = new(control.LastReload)
	s.stats.Routers[0].Counters = append(s.stats.Routers[0].Counters, control.Counter{Name: "send_errors"})
	s.stats.Hooks = []control.HookStats{{Name: "web", Runs: map[string]uint64{"ok": 1}}}
	text := scrape(t, Handler(s, false))
	names, labels := make(map[string]bool), map[string]bool{"instance": true, "job": true}
	for name := range values(t, text) {
		name, rest, _ := strings.Cut(name, "{")
		names[name] = true
		for _, m := range matcher.FindAllStringSubmatch(rest, -1) {
			labels[m[1]] = true
		}
	}
	var expressions []string
	content, err := os.ReadFile(monitoring + "alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if expression, is := strings.CutPrefix(strings.TrimSpace(line), "expr: "); is {
			expressions = append(expressions, expression)
		}
	}
	for _, key := range []string{"- alert: ", "labels: {severity: ", "  summary: ", "  description: "} {
		if n := strings.Count(string(content), key); n != len(expressions) || n == 0 {
			t.Errorf("%d times %q for %d expressions", n, key, len(expressions))
		}
	}
	content, err = os.ReadFile(monitoring + "dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Templating struct{ List []struct{ Query string } }
		Panels     []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, v := range dashboard.Templating.List {
		if v.Query != "prometheus" { // the data source
			expressions = append(expressions, v.Query)
		}
	}
	for _, p := range dashboard.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			expressions = append(expressions, target.Expr)
		}
	}
	for _, e := range expressions {
		found := metricName.FindAllString(e, -1)
		if len(found) == 0 && !strings.HasPrefix(e, "up{") {
			t.Errorf("no metric in %s", e)
		}
		for _, name := range found {
			if !names[name] {
				t.Errorf("there is no metric %s, which is in %s", name, e)
			}
		}
		var asked []string
		for _, m := range matcher.FindAllStringSubmatch(e, -1) {
			asked = append(asked, m[1])
		}
		for _, m := range labelList.FindAllStringSubmatch(e, -1) {
			asked = append(asked, strings.Split(m[1], ", ")...)
		}
		for _, label := range asked {
			if !labels[label] {
				t.Errorf("there is no label %q, which is in %s", label, e)
			}
		}
	}
}

// The server of the metrics answers /healthz too.
func TestHealth(t *testing.T) {
	s := lan()
	s.status.Routers = s.status.Routers[:2]
	if w := get(Handler(s, false), "GET", "/healthz"); w.Code != 200 || !strings.Contains(w.Body.String(), `"healthy":true`) {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	s.status.Routers[0].Problems = []control.Problem{{Kind: control.TwoActives, Text: "192.0.2.2 is Active too"}}
	if w := get(Handler(s, false), "GET", "/healthz"); w.Code != 503 || !strings.Contains(w.Body.String(), "192.0.2.2 is Active too") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}

// There are metrics for a refused reload and for maintenance.
func TestAdministration(t *testing.T) {
	s := lan()
	s.status.Routers[0].Maintenance, s.status.Routers[0].ConfiguredPriority = true, 150
	all := values(t, scrape(t, Handler(s, false)))
	if _, there := all["failoverd_last_reload_timestamp_seconds"]; there || all["failoverd_last_reload_successful"] != 1 {
		t.Error("a reload before the first")
	}
	const web = `{family="ipv4",interface="eth0",name="web",vrid="51"}`
	if all["failoverd_router_maintenance"+web] != 1 || all["failoverd_router_configured_priority"+web] != 150 {
		t.Errorf("%v", all)
	}
	s.status.LastReload = &control.LastReload{At: s.status.Now, Error: "unknown key"}
	all = values(t, scrape(t, Handler(s, false)))
	if all["failoverd_last_reload_timestamp_seconds"] != seconds(s.status.Now) || all["failoverd_last_reload_successful"] != 0 {
		t.Errorf("%v", all)
	}
}
