// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

const (
	frameMax = 1 << 16
	// socketBuffer holds some thousands of advertisements.
	socketBuffer = 4 << 20
)

// socket receives the VRRP frames of one interface and family through
// AF_PACKET.
type socket struct {
	ifindex int
	watch   bool

	mu      sync.Mutex
	fd      int
	frame   []byte
	control []byte
	vector  unix.Iovec
	header  unix.Msghdr
	// emptied is when the socket was last found empty. Everything in it now was
	// received later.
	emptied vrrp.Instant
	dropped atomic.Uint64
}

func openSocket(ifindex int, f packet.Family, watch bool) (*socket, error) {
	etherType := uint16(unix.ETH_P_IP)
	if f == packet.IPv6 {
		etherType = unix.ETH_P_IPV6
	}
	// A socket with protocol 0 receives nothing. bind sets the protocol when the filter
	// is in place.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	s := &socket{
		ifindex: ifindex,
		watch:   watch,
		fd:      fd,
		frame:   make([]byte, frameMax),
		control: make([]byte, 128),
		emptied: monotonic(),
	}
	s.vector.Base = &s.frame[0]
	s.vector.SetLen(len(s.frame))
	if err := s.prepare(f, etherType); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return s, nil
}

func (s *socket) prepare(f packet.Family, etherType uint16) error {
	filter := vrrpFilter(f, etherType, s.ifindex)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		return fmt.Errorf("socket filter: %w", err)
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return fmt.Errorf("receive times: %w", err)
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer); err != nil {
		return fmt.Errorf("receive buffer: %w", err)
	}
	// A socket for a single protocol receives after the macvlans on top of the interface.
	// A macvlan takes away frames whose source is its own MAC, and another Active sends
	// from that MAC. So the socket is bound to all protocols. PACKET_IGNORE_OUTGOING
	// exists since Linux 4.20; without it the filter drops outgoing frames.
	_ = unix.SetsockoptInt(s.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	if err := unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: s.ifindex}); err != nil {
		return fmt.Errorf("bind packet socket to interface %d: %w", s.ifindex, err)
	}
	return nil
}

// vrrpFilter accepts frames that may be VRRP, whatever their destination address. A socket
// on an interface also receives the frames of its VLANs: with the tag in the metadata, and
// once more without a tag if a VLAN device exists, with that device's index. The filter
// rejects both. It accepts VLAN 0, which only carries a priority.
func vrrpFilter(f packet.Family, etherType uint16, ifindex int) []unix.SockFilter {
	const (
		adPacketType = 0xfffff000 + 4  // SKF_AD_OFF + SKF_AD_PKTTYPE
		adIfindex    = 0xfffff000 + 8  // SKF_AD_OFF + SKF_AD_IFINDEX
		adVLANTag    = 0xfffff000 + 44 // SKF_AD_OFF + SKF_AD_VLAN_TAG
		reject       = 0xff            // replaced by the distance to the end
	)
	load := func(size uint16, offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | size | unix.BPF_ABS, K: offset}
	}
	must := func(value uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: reject}
	}
	filter := []unix.SockFilter{
		load(unix.BPF_W, adPacketType),
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: unix.PACKET_OTHERHOST, Jt: reject},
		load(unix.BPF_W, adIfindex),
		must(uint32(ifindex)),
		load(unix.BPF_H, adVLANTag),
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xfff},
		must(0),
		{Code: unix.BPF_LDX | unix.BPF_W | unix.BPF_IMM, K: 0},
		load(unix.BPF_H, 12),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(etherType), Jt: 8},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.ETH_P_8021Q, Jt: 1}, // a second tag of VLAN 0
		must(unix.ETH_P_8021AD),
		load(unix.BPF_H, 14),
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xfff},
		must(0),
		load(unix.BPF_H, 16),
		must(uint32(etherType)),
		{Code: unix.BPF_LDX | unix.BPF_W | unix.BPF_IMM, K: tagLen},
	}
	within := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_IND, K: 14 + offset}
	}
	if f == packet.IPv6 {
		filter = append(filter,
			within(6), // in a fragment the protocol is in the fragment header
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 44, Jf: 1},
			within(40),
			must(packet.ProtocolVRRP),
		)
	} else {
		filter = append(filter,
			within(9), // behind an Authentication Header the protocol is in that header
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: packet.ProtocolAH, Jf: 1},
			within(20),
			must(packet.ProtocolVRRP),
		)
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: frameMax}, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0})
	for n := range filter {
		distance := uint8(len(filter) - 2 - n)
		if filter[n].Jf == reject {
			filter[n].Jf = distance
		}
		if filter[n].Jt == reject {
			filter[n].Jt = distance
		}
	}
	return filter
}

