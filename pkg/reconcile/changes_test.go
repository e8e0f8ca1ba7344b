// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/config"
)

// change sets the value of one key of a router.
type change struct {
	key    string
	values map[int]reflect.Value // by the number of the field
}

// changes are the changes in testdata of package config, at least one for each key, without the
// keys that the model sets itself.
var changes = func() (all []change) {
	content, err := os.ReadFile("../config/testdata/changes.txt")
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		if len(fields) != 3 {
			continue // a comment
		}
		key, _, _ := strings.Cut(strings.TrimSpace(fields[0]), ".")
		if slices.Contains([]string{"name", "interface", "vrid", "addresses", "extra_addresses", "priority", "routes", "rules"}, key) {
			continue
		}
		all = append(all, newChange(key, fields[2]))
	}
	return all
}()

func newChange(key, value string) change {
	parsed := func(more map[string]string) reflect.Value {
		text := "tracks: [{name: check, file: /a}, {name: other, file: /b}]\nrouters:\n  - interface: eth0\n    vrid: 51\n    addresses: [192.0.2.10/24]\n"
		for _, k := range slices.Sorted(maps.Keys(more)) {
			text += fmt.Sprintf("    %s: %s\n", k, more[k])
		}
		f, err := config.Parse("test", []byte(text))
		if err != nil {
			panic(err)
		}
		return reflect.ValueOf(f.Routers[0])
	}
	with := map[string]string{key: value}
	if strings.Contains(value, "type: password") || strings.Contains(value, "type: ah") {
		with["version"] = "2"
	}
	c := change{key, make(map[int]reflect.Value)}
	before, after := parsed(nil), parsed(with)
	for n := range before.NumField() {
		if !reflect.DeepEqual(before.Field(n).Interface(), after.Field(n).Interface()) {
			c.values[n] = after.Field(n)
		}
	}
	return c
}

// apply returns a router with the change, or the unchanged router if the result would be invalid.
func (c change) apply(r config.Router) config.Router {
	after := r
	v := reflect.ValueOf(&after).Elem()
	for n, value := range c.values {
		v.Field(n).Set(value)
	}
	if len(after.Problems()) > 0 {
		return r
	}
	return after
}
