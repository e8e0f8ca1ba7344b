// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
)

// stack is the raw sockets through which the program failover_stack sees the VRRP packets
// that the host's stack was given: it keeps the stamps while the programs that receive
// aren't reached. Nothing is ever read from them.
type stack []int

// openStack opens them in this network namespace.
func openStack(p *ebpf.Program) (s stack, err error) {
	for _, domain := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, packet.ProtocolVRRP)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue // the host has no IPv6
		}
		if err != nil {
			return s, errors.Join(fmt.Errorf("raw socket: %w", err), s.close())
		}
		s = append(s, fd)
		// What comes before the program is attached stays there: it is to be little.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0); err != nil {
			return s, errors.Join(fmt.Errorf("receive buffer: %w", err), s.close())
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, p.FD()); err != nil {
			return s, errors.Join(fmt.Errorf("attach to a raw socket: %w", err), s.close())
		}
	}
	return s, nil
}

func (s stack) close() error {
	var errs []error
	for _, fd := range s {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}
