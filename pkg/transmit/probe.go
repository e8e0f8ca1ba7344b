// SPDX-License-Identifier: Apache-2.0

package transmit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
)

// probeEvery is the interval between two requests of Probe.
const probeEvery = 200 * time.Millisecond

// Probe sends ARP probes for a neighbour from the given MAC until the neighbour replies to that
// MAC or ctx ends, which is not an error. It reports whether a reply came. A probe names no
// sender address (RFC 5227 §2.1.1), so it doesn't change the caches of other hosts.
func Probe(ctx context.Context, ifindex int, from packet.MAC, neighbor netip.Addr) (answered bool, err error) {
	arp := binary.BigEndian.AppendUint16(nil, unix.ETH_P_ARP)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(binary.NativeEndian.Uint16(arp)))
	if err != nil {
		return false, fmt.Errorf("open a packet socket: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex, Protocol: binary.NativeEndian.Uint16(arp)}); err != nil {
		return false, fmt.Errorf("bind the packet socket to interface %d: %w", ifindex, err)
	}
	question, err := packet.AppendARPProbe(nil, from, neighbor)
	if err != nil {
		return false, err
	}
	b := make([]byte, 128)
	for ctx.Err() == nil {
		if err := unix.Send(fd, question, unix.MSG_DONTWAIT); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return false, fmt.Errorf("send an ARP probe for %s: %w", neighbor, err)
		}
		for end := time.Now().Add(probeEvery); ; {
			wait := time.Until(end)
			if wait <= 0 || ctx.Err() != nil {
				break
			}
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(wait.Milliseconds())+1); n <= 0 {
				if err != nil && !errors.Is(err, unix.EINTR) {
					return false, err
				}
				continue
			}
			n, err := unix.Read(fd, b)
			if err == nil && packet.AnswersARPProbe(b[:n], from, neighbor) {
				return true, nil
			}
		}
	}
	return false, nil
}
