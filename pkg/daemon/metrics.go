// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	stdlog "log"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/metrics"
	"github.com/failoverd/failoverd/pkg/process"
)

// takenRetry is how long to wait before a port that another process had is tried again.
const takenRetry = 5 * time.Second

// scrapes serves the metrics, where the configuration says.
type scrapes struct {
	source metrics.Source
	log    *logrus.Logger
	server *stdlog.Logger // of the server
	failed chan error     // of a server that has ended by itself

	mu    sync.Mutex
	given config.Global
	close func() // ends the server
	// awaited is what was asked for while another process has the port, or nil.
	awaited *config.Global
}

func newScrapes(source metrics.Source, log *logrus.Logger) *scrapes {
	return &scrapes{
		source: source, log: log, server: process.NewServerLog(log, "metrics"),
		failed: make(chan error, 1), given: off(), close: func() {},
	}
}

func off() config.Global { return config.Global{Metrics: config.Off} }

// begin makes the configuration's settings those of the metrics at the start. Every user
// may take a port, and must not keep the addresses from being served: so it is waited
// for.
func (s *scrapes) begin(g config.Global) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.open(g)
	if errors.Is(err, metrics.ErrTaken) {
		s.await(g, err)
		return nil
	}
	return err
}

func (s *scrapes) await(g config.Global, err error) {
	s.log.WithError(err).Error("metrics are not served, trying again")
	s.awaited = &g
	time.AfterFunc(takenRetry, s.retry)
}

// set makes the configuration's settings those of the metrics. If that fails they
// stay as they are.
func (s *scrapes) set(g config.Global) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.given
	if s.awaited != nil {
		before = *s.awaited
	}
	if g.Metrics == before.Metrics && g.MetricsCompat == before.MetricsCompat {
		return nil
	}
	// The new address may be the same port on more or fewer of the host's.
	s.close()
	s.awaited = nil
	err := s.open(g)
	if err == nil {
		return nil
	}
	again := s.open(before)
	if errors.Is(again, metrics.ErrTaken) {
		s.await(before, again)
		again = nil
	}
	return errors.Join(err, again)
}

// retry tries to serve what is waited for.
func (s *scrapes) retry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awaited == nil {
		return
	}
	if err := s.open(*s.awaited); err != nil {
		time.AfterFunc(takenRetry, s.retry) // it was said
		return
	}
	s.awaited = nil
	s.log.WithField("address", s.given.Metrics).Info("metrics are served")
}

func (s *scrapes) open(g config.Global) error {
	s.given, s.close = off(), func() {}
	if g.Metrics != config.Off {
		l, err := metrics.Listen(g.Metrics)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := metrics.Serve(ctx, l, metrics.Handler(s.source, g.MetricsCompat != config.Off), s.server); err != nil {
				select {
				case s.failed <- err:
				default: // one is enough
				}
			}
		}()
		s.close = func() {
			cancel()
			<-done
		}
	}
	s.given = g
	return nil
}

// run waits until ctx ends, and with it the serving, or until that fails.
func (s *scrapes) run(ctx context.Context) error {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.close()
		s.close, s.awaited = func() {}, nil
	}()
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}
