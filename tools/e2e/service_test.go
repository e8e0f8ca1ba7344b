// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
)

// The service manager is notified when the routers that can run do, of a reload and of the end.
// Between them it gets signs of life, but none from a daemon that hangs.
func TestService(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path})
	s.ok(err)
	defer func() { _ = manager.Close() }()
	told := func(what string) string {
		t.Helper()
		b := make([]byte, 4096)
		for {
			s.ok(manager.SetReadDeadline(time.Now().Add(patience)))
			n, err := manager.Read(b)
			s.ok(err)
			if text := string(b[:n]); strings.HasPrefix(text, what) {
				return text
			}
		}
	}
	const watchdog = 3 * time.Second // a sign of life comes every third of it
	c := s.withFileEnv(s.a, []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=3000000"}, `
routers:
  - {interface: eth0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24]}
  - {interface: eth7, vrid: 52, interval: 100ms, addresses: [203.0.113.10/24]}
`)
	told("READY=1")
	if _, err := c.client.Status(s.ctx); err != nil {
		t.Errorf("notified as ready, but %v", err)
	}
	c.router("eth0-51", "ipv4", inState("Active"))
	if text := told("STATUS=1"); text != "STATUS=1 Active, 0 Backup, 1 Initialize" {
		t.Errorf("the status is %q", text)
	}
	told("WATCHDOG=1")

	c.write("routers: [{interface: eth0, vrid: 51, interval: 200ms, addresses: [198.18.0.10/24]}]")
	s.ok(c.Signal(syscall.SIGHUP))
	if text := told("RELOADING=1"); !strings.Contains(text, "MONOTONIC_USEC=") {
		t.Errorf("the notification of a reload lacks its time: %q", text)
	}
	told("READY=1")
	c.router("eth0-51", "ipv4", func(r control.Router) bool { return r.AdvertisementInterval == 0.2 })

	s.ok(c.Signal(syscall.SIGSTOP))
	quiet := time.Now().Add(watchdog)
	b := make([]byte, 4096)
	for said := 0; ; said++ {
		s.ok(manager.SetReadDeadline(quiet))
		if _, err := manager.Read(b); err != nil {
			break // nothing more, as expected
		}
		if said > 3 {
			t.Fatal("a stopped daemon gives signs of life")
		}
	}
	s.ok(c.Signal(syscall.SIGCONT))
	told("WATCHDOG=1")
	s.ok(c.Signal(syscall.SIGTERM))
	told("STOPPING=1")
	code, err := c.Wait(s.ctx)
	s.ok(err)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.clean(s.a)
}
