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

// yields has one leave: it does something, waits until the routers are where they
// should be then, and judges. Their addresses are there alone, it alone answers for
// them, and by what was on the wire there never were two beyond the one exchange of
// RFC 9568 in which the old Active hears the new one.
func (h *hosts) yields(what string, want where, do func()) {
	h.t.Helper()
	since := h.frames()
	h.moves(what, want, do)
	h.answered(what, want)
	h.oneAtATime(what, want, since)
}

// joins has one come: afterwards it watches too for as long as a Backup may take
// to believe that it is alone.
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

// answered checks that only the right host answers for the addresses. keepalived on a busy
// machine may answer a moment longer than it should: it is asked twice.
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
				h.t.Fatalf("%s: %s of router %s is answered for by %v, not by %s alone; on the wire:\n%s", what, a, w.name, got, want(w).Name, h.captures[w.ifname].VRRP())
			}
		}
	}
}

func (h *hosts) oneAtATime(what string, want where, since map[string]int) {
	h.t.Helper()
	for _, w := range h.routers {
		turns := h.turns(w, since[w.ifname])
		// Who has become Active has to advertise at once, but for one that was so before.
		if len(turns) > 4 || len(turns) > 0 && turns[len(turns)-1] != want(w).Name || len(turns) > 2 && turns[0] == turns[len(turns)-1] {
			h.t.Errorf("%s: router %s: who advertised was %v, where %s should be Active; on the wire:\n%s", what, w.name, turns, want(w).Name, h.captures[w.ifname].VRRP())
		}
	}
}

// turns are the nodes that advertised a router, but for priority 0, without
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

// vrrpOf reads what each version has at the same place, with any authentication.
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

// left checks that a node has told by priority 0 that it leaves its routers.
func (h *hosts) left(n *lab.Node, since map[string]int) {
	h.t.Helper()
	for _, w := range h.routers {
		told := slices.ContainsFunc(h.captures[w.ifname].Frames()[since[w.ifname]:], func(f lab.Frame) bool {
			vrid, priority, six, ok := vrrpOf(f.Data)
			return ok && f.From == n.Name && vrid == w.vrid && six == w.six && priority == 0
		})
		if !told {
			h.t.Errorf("%s didn't leave router %s with priority 0; on the wire:\n%s", n.Name, w.name, h.captures[w.ifname].VRRP())
		}
	}
}

// frames is how many there are on each wire.
func (h *hosts) frames() map[string]int {
	all := make(map[string]int)
	for ifname, c := range h.captures {
		all[ifname] = len(c.Frames())
	}
	return all
}
