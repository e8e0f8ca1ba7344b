// SPDX-License-Identifier: Apache-2.0

package transmit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
)

// claims reads at most claimsAtOnce frames in each claimsEvery. This limits what an ARP storm
// costs; the frames that don't fit into the socket's buffer are lost.
const (
	claimsAtOnce = 64
	claimsEvery  = 50 * time.Millisecond
	claimsBuffer = 64 << 10
)

// neighborAdvertisements is a socket filter that accepts ICMPv6 messages of type 136 from
// among IPv6 frames.
var neighborAdvertisements = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 14 + 6},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.IPPROTO_ICMPV6, Jf: 3},
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 14 + 40},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 136, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff},
	{Code: unix.BPF_RET | unix.BPF_K},
}

// Claims calls f for each claim to an address that a host makes by ARP or by a neighbour
// advertisement, on any interface. It runs until ctx ends, which is not an error. Two
// goroutines call f, so it must be safe for concurrent use.
func Claims(ctx context.Context, f func(ifindex int, c packet.Claim)) error {
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return claims(ctx, unix.ETH_P_ARP, nil, f) })
	all.Go(func() error { return claims(ctx, unix.ETH_P_IPV6, neighborAdvertisements, f) })
	return all.Wait()
}

func claims(ctx context.Context, protocol uint16, filter []unix.SockFilter, f func(int, packet.Claim)) error {
	// With protocol 0 the socket receives nothing until the filter is in place.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "packet socket")
	defer func() { _ = socket.Close() }() // it was only read
	if len(filter) > 0 {
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
			return fmt.Errorf("attach the filter of a packet socket: %w", err)
		}
	}
	network := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol))
	if err := errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, claimsBuffer),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network}),
	); err != nil {
		return fmt.Errorf("bind a packet socket: %w", err)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = socket.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b := make([]byte, 256)
	for {
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			for n := range claimsAtOnce {
				size, from, err := unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
				if errors.Is(err, unix.EAGAIN) {
					return n > 0
				}
				if err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENETDOWN) {
					failed = err
					return true
				}
				if at, ok := from.(*unix.SockaddrLinklayer); ok && err == nil {
					if c, ok := packet.ParseClaim(b[:size]); ok {
						f(at.Ifindex, c)
					}
				}
			}
			return true
		})
		if ctx.Err() != nil {
			return nil
		}
		if err := errors.Join(err, failed); err != nil {
			return fmt.Errorf("receive from a packet socket: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(claimsEvery):
		}
	}
}
