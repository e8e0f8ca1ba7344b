// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"cmp"
	"fmt"
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
	"label":         {true, Changed, "the address has no label: programs that look for this name have to look for the address"},
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

// sameFamily removes the addresses of another family than the first address's, as
// keepalived does, and reports whether that is IPv6.
func (t *translator) sameFamily(in *instance) bool {
	in.addresses = t.readable(in, in.addresses)
	in.excluded = t.readable(in, in.excluded)
	all := append(slices.Clone(in.addresses), in.excluded...)
	if len(all) == 0 {
		return false
	}
	six := all[0].addr.Is6()
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

func (t *translator) addresses(in *instance, six bool) {
	r := in.router
	in.addresses = t.distinct(in.addresses)
	r.set(addressesKey, "")
	for _, v := range in.addresses {
		switch {
		case v.device == "":
			r.address(v.text, false)
		case r.owner:
			t.find(v.node, Changed, "with priority 255 the host has the addresses already, so failoverd doesn't add this one to %s: it has to be on %s", cut(v.device), cut(in.iface))
			r.address(v.text, false)
		default:
			r.list = append(r.list, item{text: t.elsewhere(v)})
		}
	}
	if six && len(in.addresses) > 0 && !in.addresses[0].addr.IsLinkLocalUnicast() {
		t.find(in.addresses[0].node, Changed, "RFC 9568 wants a link-local address first, and keepalived sends the list as it is. failoverd does so too, because keepalived may refuse another list than its own, and then both would be Active. When all hosts run failoverd, remove `ipv6_list` on all of them")
		r.set("ipv6_list", "as-written")
	}
	var extra []string
	for _, v := range t.distinct(in.excluded) {
		line := v.text
		if v.device != "" {
			line = t.elsewhere(v)
		}
		extra = append(extra, "- "+line)
	}
	if len(extra) > 0 {
		r.keys = append(r.keys, pair{key: "extra_addresses", below: extra})
	}
	t.addressed(in)
}

// elsewhere returns the group of keys for an address on another interface.
func (t *translator) elsewhere(v vip) string {
	at := "on %s the address is at that interface's MAC"
	if v.device == "lo" {
		at = "on %s the address has no fence"
	}
	t.find(v.node, Changed, at+", and a host that hangs or is killed goes on to answer for it", cut(v.device))
	return fmt.Sprintf("{address: %s, interface: %s}", quoted(v.text), text(v.device))
}

// addressed comments out a router without an address to advertise.
func (t *translator) addressed(in *instance) {
	const remedy = "failoverd has no router without one, so the router is commented out. Give it an address that no other host has, on all hosts, and import again"
	switch {
	case len(in.addresses) > 0:
		if in.addressless != nil {
			t.find(in.addressless, Unneeded, "it has an address")
		}
		return
	case in.router.blocked != "":
	case len(in.excluded) > 0:
		t.find(in.node, Later, "it has only addresses of virtual_ipaddress_excluded, which aren't advertised. "+remedy)
	default:
		t.find(cmp.Or(in.addressless, in.node), Later, "it has no virtual address. "+remedy)
	}
	in.block("there is no address that it could advertise")
}
