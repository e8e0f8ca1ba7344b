// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/routing"
)

// with reports whether an address, a route or a rule of the family own goes with the
// router's addresses of f: of the same family, or of the only one that the router has.
func (r Router) with(own, f packet.Family) bool {
	return own == f || !r.Has(own)
}

// addressEntry is an address as it is written in the file. Without an interface it is on the
// router's own one.
type addressEntry struct {
	routing.Placed
	label string
}

// extra returns the entries of the extra addresses.
func (r Router) extra() (all []addressEntry) {
	for _, e := range r.Extra {
		all = append(all, r.entry(e.Address, e.Interface))
	}
	return all
}

// entry returns the entry of an address on an interface; empty stands for the router's own one.
func (r Router) entry(p netip.Prefix, name string) addressEntry {
	e := routing.Placed{Address: p, Interface: name}
	if name == r.Interface {
		e.Interface = ""
	}
	return addressEntry{e, r.Labels[e]}
}

// Label returns the label of an address on an interface; empty for none. An empty interface is the
// router's own one.
func (r Router) Label(p netip.Prefix, name string) string { return r.entry(p, name).label }

// Extras returns the extra addresses on the router's own interface that go with its
// virtual addresses of one family.
func (r Router) Extras(f packet.Family) (all []netip.Prefix) {
	for _, e := range r.Extra {
		if e.Interface == r.Interface && r.with(packet.FamilyOf(e.Address.Addr()), f) {
			all = append(all, e.Address)
		}
	}
	return all
}

// placed returns the entries of the virtual addresses.
func (r Router) placed() []addressEntry {
	all := make([]addressEntry, len(r.Addresses))
	for i, p := range r.Addresses {
		all[i] = r.entry(p, r.Interfaces[p.Addr()])
	}
	return all
}

// Elsewhere returns the addresses on other interfaces that come and go with the virtual
// addresses of one family: first the virtual addresses, then the extra addresses.
func (r Router) Elsewhere(f packet.Family) (all []routing.Placed) {
	for _, p := range r.OfFamily(f) {
		if name := r.Interfaces[p.Addr()]; name != "" {
			all = append(all, routing.Placed{Address: p, Interface: name})
		}
	}
	return append(all, r.ExtraElsewhere(f)...)
}

// ExtraElsewhere returns the extra addresses on other interfaces that go with the virtual
// addresses of one family.
func (r Router) ExtraElsewhere(f packet.Family) (all []routing.Placed) {
	for _, e := range r.Extra {
		if e.Interface != r.Interface && r.with(packet.FamilyOf(e.Address.Addr()), f) {
			all = append(all, e)
		}
	}
	return all
}

// Local returns the addresses that the router has on its own interface, or its macvlan, while
// it is Active for one family: the virtual and the extra addresses.
func (r Router) Local(f packet.Family) []netip.Prefix {
	all := slices.DeleteFunc(r.OfFamily(f), func(p netip.Prefix) bool { return r.Interfaces[p.Addr()] != "" })
	return append(all, r.Extras(f)...)
}

// Assigned returns the addresses that are added to the router's interface, or its macvlan,
// while it is Active for one family. The host's own addresses are there already.
func (r Router) Assigned(f packet.Family) []netip.Prefix {
	if r.OwnsAddresses() {
		return r.Extras(f)
	}
	return r.Local(f)
}

// InterfaceOf returns the interface of a virtual address.
func (r Router) InterfaceOf(a netip.Addr) string { return cmp.Or(r.Interfaces[a], r.Interface) }

// place is an address of a router with its key and its index there.
type place struct {
	routing.Placed
	key  string
	item int
}

// places returns all addresses of a router.
func (r Router) places() []place {
	all := make([]place, 0, len(r.Addresses)+len(r.Extra))
	for n, p := range r.Addresses {
		all = append(all, place{routing.Placed{Address: p, Interface: r.InterfaceOf(p.Addr())}, "addresses", n})
	}
	for n, e := range r.Extra {
		all = append(all, place{e, extraName, n})
	}
	return all
}

// interfaceProblems returns the problems of the virtual addresses on other interfaces.
func (r Router) interfaceProblems() (all []Problem) {
	if len(r.Interfaces) == 0 {
		return nil
	}
	for i, p := range r.Addresses {
		name := r.Interfaces[p.Addr()]
		text := ""
		switch {
		case name == "" || len(all) > maxProblems:
		case !isInterfaceName(name):
			text = badInterface(name)
		case r.OwnsAddresses():
			text = fmt.Sprintf("the owner of the addresses (priority 255) has %s already, and failoverd doesn't add it to %s: remove the `interface` of the address, or set `add_addresses: true`", p.Addr(), name)
		}
		if text != "" {
			all = append(all, Problem{Key: "addresses", Item: i, Text: text})
		}
	}
	return all
}

// labelProblems returns the problems of the labels.
func (r Router) labelProblems() (all []Problem) {
	if len(r.Labels) == 0 {
		return nil
	}
	for _, p := range r.places() {
		if len(all) > maxProblems {
			break
		}
		label := r.entry(p.Address, p.Interface).label
		text := ""
		switch {
		case label == "":
		case p.Address.Addr().Is6():
			text = fmt.Sprintf("%s is IPv6, and only IPv4 addresses have a label: remove `label`", p.Address.Addr())
		case len(label) > 15 || !isInterfaceName(label): // the kernel counts octets
			text = fmt.Sprintf("%s can't be a label: it has up to 15 characters, without spaces and slashes, like %s:web", quote(label), r.Interface)
		case r.OwnsAddresses() && p.key == "addresses":
			text = fmt.Sprintf("the owner of the addresses (priority 255) has %s already, and failoverd doesn't add it: set the label with the host's network and remove `label` here, or set `add_addresses: true`", p.Address.Addr())
		}
		if text != "" {
			all = append(all, Problem{Key: p.key, Item: p.item, Text: text})
		}
	}
	return all
}

