// SPDX-License-Identifier: Apache-2.0

// Package metrics shows the daemon's state and counters to Prometheus.
//
// It keeps nothing for longer than a moment: a scrape asks for the status and the
// counters once, so that it says what failoverctl says. Its own names begin with failoverd_; those
// of keepalived's exporter may be had beside them.
package metrics

import (
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/failoverd/failoverd/pkg/control"
)

// scrapeTime is how long collecting for one answer may take.
const scrapeTime = 10 * time.Second

// Source is what the metrics are made from. Its methods may be called from any
// goroutine.
type Source interface {
	Status() (control.Status, error)
	Stats() (control.Stats, error)
}

const index = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>failoverd</title></head>
<body><h1>failoverd</h1><p><a href="metrics">Metrics</a>, <a href="healthz">health</a></p></body></html>
`

// Handler serves the metrics at /metrics, what package control says of the health at
// /healthz, and a page that leads there at /, with the metrics of the Go runtime and the
// process. With compat keepalived's names are
// among them. If the source fails, so does the scrape, with status 500.
func Handler(s Source, compat bool) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		&collector{source: s, compat: compat},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", &shared{handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		DisableCompression:  true, // the processor is for the election
		MaxRequestsInFlight: 1,    // more only if one has hung for scrapeTime
		Timeout:             scrapeTime,
	})})
	mux.Handle("GET /healthz", &shared{handler: control.HealthHandler(s.Status)})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, index) // the client may be gone
	})
	return mux
}
