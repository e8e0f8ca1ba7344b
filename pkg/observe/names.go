// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
)

// Names is a hook of the log. It adds the configured name of the router to each line that
// has the Fields of a Virtual Router.
type Names struct {
	mu  sync.RWMutex
	all map[router.ID]string
}

// NewNames knows no router yet.
func NewNames() *Names { return &Names{all: make(map[router.ID]string)} }

// Learn has a Virtual Router named. The name stays when the router is gone, because its
// last lines come after that.
func (n *Names) Learn(id router.ID, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all[id] = name
}

// Levels is part of logrus.Hook.
func (n *Names) Levels() []logrus.Level { return logrus.AllLevels }

// Fire is part of logrus.Hook.
func (n *Names) Fire(e *logrus.Entry) error {
	if _, named := e.Data["router"]; named {
		return nil
	}
	id := router.ID{Family: packet.IPv4}
	id.Interface, _ = e.Data["interface"].(string)
	id.VRID, _ = e.Data["vrid"].(uint8)
	if e.Data["family"] == packet.IPv6.String() {
		id.Family = packet.IPv6
	}
	n.mu.RLock()
	name, known := n.all[id]
	n.mu.RUnlock()
	if known {
		e.Data["router"] = name
	}
	return nil
}
