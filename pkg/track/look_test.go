// SPDX-License-Identifier: Apache-2.0

package track

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/script"
)

const patience = 30 * time.Second

// surroundings implements Network and Routers.
type surroundings struct {
	mu     sync.Mutex
	up     map[string]bool
	states map[string][]string
}

func (s *surroundings) there(name string) (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up[name], name
}
func (s *surroundings) Interface(name string) (bool, string)  { return s.there(name) }
func (s *surroundings) Address(a netip.Addr) (bool, string)   { return s.there(a.String()) }
func (s *surroundings) Route(r routing.Sought) (bool, string) { return s.there(r.Prefix.String()) }
func (s *surroundings) State(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states[name]
}

// watching runs checks on this host. It returns a function that waits until a check is in a
// state.
func watching(t *testing.T, s *surroundings, checks ...Check) (tr *Tracker, until func(name string, want State, text string) Report) {
	t.Helper()
	runner := script.NewRunner()
	tr = New(Sources{Runner: runner, Network: s, Routers: s}, func(Report) {})
	if slices.ContainsFunc(checks, func(c Check) bool { return c.Kind == Script }) {
		adopt(t, runner)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := tr.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	tr.Set(checks)
	return tr, func(name string, want State, text string) (last Report) {
		t.Helper()
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			for _, r := range tr.Reports() {
				if r.Name == name {
					last = r
				}
			}
			if last.State == want && strings.Contains(last.Text, text) {
				return last
			}
		}
		t.Fatalf("%s is %s: %q, want %s: %q", name, last.State, last.Text, want, text)
		return last
	}
}

// adopt returns a runner that runs Adopt until the test ends.
func adopt(t *testing.T, r *script.Runner) {
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := r.Adopt(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); err != nil {
			t.Error(err)
		}
	})
}

func quick(name string, kind Kind, target string) Check {
	return Check{Name: name, Kind: kind, Target: target, Rise: 1, Fall: 1, Interval: 50 * time.Millisecond, Timeout: 5 * time.Second}
}

func TestScripts(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "good")
	run := func(name string, args ...string) Check {
		c := quick(name, Script, "")
		c.Command = script.Command{Args: args}
		return c
	}
	follows := run("follows", "/bin/sh", "-c", "test -e "+flag+" || { echo no flag; exit 7; }")
	hangs := run("hangs", "/bin/sh", "-c", "sleep 1000 & sleep 1000")
	hangs.Timeout = 300 * time.Millisecond
	floods := run("floods", "/bin/sh", "-c", "head -c 1000000000 /dev/zero; echo end")
	floods.Timeout = patience
	missing := run("missing", "/nonexistent/check")
	forks := run("forks", "/bin/sh", "-c", "(setsid sleep 1000 >/dev/null 2>&1 &) ; exit 0")
	_, until := watching(t, nil, follows, hangs, floods, missing, forks)
	until("follows", Down, "exit status 7: no flag")
	until("hangs", Down, "killed at its time limit, after ")
	until("missing", Down, "start /nonexistent/check: no such file or directory")
	until("forks", Up, "exit status 0")
	if r := until("floods", Up, "exit status 0"); len(r.Output) != script.DefaultKeep || !strings.HasSuffix(r.Output, "end\n") {
		t.Errorf("output of %d octets: %q", len(r.Output), r.Output[max(len(r.Output)-10, 0):])
	}
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := until("follows", Up, "exit status 0"); r.Changes == 0 {
		t.Errorf("%+v", r)
	}
}

func TestConnections(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	var mu sync.Mutex
	status := http.StatusOK
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case r.URL.Path == "/slow":
			<-r.Context().Done()
		case r.Host == "named.example" && r.URL.Path == "/health" && r.UserAgent() == "failoverd":
			w.WriteHeader(status)
		case r.URL.Path == "/moved":
			http.Redirect(w, r, "/health", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	})
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}}
	server.Start()
	secure := httptest.NewTLSServer(handler)
	defer secure.Close()

	get := quick("http", HTTP, "http://"+address+"/health")
	get.HTTP.Host = "named.example"
	missing := quick("missing", HTTP, "http://"+address+"/nothing")
	moved := quick("moved", HTTP, "http://"+address+"/moved")
	moved.HTTP.Statuses = []Status{{200, 204}, {302, 302}}
	untrusted := quick("untrusted", HTTP, secure.URL+"/health")
	untrusted.HTTP.Host = "named.example"
	trusted := quick("trusted", HTTP, secure.URL+"/health")
	trusted.HTTP = Request{Host: "named.example", Insecure: true}
	_, until := watching(t, nil, quick("tcp", TCP, address), get, missing, moved, untrusted, trusted)
	until("tcp", Up, "connected")
	until("http", Up, "status 200")
	until("missing", Down, "status 404")
	until("moved", Up, "status 302")
	until("untrusted", Down, "certificate")
	until("trusted", Up, "status 200")
	mu.Lock()
	status = http.StatusServiceUnavailable
	mu.Unlock()
	until("http", Down, "status 503")
	server.Close()
	until("tcp", Down, "connection refused")
	until("http", Down, "")

	// A server that accepts connections and never answers.
	silent, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	until("tcp", Up, "connected")
	hangs := quick("hangs", HTTP, "http://"+address+"/")
	hangs.Timeout = 200 * time.Millisecond
	_, until = watching(t, nil, hangs)
	until("hangs", Down, "no answer in time")
}

