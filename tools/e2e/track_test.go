// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/tools/lab"
)

// advertised waits for an advertisement of a node with a priority.
func (s *site) advertised(n *lab.Node, from, priority int) int {
	s.t.Helper()
	at, err := s.capture.Wait(s.ctx, from, func(f lab.Frame) bool {
		a, _, _, ok := f.Advertisement()
		return ok && f.From == n.Name && int(a.Priority) == priority
	})
	if err != nil {
		s.t.Fatalf("%s has sent no advertisement of priority %d: %v; VRRP on the wire:\n%s", n.Name, priority, err, s.capture.VRRP())
	}
	return at
}

// listen accepts connections on a node, at its loopback address.
func listen(s *site, n *lab.Node, address string) net.Listener {
	s.t.Helper()
	var l net.Listener
	s.ok(n.Do(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	}))
	s.t.Cleanup(func() { _ = l.Close() })
	return l
}

func (c *configured) check(router, name, state string) func(control.Router) bool {
	return func(r control.Router) bool {
		return r.Name == router && slices.ContainsFunc(r.Tracks, func(d control.Dependency) bool { return d.Track == name && d.State == state })
	}
}

// A router whose check without a weight is down takes no part: it sends priority 0, another router
// takes over, and it comes back with the check.
func TestTrackFault(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := s.t.TempDir()
	good := filepath.Join(dir, "good")
	s.ok(os.WriteFile(good, nil, 0o644))
	a := s.withFile(s.a, fmt.Sprintf(`
tracks:
  - {name: good, script: [/usr/bin/test, -e, %s], interval: 100ms}
  - {name: hangs, script: "sleep 1000 & sleep 1000", shell: true, reverse: true, interval: 300ms}
routers:
  - {name: web, interface: eth0, vrid: 51, priority: 150, interval: 100ms, addresses: [198.18.0.10/24], track: [good, hangs]}
`, good))
	a.router("web", "ipv4", inState("Active"))
	s.withFile(s.b, "routers:\n  - {name: web, interface: eth0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24]}\n").router("web", "ipv4", inState("Backup"))
	s.waitHolder("198.18.0.10", s.a)

	from := len(s.capture.Frames())
	s.ok(os.Remove(good))
	web := a.router("web", "ipv4", inState("Initialize"))
	if want := "check good is down: exit status 1"; web.Waiting != want {
		t.Errorf("waiting for %q, want %q", web.Waiting, want)
	}
	s.advertised(s.a, from, 0)
	s.waitHolder("198.18.0.10", s.b)
	s.ok(os.WriteFile(good, nil, 0o644))
	a.router("web", "ipv4", inState("Active"))
	s.waitHolder("198.18.0.10", s.a)

	status, err := a.client.Status(s.ctx)
	s.ok(err)
	if len(status.Tracks) != 2 || status.Tracks[1].Name != "hangs" || !strings.HasPrefix(status.Tracks[1].Text, "killed at its time limit") {
		t.Errorf("the checks are %+v", status.Tracks)
	}
	s.stop(s.a, a.Failoverd)
	out, err := s.a.Run(s.ctx, "sh", "-c", fmt.Sprintf("grep -lz '^FAILOVERD_RUN=%d-' /proc/[0-9]*/environ 2>/dev/null; true", a.PID()))
	s.ok(err)
	if out != "" {
		t.Errorf("left behind: %s", out)
	}
}

