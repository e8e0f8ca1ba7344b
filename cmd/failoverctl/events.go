// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/failoverd/failoverd/pkg/control"
)

func eventsCommand(o *options) *cobra.Command {
	var follow bool
	var after uint64
	c := &cobra.Command{
		Use:   "events",
		Short: "Show what has happened: transitions and their reasons, failures, reloads",
		Long: `events shows what has happened since the start, of which the daemon remembers the last
4096 transitions and the last 1024 events of each other kind. Each has a number; where
some are missing, because they were too many or were read too slowly, it says how many.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			w := c.OutOrStdout()
			return o.client().Events(c.Context(), after, follow, func(e control.Event) error {
				if o.output == "json" {
					return json.NewEncoder(w).Encode(e)
				}
				return writeEvent(w, e)
			})
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens, until interrupted")
	c.Flags().Uint64Var(&after, "after", 0, "begin after the event of this `number`")
	outputFlag(c, o, ", one object in a line", "table", "json")
	return c
}

func writeEvent(w io.Writer, e control.Event) error {
	if e.Lost > 0 {
		if _, err := fmt.Fprintf(w, "(%d events before are lost)\n", e.Lost); err != nil {
			return err
		}
	}
	what := e.Kind
	switch e.Kind {
	case "transition":
		what = "transition " + e.From + " → " + e.To
	case "track":
		what = "check is " + e.To
	}
	who := e.Name
	if e.Interface != "" {
		who = fmt.Sprintf("%s VRID %d %s", e.Interface, e.VRID, e.Family)
	}
	if e.Peer != "" {
		who += " (peer " + e.Peer + ")"
	}
	_, err := fmt.Fprintf(w, "%d  %s  %s  %s: %s\n", e.Number, e.Time.Local().Format(time.RFC3339Nano[:23]), who, what, e.Text)
	return err
}

func statsCommand(o *options) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "stats [NAME]...",
		Short: "Show what has been counted since the start",
		Long: `stats shows the counters of what was received on all interfaces, and of each Virtual
Router or of those that are named. Counters that RFC 8347 knows have its names. Those
that are 0 are shown with --all and in JSON.`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeNames(o),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), askTime)
			defer cancel()
			s, err := o.client().Stats(ctx)
			if err != nil {
				return err
			}
			if s.Routers, err = named(s.Routers, args, func(r control.RouterStats) string { return r.Name }); err != nil {
				return err
			}
			if len(args) > 0 {
				s.Hooks = slices.DeleteFunc(s.Hooks, func(h control.HookStats) bool { return !slices.Contains(args, h.Name) })
			}
			if o.output == "json" {
				return writeJSON(c.OutOrStdout(), s)
			}
			return writeStats(c.OutOrStdout(), s, all)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "also what was never counted")
	outputFlag(c, o, "", "table", "json")
	return c
}

// writeStats writes what has been counted: a line for each counter that isn't 0.
func writeStats(w io.Writer, s control.Stats, all bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	section := func(title string, counters []control.Counter) {
		fmt.Fprintf(t, "%s\n", title)
		any := false
		for _, c := range counters {
			if c.Value != 0 || all {
				any = true
				fmt.Fprintf(t, "  %s\t%d\t%s\n", c.Name, c.Value, c.Help)
			}
		}
		if !any {
			fmt.Fprintln(t, "  nothing counted")
		}
	}
	section("received on all interfaces", s.Global)
	for _, r := range s.Routers {
		section(fmt.Sprintf("%s: VRID %d on %s, %s", r.Name, r.VRID, r.Interface, r.Family), r.Counters)
	}
	for _, h := range s.Hooks {
		var counters []control.Counter
		for _, outcome := range slices.Sorted(maps.Keys(h.Runs)) {
			counters = append(counters, control.Counter{Name: outcome, Help: "runs that ended so", Value: h.Runs[outcome]})
		}
		counters = append(counters, control.Counter{Name: "skipped", Help: "changes of state that were never told", Value: h.Skipped})
		section("hooks of "+h.Name, counters)
	}
	return t.Flush()
}
