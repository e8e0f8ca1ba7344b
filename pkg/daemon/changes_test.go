// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/plan"
)

// alteration is a change of one key of a router: its text before and after.
type alteration struct{ before, after string }

const (
	manyPeers = `unicast: {peers: [198.18.0.2], `
	manyKeys  = `authentication: {type: hmac, send: 1, keys: [{id: 1, file: /a}, {id: 2, file: /b}], `
	passwords = `version: 2, authentication: {type: password, `
)

// alterations has changes of all keys of a router except the identifying ones.
var alterations = map[string][]alteration{
	"name":              {{"", "name: www"}},
	"addresses":         {{"addresses: [198.18.0.10/24]", "addresses: [198.18.0.11/24]"}, {"addresses: [198.18.0.10/24]", "addresses: [198.18.0.10/25]"}, {"addresses: [198.18.0.10/24, 198.18.0.11/24]", "addresses: [198.18.0.11/24, 198.18.0.10/24]"}, {"addresses: [198.18.0.10/24]", "addresses: [{address: 198.18.0.10/24, label: web}]"}, {"addresses: [198.18.0.10/24]", "addresses: [{address: 198.18.0.10/24, interface: eth1}]"}},
	"extra_addresses":   {{"", "extra_addresses: [198.18.0.20/24]"}, {"extra_addresses: [198.18.0.20/24]", "extra_addresses: [{address: 198.18.0.20/24, interface: eth1}]"}, {"extra_addresses: [198.18.0.20/24]", "extra_addresses: [{address: 198.18.0.20/24, label: web}]"}},
	"priority":          {{"", "priority: 101"}},
	"add_addresses":     {{"priority: 255", "priority: 255, add_addresses: true"}},
	"interval":          {{"", "interval: 2s"}},
	"max_interval":      {{"", "max_interval: 2s"}},
	"version":           {{"", "version: 2"}},
	"preempt":           {{"", "preempt: false"}},
	"preempt_delay":     {{"", "preempt_delay: 1s"}},
	"without_carrier":   {{"", "without_carrier: true"}},
	"families_together": {{"", "families_together: false"}},
	"down_after":        {{"", "down_after: 4"}},
	"accept":            {{"", "accept: false"}},
	"virtual_mac":       {{"", "virtual_mac: bpf"}},
	"announce_again":    {{"", "announce_again: 1s"}},
	"announce_count":    {{"", "announce_count: 1"}},
	"announce_refresh":  {{"", "announce_refresh: 1s"}},
	"checksum":          {{"", "checksum: rfc9568"}},
	"dual":              {{"", "dual: true"}},
	"ipv6_list":         {{"", "ipv6_list: as-written"}},
	"tolerate":          {{"", "tolerate: [trailing-octets]"}, {"", "tolerate: [first-address]"}, {"", "tolerate: [address-list]"}},
	"track":             {{"", "track: [uplink]"}, {"track: [uplink]", "track: [{name: uplink, weight: 5}]"}, {"track: [uplink]", "track: [{name: uplink, reverse: true}]"}},
	"unicast": {
		{"", manyPeers + "}"},
		{manyPeers + "}", "unicast: {peers: [198.18.0.3]}"},
		{manyPeers + "}", "unicast: {peers: [198.18.0.2, 198.18.0.3]}"},
		{manyPeers + "}", "unicast: {peers: [{address: 198.18.0.2, min_ttl: 254}]}"},
		{manyPeers + "}", "unicast: {peers: [{address: 198.18.0.2, max_ttl: 254}]}"},
		{manyPeers + "}", manyPeers + "ttl: 64}"},
		{manyPeers + "}", manyPeers + "source: 198.18.0.1}"},
	},
	"authentication": {
		{"", manyKeys + "}"},
		{manyKeys + "}", strings.Replace(manyKeys, "send: 1", "send: 2", 1) + "}"},
		{manyKeys + "}", strings.Replace(manyKeys, "/b", "/c", 1) + "}"},
		{manyKeys + "}", strings.Replace(manyKeys, "file: /b", "credential: b", 1) + "}"},
		{manyKeys + "}", strings.Replace(manyKeys, "id: 2", "id: 3", 1) + "}"},
		{manyKeys + "}", manyKeys + "mode: permit}"},
		{manyKeys + "}", manyKeys + "window: 7s}"},
		{passwords + "key_file: /a}", passwords + "key_file: /b}"},
		{passwords + "key_file: /a}", passwords + "credential: a}"},
		{passwords + "key_file: /a}", strings.Replace(passwords, "password", "ah", 1) + "key_file: /a}"},
	},
	"routes": {
		{"", "routes: [{to: 203.0.113.0/24, via: 198.18.0.99}]"},
		{"routes: [{to: 203.0.113.0/24, via: 198.18.0.99}]", "routes: [{to: 203.0.113.0/25, via: 198.18.0.99}]"},
		{"routes: [{to: 203.0.113.0/24, via: 198.18.0.99}]", "routes: [{to: 203.0.113.0/24, via: 198.18.0.98}]"},
		{"routes: [{to: 203.0.113.0/24, via: 198.18.0.99}]", "routes: [{to: 203.0.113.0/24, via: 198.18.0.99, interface: eth1}]"},
		{"routes: [{to: 203.0.113.0/24, via: 198.18.0.99}]", "routes: [{to: 203.0.113.0/24, via: 198.18.0.99, source: 198.18.0.10}]"},
		{"routes: [{to: 203.0.113.0/24, via: 198.18.0.99}]", "routes: [{to: 203.0.113.0/24, via: 198.18.0.99, metric: 5}]"},
		{"routes: [{to: 203.0.113.0/24, via: 198.18.0.99}]", "routes: [{to: 203.0.113.0/24, via: 198.18.0.99, table: 100}]"},
		{"routes: [{to: 203.0.113.0/24, via: 198.18.0.99}]", "routes: [{to: 203.0.113.0/24, via: 198.18.0.99, scope: site}]"},
		{"routes: [{to: 203.0.113.0/24, via: 198.18.0.99}]", "routes: [{to: 203.0.113.0/24, via: 198.18.0.99, mtu: 1400}]"},
		{"routes: [{to: 203.0.113.0/24, via: 198.18.0.99, interface: eth1}]", "routes: [{to: 203.0.113.0/24, via: 198.18.0.99, interface: eth1, onlink: true}]"},
		{"routes: [{to: 203.0.113.0/24, type: blackhole}]", "routes: [{to: 203.0.113.0/24, type: throw}]"},
	},
	"rules": {
		{"", "rules: [{from: 198.18.0.10/32, priority: 1000}]"},
		{"rules: [{from: 198.18.0.10/32, priority: 1000}]", "rules: [{from: 198.18.0.11/32, priority: 1000}]"},
		{"rules: [{from: 198.18.0.10/32, priority: 1000}]", "rules: [{from: 198.18.0.10/32, to: 203.0.113.0/24, priority: 1000}]"},
		{"rules: [{from: 198.18.0.10/32, priority: 1000}]", "rules: [{from: 198.18.0.10/32, priority: 1001}]"},
		{"rules: [{from: 198.18.0.10/32, priority: 1000}]", "rules: [{from: 198.18.0.10/32, priority: 1000, table: 100}]"},
		{"rules: [{from: 198.18.0.10/32, priority: 1000}]", "rules: [{from: 198.18.0.10/32, priority: 1000, iif: eth1}]"},
		{"rules: [{from: 198.18.0.10/32, priority: 1000}]", "rules: [{from: 198.18.0.10/32, priority: 1000, oif: eth1}]"},
		{"rules: [{from: 198.18.0.10/32, priority: 1000}]", "rules: [{from: 198.18.0.10/32, priority: 1000, fwmark: 7}]"},
	},
	"xdp_mode":              {{"", "xdp_mode: generic"}},
	"unchanged":             {{"", "unchanged: drop"}},
	"notify":                {{"", "notify: /bin/true"}},
	"notify_active":         {{"", "notify_active: /bin/true"}},
	"notify_backup":         {{"", "notify_backup: /bin/true"}},
	"notify_fault":          {{"", "notify_fault: /bin/true"}},
	"notify_lower_priority": {{"", "notify_lower_priority: /bin/true"}},
	"notify_stop":           {{"", "notify_stop: /bin/true"}},
	"notify_timeout":        {{"", "notify_timeout: 1s"}},
}

