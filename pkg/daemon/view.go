// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net/netip"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// view is what the ports know of a Virtual Router, for people.
type view struct {
	config  *config.Router
	ifindex int    // 0: the interface isn't there
	up      bool   // it is up and has a carrier
	receive string // how it receives, and why so
	why     string
	fence   string            // how the TC programs are attached
	mac     config.VirtualMAC // in use
	macvlan string
	device  int // that the addresses are put on
	peers   map[netip.Addr]packet.Hops
	running bool
	waiting string       // why it isn't
	since   vrrp.Instant // when it was first known
	// maintenance says that the administrator has taken it out of service.
	maintenance bool
	guard       *auth.Guard
	brief       bool // it waits for a moment: for its checks, or for startup_delay
}

// of returns what is known of a Virtual Router, which may be too new for it.
func of(views map[router.ID]view, id router.ID) view {
	v, ok := views[id]
	if !ok {
		v.config = new(config.Router)
	}
	return v
}

// nameEvents gives the events of all Virtual Routers the names of the configuration.
func nameEvents(h *control.History, p *plan.Plan) {
	for _, v := range p.VirtualRouters {
		h.Name(v.Interface, v.Family.String(), int(v.VRID), v.Router.Name)
	}
}
