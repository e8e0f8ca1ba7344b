// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/failoverd/failoverd/pkg/control"
)

const (
	// takeOverTimeout bounds the wait until the new process serves the control socket.
	takeOverTimeout = 20 * time.Second
	takeOverPoll    = 20 * time.Millisecond
)

func restartCommand(o *options) *cobra.Command {
	var onlyStop bool
	c := &cobra.Command{
		Use:   "restart",
		Short: "Restart failoverd without a failover, for example after an upgrade",
		Long: `restart starts a new process of failoverd, from the file that is installed now and with the
same arguments. It prepares itself while the old process works, and then takes over. An
Active stays Active, with its addresses; other hosts notice nothing. Maintenance,
priorities of "failoverctl priority", events and counters are kept, except the counters of
hooks, which begin at 0.

If the new process can't take over, the old one goes on, and restart shows the reason: a
mistake in the configuration, BPF programs that the kernel refuses, or a router that could
not continue as Active, because its interval or addresses have changed, or because nothing
fences its addresses. "failoverctl reload" changes the configuration, and
"systemctl stop failoverd" and then start restart with a failover.

--only-stop is what the systemd unit uses for "systemctl restart failoverd". The running
process ends, and leaves addresses and leases in place for the process that systemd starts.
Before, it tries whether a new process could take over. If not, it goes on, and systemd stops
it in the usual way, with a failover.`,
		Example: "  sudo failoverctl restart",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), answerTimeout+takeOverTimeout)
			defer cancel()
			before, err := o.client().Status(ctx)
			if err != nil {
				return err
			}
			next, err := o.client().Restart(ctx, onlyStop)
			if errors.Is(err, control.ErrTooOld) {
				return fmt.Errorf("%w: restart it with systemctl restart failoverd", err)
			}
			if err != nil {
				return err
			}
			if onlyStop {
				return o.awaitEnd(ctx, before.PID)
			}
			after, err := o.awaitProcess(ctx, &before, next.PID)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "process %d of failoverd %s has taken over from process %d of failoverd %s: %s\n",
				after.PID, after.Version, before.PID, before.Version, countStates(after.Routers))
			return err
		},
	}
	c.Flags().BoolVar(&onlyStop, "only-stop", false, "only stop the running process, because somebody else starts the next one at once")
	return c
}

// awaitEnd waits until a process no longer serves the control socket.
func (o *options) awaitEnd(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, takeOverTimeout)
	defer cancel()
	for {
		now, err := o.client().Status(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("process %d has not ended within %v: see its log", pid, takeOverTimeout)
		}
		if err != nil || now.PID != pid {
			return nil
		}
		select {
		case <-time.After(takeOverPoll):
		case <-ctx.Done():
		}
	}
}

// awaitProcess waits until the process serves the control socket.
func (o *options) awaitProcess(ctx context.Context, before *control.Status, pid int) (control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, takeOverTimeout)
	defer cancel()
	for {
		now, err := o.client().Status(ctx)
		switch {
		case err == nil && now.PID == pid:
			return now, nil
		case err == nil && !now.Started.Equal(before.Started):
			return now, fmt.Errorf("process %d could not take over, so process %d goes on: its log has the reason", pid, now.PID)
		}
		select {
		case <-time.After(takeOverPoll):
		case <-ctx.Done():
			return now, errors.Join(fmt.Errorf("process %d has not taken over within %v: see the log", pid, takeOverTimeout), err)
		}
	}
}

func countStates(routers []control.Router) string {
	counts := make(map[string]int)
	for _, r := range routers {
		counts[r.State]++
	}
	return fmt.Sprintf("%d Active, %d Backup, %d Initialize", counts["Active"], counts["Backup"], counts["Initialize"])
}
