// SPDX-License-Identifier: Apache-2.0

// Package metrics serves the state and the counters of the daemon to Prometheus.
//
// Each scrape asks for the status and the counters once, so it shows the same values as
// failoverctl. An answer is reused only for a moment. The names begin with failoverd_, and the
// names of keepalived's exporter can be served beside them.
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

// scrapeTime bounds the time for collecting one answer.
const scrapeTime = 10 * time.Second

// Source provides the values of the metrics. Its methods may be called from any goroutine.
type Source interface {
	Status() (control.Status, error)
	Stats() (control.Stats, error)
}

const index = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>failoverd</title></head>
<body><h1>failoverd</h1><p><a href="metrics">Metrics</a>, <a href="healthz">health</a></p></body></html>
`

// Handler serves the metrics at /metrics, the health of package control at /healthz, and a
// page with links to both at /. The metrics include those of the Go runtime and the process,
// and with compat also those with keepalived's names. If the source fails, a scrape gets
// status 500.
func Handler(s Source, compat bool) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		&collector{source: s, compat: compat},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", &shared{handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		DisableCompression:  true, // saves CPU time for the event loop
		MaxRequestsInFlight: 1,    // shared asks again only after an answer or its timeout
		Timeout:             scrapeTime,
	})})
	mux.Handle("GET /healthz", &shared{handler: control.HealthHandler(s.Status)})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, index) // the client may be gone
	})
	return mux
}
