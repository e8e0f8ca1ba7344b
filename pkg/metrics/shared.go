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

// An answer is given to all who ask while it is made, and for a while after that: so
// that many who ask cost the daemon no more than a few. That is freshness at least, and
// restFactor times what it took to make, up to longestRest.
const (
	freshness   = 100 * time.Millisecond
	restFactor  = 4
	longestRest = 2 * time.Second
)

// shared answers with what another handler makes, which is asked once at a time.
type shared struct {
	handler http.Handler

	mu      sync.Mutex
	current *answer
}

// answer is what the handler has said. It is read after done is closed.
type answer struct {
	done   chan struct{}
	until  time.Time // when it is too old
	header http.Header
	code   int
	body   bytes.Buffer
}

// ServeHTTP gives the answer that there is or makes one.
func (s *shared) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := s.latest()
	select {
	case <-a.done:
	case <-r.Context().Done():
		return // nobody waits for it
	}
	maps.Copy(w.Header(), a.header)
	w.Header().Set("Content-Length", strconv.Itoa(a.body.Len()))
	w.WriteHeader(a.code)
	// In pieces, so that a client that reads is told from one that doesn't.
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
			return a // it is being made
		}
	}
	a := &answer{done: make(chan struct{}), header: make(http.Header), code: http.StatusOK}
	s.current = a
	go func() {
		defer close(a.done)
		began := time.Now()
		// Without an Accept header it is text, which everybody understands.
		s.handler.ServeHTTP(a, &http.Request{Method: http.MethodGet, Header: make(http.Header)})
		now := time.Now()
		a.until = now.Add(min(max(freshness, restFactor*now.Sub(began)), longestRest))
	}()
	return a
}

// Header is the answer's.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader notes the answer's status.
func (a *answer) WriteHeader(code int) { a.code = code }

// Write adds to the answer.
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }
