// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"log"
	"sync"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/metrics"
)

// scrapes serves the metrics, where the configuration says.
type scrapes struct {
	source metrics.Source
	log    *log.Logger // of the server
	failed chan error  // of a server that has ended by itself

	mu    sync.Mutex
	given config.Global
	close func() // ends the server
}

func newScrapes(source metrics.Source, log *log.Logger) *scrapes {
	return &scrapes{source: source, log: log, failed: make(chan error, 1), given: config.Global{Metrics: config.Off}, close: func() {}}
}

// set makes the configuration's settings those of the metrics. If that fails they
// stay as they are.
func (s *scrapes) set(g config.Global) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.given
	if g.Metrics == before.Metrics && g.MetricsCompat == before.MetricsCompat {
		return nil
	}
	// The new address may be the same port on more or fewer of the host's.
	s.close()
	err := s.open(g)
	if err != nil {
		err = errors.Join(err, s.open(before))
	}
	return err
}

func (s *scrapes) open(g config.Global) error {
	s.given, s.close = config.Global{Metrics: config.Off}, func() {}
	if g.Metrics != config.Off {
		l, err := metrics.Listen(g.Metrics)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := metrics.Serve(ctx, l, metrics.Handler(s.source, g.MetricsCompat != config.Off), s.log); err != nil {
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
		s.close = func() {}
	}()
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}
