// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

func scriptKey() key[Track] {
	const name = "script"
	return key[Track]{name: name, kind: kindCommand, doc: "Up if this program exits with status 0: its absolute path with arguments, in one line or as a list. There is no shell, unless `shell` is set. The program never runs twice at once.", read: func(r *reader, n *node, t *Track) []*node {
		t.Script, t.line = r.words(n, name)
		return nil
	}}
}

// boundedKey returns a numberKey that checks its limits.
func boundedKey[T any](name, doc string, least, most int, fallback string, field func(*T) *int) key[T] {
	return checked(numberKey(name, doc, least, most, fallback, field), func(t *T) string {
		if v := *field(t); v < least || v > most {
			return fmt.Sprintf("%s %d is out of range: it is %d to %d", quote(name), v, least, most)
		}
		return ""
	})
}

func wordsKey(name, doc string, field func(*Track) *[]string) key[Track] {
	return key[Track]{name: name, kind: kindCommand, doc: doc, read: func(r *reader, n *node, t *Track) []*node {
		words, line := r.words(n, name)
		if line != "" {
			words = []string{line}
		}
		*field(t) = words
		return nil
	}}
}

// words reads a list of words, or a text in one line.
func (r *reader) words(n *node, name string) (words []string, line string) {
	if !r.is(n, sequence) {
		line, _ = r.text(n, name)
		return nil, line
	}
	for _, item := range r.list(n, name, "") {
		if w, ok := r.text(item, name); ok {
			words = append(words, w)
		}
	}
	return words, ""
}

func addressKey(name, doc string, field func(*Track) *netip.Addr) key[Track] {
	return key[Track]{name: name, kind: kindText, doc: doc, read: func(r *reader, n *node, t *Track) []*node {
		if a, ok := r.address(n, name); ok {
			*field(t) = a
		}
		return nil
	}}
}

// maxTargets is the maximum number of hosts that a check asks.
const maxTargets = 16

// targetsKey returns a key with one address or a list of addresses.
func targetsKey(name, doc string, field func(*Track) *[]netip.Addr) key[Track] {
	return key[Track]{name: name, kind: kindTargets, max: maxTargets, doc: doc, read: func(r *reader, n *node, t *Track) []*node {
		items := []*node{n}
		if r.is(n, sequence) {
			items = r.list(n, name, "")
		}
		if len(items) == 0 || len(items) > maxTargets {
			r.fail(r.value(n), "", "%s has %d addresses: it is 1 to %d", quote(name), len(items), maxTargets)
			return nil
		}
		for _, item := range items {
			if a, ok := r.address(item, name); ok {
				*field(t) = append(*field(t), a)
			}
		}
		return nil
	}}
}

// address reads an address without a zone and without a prefix length.
func (r *reader) address(n *node, name string) (netip.Addr, bool) {
	s, ok := r.text(n, name)
	if !ok {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		r.fail(r.value(n), "write it like 192.0.2.1 or 2001:db8::1, without a prefix length", "%s: %s is not an address", quote(name), quote(s))
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

// everywhere has the names of the default routes.
var everywhere = map[string]netip.Prefix{
	"default":  netip.PrefixFrom(netip.IPv4Unspecified(), 0),
	"default6": netip.PrefixFrom(netip.IPv6Unspecified(), 0),
}

func routeKey() key[Track] {
	const name = "route"
	return key[Track]{name: name, kind: kindText, doc: "Up if the host has a route to this destination: ADDRESS/LENGTH, default (IPv4) or default6.", read: func(r *reader, n *node, t *Track) []*node {
		s, ok := r.text(n, "address")
		if !ok {
			return nil
		}
		p, err := netip.ParsePrefix(s)
		if all, known := everywhere[s]; known {
			p, err = all, nil
		}
		if a, addrErr := netip.ParseAddr(s); addrErr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
		}
		switch {
		case err != nil:
			r.fail(r.value(n), "write it like 10.0.0.0/8, 2001:db8::/32, default or default6", "%s: %s is not a route's destination", quote(name), quote(s))
		case p != p.Masked():
			r.fail(r.value(n), "write "+p.Masked().String(), "%s: %s has bits behind its length", quote(name), quote(s))
		default:
			t.Route = p
		}
		return nil
	}}
}

func statusKey() key[Track] {
	const name = "status"
	return key[Track]{name: name, kind: kindNames, fallback: "", doc: "The good HTTP statuses: numbers and ranges. The default is 200-299.", read: func(r *reader, n *node, t *Track) []*node {
		for _, item := range r.list(n, name, "status: [200, 301-302]") {
			s, ok := r.text(item, name)
			if !ok {
				continue
			}
			low, high, ranged := strings.Cut(s, "-")
			if !ranged {
				high = low
			}
			from, err := strconv.Atoi(low)
			to, err2 := strconv.Atoi(high)
			if err != nil || err2 != nil || from < 100 || to > 599 || from > to {
				r.fail(r.value(item), "write it like 200 or 200-299", "%s: %s is not a status: it is 100 to 599", quote(name), quote(s))
				continue
			}
			t.Statuses = append(t.Statuses, [2]int{from, to})
		}
		return nil
	}}
}

// maxUses is the greatest number of checks that a router can depend on.
const maxUses = 100

// trackKey returns the key with the checks that a router or a group depends on.
func trackKey[T any](whose string, field func(*T) *[]Use) key[T] {
	const name = "track"
	doc := "The checks that " + whose + " on, by their names in `tracks`. An entry {name: web, weight: 10} replaces the weight or the `reverse` of the check."
	return key[T]{name: name, kind: kindUses, fallback: "[]", below: below(useKeys), doc: doc, read: func(r *reader, n *node, t *T) []*node {
		var items []*node
		list := r.list(n, name, "track: [web]")
		if len(list) > maxUses {
			r.fail(list[maxUses], "", "%s has %d checks: there can be %d", quote(name), len(list), maxUses)
			return nil
		}
		for _, item := range list {
			var u Use
			if r.is(item, mapping) {
				p := newPlaces(item)
				read(r, item, "the track", &u, useKeys, &p)
				if _, there := p.keys["name"]; !there {
					r.fail(item, "write {name: web, weight: 10}", "the track has no `name`: it is the name of a check in `tracks:`")
					continue
				}
			} else {
				s, ok := r.text(item, name)
				if !ok {
					continue
				}
				u.Name = s
			}
			*field(t) = append(*field(t), u)
			items = append(items, r.value(item))
		}
		return items
	}}
}

var useKeys = []key[Use]{
	need(textKey("name", "The name of the check.", func(u *Use) *string { return &u.Name }), ""),
	boundedKey("weight", "Replaces the weight of the check.", -MaxWeight, MaxWeight, "", func(u *Use) *int { return &u.Weight }),
	boolKey("reverse", "Replaces the `reverse` of the check.", "", func(u *Use) *bool { return &u.Reverse }),
}
