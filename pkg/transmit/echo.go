// SPDX-License-Identifier: Apache-2.0

package transmit

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ICMP types of RFC 792 and RFC 4443.
const (
	echoRequest4 = 8
	echoReply4   = 0
	echoRequest6 = 128
	echoReply6   = 129
)

const (
	icmpHeader  = 8 // octets: type, code, checksum, identifier, sequence number
	icmpFilter  = 1 // ICMP_FILTER of linux/icmp.h
	maxIPHeader = 60
	// payloadSize is enough to make a forged or an old reply unlikely.
	payloadSize = 16
)

// Echo is an echo request that was sent, with the socket for the reply.
type Echo struct {
	f       *os.File
	conn    syscall.RawConn
	target  netip.Addr
	raw     bool
	id, seq uint16 // the kernel sets and checks the id of a socket that isn't raw
	payload [payloadSize]byte
}

// SendEcho sends an echo request on an interface, or by the routes of the host if the name is
// empty. It opens the socket in the network namespace of the calling thread.
func SendEcho(target netip.Addr, ifname string) (*Echo, error) {
	e := &Echo{target: target}
	fd, err := e.open()
	if err != nil {
		return nil, err
	}
	e.f = os.NewFile(uintptr(fd), "icmp")
	if ifname != "" {
		if err := unix.BindToDevice(fd, ifname); errors.Is(err, unix.ENODEV) {
			e.Close()
			return nil, errors.New("there is no interface " + ifname)
		} else if err != nil {
			e.Close()
			return nil, fmt.Errorf("bind the socket to %s: %w", ifname, err)
		}
	}
	if e.conn, err = e.f.SyscallConn(); err == nil {
		err = unix.Sendto(fd, e.request(), unix.MSG_DONTWAIT, e.address())
	}
	if err != nil {
		e.Close()
		return nil, fmt.Errorf("send: %w", err)
	}
	return e, nil
}

// Close ends the wait for the reply.
func (e *Echo) Close() { _ = e.f.Close() }

// open opens a ping socket, or a raw socket if net.ipv4.ping_group_range doesn't allow the
// process a ping socket. It chooses the values that a reply must repeat.
func (e *Echo) open() (fd int, err error) {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	_, _ = rand.Read(e.payload[:])
	e.id, e.seq = binary.BigEndian.Uint16(random[:]), binary.BigEndian.Uint16(random[2:])
	family, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if e.target.Is6() {
		family, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	const flags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	if fd, err = unix.Socket(family, unix.SOCK_DGRAM|flags, protocol); err == nil {
		return fd, nil
	}
	e.raw = true
	fd, err = unix.Socket(family, unix.SOCK_RAW|flags, protocol)
	if errors.Is(err, unix.EPERM) {
		return -1, errors.New("can't open an ICMP socket: grant CAP_NET_RAW, or add the group to net.ipv4.ping_group_range")
	} else if err != nil {
		return -1, fmt.Errorf("open an ICMP socket: %w", err)
	}
	// The socket would get all ICMP messages of the host.
	if e.target.Is6() {
		var filter unix.ICMPv6Filter
		for i := range filter.Data {
			filter.Data[i] = ^uint32(0)
		}
		filter.Data[echoReply6/32] &^= 1 << (echoReply6 % 32)
		err = unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter)
	} else {
		err = unix.SetsockoptInt(fd, unix.SOL_RAW, icmpFilter, ^(1 << echoReply4))
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("filter the ICMP messages: %w", err)
	}
	return fd, nil
}

func (e *Echo) address() unix.Sockaddr {
	if e.target.Is6() {
		return &unix.SockaddrInet6{Addr: e.target.As16()}
	}
	return &unix.SockaddrInet4{Addr: e.target.As4()}
}

// request returns the ICMP message.
func (e *Echo) request() []byte {
	b := make([]byte, icmpHeader, icmpHeader+payloadSize)
	b[0] = echoRequest4
	if e.target.Is6() {
		b[0] = echoRequest6
	}
	binary.BigEndian.PutUint16(b[4:], e.id)
	binary.BigEndian.PutUint16(b[6:], e.seq)
	b = append(b, e.payload[:]...)
	// The kernel sets the checksum except for a raw socket of IPv4.
	if e.target.Is4() {
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	return b
}

// checksum returns the checksum of a message with an even number of octets (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// Wait returns nil when the reply has arrived. It ends with ctx.
func (e *Echo) Wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = e.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b := make([]byte, maxIPHeader+icmpHeader+payloadSize+1)
	for {
		var n int
		var from unix.Sockaddr
		var failed error
		if err := e.conn.Read(func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), b, 0)
			return !errors.Is(failed, unix.EAGAIN)
		}); err != nil {
			return err
		}
		switch {
		case errors.Is(failed, unix.EINTR):
		case failed != nil:
			return failed
		case e.answers(b[:n], from):
			return nil
		}
	}
}

// answers reports whether a message is the reply of the target.
func (e *Echo) answers(b []byte, from unix.Sockaddr) bool {
	kind := byte(echoReply6)
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		kind = echoReply4
		if netip.AddrFrom4(a.Addr) != e.target {
			return false
		}
		if e.raw { // it has an IP header
			if len(b) == 0 || len(b) < int(b[0]&0xf)*4 {
				return false
			}
			b = b[int(b[0]&0xf)*4:]
		}
	case *unix.SockaddrInet6:
		if netip.AddrFrom16(a.Addr) != e.target {
			return false
		}
	default:
		return false
	}
	return len(b) == icmpHeader+payloadSize && b[0] == kind && b[1] == 0 &&
		(!e.raw || binary.BigEndian.Uint16(b[4:]) == e.id) &&
		binary.BigEndian.Uint16(b[6:]) == e.seq && bytes.Equal(b[icmpHeader:], e.payload[:])
}
