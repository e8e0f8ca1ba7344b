// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Packet has the properties of a packet that firewall rules can match.
type Packet struct {
	Family      string     // ipv4, ipv6 or arp
	Protocol    string     // its name in /etc/protocols: vrrp, igmp, ipv6-icmp
	Number      string     // its protocol number
	Type        string     // ICMPv6 type, as nft names it
	Destination netip.Addr // the zero value for any address
	Multicast   bool
	In, Out     string // the interface: In for a received packet, Out for a sent one
}

// sees reports whether a base chain sees the packet.
func (p Packet) sees(c *chain) bool {
	families := map[string][]string{
		"ipv4": {"ip", "inet", "netdev"}, "ipv6": {"ip6", "inet", "netdev"}, "arp": {"arp", "netdev"},
	}
	return slices.Contains(families[p.Family], c.Family) && c.on(p.In+p.Out)
}

// outcome is a set of the possible fates of a packet.
type outcome uint8

const (
	accepted outcome = 1 << iota
	dropped
	goesOn // to the next rule, or to the end of the chain
)

func (o outcome) has(x outcome) bool        { return o&x != 0 }
func (o outcome) without(x outcome) outcome { return o &^ x }

// truth is the result of a condition, which may be unknown.
type truth int

const (
	no truth = iota
	maybe
	yes
)

type evaluation struct {
	*Ruleset
	packet Packet
	rule   int // handle of the rule of the base chain that decided, 0 for the policy
}

// maxDepth is the depth to which jumps are followed, as in the kernel.
const maxDepth = 16

// walk returns the possible fates of the packet in a chain.
func (e *evaluation) walk(c *chain, depth int) outcome {
	var all outcome
	for _, one := range c.rules {
		t, o := e.apply(one, depth)
		if t == no || o == goesOn {
			continue
		}
		returns := o.has(leaves)
		if depth == 0 && !returns {
			e.rule = one.Handle
		}
		all |= o.without(goesOn | leaves)
		if returns {
			all |= goesOn
		}
		if t == yes && !o.has(goesOn) {
			if depth == 0 && returns {
				e.rule = 0
			}
			return all
		}
	}
	if depth == 0 {
		e.rule = 0
	}
	return all | goesOn
}

// leaves is the outcome of a rule that returns from the chain.
const leaves outcome = 1 << 7

// apply returns whether a rule matches, and its outcome if it does.
func (e *evaluation) apply(one rule, depth int) (truth, outcome) {
	t := yes
	for _, statement := range one.Expr {
		for kind, b := range statement {
			switch kind {
			case "match":
				t = min(t, e.match(one, b))
			case "limit", "xt", "quota", "connlimit":
				t = min(t, maybe)
			case "vmap":
				return e.verdictMap(one, t, b, depth)
			default:
				if o := e.verdict(one, kind, b, depth); o != goesOn {
					return t, o
				}
			}
		}
		if t == no {
			return no, goesOn
		}
	}
	return t, goesOn
}

// verdict returns the outcome of a statement.
func (e *evaluation) verdict(one rule, kind string, b json.RawMessage, depth int) outcome {
	switch kind {
	case "accept":
		return accepted
	case "drop", "reject":
		return dropped
	case "return":
		return leaves
	case "queue", "fwd", "tproxy", "synproxy":
		return accepted | dropped
	case "jump", "goto":
		var to struct{ Target string }
		if err := json.Unmarshal(b, &to); err != nil || depth == maxDepth {
			return accepted | dropped
		}
		c := e.chain(one.Family, one.Table, to.Target)
		if c == nil {
			return accepted | dropped
		}
		o := e.walk(c, depth+1)
		if kind == "goto" && o.has(goesOn) {
			return o.without(goesOn) | leaves
		}
		return o
	}
	return goesOn // counter, log and others
}

// verdictMap applies a map of values to verdicts.
func (e *evaluation) verdictMap(one rule, t truth, b json.RawMessage, depth int) (truth, outcome) {
	var m struct {
		Key  json.RawMessage
		Data struct{ Set [][]json.RawMessage }
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return min(t, maybe), accepted | dropped // a named map, whose elements aren't known
	}
	var all outcome
	best := no
	for _, pair := range m.Data.Set {
		if len(pair) != 2 {
			return min(t, maybe), accepted | dropped
		}
		match := e.compare(one, m.Key, pair[0])
		if match == no {
			continue
		}
		var verdict map[string]json.RawMessage
		if err := json.Unmarshal(pair[1], &verdict); err != nil {
			return min(t, maybe), accepted | dropped
		}
		best = max(best, match)
		for kind, b := range verdict {
			all |= e.verdict(one, kind, b, depth)
		}
	}
	if all == 0 {
		return no, goesOn
	}
	return min(t, best), all
}

