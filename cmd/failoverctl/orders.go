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
		Short: "Take routers out of service, or put them back into service",
		Long: `maintenance on takes a router out of service. If the router is Active, it sends an
advertisement with priority 0, so that another host takes over within Skew_Time. It stays
in Initialize until maintenance off. The other routers of its group go with it.

Maintenance ends when the daemon stops, or when the router is removed from the
configuration. With --persist it outlasts both.`,
		Example: `  sudo failoverctl maintenance on --all
  sudo failoverctl maintenance on web --persist
  sudo failoverctl maintenance off web`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: completeMaintenance(o),
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] != "on" && args[0] != "off" {
				return &usageError{fmt.Errorf("maintenance %q: use on or off", args[0])}
			}
			name := ""
			switch {
			case all == (len(args) == 2):
				return &usageError{errors.New("name either one router or --all")}
			case !all:
				name = args[1]
			}
			ctx, cancel := context.WithTimeout(c.Context(), answerTimeout)
			defer cancel()
			order, err := o.client().Maintenance(ctx, name, args[0] == "on", persist)
			if err != nil {
				return err
			}
			return o.printRouters(ctx, c.OutOrStdout(), order)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "all routers")
	c.Flags().BoolVar(&persist, "persist", false, "keep it over restarts of the daemon and the host, and while the router isn't in the configuration")
	return c
}

func priorityCommand(o *options) *cobra.Command {
	var persist bool
	c := &cobra.Command{
		Use:   "priority ROUTER N|configured",
		Short: "Change the priority of a router",
		Long: `priority sets the priority of a router, 1 to 254, until the next reload or until the
daemon stops. With --persist it outlasts both. "configured" restores the priority of the
configuration. The weights of the router's checks are added to the new priority.`,
		Example: `  sudo failoverctl priority web 50
  sudo failoverctl priority web configured`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeFirst(completeNames(o), "configured"),
		RunE: func(c *cobra.Command, args []string) error {
			n := 0
			if args[1] != "configured" {
				var err error
				if n, err = strconv.Atoi(args[1]); err != nil || n < 1 || n > 254 {
					return &usageError{fmt.Errorf("priority %q: use 1 to 254, or configured", args[1])}
				}
			}
			ctx, cancel := context.WithTimeout(c.Context(), answerTimeout)
			defer cancel()
			order, err := o.client().SetPriority(ctx, args[0], n, persist)
			if err != nil {
				return err
			}
			return o.printRouters(ctx, c.OutOrStdout(), order)
		},
	}
	c.Flags().BoolVar(&persist, "persist", false, "keep it over reloads, and over restarts of the daemon and the host")
	return c
}

func failoverCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "failover ROUTER",
		Short: "Hand the addresses of a router over to another host, once",
		Long: `failover hands the addresses of a router over. The router sends an advertisement with
priority 0 and becomes Backup. It doesn't preempt the new Active, whatever its priority,
until that one is gone. If no other host takes over within Active_Down_Interval, this
host takes the addresses back.`,
		Example: `  sudo failoverctl failover web
  sudo failoverctl failover web && sudo systemctl restart nginx`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFirst(completeNames(o)),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), answerTimeout)
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
			if err := o.printRouters(c.Context(), c.OutOrStdout(), order); err != nil {
				return err
			}
			after, err := o.client().Status(c.Context())
			if err != nil {
				return err
			}
			for _, r := range after.Routers {
				if r.Name == args[0] && r.State == "Active" {
					return fmt.Errorf("no other host took over the addresses of %s (%s), so this host took them back", r.Name, r.Family)
				}
			}
			return nil
		},
	}
}

// await waits until want is true for all routers of an order, or until ctx ends.
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

// printRouters writes the current state of the routers of an order.
func (o *options) printRouters(ctx context.Context, w io.Writer, order control.Order) error {
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
			text = append(text, "no host is Active yet")
		case r.State == "Backup":
			text = append(text, "Active is "+r.Active)
		}
		if _, err := fmt.Fprintf(w, "%s (%s): %s\n", r.Name, r.Family, strings.Join(text, ", ")); err != nil {
			return err
		}
	}
	return nil
}
