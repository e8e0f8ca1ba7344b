// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
)

// change is one of a router's keys.
type change struct{ key, before, after string }

// changes reads those that are written down, of each key there is.
func changes(t *testing.T) (all []change) {
	content, err := os.ReadFile("../config/testdata/changes.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, "|")
		if len(fields) != 3 {
			t.Fatalf("%q has no three fields", line)
		}
		all = append(all, change{strings.TrimSpace(fields[0]), strings.TrimSpace(fields[1]), strings.TrimSpace(fields[2])})
	}
	return all
}

// parsed is a file's first router, which has a key with a value.
func parsed(t *testing.T, name, value string) config.Router {
	t.Helper()
	keys := map[string]string{"interface": "eth0", "vrid": "51", "addresses": "[192.0.2.10/24]", "version": "3"}
	top, _, _ := strings.Cut(name, ".")
	keys[top] = value
	if strings.Contains(value, "type: password") || strings.Contains(value, "type: ah") {
		keys["version"] = "2"
	}
	text := "tracks: [{name: check, file: /a}, {name: other, file: /b}]\nrouters:\n  -"
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		text += fmt.Sprintf(" %s: %s\n   ", k, keys[k])
	}
	f, err := config.Parse("test", []byte(strings.TrimRight(text, " ")))
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
	return f.Routers[0]
}

// What a difference shows is what the file says: it can be read again.
func TestDifferenceIsYAML(t *testing.T) {
	for _, c := range changes(t) {
		top, _, _ := strings.Cut(c.key, ".")
		a, b := parsed(t, c.key, c.before), parsed(t, c.key, c.after)
		for _, d := range config.Difference(a, b) {
			key, values, _ := strings.Cut(d, ": ")
			before, after, found := strings.Cut(values, " → ")
			if key != top || !found {
				if key != "name" && key != "routes" { // which follow from the interface
					t.Errorf("%s %s → %s: the difference is %q", c.key, c.before, c.after, d)
				}
				continue
			}
			if again := config.Difference(a, parsed(t, top, before)); len(again) > 0 {
				t.Errorf("%s: %s is read as something else: %q", c.key, before, again)
			}
			if again := config.Difference(b, parsed(t, top, after)); len(again) > 0 {
				t.Errorf("%s: %s is read as something else: %q", c.key, after, again)
			}
		}
	}
}

// schemaKeys are the keys of a router by the schema, those of groups below them.
func schemaKeys(t *testing.T) map[string]bool {
	var schema map[string]any
	if err := json.Unmarshal(config.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	var walk func(prefix string, node any)
	walk = func(prefix string, node any) {
		o, is := node.(map[string]any)
		if !is {
			return
		}
		properties, _ := o["properties"].(map[string]any)
		for name, below := range properties {
			all[prefix+name] = true
			walk(prefix+name+".", below)
		}
		walk(prefix, o["items"])
		for _, choice := range []string{"anyOf", "oneOf"} {
			list, _ := o[choice].([]any)
			for _, one := range list {
				walk(prefix, one)
			}
		}
	}
	walk("", schema["properties"].(map[string]any)["routers"])
	return all
}

// A change of any key makes another Virtual Router, and the difference names it.
func TestEveryKeyMatters(t *testing.T) {
	missing := schemaKeys(t)
	for _, c := range changes(t) {
		top, _, _ := strings.Cut(c.key, ".")
		delete(missing, c.key)
		a, b, again := parsed(t, c.key, c.before), parsed(t, c.key, c.after), parsed(t, c.key, c.before)
		named := slices.ContainsFunc(config.Difference(a, b), func(d string) bool { return strings.HasPrefix(d, top+": ") })
		if own := top == "interface" || top == "vrid"; named == own { // another router has those
			t.Errorf("%s %s → %s: the difference is %q", c.key, c.before, c.after, config.Difference(a, b))
		}
		if d := config.Difference(a, again); d != nil {
			t.Errorf("%s %s: it differs from itself: %q", c.key, c.before, d)
		}
		before := New([]*ConfiguredRouter{{Router: a}}, nil)
		if after := New([]*ConfiguredRouter{{Router: b}}, before); after.VirtualRouters[0] == before.VirtualRouters[0] {
			t.Errorf("%s %s → %s: nothing changes", c.key, c.before, c.after)
		}
		if after := New([]*ConfiguredRouter{{Router: again}}, before); after.VirtualRouters[0] != before.VirtualRouters[0] {
			t.Errorf("%s %s: it changes though it is the same", c.key, c.before)
		}
	}
	if len(missing) > 0 {
		t.Errorf("no change of %q", slices.Sorted(maps.Keys(missing)))
	}
}

// The group that a router is in is a key of the group.
func TestGroupIsADifference(t *testing.T) {
	a, b := config.Router{Name: "web"}, config.Router{Name: "web", Group: "gateway"}
	if d := config.Difference(a, b); len(d) != 1 || !strings.HasPrefix(d[0], "group: ") {
		t.Errorf("the difference is %q", d)
	}
}

// Keys can change in the same file.
func TestEveryKeyOfAuthenticationMatters(t *testing.T) {
	r := parsed(t, "authentication", "{type: hmac, keys: [{id: 1, file: /k}]}")
	with := func(id uint8, secret string) *ConfiguredRouter {
		return &ConfiguredRouter{Router: r, Auth: auth.Settings{Type: auth.HMAC, Keys: []auth.Key{{ID: id, Secret: auth.NewSecret([]byte(secret))}}}}
	}
	before := New([]*ConfiguredRouter{with(1, "a")}, nil)
	for name, c := range map[string]struct {
		r    *ConfiguredRouter
		same bool
	}{
		"the same":       {with(1, "a"), true},
		"another secret": {with(1, "b"), false},
		"another id":     {with(2, "a"), false},
	} {
		if after := New([]*ConfiguredRouter{c.r}, before); (after.VirtualRouters[0] == before.VirtualRouters[0]) != c.same {
			t.Errorf("%s: %v", name, !c.same)
		}
	}
}
