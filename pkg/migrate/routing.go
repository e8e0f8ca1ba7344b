// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/failoverd/failoverd/pkg/config"
)

// routingWord is the translation of a word of ip-route(8) or ip-rule(8): a key of
// failoverd, or a finding.
type routingWord struct {
	key    string
	number bool // the value is a number
	alone  bool // no value follows
	kind   Kind
	text   string
}

// ownProtocol is why the protocol of a route or a rule isn't translated.
const ownProtocol = "failoverd's have the protocol 112, which tells them from others"

// tableNames are the tables that every host has.
var tableNames = map[string]string{"main": "254", "default": "253", "local": "255"}

var routeWords = map[string]routingWord{
	"to": {key: "to"}, "via": {key: "via"}, "gw": {key: "via"}, "dev": {key: "interface"}, "oif": {key: "interface"},
	"src": {key: "source"}, "metric": {key: "metric", number: true}, "preference": {key: "metric", number: true},
	"table": {key: "table"}, "scope": {key: "scope"}, "mtu": {key: "mtu", number: true}, "onlink": {key: "onlink", alone: true},
	"proto": {kind: Unneeded, text: ownProtocol}, "protocol": {kind: Unneeded, text: ownProtocol},
	"no_track":    {alone: true, kind: Unneeded, text: "failoverd adds a removed route again, and takes part without it"},
	"track_group": {kind: Later, text: "failoverd has no track groups yet"},
}

var ruleWords = map[string]routingWord{
	"from": {key: "from"}, "to": {key: "to"}, "table": {key: "table"}, "lookup": {key: "table"},
	"priority": {key: "priority", number: true}, "preference": {key: "priority", number: true}, "pref": {key: "priority", number: true}, "order": {key: "priority", number: true},
	"iif": {key: "iif"}, "dev": {key: "iif"}, "oif": {key: "oif"}, "fwmark": {key: "fwmark", number: true},
	"proto": {kind: Unneeded, text: ownProtocol}, "protocol": {kind: Unneeded, text: ownProtocol},
	"no_track":    {alone: true, kind: Unneeded, text: "failoverd adds a removed rule again, and takes part without it"},
	"track_group": {kind: Later, text: "failoverd has no track groups yet"},
}

var routeTypes = map[string]bool{"unicast": true, "blackhole": true, "unreachable": true, "prohibit": true, "throw": true}

// virtualRoutes translates routes.
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

// virtualRules translates rules.
func virtualRules(t *translator, in *instance, block *node) {
	next := 1000
	t.routing(in, block, "rules", func(n *node) (string, bool) {
		pairs, ok := t.words(n, 0, ruleWords, "")
		all := strings.Join(pairs, ", ")
		if ok && !strings.Contains(all, "priority: ") {
			t.find(n, Changed, "it has no priority, and the kernel would place it before the others: here it is %d", next)
			all += fmt.Sprintf(", priority: %d", next)
			next++
		}
		return all, ok
	})
}

// routing translates the entries of a block into a list, and leaves out those that
// failoverd doesn't have.
func (t *translator) routing(in *instance, block *node, key string, translate func(*node) (string, bool)) {
	var lines []string
	for _, n := range block.block {
		n.tell()
		if one, ok := translate(n); ok {
			lines = append(lines, "- {"+one+"}")
		}
	}
	if len(lines) > 0 {
		in.routing = append(in.routing, pair{key: key, below: lines})
	}
}

// words reads the words of a route or a rule from the i-th on. A word that isn't known
// is the value of the key first, if the entry doesn't have that yet.
func (t *translator) words(n *node, i int, known map[string]routingWord, first string) (pairs []string, ok bool) {
	leave := func(format string, args ...any) ([]string, bool) {
		n.args()
		t.find(n, Later, "left out: "+format, args...)
		return nil, false
	}
	for ; i < len(n.words); i++ {
		word := n.arg(i)
		w, is := known[word]
		if word == "or" || word == "nexthop" {
			return leave("failoverd has no multipath routes (`%s`)", word)
		}
		if !is && first != "" {
			w, is = routingWord{key: first}, true
			i--
		}
		if w.key == first {
			first = ""
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

// everything returns the network of all addresses, of the family of the other words.
func everything(n *node) string {
	for _, word := range n.words {
		if strings.Contains(word, ":") {
			return "::/0"
		}
	}
	return "0.0.0.0/0"
}

// quoted writes an address within a list in one line, where YAML would take IPv6 for a
// key.
func quoted(s string) string {
	if strings.Contains(s, ":") {
		return strconv.Quote(s)
	}
	return s
}
