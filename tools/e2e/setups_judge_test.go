// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/tools/lab"
)

// where maps each of the routers to a host.
type where func(watched) *lab.Node

func all(n *lab.Node) where { return func(watched) *lab.Node { return n } }

// yields makes a host leave: it runs act, waits until the routers are on the expected hosts, and
// judges. Only these hosts have the addresses and answer for them. On the wire there were never
// two Actives, except for the one exchange of RFC 9568 in which the old Active hears the new one.
func (h *hosts) yields(what string, want where, do func()) {
	h.t.Helper()
	since := h.frames()
	h.moves(what, want, do)
	h.answered(what, want)
	h.oneAtATime(what, want, since)
}

// joins makes a host come, and then also watches for longer than a Backup may wait before it takes
// over.
func (h *hosts) joins(what string, want where, do func()) {
	h.t.Helper()
	since := h.frames()
	h.moves(what, want, do)
	long := time.Duration(0)
	for _, w := range h.routers {
		long = max(long, 4*w.interval+w.interval/2)
	}
	for end := time.Now().Add(long); time.Now().Before(end); {
		h.answered(what, want)
	}
	h.oneAtATime(what, want, since)
}

func (h *hosts) moves(what string, want where, do func()) {
	h.t.Helper()
	do()
	for _, w := range h.routers {
		n := want(w)
		for _, a := range w.addresses {
			if err := lab.WaitHolds(h.ctx, "", a, h.alive(), n); err != nil {
				h.t.Fatalf("%s: router %s should be Active on %s: %v; on the wire:\n%s", what, w.name, n.Name, err, h.captures[w.ifname].VRRP())
			}
		}
	}
}

// answered checks that only the right host answers for the addresses. It asks twice, because
// keepalived on a busy machine may answer a moment too long.
func (h *hosts) answered(what string, want where) {
	h.t.Helper()
	for _, w := range h.routers {
		for _, a := range w.addresses {
			got, err := h.captures[w.ifname].WhoAnswers(h.client, w.ifname, netip.MustParseAddr(a), 300*time.Millisecond)
			h.ok(err)
			if len(got) == 2 && want(w) == h.f && slices.Contains(got, h.f.Name) && slices.Contains(got, h.k.Name) {
				got, err = h.captures[w.ifname].WhoAnswers(h.client, w.ifname, netip.MustParseAddr(a), 300*time.Millisecond)
				h.ok(err)
			}
			if !slices.Equal(got, []string{want(w).Name}) {
				h.t.Fatalf("%s: %v answer for %s of router %s, want %s alone; on the wire:\n%s", what, got, a, w.name, want(w).Name, h.captures[w.ifname].VRRP())
			}
		}
	}
}

func (h *hosts) oneAtATime(what string, want where, since map[string]int) {
	h.t.Helper()
	for _, w := range h.routers {
		turns := h.turns(w, since[w.ifname])
		// A router that has become Active has to advertise at once. One that was Active before has
		// no new advertisement.
		if len(turns) > 4 || len(turns) > 0 && turns[len(turns)-1] != want(w).Name || len(turns) > 2 && turns[0] == turns[len(turns)-1] {
			h.t.Errorf("%s: router %s: the hosts that advertised are, in their order, %v, but %s should be Active; on the wire:\n%s", what, w.name, turns, want(w).Name, h.captures[w.ifname].VRRP())
		}
	}
}

// turns returns the nodes that advertised a router with another priority than 0, without
// repetitions.
func (h *hosts) turns(w watched, since int) []string {
	var all []string
	for _, f := range h.captures[w.ifname].Frames()[since:] {
		vrid, priority, six, ok := vrrpOf(f.Data)
		if ok && vrid == w.vrid && six == w.six && priority != 0 && (len(all) == 0 || all[len(all)-1] != f.From) {
			all = append(all, f.From)
		}
	}
	return all
}

// vrrpOf returns the fields that are at the same place in both versions, with any authentication.
func vrrpOf(frame []byte) (vrid, priority int, six, ok bool) {
	if len(frame) < 14 {
		return 0, 0, false, false
	}
	b := frame[14:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		if len(b) < 20 || b[9] != 112 {
			return 0, 0, false, false
		}
		b = b[min(len(b), int(b[0]&0xf)*4):]
	case unix.ETH_P_IPV6:
		if len(b) < 40 || b[6] != 112 {
			return 0, 0, false, false
		}
		b, six = b[40:], true
	default:
		return 0, 0, false, false
	}
	if len(b) < 8 {
		return 0, 0, false, false
	}
	return int(b[1]), int(b[2]), six, true
}

// left checks that a node has left its routers with priority 0.
func (h *hosts) left(n *lab.Node, since map[string]int) {
	h.t.Helper()
	for _, w := range h.routers {
		told := slices.ContainsFunc(h.captures[w.ifname].Frames()[since[w.ifname]:], func(f lab.Frame) bool {
			vrid, priority, six, ok := vrrpOf(f.Data)
			return ok && f.From == n.Name && vrid == w.vrid && six == w.six && priority == 0
		})
		if !told {
			h.t.Errorf("%s did not leave router %s with priority 0; on the wire:\n%s", n.Name, w.name, h.captures[w.ifname].VRRP())
		}
	}
}

// frames returns the number of captured frames on each wire.
func (h *hosts) frames() map[string]int {
	all := make(map[string]int)
	for ifname, c := range h.captures {
		all[ifname] = len(c.Frames())
	}
	return all
}
