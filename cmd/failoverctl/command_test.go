// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/failoverd/failoverd/cmd/internal/cli"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// fake is a daemon that always gives the same answers.
type fake struct{ bad error }

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func (f fake) Status() (control.Status, error) {
	web := control.Router{
		Name: "web", Interface: "eth0", Family: "ipv4", VRID: 51, Version: 3, Addresses: []string{"192.0.2.10/24"},
		State: "Active", Since: now.Add(-90 * time.Minute), Cause: "nothing heard from 192.0.2.1 for 3.609s (Active_Down_Interval 3.609s)",
		Priority: 100, ConfiguredPriority: 100, Active: "192.0.2.2", ActivePriority: 100, Deadline: 0.25,
		AdvertisementInterval: 1, ActiveAdverInterval: 1, SkewTime: 0.609375, ActiveDownInterval: 3.609375,
		Preempt: true, Accept: true, Assigned: true, BecameActive: 3,
		MAC: "00:00:5e:00:01:33", VirtualMAC: "bpf", Receive: "tc", ReceiveWhy: "a TC program behind the driver, as suits a veth device", Fence: "tcx", Checksum: "rfc5798",
	}
	six := web
	six.Family, six.Addresses, six.State, six.Since, six.Cause = "ipv6", []string{"fe80::12:33/64", "2001:db8::10/64"}, "Backup", now.Add(-26*24*time.Hour), "starting"
	six.Active, six.ActivePriority, six.LastHeard, six.Deadline, six.Assigned, six.BecameActive = "fe80::1234:5678:9abc:def0", 200, 0.75, 2.859, false, 0
	ago := 0.75
	six.Source, six.Peers = "2001:db8::2", []control.Peer{{Address: "2001:db8::1", MinTTL: 255, MaxTTL: 255, LastHeard: &ago}, {Address: "2001:db8:1::1", MaxTTL: 255}}
	later := control.Router{
		Name: "a-router-with-a-very-long-name", Interface: "eth7", Family: "ipv4", VRID: 7, Version: 3, Addresses: []string{},
		State: "Initialize", Since: now.Add(-time.Minute), Cause: "starting", Waiting: "there is no interface eth7", Maintenance: true, BecameActive: 1, Priority: 100, ConfiguredPriority: 100, AdvertisementInterval: 1, Preempt: true, Accept: true,
	}
	six.Problems = []control.Problem{
		{
			Kind: control.DuplicateVRID, Peer: "fe80::9", Since: now.Add(-90 * time.Second), Last: now.Add(-time.Second), Count: 90,
			Text: "fe80::9 uses VRID 51 for fe80::7 2001:db8::7, this host for fe80::12:33 2001:db8::10", Remedy: "different virtual routers of a link need different VRIDs: give one of them another",
		},
		{
			Kind: control.Interval, Peer: "fe80::1", Since: now.Add(-2 * time.Second), Last: now, Count: 3,
			Text: "fe80::1 advertises every 1s, this host every 100ms", Remedy: "give all routers of the VRID the same interval",
		},
	}
	web.Tracks = []control.Dependency{{Track: "site", State: "up", Weight: 5, Change: 5}, {Track: "database", State: "down", Weight: -20, Change: -20}}
	later.Tracks = []control.Dependency{{Track: "load", State: "up", Reverse: true, Fault: true}, {Track: "new", State: "unknown"}}
	looked, load := now.Add(-400*time.Millisecond), 3
	tracks := []control.Track{
		{Name: "database", Kind: "tcp", State: "down", Since: now.Add(-3 * time.Second), Looked: &looked, Took: 0.0001, Text: "connection refused", Changes: 1},
		{Name: "load", Kind: "file", State: "up", Since: now.Add(-time.Minute), Looked: &looked, Text: "the number is 3", Value: &load},
		{Name: "new", Kind: "script", State: "unknown", Since: now, Text: "not run yet"},
		{Name: "site", Kind: "http", State: "up", Since: now.Add(-time.Hour), Looked: &looked, Took: 0.012, Text: "status 200"},
	}
	return control.Status{Version: "1.2.3", PID: 42, Started: now.Add(-time.Hour), Now: now, Config: config.DefaultPath, Routers: []control.Router{web, six, later}, Tracks: tracks}, nil
}

