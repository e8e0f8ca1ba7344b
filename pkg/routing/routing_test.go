// SPDX-License-Identifier: Apache-2.0

package routing_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"github.com/failoverd/failoverd/pkg/routing"
)

// A reload compares the texts, so each field must be in them.
func TestLines(t *testing.T) {
	for _, what := range []any{new(routing.Route), new(routing.Rule), new(routing.Placed)} {
		v := reflect.ValueOf(what).Elem()
		if r, is := what.(*routing.Route); is {
			r.Type = "unicast"
		}
		usual := fmt.Sprint(v.Interface())
		for n := range v.NumField() {
			field, before := v.Field(n), reflect.New(v.Field(n).Type()).Elem()
			before.Set(field)
			switch field.Interface().(type) {
			case string:
				field.SetString("blackhole")
			case int:
				field.SetInt(7)
			case bool:
				field.SetBool(true)
			case netip.Addr:
				field.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.1")))
			case netip.Prefix:
				field.Set(reflect.ValueOf(netip.MustParsePrefix("192.0.2.0/24")))
			default:
				t.Fatalf("%s has a field of a kind that the test can't set", v.Type())
			}
			if line := fmt.Sprint(v.Interface()); line == usual {
				t.Errorf("%s: the text %q lacks the field %s", v.Type(), line, v.Type().Field(n).Name)
			}
			field.Set(before)
		}
	}
}

func TestSet(t *testing.T) {
	route := routing.Route{To: netip.MustParsePrefix("203.0.113.0/24"), Table: 254, Type: "blackhole"}
	rule := routing.Rule{Priority: 1000, Table: 100}
	all := routing.Set{Routes: []routing.Route{route}, Rules: []routing.Rule{rule}}
	rest := all.Without(routing.Set{Rules: []routing.Rule{rule}})
	if !rest.Equal(routing.Set{Routes: []routing.Route{route}}) || rest.Equal(all) || rest.Empty() || !all.Without(all).Empty() {
		t.Errorf("%+v without the rule is %+v", all, rest)
	}
}