// With weights, the priority is the sum and changes without leaving the state.
func TestTrackWeights(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, err := s.lan.Connect(s.a, "eth1")
	s.ok(err)
	s.ok(s.a.SetUp("lo"))
	number := filepath.Join(s.t.TempDir(), "number")
	text := `
tracks:
  - {name: service, tcp: "127.0.0.1:8080", weight: 1, interval: 100ms}
  - {name: link, interface: eth1, weight: 2}
  - {name: address, address: 203.0.113.1, weight: 4}
  - {name: route, route: 10.7.0.0/16, via: 198.18.0.77, weight: 8}
  - {name: other, router: other, weight: 16}
  - {name: number, file: %s, weight: 1, interval: 10s}
  - {name: absent, process: no-such-process, weight: -32}
routers:
  - {name: web, interface: eth0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24], track: [service, link, address, route, other, number, absent]}
  - {name: other, interface: eth0, vrid: 52, interval: 100ms, addresses: [198.18.0.11/24], track: [{name: number, weight: 0}]}
`
	text = fmt.Sprintf(text, number)
	a := s.withFile(s.a, text)
	has := func(priority int) control.Router {
		s.t.Helper()
		return a.router("web", "ipv4", func(r control.Router) bool { return r.Priority == priority && r.State == "Active" })
	}
	first := has(100 - 32 + 2 + 16)
	service := listen(s, s.a, "127.0.0.1:8080")
	has(100 - 32 + 2 + 16 + 1)
	s.ok(s.a.AddAddress("eth1", "203.0.113.1/24"))
	has(100 - 32 + 2 + 16 + 1 + 4)
	route := func(verb string) {
		if out, err := s.a.Run(s.ctx, "ip", "route", verb, "10.7.0.0/16", "via", "198.18.0.77"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	route("add")
	has(100 - 32 + 2 + 16 + 1 + 4 + 8)
	route("del")
	has(100 - 32 + 2 + 16 + 1 + 4)
	route("add")
	s.ok(os.WriteFile(number, []byte("50\n"), 0o644))
	has(100 - 32 + 2 + 1 + 4 + 8 + 50) // the other router's check has no weight
	from := len(s.capture.Frames())
	s.advertised(s.a, from, 133)
	s.ok(os.WriteFile(number, []byte("500\n"), 0o644))
	has(254)
	s.ok(os.WriteFile(number, []byte("-250\n"), 0o644))
	has(1)
	s.ok(os.WriteFile(number, []byte("-254\n"), 0o644))
	if r := a.router("web", "ipv4", inState("Initialize")); r.Waiting != "check number is up: the number is -254" {
		t.Errorf("waiting for %q", r.Waiting)
	}
	s.ok(os.Remove(number))
	has(100 - 32 + 2 + 16 + 1 + 4 + 8)
	s.ok(service.Close())
	s.ok(s.a.SetDown("eth1"))
	last := has(100 - 32 + 16 + 4 + 8) // an interface that is down keeps its address
	if last.BecameActive != 2 || first.BecameActive != 1 {
		t.Errorf("became Active %d times, one of them for a number below -253", last.BecameActive)
	}

	// A reload keeps the results of the checks. A running router waits for a new check without a
	// fault.
	before, err := a.client.Status(s.ctx)
	s.ok(err)
	a.write(strings.Replace(strings.Replace(text, "absent]", "absent, new]", 1), "routers:\n", `  - {name: new, script: "sleep 0.5; exit 1", shell: true, timeout: 5s, weight: 0, reverse: true}
routers:
`, 1))
	a.reload()
	after, err := a.client.Status(s.ctx)
	s.ok(err)
	for _, c := range before.Tracks {
		i := slices.IndexFunc(after.Tracks, func(o control.Track) bool { return o.Name == c.Name })
		if i < 0 || !after.Tracks[i].Since.Equal(c.Since) || after.Tracks[i].Changes != c.Changes {
			t.Errorf("check %s was restarted: %+v, then %+v", c.Name, c, after.Tracks)
		}
	}
	a.router("web", "ipv4", a.check("web", "new", "down"))
	if r := has(100 - 32 + 16 + 4 + 8); r.BecameActive != 2 {
		t.Errorf("it left its state for a new check")
	}

	events := 0
	s.ok(a.client.Events(s.ctx, 0, false, func(e control.Event) error {
		if e.Kind == "track" {
			events++
		}
		return nil
	}))
	if events < 15 {
		t.Errorf("%d events about checks", events)
	}
	s.stop(s.a, a.Failoverd)
}

// A script that other users may write to isn't run, unless that is allowed.
func TestTrackInsecure(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	script := filepath.Join(s.t.TempDir(), "check")
	s.ok(os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755))
	s.ok(os.Chmod(script, 0o777))
	const text = `
tracks:
  - {name: check, script: %s}
routers:
  - {name: web, interface: eth0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24], track: [check]}
`
	f := s.withFile(s.a, fmt.Sprintf(text, script))
	code, err := f.Wait(s.ctx)
	s.ok(err)
	if out := f.Output(); code != 1 || !strings.Contains(out, "others may change it: all users may write to "+script) || !strings.Contains(out, "failoverd.yaml:3:27:") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	s.withFile(s.a, "global: {allow_insecure_scripts: true}\n"+fmt.Sprintf(text, script)).router("web", "ipv4", inState("Active"))
}
