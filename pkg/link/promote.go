// SPDX-License-Identifier: Apache-2.0

package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Constants of the kernel (linux/ip.h, linux/if_link.h).
const (
	devconfPromoteSecondaries = 20 // IPV4_DEVCONF_PROMOTE_SECONDARIES
	iflaInetConf              = 1  // IFLA_INET_CONF
)

// promoting calls f while the interface's setting promote_secondaries is on. Then the kernel
// keeps the secondary addresses of a subnet when the primary one is removed, and the routes
// with one of them as source. It uses rtnetlink, because /proc/sys is read-only in many
// containers, and shows the network namespace of the calling thread, which may be another.
func (h *Handle) promoting(ifindex int, f func()) error {
	before, err := h.promotes(ifindex)
	if err != nil || before != 0 {
		f()
		return err
	}
	set := h.setPromotes(ifindex, 1)
	f()
	if set != nil {
		return set
	}
	if err := h.setPromotes(ifindex, 0); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

// promotes returns the interface's own value of promote_secondaries.
func (h *Handle) promotes(ifindex int) (uint32, error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	message := nl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index = int32(ifindex)
	request.AddData(message)
	answers, err := h.ask(request, unix.RTM_NEWLINK)
	if err != nil {
		return 0, fmt.Errorf("read promote_secondaries: %w", err)
	}
	for _, answer := range answers {
		value := answer[unix.SizeofIfInfomsg:]
		for _, kind := range []uint16{unix.IFLA_AF_SPEC, unix.AF_INET, iflaInetConf} {
			if value, err = attribute(value, kind); err != nil {
				return 0, fmt.Errorf("read promote_secondaries: %w", err)
			}
		}
		// The kernel numbers the values from 1.
		if at := 4 * (devconfPromoteSecondaries - 1); len(value) >= at+4 {
			return binary.NativeEndian.Uint32(value[at:]), nil
		}
	}
	return 0, errors.New("read promote_secondaries: the kernel's answer lacks it")
}

// attribute returns the value of the attribute with the given type, nil if there is none.
func attribute(b []byte, kind uint16) ([]byte, error) {
	all, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		if a.Attr.Type&^unix.NLA_F_NESTED == kind {
			return a.Value, nil
		}
	}
	return nil, nil
}

// setPromotes sets the interface's own value of promote_secondaries.
func (h *Handle) setPromotes(ifindex int, value uint32) error {
	request := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	message := nl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index = int32(ifindex)
	request.AddData(message)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET, nil).AddRtAttr(iflaInetConf, nil).AddRtAttr(devconfPromoteSecondaries, nl.Uint32Attr(value))
	request.AddData(spec)
	if _, err := h.ask(request, 0); err != nil {
		return fmt.Errorf("set promote_secondaries: %w", err)
	}
	return nil
}

// ask executes a request over the handle's own socket.
func (h *Handle) ask(request *nl.NetlinkRequest, kind uint16) ([][]byte, error) {
	socket := &nl.SocketHandle{Seq: h.seq, Socket: h.adder}
	request.Sockets = map[int]*nl.SocketHandle{syscall.NETLINK_ROUTE: socket}
	answers, err := request.Execute(unix.NETLINK_ROUTE, kind)
	h.seq = socket.Seq
	return answers, err
}