// drain calls f for each frame in the socket, and reports whether there may be more. It
// stops after the first frame that was received after the call, so that a flood can't keep
// the event loop from its deadlines.
func (s *socket) drain(f func(frame []byte, at vrrp.Instant)) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	called := monotonic()
	for s.fd >= 0 {
		before := monotonic()
		n, control, err := s.receive()
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			// The socket is empty, or the interface went down, which the link monitor
			// reports.
			if errors.Is(err, unix.EAGAIN) {
				s.emptied = before
				return false
			}
		default:
			at := s.receivedAt(control)
			f(untagged(s.frame[:n]), at)
			if at > called {
				return true
			}
		}
	}
	return false
}

// tagLen is the length of a VLAN tag.
const tagLen = 4

// untagged removes the tag of VLAN 0 from a frame that has one.
func untagged(frame []byte) []byte {
	if len(frame) < 14+tagLen {
		return frame
	}
	if kind := binary.BigEndian.Uint16(frame[12:]); kind != unix.ETH_P_8021Q && kind != unix.ETH_P_8021AD {
		return frame
	}
	copy(frame[tagLen:], frame[:12]) // the MACs
	return frame[tagLen:]
}

func (s *socket) receive() (n int, control []byte, err error) {
	s.header = unix.Msghdr{Iov: &s.vector, Control: &s.control[0]}
	s.header.SetIovlen(1)
	s.header.SetControllen(len(s.control))
	got, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.header)), unix.MSG_DONTWAIT)
	if errno != 0 {
		return 0, nil, errno
	}
	return int(got), s.control[:s.header.Controllen], nil
}

// receivedAt converts the kernel's receive time from CLOCK_REALTIME to CLOCK_MONOTONIC.
// CLOCK_REALTIME may be set at any moment, so the result is limited to the range that is
// certain: from s.emptied to now.
func (s *socket) receivedAt(control []byte) vrrp.Instant {
	// CLOCK_REALTIME is read first. If the process is interrupted in between, the packet
	// seems younger than it is, which can't cause a false failover.
	var real unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &real)
	now := monotonic()
	const size = int(unsafe.Sizeof(unix.Timespec{}))
	for len(control) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
		length := int(h.Len)
		if length < unix.SizeofCmsghdr || length > len(control) {
			break
		}
		data := control[unix.CmsgLen(0):length]
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS && len(data) >= size {
			stamp := *(*unix.Timespec)(unsafe.Pointer(&data[0]))
			age := vrrp.Instant(real.Nano() - stamp.Nano())
			return min(max(now-age, s.emptied), now)
		}
		control = control[min(unix.CmsgSpace(len(data)), len(control)):]
	}
	return now
}

// lost returns the number of frames that the kernel dropped because the socket's buffer
// was full.
func (s *socket) lost() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd >= 0 {
		if st, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			s.dropped.Add(uint64(st.Drops)) // reading resets the kernel's counter
		}
	}
	return s.dropped.Load()
}

func (s *socket) close() error {
	s.mu.Lock()
	fd := s.fd
	s.fd = -1
	s.mu.Unlock()
	return unix.Close(fd) // without s.mu, because close may be slow and Drain must not wait for it
}

// monotonic reads CLOCK_MONOTONIC, the clock of bpf_ktime_get_ns.
func monotonic() vrrp.Instant {
	var ts unix.Timespec
	// It fails only for a bad pointer or an unknown clock.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return vrrp.Instant(ts.Nano())
}

func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
