// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/config"
)

// vip is an entry of virtual_ipaddress or virtual_ipaddress_excluded.
type vip struct {
	node   *node
	text   string
	addr   netip.Addr
	device string // another interface
	label  string
}

// lists are the blocks that have entries instead of directives.
var lists = map[string]bool{
	"virtual_ipaddress": true, "virtual_ipaddress_excluded": true, "virtual_routes": true, "virtual_rules": true,
	"unicast_peer": true, "track_interface": true, "track_script": true, "track_file": true, "track_process": true, "track_bfd": true,
	"static_ipaddress": true, "static_routes": true, "static_rules": true,
}

// options are the words behind an address, and whether a value follows.
var options = map[string]struct {
	value bool
	kind  Kind
	text  string
}{
	"brd":           {true, Unneeded, "the address has no broadcast address; programs that need one find it by the interface's other addresses"},
	"broadcast":     {true, Unneeded, "the address has no broadcast address; programs that need one find it by the interface's other addresses"},
	"scope":         {true, Changed, "the address has the scope global, or link if it is link-local"},
	"peer":          {true, Later, "failoverd has no addresses with a peer: the address has none"},
	"home":          {false, Later, "the address doesn't have this flag"},
	"-nodad":        {false, Unneeded, "failoverd never uses duplicate address detection for virtual addresses: it would find the other routers"},
	"mngtmpaddr":    {false, Later, "the address doesn't have this flag"},
	"noprefixroute": {false, Later, "the address doesn't have this flag: with its prefix length there is a route too; give it /32 or /128 to have none"},
	"autojoin":      {false, Later, "the address doesn't have this flag"},
	"no_track":      {false, Unneeded, "failoverd adds an address that was removed again"},
	"preferred_lft": {true, Changed, "virtual IPv6 addresses are always deprecated, so that the host doesn't begin connections from them"},
	"track_group":   {true, Later, "failoverd has no track groups yet"},
	"use_vmac":      {false, Changed, "on another interface the address is at that interface's MAC"},
}

func (t *translator) entries(in *instance, block *node) (all []vip) {
	for _, n := range block.block {
		n.tell()
		v := vip{node: n, text: n.name()}
		if p, err := config.ParseAddress(v.text); err == nil {
			v.addr = p.Addr()
		} else if a, err := netip.ParseAddr(strings.Split(v.text, "/")[0]); err == nil {
			v.addr = a
		}
		for i := 1; i < len(n.words); i++ {
			word := n.words[i]
			if word == "dev" {
				n.arg(i)
				if i++; n.arg(i) != in.iface {
					v.device = n.arg(i)
				}
				continue
			}
			if word == "label" {
				n.arg(i)
				i++
				v.label = t.label(n, v.addr, n.arg(i))
				continue
			}
			o, known := options[word]
			if !known {
				continue // for the sweep
			}
			n.arg(i)
			value := ""
			if o.value {
				i++
				value = n.arg(i)
			}
			if word == "scope" && value == "global" {
				continue
			}
			t.find(n, o.kind, "`%s`: %s", cut(strings.TrimSpace(word+" "+value)), o.text)
		}
		all = append(all, v)
	}
	return all
}

// label returns the label of an address as failoverd sets it.
func (t *translator) label(n *node, a netip.Addr, label string) string {
	switch {
	case a.Is6():
		t.find(n, Unneeded, "`label %s`: only IPv4 addresses have a label", cut(label))
	case label == "" || len(label) > 15 || strings.Contains(label, "/"):
		t.find(n, Doubtful, "`label %s`: it isn't a label of 1 to 15 characters without a slash: the address has none", cut(label))
	default:
		return label
	}
	return ""
}

// sameFamily removes the addresses of another family than the first address's, as
// keepalived does, and reports whether that is IPv6. An instance without addresses has the
// family of its source or its first peer, and without them IPv4, or IPv6 by native_ipv6.
// Excluded addresses don't count.
func (t *translator) sameFamily(in *instance) bool {
	in.addresses = t.readable(in, in.addresses)
	in.excluded = t.readable(in, in.excluded)
	if len(in.addresses) == 0 {
		first := in.sourceAddress
		if !first.IsValid() && len(in.peers) > 0 {
			first = in.peers[0].Address
		}
		return first.Is6() || in.six && !first.IsValid()
	}
	six := in.addresses[0].addr.Is6()
	in.addresses = slices.DeleteFunc(in.addresses, func(v vip) bool {
		if v.addr.Is6() == six {
			return false
		}
		t.find(v.node, Doubtful, "keepalived ignores it, because the first address is of the other family; add it to `addresses` if it was meant")
		return true
	})
	return six
}

