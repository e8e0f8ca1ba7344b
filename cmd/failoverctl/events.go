// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/failoverd/failoverd/pkg/control"
)

func eventsCommand(o *options) *cobra.Command {
	var follow bool
	var after uint64
	var since string
	var kinds []string
	c := &cobra.Command{
		Use:   "events [NAME]...",
		Short: "Show what has happened: transitions and their reasons, failures, reloads",
		Long: `events shows what has happened since the start, of which the daemon remembers the last
4096 transitions and the last 1024 events of each other kind. Each has a number; where
some are missing, because they were too many or were read too slowly, it says how many.

With names it shows the events of these routers, checks and groups only.`,
		Example: `  failoverctl events
  failoverctl events web --since 10m
  failoverctl events --since 14:30 --kind transition,problem
  failoverctl events -f -o json | jq 'select(.to == "Active")'`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeNames(o),
		RunE: func(c *cobra.Command, names []string) error {
			begin, err := moment(since, time.Now())
			if err != nil {
				return err
			}
			if err := knownKinds(kinds); err != nil {
				return err
			}
			wanted := func(e control.Event) bool {
				return !e.Time.Before(begin) && (len(names) == 0 || slices.Contains(names, e.Name)) && (len(kinds) == 0 || slices.Contains(kinds, e.Kind))
			}
			w := c.OutOrStdout()
			lost := uint64(0) // before what is shown next
			return o.client().Events(c.Context(), after, follow, func(e control.Event) error {
				if lost += e.Lost; e.Time.Before(begin) {
					lost = 0 // those were before it too
				}
				if !wanted(e) {
					return nil
				}
				e.Lost, lost = lost, 0
				if o.output == "json" {
					return json.NewEncoder(w).Encode(e)
				}
				return writeEvent(w, e)
			})
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens, until interrupted")
	c.Flags().Uint64Var(&after, "after", 0, "begin after the event of this `number`")
	c.Flags().StringVar(&since, "since", "", "begin at this `time`: 10m or 2h ago, 14:30 today, 2026-01-31, \"2026-01-31 14:30:05\" or RFC 3339")
	c.Flags().StringSliceVar(&kinds, "kind", nil, "only events of this `kind`: "+strings.Join(control.EventKinds(), ", ")+"; may be repeated")
	completeFlag(c, "kind", control.EventKinds()...)
	outputFlag(c, o, ", one object in a line", "table", "json")
	return c
}

// knownKinds checks --kind.
func knownKinds(kinds []string) error {
	for _, k := range kinds {
		if known := control.EventKinds(); !slices.Contains(known, k) {
			return &usageError{fmt.Errorf("--kind %s is not known: it is one of %s", k, strings.Join(known, ", "))}
		}
	}
	return nil
}

// moment reads a time, or how long before now it was. Without a zone it is the local one,
// without a day today's. An empty word is the beginning of time.
func moment(word string, now time.Time) (time.Time, error) {
	if word == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(word); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	if t, err := time.Parse(time.RFC3339, word); err == nil {
		return t, nil
	}
	for _, layout := range []string{time.DateTime, "2006-01-02 15:04", time.DateOnly, "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, word, now.Location()); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{time.TimeOnly, "15:04"} {
		if t, err := time.Parse(layout, word); err == nil {
			return time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), now.Location()), nil
		}
	}
	return time.Time{}, &usageError{fmt.Errorf("--since %q is neither a time nor how long ago it was: write 10m, 14:30 or \"2026-01-31 14:30:05\"", word)}
}

// eventTime has the zone, so that it can be compared with the log.
const eventTime = "2006-01-02T15:04:05.000Z07:00"

func writeEvent(w io.Writer, e control.Event) error {
	if e.Lost > 0 {
		if _, err := fmt.Fprintf(w, "(%s before this are lost)\n", several(int(e.Lost), "event")); err != nil {
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
	of := e.Interface
	if e.VRID != 0 {
		of = fmt.Sprintf("%s VRID %d %s", e.Interface, e.VRID, e.Family)
	}
	switch {
	case of == "":
		of = e.Name
	case e.Name != "":
		of = e.Name + " (" + of + ")"
	}
	if e.Peer != "" {
		of += " (peer " + e.Peer + ")"
	}
	_, err := fmt.Fprintf(w, "%d  %s  %s  %s: %s\n", e.Number, e.Time.Local().Format(eventTime), of, what, e.Text)
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
		Example: `  failoverctl stats
  failoverctl stats web --all
  failoverctl stats -o json |
      jq '.global[] | select(.value > 0)'`,
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
