// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

type kind uint8

const (
	other kind = iota
	advertisement
	announcement // a gratuitous ARP
)

// sighting is a frame on a cable. It is small because an experiment sees millions.
type sighting struct {
	at             int64 // the kernel's time stamp, Unix time in nanoseconds
	kind           kind
	out            bool  // sent by the node of the tap
	port           uint8 // number of the interface
	vrid, priority uint8
	address        uint32 // announced
}

func (s sighting) time() time.Time { return time.Unix(0, s.at) }

func (s sighting) router() key { return key{s.port, s.vrid} }

// tap records the advertisements and gratuitous ARP packets that a node receives or sends.
type tap struct {
	file *os.File
	over atomic.Bool // ends a reader that never finds the socket empty
	done chan struct{}
	port map[int]uint8 // numbers of the interfaces by index

	mu   sync.Mutex
	seen []sighting
}

// tap opens a tap that the site closes.
func (s *site) tap(n *lab.Node, sent bool, only int) (*tap, error) {
	t, err := openTap(n, sent, only)
	if err == nil {
		s.closers = append(s.closers, t)
	}
	return t, err
}

// openTap begins to record what a node receives, and also what it sends if sent is true, on
// one port or on allPorts.
func openTap(n *lab.Node, sent bool, only int) (*tap, error) {
	t := &tap{done: make(chan struct{}), port: make(map[int]uint8)}
	if err := n.Do(func() error { return t.open(sent, only) }); err != nil {
		return nil, fmt.Errorf("tap %s: %w", n.Name, err)
	}
	raw, err := t.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(t.done)
		frame, control := make([]byte, tappedOctets), make([]byte, 64)
		// Read ends with an error when the file is closed.
		_ = raw.Read(func(fd uintptr) bool {
			for !t.over.Load() {
				got, controls, _, from, err := unix.Recvmsg(int(fd), frame, control, 0)
				if err != nil {
					return false
				}
				t.add(frame[:got], control[:controls], from)
			}
			return true
		})
	}()
	return t, nil
}

const allPorts = -1

// tapped is a socket filter that accepts ARP and VRRP over IPv4 and discards everything else, such
// as the client's traffic, before it takes room in the socket's buffer.
var tapped = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 12},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.ETH_P_ARP, Jt: 3},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.ETH_P_IP, Jf: 3},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 14 + 9}, // the IP protocol
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: packet.ProtocolVRRP, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: tappedOctets},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

// tappedOctets is how much of a frame is read.
const tappedOctets = 64

func (t *tap) open(sent bool, only int) error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	bound := 0
	for _, i := range interfaces {
		var port int
		if n, _ := fmt.Sscanf(i.Name, "eth%d", &port); n == 1 {
			t.port[i.Index] = uint8(port)
			if port == only {
				bound = i.Index
			}
		}
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	t.file = os.NewFile(uintptr(fd), "tap")
	ignore := 1
	if sent {
		ignore = 0
	}
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, ignore),
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(tapped)), Filter: &tapped[0]}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL}), Ifindex: bound}),
	)
}

func (t *tap) add(frame, control []byte, from unix.Sockaddr) {
	ll, ok := from.(*unix.SockaddrLinklayer)
	if !ok || len(frame) < 42 {
		return
	}
	port, ok := t.port[ll.Ifindex]
	if !ok {
		return
	}
	s := sighting{port: port, out: ll.Pkttype == unix.PACKET_OUTGOING}
	// The time stamp is the only message. It follows a header of 16 octets.
	if len(control) >= 32 {
		s.at = int64(binary.NativeEndian.Uint64(control[16:]))*1e9 + int64(binary.NativeEndian.Uint64(control[24:]))
	}
	body := frame[14:]
	switch kind := binary.BigEndian.Uint16(frame[12:]); {
	case kind == unix.ETH_P_IP && body[9] == packet.ProtocolVRRP:
		s.kind, s.vrid, s.priority = advertisement, body[21], body[22]
	case kind == unix.ETH_P_ARP && string(body[14:18]) == string(body[24:28]):
		s.kind, s.address = announcement, binary.BigEndian.Uint32(body[14:])
	default:
		return
	}
	t.mu.Lock()
	t.seen = append(t.seen, s)
	t.mu.Unlock()
}

// mark returns the number of frames recorded so far.
func (t *tap) mark() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.seen)
}

// since returns the frames recorded since a mark.
func (t *tap) since(mark int) []sighting {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]sighting(nil), t.seen[mark:]...)
}

// wait waits for a frame after a mark for which f is true. f sees each frame once.
func (t *tap) wait(ctx context.Context, mark int, f func(sighting) bool) (sighting, error) {
	for {
		for _, s := range t.since(mark) {
			mark++
			if f(s) {
				return s, nil
			}
		}
		if err := lab.Pause(ctx, time.Millisecond); err != nil {
			return sighting{}, fmt.Errorf("the awaited frame didn't come: %w", err)
		}
	}
}

// Close ends the recording. It returns an error if frames were lost because the tap's socket
// buffer was full.
func (t *tap) Close() error {
	var lost uint32
	raw, err := t.file.SyscallConn()
	if err == nil {
		e := raw.Control(func(fd uintptr) {
			var s *unix.TpacketStats
			if s, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
				lost = s.Drops
			}
		})
		err = errors.Join(err, e)
	}
	t.over.Store(true)
	err = errors.Join(err, t.file.Close()) // waits for the reader
	<-t.done
	if lost > 0 {
		err = errors.Join(err, fmt.Errorf("the tap lost %d frames", lost))
	}
	return err
}
