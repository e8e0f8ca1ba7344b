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

// takenRetry is the delay before a port that another process uses is tried again.
const takenRetry = 5 * time.Second

// metricsServer serves the metrics on the configured address.
type metricsServer struct {
	source    metrics.Source
	log       *logrus.Logger
	serverLog *stdlog.Logger // for the HTTP server's errors
	failed    chan error     // the error of a server that has ended unexpectedly

	mu      sync.Mutex
	serving config.Global
	close   func() // ends the server
	// awaited has the settings that can't be used because another process has the port, else nil.
	awaited *config.Global
}

func newMetricsServer(source metrics.Source, log *logrus.Logger) *metricsServer {
	return &metricsServer{
		source: source, log: log, serverLog: process.NewServerLog(log, "metrics"),
		failed: make(chan error, 1), serving: off(), close: func() {},
	}
}

func off() config.Global { return config.Global{Metrics: config.Off} }

// start applies the settings at the start. A port that another process uses is no error, because
// any user may take one, and that must not keep the daemon from serving the addresses. It is
// tried again later.
func (s *metricsServer) start(g config.Global) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.open(g)
	if errors.Is(err, metrics.ErrTaken) {
		s.retryLater(g, err)
		return nil
	}
	return err
}

func (s *metricsServer) retryLater(g config.Global, err error) {
	s.log.WithError(err).Error("could not serve metrics, trying again")
	s.awaited = &g
	time.AfterFunc(takenRetry, s.retry)
}

// reload applies the settings of a reload. After an error the old ones are in use again.
func (s *metricsServer) reload(g config.Global) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.serving
	if s.awaited != nil {
		before = *s.awaited
	}
	if g.Metrics == before.Metrics && g.MetricsCompat == before.MetricsCompat {
		return nil
	}
	// Close first: the new address may be the same port on more or fewer of the host's addresses.
	s.close()
	s.awaited = nil
	err := s.open(g)
	if err == nil {
		return nil
	}
	again := s.open(before)
	if errors.Is(again, metrics.ErrTaken) {
		s.retryLater(before, again)
		again = nil
	}
	return errors.Join(err, again)
}

// retry tries again to serve with the awaited settings.
func (s *metricsServer) retry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awaited == nil {
		return
	}
	if err := s.open(*s.awaited); err != nil {
		time.AfterFunc(takenRetry, s.retry) // the error was logged before
		return
	}
	s.awaited = nil
	s.log.WithField("address", s.serving.Metrics).Info("serving metrics")
}

func (s *metricsServer) open(g config.Global) error {
	s.serving, s.close = off(), func() {}
	if g.Metrics != config.Off {
		l, err := metrics.Listen(g.Metrics)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := metrics.Serve(ctx, l, metrics.Handler(s.source, g.MetricsCompat != config.Off), s.serverLog); err != nil {
				select {
				case s.failed <- err:
				default: // an earlier error is waiting
				}
			}
		}()
		s.close = func() {
			cancel()
			<-done
		}
	}
	s.serving = g
	return nil
}

// run returns when ctx has ended and the server with it, or when the server fails.
func (s *metricsServer) run(ctx context.Context) error {
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
