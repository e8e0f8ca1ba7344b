// SPDX-License-Identifier: Apache-2.0

package transmit

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
)

// Datagrams sends complete IP datagrams of one family to hosts through one interface. The
// kernel finds the next hops by its routes and its neighbour table. If it has to resolve a
// neighbour first, Flush doesn't wait: the datagram leaves when the neighbour has answered.
// A Datagrams is not safe for concurrent use.
//
// Its socket also receives the host's VRRP packets and discards them. Without a receiver the
// kernel would answer each advertisement of a peer with an ICMP error.
type Datagrams struct {
	queue
	ifindex      int
	family       packet.Family
	destinations []destination
	unsent       func(n int, err error) // the argument of the current Flush
	report       func(n int, err error) // d.handleUnsent; made once, so that Flush doesn't allocate
}

// destination holds the destination address of a datagram, and its source address for
// routing rules that depend on it.
type destination struct {
	control [6]uint64             // an aligned buffer for the control message
	address unix.RawSockaddrInet6 // or a RawSockaddrInet4, which is shorter
}

// UnreachableError says that a destination can't be reached. Other destinations aren't
// affected.
type UnreachableError struct {
	To    netip.Addr
	Errno unix.Errno
}

func (e *UnreachableError) Error() string { return fmt.Sprintf("to %s: %v", e.To, e.Errno) }
func (e *UnreachableError) Unwrap() error { return e.Errno }

// Unreachable distinguishes the error from errors of this host.
func (e *UnreachableError) Unreachable() bool { return true }

// OpenDatagrams opens a raw socket of the family on the interface.
func OpenDatagrams(ifindex int, f packet.Family) (*Datagrams, error) {
	domain, level, included := unix.AF_INET, unix.SOL_IP, unix.IP_HDRINCL
	if f == packet.IPv6 {
		domain, level, included = unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_HDRINCL
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, packet.ProtocolVRRP)
	if err != nil {
		return nil, fmt.Errorf("open a raw %s socket: %w", f, err)
	}
	nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	err = errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, ifindex),
		unix.SetsockoptInt(fd, level, included, 1),
		prioritize(fd),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the raw %s socket for interface %d: %w", f, ifindex, err), unix.Close(fd))
	}
	d := &Datagrams{queue: queue{fd: fd}, ifindex: ifindex, family: f}
	d.report = d.handleUnsent
	return d, nil
}

// Flush is like Flush of a Conn. The error for a destination that can't be reached is an
// *UnreachableError.
func (d *Datagrams) Flush(unsent func(n int, err error)) (sent int) {
	d.prepare()
	n := len(d.frames)
	if cap(d.destinations) < n {
		d.destinations = make([]destination, n, 2*n)
	}
	d.destinations = d.destinations[:n]
	for i := range d.frames {
		d.address(i)
	}
	d.unsent = unsent
	sent = d.flush(d.report)
	d.unsent = nil
	d.reset()
	return sent
}

// handleUnsent passes the error of a datagram on to d.unsent.
func (d *Datagrams) handleUnsent(n int, err error) {
	for _, errno := range [...]unix.Errno{unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ECONNREFUSED} {
		if errors.Is(err, errno) {
			err = &UnreachableError{d.destination(n), errno}
			break
		}
	}
	d.unsent(n, err)
}

// destination returns the destination address of datagram n of the queue.
func (d *Datagrams) destination(n int) netip.Addr {
	if d.family == packet.IPv6 {
		return netip.AddrFrom16([16]byte(d.frames[n][24:]))
	}
	return netip.AddrFrom4([4]byte(d.frames[n][16:]))
}

// address copies the addresses from the header of datagram n to where sendmmsg expects them.
func (d *Datagrams) address(n int) {
	to, header, frame := &d.destinations[n], &d.messages[n].header, d.frames[n]
	header.Name = (*byte)(unsafe.Pointer(&to.address))
	header.Control = (*byte)(unsafe.Pointer(&to.control))
	control := (*unix.Cmsghdr)(unsafe.Pointer(&to.control))
	data := unsafe.Add(unsafe.Pointer(&to.control), unix.CmsgLen(0))
	if d.family == packet.IPv6 {
		to.address = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: [16]byte(frame[24:]), Scope_id: uint32(d.ifindex)}
		header.Namelen = unix.SizeofSockaddrInet6
		control.Level, control.Type = unix.SOL_IPV6, unix.IPV6_PKTINFO
		*(*unix.Inet6Pktinfo)(data) = unix.Inet6Pktinfo{Addr: [16]byte(frame[8:]), Ifindex: uint32(d.ifindex)}
		control.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
		header.SetControllen(unix.CmsgSpace(unix.SizeofInet6Pktinfo))
		return
	}
	*(*unix.RawSockaddrInet4)(unsafe.Pointer(&to.address)) = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: [4]byte(frame[16:])}
	header.Namelen = unix.SizeofSockaddrInet4
	control.Level, control.Type = unix.SOL_IP, unix.IP_PKTINFO
	*(*unix.Inet4Pktinfo)(data) = unix.Inet4Pktinfo{Ifindex: int32(d.ifindex), Spec_dst: [4]byte(frame[12:])}
	control.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
	header.SetControllen(unix.CmsgSpace(unix.SizeofInet4Pktinfo))
}

// Close closes the socket.
func (d *Datagrams) Close() error { return unix.Close(d.fd) }
