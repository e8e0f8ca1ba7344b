// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net"
	"slices"
	"strconv"
)

// Off is the value of a key that turns it off.
const Off = "off"

// CheckMetrics checks the TCP address of the metrics: HOST:PORT, :PORT for all addresses
// of the host, or off.
func CheckMetrics(address string) error {
	if address == Off {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("metrics address %s is not HOST:PORT: write it like 127.0.0.1:9650 or [::1]:9650, or off", quote(address))
	}
	return nil
}

// CheckMetricsCompat checks the name of the program whose metrics are added.
func CheckMetricsCompat(s string) error {
	if !slices.Contains(compats, s) {
		return fmt.Errorf("%s is not known: it is %s", quote(s), either(compats))
	}
	return nil
}

func metricsKey() key[Global] {
	k := textKey("metrics", "The TCP address where metrics for Prometheus are served, at /metrics: HOST:PORT like 127.0.0.1:9650, or :PORT for all addresses of the host. A port that another process has at the start is waited for.", func(g *Global) *string { return &g.Metrics })
	k.fallback = Off
	read := k.read
	k.read = func(r *reader, n *node, g *Global) []*node {
		items := read(r, n, g)
		if err := CheckMetrics(g.Metrics); err != nil {
			r.fail(r.value(n), "", "%s", err)
		}
		return items
	}
	return k
}

// GlobalDifference returns a line for each key of global that differs. It leaves out
// xdp_mode, unchanged and notify_timeout, which Difference tells with each router, and
// startup_delay and delay_after_boot, which have no effect after the start.
func GlobalDifference(a, b Global) []string {
	var all differences
	all.add("log_format", a.LogFormat, b.LogFormat)
	all.add("log_level", a.LogLevel, b.LogLevel)
	all.add("metrics", a.Metrics, b.Metrics)
	all.add("metrics_compat", a.MetricsCompat, b.MetricsCompat)
	all.add("realtime", a.Realtime, b.Realtime)
	all.add("notify", a.Notify, b.Notify)
	all.add("notify_fifo", a.NotifyFIFO, b.NotifyFIFO)
	all.add("notify_priority_changes", a.NotifyPriorityChanges, b.NotifyPriorityChanges)
	all.add("script_user", a.ScriptUser, b.ScriptUser)
	all.add("allow_insecure_scripts", a.AllowInsecureScripts, b.AllowInsecureScripts)
	return all
}
