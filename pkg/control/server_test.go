// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patient bounds each wait of the tests.
const patient = 60 * time.Second

// fake implements Daemon.
type fake struct {
	mu      sync.Mutex
	reloads int
	changes int         // orders and reloads
	begun   atomic.Bool // a restart
	bad     error
}

func (f *fake) Status() (Status, error) {
	return Status{Version: "1.2.3", PID: 42, Routers: []Router{{Name: "web", State: "Active"}}}, nil
}

func (f *fake) Stats() (Stats, error) {
	return Stats{Global: []Counter{{Name: "delivered", Help: "passed to the daemon", Value: 7}}}, nil
}

// count returns how often something was changed.
func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changes
}

func (f *fake) change() {
	f.mu.Lock()
	f.changes++
	f.mu.Unlock()
}

func (f *fake) Maintenance(_ context.Context, name string, on, persist bool) ([]string, error) {
	f.change()
	return []string{fmt.Sprint("maintenance ", name, on, persist)}, nil
}

func (f *fake) SetPriority(_ context.Context, name string, priority int, persist bool) ([]string, error) {
	f.change()
	return []string{fmt.Sprint("priority ", name, priority, persist)}, nil
}

func (f *fake) HandOver(_ context.Context, name string) ([]string, error) {
	f.change()
	return []string{"failover " + name}, nil
}

func (f *fake) Restart(_ context.Context, onlyStop bool) (Restart, func(), error) {
	f.change()
	if onlyStop {
		return Restart{}, func() {}, nil
	}
	return Restart{PID: 7}, func() { f.begun.Store(true) }, nil
}

func (f *fake) Reload(_ context.Context, dryRun bool) ([]Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bad != nil {
		return nil, f.bad
	}
	if !dryRun {
		f.reloads++
		f.changes++
	}
	return []Change{{Router: "web", What: "changed", Details: []string{"priority: 100 → 150"}}}, nil
}

// serve starts a server whose socket every user may open.
func serve(t testing.TB) (*fake, *History, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "control.sock")
	f, h := new(fake), NewHistory()
	s, err := Listen(path, f, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v", err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("the server didn't remove its socket")
		}
	})
	return f, h, path
}

// asNobody calls f on a thread of an unprivileged user.
func asNobody(t *testing.T, f func() error) error {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked, so the thread ends with the goroutine
		const nobody = 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			done <- errno
			return
		}
		done <- f()
	}()
	return <-done
}

func TestClient(t *testing.T) {
	f, h, path := serve(t)
	c := NewClient(path)
	ctx := t.Context()
	if s, err := c.Status(ctx); err != nil || s.PID != 42 || len(s.Routers) != 1 {
		t.Errorf("status %+v, %v", s, err)
	}
	if s, err := c.Stats(ctx); err != nil || s.Global[0].Value != 7 {
		t.Errorf("stats %+v, %v", s, err)
	}
	if r, err := c.Reload(ctx, true); err != nil || !r.DryRun || f.reloads != 0 {
		t.Errorf("dry run %+v, %v, %d reloads", r, err, f.reloads)
	}
	m, err1 := c.Maintenance(ctx, "web", true, true)
	p, err2 := c.SetPriority(ctx, "web", 50, false)
	o, err3 := c.HandOver(ctx, "web")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Error(err)
	}
	if got, want := fmt.Sprint(m.Routers, p.Routers, o.Routers), "[maintenance webtrue true] [priority web50 false] [failover web]"; got != want {
		t.Errorf("orders arrived as %s, not %s", got, want)
	}
	if r, err := c.Restart(ctx, true); err != nil || r.PID != 0 {
		t.Errorf("only stopped: %+v, %v", r, err)
	}
	if r, err := c.Restart(ctx, false); err != nil || r.PID != 7 {
		t.Errorf("restart %+v, %v", r, err)
	}
	for !f.begun.Load() && ctx.Err() == nil { // after the answer
		time.Sleep(time.Millisecond)
	}
	if r, err := c.Reload(ctx, false); err != nil || len(r.Changes) != 1 || f.reloads != 1 {
		t.Errorf("reload %+v, %v, %d reloads", r, err, f.reloads)
	}
	f.bad = errors.New("failoverd.yaml:3:5: error: unknown key\n  hint")
	if _, err := c.Reload(ctx, false); err == nil || err.Error() != f.bad.Error() {
		t.Errorf("a bad file: %v", err)
	}
	h.Add(Event{Kind: "transition", Text: "one"})
	follow, stop := context.WithCancel(ctx)
	var heard []string
	err := c.Events(follow, 0, true, func(e Event) error {
		heard = append(heard, e.Text)
		if len(heard) == 1 {
			h.Add(Event{Text: "two"})
		} else {
			stop()
		}
		return nil
	})
	if err != nil || strings.Join(heard, " ") != "one two" {
		t.Errorf("events %v, %v", heard, err)
	}
	if _, err := NewClient(filepath.Join(t.TempDir(), "none")).Status(ctx); !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "systemctl start failoverd") {
		t.Errorf("without a daemon: %v", err)
	}
	if _, err := Listen(path, f, h, nil); !errors.Is(err, ErrTaken) {
		t.Errorf("a second server: %v", err)
	}
}

