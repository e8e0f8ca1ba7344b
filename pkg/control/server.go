// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/failoverd/failoverd/pkg/hostdir"
)

const (
	// group may read: who is in it may open the socket.
	group = "failoverd"
	// connections is how many there are at most of users who may only read, so
	// that they don't keep the others out: no more than a share of the descriptors
	// that the process may have, and for each of them a share of that.
	connections      = 1024
	descriptorsShare = 4
	usersShare       = 8
	// patience is how long a client may take to ask, and to take an answer.
	patience = 10 * time.Second
)

// Daemon is what the server asks. Its methods may be called from any goroutine.
type Daemon interface {
	Status() (Status, error)
	Stats() (Stats, error)
	// Reload reads the configuration again and makes it the daemon's, or says
	// what it would change.
	Reload(ctx context.Context, dryRun bool) ([]Change, error)
	// Maintenance takes a router, or all without a name, out of service or back
	// into it. What is to persist holds beyond a restart. It returns the names.
	Maintenance(ctx context.Context, name string, on, persist bool) ([]string, error)
	// SetPriority gives a router a priority until the next reload, or for
	// good; 0 gives it the configured one back.
	SetPriority(ctx context.Context, name string, priority int, persist bool) ([]string, error)
	// HandOver has an Active router let another host have its addresses.
	HandOver(ctx context.Context, name string) ([]string, error)
}

// Server serves the API.
type Server struct {
	daemon   Daemon
	history  *History
	listener net.Listener
	path     string
	http     http.Server
}

var errNoRight = errors.New("only root and the daemon's own user may change something; use sudo")

// ErrTaken is returned for a socket that a living process serves.
var ErrTaken = errors.New("a living process serves the socket")

// Listen opens the socket, in place of a dead process's. What keeps the server from
// serving goes to trouble.
func Listen(path string, d Daemon, h *History, trouble *log.Logger) (*Server, error) {
	if err := hostdir.Make(filepath.Dir(path)); err != nil {
		return nil, err
	}
	switch conn, err := net.Dial("unix", path); {
	case err == nil:
		return nil, errors.Join(fmt.Errorf("%s: %w", path, ErrTaken), conn.Close())
	case errors.Is(err, syscall.EAGAIN):
		return nil, fmt.Errorf("%s: %w", path, ErrTaken) // many wait there
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return nil, err // it can't be told
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chmod(path, 0o600), admit(path)); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	s := &Server{daemon: d, history: h, listener: newGate(listener), path: path}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.index)
	mux.HandleFunc("GET /healthz", HealthHandler(d.Status))
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/stats", s.stats)
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("POST /v1/reload", s.reload)
	mux.HandleFunc("POST /v1/maintenance", s.order(s.maintenance))
	mux.HandleFunc("POST /v1/priority", s.order(s.priority))
	mux.HandleFunc("POST /v1/failover", s.order(func(r *http.Request) ([]string, error) {
		return d.HandOver(r.Context(), r.URL.Query().Get("router"))
	}))
	s.http = http.Server{
		Handler:           http.MaxBytesHandler(mux, 1<<16),
		ReadHeaderTimeout: patience,
		ReadTimeout:       patience,
		IdleTimeout:       patience,
		MaxHeaderBytes:    1 << 13,
		ConnContext:       withVisitor,
		ErrorLog:          trouble,
	}
	return s, nil
}

// Cleanup removes the sockets of dead processes, and the directory if nothing else
// is in it. It returns a line for each socket.
func Cleanup(dir string) (removed []string, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "control*.sock"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		conn, dialErr := net.Dial("unix", path)
		if dialErr == nil {
			err = errors.Join(err, conn.Close())
			continue
		}
		if !errors.Is(dialErr, syscall.ECONNREFUSED) {
			continue // somebody lives who has no time
		}
		if e := os.Remove(path); e != nil {
			err = errors.Join(err, e)
			continue
		}
		removed = append(removed, "socket "+path)
	}
	if len(removed) > 0 {
		_ = os.Remove(dir) // what else is in it keeps it
	}
	return removed, err
}

