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

// The kernel's numbers (linux/ip.h, linux/if_link.h).
const (
	devconfPromoteSecondaries = 20 // IPV4_DEVCONF_PROMOTE_SECONDARIES
	iflaInetConf              = 1  // IFLA_INET_CONF
)

// promoting has f called while the interface's setting promote_secondaries is on: then
// the kernel keeps the other addresses of a network when the first one is removed, and
// the routes that name one of them as their source. It isn't written to /proc/sys, which
// is read-only in many containers, and another network namespace's where the caller's
// thread is in one.
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

// promotes returns the interface's own setting.
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
		// Those of the kernel begin with 1.
		if at := 4 * (devconfPromoteSecondaries - 1); len(value) >= at+4 {
			return binary.NativeEndian.Uint32(value[at:]), nil
		}
	}
	return 0, errors.New("read promote_secondaries: the kernel doesn't say")
}

// attribute returns the value of one of the attributes; nil without it.
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

// ask makes a request over the handle's own socket.
func (h *Handle) ask(request *nl.NetlinkRequest, kind uint16) ([][]byte, error) {
	socket := &nl.SocketHandle{Seq: h.seq, Socket: h.adder}
	request.Sockets = map[int]*nl.SocketHandle{syscall.NETLINK_ROUTE: socket}
	answers, err := request.Execute(unix.NETLINK_ROUTE, kind)
	h.seq = socket.Seq
	return answers, err
}