// badInterface is the text of the problem that a name can't be an interface's.
func badInterface(name string) string {
	return fmt.Sprintf("%s can't be an interface's name: it has up to 15 characters, without spaces and slashes", quote(name))
}

// extraProblems returns the problems of the extra addresses.
func (r Router) extraProblems() (all []Problem) {
	twice := repeated(r.Extra, func(e routing.Placed) addressSpot { return addressSpot{e.Address.Addr(), e.Interface} })
	virtual := r.virtual()
	for i, e := range r.Extra {
		if len(all) > maxProblems {
			break
		}
		a := e.Address.Addr()
		text := ""
		switch {
		case twice[i]:
			text = fmt.Sprintf("extra address %s is given twice", a)
		case virtual[a] && e.Interface == r.InterfaceOf(a):
			text = fmt.Sprintf("extra address %s is one of the `addresses` too: remove it here", a)
		case e.Interface != r.Interface && !isInterfaceName(e.Interface):
			text = badInterface(e.Interface)
		}
		if text != "" {
			all = append(all, Problem{Key: extraName, Item: i, Text: text})
		}
	}
	return all
}

const extraName = "extra_addresses"

func extraKey() key[Router] {
	return key[Router]{name: extraName, kind: kindExtras, fallback: "[]", below: below(extraKeys), sample: "[192.0.2.20/24, {address: 203.0.113.10/24, interface: eth1}]", doc: "Addresses that the host has while the router is Active and that aren't advertised: more than an advertisement holds, or IPv6 addresses of a router that is IPv4 on the wire. They are announced, and fenced, like the others. Hosts may have different ones. An entry is an address, or a group of `address`, `interface` and `label`.", read: func(r *reader, n *node, t *Router) (items []*node) {
		for _, item := range r.list(n, extraName, "extra_addresses: [192.0.2.20/24]") {
			if e, ok := r.placed(item, "the extra address", extraKeys); ok {
				t.Extra, items = append(t.Extra, e.Placed), append(items, r.value(item))
				t.label(e)
			}
		}
		return items
	}}
}

// label sets the label of an address that was read.
func (r *Router) label(e addressEntry) {
	if e.label == "" {
		return
	}
	if r.Labels == nil {
		r.Labels = make(map[routing.Placed]string)
	}
	r.Labels[e.Placed] = e.label
}

// completeLabels removes the router's own interface from the keys of the labels.
func (r *Router) completeLabels() {
	for p, label := range r.Labels {
		if p.Interface == r.Interface {
			delete(r.Labels, p)
			r.Labels[routing.Placed{Address: p.Address}] = label
		}
	}
}

// placed reads an address, or a group of keys with one. what names it in mistakes.
func (r *reader) placed(n *node, what string, keys []key[addressEntry]) (e addressEntry, ok bool) {
	if r.is(n, mapping) {
		before := r.mistakes.count()
		read(r, n, what, &e, keys, nil)
		if !e.Address.IsValid() && r.mistakes.count() == before {
			r.fail(n, "add `address: 192.0.2.20/24`", "%s has no `address`", what)
		}
		return e, r.mistakes.count() == before
	}
	e.Address, ok = r.prefixed(n)
	return e, ok
}

// The keys of the groups in extra_addresses and in addresses.
var (
	extraKeys = placedKeys("The interface of the address. The default is the router's own. On another interface the address is at that interface's MAC and has no fence: a host that hangs or is killed goes on answering for it until failoverd is started again.")

	virtualKeys = placedKeys("The interface that the address is put on, which can be `lo`. The default is the router's own. The address is advertised like the others. On another interface it is at that interface's MAC and has no fence, like an extra address there, and the router waits while that interface is missing or down. An owner (priority 255) can't have such an address.")
)

func placedKeys(ofInterface string) []key[addressEntry] {
	return []key[addressEntry]{
		{name: "address", kind: kindText, required: true, doc: "The address with its prefix length.", read: func(r *reader, n *node, e *addressEntry) []*node {
			e.Address, _ = r.prefixed(n)
			return nil
		}},
		textKey("interface", ofInterface, func(e *addressEntry) *string { return &e.Interface }),
		textKey("label", "The label of an IPv4 address, by which `ip addr show label` and programs like ifconfig find it: up to 15 characters, by custom the interface's name, a colon and a word, like `eth0:web`. It is set when the address is added. The kernel can't change a label, so an address that is there already keeps its label until it is added again.", func(e *addressEntry) *string { return &e.label }),
	}
}

// prefixed reads an address with its prefix length.
func (r *reader) prefixed(n *node) (netip.Prefix, bool) {
	s, ok := r.text(n, "address")
	if !ok {
		return netip.Prefix{}, false
	}
	p, err := ParseAddress(s)
	if err != nil {
		r.fail(r.value(n), "", "%s", err)
	}
	return p, err == nil
}
