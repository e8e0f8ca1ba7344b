// SPDX-License-Identifier: Apache-2.0

package transmit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
)

// probeEvery is the interval between two requests of Solicit.
const probeEvery = 200 * time.Millisecond

// Probe sends ARP probes for a neighbour from the given MAC. It is Solicit without a source
// address (RFC 5227 §2.1.1), so it doesn't change the caches of other hosts.
func Probe(ctx context.Context, ifindex int, from packet.MAC, neighbor netip.Addr) (answered bool, err error) {
	return Solicit(ctx, ifindex, from, netip.IPv4Unspecified(), neighbor)
}

// Solicit sends ARP requests or neighbour solicitations from the given MAC and source address
// until the neighbour answers to that MAC or ctx ends, which is not an error. It reports whether
// an answer came.
func Solicit(ctx context.Context, ifindex int, from packet.MAC, source, neighbor netip.Addr) (answered bool, err error) {
	protocol, ask, answers := uint16(unix.ETH_P_ARP), packet.AppendARPRequest, packet.AnswersARPProbe
	if neighbor.Is6() {
		protocol, ask, answers = unix.ETH_P_IPV6, packet.AppendNeighborSolicitation, packet.AnswersNeighborSolicitation
	}
	question, err := ask(nil, from, source, neighbor)
	if err != nil {
		return false, err
	}
	// With protocol 0 the socket receives nothing until it is bound to the interface.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false, fmt.Errorf("open a packet socket: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "packet socket")
	defer func() { _ = socket.Close() }() // all its data was sent
	if neighbor.Is6() {
		filter := neighborAdvertisements
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
			return false, fmt.Errorf("attach the filter of a packet socket: %w", err)
		}
	}
	network := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol))
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex, Protocol: network}); err != nil {
		return false, fmt.Errorf("bind the packet socket to interface %d: %w", ifindex, err)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = socket.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b := make([]byte, 128)
	for {
		if err := socket.SetReadDeadline(time.Now().Add(probeEvery)); err != nil {
			return false, err
		}
		if ctx.Err() != nil { // after the call above, which may have replaced the deadline of AfterFunc
			return false, nil
		}
		if err := unix.Send(fd, question, unix.MSG_DONTWAIT); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return false, fmt.Errorf("solicit %s: %w", neighbor, err)
		}
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			for !answered {
				n, err := unix.Read(int(fd), b)
				switch {
				case errors.Is(err, unix.EAGAIN):
					return false
				case err == nil:
					answered = answers(b[:n], from, neighbor)
				case !errors.Is(err, unix.EINTR):
					failed = err
					return true
				}
			}
			return true
		})
		if answered {
			return true, nil
		}
		if failed != nil {
			return false, fmt.Errorf("wait for the answer of %s: %w", neighbor, failed)
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return false, err
		}
	}
}
