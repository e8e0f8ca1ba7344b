// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/failoverd/failoverd/pkg/control"
)

var (
	routerLabels = []string{"name", "interface", "family", "vrid"}
	states       = []string{"Initialize", "Backup", "Active"}
)

// collector makes the metrics of each scrape from the source.
type collector struct {
	source Source
	compat bool
}

// Describe sends nothing, because only the daemon knows the counters. The registry then
// checks the metrics that Collect sends.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the metrics of one status and one set of counters.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	status, err := c.source.Status()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		return
	}
	stats, err := c.source.Stats()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		return
	}
	o := &output{ch: ch, descs: make(map[string]*prometheus.Desc)}
	o.gauge("failoverd_build_info", "the running failoverd, always 1", []string{"version"}, 1, status.Version)
	if l := status.LastReload; l != nil {
		o.gauge("failoverd_last_reload_timestamp_seconds", "time of the last reload, in seconds since the Unix epoch; absent before the first reload", nil, seconds(l.At))
	}
	o.gauge("failoverd_last_reload_successful", "0 if the last reload was refused, so that the running configuration differs from the file", nil, truth(status.LastReload == nil || status.LastReload.Error == ""))
	for _, r := range status.Routers {
		o.router(r)
	}
	for _, t := range status.Tracks {
		o.track(t)
	}
	for _, counter := range stats.Global {
		o.counter("failoverd_"+counterName(counter.Name), counter.Help, nil, counter.Value)
	}
	for _, r := range stats.Routers {
		for _, counter := range r.Counters {
			o.counter("failoverd_router_"+counterName(counter.Name), counter.Help, routerLabels, counter.Value,
				r.Name, r.Interface, r.Family, strconv.Itoa(r.VRID))
		}
	}
	for _, h := range stats.Hooks {
		for _, outcome := range slices.Sorted(maps.Keys(h.Runs)) {
			o.counter("failoverd_hook_runs_total", "runs of the router's hooks, by result", []string{"name", "result"}, h.Runs[outcome], h.Name, outcome)
		}
		o.counter("failoverd_hook_skipped_total", "state changes that ran no hook of the router, because the next one came first", []string{"name"}, h.Skipped, h.Name)
	}
	if c.compat {
		o.keepalived(status, stats)
	}
}

// router sends the state of one Virtual Router.
func (o *output) router(r control.Router) {
	id := []string{r.Name, r.Interface, r.Family, strconv.Itoa(r.VRID)}
	gauge := func(name, help string, value float64) {
		o.gauge("failoverd_router_"+name, help, routerLabels, value, id...)
	}
	with := func(labels []string, more ...string) []string {
		return append(labels[:len(labels):len(labels)], more...)
	}

	o.gauge("failoverd_router_info", "how the router runs, always 1",
		with(routerLabels, "version", "mac", "virtual_mac", "receive", "fence", "checksum"), 1,
		with(id, strconv.Itoa(r.Version), r.MAC, r.VirtualMAC, r.Receive, r.Fence, r.Checksum)...)
	for _, state := range states {
		o.gauge("failoverd_router_state", "1 for the state that the router is in, 0 for the others",
			with(routerLabels, "state"), truth(r.State == state), with(id, state)...)
	}
	gauge("state_since_timestamp_seconds", "time at which the state was entered, in seconds since the Unix epoch", seconds(r.Since))
	gauge("maintenance", "1 if the administrator has taken the router out of service", truth(r.Maintenance))
	gauge("assigned", "1 if the addresses are on this host", truth(r.Assigned))
	gauge("priority", "the effective priority, with the weights of checks and the administrator's changes", float64(r.Priority))
	gauge("configured_priority", "the router's priority in the configuration", float64(r.ConfiguredPriority))
	if r.Active != "" {
		gauge("active_priority", "priority of the Active, which can be this host", float64(r.ActivePriority))
	}
	if r.State == "Backup" && r.Active != "" {
		gauge("last_heard_seconds", "time since the Backup last heard the Active", r.LastHeard)
	}
	if r.State != "Initialize" {
		gauge("deadline_seconds", "time until an Active sends its next advertisement, or until a Backup takes over if it hears none", r.Deadline)
	}
	gauge("advertisement_interval_seconds", "Advertisement_Interval", r.AdvertisementInterval)
	gauge("active_adver_interval_seconds", "Active_Adver_Interval", r.ActiveAdverInterval)
	gauge("skew_time_seconds", "Skew_Time", r.SkewTime)
	gauge("active_down_interval_seconds", "Active_Down_Interval", r.ActiveDownInterval)
	for _, kind := range control.ProblemKinds() {
		found := slices.ContainsFunc(r.Problems, func(p control.Problem) bool { return p.Kind == kind })
		o.gauge("failoverd_problem", "1 if the router has a problem of this kind",
			with(routerLabels, "kind"), truth(found), with(id, kind)...)
	}
	gauge("preempt_mode", "Preempt_Mode, 1 for true", truth(r.Preempt))
	gauge("accept_mode", "Accept_Mode, 1 for true", truth(r.Accept))
}

// track sends the state of one check.
func (o *output) track(t control.Track) {
	labels, id := []string{"track", "kind"}, []string{t.Name, t.Kind}
	if t.State != "unknown" {
		o.gauge("failoverd_track_up", "1 if the check is up", labels, truth(t.State == "up"), id...)
		o.gauge("failoverd_track_took_seconds", "duration of the check's last run", labels, t.Took, id...)
	}
	if t.Value != nil {
		o.gauge("failoverd_track_value", "the number in the file of the check", labels, float64(*t.Value), id...)
	}
	o.counter("failoverd_track_changes_total", "how often the check changed between up and down", labels, t.Changes, id...)
}

// output sends the metrics of one scrape.
type output struct {
	ch    chan<- prometheus.Metric
	descs map[string]*prometheus.Desc
}

func (o *output) gauge(name, help string, labels []string, value float64, values ...string) {
	o.put(prometheus.GaugeValue, name, help, labels, value, values)
}

// counter sends a counter. Values above 2^53 are rounded, because the numbers of Prometheus
// are float64.
func (o *output) counter(name, help string, labels []string, value uint64, values ...string) {
	o.put(prometheus.CounterValue, name, help, labels, float64(value), values)
}

func (o *output) put(kind prometheus.ValueType, name, help string, labels []string, value float64, values []string) {
	desc, ok := o.descs[name]
	if !ok {
		desc = prometheus.NewDesc(name, help, labels, nil)
		o.descs[name] = desc
	}
	for i, v := range values {
		values[i] = strings.ToValidUTF8(v, "\uFFFD") // an interface may have any octets in its name
	}
	m, err := prometheus.NewConstMetric(desc, kind, value, values...)
	if err != nil {
		m = prometheus.NewInvalidMetric(desc, err)
	}
	o.ch <- m
}

// counterName turns the name of a counter into one that follows the rules of Prometheus.
func counterName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '_'
	}, name)
	return strings.TrimSuffix(name, "_total") + "_total"
}

// seconds returns the seconds since the Unix epoch.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
