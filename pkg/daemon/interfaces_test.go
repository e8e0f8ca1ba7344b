// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"io"
	"slices"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/reconcile"
	"github.com/failoverd/failoverd/tools/lab"
)

// A macvlan that was just created is in the picture although the monitor hasn't listed the
// interfaces again. Otherwise the keeper would try to create it again, which fails.
func TestPictureHasWhatWasMade(t *testing.T) {
	l := lab.ForTest(t)
	lan, err := l.LAN("lan")
	if err != nil {
		t.Fatal(err)
	}
	port, err := lan.Host("a", "eth0", "192.0.2.1/24")
	if err != nil {
		t.Fatal(err)
	}
	do := func(f func() error) {
		t.Helper()
		if err := port.Node.Do(f); err != nil {
			t.Fatal(err)
		}
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	h := &interfaces{log: log, created: make(map[link.Device]bool)}
	do(func() (err error) {
		if h.handle, err = link.NewHandle(); err != nil {
			return err
		}
		h.monitor, err = link.NewMonitor() // not running, like a slow monitor
		return err
	})
	t.Cleanup(h.monitor.Close)
	h.worker = link.NewWorker(h.handle, nil, nil)
	look := func() []link.Interface {
		p := &plan.Picture{Held: make(map[plan.Note]bool)}
		do(func() error { return h.Look(nil, p) })
		return p.Interfaces
	}
	all := look()
	eth0 := all[slices.IndexFunc(all, func(i link.Interface) bool { return i.Name == "eth0" })]
	device := link.NewDevice(eth0.Index, packet.IPv4, 51)
	do(func() error { return h.Do([]*reconcile.Step{{Verb: reconcile.Make, Device: device}})[0] })
	for n := range 3 {
		if !slices.ContainsFunc(look(), func(i link.Interface) bool { return i.Name == device.Name }) {
			t.Fatalf("look %d: %s isn't there", n, device.Name)
		}
	}
}
