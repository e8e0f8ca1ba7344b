// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/tools/lab"
)

// configured is a failoverd with a configuration file.
type configured struct {
	*site
	*lab.Failoverd
	path   string
	client *control.Client
}

// withFile starts failoverd on a node with a configuration file.
func (s *site) withFile(n *lab.Node, text string, args ...string) *configured {
	s.t.Helper()
	return s.withFileEnv(n, nil, text, args...)
}

func (s *site) withFileEnv(n *lab.Node, env []string, text string, args ...string) *configured {
	s.t.Helper()
	c := &configured{site: s, path: filepath.Join(s.t.TempDir(), "failoverd.yaml")}
	c.write(text)
	return s.withPath(n, env, c.path, args...)
}

// withPath starts failoverd with a file that exists.
func (s *site) withPath(n *lab.Node, env []string, path string, args ...string) *configured {
	s.t.Helper()
	c := &configured{site: s, path: path}
	f, err := n.Failoverd(env, failoverd(), append([]string{"--config", c.path}, args...)...)
	s.ok(err)
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("failoverd on %s wrote:\n%s", n.Name, excerpt(f.Output()))
		}
	})
	c.Failoverd = f
	c.client = control.NewClient(socketOf(f))
	return c
}

// excerpt returns the beginning and the end of a long output.
func excerpt(output string) string {
	const most = 10000
	if len(output) <= 2*most {
		return output
	}
	return output[:most] + "\n[...]\n" + output[len(output)-most:]
}

// socketOf returns the path of a process's control socket as this process sees it.
func socketOf(f *lab.Failoverd) string {
	return fmt.Sprintf("/proc/%d/root%s", f.PID(), control.DefaultPath)
}

func (c *configured) write(text string) {
	c.t.Helper()
	c.ok(os.WriteFile(c.path, []byte(text), 0o644))
}

// reload reloads failoverd and returns the changes.
func (c *configured) reload() []control.Change {
	c.t.Helper()
	r, err := c.client.Reload(c.ctx, false)
	c.ok(err)
	return r.Changes
}

