// SPDX-License-Identifier: Apache-2.0

// Package config reads configuration files and returns validated, typed values. It
// doesn't look at the host: package plan checks what depends on the host's interfaces and
// addresses.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Defaults of RFC 9568 §6.1, and of keepalived where the RFC has none.
const (
	DefaultVRID     = 51
	DefaultPriority = 100
	DefaultInterval = time.Second
	DefaultVersion  = 3
	DefaultRepeat   = 5 * time.Second
	// DefaultAnnouncements is keepalived's default. A single announcement may get lost.
	DefaultAnnouncements = 5
	DefaultDownAfter     = 3
)

// OwnerPriority is the priority of the router that owns the virtual addresses
// (RFC 9568 §5.2.4).
const OwnerPriority = 255

// Drop is the value of Router.Unchanged with which the kernel's program drops unchanged
// advertisements.
const Drop = "drop"

// Router is one configured router. With addresses of both families it is two
// Virtual Routers on the wire (RFC 9568 §1.2).
type Router struct {
	Name      string
	Interface string
	VRID      int           // 1 to 255
	Version   int           // 2 or 3
	Priority  int           // 1 to 254, 255 for the owner of the addresses
	Interval  time.Duration // version 3: 10ms to 40.95s, version 2: whole seconds to 255s
	// AddAddresses makes failoverd add the addresses of a router of priority 255 while it is
	// Active, as it does for all others. Without it the host has them already. It has no effect
	// with other priorities.
	AddAddresses bool
	// MaxInterval limits the Active_Adver_Interval that a Backup learns. It is at least
	// Interval, and with Dual at least a second. 0 is no limit.
	MaxInterval time.Duration
	Preempt     bool
	// PreemptDelay is how long a Backup tolerates an Active of lower priority before it
	// preempts, up to 1000s.
	PreemptDelay time.Duration
	// WithoutCarrier lets the router take part while its interface has no carrier.
	WithoutCarrier bool
	// FamiliesTogether keeps the two Virtual Routers of a router with addresses of both
	// families in the same state.
	FamiliesTogether bool
	// Group is the name of the router's group, empty for none.
	Group string
	// DownAfter is the number of missing advertisements after which a Backup takes over,
	// 2 to 100.
	DownAfter int
	// Addresses are the virtual addresses. A router without any advertises an empty list.
	Addresses []netip.Prefix
	// Interfaces are the interfaces of the virtual addresses that aren't on the router's own
	// one, by address; nil for none.
	Interfaces map[netip.Addr]string
	// Labels are the labels of IPv4 addresses, virtual and extra ones; nil for none. The key has
	// no interface if the address is on the router's own one.
	Labels map[routing.Placed]string
	// AsWritten sends and accepts an IPv6 list that doesn't begin with a link-local address.
	AsWritten bool
	Checksum  vrrp.ChecksumPolicy // version 3 over IPv4
	Dual      bool                // version 2 beside version 3 over IPv4 (RFC 9568 §8.4)
	Tolerate  Tolerance
	// VirtualMAC says whether the addresses are at the virtual MAC (RFC 9568
	// §7.3), and how.
	VirtualMAC VirtualMAC
	// Accept is Accept_Mode: whether a host that isn't the owner accepts
	// packets to the addresses. An owner always does.
	Accept bool
	// Repeat is the time from a takeover to the second announcement of the addresses; 0 for
	// none.
	Repeat time.Duration
	// Announcements is the number of announcements in a row, 1 to 100. Refresh is the time
	// between further announcements while the router is Active, 1s to 24h; 0 for none.
	Announcements  int
	Refresh        time.Duration
	Unicast        Unicast
	Authentication Authentication
	// XDPMode is the mode in which package datapath receives on the interface.
	XDPMode string
	// Unchanged is what the kernel's program does with advertisements that change nothing
	// for a Backup: pass or Drop.
	Unchanged string
	Hooks     Hooks
	Extra     []routing.Placed
	Routes    []routing.Route
	Rules     []routing.Rule
	// Track lists the checks that the router depends on.
	Track []Use
}

