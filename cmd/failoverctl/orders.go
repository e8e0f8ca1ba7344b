// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

func maintenanceCommand(o *options) *cobra.Command {
	var all, persist bool
	c := &cobra.Command{
		Use:   "maintenance on|off ROUTER|--all",
		Short: "Take routers out of service, or back into it",
		Long: `maintenance on has a router leave with priority 0, so that another host takes over within
Skew_Time, and keeps it in Initialize until maintenance off. The other members of its
group go with it. It holds until the daemon ends or the router is taken out of the
configuration, with --persist beyond both.`,
		Example: `  sudo failoverctl maintenance on --all
  sudo failoverctl maintenance on web --persist
  sudo failoverctl maintenance off web`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: completeMaintenance(o),
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] != "on" && args[0] != "off" {
				return &usageError{fmt.Errorf("maintenance %q: it is on or off", args[0])}
			}
			name := ""
			switch {
			case all == (len(args) == 2):
				return &usageError{errors.New("which router? give its name, or --all")}
			case !all:
				name = args[1]
			}
			ctx, cancel := context.WithTimeout(c.Context(), askTime)
			defer cancel()
			order, err := o.client().Maintenance(ctx, name, args[0] == "on", persist)
			if err != nil {
				return err
			}
			return o.tell(ctx, c.OutOrStdout(), order)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "all routers")
	c.Flags().BoolVar(&persist, "persist", false, "also after a restart of the daemon or the host, and while the router is out of the configuration")
	return c
}

func priorityCommand(o *options) *cobra.Command {
	var persist bool
	c := &cobra.Command{
		Use:   "priority ROUTER N|configured",
		Short: "Give a router another priority",
		Long: `priority gives a router another priority, 1 to 254, until the next reload or the daemon's
end; with --persist beyond that. "configured" gives it the one of the configuration
back. What its checks add or take away comes on top of it.`,
		Example: `  sudo failoverctl priority web 50
  sudo failoverctl priority web configured`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeFirst(completeNames(o), "configured"),
		RunE: func(c *cobra.Command, args []string) error {
			n := 0
			if args[1] != "configured" {
				var err error
				if n, err = strconv.Atoi(args[1]); err != nil || n < 1 || n > 254 {
					return &usageError{fmt.Errorf("priority %q: it is 1 to 254, or configured", args[1])}
				}
			}
			ctx, cancel := context.WithTimeout(c.Context(), askTime)
			defer cancel()
			order, err := o.client().SetPriority(ctx, args[0], n, persist)
			if err != nil {
				return err
			}
			return o.tell(ctx, c.OutOrStdout(), order)
		},
	}
	c.Flags().BoolVar(&persist, "persist", false, "also after a reload, and a restart of the daemon or the host")
	return c
}

func handOverCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "failover ROUTER",
		Short: "Give the addresses of a router to another host, once",
		Long: `failover has a router that is Active leave with priority 0 and go on as a Backup that
doesn't preempt, whatever its priority, until the new Active is gone. If no other host
takes over within Active_Down_Interval, this one has the addresses again.`,
		Example: `  sudo failoverctl failover web
  sudo failoverctl failover web && sudo systemctl restart nginx`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFirst(completeNames(o)),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), askTime)
			defer cancel()
			before, err := o.client().Status(ctx)
			if err != nil {
				return err
			}
			wait := time.Second
			for _, r := range before.Routers {
				if r.Name == args[0] {
					wait = max(wait, time.Second+time.Duration(r.ActiveDownInterval*float64(time.Second)))
				}
			}
			order, err := o.client().HandOver(ctx, args[0])
			if err != nil {
				return err
			}
			until, cancel := context.WithTimeout(c.Context(), wait)
			defer cancel()
			o.await(until, order, func(r control.Router) bool { return r.Active != "" })
			if err := o.tell(c.Context(), c.OutOrStdout(), order); err != nil {
				return err
			}
			after, err := o.client().Status(c.Context())
			if err != nil {
				return err
			}
			for _, r := range after.Routers {
				if r.Name == args[0] && r.State == "Active" {
					return fmt.Errorf("no other host has taken over from %s (%s), so this one has the addresses again", r.Name, r.Family)
				}
			}
			return nil
		},
	}
}

// await waits until all routers of an order are as wanted, or ctx ends.
func (o *options) await(ctx context.Context, order control.Order, want func(control.Router) bool) {
	for ctx.Err() == nil {
		s, err := o.client().Status(ctx)
		if err == nil && !slices.ContainsFunc(s.Routers, func(r control.Router) bool {
			return slices.Contains(order.Routers, r.Name) && !want(r)
		}) {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// tell says how the routers of an order are now.
func (o *options) tell(ctx context.Context, w io.Writer, order control.Order) error {
	s, err := o.client().Status(ctx)
	if err != nil {
		return err
	}
	for _, r := range s.Routers {
		if !slices.Contains(order.Routers, r.Name) {
			continue
		}
		text := []string{r.State, "priority " + priority(r)}
		switch {
		case r.Maintenance && r.Waiting == vrrp.CauseMaintenance.String():
			text[1] = "in maintenance"
		case r.Maintenance:
			text[1] = "in maintenance; also " + why(r)
		case r.State == "Initialize":
			text[1] = why(r)
		case r.State == "Backup" && r.Active == "":
			text = append(text, "nobody is Active yet")
		case r.State == "Backup":
			text = append(text, "Active is "+r.Active)
		}
		if _, err := fmt.Fprintf(w, "%s (%s): %s\n", r.Name, r.Family, strings.Join(text, ", ")); err != nil {
			return err
		}
	}
	return nil
}
