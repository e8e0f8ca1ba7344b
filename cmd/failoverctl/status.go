// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// tableWidth is the maximum width of the status table in columns.
const tableWidth = 100

func statusCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use:   "status [NAME]...",
		Short: "Show the state of the routers and its reason",
		Long: `status shows the state of all routers, or all details of the named ones.

  STATE  Active: this host has the addresses; Backup: another host has
         them; Initialize: the router takes no part in the election
  NEXT   Active: the time until the next advertisement; Backup: the
         time until it takes over if it hears no advertisement

The line below a router is the reason for its state, or what the router waits for. Lines
that begin with ! are hooks that failed, and problems with their remedies.`,
		Example: `  failoverctl status
  failoverctl status web
  failoverctl status -o json |
      jq '.routers[] | select(.state != "Backup")'`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeNames(o),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := ask(c.Context(), o)
			if err != nil {
				return err
			}
			w := c.OutOrStdout()
			if s.Routers, err = named(s.Routers, args, func(r control.Router) string { return r.Name }); err != nil {
				return err
			}
			switch {
			case o.output == "json":
				return writeJSON(w, s)
			case len(args) > 0 && o.output == "table":
				return writeDetails(w, s)
			}
			return writeStatus(w, s, table{width: tableWidth, wide: o.output == "wide"})
		},
	}
	outputFlag(c, o, "", "table", "wide", "json")
	return c
}

// named returns the routers with these names, or all routers if there are no names.
func named[T any](routers []T, names []string, name func(T) string) ([]T, error) {
	for _, n := range names {
		if !slices.ContainsFunc(routers, func(r T) bool { return name(r) == n }) {
			return nil, fmt.Errorf("there is no router %q: failoverctl status lists the routers", n)
		}
	}
	if len(names) == 0 {
		return routers, nil
	}
	return slices.DeleteFunc(routers, func(r T) bool { return !slices.Contains(names, name(r)) }), nil
}

func ask(ctx context.Context, o *options) (control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return o.client().Status(ctx)
}