// identifying are the keys that tell a router from others.
var identifying = []string{"interface", "vrid"}

// A change of one key is reported, no other key is reported with it, and the plan changes. The
// keys come from the schema, so that none can be forgotten.
func TestEachKeyIsAChange(t *testing.T) {
	var schema struct {
		Properties struct {
			Routers struct {
				Items struct {
					Properties map[string]struct {
						AnyOf []struct{ Properties map[string]any } `json:"anyOf"`
						Items struct {
							Properties map[string]any
							OneOf      []struct{ Properties map[string]any } `json:"oneOf"`
						}
					}
				}
			}
		}
	}
	if err := json.Unmarshal(config.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	keys := schema.Properties.Routers.Items.Properties
	if got, want := slices.Sorted(maps.Keys(keys)), slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Keys(alterations)), identifying))); !slices.Equal(got, want) {
		t.Errorf("the schema has the keys %v, the test has %v", got, want)
	}
	for key, all := range alterations {
		inner := slices.Collect(maps.Keys(keys[key].Items.Properties))
		for _, way := range slices.Concat(keys[key].AnyOf, keys[key].Items.OneOf) {
			inner = slices.AppendSeq(inner, maps.Keys(way.Properties))
		}
		tried := ""
		for _, a := range all {
			tried += a.before + " " + a.after + " "
			alter(t, key, a)
		}
		for _, k := range inner {
			if !strings.Contains(tried, k+":") {
				t.Errorf("there is no test of %s in %s", k, key)
			}
		}
	}
}

