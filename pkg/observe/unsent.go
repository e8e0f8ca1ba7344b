// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// sightUnsent notes which routers can't send. They are looked at only if something could
// not be sent since the last look, or one of them couldn't then.
func (o *Observer) sightUnsent(now time.Time, look func() ([]router.Status, error)) {
	if !o.unsent.Swap(false) {
		return
	}
	routers, err := look()
	if err != nil {
		return // the loop has ended
	}
	at := process.Clock{}.Now()
	for _, r := range routers {
		if r.Unsent == nil {
			continue
		}
		o.unsent.Store(true)
		if s, ok := cannotSend(&r, at, mtuOf(r.Ifindex)); ok {
			o.problems.Note(now, r.ID, s)
		}
	}
}

// mtuOf returns the MTU of an interface, 0 if it isn't there.
func mtuOf(ifindex int) int {
	i, err := net.InterfaceByIndex(ifindex)
	if err != nil {
		return 0
	}
	return i.MTU
}

// cannotSend returns the problem of a router whose advertisements don't leave, as soon as
// that isn't a matter of one of them.
func cannotSend(r *router.Status, now vrrp.Instant, mtu int) (Observation, bool) {
	u, p := r.Unsent, &r.Protocol
	if p.State == vrrp.Active && now.Sub(u.Since) < p.Interval {
		return Observation{}, false
	}
	s := Observation{Kind: control.CannotSend, Watched: true, Since: time.Now().Add(u.Since.Sub(now))}
	s.Text = fmt.Sprintf("its advertisements can't be sent: %v", u.Err)
	if p.State != vrrp.Active {
		s.Text += ", so another router is to have the addresses"
	}
	switch {
	case errors.Is(u.Err, syscall.EMSGSIZE):
		s.Text = fmt.Sprintf("its advertisement can't be sent: it has %d octets, the MTU of %s is %d", r.Octets, r.ID.Interface, mtu)
		s.Remedy = fmt.Sprintf("raise the MTU to %d or more on all hosts and switches of the network, or put some of the addresses into a router of another VRID", r.Octets)
	case errors.Is(u.Err, syscall.EPERM), errors.Is(u.Err, syscall.EACCES):
		s.Remedy = fmt.Sprintf("let IP protocol 112 out on %s: a firewall of this host drops it (nft list ruleset, iptables -S OUTPUT)", r.ID.Interface)
	case errors.Is(u.Err, syscall.ENOBUFS), errors.Is(u.Err, syscall.EAGAIN):
		s.Remedy = fmt.Sprintf("look what drops frames on egress: a full queue (tc -s qdisc show dev %s; its frames have priority 7, give that a band of its own), a TC program (tc filter show dev %s egress) or a firewall's egress hook (nft list ruleset)", r.ID.Interface, r.ID.Interface)
	case errors.Is(u.Err, syscall.ENETDOWN), errors.Is(u.Err, syscall.ENXIO), errors.Is(u.Err, syscall.ENODEV):
		s.Remedy = fmt.Sprintf("set %s up", r.ID.Interface)
	default:
		s.Remedy = "see failoverctl events and the kernel's log"
	}
	return s, true
}
