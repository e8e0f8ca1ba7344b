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

// besideAgain is how soon it is tried again after something has failed.
const besideAgain = time.Second

// beside has other interfaces of this host that are in a router's network not answer for
// its addresses.
type beside struct {
	news  <-chan struct{} // has a value when the views or the host have changed
	set   func(datapath.Link, map[packet.Key][]netip.Addr) error
	views func() map[router.ID]view
	host  func() []link.Interface
	log   *logrus.Logger

	knownViews, knownHost uintptr               // what follow has seen
	told                  map[int]datapath.Link // by index, those that hold addresses back
	failed                string
	again                 bool // something failed
}

func (b *beside) run(ctx context.Context) error {
	for {
		var again <-chan time.Time
		if b.again {
			again = time.After(besideAgain)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.news:
		case <-again:
		}
		b.follow()
	}
}

// follow tells the datapath what has changed.
func (b *beside) follow() {
	views, host := b.views(), b.host()
	seen, picture := reflect.ValueOf(views).Pointer(), reflect.ValueOf(host).Pointer()
	if seen == b.knownViews && picture == b.knownHost && !b.again {
		return
	}
	b.knownViews, b.knownHost = seen, picture
	want, all := plan.SuppressARP(seats(views), host)
	failed, again := "", false
	if !all {
		failed = "too many addresses are in networks that other interfaces are in too, these answer for some of them"
	}
	set := func(l datapath.Link, addresses map[packet.Key][]netip.Addr) {
		if err := b.set(l, addresses); err != nil {
			failed, again = err.Error(), true
		}
	}
	for index, l := range b.told {
		if want[index] == nil {
			set(l, nil) // no longer
		}
	}
	told := make(map[int]datapath.Link, len(want))
	for _, i := range host {
		if addresses := want[i.Index]; addresses != nil {
			told[i.Index] = datapath.Link{Index: i.Index, Name: i.Name, Kind: i.Kind}
			set(told[i.Index], addresses)
		}
	}
	if failed != "" && failed != b.failed {
		b.log.Warnf("another interface in the same network may answer for virtual addresses: %s; set net.ipv4.conf.all.arp_ignore to 1", failed)
	}
	b.told, b.failed, b.again = told, failed, again
}

func seats(views map[router.ID]view) (all []plan.Placement) {
	for id, v := range views {
		all = append(all, plan.Placement{
			Key: packet.Key{Ifindex: v.ifindex, Family: id.Family, VRID: id.VRID}, Device: v.device,
			Addresses: addrs(append(v.config.OfFamily(id.Family), v.config.Extras(id.Family)...)),
		})
	}
	return all
}
