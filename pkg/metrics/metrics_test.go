// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
)

var update = flag.Bool("update", false, "write the metrics to their golden files")

// source is a daemon with fixed answers.
type source struct {
	status           control.Status
	stats            control.Stats
	statusErr        error
	statsErr         error
	asked, askedMore atomic.Int64
}

func (s *source) Status() (control.Status, error) {
	s.asked.Add(1)
	return s.status, s.statusErr
}

func (s *source) Stats() (control.Stats, error) {
	s.askedMore.Add(1)
	return s.stats, s.statsErr
}

// lan is a daemon with a router of both families, one of IPv4 that waits and one
// that has just been made.
func lan() *source {
	since := time.Date(2026, 3, 1, 12, 0, 0, 250_000_000, time.UTC)
	common := control.Router{
		Version: 3, Priority: 200, AdvertisementInterval: 1, ActiveAdverInterval: 1, SkewTime: 0.21875, ActiveDownInterval: 3.21875,
		Preempt: true, Accept: true, VirtualMAC: "bpf", Receive: "tc", Fence: "tcx", Checksum: "auto", Since: since,
	}
	web, web6, db, lone := common, common, common, common
	web.Name, web.Interface, web.Family, web.VRID, web.MAC = "web", "eth0", "ipv4", 51, "00:00:5e:00:01:33"
	web.Addresses = []string{"192.0.2.10/24", "192.0.2.11/24"}
	web.State, web.Assigned, web.Active, web.ActivePriority, web.Deadline, web.BecameActive = "Active", true, "192.0.2.1", 200, 0.5, 3
	web6.Name, web6.Interface, web6.Family, web6.VRID, web6.MAC = "web", "eth0", "ipv6", 51, "00:00:5e:00:02:33"
	web6.Addresses = []string{"fe80::12:33/64", "2001:db8::10/64"}
	web6.State, web6.Active, web6.ActivePriority, web6.LastHeard, web6.Deadline, web6.BecameActive = "Backup", "fe80::2", 250, 0.125, 3.09375, 1
	db.Name, db.Interface, db.Family, db.VRID, db.Version, db.Preempt, db.Accept = "db", "eth1", "ipv4", 7, 2, false, false
	db.Addresses = []string{"198.51.100.1/24"}
	db.State, db.Waiting, db.BecameActive = "Initialize", "the interface has no carrier", 2
	web6.Problems = []control.Problem{{Kind: control.Interval, Peer: "fe80::2"}, {Kind: control.Interval, Peer: "fe80::3"}}
	lone.Name, lone.Interface, lone.Family, lone.VRID, lone.State = "lone", "eth1", "ipv6", 8, "Initialize"
	now := since.Add(time.Hour)
	lone.Since = now
	s := &source{status: control.Status{Version: "1.2.3", Now: now, Routers: []control.Router{web, web6, db, lone}}}
	load := -7
	s.status.Tracks = []control.Track{
		{Name: "load", Kind: "file", State: "up", Took: 0.25, Value: &load, Changes: 3},
		{Name: "new", Kind: "tcp", State: "unknown"},
		{Name: "site", Kind: "http", State: "down", Took: 1.5, Changes: 2},
	}
	for n := range packet.ReasonCount {
		r := packet.Reason(n)
		s.stats.Global = append(s.stats.Global, control.Counter{Name: r.String(), Help: r.Error(), Value: uint64(1000 + n)})
	}
	for i, r := range s.status.Routers {
		counters := []control.Counter{
			{Name: "master_transitions", Help: "how often it became Active", Value: r.BecameActive},
			{Name: "advertisement_sent", Help: "advertisements sent", Value: uint64(10_000_000 + i)},
			{Name: "priority_zero_pkts_sent", Help: "advertisements of priority 0 sent", Value: uint64(20 + i)},
		}
		for _, reason := range []packet.Reason{
			packet.ReasonAdvertisementReceived, packet.ReasonPriorityZero, packet.ErrChecksum, packet.ErrAuthType, packet.ErrAuth, packet.ErrInterval, packet.ErrAddressList,
		} {
			counters = append(counters, control.Counter{Name: reason.String(), Help: reason.Error(), Value: uint64(100*int(reason) + i)})
		}
		s.stats.Routers = append(s.stats.Routers, control.RouterStats{Name: r.Name, Interface: r.Interface, Family: r.Family, VRID: r.VRID, Counters: counters})
	}
	return s
}