func (e *evaluation) match(one rule, b json.RawMessage) truth {
	var m struct {
		Op          string
		Left, Right json.RawMessage
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return maybe
	}
	t := e.compare(one, m.Left, m.Right)
	switch m.Op {
	case "==", "in":
		return t
	case "!=":
		return yes - t
	}
	return maybe
}

// compare returns whether a property of the packet (left) has one of the values (right).
func (e *evaluation) compare(one rule, left, right json.RawMessage) truth {
	values, other := e.values(left)
	if values == nil {
		return other
	}
	if len(values) == 1 && values[0] == "" {
		return no // the packet doesn't have the property
	}
	return e.contains(one, values, right)
}

// values returns the words that nft may use for a property of the packet. If the property
// isn't known they are nil, and the truth is that of each condition on the property.
func (e *evaluation) values(left json.RawMessage) ([]string, truth) {
	var l struct {
		Meta    *struct{ Key string }
		Payload *struct{ Protocol, Field string }
		CT      *struct{ Key string }
	}
	p := e.packet
	if err := json.Unmarshal(left, &l); err != nil {
		return nil, maybe
	}
	switch {
	case l.CT != nil && l.CT.Key == "state" && p.Protocol == "ipv6-icmp":
		return []string{"untracked"}, yes // the kernel doesn't track neighbour and multicast listener discovery
	case l.CT != nil && l.CT.Key == "state" && p.Family != "arp":
		return []string{"new"}, yes // multicast is never answered
	case l.Meta != nil:
		return p.meta(l.Meta.Key)
	case l.Payload != nil:
		return p.payload(l.Payload.Protocol, l.Payload.Field)
	}
	return nil, maybe
}

func (p Packet) meta(key string) ([]string, truth) {
	switch key {
	case "l4proto":
		return []string{p.Protocol, p.Number}, yes
	case "nfproto":
		return []string{p.Family}, yes
	case "protocol":
		return []string{map[string]string{"ipv4": "ip", "ipv6": "ip6", "arp": "arp"}[p.Family]}, yes
	case "iifname", "iif":
		return []string{p.In}, yes
	case "oifname", "oif":
		return []string{p.Out}, yes
	case "pkttype":
		if p.Multicast {
			return []string{"multicast"}, yes
		}
	}
	return nil, maybe
}

func (p Packet) payload(protocol, field string) ([]string, truth) {
	here := map[string]string{"ip": "ipv4", "ip6": "ipv6", "arp": "arp"}
	if family, ok := here[protocol]; ok && family != p.Family {
		return nil, no
	}
	switch protocol + " " + field {
	case "ip protocol", "ip6 nexthdr":
		return []string{p.Protocol, p.Number}, yes
	case "ip daddr", "ip6 daddr":
		if p.Destination.IsValid() {
			return []string{p.Destination.String()}, yes
		}
	case "ether type":
		return []string{map[string]string{"ipv4": "ip", "ipv6": "ip6", "arp": "arp"}[p.Family]}, yes
	case "icmpv6 type":
		if p.Protocol != "ipv6-icmp" {
			return nil, no
		}
		return []string{p.Type}, yes
	}
	if slices.Contains([]string{"tcp", "udp", "th", "icmp", "sctp", "dccp", "udplite", "esp", "ah", "comp", "igmp"}, protocol) && protocol != p.Protocol {
		return nil, no
	}
	return nil, maybe
}

// contains returns whether one of the words is in a value of an nft rule: a word, a number,
// a prefix, or a list or set of these.
func (e *evaluation) contains(one rule, words []string, right json.RawMessage) truth {
	var value any
	if err := json.Unmarshal(right, &value); err != nil {
		return maybe
	}
	return e.in(one, words, value)
}

func (e *evaluation) in(one rule, words []string, value any) truth {
	switch v := value.(type) {
	case string:
		if set, found := strings.CutPrefix(v, "@"); found {
			elements, known := e.sets[one.Family+" "+one.Table+" "+set]
			if !known {
				return maybe
			}
			t := no
			for _, element := range elements {
				t = max(t, e.contains(one, words, element))
			}
			return t
		}
		if start, found := strings.CutSuffix(v, "*"); found && strings.HasPrefix(words[0], start) {
			return yes
		}
		return known(slices.Contains(words, v))
	case float64:
		return known(slices.Contains(words, fmt.Sprint(v)))
	case []any:
		t := no
		for _, element := range v {
			t = max(t, e.in(one, words, element))
		}
		return t
	case map[string]any:
		if set, ok := v["set"]; ok {
			return e.in(one, words, set)
		}
		if prefix, ok := v["prefix"].(map[string]any); ok {
			net, err := netip.ParsePrefix(fmt.Sprintf("%v/%v", prefix["addr"], prefix["len"]))
			addr, wrong := netip.ParseAddr(words[0])
			if err == nil && wrong == nil {
				return known(net.Contains(addr))
			}
		}
	}
	return maybe
}

func known(b bool) truth {
	if b {
		return yes
	}
	return no
}