func (f fake) Stats() (control.Stats, error) {
	return control.Stats{
		Global: []control.Counter{{Name: "advertisement_rcvd", Help: "advertisement accepted", Value: 12}, {Name: "checksum_errors", Help: "checksum is wrong"}},
		Routers: []control.RouterStats{
			{Name: "web", Interface: "eth0", Family: "ipv4", VRID: 51, Counters: []control.Counter{{Name: "advertisement_sent", Help: "advertisements sent", Value: 5400}, {Name: "own_source", Help: "a loop"}}},
			{Name: "quiet", Interface: "eth1", Family: "ipv4", VRID: 52, Counters: []control.Counter{{Name: "advertisement_sent", Help: "advertisements sent"}}},
		},
	}, nil
}

func (fake) Maintenance(_ context.Context, name string, on, persist bool) ([]string, error) {
	return []string{fmt.Sprint("maintenance ", name, on, persist)}, nil
}

func (fake) SetPriority(_ context.Context, name string, priority int, persist bool) ([]string, error) {
	return []string{fmt.Sprint("priority ", name, priority, persist)}, nil
}

func (fake) Restart(context.Context, bool) (control.Restart, func(), error) {
	return control.Restart{PID: 7}, func() {}, nil
}

func (fake) HandOver(_ context.Context, name string) ([]string, error) {
	return []string{"failover " + name}, nil
}

func (f fake) Reload(context.Context, bool) ([]control.Change, error) {
	return []control.Change{{Router: "web", What: "changed", Details: []string{"priority: 100 → 150"}}, {Router: "old", What: "removed"}}, f.bad
}

func serve(t *testing.T, d control.Daemon) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	h := control.NewHistory()
	h.Name("eth0", "ipv4", 51, "web")
	h.Add(control.Event{Time: now, Kind: "transition", Interface: "eth0", Family: "ipv4", VRID: 51, From: "Backup", To: "Active", Peer: "192.0.2.1", Text: "192.0.2.1 left with priority 0"})
	h.Add(control.Event{Time: now.Add(20 * time.Millisecond), Kind: "reload", Name: "web", Text: "changed: priority: 100 → 150"})
	h.Add(control.Event{Time: now.Add(time.Hour), Kind: "track", Name: "site", To: "down", Text: "status 503"})
	h.Add(control.Event{Time: now.Add(time.Hour), Kind: "failure", Interface: "eth1", Text: "send: no buffer space available"})
	s, err := control.Listen(socket, d, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return socket
}

func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// The output of the commands.
func TestOutput(t *testing.T) {
	t.Setenv("TZ", "UTC")
	time.Local = time.UTC
	socket := serve(t, fake{})
	for name, args := range map[string][]string{
		"status":       {"status"},
		"status-wide":  {"status", "-o", "wide"},
		"status-name":  {"status", "web"},
		"status-maint": {"status", "a-router-with-a-very-long-name"},
		"status-json":  {"status", "-o", "json", "web"},
		"events":       {"events"},
		"events-json":  {"events", "-o", "json", "--after", "1"},
		"stats":        {"stats"},
		"stats-all":    {"stats", "--all", "web"},
		"reload":       {"reload"},
		"reload-tried": {"reload", "--dry-run"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := call(t, append(args, "--socket", socket)...)
			if code != 0 || errs != "" {
				t.Fatalf("exit code %d: %s", code, errs)
			}
			golden(t, name, out)
			if !strings.Contains(name, "wide") && !strings.Contains(name, "json") {
				for line := range strings.Lines(out) {
					if n := len([]rune(line)) - 1; n > 100 && name == "status" {
						t.Errorf("%d columns: %s", n, line)
					}
				}
			}
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the output differs from %s (-want +got):\n%s", path, diff)
	}
}

// The exit codes that the help documents, each with a message that has a remedy.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good.yaml", "routers: [{interface: eth0, vrid: 51, addresses: [192.0.2.10/24]}]")
	bad := file("bad.yaml", "routers:\n  - interface: eth0\n    vird: 51\n    addresses: [192.0.2.10/24]\n")
	comments := file("comments.yaml", "# routers:\n")
	nobody := filepath.Join(dir, "none")
	refusing := serve(t, fake{bad: errors.New("failoverd.yaml:2:5: error: unknown key `x`")})
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"check", good}, 0, ""},
		{[]string{"check", comments}, 0, ""},
		{[]string{"check", bad}, exitFailure, "did you mean `vrid`"},
		{[]string{"check", filepath.Join(dir, "missing.yaml")}, exitFailure, "missing.yaml"},
		{[]string{"check", good, bad}, exitUsage, "check --help"},
		{[]string{"status", "--socket", nobody}, exitStopped, "systemctl start failoverd"},
		{[]string{"watch", "--socket", nobody}, exitStopped, "isn't running"},
		{[]string{"reload", "--socket", nobody}, exitStopped, "isn't running"},
		{[]string{"version", "--socket", nobody}, 0, ""},
		{[]string{"reload", "--socket", refusing}, exitFailure, "failoverd.yaml:2:5"},
		{[]string{"status", "--socket", refusing, "-o", "xml"}, exitUsage, "xml"},
		{[]string{"status", "--socket", refusing, "nobody"}, exitFailure, `"nobody"`},
		{[]string{"stats", "--socket", refusing, "nobody"}, exitFailure, `"nobody"`},
		{[]string{"events", "--socket", refusing, "-o", "wide"}, exitUsage, "wide"},
		{[]string{"events", "--after", "x"}, exitUsage, "--help"},
		{[]string{"events", "--since", "yesterday"}, exitUsage, "14:30"},
		{[]string{"events", "--kind", "transitions"}, exitUsage, "transition, problem"},
		{[]string{"stauts"}, exitUsage, "did you mean stats or status?"},
		{[]string{"schema", "x"}, exitUsage, "unexpected argument \"x\": the form is failoverctl schema; see failoverctl schema --help"},
		{[]string{"failover"}, exitUsage, "ROUTER is missing: the form is failoverctl failover ROUTER"},
		{[]string{"priority"}, exitUsage, "ROUTER and N|configured are missing"},
		{[]string{"priority", "web"}, exitUsage, "N|configured is missing"},
		{[]string{"maintenance"}, exitUsage, "on|off and ROUTER|--all are missing"},
		{[]string{"status", "--outpt", "json"}, exitUsage, "there is no flag --outpt: did you mean --output?"},
		{[]string{"status", "-o"}, exitUsage, "--output needs a value: --output FORMAT"},
	} {
		t.Run(strings.Join(c.args[:1], " ")+" "+c.want, func(t *testing.T) {
			code, _, errs := call(t, c.args...)
			if code != c.code || !strings.Contains(errs, c.want) || (code == 0) != (errs == "") {
				t.Errorf("%v: exit code %d, want %d: %s", c.args, code, c.code, errs)
			}
		})
	}
}

