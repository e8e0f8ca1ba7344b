// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// statusEvery is the interval of status messages to the service manager, unless its watchdog
// wants a shorter one.
const statusEvery = 10 * time.Second

// predecessorEnd is how long a process before that doesn't answer has to end.
const predecessorEnd = time.Second

// startGarbage is the time after which the memory that only the start needed is returned to the
// system.
const startGarbage = time.Second

// serve tells the service manager when the daemon is ready, and then sends its status and the
// watchdog's signs of life. A sign of life is sent only after the event loop has answered.
func (d *instance) serve(ctx context.Context) error {
	select {
	case <-d.keeper.started:
	case <-ctx.Done():
		return nil
	}
	if d.config.Running != "" {
		d.log.Info(d.config.Running)
	}
	before := &d.before
	if err := d.config.Predecessor.Running(before); err != nil { // before the service manager hears of this process
		d.log.WithError(err).Warn("could not read the events and counters of the process before")
		if d.config.Predecessor.AwaitEnd(predecessorEnd); d.orphaned() {
			d.log.Info("this process ends, and leaves everything in place for the next one, because the process before has ended without telling the service manager of this one")
			d.succession.end(router.ErrReplaced)
			return nil
		}
	}
	if err := d.remember(before); err != nil {
		return ignoreStopped(err)
	}
	d.before = records{}
	close(d.succession.inPlace)
	d.notify(daemon.SdNotifyReady)
	started := time.After(startGarbage)
	every := statusEvery
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		d.log.WithError(err).Warn("could not read the watchdog settings of the service manager")
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
		counts, err := d.loop.Count() // answered by the event loop
		if err != nil {
			return ignoreStopped(err)
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
				if !errors.Is(context.Cause(ctx), router.ErrReplaced) {
					d.notify(daemon.SdNotifyStopping)
				}
				return nil
			case <-started:
				d.threads.Collect() // the memory for reading the file and loading the programs
				d.threads.AdjustGarbageLimit()
			case <-garbage.C:
				d.threads.CollectIfDue()
			case <-tick.C:
				waiting = false
			}
		}
	}
}

// notify sends a message to the service manager. It does nothing if there is none.
func (d *instance) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		d.log.WithError(err).WithFields(logrus.Fields{"state": state}).Warn("could not send a message to the service manager")
	}
}