// alter makes one change, and checks its description and the new plan.
func alter(t *testing.T, key string, a alteration) {
	t.Helper()
	read := func(text string) *config.File {
		line := "interface: eth0, vrid: 51"
		if key != "addresses" {
			line += ", addresses: [198.18.0.10/24]"
		}
		if text != "" {
			line += ", " + text
		}
		content := "tracks: [{name: uplink, interface: eth1}]\nrouters:\n  - {" + line + "}\n"
		f, err := config.Parse("test.yaml", []byte(content))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	compare(t, key, read(a.before), read(a.after), read(a.before))
}

// compare checks that exactly one key differs between two files; again has the same content as
// before.
func compare(t *testing.T, key string, before, after, again *config.File) {
	t.Helper()
	changes := difference(before.Routers, after.Routers)
	if len(changes) != 1 || changes[0].What != "changed" && changes[0].What != "restarted" || len(changes[0].Details) != 1 || !strings.HasPrefix(changes[0].Details[0], key+": ") {
		t.Errorf("from %+v to %+v: %+v", before.Routers, after.Routers, changes)
	}
	if same := difference(before.Routers, again.Routers); len(same) != 0 {
		t.Errorf("%+v differs from itself: %+v", again.Routers, same)
	}
	planned := func(f *config.File, old *plan.Plan) *plan.Plan {
		routers, err := plan.Complete(f.Routers)
		if err != nil {
			t.Fatal(err)
		}
		return plan.New(routers, old)
	}
	old := planned(before, nil)
	for _, v := range old.VirtualRouters {
		if now := planned(after, old).VirtualRouter(v.ID); now == v {
			t.Errorf("from %+v to %+v: the plan is the same", before.Routers, after.Routers)
		}
		if now := planned(again, old).VirtualRouter(v.ID); now != v {
			t.Errorf("%+v again: the plan differs", again.Routers)
		}
	}
}

// Joining and changing a group is a change too.
func TestGroupIsAChange(t *testing.T) {
	in := func(group string) *config.File {
		text := "routers:\n  - {interface: eth0, vrid: 51, addresses: [198.18.0.10/24]}\n"
		if group != "" {
			text += "groups:\n  - {name: " + group + ", routers: [eth0-51]}\n"
		}
		f, err := config.Parse("test.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	compare(t, "group", in(""), in("a"), in(""))
	compare(t, "group", in("a"), in("b"), in("a"))
}

// A change is described with its details, if it has any.
func TestDescribe(t *testing.T) {
	for text, c := range map[string]control.Change{
		"removed": {What: "removed"},
		"changed: priority: 100 → 150, accept: true → false": {What: "changed", Details: []string{"priority: 100 → 150", "accept: true → false"}},
	} {
		if got := describe(c); got != text {
			t.Error(got)
		}
	}
}

// A change of secrets in the same files is reported without the secrets.
func TestSecretDifference(t *testing.T) {
	with := func(name string, id uint8, secret string, change func(*plan.ConfiguredRouter)) *plan.ConfiguredRouter {
		r := &plan.ConfiguredRouter{Router: config.Router{Name: name}}
		r.Authentication = config.Authentication{Type: auth.HMAC, Send: int(id), Keys: []config.Key{{ID: int(id), File: "/key"}}}
		r.Auth = auth.Settings{Type: auth.HMAC, Send: id, Keys: []auth.Key{{ID: id, Secret: auth.NewSecret([]byte(secret))}}}
		if change != nil {
			change(r)
		}
		return r
	}
	before := []*plan.ConfiguredRouter{with("a", 1, "old", nil), with("b", 1, "old", nil), with("c", 1, "old", nil), with("d", 1, "old", nil)}
	after := []*plan.ConfiguredRouter{with("a", 1, "new", nil), with("b", 1, "old", nil), with("c", 1, "new", func(r *plan.ConfiguredRouter) { r.Authentication.Keys[0].File = "/other" }), with("d", 1, "new", nil), with("e", 1, "new", nil)}
	got := secretDifference([]control.Change{{Router: "d", What: "removed"}, {Router: "d", What: "changed", Details: []string{"priority: 1 → 2"}}}, before, after)
	want := []string{"d removed ", "d changed priority: 1 → 2, authentication: key 1 changed", "a changed authentication: key 1 changed"}
	var lines []string
	for _, c := range got {
		lines = append(lines, c.Router+" "+c.What+" "+strings.Join(c.Details, ", "))
	}
	if !slices.Equal(lines, want) {
		t.Errorf("%q", lines)
	}
}
