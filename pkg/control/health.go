// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Harmless reports whether Backups follow an Active in spite of the problem.
func (p Problem) Harmless() bool { return slices.Contains([]string{Interval, AddressList}, p.Kind) }

// Health is the body of an answer at /healthz.
type Health struct {
	Healthy bool     `json:"healthy"`
	Reasons []string `json:"reasons"` // why it isn't healthy
}

// Health returns whether the routers work. A Status is healthy if each router that isn't in
// maintenance is Active or Backup, and if no Active has a problem that isn't Harmless. Health
// doesn't depend on whether this host is Active or Backup.
func (s *Status) Health() Health {
	h := Health{Reasons: []string{}}
	for _, r := range s.Routers {
		name := fmt.Sprintf("%s (%s)", r.Name, r.Family)
		if r.State == "Initialize" && !r.Maintenance {
			h.Reasons = append(h.Reasons, name+" is in Initialize: "+r.Waiting)
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

// HealthHandler answers 200 if the status is healthy, and 503 if it isn't or can't be
// determined.
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
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(clientTimeout)) // the metrics server answers from a buffer, which has no deadline
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

// Endpoint is one path of the API.
type Endpoint struct {
	Method string `json:"method"`
	Path   string `json:"path"` // with all parameters
	What   string `json:"what"` // what it returns or does
}

// endpoints are the endpoints of the API.
var endpoints = []Endpoint{
	{http.MethodGet, "/", "this list"},
	{http.MethodGet, "/healthz", "200 if each router that isn't in maintenance is Active or Backup, and no Active has a problem that keeps Backups from following it; otherwise 503 with the reasons"},
	{http.MethodGet, "/v1/status", "the state of the daemon and its routers"},
	{http.MethodGet, "/v1/stats", "the counters"},
	{http.MethodGet, "/v1/events?after=N&follow=true", "the events, one JSON object per line"},
	{http.MethodPost, "/v1/reload?dry_run=true", "read the configuration again, or only return what would change"},
	{http.MethodPost, "/v1/maintenance?router=NAME&on=true&persist=true", "take a router out of service or put it back into service; without a name, all routers"},
	{http.MethodPost, "/v1/priority?router=NAME&priority=N&persist=true", "change the priority of a router; 0 restores the configured one"},
	{http.MethodPost, "/v1/failover?router=NAME", "hand the addresses of an Active router over to another host"},
	{http.MethodPost, "/v1/restart?only_stop=true", "start a new process that takes over from this one, without a change of any router's state, or only stop and leave everything in place for it"},
}

func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	status, err := s.daemon.Status()
	answer(w)(Index{Version: status.Version, Endpoints: endpoints}, err)
}

// LastReload is the last time that the configuration was read again.
type LastReload struct {
	At    time.Time `json:"at"`
	Error string    `json:"error,omitempty"` // why the reload was refused
}
