// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// statusEvery is how often a service manager is told the state, if it doesn't
// want a sign of life more often.
const statusEvery = 10 * time.Second

// startGarbage is how long after the start there is no more to come of what only the
// start needs.
const startGarbage = time.Second

// serve tells the service manager, if there is one, that the daemon is ready,
// and from then on that it lives. A sign of life is given only after the event
// loop has turned.
func (d *instance) serve(ctx context.Context) error {
	select {
	case <-d.keeper.begun:
	case <-ctx.Done():
		return nil
	}
	if d.config.Running != "" {
		d.log.Info(d.config.Running)
	}
	d.notify(daemon.SdNotifyReady)
	started := time.After(startGarbage)
	every := statusEvery
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		d.log.WithError(err).Warn("the service manager's watchdog can't be understood")
	}
	if watchdog > 0 {
		every = watchdog / 3
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	garbage := time.NewTicker(process.CollectCheckInterval)
	defer garbage.Stop()
	told := ""
	for {
		counts, err := d.loop.Count() // waits for the loop
		if err != nil {
			return stopped(err)
		}
		if watchdog > 0 {
			d.notify(daemon.SdNotifyWatchdog)
		}
		if text := fmt.Sprintf("STATUS=%d Active, %d Backup, %d Initialize", counts[vrrp.Active], counts[vrrp.Backup], counts[vrrp.Initialize]); text != told {
			told = text
			d.notify(text)
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				d.notify(daemon.SdNotifyStopping)
				return nil
			case <-started:
				d.threads.Collect() // what reading the file and loading the programs took
				d.threads.AdjustGarbageLimit()
			case <-garbage.C:
				d.threads.CollectIfDue()
			case <-tick.C:
				waiting = false
			}
		}
	}
}

// notify tells the service manager something; without one it does nothing.
func (d *instance) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		d.log.WithError(err).WithFields(logrus.Fields{"state": state}).Warn("tell the service manager")
	}
}
