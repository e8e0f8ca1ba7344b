// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"bytes"
	"context"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// lan is a network with a neighbour, and the Active on it.
type lan struct {
	status router.Status
	probed int // how often
	passes func(l *lan, from packet.MAC) bool
}

func (l *lan) StatusOf(router.ID) (router.Status, bool, error) { return l.status, true, nil }

func (l *lan) Neighbors(int) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("192.0.2.9")}, nil
}

func (l *lan) probe(_ context.Context, _ int, from packet.MAC, _ netip.Addr) (bool, error) {
	l.probed++
	return l.passes(l, from), nil
}

// A network that lets the virtual MAC through isn't blamed for a link that flaps, or for an
// answer that is lost once; one that doesn't is.
func TestReach(t *testing.T) {
	virtual := packet.VirtualMAC(packet.IPv4, 51)
	for name, c := range map[string]struct {
		passes func(l *lan, from packet.MAC) bool
		blamed bool
	}{
		"filtered": {func(l *lan, from packet.MAC) bool {
			if l.probed > 8 {
				l.status.Protocol.State = vrrp.Backup // which ends it
			}
			return from != virtual
		}, true},
		"open": {func(*lan, packet.MAC) bool { return true }, false},
		"the first answer is lost": {func(l *lan, from packet.MAC) bool {
			return from != virtual || l.probed > 2
		}, false},
		"nobody answers": {func(*lan, packet.MAC) bool { return false }, false},
		"the link flaps": {func(l *lan, from packet.MAC) bool {
			l.status.Protocol.Since++
			return from != virtual
		}, false},
		"another host takes over": {func(l *lan, from packet.MAC) bool {
			if l.probed > 2 {
				l.status.Protocol.State = vrrp.Backup
			}
			return from != virtual
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &lan{passes: c.passes}
				l.status = router.Status{ID: problemsID, Ifindex: 7, MAC: virtual, OwnMAC: packet.MAC{2}}
				l.status.Protocol.State = vrrp.Active
				var out bytes.Buffer
				log := logrus.New()
				log.SetOutput(&out)
				history, room := control.NewHistory(), NewLogBudget()
				r := NewReach(l, l, NewProblems(log, history, room), log)
				r.probe = l.probe
				r.check(t.Context(), problemsID)
				if blamed := strings.Contains(out.String(), "a hypervisor or a switch"); blamed != c.blamed {
					t.Errorf("blamed: %v, log: %s", blamed, out.String())
				}
			})
		})
	}
}
