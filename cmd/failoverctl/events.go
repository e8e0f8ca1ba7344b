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
		Short: "Show events: transitions and their reasons, failures, reloads",
		Long: `events shows the events since failoverd started. The daemon keeps the last 4096
transitions and the last 1024 events of each other kind. Events are numbered. If events
were dropped, or were read too slowly, events shows how many are missing.

With names, it shows only the events of these routers, checks and groups.`,
		Example: `  failoverctl events
  failoverctl events web --since 10m
  failoverctl events --since 14:30 --kind transition,problem
  failoverctl events -f -o json | jq 'select(.to == "Active")'`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeNames(o),
		RunE: func(c *cobra.Command, names []string) error {
			begin, err := parseSince(since, time.Now())
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
			lost := uint64(0) // events missing before the one that is shown next
			return o.client().Events(c.Context(), after, follow, func(e control.Event) error {
				if lost += e.Lost; e.Time.Before(begin) {
					lost = 0 // the missing ones are older than --since too
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
	c.Flags().BoolVarP(&follow, "follow", "f", false, "also show new events, until interrupted")
	c.Flags().Uint64Var(&after, "after", 0, "begin after the event with this `number`")
	c.Flags().StringVar(&since, "since", "", "begin at this `time`: 10m or 2h ago, 14:30 today, 2026-01-31, \"2026-01-31 14:30:05\" or RFC 3339")
	c.Flags().StringSliceVar(&kinds, "kind", nil, "only events of this `kind`: "+strings.Join(control.EventKinds(), ", ")+"; may be repeated")
	completeFlag(c, "kind", control.EventKinds()...)
	outputFlag(c, o, ", with one object per line", "table", "json")
	return c
}

// knownKinds checks --kind.
func knownKinds(kinds []string) error {
	for _, k := range kinds {
		if known := control.EventKinds(); !slices.Contains(known, k) {
			return &usageError{fmt.Errorf("there is no kind %q of events: use %s", k, strings.Join(known, ", "))}
		}
	}
	return nil
}

// parseSince parses a time, or a duration before now. A time without a zone is local, and
// one without a date is today. The empty word is the zero time.
func parseSince(word string, now time.Time) (time.Time, error) {
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
	return time.Time{}, &usageError{fmt.Errorf("--since %q is neither a time nor a duration: write it like 10m, 14:30 or \"2026-01-31 14:30:05\"", word)}
}

// eventTime includes the zone, so that the times can be compared with the log.
const eventTime = "2006-01-02T15:04:05.000Z07:00"

func writeEvent(w io.Writer, e control.Event) error {
	if e.Lost > 0 {
		if _, err := fmt.Fprintf(w, "(%s missing here)\n", plural(int(e.Lost), "event")); err != nil {
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
		Short: "Show the counters since the start",
		Long: `stats shows the counters of packets received on all interfaces, and the counters of each
Virtual Router or of the named ones. Counters that RFC 8347 defines have its names.
Counters that are 0 are shown only with --all and in JSON.`,
		Example: `  failoverctl stats
  failoverctl stats web --all
  failoverctl stats -o json |
      jq '.global[] | select(.value > 0)'`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeNames(o),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), answerTimeout)
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
	c.Flags().BoolVar(&all, "all", false, "also show counters that are 0")
	outputFlag(c, o, "", "table", "json")
	return c
}

// writeStats writes a line for each counter that isn't 0, or for each counter.
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
			fmt.Fprintln(t, "  all counters are 0")
		}
	}
	section("received on all interfaces", s.Global)
	for _, r := range s.Routers {
		section(fmt.Sprintf("%s: VRID %d on %s, %s", r.Name, r.VRID, r.Interface, r.Family), r.Counters)
	}
	for _, h := range s.Hooks {
		var counters []control.Counter
		for _, outcome := range slices.Sorted(maps.Keys(h.Runs)) {
			counters = append(counters, control.Counter{Name: outcome, Help: "runs with this outcome", Value: h.Runs[outcome]})
		}
		counters = append(counters, control.Counter{Name: "skipped", Help: "state changes without a hook, because the next one came first", Value: h.Skipped})
		section("hooks of "+h.Name, counters)
	}
	return t.Flush()
}