// start starts a program under another name.
func start(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(program, args...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill() // the test may have killed it already
		_ = c.Wait()
	})
	return c
}

func TestProcesses(t *testing.T) {
	dir := t.TempDir()
	name := "fo-" + strconv.Itoa(os.Getpid())
	program := filepath.Join(dir, name)
	sleep, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, sleep, 0o755); err != nil {
		t.Fatal(err)
	}
	pidfile := filepath.Join(dir, "pid")
	process := func(check string, p Processes) Check {
		c := quick(check, Process, "")
		c.Process = p
		return c
	}
	_, until := watching(t, nil,
		process("any", Processes{Name: name, Min: 1, Max: -1}),
		process("two", Processes{Name: name, Min: 2, Max: 2}),
		process("none", Processes{Name: name, Min: 0, Max: 0}),
		process("line", Processes{Arguments: []string{program, "1001"}, Min: 1, Max: -1}),
		quick("pidfile", PIDFile, pidfile),
	)
	until("any", Down, "no process")
	until("none", Up, "no process")
	until("pidfile", Down, "is missing or empty")
	first := start(t, program, "1000")
	until("any", Up, "process "+strconv.Itoa(first.Process.Pid))
	until("none", Down, "")
	until("two", Down, "process ")
	second := start(t, program, "1001", "1")
	until("two", Up, "2 processes")
	until("line", Up, strconv.Itoa(second.Process.Pid))
	if err := os.WriteFile(pidfile, []byte(strconv.Itoa(second.Process.Pid)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	until("pidfile", Up, "process "+strconv.Itoa(second.Process.Pid))
	// It stays a zombie.
	if err := second.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	until("pidfile", Down, "isn't running")
	until("two", Down, "")
	until("line", Down, "no process")
	until("any", Up, "")
}

// The end of a process and a written file make checks run at once. With an interval of an hour
// nothing else would.
func TestTold(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "number")
	p := start(t, "/bin/sleep", "1000")
	pidfile := filepath.Join(dir, "pid")
	if err := os.WriteFile(pidfile, []byte(strconv.Itoa(p.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	slow := func(c Check) Check { c.Interval = time.Hour; return c }
	s := &surroundings{up: map[string]bool{"eth1": true, "192.0.2.1": false, "10.0.0.0/8": true}, states: map[string][]string{"web": {"Active", "Backup"}}}
	address, route, active, running := slow(quick("address", Address, "")), slow(quick("route", Route, "")), slow(quick("active", Router, "web")), slow(quick("running", Router, "web"))
	address.Address, route.Route.Prefix = netip.MustParseAddr("192.0.2.1"), netip.MustParsePrefix("10.0.0.0/8")
	active.State, running.State = "Active", Running
	absent := active
	absent.Name, absent.Target = "absent", "nobody"
	tr, until := watching(t, s, slow(quick("file", File, path)), slow(quick("pidfile", PIDFile, pidfile)),
		slow(quick("interface", Interface, "eth1")), address, route, active, running, absent)
	if r := until("file", Up, "the number is 0"); r.Value != 0 {
		t.Errorf("%+v", r)
	}
	until("pidfile", Up, "")
	until("interface", Up, "eth1")
	until("address", Down, "192.0.2.1")
	until("route", Up, "10.0.0.0/8")
	until("active", Down, "web is Backup")
	until("running", Up, "web is Active")
	until("absent", Down, "there is no router nobody")

	if err := os.WriteFile(path, []byte(" -12 \nmore"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := until("file", Up, "the number is -12"); r.Value != -12 {
		t.Errorf("%+v", r)
	}
	if err := os.WriteFile(path+"~", []byte("many"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
	until("file", Down, `"many" isn't a number`)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	until("file", Up, "the number is 0")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	tr.Poke(func(c Check) bool { return c.Name == "file" })
	until("file", Down, "isn't a regular file")
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	until("pidfile", Down, "isn't running")

	s.mu.Lock()
	s.up["eth1"], s.up["192.0.2.1"], s.states["web"] = false, true, []string{"Active", "Active"}
	s.mu.Unlock()
	tr.Poke(func(c Check) bool { return c.Kind.pushed() })
	until("interface", Down, "eth1")
	until("address", Up, "192.0.2.1")
	until("active", Up, "web is Active")
}
