// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// table makes a ruleset of one table with a base chain, a chain that it may jump
// to, and a set.
func table(t *testing.T, family, hook, policy string, rules ...string) *Ruleset {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": %q, "name": "t"}}`, family)
	fmt.Fprintf(&b, `, {"set": {"family": %q, "table": "t", "name": "some", "elem": ["tcp", "vrrp", {"elem": {"val": "esp"}}]}}`, family)
	fmt.Fprintf(&b, `, {"chain": {"family": %q, "table": "t", "name": "c", "type": "filter", "hook": %q, "prio": 0, "policy": %q}}`, family, hook, policy)
	for _, name := range []string{"drops", "accepts", "nothing"} {
		fmt.Fprintf(&b, `, {"chain": {"family": %q, "table": "t", "name": %q}}`, family, name)
	}
	fmt.Fprintf(&b, `, {"rule": {"family": %q, "table": "t", "chain": "drops", "handle": 8, "expr": [{"reject": {"type": "icmpx"}}]}}`, family)
	fmt.Fprintf(&b, `, {"rule": {"family": %q, "table": "t", "chain": "accepts", "handle": 9, "expr": [{"accept": null}]}}`, family)
	for n, r := range rules {
		fmt.Fprintf(&b, `, {"rule": {"family": %q, "table": "t", "chain": "c", "handle": %d, "expr": [%s]}}`, family, 10+n, r)
	}
	b.WriteString("]}")
	r, err := ParseRuleset([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func match(op, left, right string) string {
	return fmt.Sprintf(`{"match": {"op": %q, "left": %s, "right": %s}}`, op, left, right)
}

const (
	l4proto  = `{"meta": {"key": "l4proto"}}`
	iifname  = `{"meta": {"key": "iifname"}}`
	protocol = `{"payload": {"protocol": "ip", "field": "protocol"}}`
	daddr    = `{"payload": {"protocol": "ip", "field": "daddr"}}`
	saddr    = `{"payload": {"protocol": "ip", "field": "saddr"}}`
	state    = `{"ct": {"key": "state"}}`
	accept   = `{"accept": null}`
	drop     = `{"drop": null}`
)

// Drops returns only chains that are certain to drop the advertisement.
func TestDrops(t *testing.T) {
	vrrp := Packet{Family: "ipv4", Protocol: "vrrp", Number: "112", Destination: netip.MustParseAddr("224.0.0.18"), Multicast: true, In: "eth0"}
	and := func(parts ...string) string { return strings.Join(parts, ", ") }
	for name, c := range map[string]struct {
		policy string
		rules  []string
		rule   int // handle of the dropping rule; 0 for the policy; -1 if none drops
	}{
		"policy accept":                {"accept", nil, -1},
		"policy drop":                  {"drop", nil, 0},
		"by name":                      {"drop", []string{and(match("==", protocol, `"vrrp"`), accept)}, -1},
		"by number":                    {"drop", []string{and(match("==", l4proto, `112`), accept)}, -1},
		"another protocol":             {"drop", []string{and(match("==", l4proto, `"tcp"`), accept)}, 0},
		"in a set":                     {"drop", []string{and(match("==", l4proto, `{"set": ["tcp", 112]}`), accept)}, -1},
		"not in a set":                 {"drop", []string{and(match("==", l4proto, `{"set": ["tcp", "udp"]}`), accept)}, 0},
		"in a named set":               {"drop", []string{and(match("==", l4proto, `"@some"`), accept)}, -1},
		"in an unknown set":            {"drop", []string{and(match("==", l4proto, `"@other"`), accept)}, -1},
		"all but others":               {"drop", []string{and(match("!=", protocol, `"tcp"`), accept)}, -1},
		"not this interface":           {"drop", []string{and(match("==", iifname, `"eth1"`), match("==", l4proto, `112`), accept)}, 0},
		"this interface by its start":  {"drop", []string{and(match("==", iifname, `"eth*"`), accept)}, -1},
		"loopback":                     {"drop", []string{and(match("==", iifname, `"lo"`), accept)}, 0},
		"to the group":                 {"drop", []string{and(match("==", daddr, `{"prefix": {"addr": "224.0.0.0", "len": 24}}`), accept)}, -1},
		"to another group":             {"drop", []string{and(match("==", daddr, `"224.0.0.251"`), accept)}, 0},
		"from one source":              {"drop", []string{and(match("==", saddr, `"192.0.2.1"`), accept)}, -1},
		"one source dropped":           {"accept", []string{and(match("==", saddr, `"192.0.2.1"`), drop)}, -1},
		"established":                  {"drop", []string{and(match("in", state, `["established", "related"]`), accept)}, 0},
		"new":                          {"drop", []string{and(match("in", state, `"new"`), accept)}, -1},
		"a port":                       {"drop", []string{and(match("==", `{"payload": {"protocol": "udp", "field": "dport"}}`, `53`), accept)}, 0},
		"IPv6":                         {"drop", []string{and(match("==", `{"payload": {"protocol": "ip6", "field": "nexthdr"}}`, `"vrrp"`), accept)}, 0},
		"other nfproto":                {"drop", []string{and(match("==", `{"meta": {"key": "nfproto"}}`, `"ipv6"`), accept)}, 0},
		"multicast dropped":            {"accept", []string{and(match("==", `{"meta": {"key": "pkttype"}}`, `"multicast"`), drop)}, 10},
		"dropped after a counter":      {"accept", []string{and(match("==", protocol, `"vrrp"`), `{"counter": {"packets": 0}}`, `{"log": null}`, drop)}, 10},
		"accepted before":              {"accept", []string{and(match("==", protocol, `112`), accept), drop}, -1},
		"limited":                      {"drop", []string{and(`{"limit": {"rate": 5}}`, accept)}, -1},
		"an iptables match":            {"drop", []string{and(`{"xt": {"type": "match", "name": "addrtype"}}`, accept)}, -1},
		"an iptables match that drops": {"accept", []string{and(`{"xt": {"type": "match", "name": "addrtype"}}`, drop)}, -1},
		"jump to drop":                 {"accept", []string{`{"jump": {"target": "drops"}}`}, 10},
		"jump to accept":               {"drop", []string{`{"jump": {"target": "accepts"}}`}, -1},
		"jump and back":                {"drop", []string{`{"jump": {"target": "nothing"}}`}, 0},
		"goto and not back":            {"accept", []string{`{"goto": {"target": "nothing"}}`, drop}, -1},
		"jump to nowhere":              {"drop", []string{`{"jump": {"target": "missing"}}`}, -1},
		"return to the policy":         {"drop", []string{`{"return": null}`, accept}, 0},
		"map of states":                {"drop", []string{`{"vmap": {"key": ` + state + `, "data": {"set": [["invalid", {"drop": null}], ["established", {"accept": null}]]}}}`}, 0},
		"map of protocols":             {"drop", []string{`{"vmap": {"key": ` + l4proto + `, "data": {"set": [["tcp", {"drop": null}], ["vrrp", {"accept": null}]]}}}`}, -1},
		"map that jumps":               {"accept", []string{`{"vmap": {"key": ` + l4proto + `, "data": {"set": [["vrrp", {"jump": {"target": "drops"}}]]}}}`}, 10},
		"a named map":                  {"drop", []string{`{"vmap": {"key": ` + l4proto + `, "data": "@verdicts"}}`}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			drops := table(t, "inet", "input", c.policy, c.rules...).Drops(vrrp, "input")
			switch {
			case c.rule < 0 && len(drops) > 0:
				t.Errorf("dropped by %v", drops)
			case c.rule >= 0 && (len(drops) != 1 || drops[0].Rule != c.rule):
				t.Errorf("dropped by %v, not by rule %d", drops, c.rule)
			}
		})
	}
	if drops := table(t, "ip6", "input", "drop").Drops(vrrp, "input"); len(drops) > 0 {
		t.Errorf("a chain of IPv6 drops IPv4: %v", drops)
	}
	if drops := table(t, "inet", "forward", "drop").Drops(vrrp, "input"); len(drops) > 0 {
		t.Errorf("a chain of another hook drops: %v", drops)
	}
}

// A chain of a device is for its packets only; old versions of nft say which
// device only in the text.
func TestDevices(t *testing.T) {
	p := Packet{Family: "ipv4", Protocol: "vrrp", Number: "112", In: "eth0"}
	for text, want := range map[string]int{
		"table netdev t {\n\tchain c {\n\t\ttype filter hook ingress device \"eth0\" priority filter; policy drop;\n": 1,
		"table netdev t {\n\tchain c {\n\t\ttype filter hook ingress devices = { eth1, eth0 } priority filter;\n":     1,
		"table netdev t {\n\tchain c {\n\t\ttype filter hook ingress device \"eth1\" priority filter; policy drop;\n": 0,
		"": 0,
	} {
		r := table(t, "netdev", "ingress", "drop")
		r.SetDevices(text)
		if drops := r.Drops(p, "ingress"); len(drops) != want {
			t.Errorf("%q: dropped by %v", text, drops)
		}
	}
}
