// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
)

// The codes of findings.
const (
	AddressElsewhere = "address_elsewhere" // a virtual address is on another interface
	AddressHere      = "address_here"      // a virtual address is on the router's interface, but the host isn't the owner
	OwnerWithout     = "owner_without"     // the host is the owner, but lacks the address
	ExtraElsewhere   = "extra_elsewhere"   // an extra address is already on the host

	PeerIsHost     = "peer_is_host"    // a peer's address is this host's own
	AddressSilent  = "address_silent"  // a virtual address is also on an interface that answers no requests for it
	HostPrefix     = "host_prefix"     // a virtual address is a /32 or /128 within the interface's network
	OutsideNetwork = "outside_network" // a virtual address is in none of the interface's networks
	BridgePort     = "bridge_port"     // the interface is a port of a bridge
)

// Finding is an obstacle or a warning about a router on this host.
type Finding struct {
	Code string
	// Key and Item are the position in the configuration, as in a config.Problem.
	Key  string
	Item int
	// Text is the fact, and Remedy what to do.
	Text, Remedy string
}

func (f Finding) String() string { return f.Text + ": " + f.Remedy }

// HostFacts is what Obstacles and Warnings need to know of the host.
type HostFacts struct {
	Interfaces []link.Interface
	// Ours reports whether failoverd has put an address on an interface; nil means that it hasn't
	// put any.
	Ours func(ifindex int, a netip.Addr) bool
	// Fenced is set if the router's interface has the fence, even while the daemon doesn't run.
	Fenced bool
}

func (h HostFacts) find(name string) (link.Interface, bool) {
	n := slices.IndexFunc(h.Interfaces, func(i link.Interface) bool { return i.Name == name })
	if n < 0 {
		return link.Interface{}, false
	}
	return h.Interfaces[n], true
}

// notOurs returns an address of an interface that failoverd hasn't put there.
func (h HostFacts) notOurs(i link.Interface, a netip.Addr) (link.Address, bool) {
	found, ok := i.Find(a)
	return found, ok && (h.Ours == nil || !h.Ours(i.Index, a))
}

// elsewhere calls f for the other interfaces with an address that failoverd hasn't put there.
func (h HostFacts) elsewhere(a netip.Addr, ifindex int, f func(link.Interface, link.Address)) {
	for _, i := range h.Interfaces {
		if found, ok := h.notOurs(i, a); ok && i.Index != ifindex {
			f(i, found)
		}
	}
}

// occupied returns an interface where an address is that failoverd hasn't put there, and that keeps
// failoverd from adding the address to the interface name. Other interfaces may have the same
// link-local address, and silent ones any address behind a fence.
func (h HostFacts) occupied(a netip.Addr, name string) (link.Interface, link.Address, bool) {
	for _, i := range h.Interfaces {
		found, ok := h.notOurs(i, a)
		if ok && (i.Name == name || !a.IsLinkLocalUnicast() && (!i.Silent() || !h.Fenced)) {
			return i, found, true
		}
	}
	return link.Interface{}, link.Address{}, false
}

// removeFrom is the remedy for an address that is on an interface already.
func removeFrom(i link.Interface, a link.Address) string {
	return fmt.Sprintf("remove it there (ip addr del %s dev %s)", a.Prefix, i.Name)
}

