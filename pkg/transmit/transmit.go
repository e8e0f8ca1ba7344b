// SPDX-License-Identifier: Apache-2.0

// Package transmit sends whole Ethernet frames on an interface and keeps the
// interface a member of the VRRP groups. It knows nothing of what it sends.
package transmit

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
)

const (
	priorityControl = 7 // TC_PRIO_CONTROL
	sendBuffer      = 4 << 20
)

// message is struct mmsghdr of sendmmsg(2).
type message struct {
	header unix.Msghdr
	sent   uint32
	_      [4]byte
}

// Conn sends frames on one interface. It is not safe for concurrent use, but
// Join and Close may be called by another goroutine than Queue and Flush as
// long as Close comes last.
type Conn struct {
	fd       int
	ifindex  int
	groups   map[packet.Family]int
	frames   [][]byte
	vectors  []unix.Iovec
	messages []message
}

// Open opens a packet socket that sends on the interface and receives nothing.
func Open(ifindex int) (*Conn, error) {
	// Protocol 0 receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	// Ahead of bulk traffic in the queue, as the network's own control traffic
	// is, with room for a burst.
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, priorityControl),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("packet socket: %w", err), unix.Close(fd))
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind packet socket to interface %d: %w", ifindex, err), unix.Close(fd))
	}
	return &Conn{fd: fd, ifindex: ifindex}, nil
}

// Join makes the interface a member of the family's VRRP group until Close, so
// that switches which snoop IGMP or MLD deliver the advertisements.
func (c *Conn) Join(f packet.Family) error {
	if _, joined := c.groups[f]; joined {
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
	group := f.Group()
	if f == packet.IPv6 {
		err = unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
			&unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(c.ifindex)})
	} else {
		err = unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP,
			&unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(c.ifindex)})
	}
	if err != nil {
		return errors.Join(fmt.Errorf("join %s on interface %d: %w", group, c.ifindex, err), unix.Close(fd))
	}
	if c.groups == nil {
		c.groups = make(map[packet.Family]int)
	}
	c.groups[f] = fd
	return nil
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

// Queue adds a frame to what the next Flush sends. The frame is not copied: it
// must stay as it is until then.
func (c *Conn) Queue(frame []byte) {
	if len(frame) > 0 {
		c.frames = append(c.frames, frame)
	}
}

// Flush sends what is queued, all of it in one system call if the kernel takes
// it, and never waits. It returns the number of frames sent, and the first
// error; frames that could not be sent are dropped, for an advertisement that
// is late is worth less than the next one.
func (c *Conn) Flush() (sent int, err error) {
	c.prepare()
	for at := 0; at < len(c.messages); {
		n, errno := c.send(c.messages[at:])
		switch errno {
		case 0:
			sent += n
			at += n
		case unix.EINTR:
		case unix.EMSGSIZE, unix.EINVAL, unix.ENOBUFS:
			err = errors.Join(err, fmt.Errorf("frame of %d octets: %w", len(c.frames[at]), errno))
			at++ // this one can't be sent, the others may
		default:
			err = errors.Join(err, fmt.Errorf("%d frames dropped: %w", len(c.messages)-at, errno))
			at = len(c.messages)
		}
	}
	clear(c.frames)
	c.frames = c.frames[:0]
	return sent, err
}

func (c *Conn) prepare() {
	n := len(c.frames)
	if cap(c.messages) < n {
		c.messages, c.vectors = make([]message, n, 2*n), make([]unix.Iovec, n, 2*n)
	}
	c.messages, c.vectors = c.messages[:n], c.vectors[:n]
	for i, frame := range c.frames {
		c.vectors[i].Base = &frame[0]
		c.vectors[i].SetLen(len(frame))
		c.messages[i] = message{header: unix.Msghdr{Iov: &c.vectors[i]}}
		c.messages[i].header.SetIovlen(1)
	}
}

func (c *Conn) send(m []message) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(c.fd),
		uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), unix.MSG_DONTWAIT, 0, 0)
	runtime.KeepAlive(c)
	return int(n), errno
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