func (t *translator) readable(in *instance, list []vip) []vip {
	return slices.DeleteFunc(list, func(v vip) bool {
		_, err := config.ParseAddress(v.text)
		if err != nil {
			t.find(v.node, Unknown, "%s; the router is commented out until it is right", err)
			in.block("an address of it isn't one")
			in.router.address(clean(v.text), true)
		}
		return err != nil
	})
}

// distinct removes the addresses that are given twice.
func (t *translator) distinct(list []vip) []vip {
	seen := make(map[netip.Addr]bool)
	return slices.DeleteFunc(list, func(v vip) bool {
		twice := seen[v.addr]
		seen[v.addr] = true
		if twice {
			t.find(v.node, Doubtful, "the address is given twice: this one is left out")
		}
		return twice
	})
}

func (t *translator) addresses(in *instance, six bool, version int) {
	r := in.router
	in.addresses = t.distinct(in.addresses)
	if len(in.addresses) > 0 || r.blocked != "" {
		r.set(addressesKey, "")
	} else {
		r.set(addressesKey, "[]")
	}
	for _, v := range in.addresses {
		if v.device == "" && v.label == "" {
			r.address(v.text, false)
			continue
		}
		r.list = append(r.list, item{text: t.entry(v)})
	}
	if six && len(in.addresses) > 0 && !in.addresses[0].addr.IsLinkLocalUnicast() {
		t.find(in.addresses[0].node, Changed, "RFC 9568 wants a link-local address first, and keepalived sends the list as it is. failoverd does so too, because keepalived may refuse another list than its own, and then both would be Active. When all hosts run failoverd, remove `ipv6_list` on all of them")
		r.set("ipv6_list", "as-written")
	}
	var extra []string
	for _, v := range t.distinct(in.excluded) {
		line := v.text
		if v.device != "" || v.label != "" {
			line = t.entry(v)
		}
		extra = append(extra, "- "+line)
	}
	if len(extra) > 0 {
		r.keys = append(r.keys, pair{key: "extra_addresses", below: extra})
	}
	t.addressless(in, six, version)
}

// entry returns the group of keys for an address with a label or on another interface.
func (t *translator) entry(v vip) string {
	group := "{address: " + quoted(v.text)
	if v.device != "" {
		t.elsewhere(v)
		group += ", interface: " + text(v.device)
	}
	if v.label != "" {
		group += ", label: " + text(v.label)
	}
	return group + "}"
}

// elsewhere tells what differs for an address on another interface.
func (t *translator) elsewhere(v vip) {
	at := "on %s the address is at that interface's MAC"
	if v.device == "lo" {
		at = "on %s the address has no fence"
	}
	t.find(v.node, Changed, at+", and a host that hangs or is killed goes on to answer for it", cut(v.device))
}

// addressless comments out a router without an address if keepalived doesn't run it, or if
// failoverd can't.
func (t *translator) addressless(in *instance, six bool, version int) {
	switch {
	case len(in.addresses) > 0:
		if in.addressless != nil {
			t.find(in.addressless, Unneeded, "it has an address")
		}
	case in.router.blocked != "":
	case t.strict(in):
		t.find(in.node, Doubtful, "keepalived doesn't run an instance without an address in strict mode: the router is commented out")
		in.block("keepalived doesn't run it")
	case version == 3 && in.addressless == nil:
		t.find(in.node, Doubtful, "keepalived doesn't run an instance of version 3 without an address, unless it has `no_virtual_ipaddress`: the router is commented out")
		in.block("keepalived doesn't run it")
	case six && in.unicast == nil:
		t.find(in.node, Later, "failoverd advertises no empty list to the IPv6 group: give the router an IPv6 address that no other host has, on all hosts, or `unicast_peer`")
		in.block("failoverd advertises no empty list to the IPv6 group")
	}
}
