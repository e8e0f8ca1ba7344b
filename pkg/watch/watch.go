// SPDX-License-Identifier: Apache-2.0

// Package watch implements the mode that only listens: it shows the virtual routers of a
// link.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/transmit"
)

// refresh is the interval between updates of values that depend on the time, like the
// seconds since the last advertisement.
const refresh = 500 * time.Millisecond

// minUpdate is the minimum time between two updates caused by advertisements.
const minUpdate = 50 * time.Millisecond

// Config has the parameters of Run.
type Config struct {
	Interfaces []string
	XDPMode    datapath.Mode
	// Running is logged when Run begins to listen, unless it is empty.
	Running string
}

// Run shows every virtual router that it hears on the interfaces until ctx ends. It sends
// nothing. On a terminal it redraws a table; elsewhere it writes a line for each change.
func Run(ctx context.Context, c Config, out io.Writer, log *logrus.Logger) (err error) {
	if err := process.CheckPrivileges(); err != nil {
		return err
	}
	monitor, err := link.NewMonitor()
	if err != nil {
		return fmt.Errorf("watch the interfaces: %w", err)
	}
	defer monitor.Close()
	heard := newHeard()
	var found []link.Interface
	for _, name := range c.Interfaces {
		i, err := link.Find(monitor.Snapshot(), name)
		if err != nil {
			return err
		}
		found = append(found, i)
		heard.interfaces[i.Index] = i
	}

	dp, lacks, err := datapath.LoadFor(datapath.Options{Unpinned: true}, []datapath.Mode{c.XDPMode})
	if err != nil {
		return err
	}
	for _, l := range lacks {
		log.WithError(l.Why).Warn(l.What)
	}
	defer func() { err = errors.Join(err, dp.Close()) }()
	groups, err := joinGroups(found)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, groups()) }()
	for _, i := range found {
		path, err := dp.Attach(datapath.Link{Index: i.Index, Name: i.Name, Kind: i.Kind, VLANs: link.CarriesVLANs(monitor.Snapshot(), i.Index)}, c.XDPMode, true)
		if err != nil {
			return fmt.Errorf("receive on %s: %w", i.Name, err)
		}
		log.WithFields(logrus.Fields{"interface": i.Name, "receive": path.Kind}).Infof("watching: %s", path.Why)
	}

	if c.Running != "" {
		log.Info(c.Running)
	}

	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return monitor.Run(ctx) })
	news := make(chan struct{}, 1)
	parts.Go(func() error {
		for ctx.Err() == nil {
			if err := dp.Wait(process.Clock{}.Now().Add(refresh)); err != nil {
				return fmt.Errorf("wait for advertisements: %w", err)
			}
			select {
			case news <- struct{}{}:
			default:
			}
		}
		return nil
	})
	parts.Go(func() error {
		screen := newScreen(out)
		var updated time.Time
		tick := time.NewTicker(refresh)
		defer tick.Stop()
		if err := screen.start(c.Interfaces); err != nil {
			return err
		}
		for {
			select {
			case <-ctx.Done():
				return screen.end(heard)
			case <-monitor.Changes():
				for _, i := range monitor.Snapshot() {
					if _, ok := heard.interfaces[i.Index]; ok {
						heard.interfaces[i.Index] = i
					}
				}
				continue
			case <-news:
				dp.Drain(heard.record)
				if screen.terminal || time.Since(updated) < minUpdate {
					continue // the next tick shows it
				}
			case <-tick.C:
				dp.Drain(heard.record)
			}
			updated = time.Now()
			if err := screen.show(heard, process.Clock{}.Now()); err != nil {
				return err
			}
		}
	})
	return parts.Wait()
}

// joinGroups joins the VRRP groups, so that switches with IGMP or MLD snooping deliver the
// advertisements.
func joinGroups(interfaces []link.Interface) (leave func() error, err error) {
	var members []io.Closer
	leave = func() error {
		var errs []error
		for _, m := range members {
			errs = append(errs, m.Close())
		}
		return errors.Join(errs...)
	}
	for _, i := range interfaces {
		conn, err := transmit.Open(i.Index)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("join the VRRP groups on %s: %w", i.Name, err), leave())
		}
		members = append(members, conn)
		for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
			// One family may be disabled on the host. The other one is watched then.
			_ = conn.Join(f)
		}
	}
	return leave, nil
}