// failoverd knows all commands of failoverctl, so that it can point to failoverctl.
func TestControlCommands(t *testing.T) {
	known := cli.ControlCommands()
	for _, c := range command(new(bytes.Buffer), new(bytes.Buffer)).Commands() {
		if name := c.Name(); !c.Hidden && name != "version" && !slices.Contains(known, name) {
			t.Errorf("failoverd %s doesn't point to failoverctl %s", name, name)
		}
	}
}

// A file with only comments isn't a mistake, and check says that nothing is configured.
func TestCheckOfComments(t *testing.T) {
	path := filepath.Join(t.TempDir(), "failoverd.yaml")
	if err := os.WriteFile(path, []byte("# routers:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := call(t, "check", path); code != 0 || !strings.HasPrefix(out, path+": nothing is configured yet") || errs != "" {
		t.Errorf("exit code %d, %q %q", code, out, errs)
	}
}

func TestVersion(t *testing.T) {
	for _, arg := range []string{"--version", "-V"} {
		if code, out, errs := call(t, arg); code != 0 || out != "failoverctl "+config.Version()+"\n" || errs != "" {
			t.Errorf("%s: exit code %d, %q %q", arg, code, out, errs)
		}
	}
}

// Other programs can read the schema, the reference and the completions.
func TestPrinted(t *testing.T) {
	_, schema, _ := call(t, "schema")
	if !json.Valid([]byte(schema)) {
		t.Error("the schema isn't JSON")
	}
	_, reference, _ := call(t, "reference")
	path := filepath.Join(t.TempDir(), "failoverd.yaml")
	if err := os.WriteFile(path, []byte(reference), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := call(t, "check", path); code != 0 {
		t.Errorf("the reference is wrong: %s%s", out, errs)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, out, _ := call(t, "completion", shell); code != 0 || !strings.Contains(out, "failoverctl") {
			t.Errorf("no completion for %s: exit code %d", shell, code)
		}
	}
}

// Every command has a help text.
func TestHelp(t *testing.T) {
	for _, c := range command(new(bytes.Buffer), new(bytes.Buffer)).Commands() {
		if c.Short == "" {
			t.Errorf("%s has no short description", c.Name())
		}
		code, out, _ := call(t, c.Name(), "--help")
		if code != 0 || !strings.Contains(out, "Usage:") {
			t.Errorf("%s --help: exit code %d: %s", c.Name(), code, out)
		}
	}
}
