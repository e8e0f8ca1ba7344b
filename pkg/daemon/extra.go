// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/transmit"
)

// extraCount is the number of times that an extra address is announced, and extraEvery the time
// between two announcements.
const (
	extraCount = 5
	extraEvery = 100 * time.Millisecond
)

// extraAnnouncer announces the addresses that a router has on other interfaces than its own,
// because the event loop announces on the router's interface only.
type extraAnnouncer struct {
	log *logrus.Logger

	mu      sync.Mutex
	pending map[routing.Placed]*time.Timer // the next announcement of each address
}

func newExtraAnnouncer(log *logrus.Logger) *extraAnnouncer {
	return &extraAnnouncer{log: log, pending: make(map[routing.Placed]*time.Timer)}
}

// update starts to announce an address that has been added, or stops before it is removed. The
// link worker calls it.
func (a *extraAnnouncer) update(p routing.Placed, added bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.pending[p]; t != nil {
		t.Stop()
		delete(a.pending, p)
	}
	if added {
		a.schedule(p, 0, extraCount)
	}
}

// schedule announces an address after a delay, and then again until it has been announced left
// times.
func (a *extraAnnouncer) schedule(p routing.Placed, after time.Duration, left int) {
	var t *time.Timer
	t = time.AfterFunc(after, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.pending[p] != t {
			return // removed or replaced in the meantime
		}
		delete(a.pending, p)
		if err := announceExtra(p); err != nil {
			a.log.WithField("interface", p.Interface).WithError(err).Warn("could not announce an extra address")
		}
		if left > 1 {
			a.schedule(p, extraEvery, left-1)
		}
	})
	a.pending[p] = t
}

// announceExtra sends a gratuitous ARP or an unsolicited neighbour advertisement from the
// interface's own MAC.
func announceExtra(p routing.Placed) (err error) {
	i, err := net.InterfaceByName(p.Interface)
	if err != nil {
		return err
	}
	if len(i.HardwareAddr) != len(packet.MAC{}) {
		return nil // not Ethernet: there is no address resolution
	}
	appendFrame := packet.AppendGratuitousARP
	if p.Address.Addr().Is6() {
		appendFrame = packet.AppendUnsolicitedNA
	}
	frame, err := appendFrame(nil, packet.MAC(i.HardwareAddr), p.Address.Addr())
	if err != nil {
		return err
	}
	return transmit.Send(i.Index, frame)
}
