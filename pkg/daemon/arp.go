// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"net/netip"
	"reflect"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/router"
)

// arpRetry is the delay before the suppression is tried again after an error.
const arpRetry = time.Second

// arpSuppression keeps the other interfaces of this host that are in a router's network from
// answering ARP requests for its addresses.
type arpSuppression struct {
	changed <-chan struct{} // has a value when the details or the interfaces have changed
	set     func(datapath.Link, map[packet.Key][]netip.Addr) error
	details func() map[router.ID]details
	host    func() []link.Interface
	log     *logrus.Logger

	lastDetails, lastHost uintptr               // identities of the last input of update
	suppressed            map[int]datapath.Link // by index: the interfaces with suppressed addresses
	lastFailure           string
	retry                 bool // the last update failed
}

func (b *arpSuppression) run(ctx context.Context) error {
	for {
		var again <-chan time.Time
		if b.retry {
			again = time.After(arpRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.changed:
		case <-again:
		}
		b.update()
	}
}

// update passes changes on to the datapath.
func (b *arpSuppression) update() {
	byID, host := b.details(), b.host()
	details, interfaces := reflect.ValueOf(byID).Pointer(), reflect.ValueOf(host).Pointer()
	if details == b.lastDetails && interfaces == b.lastHost && !b.retry {
		return
	}
	b.lastDetails, b.lastHost = details, interfaces
	want, all := plan.SuppressARP(placements(byID), host)
	failed, retry := "", false
	if !all {
		failed = "too many virtual addresses are in networks that several interfaces share, and some of them are not suppressed"
	}
	set := func(l datapath.Link, addresses map[packet.Key][]netip.Addr) {
		if err := b.set(l, addresses); err != nil {
			failed, retry = err.Error(), true
		}
	}
	for index, l := range b.suppressed {
		if want[index] == nil {
			set(l, nil)
		}
	}
	suppressed := make(map[int]datapath.Link, len(want))
	for _, i := range host {
		if addresses := want[i.Index]; addresses != nil {
			suppressed[i.Index] = datapath.Link{Index: i.Index, Name: i.Name, Kind: i.Kind}
			set(suppressed[i.Index], addresses)
		}
	}
	if failed != "" && failed != b.lastFailure {
		b.log.Warnf("another interface in the same network may answer for virtual addresses: %s; set net.ipv4.conf.all.arp_ignore to 1", failed)
	}
	b.suppressed, b.lastFailure, b.retry = suppressed, failed, retry
}

func placements(byID map[router.ID]details) (all []plan.Placement) {
	for id, v := range byID {
		all = append(all, plan.Placement{
			Key: packet.Key{Ifindex: v.ifindex, Family: id.Family, VRID: id.VRID}, Device: v.device,
			Addresses: addrs(v.config.Local(id.Family)),
		})
	}
	return all
}
