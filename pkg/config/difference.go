// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/failoverd/failoverd/pkg/routing"
)

// Describe returns the details of a control.Change in the words of the other program, if
// both configurations were translated from its file.
func (f *File) Describe(before *File, name, what string, details []string) []string {
	if f.Origin == nil || before.Origin == nil {
		return details
	}
	return f.Origin.Describe(before.Origin, name, what, details)
}

// differences are lines like "priority: 100 → 150", with values as in the file.
type differences []string

// add adds a line for a key if its values differ.
func (all *differences) add(key string, before, after any) {
	if reflect.DeepEqual(before, after) {
		return
	}
	if x, y := flow(before), flow(after); x != y {
		*all = append(*all, fmt.Sprintf("%s: %s → %s", key, x, y))
	}
}

// flow returns a key's value as it can be in a file, in one line.
func flow(v any) string {
	switch v := v.(type) {
	case string:
		return scalar(v)
	case time.Duration:
		return duration(v)
	case netip.Addr:
		if !v.IsValid() {
			return scalar("")
		}
		return scalar(v.String())
	case netip.Prefix:
		if !v.IsValid() {
			return scalar("")
		}
		return scalar(v.String())
	case []string:
		return flowList(v)
	case Command:
		return flowList(v)
	case []netip.Addr:
		return flowList(v)
	case []netip.Prefix:
		return flowList(v)
	case []Use:
		return flowList(v)
	case []Peer:
		return flowList(v)
	case []Key:
		return flowList(v)
	case []addressEntry:
		return flowList(v)
	case []routing.Route:
		return flowList(v)
	case []routing.Rule:
		return flowList(v)
	case addressEntry:
		return flowEntry(v)
	case routing.Route:
		return flowRoute(v)
	case routing.Rule:
		return flowRule(v)
	}
	return fmt.Sprint(v) // a number, a word, or a Stringer
}

func flowList[T any](list []T) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = flow(v)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// scalar returns a text, with quotes if YAML would take it for something else.
func scalar(s string) string {
	body, bad := parseYAML("[" + s + "]")
	if bad == nil && body.form == sequence {
		if n := body.child; n != nil && n.next == nil && n.form == plain && n.text == s && n.scalarKind() == isText {
			return s
		}
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // a string
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// duration returns a time without the units that are 0.
func duration(d time.Duration) string {
	s := d.String()
	for _, zero := range []struct{ end, short string }{{"m0s", "m"}, {"h0m", "h"}} {
		if before, found := strings.CutSuffix(s, zero.end); found {
			s = before + zero.short
		}
	}
	return s
}

// group is a group of keys with their values, in braces.
type group []string

// add adds a key unless it has its usual value.
func (g *group) add(key string, value, usual any) {
	if !reflect.DeepEqual(value, usual) {
		*g = append(*g, key+": "+flow(value))
	}
}

func (g *group) String() string { return "{" + strings.Join(*g, ", ") + "}" }

func flowEntry(e addressEntry) string {
	if e.Interface == "" && e.label == "" {
		return flow(e.Address)
	}
	var g group
	g.add("address", e.Address, nil)
	g.add("interface", e.Interface, "")
	g.add("label", e.label, "")
	return g.String()
}

func flowRoute(r routing.Route) string {
	var g group
	g.add("to", r.To, nil)
	g.add("type", r.Type, "unicast")
	g.add("via", r.Via, netip.Addr{})
	g.add("interface", r.Interface, "")
	g.add("source", r.Source, netip.Addr{})
	g.add("metric", r.Metric, 0)
	g.add("table", r.Table, MainTable)
	g.add("scope", r.Scope, "")
	g.add("mtu", r.MTU, 0)
	g.add("onlink", r.Onlink, false)
	return g.String()
}

func flowRule(r routing.Rule) string {
	var g group
	g.add("from", r.From, netip.Prefix{})
	g.add("to", r.To, netip.Prefix{})
	g.add("iif", r.IIF, "")
	g.add("oif", r.OIF, "")
	g.add("fwmark", r.FWMark, 0)
	g.add("priority", r.Priority, nil)
	g.add("table", r.Table, MainTable)
	return g.String()
}
