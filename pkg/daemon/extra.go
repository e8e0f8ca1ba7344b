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

// placedCount is how often an address on another interface than its router's is
// announced, and placedEvery the time between two announcements.
const (
	placedCount = 5
	placedEvery = 100 * time.Millisecond
)

// placed announces the addresses that are on other interfaces than their routers'.
// The event loop knows of the routers' interfaces only.
type placed struct {
	log *logrus.Logger

	mu    sync.Mutex
	there map[routing.Placed]*time.Timer // until they have been announced often enough
}

func newPlaced(log *logrus.Logger) *placed {
	return &placed{log: log, there: make(map[routing.Placed]*time.Timer)}
}

// told is called by the worker's goroutine.
func (a *placed) told(p routing.Placed, there bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.there[p]; t != nil {
		t.Stop()
		delete(a.there, p)
	}
	if there {
		a.again(p, 0, placedCount)
	}
}

// again announces an address after a while, and then as often as is left.
func (a *placed) again(p routing.Placed, after time.Duration, left int) {
	var t *time.Timer
	t = time.AfterFunc(after, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.there[p] != t {
			return // it has been removed since
		}
		delete(a.there, p)
		if err := announcePlaced(p); err != nil {
			a.log.WithField("interface", p.Interface).WithError(err).Warn("announce an extra address")
		}
		if left > 1 {
			a.again(p, placedEvery, left-1)
		}
	})
	a.there[p] = t
}

// announcePlaced sends gratuitous ARP or an unsolicited neighbour advertisement
// from the interface's own MAC.
func announcePlaced(p routing.Placed) (err error) {
	i, err := net.InterfaceByName(p.Interface)
	if err != nil {
		return err
	}
	if len(i.HardwareAddr) != len(packet.MAC{}) {
		return nil // nobody resolves addresses there
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