func writeJSON(w io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// table is the layout of the status table.
type table struct {
	width int  // maximum width of the lines, unless wide
	wide  bool // has all columns
	brief bool // omits the reasons of routers without a problem
}

// writeStatus writes the table of the routers, and below it the problems of the host.
func writeStatus(w io.Writer, s control.Status, t table) error {
	if _, err := io.WriteString(w, t.routers(s)); err != nil {
		return err
	}
	for _, text := range hostProblems(s) {
		if _, err := fmt.Fprintln(w, truncate("! "+text, t.width)); err != nil {
			return err
		}
	}
	return nil
}

// routers returns the header of the table and the lines of the routers.
func (t table) routers(s control.Status) string {
	header := []string{"ROUTER", "VRID", "FAMILY", "STATE", "SINCE", "PRIO", "ACTIVE", "NEXT"}
	if t.wide {
		header = append(header, "INTERFACE", "ADDRESSES", "MAC", "VIRTUAL-MAC", "RECEIVE", "FENCE", "PEERS", "WHY")
	}
	rows := [][]string{header}
	for _, r := range s.Routers {
		row := []string{truncate(r.Name, 16), fmt.Sprint(r.VRID), r.Family, r.State, age(s.Now.Sub(r.Since)), fmt.Sprint(r.Priority), active(r), next(r)}
		if t.wide {
			row = append(row, r.Interface, orDash(strings.Join(r.Addresses, ",")), orDash(r.MAC), orDash(r.VirtualMAC), orDash(r.Receive), orDash(r.Fence), orDash(peers(r)), why(r))
		}
		rows = append(rows, row)
	}
	var columns, b strings.Builder
	in := tabwriter.NewWriter(&columns, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(in, strings.Join(row, "\t"))
	}
	_ = in.Flush() // a strings.Builder returns no errors
	n := 0
	warned := make(map[string]bool)
	for line := range strings.Lines(columns.String()) {
		line = strings.TrimRight(line, " \n")
		switch {
		case t.wide:
			fmt.Fprintln(&b, line)
		case n == 0:
			fmt.Fprintln(&b, truncate(line, t.width))
		default:
			fmt.Fprintln(&b, truncate(line, t.width))
			r := s.Routers[n-1]
			b.WriteString(t.below(r, s.Now, warned))
		}
		n++
	}
	return b.String()
}

// below returns the lines below that of a router: the reason for its state and its
// problems. warned has the routers and groups whose hooks were handled before.
func (t table) below(r control.Router, now time.Time, warned map[string]bool) string {
	var b strings.Builder
	hooks := hookWarnings(r, now, warned)
	if r.Maintenance {
		fmt.Fprintln(&b, truncate("    maintenance: "+maintenanceEnd(r), t.width))
	}
	onlyMaintenance := r.Maintenance && r.Waiting == vrrp.CauseMaintenance.String() // written above
	if !onlyMaintenance && (!t.brief || r.State == "Initialize" || len(r.Problems)+len(hooks) > 0) {
		fmt.Fprintln(&b, truncate("    "+why(r), t.width))
	}
	for _, p := range r.Problems {
		wrap(&b, t.width, "  ! ", "    ", fmt.Sprintf("%s for %s: %s", p.Kind, age(now.Sub(p.Since)), p.Text))
		wrap(&b, t.width, "    -> ", "       ", p.Remedy)
	}
	for _, text := range hooks {
		fmt.Fprintln(&b, truncate("  ! "+text, t.width))
	}
	return b.String()
}

// hostProblems returns the problems that no single router has.
func hostProblems(s control.Status) (all []string) {
	if r := s.Realtime; r.Problem != "" {
		what := "not real-time"
		if r.Is != string(config.RealtimeNone) {
			what = "only partly real-time"
		}
		all = append(all, what+": "+r.Problem)
	}
	if s.FIFO != nil && s.FIFO.Lost > 0 {
		all = append(all, fmt.Sprintf("%s: %s lost, because no program read them in time", s.FIFO.Path, plural(int(s.FIFO.Lost), "line")))
	}
	return all
}

// writeDetails writes all details of the routers.
func writeDetails(w io.Writer, s control.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, r := range s.Routers {
		if i > 0 {
			fmt.Fprintln(t)
		}
		line := func(name, format string, args ...any) {
			fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
		}
		line("router", "%s, VRID %d on %s, %s, version %d", r.Name, r.VRID, r.Interface, r.Family, r.Version)
		if r.State == "Initialize" {
			line("state", "Initialize for %s: %s", age(s.Now.Sub(r.Since)), why(r))
		} else {
			line("state", "%s for %s: %s", r.State, age(s.Now.Sub(r.Since)), why(r))
		}
		if r.Maintenance {
			line("maintenance", "%s", maintenanceEnd(r))
		}
		line("became Active", "%s", plural(int(r.BecameActive), "time"))
		line("addresses", "%s", cmp.Or(strings.Join(r.Addresses, ", "), "none"))
		if len(r.Extra) > 0 {
			line("extra addresses", "%s", strings.Join(r.Extra, ", "))
		}
		for _, route := range r.Routes {
			line("route", "%s", strings.TrimPrefix(route, "route "))
		}
		for _, rule := range r.Rules {
			line("rule", "%s", strings.TrimPrefix(rule, "rule "))
		}
		line("on this host", "%s", yesNo(r.Assigned))
		line("priority", "%s", priority(r))
		if r.Group != "" {
			line("moves with", "%s", r.Group)
		}
		if r.HeldBy != "" {
			line("waits for", "%s, which hears an Active", r.HeldBy)
		}
		for _, d := range r.Tracks {
			line("check "+d.Track, "%s", check(s, d))
		}
		line("Active", "%s", active(r))
		if r.State == "Backup" && r.Active != "" {
			line("last heard", "%s ago", seconds(r.LastHeard))
		}
		if len(r.Peers) > 0 {
			line("unicast from", "%s", orDash(r.Source))
		}
		for _, p := range r.Peers {
			line("peer", "%s, %s", p.Address, peer(p))
		}
		if r.State != "Initialize" {
			line("next", "%s", map[string]string{"Active": "advertises in ", "Backup": "takes over in "}[r.State]+next(r))
			if r.PreemptIn > 0 {
				line("preempts", "in %s, if the Active still has a lower priority", seconds(r.PreemptIn))
			}
			line("timers", "Advertisement_Interval %s, Active_Adver_Interval %s%s, Skew_Time %s, Active_Down_Interval %s",
				seconds(r.AdvertisementInterval), seconds(r.ActiveAdverInterval), bound(r), seconds(r.SkewTime), seconds(r.ActiveDownInterval))
		}
		if r.Authentication != "" {
			line("authentication", "%s", r.Authentication)
		}
		line("modes", "Preempt_Mode %s, Accept_Mode %s, checksum %s", yesNo(r.Preempt), yesNo(r.Accept), r.Checksum)
		if r.Receive != "" {
			mac := r.VirtualMAC
			if r.Macvlan != "" {
				mac += " " + r.Macvlan
			}
			line("MAC", "%s (virtual MAC: %s)", r.MAC, orDash(mac))
			line("receives by", "%s: %s", r.Receive, r.ReceiveWhy)
			line("fence", "%s", orDash(r.Fence))
		}
		for _, p := range r.Problems {
			line("! "+p.Kind, "%s", p.Text)
			line("", "for %s, last seen %s ago, seen %d times", age(s.Now.Sub(p.Since)), age(s.Now.Sub(p.Last)), p.Count)
			line("", "-> %s", p.Remedy)
		}
		writeHooks(line, r, s.Now)
	}
	return t.Flush()
}

// bound returns the limit of the learnt interval, if there is one.
func bound(r control.Router) string {
	if r.MaxInterval == 0 {
		return ""
	}
	return " (at most " + seconds(r.MaxInterval) + ")"
}

// peer describes a unicast peer. A peer that is Backup is silent, so it isn't heard.
func peer(p control.Peer) string {
	heard := "not heard yet"
	if p.LastHeard != nil {
		heard = "last heard " + seconds(*p.LastHeard) + " ago"
	}
	return fmt.Sprintf("%s, TTL %d to %d", heard, p.MinTTL, p.MaxTTL)
}

// peers returns the addresses of the peers with the time since each was heard.
func peers(r control.Router) string {
	var all []string
	for _, p := range r.Peers {
		if p.LastHeard != nil {
			all = append(all, p.Address+"("+seconds(*p.LastHeard)+")")
		} else {
			all = append(all, p.Address)
		}
	}
	return strings.Join(all, ",")
}

// why returns the reason for a router's state. For a Backup that is the Active it hears.
func why(r control.Router) string {
	if r.Waiting != "" {
		return r.Waiting
	}
	text := r.Cause
	if r.State == "Backup" {
		text = "hears no Active yet"
		if r.Active != "" {
			text = fmt.Sprintf("hears %s, priority %d, every %s", r.Active, r.ActivePriority, seconds(r.ActiveAdverInterval))
		}
		if r.Cause != vrrp.CauseStarting.String() {
			text += "; became Backup: " + r.Cause
		}
	}
	if down := downChecks(r); down != "" {
		text += "; down: " + down
	}
	return text
}

// maintenanceEnd returns the command that ends a router's maintenance.
func maintenanceEnd(r control.Router) string {
	return "failoverctl maintenance off " + r.Name + " ends it"
}

// downChecks returns the names of the checks that are down and change the priority.
func downChecks(r control.Router) string {
	var down []string
	for _, d := range r.Tracks {
		if d.State == "down" && d.Weight != 0 && !d.Reverse {
			down = append(down, d.Track)
		}
	}
	return strings.Join(down, ", ")
}

// effect returns the effect that a check has on a router now.
func effect(d control.Dependency) string {
	switch {
	case d.Fault:
		return "keeps the router in Initialize"
	case d.Change != 0:
		return fmt.Sprintf("priority %+d", d.Change)
	case d.Weight != 0:
		return fmt.Sprintf("weight %d", d.Weight)
	}
	return ""
}

// check describes a check that a router depends on.
func check(s control.Status, d control.Dependency) string {
	text := d.State
	if i := slices.IndexFunc(s.Tracks, func(t control.Track) bool { return t.Name == d.Track }); i >= 0 {
		t := s.Tracks[i]
		if text += " for " + age(s.Now.Sub(t.Since)); t.State == "unknown" {
			text = t.State
		}
		text += ": " + t.Text
	}
	if e := effect(d); e != "" {
		text += "; " + e
	}
	if d.Reverse {
		text += " (reverse)"
	}
	return text
}

func active(r control.Router) string {
	switch {
	case r.State == "Active":
		return "this host"
	case r.State == "Initialize" || r.Active == "":
		return "-"
	}
	return fmt.Sprintf("%s (%d)", r.Active, r.ActivePriority)
}

func next(r control.Router) string {
	if r.State == "Initialize" {
		return "-"
	}
	return seconds(max(r.Deadline, 0))
}

// priority returns the effective priority, and the configured one if that differs.
func priority(r control.Router) string {
	if r.Priority == r.ConfiguredPriority {
		return fmt.Sprint(r.Priority)
	}
	return fmt.Sprintf("%d (configured %d)", r.Priority, r.ConfiguredPriority)
}

// seconds formats a number of seconds, rounded to milliseconds.
func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

// age formats a duration: days and hours, seconds, or tenths of a second.
func age(d time.Duration) string {
	day := 24 * time.Hour
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Minute:
		return d.Round(time.Second).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// truncate cuts a text to a width.
func truncate(s string, width int) string {
	r := []rune(s)
	if len(r) <= width {
		return s
	}
	return string(r[:width-1]) + "…"
}