func get(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

// scrape returns the metrics, without those of the runtime and the process.
func scrape(t *testing.T, h http.Handler) string {
	t.Helper()
	w := get(h, http.MethodGet, "/metrics")
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	var b strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// values parses the samples of a scrape.
func values(t *testing.T, text string) map[string]float64 {
	t.Helper()
	all := make(map[string]float64)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
		if _, twice := all[line[:i]]; err != nil || twice {
			t.Fatalf("%q: %v, twice: %v", line, err, twice)
		}
		all[line[:i]] = v
	}
	return all
}

func TestGolden(t *testing.T) {
	for name, compat := range map[string]bool{"own": false, "keepalived": true} {
		t.Run(name, func(t *testing.T) {
			got := scrape(t, Handler(lan(), compat))
			golden := "testdata/" + name + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLint(t *testing.T) {
	for _, compat := range []bool{false, true} {
		problems, err := promlint.New(strings.NewReader(scrape(t, Handler(lan(), compat)))).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("compat %v: %v, %v", compat, problems, err)
		}
	}
}

// The metrics have each counter of the daemon once, with its value, and no others.
func TestCountersAgree(t *testing.T) {
	s := lan()
	text := scrape(t, Handler(s, false))
	want := make(map[string]float64)
	for _, c := range s.stats.Global {
		want["failoverd_"+c.Name+"_total"] = float64(c.Value)
	}
	for _, t := range s.status.Tracks {
		want[fmt.Sprintf(`failoverd_track_changes_total{kind="%s",track="%s"}`, t.Kind, t.Name)] = float64(t.Changes)
	}
	for _, r := range s.stats.Routers {
		for _, c := range r.Counters {
			want[fmt.Sprintf(`failoverd_router_%s_total{family="%s",interface="%s",name="%s",vrid="%d"}`, c.Name, r.Family, r.Interface, r.Name, r.VRID)] = float64(c.Value)
		}
	}
	got := values(t, text)
	for sample := range got {
		if name, _, _ := strings.Cut(sample, "{"); !strings.HasSuffix(name, "_total") {
			delete(got, sample)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if asked, more := s.asked.Load(), s.askedMore.Load(); asked != 1 || more != 1 {
		t.Errorf("one scrape asked for the status %d times and for the counters %d times", asked, more)
	}
}

func TestCounterName(t *testing.T) {
	for name, want := range map[string]string{
		"advertisement_rcvd": "advertisement_rcvd_total",
		"ring-full":          "ring_full_total",
		"CSUM.5798":          "csum_5798_total",
		"sent_total":         "sent_total",
	} {
		if got := counterName(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestKeepalivedState(t *testing.T) {
	for _, c := range []struct {
		state, waiting string
		want           float64
	}{
		{"Initialize", "", 0},
		{"Backup", "", 1},
		{"Active", "", 2},
		{"Initialize", "the interface is down", 3},
	} {
		if got := keepalivedState(control.Router{State: c.state, Waiting: c.waiting}); got != c.want {
			t.Errorf("%s %q: %v, want %v", c.state, c.waiting, got, c.want)
		}
	}
}

// Only the IPv6 half of a router with both families gets the suffix -ipv6, and not a router
// that has only IPv6.
func TestDualStackNames(t *testing.T) {
	got := values(t, scrape(t, Handler(lan(), true)))
	names := make(map[string]bool)
	for sample := range got {
		if _, labels, ok := strings.Cut(sample, `keepalived_become_master_total{iname="`); ok {
			name, _, _ := strings.Cut(labels, `"`)
			names[name] = true
		}
	}
	if diff := cmp.Diff(map[string]bool{"web": true, "web-ipv6": true, "db": true, "lone": true}, names); diff != "" {
		t.Error(diff)
	}
}

// After a reload between the two requests, the status and the counters may have different
// routers.
func TestReloadBetween(t *testing.T) {
	s := lan()
	s.status.Routers = s.status.Routers[:2]
	s.stats.Routers = s.stats.Routers[1:]
	got := values(t, scrape(t, Handler(s, true)))
	for sample, want := range map[string]bool{
		`failoverd_router_state{family="ipv4",interface="eth0",name="web",state="Active",vrid="51"}`:     true,
		`failoverd_router_state{family="ipv4",interface="eth1",name="db",state="Initialize",vrid="7"}`:   false,
		`failoverd_router_advertisement_sent_total{family="ipv4",interface="eth0",name="web",vrid="51"}`: false,
		`failoverd_router_advertisement_sent_total{family="ipv4",interface="eth1",name="db",vrid="7"}`:   true,
		`keepalived_become_master_total{iname="web",intf="eth0",vrid="51"}`:                              true,
		`keepalived_advertisements_sent_total{iname="web",intf="eth0",vrid="51"}`:                        false,
		`keepalived_advertisements_sent_total{iname="web-ipv6",intf="eth0",vrid="51"}`:                   true,
		`keepalived_advertisements_sent_total{iname="db",intf="eth1",vrid="7"}`:                          false,
	} {
		if _, ok := got[sample]; ok != want {
			t.Errorf("%s: there %v, want %v", sample, ok, want)
		}
	}
}

func TestBadOctets(t *testing.T) {
	s := lan()
	s.status.Routers[0].Interface, s.stats.Routers[0].Interface = "eth\xff", "eth\xff"
	if text := scrape(t, Handler(s, true)); !strings.Contains(text, "interface=\"eth\uFFFD\"") {
		t.Error(text)
	}
}

func TestNoRouters(t *testing.T) {
	got := values(t, scrape(t, Handler(&source{status: control.Status{Version: "1"}}, true)))
	want := map[string]float64{`failoverd_build_info{version="1"}`: 1, "failoverd_last_reload_successful": 1, "keepalived_up": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// If the source fails, the scrape fails, and isn't empty.
func TestSourceFails(t *testing.T) {
	for _, s := range []*source{{statusErr: errors.New("the loop has ended")}, {statsErr: errors.New("the loop has ended")}} {
		w := get(Handler(s, true), http.MethodGet, "/metrics")
		if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "the loop has ended") {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
	}
}

func TestPaths(t *testing.T) {
	h := Handler(lan(), false)
	for _, c := range []struct {
		method, path string
		code         int
		contains     string
	}{
		{http.MethodGet, "/", 200, `href="metrics"`},
		{http.MethodHead, "/metrics", 200, ""},
		{http.MethodGet, "/metrics", 200, "go_goroutines"},
		{http.MethodGet, "/metrics", 200, "process_start_time_seconds"},
		{http.MethodPost, "/metrics", 405, ""},
		{http.MethodDelete, "/", 405, ""},
		{http.MethodGet, "/debug/pprof/", 404, ""},
		{http.MethodGet, "/metrics/", 404, ""},
	} {
		if w := get(h, c.method, c.path); w.Code != c.code || !strings.Contains(w.Body.String(), c.contains) {
			t.Errorf("%s %s: %d, want %d with %q", c.method, c.path, w.Code, c.code, c.contains)
		}
	}
}

// waiting is a daemon that answers late.
type waiting struct{ asked, answer chan struct{} }

func (w *waiting) Status() (control.Status, error) {
	w.asked <- struct{}{}
	<-w.answer
	return control.Status{}, nil
}

func (w *waiting) Stats() (control.Stats, error) { return control.Stats{}, nil }

// Requests at the same time share one answer of the daemon.
func TestManyAtOnce(t *testing.T) {
	s := &waiting{make(chan struct{}, 100), make(chan struct{})}
	h := Handler(s, false)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if w := get(h, http.MethodGet, "/metrics"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "failoverd_build_info") {
				t.Errorf("%d: %s", w.Code, w.Body)
			}
		})
	}
	<-s.asked
	close(s.answer)
	wg.Wait()
	if n := len(s.asked); n > 10 { // more than one on a slow machine
		t.Errorf("the daemon was asked %d times more", n)
	}
}

// counting is a daemon whose counters grow by one with each request.
type counting struct{ n atomic.Uint64 }

func (c *counting) Status() (control.Status, error) { return lan().status, nil }

func (c *counting) Stats() (control.Stats, error) {
	n := c.n.Add(1)
	return control.Stats{Global: []control.Counter{{Name: "a", Help: "one", Value: n}, {Name: "b", Help: "the same", Value: n}}}, nil
}

// A scrape has the status and the counters of one moment, and later scrapes have later ones.
func TestAtOnce(t *testing.T) {
	h := Handler(&counting{}, true)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			last := 0.0
			for range 3 {
				w := get(h, http.MethodGet, "/metrics")
				var a, b float64
				for line := range strings.Lines(w.Body.String()) {
					if v, ok := strings.CutPrefix(line, "failoverd_a_total "); ok {
						a, _ = strconv.ParseFloat(strings.TrimSpace(v), 64)
					}
					if v, ok := strings.CutPrefix(line, "failoverd_b_total "); ok {
						b, _ = strconv.ParseFloat(strings.TrimSpace(v), 64)
					}
				}
				if w.Code != http.StatusOK || a <= last || a != b {
					t.Errorf("%d: %v and %v after %v", w.Code, a, b, last)
				}
				last = a
				time.Sleep(longestRest) // after that the answer isn't valid any more
			}
		})
	}
	wg.Wait()
}
