// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/failoverd/failoverd/pkg/config"
)

// routingWord is what a word of ip-route(8) or ip-rule(8) becomes: a key of ours, or
// nothing, and why.
type routingWord struct {
	key    string
	number bool // the value is a number
	alone  bool // no value follows
	kind   Kind
	text   string
}

var tableNames = map[string]string{"main": "254", "default": "253", "local": "255"}

var routeWords = map[string]routingWord{
	"to": {key: "to"}, "via": {key: "via"}, "gw": {key: "via"}, "dev": {key: "interface"}, "oif": {key: "interface"},
	"src": {key: "source"}, "metric": {key: "metric", number: true}, "preference": {key: "metric", number: true},
	"table": {key: "table"}, "scope": {key: "scope"}, "mtu": {key: "mtu", number: true}, "onlink": {key: "onlink", alone: true},
	"proto": {kind: Unneeded, text: "failoverd's routes are of the protocol 112, by which they are told from others"}, "protocol": {kind: Unneeded, text: "failoverd's routes are of the protocol 112, by which they are told from others"},
	"no_track":    {alone: true, kind: Unneeded, text: "failoverd adds a route that was removed again, and takes part without it"},
	"track_group": {kind: Later, text: "failoverd has no track groups yet"},
}

var ruleWords = map[string]routingWord{
	"from": {key: "from"}, "to": {key: "to"}, "table": {key: "table"}, "lookup": {key: "table"},
	"priority": {key: "priority", number: true}, "preference": {key: "priority", number: true}, "pref": {key: "priority", number: true}, "order": {key: "priority", number: true},
	"iif": {key: "iif"}, "dev": {key: "iif"}, "oif": {key: "oif"}, "fwmark": {key: "fwmark", number: true},
	"proto": {kind: Unneeded, text: "failoverd's rules are of the protocol 112, by which they are told from others"}, "protocol": {kind: Unneeded, text: "failoverd's rules are of the protocol 112, by which they are told from others"},
	"no_track":    {alone: true, kind: Unneeded, text: "failoverd adds a rule that was removed again, and takes part without it"},
	"track_group": {kind: Later, text: "failoverd has no track groups yet"},
}

var routeTypes = map[string]bool{"unicast": true, "blackhole": true, "unreachable": true, "prohibit": true, "throw": true}

// virtualRoutes makes routes of keepalived's.
func virtualRoutes(t *translator, in *instance, block *node) {
	t.routing(in, block, "routes", func(n *node) (string, bool) {
		first := 0
		kind := ""
		if routeTypes[n.words[0]] {
			kind, first = n.words[0], 1
			n.arg(0)
		}
		pairs, ok := t.words(n, first, routeWords, "to")
		if kind != "" && kind != "unicast" {
			pairs = append(pairs, "type: "+kind)
		}
		return strings.Join(pairs, ", "), ok
	})
}

// virtualRules makes rules of keepalived's.
func virtualRules(t *translator, in *instance, block *node) {
	next := 1000
	t.routing(in, block, "rules", func(n *node) (string, bool) {
		pairs, ok := t.words(n, 0, ruleWords, "")
		all := strings.Join(pairs, ", ")
		if ok && !strings.Contains(all, "priority: ") {
			t.find(n, Changed, "it has no priority, and the kernel would place it in front of the others: here it is %d", next)
			all += fmt.Sprintf(", priority: %d", next)
			next++
		}
		return all, ok
	})
}

// routing makes a list of what is in a block; what can't be said is left out.
func (t *translator) routing(in *instance, block *node, key string, translate func(*node) (string, bool)) {
	t.choose(nil, block.block)
	var lines []string
	for _, n := range block.block {
		if n.told {
			continue
		}
		n.tell()
		if one, ok := translate(n); ok {
			lines = append(lines, "- {"+one+"}")
		}
	}
	if len(lines) > 0 {
		in.routing = append(in.routing, pair{key: key, below: lines})
	}
}

// words reads the words of a route or a rule from the i-th on. The first is the
// value of a key if it is none of the words.
func (t *translator) words(n *node, i int, known map[string]routingWord, first string) (pairs []string, ok bool) {
	leave := func(format string, args ...any) ([]string, bool) {
		n.args()
		t.find(n, Later, "left out: "+format, args...)
		return nil, false
	}
	for begin := i; i < len(n.words); i++ {
		word := n.arg(i)
		w, is := known[word]
		if !is && i == begin && first != "" {
			w, is = routingWord{key: first}, true
			i--
		}
		if !is {
			return leave("failoverd doesn't know `%s` of it", cut(word))
		}
		value := "true"
		if !w.alone {
			i++
			value = n.arg(i)
		}
		if w.key == "" {
			t.find(n, w.kind, "`%s`: %s", cut(word), w.text)
			continue
		}
		switch {
		case w.key == "table":
			if name, named := tableNames[value]; named {
				value = name
			}
			if _, err := strconv.Atoi(value); err != nil {
				return leave("give the number of the table `%s`, which is in /etc/iproute2/rt_tables", cut(value))
			}
		case w.number:
			number, err := strconv.ParseInt(value, 0, 32)
			if err != nil {
				return leave("`%s %s` isn't a number", word, cut(value))
			}
			value = strconv.FormatInt(number, 10)
		case w.key == "to" || w.key == "from":
			if value == "default" || value == "all" || value == "any" {
				value = everything(n)
			}
			if _, err := config.ParseNetwork(value); err != nil {
				return leave("%s", err)
			}
			value = quoted(value)
		case w.key == "via" || w.key == "source":
			if a, err := netip.ParseAddr(value); err != nil || a.Zone() != "" {
				return leave("`%s %s` isn't an address", word, cut(value))
			}
			value = quoted(value)
		case !w.alone:
			value = text(value)
		}
		pairs = append(pairs, w.key+": "+value)
	}
	return pairs, true
}

// everything is all addresses of the family that the other words are of.
func everything(n *node) string {
	for _, word := range n.words {
		if strings.Contains(word, ":") {
			return "::/0"
		}
	}
	return "0.0.0.0/0"
}

// quoted writes an address within a group, where IPv6 would be a key.
func quoted(s string) string {
	if strings.Contains(s, ":") {
		return strconv.Quote(s)
	}
	return s
}