// admit lets the group open the socket, if there is one.
func admit(path string) error {
	g, err := user.LookupGroup(group)
	if err != nil {
		return nil // then root may, and this user
	}
	id, err := strconv.Atoi(g.Gid)
	if err != nil {
		return err
	}
	if err := os.Chown(path, -1, id); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil // this user isn't in the group, which stays without
		}
		return err
	}
	return os.Chmod(path, 0o660)
}

// Close closes a Server that isn't run.
func (s *Server) Close() error { return s.listener.Close() }

// Run serves until ctx ends, which is not an error.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.http.Close() }) // the socket goes with it
	defer stop()
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	answer(w)(s.daemon.Status())
}

func (s *Server) stats(w http.ResponseWriter, r *http.Request) {
	answer(w)(s.daemon.Stats())
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	dry, err := flag(r, "dry_run")
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	if !dry && !mayChange(r) {
		fail(w, http.StatusForbidden, errNoRight)
		return
	}
	changes, err := s.daemon.Reload(r.Context(), dry)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err)
		return
	}
	write(w, Reload{DryRun: dry, Changes: changes})
}

// order answers a request that changes something, but isn't about the
// configuration.
func (s *Server) order(f func(*http.Request) ([]string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !mayChange(r) {
			fail(w, http.StatusForbidden, errNoRight)
			return
		}
		names, err := f(r)
		if err != nil {
			fail(w, http.StatusUnprocessableEntity, err)
			return
		}
		write(w, Order{Routers: names})
	}
}

func (s *Server) maintenance(r *http.Request) ([]string, error) {
	on, err := flag(r, "on")
	persist, err2 := flag(r, "persist")
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	return s.daemon.Maintenance(r.Context(), r.URL.Query().Get("router"), on, persist)
}

func (s *Server) priority(r *http.Request) ([]string, error) {
	persist, err := flag(r, "persist")
	if err != nil {
		return nil, err
	}
	name, word := r.URL.Query().Get("router"), r.URL.Query().Get("priority")
	priority, err := strconv.Atoi(word)
	if err != nil || name == "" {
		return nil, fmt.Errorf("router=%q and priority=%q: a router's name and a number are needed", name, word)
	}
	return s.daemon.SetPriority(r.Context(), name, priority, persist)
}

// events writes events as they come. A reader that takes none for a while is
// cut off; one that is slow is told how many it has lost.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	after := uint64(0)
	if v := r.URL.Query().Get("after"); v != "" {
		var err error
		if after, err = strconv.ParseUint(v, 10, 64); err != nil {
			fail(w, http.StatusBadRequest, fmt.Errorf("after=%q is not the number of an event", v))
			return
		}
	}
	follow, err := flag(r, "follow")
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	controller := http.NewResponseController(w)
	if err := controller.SetReadDeadline(time.Time{}); err != nil { // nothing more is to be read
		fail(w, http.StatusInternalServerError, err)
		return
	}
	encoder := json.NewEncoder(w)
	for {
		events, more := s.history.After(after)
		for _, e := range events {
			if controller.SetWriteDeadline(time.Now().Add(patience)) != nil || encoder.Encode(e) != nil {
				return
			}
			after = e.Number
		}
		if controller.Flush() != nil {
			return
		}
		if len(events) == batch {
			continue // there may be more
		}
		if !follow {
			return
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}

// flag reads a parameter that is true or false.
func flag(r *http.Request, name string) (bool, error) {
	v := r.URL.Query().Get(name)
	if v == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("%s=%q is neither true nor false", name, v)
	}
	return on, nil
}

// answer writes what one of the daemon's methods returns.
func answer(w http.ResponseWriter) func(any, error) {
	return func(v any, err error) {
		if err != nil {
			fail(w, http.StatusInternalServerError, err)
			return
		}
		write(w, v)
	}
}

func write(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience)) == nil {
		_, _ = w.Write(append(b, '\n')) // the client may be gone
	}
}

func fail(w http.ResponseWriter, code int, err error) {
	b, marshalErr := json.Marshal(failure{err.Error()})
	if marshalErr != nil {
		b = []byte(`{"error":"it can't be said in JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}