// Listen replaces the socket of a dead process.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	s, err := Listen(path, new(fake), NewHistory(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.listener.Close(); err != nil {
		t.Error(err)
	}
}

// Cleanup removes the sockets of killed processes and keeps those of running ones.
func TestCleanup(t *testing.T) {
	_, _, path := serve(t)
	dir := filepath.Dir(path)
	dead := filepath.Join(dir, "control-1.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	removed, err := Cleanup(dir)
	if err != nil || len(removed) != 1 || removed[0] != "socket "+dead {
		t.Errorf("removed %v, %v", removed, err)
	}
	if _, err := NewClient(path).Status(t.Context()); err != nil {
		t.Errorf("the socket of the running process: %v", err)
	}
	if removed, err := Cleanup(filepath.Join(dir, "none")); err != nil || len(removed) != 0 {
		t.Errorf("in an empty directory: %v, %v", removed, err)
	}
}

// An unprivileged user may read and change nothing.
func TestRights(t *testing.T) {
	f, _, path := serve(t)
	err := asNobody(t, func() error {
		c := NewClient(path)
		c.http.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("not dialled before")
		}
		conn, err := net.Dial("unix", path) // on this thread
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		c.http.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) { return conn, nil }
		if _, err := c.Status(t.Context()); err != nil {
			return fmt.Errorf("status: %w", err)
		}
		if _, err := c.Reload(t.Context(), true); err != nil {
			return fmt.Errorf("dry run: %w", err)
		}
		_, m := c.Maintenance(t.Context(), "web", true, true)
		_, p := c.SetPriority(t.Context(), "web", 50, true)
		_, h := c.HandOver(t.Context(), "web")
		_, restart := c.Restart(t.Context(), false)
		for _, err := range []error{m, p, h, restart} {
			if err == nil || !strings.Contains(err.Error(), "only root") {
				t.Errorf("without rights: %v", err)
			}
		}
		if _, err := c.Reload(t.Context(), false); err == nil || !strings.Contains(err.Error(), "only root") {
			return fmt.Errorf("a reload is answered by: %w", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if f.reloads != 0 {
		t.Error("an unprivileged user reloaded the configuration")
	}
}

// If the group doesn't exist, only root and the daemon's user may open the socket.
func TestSocketMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s, err := Listen(path, new(fake), NewHistory(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.listener.Close() }()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := st.Mode().Perm(); mode&0o007 != 0 {
		t.Errorf("the socket's mode is %v", mode)
	}
}

// Bad requests don't keep the server from answering the next client.
func TestMalformedRequests(t *testing.T) {
	_, _, path := serve(t)
	rng := rand.New(rand.NewPCG(1, 2))
	junk := func() []byte {
		b := make([]byte, rng.IntN(400))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	long := strings.Repeat("x", 1<<16)
	requests := []func() string{
		func() string { return string(junk()) },
		func() string { return "GET /v1/status HTTP/1.1\r\n" + string(junk()) + "\r\n\r\n" },
		func() string { return "GET /v1/" + string(junk()) + " HTTP/1.1\r\nHost: x\r\n\r\n" },
		func() string { return "POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n" },
		func() string { return "POST /v1/reload?dry_run=perhaps HTTP/1.1\r\nHost: x\r\n\r\n" },
		func() string { return "GET /v1/events?after=-1 HTTP/1.1\r\nHost: x\r\n\r\n" },
		func() string { return "GET /v1/events?after=99999999999999999999 HTTP/1.1\r\nHost: x\r\n\r\n" },
		func() string { return "GET /v1/status HTTP/9.9\r\n\r\n" },
		func() string { return "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: " + long + "\r\n\r\n" },
		func() string {
			return "POST /v1/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"
		},
		func() string { return "" },
	}
	for n := range 10_000 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatalf("after %d requests: %v", n, err)
		}
		_, _ = io.WriteString(conn, requests[n%len(requests)]()) // the server may close it halfway
		if n%3 == 0 {
			_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, _ = conn.Read(make([]byte, 100))
		}
		_ = conn.Close()
	}
	if _, err := NewClient(path).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// Followers that never read delay neither the events nor other clients, and a reader that was
// too slow sees how many events it missed.
func TestFollowersThatNeverRead(t *testing.T) {
	_, h, path := serve(t)
	for range 500 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "GET /v1/events?follow=true HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	const events = 3 * maxOthers
	for range events {
		h.Add(Event{Kind: "finding", Text: strings.Repeat("long ", 100)})
	}
	c := NewClient(path)
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
	next := uint64(1)
	err := c.Events(t.Context(), 0, false, func(e Event) error {
		if e.Number != next+e.Lost {
			return fmt.Errorf("event %d comes after %d, and says that %d are lost", e.Number, next-1, e.Lost)
		}
		next = e.Number + 1
		return nil
	})
	if err != nil || next != events+1 {
		t.Errorf("the last event was %d: %v", next-1, err)
	}
}

// A user who opens all connections that one user may have leaves some for others.
func TestPlacesOfEach(t *testing.T) {
	g := newGate(nil)
	for range 2 * connections {
		g.enter(1000)
	}
	if n := g.readers[1000]; n != g.each || g.all != n {
		t.Errorf("one has %d places of %d", n, g.all)
	}
	if !g.enter(1001) {
		t.Error("another has none")
	}
	for range g.each {
		g.leave(1000)
	}
	if g.all != 1 || len(g.readers) != 1 || !g.enter(1000) {
		t.Errorf("%d places are taken, by %v", g.all, g.readers)
	}
}

// Readers that use all connections don't keep root out, and closed connections can be used
// again.
func TestPlaces(t *testing.T) {
	_, _, path := serve(t)
	var held []net.Conn
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	err := asNobody(t, func() error {
		for range connections + 50 {
			conn, err := net.Dial("unix", path)
			if err != nil {
				return err
			}
			held = append(held, conn)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(path).Reload(t.Context(), true); err != nil {
		t.Errorf("root is kept out: %v", err)
	}
	for _, c := range held {
		_ = c.Close()
	}
	held = nil
	deadline := time.Now().Add(patient)
	for {
		err := asNobody(t, func() error {
			conn, err := net.Dial("unix", path)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, "GET /v1/status HTTP/1.0\r\n\r\n"); err != nil {
				return err
			}
			_, err = conn.Read(make([]byte, 1))
			return err
		})
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no place is free again: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// eventsAfter returns all events after a number.
func eventsAfter(h *History, number uint64) (all []Event) {
	for {
		events, _ := h.After(number)
		if len(events) == 0 {
			return all
		}
		number = events[len(events)-1].Number
		all = append(all, events...)
	}
}

func TestHistory(t *testing.T) {
	h := NewHistory()
	if events, _ := h.After(0); len(events) != 0 {
		t.Errorf("an empty history has %v", events)
	}
	_, more := h.After(0)
	for range maxOthers + 10 {
		h.Add(Event{})
	}
	select {
	case <-more:
	default:
		t.Error("Add doesn't wake the reader")
	}
	for _, c := range []struct{ after, first, lost uint64 }{
		{0, 11, 10},
		{5, 11, 5},
		{10, 11, 0},
		{11, 12, 0},
		{maxOthers + 9, maxOthers + 10, 0},
	} {
		events := eventsAfter(h, c.after)
		if events[0].Number != c.first || events[0].Lost != c.lost || events[len(events)-1].Number != maxOthers+10 {
			t.Errorf("after %d: the first is %+v", c.after, events[0])
		}
	}
	for _, after := range []uint64{maxOthers + 10, maxOthers + 11, 1 << 63} {
		if events, _ := h.After(after); len(events) != 0 {
			t.Errorf("after %d there are %d", after, len(events))
		}
	}
}

// No event displaces those of another kind. Events are in the order in which they were added,
// and the missing ones are counted.
func TestHistoryOfKinds(t *testing.T) {
	h := NewHistory()
	const findings = 5 * maxOthers
	h.Add(Event{Kind: "order"})
	h.Add(Event{Kind: "transition"})
	for range findings {
		h.Add(Event{Kind: "finding"})
	}
	h.Add(Event{Kind: "problem"})
	kinds := make(map[string]int)
	number, lost := uint64(0), uint64(0)
	for _, e := range eventsAfter(h, 0) {
		kinds[e.Kind]++
		if e.Number != number+1+e.Lost {
			t.Fatalf("event %d comes after %d, and says that %d are lost", e.Number, number, e.Lost)
		}
		number, lost = e.Number, lost+e.Lost
	}
	want := map[string]int{"order": 1, "transition": 1, "finding": maxOthers, "problem": 1}
	if !maps.Equal(kinds, want) || number != findings+3 || lost != findings-maxOthers {
		t.Errorf("%v are kept, want %v; the last is %d, and %d are lost", kinds, want, number, lost)
	}
}

// After returns at most a batch, however many events there are.
func TestHistoryInBatches(t *testing.T) {
	h := NewHistory()
	for range 3 * batch {
		h.Add(Event{Kind: "transition"})
	}
	if events, _ := h.After(0); len(events) != batch || events[0].Number != 1 {
		t.Errorf("%d events at once, want the first %d", len(events), batch)
	}
	if all := eventsAfter(h, 0); len(all) != 3*batch {
		t.Errorf("%d events in all, want %d", len(all), 3*batch)
	}
}

// FuzzSocket sends octets to the socket, as root and as an unprivileged user. The server
// answers with a status of the API or closes the connection, only requests of root change
// anything, and the next client gets its answer.
func FuzzSocket(f *testing.F) {
	d, _, path := serve(f)
	nobody := make(chan func())
	go func() {
		runtime.LockOSThread() // never unlocked, so the thread ends with the goroutine
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			panic(errno)
		}
		for do := range nobody {
			do()
		}
	}()
	for _, request := range []string{
		"GET /v1/status HTTP/1.1\r\nHost: failoverd\r\n\r\n",
		"GET /v1/events?after=7&follow=false HTTP/1.1\r\nHost: failoverd\r\n\r\n",
		"POST /v1/reload?dry_run=true HTTP/1.1\r\nHost: failoverd\r\nContent-Length: 3\r\n\r\nabc",
		"POST /v1/reload HTTP/1.1\r\nHost: failoverd\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"POST /v1/priority?router=web&priority=200 HTTP/1.1\r\nHost: failoverd\r\n\r\nGET /v1/stats HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /v1/maintenance?router=web&on=true&persist=true HTTP/1.0\r\n\r\n",
		"POST /v1/failover?router=%00%2f HTTP/1.1\r\nHost: failoverd\r\nExpect: 100-continue\r\n\r\n",
		"CONNECT x:1 HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01",
	} {
		f.Add(false, []byte(request))
		f.Add(true, []byte(request))
	}
	f.Fuzz(func(t *testing.T, root bool, octets []byte) {
		if !root {
			before := d.count()
			done := make(chan []byte)
			nobody <- func() { done <- talk(t, path, octets) }
			answered(t, <-done, false)
			if d.count() != before {
				t.Errorf("an unprivileged user changed something with %q", octets)
			}
		} else {
			answered(t, talk(t, path, octets), true)
		}
		if next := talk(t, path, []byte("GET /v1/status HTTP/1.0\r\n\r\n")); !strings.Contains(string(next), "1.2.3") {
			t.Fatalf("after %q the next client gets %q", octets, next)
		}
	})
}

// talk sends octets and returns the answer.
func talk(t *testing.T, path string, octets []byte) []byte {
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patient)); err != nil {
		t.Error(err)
	}
	_, _ = conn.Write(octets) // a client that is refused early can't send the rest
	if half, ok := conn.(*net.UnixConn); ok {
		_ = half.CloseWrite()
	}
	answer, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the answer to %q has no end", octets)
	}
	return answer
}

// answered checks the status of the first line of an answer.
func answered(t *testing.T, answer []byte, root bool) {
	if len(answer) == 0 {
		return
	}
	first, _, _ := strings.Cut(string(answer), "\r\n")
	var major, minor, code int
	if _, err := fmt.Sscanf(first, "HTTP/%d.%d %d", &major, &minor, &code); err != nil {
		t.Fatalf("the answer begins with %q", first)
	}
	switch code {
	case http.StatusContinue, http.StatusOK, http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusExpectationFailed,
		http.StatusUnprocessableEntity, http.StatusRequestHeaderFieldsTooLarge, http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
	case http.StatusForbidden:
		if root {
			t.Errorf("root is refused: %q", first)
		}
	default:
		t.Errorf("status %d: %q", code, first)
	}
}

// Events of a Virtual Router have its name, even after it was removed.
func TestNamedEvents(t *testing.T) {
	h := NewHistory()
	h.Name("eth0", "ipv4", 51, "old")
	h.Name("eth0", "ipv4", 51, "web")
	h.Name("eth0", "ipv6", 51, "web6")
	for _, e := range []Event{
		{Kind: "transition", Interface: "eth0", Family: "ipv4", VRID: 51},
		{Kind: "problem", Interface: "eth0", Family: "ipv6", VRID: 51},
		{Kind: "failure", Interface: "eth0"},
		{Kind: "transition", Interface: "eth0", Family: "ipv4", VRID: 52},
		{Kind: "track", Name: "site"},
	} {
		h.Add(e)
	}
	events, _ := h.After(0)
	var got []string
	for _, e := range events {
		got = append(got, e.Name)
	}
	if want := []string{"web", "web6", "", "", "site"}; !slices.Equal(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
}

// Health depends on routers in Initialize without maintenance, and on problems of an Active
// that aren't harmless.
func TestHealth(t *testing.T) {
	conflict := []Problem{{Kind: AddressConflict, Text: "02::1 answers too"}}
	for name, c := range map[string]struct {
		routers []Router
		reasons []string
	}{
		"none":                  {nil, []string{}},
		"well":                  {[]Router{{Name: "a", State: "Active"}, {Name: "b", State: "Backup"}}, []string{}},
		"maintenance":           {[]Router{{Name: "a", State: "Initialize", Maintenance: true, Waiting: "check web is down"}}, []string{}},
		"waiting":               {[]Router{{Name: "a", Family: "ipv4", State: "Initialize", Waiting: "check web is down"}}, []string{"a (ipv4) is in Initialize: check web is down"}},
		"a harmless problem":    {[]Router{{Name: "a", State: "Active", Problems: []Problem{{Kind: Interval}, {Kind: AddressList}}}}, []string{}},
		"a problem":             {[]Router{{Name: "a", Family: "ipv6", State: "Active", Problems: conflict}}, []string{"a (ipv6) is Active and has the problem address_conflict: 02::1 answers too"}},
		"a problem of a Backup": {[]Router{{Name: "a", State: "Backup", Problems: conflict}}, []string{}},
	} {
		s := Status{Routers: c.routers}
		if h := s.Health(); !slices.Equal(h.Reasons, c.reasons) || h.Healthy != (len(c.reasons) == 0) {
			t.Errorf("%s: %+v, want %q", name, h, c.reasons)
		}
	}
	w := httptest.NewRecorder()
	HealthHandler(func() (Status, error) { return Status{}, errors.New("the loop has ended") })(w, nil)
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "the loop has ended") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}

// Each endpoint of the index exists.
func TestIndex(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s, err := Listen(path, new(fake), NewHistory(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	var index Index
	if err := NewClient(path).call(ctx, http.MethodGet, "/", nil, &index); err != nil || index.Version != "1.2.3" {
		t.Fatalf("%+v, %v", index, err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	defer client.CloseIdleConnections()
	for _, e := range index.Endpoints {
		at, _, _ := strings.Cut(e.Path, "?")
		// The invalid parameters keep the requests from changing anything.
		request, err := http.NewRequestWithContext(ctx, e.Method, "http://failoverd"+at+"?after=x&dry_run=x&on=x&persist=x", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if code := response.StatusCode; code == http.StatusNotFound || code == http.StatusMethodNotAllowed || e.What == "" {
			t.Errorf("%s %s: %d", e.Method, e.Path, code)
		}
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The events of the process before come first, whenever they arrive, and no number occurs twice.
func TestHistoryOfThePredecessor(t *testing.T) {
	before := NewHistory()
	for range maxOthers + 2 { // the oldest two are gone
		before.Add(Event{Kind: "track"})
	}
	before.Add(Event{Kind: "transition"})
	h := NewHistory()
	h.Continue(before.Last())
	h.Add(Event{Kind: "transition", To: "Active"})
	h.Precede(before.All())
	h.Add(Event{Kind: "track"})
	all := h.All()
	for n, e := range all {
		if n > 0 && e.Number <= all[n-1].Number {
			t.Fatalf("number %d follows %d", e.Number, all[n-1].Number)
		}
	}
	if first, last := all[0], all[len(all)-1]; first.Number != 4 || last.Number != maxOthers+5 || len(all) != maxOthers+2 {
		t.Errorf("%d events from %d to %d", len(all), first.Number, last.Number)
	}
}
