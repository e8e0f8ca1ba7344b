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

// Describe returns the details of a control.Change in the words of the file that both
// configurations were translated from; of failoverd's own as they are.
func (f *File) Describe(before *File, name, what string, details []string) []string {
	if f.Origin == nil || before.Origin == nil {
		return details
	}
	return f.Origin.Describe(before.Origin, name, what, details)
}

// differences are lines like "priority: 100 → 150", in the syntax of the file.
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

// flow writes a key's value as it can be in a file, in one line.
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
	case []routing.Placed:
		return flowList(v)
	case []routing.Route:
		return flowList(v)
	case []routing.Rule:
		return flowList(v)
	case routing.Placed:
		return flowPlaced(v)
	case routing.Route:
		return flowRoute(v)
	case routing.Rule:
		return flowRule(v)
	}
	return fmt.Sprint(v) // a number, a word, or what writes itself so
}

func flowList[T any](list []T) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = flow(v)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// scalar writes a text, in quotes where it would be read as something else.
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

// duration writes a time without the parts that are 0.
func duration(d time.Duration) string {
	s := d.String()
	for _, zero := range []struct{ end, short string }{{"m0s", "m"}, {"h0m", "h"}} {
		if before, found := strings.CutSuffix(s, zero.end); found {
			s = before + zero.short
		}
	}
	return s
}

// group writes keys with their values.
type group []string

// add adds a key whose value isn't the usual one.
func (g *group) add(key string, value, usual any) {
	if !reflect.DeepEqual(value, usual) {
		*g = append(*g, key+": "+flow(value))
	}
}

func (g *group) String() string { return "{" + strings.Join(*g, ", ") + "}" }

// flowPlaced writes an extra address; without an interface it is the router's.
func flowPlaced(p routing.Placed) string {
	if p.Interface == "" {
		return flow(p.Address)
	}
	var g group
	g.add("address", p.Address, nil)
	g.add("interface", p.Interface, "")
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
