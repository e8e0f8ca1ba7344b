// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
)

// silent is a source without metrics.
type silent struct{}

func (silent) Status() (control.Status, error) { return control.Status{}, nil }
func (silent) Stats() (control.Stats, error)   { return control.Stats{}, nil }

// If another process has the port, failoverd starts all the same, and serves the metrics when the
// port is free.
func TestMetricsPortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	s := newMetricsServer(silent{}, log)
	defer func() { s.close() }()
	g := config.Global{Metrics: taken.Addr().String(), MetricsCompat: config.Off}
	if err := s.start(g); err != nil {
		t.Fatal(err)
	}
	if err := s.reload(g); err != nil { // a reload without a change
		t.Error(err)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		conn, err := net.Dial("tcp", g.Metrics)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving.Metrics != g.Metrics || s.awaited != nil {
		t.Errorf("%+v, awaited %+v", s.serving, s.awaited)
	}
}