// router waits until the status of a router is as wanted, and returns it.
func (c *configured) router(name, family string, want func(control.Router) bool) control.Router {
	c.t.Helper()
	var last control.Status
	var err error
	for c.ctx.Err() == nil {
		if last, err = c.client.Status(c.ctx); err == nil {
			for _, r := range last.Routers {
				if r.Name == name && r.Family == family && want(r) {
					return r
				}
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.t.Fatalf("router %s did not get into the awaited state: %+v, %v", name, last.Routers, err)
	return control.Router{}
}

func inState(state string) func(control.Router) bool {
	return func(r control.Router) bool { return r.State == state }
}

// A router waits for an interface that doesn't exist yet, and the other routers don't wait for it.
// A reload applies the differences of the file, and nothing else.
func TestFile(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.withFile(s.a, `
routers:
  - {name: web, interface: eth0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24]}
  - {name: later, interface: eth7, vrid: 52, interval: 100ms, addresses: [203.0.113.10/24]}
`)
	web := c.router("web", "ipv4", inState("Active"))
	if web.Active != "198.18.0.1" || web.Priority != 100 || !strings.Contains(web.Cause, "nobody else heard") {
		t.Errorf("the status of an Active router is %+v", web)
	}
	later := c.router("later", "ipv4", inState("Initialize"))
	if !strings.Contains(later.Waiting, "eth7") {
		t.Errorf("the status does not say that the router waits for eth7: %+v", later)
	}
	_, err := s.lan.Connect(s.a, "eth7")
	s.ok(err)
	later = c.router("later", "ipv4", func(r control.Router) bool { return strings.Contains(r.Waiting, "no IPv4 address") })
	if later.State != "Initialize" {
		t.Errorf("a router of an interface without an address is %s", later.State)
	}
	s.ok(s.a.AddAddress("eth7", "203.0.113.1/24"))
	c.router("later", "ipv4", inState("Active"))
	s.waitHolder("198.18.0.10", s.a)

	before := c.router("web", "ipv4", inState("Active"))
	frames := len(s.capture.Frames())
	c.write(`
routers:
  - {name: web, interface: eth0, vrid: 51, priority: 150, interval: 200ms, addresses: [198.18.0.10/24, 198.18.0.11/24]}
`)
	dry, err := c.client.Reload(s.ctx, true)
	s.ok(err)
	if c.router("web", "ipv4", inState("Active")).Priority != 100 {
		t.Error("a dry run changed the priority")
	}
	changes := c.reload()
	if !slices.EqualFunc(dry.Changes, changes, func(a, b control.Change) bool { return a.Router == b.Router && a.What == b.What }) || len(changes) != 2 {
		t.Errorf("the dry run shows %+v, the reload %+v", dry.Changes, changes)
	}
	after := c.router("web", "ipv4", func(r control.Router) bool { return r.Priority == 150 && r.AdvertisementInterval == 0.2 })
	if after.Since.Sub(before.Since).Abs() > time.Second || after.BecameActive != 1 {
		t.Errorf("the router left its state for a reload: %+v, then %+v", before, after)
	}
	s.waitHolder("198.18.0.11", s.a)
	if _, err := s.capture.Wait(s.ctx, frames, func(f lab.Frame) bool { return f.Announces("198.18.0.11", after.MAC) }); err != nil {
		t.Errorf("the new address was not announced: %v", err)
	}
	left := 0
	for _, f := range s.capture.Frames()[frames:] {
		if a, _, _, ok := f.Advertisement(); ok && a.Priority == 0 {
			if left++; a.VRID != 52 {
				t.Errorf("VRID %d was left", a.VRID)
			}
		}
	}
	if left == 0 {
		t.Error("the removed router did not leave with priority 0")
	}
	status, err := c.client.Status(s.ctx)
	s.ok(err)
	if len(status.Routers) != 1 {
		t.Errorf("the status still has the removed router: %+v", status.Routers)
	}

	// A bad file changes nothing, and the error says where it is bad.
	c.write(`
routers:
  - {name: web, interface: eth0, vrid: 51, priorty: 10, addresses: [198.18.0.10/24]}
`)
	if _, err := c.client.Reload(s.ctx, false); err == nil || !strings.Contains(err.Error(), c.path+":3:") || !strings.Contains(err.Error(), "did you mean `priority`") {
		t.Errorf("a reload with a bad file: %v", err)
	}
	lines := len(c.Lines())
	s.ok(c.Signal(syscall.SIGHUP))
	_, err = c.WaitLine(s.ctx, lines, func(l string) bool {
		return strings.Contains(l, "could not reload") && strings.Contains(l, "priorty")
	})
	s.ok(err)
	if r := c.router("web", "ipv4", inState("Active")); r.Priority != 150 {
		t.Errorf("a bad file changed the priority to %d", r.Priority)
	}
	// SIGHUP reads a good file.
	c.write(`
routers:
  - {name: web, interface: eth0, vrid: 51, priority: 200, interval: 200ms, addresses: [198.18.0.10/24, 198.18.0.11/24]}
`)
	s.ok(c.Signal(syscall.SIGHUP))
	c.router("web", "ipv4", func(r control.Router) bool { return r.Priority == 200 && r.State == "Active" && r.BecameActive == 1 })

	var events []control.Event
	s.ok(c.client.Events(s.ctx, 0, false, func(e control.Event) error { events = append(events, e); return nil }))
	for i, e := range events {
		if e.Number != uint64(i+1) || e.Lost != 0 {
			t.Errorf("event %d has number %d and %d lost", i+1, e.Number, e.Lost)
		}
	}
	if !slices.ContainsFunc(events, func(e control.Event) bool {
		return e.Kind == "transition" && e.Name == "later" && e.VRID == 52 && e.To == "Initialize"
	}) {
		t.Errorf("no event about the removal: %+v", events)
	}
	s.stop(s.a, c.Failoverd)
}

// --iface selects a part of the file.
func TestFileInterface(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := s.withFile(s.a, `
routers:
  - {interface: eth0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24]}
  - {interface: eth7, vrid: 52, interval: 100ms, addresses: [203.0.113.10/24]}
`, "--iface", ifname)
	c.router("eth0-51", "ipv4", inState("Active"))
	status, err := c.client.Status(s.ctx)
	s.ok(err)
	if len(status.Routers) != 1 {
		t.Errorf("--iface eth0 runs %+v", status.Routers)
	}
	s.stop(s.a, c.Failoverd)
}

// Reloads that change one of 200 routers don't disturb the others: none leaves, and none is silent
// for so long that a Backup would take over.
func TestReloadRhythm(t *testing.T) {
	s := newSite(t)
	const routers, reloads, interval = 200, 50, 100 * time.Millisecond
	text := func(reload int) string {
		var b strings.Builder
		b.WriteString("routers:\n")
		for n := range routers {
			priority := 100
			if n == reload%routers {
				priority = 101 + reload%100
			}
			fmt.Fprintf(&b, "  - {interface: eth0, vrid: %d, priority: %d, interval: %v, addresses: [10.1.0.%d/32]}\n", n+1, priority, interval, n+1)
		}
		return b.String()
	}
	c := s.withFile(s.a, text(-1+routers))
	for n := range routers {
		c.router(fmt.Sprintf("eth0-%d", n+1), "ipv4", inState("Active"))
	}
	began := len(s.capture.Frames())
	changed := make(map[uint8]bool)
	for n := range reloads {
		c.write(text(n))
		for _, change := range c.reload() {
			var vrid uint8
			_, err := fmt.Sscanf(change.Router, "eth0-%d", &vrid)
			s.ok(err)
			changed[vrid] = true
			if change.What != "changed" {
				t.Errorf("the change of %s is %q", change.Router, change.What)
			}
		}
	}
	ended := len(s.capture.Frames())
	if len(changed) < reloads {
		t.Errorf("only %d routers were changed", len(changed))
	}
	var unchanged []lab.Frame
	for _, f := range s.capture.Frames()[began:ended] {
		a, _, _, ok := f.Advertisement()
		if ok && a.Priority == 0 {
			t.Errorf("VRID %d was left", a.VRID)
		}
		if ok && !changed[a.VRID] {
			unchanged = append(unchanged, f)
		}
	}
	longest, sent := longestSilence(unchanged)
	t.Logf("%d reloads of %d routers: %d advertisements of those that weren't changed, at most %v between two of one", reloads, routers, sent, longest)
	if longest > 3*interval {
		t.Errorf("a router was silent for %v, more than three intervals", longest)
	}
	for n := range routers {
		if r := c.router(fmt.Sprintf("eth0-%d", n+1), "ipv4", inState("Active")); r.BecameActive != 1 {
			t.Errorf("%s became Active %d times", r.Name, r.BecameActive)
		}
	}
	s.stop(s.a, c.Failoverd)
}

// The Rust failover's file runs unchanged, in the place where that program looked for it. A
// warning names each thing that the Rust failover tolerated.
func TestPredecessor(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "vrrp-config.json")
	s.ok(os.WriteFile(path, []byte(`[{"name": "web", "vrid": 51, "interface_name": "eth0", "ip_addresses": ["198.18.0.10/24"], "advert_interval": 1, "colour": "red"}]`), 0o644))
	f := s.failoverdEnv([]string{"SNAP_COMMON=" + dir}, s.a)
	s.waitHolder("198.18.0.10", s.a)
	if out := f.Output(); !strings.Contains(out, "colour") || !strings.Contains(out, path+":1") {
		t.Errorf("a warning about an unknown key is missing:\n%s", out)
	}
	status, err := control.NewClient(socketOf(f)).Status(s.ctx)
	s.ok(err)
	if len(status.Routers) != 1 || status.Routers[0].Name != "web" {
		t.Errorf("the routers are %+v", status.Routers)
	}
	s.stop(s.a, f)
}

// A router takes no part before startup_delay has passed, and doesn't preempt an Active of lower
// priority before preempt_delay has passed.
func TestDelays(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const lower = `
routers:
  - {name: web, interface: eth0, vrid: 51, priority: 100, interval: 500ms, addresses: [198.18.0.10/24]}
`
	b := s.withFile(s.b, lower)
	b.router("web", "ipv4", inState("Active"))
	a := s.withFile(s.a, `
global: {startup_delay: 3s}
routers:
  - {name: web, interface: eth0, vrid: 51, priority: 200, interval: 500ms, addresses: [198.18.0.10/24], preempt_delay: 3s}
`)
	waiting := a.router("web", "ipv4", inState("Initialize"))
	if !strings.Contains(waiting.Waiting, "startup_delay") {
		t.Errorf("the status does not say what the router waits for: %+v", waiting)
	}
	backup := a.router("web", "ipv4", inState("Backup"))
	if began := backup.Since.Sub(waiting.Since); began < 2*time.Second {
		t.Errorf("it took part after %v", began)
	}
	a.router("web", "ipv4", func(r control.Router) bool { return r.State == "Backup" && r.PreemptIn > 0 && r.Active == "198.18.0.2" })
	active := a.router("web", "ipv4", inState("Active"))
	if waited := active.Since.Sub(backup.Since); waited < 3*time.Second {
		t.Errorf("it preempted after %v", waited)
	}
	if !strings.Contains(active.Cause, "lower priority 100") {
		t.Errorf("the cause of Active is %s", active.Cause)
	}
}
