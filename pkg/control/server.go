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
	// group is the group whose members may open the socket, and so may read.
	group = "failoverd"
	// connections is the maximum number of connections of users who may only read, so that
	// they don't lock out root. All of them use at most 1/descriptorShare of the process's
	// file descriptors, and each user at most 1/userShare of that.
	connections     = 1024
	descriptorShare = 4
	userShare       = 8
	// clientTimeout bounds the time for sending a request, and for taking an answer.
	clientTimeout = 10 * time.Second
)

// Daemon is the source of the answers. Its methods may be called from any goroutine.
type Daemon interface {
	Status() (Status, error)
	Stats() (Stats, error)
	// Reload reads the configuration again and applies it. With dryRun it only returns
	// what would change.
	Reload(ctx context.Context, dryRun bool) ([]Change, error)
	// Maintenance takes a router out of service or puts it back into service. The empty
	// name means all routers. With persist the setting outlasts restarts. It returns the
	// names of the routers.
	Maintenance(ctx context.Context, name string, on, persist bool) ([]string, error)
	// SetPriority sets the priority of a router until the next reload, or permanently
	// with persist. 0 restores the configured priority.
	SetPriority(ctx context.Context, name string, priority int, persist bool) ([]string, error)
	// HandOver makes an Active router hand its addresses over to another host.
	HandOver(ctx context.Context, name string) ([]string, error)
	// Restart starts a new process and waits until it is ready to take over. begin, which is
	// called when the client has the answer, makes it take over. With onlyStop that process is
	// only a trial, and begin ends the daemon, which leaves everything in place for the next one.
	Restart(ctx context.Context, onlyStop bool) (r Restart, begin func(), err error)
}

// Server serves the API.
type Server struct {
	daemon   Daemon
	history  *History
	listener net.Listener
	path     string
	http     http.Server
}

var errForbidden = errors.New("only root and the daemon's own user may change something; use sudo")

// ErrTaken is returned for a socket that a running process serves.
var ErrTaken = errors.New("a running process serves the socket")

// Listen opens the socket and replaces one that a dead process left. The server logs its
// errors to errorLog.
func Listen(path string, d Daemon, h *History, errorLog *log.Logger) (*Server, error) {
	if err := hostdir.Make(filepath.Dir(path)); err != nil {
		return nil, err
	}
	switch conn, err := net.Dial("unix", path); {
	case err == nil:
		return nil, errors.Join(fmt.Errorf("%s: %w", path, ErrTaken), conn.Close())
	case errors.Is(err, syscall.EAGAIN):
		return nil, fmt.Errorf("%s: %w", path, ErrTaken) // its backlog is full
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return nil, err // without a descriptor Dial can't tell whether the socket is served
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chmod(path, 0o600), allowGroup(path)); err != nil {
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
	mux.HandleFunc("POST /v1/restart", s.restart)
	s.http = http.Server{
		Handler:           http.MaxBytesHandler(mux, 1<<16),
		ReadHeaderTimeout: clientTimeout,
		ReadTimeout:       clientTimeout,
		IdleTimeout:       clientTimeout,
		MaxHeaderBytes:    1 << 13,
		ConnContext:       withConn,
		ErrorLog:          errorLog,
	}
	return s, nil
}

// Cleanup removes the sockets that dead processes left, and the directory if it is empty
// then. It returns a line for each removed socket.
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
			continue // a process serves it, but is busy
		}
		if e := os.Remove(path); e != nil {
			err = errors.Join(err, e)
			continue
		}
		removed = append(removed, "socket "+path)
	}
	if len(removed) > 0 {
		_ = os.Remove(dir) // fails if it isn't empty
	}
	return removed, err
}

// allowGroup lets the group open the socket, if the group exists.
func allowGroup(path string) error {
	g, err := user.LookupGroup(group)
	if err != nil {
		return nil // only root and this user may open it then
	}
	id, err := strconv.Atoi(g.Gid)
	if err != nil {
		return err
	}
	if err := os.Chown(path, -1, id); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil // this user isn't in the group and can't give the socket to it
		}
		return err
	}
	return os.Chmod(path, 0o660)
}

// Close closes a Server on which Run isn't called.
func (s *Server) Close() error { return s.listener.Close() }

// Run serves until ctx ends, which is not an error.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.http.Close() }) // removes the socket
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

func (s *Server) restart(w http.ResponseWriter, r *http.Request) {
	if !mayChange(r) {
		fail(w, http.StatusForbidden, errForbidden)
		return
	}
	onlyStop, err := flag(r, "only_stop")
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	next, begin, err := s.daemon.Restart(r.Context(), onlyStop)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err)
		return
	}
	w.Header().Set("Connection", "close")
	write(w, next)
	_ = http.NewResponseController(w).Flush() // the client may be gone
	begin()
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	dry, err := flag(r, "dry_run")
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	if !dry && !mayChange(r) {
		fail(w, http.StatusForbidden, errForbidden)
		return
	}
	changes, err := s.daemon.Reload(r.Context(), dry)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err)
		return
	}
	write(w, Reload{DryRun: dry, Changes: changes})
}

// order answers the requests that change routers: maintenance, priority and failover.
func (s *Server) order(f func(*http.Request) ([]string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !mayChange(r) {
			fail(w, http.StatusForbidden, errForbidden)
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
		return nil, fmt.Errorf("router=%q and priority=%q: give the name of a router and a number", name, word)
	}
	return s.daemon.SetPriority(r.Context(), name, priority, persist)
}

// events writes events as they are added. A reader that takes none for clientTimeout is
// disconnected. A slow reader sees in the field lost how many it missed.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	after := uint64(0)
	if v := r.URL.Query().Get("after"); v != "" {
		var err error
		if after, err = strconv.ParseUint(v, 10, 64); err != nil {
			fail(w, http.StatusBadRequest, fmt.Errorf("after=%q isn't the number of an event", v))
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
	if err := controller.SetReadDeadline(time.Time{}); err != nil { // the request was read completely
		fail(w, http.StatusInternalServerError, err)
		return
	}
	encoder := json.NewEncoder(w)
	for {
		events, more := s.history.After(after)
		for _, e := range events {
			if controller.SetWriteDeadline(time.Now().Add(clientTimeout)) != nil || encoder.Encode(e) != nil {
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

// flag parses a parameter that is true or false. The default is false.
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

// answer returns a function that writes the result of one of the daemon's methods.
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
	if http.NewResponseController(w).SetWriteDeadline(time.Now().Add(clientTimeout)) == nil {
		_, _ = w.Write(append(b, '\n')) // the client may be gone
	}
}

func fail(w http.ResponseWriter, code int, err error) {
	b, marshalErr := json.Marshal(failure{err.Error()})
	if marshalErr != nil {
		b = []byte(`{"error":"the error can't be encoded as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}
