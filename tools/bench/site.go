// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

func portName(port int) string { return fmt.Sprintf("eth%d", port) }

// site is a host and the node at the other end of its cables. That node is the wire, which
// plays other routers, or a second host with the same daemon.
type site struct {
	lab        *lab.Lab
	host, wire *lab.Node
	closers    []io.Closer
}

// newSite lays a site out. A deaf wire drops all frames before its network stack, because on
// veth that stack works in the time of the sender. Taps still see the frames.
func newSite(ports int, deaf bool) (s *site, err error) {
	s = &site{}
	if s.lab, err = lab.New(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.host, err = s.lab.Node("host"); err != nil {
		return nil, err
	}
	if s.wire, err = s.lab.Node("wire"); err != nil {
		return nil, err
	}
	for port := range ports {
		if err := lab.Cable(s.host, s.wire, portName(port), []string{address(port, 0, 1) + "/20"}, []string{address(port, 0, 2) + "/20"}); err != nil {
			return nil, err
		}
	}
	if deaf {
		err = s.wire.Do(func() error { return s.deafen(ports) })
	}
	return s, err
}

// deafen attaches a program that drops all received frames.
func (s *site) deafen(ports int) error {
	const drop = 2 // TCX_DROP
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		License:      "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, drop), asm.Return()},
	})
	if err != nil {
		return fmt.Errorf("load the program that drops all frames: %w", err)
	}
	s.closers = append(s.closers, p)
	for port := range ports {
		i, err := net.InterfaceByName(portName(port))
		if err != nil {
			return err
		}
		l, err := link.AttachTCX(link.TCXOptions{Interface: i.Index, Program: p, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return fmt.Errorf("attach the program that drops all frames: %w", err)
		}
		s.closers = append(s.closers, l)
	}
	return nil
}

// Close closes the site and what was opened on it, the newest first.
func (s *site) Close() (err error) {
	for n := len(s.closers) - 1; n >= 0; n-- {
		err = errors.Join(err, s.closers[n].Close())
	}
	return errors.Join(err, s.lab.Close())
}

// address returns an address in the /20 network of a port.
func address(port, block, host int) string { return fmt.Sprintf("198.18.%d.%d", port*16+block, host) }

// grid returns routers with one address each, on several ports.
func grid(ports, vrids, priority int, interval time.Duration) (all []router) {
	for port := range ports {
		for vrid := 1; vrid <= vrids; vrid++ {
			all = append(all, router{port, vrid, priority, interval, []string{address(port, 1, vrid) + "/20"}})
		}
	}
	return all
}

// streams returns advertisements for the routers, as the wire sends them.
func streams(routers []router, priority uint8) (all []lab.Stream, err error) {
	for _, r := range routers {
		if len(all) == 0 || all[len(all)-1].Ifname != portName(r.port) {
			all = append(all, lab.Stream{Ifname: portName(r.port)})
		}
		frame, err := r.frame(priority, netip.MustParseAddr(address(r.port, 0, 2)))
		if err != nil {
			return nil, err
		}
		last := &all[len(all)-1]
		last.Frames = append(last.Frames, frame)
	}
	return all, nil
}

// frame returns the advertisement that another host sends for the router. It has RFC 5798's
// checksum, because keepalived accepts no other.
func (r router) frame(priority uint8, source netip.Addr) ([]byte, error) {
	a := packet.Advertisement{Version: 3, VRID: uint8(r.vrid), Priority: priority, Interval: r.interval}
	for _, prefix := range r.addresses {
		a.Addresses = append(a.Addresses, netip.MustParsePrefix(prefix).Addr())
	}
	return packet.AppendAdvertisementFrame(nil, packet.MAC{2, 0, 0, 0, byte(r.port), 2}, source, &a, packet.ChecksumRFC5798)
}

// play lets the wire be Active of the routers.
func (s *site) play(routers []router) (*lab.Pace, error) {
	all, err := streams(routers, 200)
	if err != nil {
		return nil, err
	}
	p, err := s.wire.Pace(routers[0].interval, all...)
	if err == nil {
		s.closers = append(s.closers, p)
	}
	return p, err
}