// VirtualMAC says how the addresses are at the virtual MAC.
type VirtualMAC string

// The values of VirtualMAC.
const (
	VirtualMACAuto    VirtualMAC = "auto"    // bpf if the TC programs can be attached, else macvlan; off with unicast, and on an interface that receives for its own MAC only
	VirtualMACBPF     VirtualMAC = "bpf"     // by the TC programs
	VirtualMACMacvlan VirtualMAC = "macvlan" // on a macvlan device
	VirtualMACOff     VirtualMAC = "off"     // the addresses are at the interface's own MAC
)

// ParseVirtualMAC parses a value of virtual_mac.
func ParseVirtualMAC(s string) (VirtualMAC, error) {
	m := VirtualMAC(s)
	if slices.Contains([]VirtualMAC{VirtualMACAuto, VirtualMACBPF, VirtualMACMacvlan, VirtualMACOff}, m) {
		return m, nil
	}
	return "", fmt.Errorf("%q is not known: it is auto, bpf, macvlan or off", s)
}

// Tolerance is what is accepted from peers although the RFCs refuse it.
type Tolerance struct {
	packet.Tolerance
	// AddressList accepts version 2 advertisements of other addresses (RFC
	// 3768 §7.1). Version 3 only logs the difference.
	AddressList bool
}

// ParseChecksum parses a value of checksum.
func ParseChecksum(s string) (vrrp.ChecksumPolicy, error) {
	for _, p := range []vrrp.ChecksumPolicy{vrrp.ChecksumAuto, vrrp.ChecksumOnlyRFC9568, vrrp.ChecksumOnlyRFC5798} {
		if s == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("checksum %q is not known: it is auto, rfc9568 or rfc5798", s)
}

func (t Tolerance) names() []string {
	names := []string{}
	for i, tolerated := range []bool{t.TrailingOctets, t.AnyFirstAddress, t.AddressList} {
		if tolerated {
			names = append(names, tolerances[i])
		}
	}
	return names
}

// ParseTolerance parses the values of tolerate.
func ParseTolerance(names []string) (Tolerance, error) {
	var t Tolerance
	for _, name := range names {
		switch name {
		case "trailing-octets":
			t.TrailingOctets = true
		case "first-address":
			t.AnyFirstAddress = true
		case "address-list":
			t.AddressList = true
		default:
			return t, fmt.Errorf("tolerate: %q is not known: it is trailing-octets, first-address or address-list", name)
		}
	}
	return t, nil
}

// ParseAddress parses a virtual address. Without a prefix length it is /32 or /128.
func ParseAddress(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("virtual address %q: remove the zone, because the interface is known", s)
		}
		a = a.Unmap()
		return checkAddress(s, netip.PrefixFrom(a, a.BitLen()))
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("virtual address %q is not an address: write it like 192.0.2.10/24 or 2001:db8::10/64", s)
	}
	return checkAddress(s, p)
}

func checkAddress(s string, p netip.Prefix) (netip.Prefix, error) {
	a := p.Addr()
	switch {
	case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback(), a.Is4In6():
		return netip.Prefix{}, fmt.Errorf("virtual address %q can't be a host's address: use a unicast address of the network, like 192.0.2.10/24", s)
	case p.Bits() < a.BitLen()-1 && a == p.Masked().Addr():
		return netip.Prefix{}, fmt.Errorf("virtual address %q is the network itself: give the address of a host in it", s)
	case a.Is4() && (a.As4()[0] == 0 || a.As4()[0] == 255 || p.Bits() < 31 && a == last(p)):
		return netip.Prefix{}, fmt.Errorf("virtual address %q is a broadcast address: give the address of a host", s)
	case p.Bits() == 0:
		return netip.Prefix{}, fmt.Errorf("virtual address %q: a prefix length of 0 covers every address: use that of the interface's network", s)
	}
	return p, nil
}

