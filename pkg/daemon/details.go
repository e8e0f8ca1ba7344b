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

// details is what the keeper knows of a Virtual Router beyond the event loop's status.
type details struct {
	config        *config.Router
	ifindex       int               // 0: the interface doesn't exist
	up            bool              // the interface is up and has a carrier
	receive       string            // the kind of the receive path
	receiveReason string            // why it is this kind
	fence         string            // how the TC programs are attached; empty: they aren't
	macMode       config.VirtualMAC // the mode in use
	macvlan       string
	device        int // index of the interface that has the addresses: ifindex, or the macvlan
	peers         map[netip.Addr]packet.Hops
	running       bool         // it takes part
	waiting       string       // why it doesn't take part
	since         vrrp.Instant // when it was added
	// maintenance is set while the administrator has taken the router out of service.
	maintenance bool
	guard       *auth.Guard
	briefly     bool // it waits only for its checks or for startup_delay
}

// detailsOf returns the details of a Virtual Router; if it is too new to have any, they are empty.
func detailsOf(byID map[router.ID]details, id router.ID) details {
	v, ok := byID[id]
	if !ok {
		v.config = new(config.Router)
	}
	return v
}

// nameEvents gives the history the configured names of a plan's routers.
func nameEvents(h *control.History, p *plan.Plan) {
	for _, v := range p.VirtualRouters {
		h.Name(v.Interface, v.Family.String(), int(v.VRID), v.Router.Name)
	}
}
