// SPDX-License-Identifier: Apache-2.0

// Package transmit sends complete Ethernet frames and IP datagrams on an interface, and keeps
// the interface a member of the VRRP groups. It knows nothing about the content that it sends.
package transmit

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
)

// Conn sends frames on one interface. It is not safe for concurrent use, with one exception:
// one goroutine may call Queue and Flush while another calls the other methods, if Close comes
// last.
type Conn struct {
	queue
	ifindex int
	groups  map[packet.Family]int
}

// Open opens a packet socket that sends on the interface and receives nothing.
func Open(ifindex int) (*Conn, error) {
	// Protocol 0 receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	if err := prioritize(fd); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the packet socket: %w", err), unix.Close(fd))
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind the packet socket to interface %d: %w", ifindex, err), unix.Close(fd))
	}
	return &Conn{queue: queue{fd: fd}, ifindex: ifindex}, nil
}

// Send sends frames on an interface through a temporary Conn. The error joins those of all
// frames that could not be sent.
func Send(ifindex int, frames ...[]byte) (err error) {
	c, err := Open(ifindex)
	if err != nil {
		return err
	}
	for _, frame := range frames {
		c.Queue(frame)
	}
	c.Flush(func(_ int, unsent error) { err = errors.Join(err, unsent) })
	return errors.Join(err, c.Close())
}

// Join makes the interface a member of the family's VRRP group until Close. Switches that snoop
// IGMP or MLD then deliver the advertisements.
func (c *Conn) Join(f packet.Family) error {
	if c.Wants(f) {
		return nil
	}
	domain := unix.AF_INET
	if f == packet.IPv6 {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open a socket to join the %s group: %w", f, err)
	}
	if err := c.setMembership(fd, f, true); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	if c.groups == nil {
		c.groups = make(map[packet.Family]int)
	}
	c.groups[f] = fd
	return nil
}

// Rejoin joins the group again for an interface that has lost its membership, which Members
// shows. The kernel ends a membership for good when the MTU is too small for the family, even
// for a moment. After an error the caller may try again.
func (c *Conn) Rejoin(f packet.Family) error {
	fd, wanted := c.groups[f]
	if !wanted {
		return c.Join(f)
	}
	// The socket still counts as a member, so it must leave the group first.
	if err := c.setMembership(fd, f, false); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return c.setMembership(fd, f, true)
}

// setMembership makes a socket join or leave the group.
func (c *Conn) setMembership(fd int, f packet.Family, join bool) (err error) {
	group, verb := f.Group(), "leave"
	if join {
		verb = "join"
	}
	if f == packet.IPv6 {
		option := unix.IPV6_LEAVE_GROUP
		if join {
			option = unix.IPV6_JOIN_GROUP
		}
		err = unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, option, &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(c.ifindex)})
	} else {
		option := unix.IP_DROP_MEMBERSHIP
		if join {
			option = unix.IP_ADD_MEMBERSHIP
		}
		err = unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, option, &unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(c.ifindex)})
	}
	if err != nil {
		return fmt.Errorf("%s %s on interface %d: %w", verb, group, c.ifindex, err)
	}
	return nil
}

// Wants reports whether Join was called for the family's group.
func (c *Conn) Wants(f packet.Family) bool {
	_, wants := c.groups[f]
	return wants
}

// Accept makes the NIC receive frames to an additional unicast MAC until Reject or Close. If
// the filter of the NIC is full, the kernel makes the NIC promiscuous.
func (c *Conn) Accept(mac packet.MAC) error {
	if err := c.filter(unix.PACKET_ADD_MEMBERSHIP, mac); err != nil {
		return fmt.Errorf("receive frames to %s on interface %d: %w", mac, c.ifindex, err)
	}
	return nil
}

// Reject ends what Accept began.
func (c *Conn) Reject(mac packet.MAC) error {
	if err := c.filter(unix.PACKET_DROP_MEMBERSHIP, mac); err != nil {
		return fmt.Errorf("stop receiving frames to %s on interface %d: %w", mac, c.ifindex, err)
	}
	return nil
}

func (c *Conn) filter(change int, mac packet.MAC) error {
	m := unix.PacketMreq{Ifindex: int32(c.ifindex), Type: unix.PACKET_MR_UNICAST, Alen: uint16(len(mac))}
	copy(m.Address[:], mac[:])
	return unix.SetsockoptPacketMreq(c.fd, unix.SOL_PACKET, change, &m)
}

// Close leaves the groups and closes the sockets.
func (c *Conn) Close() error {
	err := unix.Close(c.fd)
	for _, fd := range c.groups {
		err = errors.Join(err, unix.Close(fd))
	}
	c.groups = nil
	return err
}