// last returns the last address of an IPv4 network.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// Validate checks what can be checked without the host. The error joins all problems.
func (r Router) Validate() error {
	var errs []error
	for _, p := range r.Problems() {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// maxProblems limits the problems that are returned for one list of a router.
const maxProblems = 100

// OwnsAddresses reports whether the virtual addresses are the host's own. They are on the
// interface already then, and failoverd doesn't change them.
func (r Router) OwnsAddresses() bool { return r.Priority == OwnerPriority && !r.AddAddresses }

// Accepts reports whether the host accepts packets to the virtual addresses while it is Active
// (RFC 9568 §6.1, Accept_Mode). An owner always does.
func (r Router) Accepts() bool { return r.Accept || r.Priority == OwnerPriority }

// Problems returns the problems that Validate joins, each with its key.
func (r Router) Problems() (all []Problem) {
	add := func(key, format string, args ...any) {
		all = append(all, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
	}

	if r.VRID < 1 || r.VRID > 255 {
		add("vrid", "VRID %d is out of range: it is 1 to 255, the same on all routers that share the address", r.VRID)
	}
	if r.Priority < 1 || r.Priority > OwnerPriority {
		add("priority", "priority %d is out of range: it is 1 to 254, or 255 on the host that owns the address", r.Priority)
	}
	if r.OwnsAddresses() && r.VirtualMAC == VirtualMACMacvlan {
		add("virtual_mac", "the addresses of their owner (priority 255) are on the interface itself, not on a macvlan: use virtual MAC mode bpf")
	}
	switch r.Version {
	case 3:
		if r.Interval < 10*time.Millisecond || r.Interval > 40950*time.Millisecond {
			add("interval", "interval %v is out of range for version 3: it is 10ms to 40.95s", r.Interval)
		} else if r.Interval%(10*time.Millisecond) != 0 {
			add("interval", "interval %v can't be sent in version 3, which counts centiseconds: make it a multiple of 10ms", r.Interval)
		}
	case 2:
		if r.Interval < time.Second || r.Interval > 255*time.Second || r.Interval%time.Second != 0 {
			add("interval", "interval %v can't be sent in version 2, which counts seconds, 1s to 255s: use version 3 for less", r.Interval)
		}
	default:
		add("version", "version %d is not known: it is 3 (RFC 9568) or 2 (RFC 3768)", r.Version)
	}
	if r.MaxInterval != 0 {
		protocol := r.Protocol(packet.IPv4)
		switch {
		case r.MaxInterval < r.Interval:
			add("max_interval", "max_interval %v is less than the router's own interval of %v: set it to at least the longest interval of all hosts of the VRID, or remove it for no limit", r.MaxInterval, r.Interval)
		case r.Dual && r.MaxInterval < protocol.Version2Interval():
			add("max_interval", "max_interval %v is less than the %v that version 2 sends for an interval of %v: set it to at least that, or remove it for no limit", r.MaxInterval, protocol.Version2Interval(), r.Interval)
		}
	}
	if r.Version == 2 && r.Checksum != vrrp.ChecksumAuto {
		add("checksum", "checksum %v: version 2 has only one form, so remove the key", r.Checksum)
	}
	if r.Dual && r.Version != 3 {
		add("dual", "dual sends version 2 beside version 3: use version 3")
	}
	if r.Dual && r.Version == 3 && !r.Has(packet.IPv4) {
		add("dual", "version 2 has no IPv6: dual mode needs an IPv4 address")
	}
	if r.Repeat < 0 || r.Repeat > time.Hour {
		add("announce_again", "announce_again %v is out of range: it is up to 1h, or 0s for no second announcement", r.Repeat)
	}
	if r.Announcements < 1 || r.Announcements > 100 {
		add("announce_count", "announce_count %d is out of range: it is 1 to 100", r.Announcements)
	}
	if r.Refresh < 0 || r.Refresh > 24*time.Hour || r.Refresh > 0 && r.Refresh < time.Second {
		add("announce_refresh", "announce_refresh %v is out of range: it is 1s to 24h, or 0s to turn it off", r.Refresh)
	}
	if r.DownAfter < vrrp.MinDownAfter || r.DownAfter > vrrp.MaxDownAfter {
		add("down_after", "down_after %d is out of range: it is %d to %d, the same on all hosts; the RFC has 3", r.DownAfter, vrrp.MinDownAfter, vrrp.MaxDownAfter)
	}
	switch {
	case r.PreemptDelay < 0 || r.PreemptDelay > maxDelay:
		add("preempt_delay", "preempt_delay %v is out of range: it is up to 1000s", r.PreemptDelay)
	case r.PreemptDelay > 0 && !r.Preempt:
		add("preempt_delay", "preempt_delay has no effect with preempt: false: remove it")
	case r.PreemptDelay > 0 && r.Priority == OwnerPriority:
		add("preempt_delay", "the owner of the addresses (priority 255) is Active at once (RFC 9568 6.4.1): remove preempt_delay")
	}
	if r.Version == 2 && len(r.Addresses) == 0 && r.Has(packet.IPv6) {
		add("version", "the router has no address and IPv6 peers, so it advertises over IPv6, which version 2 doesn't have: use version 3")
	}
	twice := repeated(r.Addresses, netip.Prefix.Addr)
	for i, p := range r.Addresses {
		if len(all) > maxProblems {
			break
		}
		if r.Version == 2 && p.Addr().Is6() {
			all = append(all, Problem{Key: "addresses", Item: i, Text: fmt.Sprintf("virtual address %s is IPv6, which version 2 doesn't have: use version 3", p)})
		}
		if twice[i] {
			all = append(all, Problem{Key: "addresses", Item: i, Text: fmt.Sprintf("virtual address %s is given twice", p.Addr())})
		}
	}
	if r.Authentication.On() {
		all = append(all, r.authenticationProblems()...)
	}
	if r.Unicast.On() {
		all = append(all, r.unicastProblems()...)
	}
	all = append(all, r.routingProblems()...)
	all = append(all, r.interfaceProblems()...)
	all = append(all, r.extraProblems()...)
	all = append(all, r.labelProblems()...)
	for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
		limit := packet.MaxAddressesIPv4
		if f == packet.IPv6 {
			limit = packet.MaxAddressesIPv6
		}
		n := len(r.OfFamily(f))
		if _, added := r.WithLinkLocal(); added && f == packet.IPv6 {
			limit-- // it takes a place too
		}
		if n > limit {
			add("addresses", "%d %s addresses don't fit one advertisement: the limit is %d; use another VRID for the rest", n, f, limit)
		}
	}
	return all
}

// repeated returns the indexes of the values whose key an earlier value has.
func repeated[T any, K comparable](list []T, key func(T) K) map[int]bool {
	seen, all := make(map[K]bool, len(list)), make(map[int]bool)
	for i, v := range list {
		if seen[key(v)] {
			all[i] = true
		}
		seen[key(v)] = true
	}
	return all
}

// virtual returns the set of the router's virtual addresses.
func (r Router) virtual() map[netip.Addr]bool {
	all := make(map[netip.Addr]bool, len(r.Addresses))
	for _, p := range r.Addresses {
		all[p.Addr()] = true
	}
	return all
}

// Difference returns a line for each key that differs between two routers.
func Difference(a, b Router) []string {
	var all differences
	all.add("name", a.Name, b.Name)
	all.add("addresses", a.placed(), b.placed())
	all.add(extraName, a.extra(), b.extra())
	all.add("ipv6_list", a.ipv6List(), b.ipv6List())
	all.add("priority", a.Priority, b.Priority)
	all.add("add_addresses", a.AddAddresses, b.AddAddresses)
	all.add("interval", a.Interval, b.Interval)
	all.add("max_interval", a.MaxInterval, b.MaxInterval)
	all.add("version", a.Version, b.Version)
	all.add("preempt", a.Preempt, b.Preempt)
	all.add("preempt_delay", a.PreemptDelay, b.PreemptDelay)
	all.add("down_after", a.DownAfter, b.DownAfter)
	all.add("without_carrier", a.WithoutCarrier, b.WithoutCarrier)
	all.add("families_together", a.FamiliesTogether, b.FamiliesTogether)
	all.add("group", a.Group, b.Group)
	all.add("accept", a.Accept, b.Accept)
	all.add("virtual_mac", a.VirtualMAC, b.VirtualMAC)
	all.add("announce_again", a.Repeat, b.Repeat)
	all.add("announce_count", a.Announcements, b.Announcements)
	all.add("announce_refresh", a.Refresh, b.Refresh)
	all.add("checksum", a.Checksum, b.Checksum)
	all.add("dual", a.Dual, b.Dual)
	all.add("tolerate", a.Tolerate.names(), b.Tolerate.names())
	all.add("unicast", a.Unicast, b.Unicast)
	all.add("authentication", a.Authentication, b.Authentication)
	all.add("routes", a.Routes, b.Routes)
	all.add("rules", a.Rules, b.Rules)
	all.add("xdp_mode", a.XDPMode, b.XDPMode)
	all.add("unchanged", a.Unchanged, b.Unchanged)
	all.addHooks(&a.Hooks, &b.Hooks)
	all.add("track", a.Track, b.Track)
	return all
}

func (r Router) ipv6List() string {
	if r.AsWritten {
		return ipv6Lists[1]
	}
	return ipv6Lists[0]
}

// OfFamily returns the addresses of one family in their order on the wire: an
// IPv6 router's link-local address first (RFC 9568 §5.2.9), unless the list is sent as
// written.
func (r Router) OfFamily(f packet.Family) []netip.Prefix {
	var first, rest []netip.Prefix
	for _, p := range r.Addresses {
		switch {
		case packet.FamilyOf(p.Addr()) != f:
		case p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() && !r.AsWritten:
			first = append(first, p)
		default:
			rest = append(rest, p)
		}
	}
	return append(first, rest...)
}

// Has reports whether the router is a Virtual Router of one family: whether it has virtual
// addresses of that family. A router without virtual addresses has the family of its peers, and
// IPv4 without peers.
func (r Router) Has(f packet.Family) bool {
	if len(r.Addresses) == 0 {
		return f == r.Unicast.family()
	}
	return slices.ContainsFunc(r.Addresses, func(p netip.Prefix) bool { return packet.FamilyOf(p.Addr()) == f })
}

// WithLinkLocal returns r with the link-local address that RFC 9568 §5.2.9 requires as
// the first one of an IPv6 router, and whether it was added. It adds none to a list that is
// sent as written. The address depends only on
// the VRID, so all hosts add the same one.
func (r Router) WithLinkLocal() (Router, bool) {
	addresses := r.OfFamily(packet.IPv6)
	if r.AsWritten || len(addresses) == 0 || addresses[0].Addr().IsLinkLocalUnicast() {
		return r, false
	}
	var b [16]byte
	b[0], b[1] = 0xfe, 0x80
	b[13] = 0x12 // after ff02::12, the group of VRRP
	b[15] = uint8(r.VRID)
	r.Addresses = append(slices.Clone(r.Addresses), netip.PrefixFrom(netip.AddrFrom16(b), 64))
	return r, true
}

// Protocol returns the state machine's configuration for one family.
func (r Router) Protocol(f packet.Family) vrrp.Config {
	var addresses []netip.Addr
	for _, p := range r.OfFamily(f) {
		addresses = append(addresses, p.Addr())
	}
	return vrrp.Config{
		Version:   uint8(r.Version),
		VRID:      uint8(r.VRID),
		Family:    f,
		Priority:  uint8(r.Priority),
		Interval:  r.Interval,
		Preempt:   r.Preempt,
		Addresses: addresses,
		Checksum:  r.Checksum,
		Dual:      r.Dual && f == packet.IPv4,
		AuthType:  r.Authentication.Type.Number(),

		AddAddresses:  r.AddAddresses,
		MaxInterval:   r.MaxInterval,
		PreemptDelay:  r.PreemptDelay,
		DownAfter:     r.DownAfter,
		Announcements: r.Announcements,
		Repeat:        r.Repeat,
		Refresh:       r.Refresh,

		IgnoreAddressList: r.Tolerate.AddressList,
		AnyFirstAddress:   r.AsWritten,
	}
}
