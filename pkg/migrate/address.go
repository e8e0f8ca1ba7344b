// SPDX-License-Identifier: Apache-2.0

package migrate

import (
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

// options of an address, with whether a word follows.
var options = map[string]struct {
	value bool
	kind  Kind
	text  string
}{
	"brd":           {true, Changed, "the address has no broadcast address; programs that need one find it by the interface's other addresses"},
	"broadcast":     {true, Changed, "the address has no broadcast address; programs that need one find it by the interface's other addresses"},
	"scope":         {true, Changed, "the address has the scope global, or link if it is link-local"},
	"label":         {true, Changed, "the address has no label: what looks for that name has to look for the address"},
	"peer":          {true, Later, "failoverd has no addresses with a peer: the address has none"},
	"home":          {false, Later, "the address doesn't have this flag"},
	"-nodad":        {false, Unneeded, "failoverd never has duplicate address detection for virtual addresses: it would find the other routers"},
	"mngtmpaddr":    {false, Later, "the address doesn't have this flag"},
	"noprefixroute": {false, Later, "the address doesn't have this flag: with its prefix length there is a route too; give it /32 or /128 to have none"},
	"autojoin":      {false, Later, "the address doesn't have this flag"},
	"no_track":      {false, Unneeded, "failoverd adds an address that was removed again"},
	"preferred_lft": {true, Changed, "virtual IPv6 addresses are deprecated always, so that the host doesn't begin connections from them"},
	"track_group":   {true, Later, "failoverd has no track groups yet"},
	"use_vmac":      {false, Changed, "on another interface the address is at that interface's MAC"},
}

func (t *translator) entries(in *instance, block *node) (all []vip) {
	t.choose(nil, block.block)
	for _, n := range block.block {
		if n.told {
			continue
		}
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

// sameFamily leaves what isn't of the first address's family out, as keepalived
// does, and says whether that is IPv6.
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
		t.find(v.node, Unneeded, "keepalived ignores it, because the first address is of the other family; add it to `addresses` if it was meant")
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

func (t *translator) addresses(in *instance, six bool) {
	r := in.router
	r.set(addressesKey, "")
	for _, v := range in.addresses {
		if v.device != "" {
			t.find(v.node, Later, "failoverd doesn't advertise addresses on other interfaces (`dev %s`). The router is commented out: it would advertise fewer addresses than the other hosts. Move the address into virtual_ipaddress_excluded on all hosts, and import again", cut(v.device))
			in.block("an address of it is on another interface")
		}
		r.address(v.text, v.device != "")
	}
	if six && len(in.addresses) > 0 && !in.addresses[0].addr.IsLinkLocalUnicast() {
		t.find(in.addresses[0].node, Changed, "RFC 9568 wants a link-local address first: failoverd puts fe80::12:%x there. keepalived refuses another list than its own: have that address as the first on the hosts that still run it", in.vrid)
		r.set("tolerate", "[first-address]")
	}
	var extra []string
	for _, v := range in.excluded {
		line := v.text
		if v.device != "" {
			line = fmt.Sprintf("{address: %s, interface: %s}", quoted(v.text), text(v.device))
			t.find(v.node, Changed, "on %s the address is at that interface's MAC, and a host that hangs or is killed goes on to answer for it", cut(v.device))
		}
		extra = append(extra, "- "+line)
	}
	if len(extra) > 0 {
		r.keys = append(r.keys, pair{key: "extra_addresses", below: extra})
	}
	if len(in.addresses) == 0 {
		if len(in.excluded) == 0 && r.blocked == "" {
			t.find(in.node, Later, "it has no virtual address, which failoverd needs")
		}
		in.block("there is no address that it could advertise")
	}
}
