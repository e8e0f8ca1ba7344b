// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/failoverd/failoverd/pkg/control"
)

// An administrator's orders take effect at once, last as long as ordered, and give the addresses
// to another host.
func TestOrders(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const text = `
routers:
  - {name: web, interface: eth0, vrid: 51, priority: %P, interval: 100ms, addresses: [198.18.0.10/24]}
`
	state := t.TempDir()
	env := []string{"STATE_DIRECTORY=" + state}
	high, low := strings.ReplaceAll(text, "%P", "200"), strings.ReplaceAll(text, "%P", "100")
	a := s.withFileEnv(s.a, env, high)
	b := s.withFile(s.b, low)
	a.router("web", "ipv4", inState("Active"))
	b.router("web", "ipv4", inState("Backup"))

	// After the failover it doesn't preempt by itself.
	_, err := a.client.HandOver(s.ctx, "web")
	s.ok(err)
	if r := b.router("web", "ipv4", inState("Active")); !strings.Contains(r.Cause, "left with priority 0") {
		t.Errorf("the cause of b's Active is %s", r.Cause)
	}
	spared := a.router("web", "ipv4", func(r control.Router) bool { return r.Active == "198.18.0.2" })
	if spared.Cause != "handed over by the administrator" {
		t.Errorf("the cause of a's Backup is %s", spared.Cause)
	}
	if _, err := a.client.HandOver(s.ctx, "web"); err == nil || !strings.Contains(err.Error(), "isn't Active") {
		t.Errorf("a second failover: %v", err)
	}
	_, err = b.client.HandOver(s.ctx, "web")
	s.ok(err)
	a.router("web", "ipv4", inState("Active"))

	// Another priority lasts until the next reload.
	_, err = a.client.SetPriority(s.ctx, "web", 50, false)
	s.ok(err)
	b.router("web", "ipv4", inState("Active"))
	if r := a.router("web", "ipv4", inState("Backup")); r.Priority != 50 || r.ConfiguredPriority != 200 {
		t.Errorf("priority %d, configured %d", r.Priority, r.ConfiguredPriority)
	}
	a.reload()
	a.router("web", "ipv4", func(r control.Router) bool { return r.State == "Active" && r.Priority == 200 })

	// Persistent maintenance lasts beyond a restart.
	_, err = a.client.Maintenance(s.ctx, "", true, true)
	s.ok(err)
	if r := a.router("web", "ipv4", inState("Initialize")); !strings.Contains(r.Waiting, "maintenance") {
		t.Errorf("waiting for %q", r.Waiting)
	}
	b.router("web", "ipv4", inState("Active"))
	a.reload()
	s.stop(s.a, a.Failoverd)
	a = s.withFileEnv(s.a, env, high)
	a.router("web", "ipv4", func(r control.Router) bool {
		return r.State == "Initialize" && strings.Contains(r.Waiting, "maintenance")
	})
	_, err = a.client.Maintenance(s.ctx, "web", false, false)
	s.ok(err)
	if r := a.router("web", "ipv4", inState("Active")); r.BecameActive != 1 {
		t.Errorf("became Active %d times", r.BecameActive)
	}
	if left, err := filepath.Glob(filepath.Join(state, "*")); err != nil || len(left) > 0 {
		t.Errorf("no order holds any more, but the state directory has %v (%v)", left, err)
	}
	s.stop(s.a, a.Failoverd)

	// A file of orders that can't be read is reported, not ignored.
	s.ok(os.WriteFile(filepath.Join(state, "orders.json"), []byte("{"), 0o644))
	broken := s.withFileEnv(s.a, env, high)
	code, err := broken.Wait(s.ctx)
	s.ok(err)
	if code == 0 || !strings.Contains(broken.Output(), "orders.json") {
		t.Errorf("exit code %d: %s", code, broken.Output())
	}
}
