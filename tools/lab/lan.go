// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LAN is a switch.
type LAN struct {
	lab    *Lab
	node   *Node
	bridge netlink.Link

	mu    sync.Mutex
	ports []*Port
	taken int // number of ports ever made
}

// Port is where a host is plugged into a LAN.
type Port struct {
	Node *Node
	Name string // of the host's interface
	lan  *LAN
	near netlink.Link // the switch's end of the cable
}

// LAN adds a switch, which is a bridge in a node of its own.
func (l *Lab) LAN(name string) (*LAN, error) {
	n, err := l.Node(name)
	if err != nil {
		return nil, err
	}
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "switch"}, MulticastSnooping: &snooping}
	if err := n.netlink.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("add bridge: %w", err)
	}
	// The switch itself sends nothing.
	if err := n.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"); err != nil {
		return nil, err
	}
	if err := n.Sysctl("net.ipv6.conf.switch.disable_ipv6", "1"); err != nil {
		return nil, err
	}
	if err := n.netlink.LinkSetUp(bridge); err != nil {
		return nil, fmt.Errorf("set bridge up: %w", err)
	}
	return &LAN{lab: l, node: n, bridge: bridge}, nil
}

// Host adds a host with Lab.Host and connects it.
func (lan *LAN) Host(name, ifname string, addresses ...string) (*Port, error) {
	n, err := lan.lab.Host(name)
	if err != nil {
		return nil, err
	}
	return lan.Connect(n, ifname, addresses...)
}

// Addresses returns the usual addresses of host number 1 to 254: one of IPv4, a link-local one
// of IPv6 and a global one of IPv6.
func Addresses(number int) []string {
	return []string{
		fmt.Sprintf("198.18.0.%d/24", number),
		fmt.Sprintf("fe80::%x/64", number),
		fmt.Sprintf("2001:db8::%x/64", number),
	}
}

// Connect connects a node to the switch. The node gets an Ethernet interface of the given name
// with the given addresses, like 198.18.0.1/24.
func (lan *LAN) Connect(n *Node, name string, addresses ...string) (*Port, error) {
	p := &Port{Node: n, Name: name, lan: lan}
	fail := func(err error) (*Port, error) {
		return nil, fmt.Errorf("connect %s of %s: %w", name, n.Name, err)
	}
	var peer int
	if err := n.Do(func() (err error) {
		peer, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	}); err != nil {
		return fail(err)
	}
	defer func() { _ = unix.Close(peer) }()
	lan.mu.Lock()
	lan.taken++
	near := fmt.Sprintf("port%d", lan.taken)
	lan.mu.Unlock()
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: near, MasterIndex: lan.bridge.Attrs().Index},
		PeerName:      name,
		PeerNamespace: netlink.NsFd(peer),
	}
	if err := lan.node.netlink.LinkAdd(veth); err != nil {
		return fail(err)
	}
	var err error
	if p.near, err = lan.node.netlink.LinkByName(near); err != nil {
		return fail(err)
	}
	lan.mu.Lock()
	lan.ports = append(lan.ports, p)
	lan.mu.Unlock()
	if err := p.Plug(); err != nil {
		return fail(err)
	}
	if err := n.SetUp(name); err != nil {
		return fail(err)
	}
	for _, a := range addresses {
		if err := n.AddAddress(name, a); err != nil {
			return fail(err)
		}
	}
	return p, nil
}

// Cable connects two nodes directly, without a switch. Each gets an Ethernet
// interface of the given name with its addresses.
func Cable(a, b *Node, name string, addressesA, addressesB []string) error {
	var far int
	if err := b.Do(func() (err error) {
		far, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	}); err != nil {
		return err
	}
	defer func() { _ = unix.Close(far) }()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsFd(far)}
	if err := a.netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("connect %s and %s: %w", a.Name, b.Name, err)
	}
	for node, addresses := range map[*Node][]string{a: addressesA, b: addressesB} {
		if err := node.SetUp(name); err != nil {
			return err
		}
		for _, address := range addresses {
			if err := node.AddAddress(name, address); err != nil {
				return err
			}
		}
	}
	return nil
}

// Pull removes the carrier of the host's interface, as if its cable were pulled or its switch
// port were dead.
func (p *Port) Pull() error { return p.lan.node.netlink.LinkSetDown(p.near) }

// Plug restores the carrier.
func (p *Port) Plug() error { return p.lan.node.netlink.LinkSetUp(p.near) }

// Isolate turns the isolation of the port on or off. Hosts on isolated ports hear all hosts
// except those on other isolated ports.
func (p *Port) Isolate(apart bool) error {
	return p.lan.node.netlink.LinkSetIsolated(p.near, apart)
}

// Disconnect removes the port, and with it the host's interface.
func (p *Port) Disconnect() error { return p.lan.node.netlink.LinkDel(p.near) }

// Deliver sends frames out of the port, to its host alone.
func (p *Port) Deliver(frames ...[]byte) error {
	return p.lan.node.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		for _, f := range frames {
			err = errors.Join(err, unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: p.near.Attrs().Index}))
		}
		return errors.Join(err, unix.Close(fd))
	})
}

func (n *Node) link(name string) (netlink.Link, error) {
	l, err := n.netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", name, n.Name, err)
	}
	return l, nil
}

// SetUp sets an interface up.
func (n *Node) SetUp(name string) error {
	l, err := n.link(name)
	if err != nil {
		return err
	}
	return n.netlink.LinkSetUp(l)
}

// SetDown sets an interface down.
func (n *Node) SetDown(name string) error {
	l, err := n.link(name)
	if err != nil {
		return err
	}
	return n.netlink.LinkSetDown(l)
}

// Rename renames an interface.
func (n *Node) Rename(name, to string) error {
	l, err := n.link(name)
	if err != nil {
		return err
	}
	return n.netlink.LinkSetName(l, to)
}

// AddAddress puts an address on an interface.
func (n *Node) AddAddress(name, address string) error {
	return n.change(name, address, n.netlink.AddrAdd)
}

// RemoveAddress removes an address from an interface.
func (n *Node) RemoveAddress(name, address string) error {
	return n.change(name, address, n.netlink.AddrDel)
}

func (n *Node) change(name, address string, f func(netlink.Link, *netlink.Addr) error) error {
	l, err := n.link(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	return f(l, a)
}

// Addresses returns the addresses of an interface, or of all interfaces if the name is empty.
// It returns nil if the interface doesn't exist.
func (n *Node) Addresses(name string) ([]netip.Prefix, error) {
	var l netlink.Link
	if name != "" {
		var err error
		if l, err = n.netlink.LinkByName(name); errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	list, err := n.netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	var all []netip.Prefix
	for _, a := range list {
		ip, _ := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		all = append(all, netip.PrefixFrom(ip.Unmap(), bits))
	}
	return all, nil
}

// MAC returns the hardware address of an interface.
func (n *Node) MAC(name string) (string, error) {
	l, err := n.link(name)
	if err != nil {
		return "", err
	}
	return l.Attrs().HardwareAddr.String(), nil
}