// Obstacles returns what keeps a router from taking part on this host: its addresses are already
// on the host, or, if the host is their owner, are missing.
func Obstacles(r config.Router, h HostFacts) (all []Finding) {
	add := func(code, key string, item int, text, remedy string) {
		all = append(all, Finding{code, key, item, text, remedy})
	}
	i, there := h.find(r.Interface)
	owner := r.OwnsAddresses()
	for n, p := range r.Addresses {
		a := p.Addr()
		if name := r.Interfaces[a]; name != "" {
			if other, found, ok := h.occupied(a, name); ok {
				add(AddressElsewhere, "addresses", n, fmt.Sprintf("virtual address %s is already on interface %s", a, other.Name), removeFrom(other, found))
			}
			continue
		}
		before := len(all)
		h.elsewhere(a, i.Index, func(other link.Interface, found link.Address) {
			if a.IsLinkLocalUnicast() || other.Silent() && h.Fenced || len(all) > before {
				return
			}
			otherwise := "or run the router on " + other.Name
			if other.Silent() {
				otherwise = "or make the fence work on " + r.Interface + ", without which " + r.Interface + " answers for the address"
			}
			add(AddressElsewhere, "addresses", n, fmt.Sprintf("virtual address %s is already on interface %s", a, other.Name),
				fmt.Sprintf("remove it there (ip addr del %s dev %s), %s", found.Prefix, other.Name, otherwise))
		})
		if !there || len(all) > before {
			continue
		}
		switch found, here := h.notOurs(i, a); {
		case here && !owner:
			own := "use priority 255"
			if r.AddAddresses {
				own = "remove add_addresses"
			}
			add(AddressHere, "addresses", n, fmt.Sprintf("virtual address %s is already on %s", a, r.Interface),
				fmt.Sprintf("if this host owns it, %s, otherwise remove it: ip addr del %s dev %s", own, found.Prefix, r.Interface))
		case !here && owner:
			add(OwnerWithout, "addresses", n, fmt.Sprintf("priority 255 is for the owner of the address, but %s is not on %s", a, r.Interface),
				"add it there, or set add_addresses: true, or use a priority of 254 or less")
		}
	}
	for n, e := range r.Extra {
		a := e.Address.Addr()
		if other, found, ok := h.occupied(a, e.Interface); ok {
			add(ExtraElsewhere, "extra_addresses", n, fmt.Sprintf("extra address %s is already on interface %s", a, other.Name), removeFrom(other, found))
		}
	}
	return all
}

// Warnings returns what may work, but not as the administrator may expect. The addresses to
// exclude are virtual addresses, which don't count for the interface's networks.
func Warnings(r config.Router, h HostFacts, exclude link.AddressSet) (all []Finding) {
	add := func(code, key string, item int, text, remedy string) {
		all = append(all, Finding{code, key, item, text, remedy})
	}
	i, there := h.find(r.Interface)
	if !there {
		return nil
	}
	if m, port := link.MasterOf(i, h.Interfaces); port && m.Kind == link.KindBridge {
		add(BridgePort, "interface", 0, fmt.Sprintf("%s is a port of the bridge %s, which takes the packets to the virtual addresses", i.Name, m.Name), "run the router on "+m.Name)
	}
	for n, p := range r.Unicast.Peers {
		for _, i := range h.Interfaces {
			if _, ok := i.Find(p.Address); ok && (!p.Address.IsLinkLocalUnicast() || i.Name == r.Interface) {
				add(PeerIsHost, "unicast", 1+n, fmt.Sprintf("peer %s is this host's own address, on %s", p.Address, i.Name), "it has no effect, so the hosts can share one file; otherwise remove it")
				break
			}
		}
	}
	for n, p := range r.Addresses {
		a := p.Addr()
		if a.IsLinkLocalUnicast() || r.Interfaces[a] != "" {
			continue
		}
		h.elsewhere(a, i.Index, func(other link.Interface, found link.Address) {
			if other.Silent() && h.Fenced {
				add(AddressSilent, "addresses", n, fmt.Sprintf("virtual address %s is also on %s, so this host sends its own packets to the address to itself even while it is Backup", a, other.Name),
					fmt.Sprintf("if no load balancer or kube-proxy needs this, ip addr del %s dev %s", found.Prefix, other.Name))
			}
		})
		networks := networks(i, a, exclude)
		within := slices.IndexFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) })
		switch {
		case r.OwnsAddresses() || len(networks) == 0:
		case within < 0:
			add(OutsideNetwork, "addresses", n, fmt.Sprintf("virtual address %s is in none of the networks of %s (%s)", p, i.Name, join(networks)), "if that is intended, other hosts need a route to it")
		case p.IsSingleIP():
			add(HostPrefix, "addresses", n, fmt.Sprintf("virtual address %s is in the network %s of %s, but its own prefix has only one address", p, networks[within], i.Name),
				fmt.Sprintf("use the prefix length of the network, %s/%d, unless that is intended", a, networks[within].Bits()))
		}
	}
	return all
}

// networks returns the networks of an interface that have the family of the address.
func networks(i link.Interface, of netip.Addr, exclude link.AddressSet) (all []netip.Prefix) {
	for _, own := range i.Addresses {
		a, network := own.Prefix.Addr(), own.Prefix.Masked()
		if a.Is4() == of.Is4() && !a.IsLinkLocalUnicast() && !own.Host && !own.Prefix.IsSingleIP() && !exclude[a] && !slices.Contains(all, network) {
			all = append(all, network)
		}
	}
	return all
}

func join(all []netip.Prefix) string {
	var words []string
	for _, p := range all {
		words = append(words, p.String())
	}
	return strings.Join(words, ", ")
}
