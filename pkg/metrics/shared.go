// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bytes"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// An answer is sent to all clients that ask while it is made or shortly after, so many clients
// cost the daemon no more than a few. It stays valid for restFactor times the time that it took
// to make, but at least freshness and at most longestRest.
const (
	freshness   = 100 * time.Millisecond
	restFactor  = 4
	longestRest = 2 * time.Second
)

// shared shares the answers of a handler between clients. It calls the handler once at a time.
type shared struct {
	handler http.Handler

	mu      sync.Mutex
	current *answer
}

// answer is an answer of the handler. It may be read after done is closed.
type answer struct {
	done   chan struct{}
	until  time.Time // valid until then
	header http.Header
	code   int
	body   bytes.Buffer
}

// ServeHTTP sends the latest answer, or a new one if that is too old.
func (s *shared) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := s.latest()
	select {
	case <-a.done:
	case <-r.Context().Done():
		return // the client is gone
	}
	maps.Copy(w.Header(), a.header)
	w.Header().Set("Content-Length", strconv.Itoa(a.body.Len()))
	w.WriteHeader(a.code)
	// Each written piece marks the connection as one that makes progress.
	for piece := range slices.Chunk(a.body.Bytes(), 1<<16) {
		if _, err := w.Write(piece); err != nil {
			return // the client is gone
		}
	}
}

func (s *shared) latest() *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.current; a != nil {
		select {
		case <-a.done:
			if time.Now().Before(a.until) {
				return a
			}
		default:
			return a // the handler is still at work
		}
	}
	a := &answer{done: make(chan struct{}), header: make(http.Header), code: http.StatusOK}
	s.current = a
	go func() {
		defer close(a.done)
		began := time.Now()
		// Without an Accept header the format is text, which all clients understand.
		s.handler.ServeHTTP(a, &http.Request{Method: http.MethodGet, Header: make(http.Header)})
		now := time.Now()
		a.until = now.Add(min(max(freshness, restFactor*now.Sub(began)), longestRest))
	}()
	return a
}

// Header is part of http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader is part of http.ResponseWriter.
func (a *answer) WriteHeader(code int) { a.code = code }

// Write is part of http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }
