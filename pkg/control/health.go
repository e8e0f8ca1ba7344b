// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Harmless reports whether the problem keeps no Active from being followed.
func (p Problem) Harmless() bool { return slices.Contains([]string{Interval, AddressList}, p.Kind) }

// Health is the body of an answer at /healthz.
type Health struct {
	Healthy bool     `json:"healthy"`
	Reasons []string `json:"reasons"` // why it isn't
}

// Health judges a Status. It is healthy if each router is Active or Backup, but for those
// that the administrator has taken out of service, and if no Active has a problem other than
// harmless ones. It doesn't say whether this host is Active.
func (s *Status) Health() Health {
	h := Health{Reasons: []string{}}
	for _, r := range s.Routers {
		name := fmt.Sprintf("%s (%s)", r.Name, r.Family)
		if r.State == "Initialize" && !r.Maintenance {
			h.Reasons = append(h.Reasons, name+" takes no part: "+r.Waiting)
		}
		for _, p := range r.Problems {
			if r.State == "Active" && !p.Harmless() {
				h.Reasons = append(h.Reasons, name+" is Active and has the problem "+p.Kind+": "+p.Text)
			}
		}
	}
	h.Healthy = len(h.Reasons) == 0
	return h
}

// HealthHandler answers 200 if the status is healthy, and 503 if it isn't or if there is
// none.
func HealthHandler(status func() (Status, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		s, err := status()
		h := s.Health()
		if err != nil {
			h = Health{Reasons: []string{err.Error()}}
		}
		b, err := json.Marshal(h)
		if err != nil {
			fail(w, http.StatusInternalServerError, err)
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience)) // a copy for many has none
		w.Header().Set("Content-Type", "application/json")
		if !h.Healthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write(append(b, '\n')) // the client may be gone
	}
}

// Index is the body of the answer at /.
type Index struct {
	Version   string     `json:"version"` // of failoverd
	Endpoints []Endpoint `json:"endpoints"`
}

// Endpoint is something that can be asked for, or ordered.
type Endpoint struct {
	Method string `json:"method"`
	Path   string `json:"path"` // with all parameters
	What   string `json:"what"`
}

// endpoints are those of the API.
var endpoints = []Endpoint{
	{http.MethodGet, "/", "this list"},
	{http.MethodGet, "/healthz", "200 if each router that isn't in maintenance is Active or Backup and no Active has a problem that keeps it from being followed, otherwise 503 with the reasons"},
	{http.MethodGet, "/v1/status", "the state of everything"},
	{http.MethodGet, "/v1/stats", "the counters"},
	{http.MethodGet, "/v1/events?after=N&follow=true", "what has happened, one JSON object in a line"},
	{http.MethodPost, "/v1/reload?dry_run=true", "read the configuration again, or only say what would change"},
	{http.MethodPost, "/v1/maintenance?router=NAME&on=true&persist=true", "take a router out of service or back into it, without a name all"},
	{http.MethodPost, "/v1/priority?router=NAME&priority=N&persist=true", "give a router another priority, 0: the configured one"},
	{http.MethodPost, "/v1/failover?router=NAME", "let another host have the addresses of a router that is Active"},
}

func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	status, err := s.daemon.Status()
	answer(w)(Index{Version: status.Version, Endpoints: endpoints}, err)
}

// LastReload is the last time that the configuration was read again.
type LastReload struct {
	At    time.Time `json:"at"`
	Error string    `json:"error,omitempty"` // why it isn't the daemon's
}
