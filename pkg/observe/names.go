// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/router"
)

// Names is a logrus hook. It adds the configured name of the router to each log line that has the
// Fields of a Virtual Router. It is safe for concurrent use.
type Names struct {
	mu  sync.RWMutex
	all map[router.ID]string
}

// NewNames returns an empty Names.
func NewNames() *Names { return &Names{all: make(map[router.ID]string)} }

// Learn sets the name of a Virtual Router. Names keeps it after the router is removed, because
// the router's last log lines come later.
func (n *Names) Learn(id router.ID, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all[id] = name
}

// Levels implements logrus.Hook.
func (n *Names) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
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
