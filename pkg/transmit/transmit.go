// SPDX-License-Identifier: Apache-2.0

// Package transmit sends whole Ethernet frames and IP datagrams on an interface
// and keeps the interface a member of the VRRP groups. It knows nothing of what
// it sends.
package transmit

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
)

// Conn sends frames on one interface. It is not safe for concurrent use, but
// Join and Close may be called by another goroutine than Queue and Flush as
// long as Close comes last.
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
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	if err := prefer(fd); err != nil {
		return nil, errors.Join(fmt.Errorf("packet socket: %w", err), unix.Close(fd))
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind packet socket to interface %d: %w", ifindex, err), unix.Close(fd))
	}
	return &Conn{queue: queue{fd: fd}, ifindex: ifindex}, nil
}

// Send sends frames on an interface once. The error is about all that could not be sent.
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

// Join makes the interface a member of the family's VRRP group until Close, so
// that switches which snoop IGMP or MLD deliver the advertisements.
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
		return fmt.Errorf("%s socket: %w", f, err)
	}
	if err := c.member(fd, f, true); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	if c.groups == nil {
		c.groups = make(map[packet.Family]int)
	}
	c.groups[f] = fd
	return nil
}

// Rejoin joins the group anew for an interface that isn't among Members though Join
// was called: the kernel ends memberships for good when the MTU is too small for the
// family for a moment. It may be called again after an error.
func (c *Conn) Rejoin(f packet.Family) error {
	fd, wanted := c.groups[f]
	if !wanted {
		return c.Join(f)
	}
	// The socket has to leave what it takes for joined.
	if err := c.member(fd, f, false); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return c.member(fd, f, true)
}

// member has a socket join the group, or leave it.
func (c *Conn) member(fd int, f packet.Family, join bool) (err error) {
	group := f.Group()
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
		return fmt.Errorf("join %s on interface %d: %w", group, c.ifindex, err)
	}
	return nil
}

// Wants reports whether Join was called for the family's group.
func (c *Conn) Wants(f packet.Family) bool {
	_, wants := c.groups[f]
	return wants
}

// Accept has the NIC receive frames to a unicast address beside its own, until
// Close. A NIC that has no room for more becomes promiscuous.
func (c *Conn) Accept(mac packet.MAC) error {
	if err := c.filter(unix.PACKET_ADD_MEMBERSHIP, mac); err != nil {
		return fmt.Errorf("receive frames to %s on interface %d: %w", mac, c.ifindex, err)
	}
	return nil
}

// Reject ends what Accept began.
func (c *Conn) Reject(mac packet.MAC) error {
	if err := c.filter(unix.PACKET_DROP_MEMBERSHIP, mac); err != nil {
		return fmt.Errorf("no longer receive frames to %s on interface %d: %w", mac, c.ifindex, err)
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
