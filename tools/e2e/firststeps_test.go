// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// `failoverd --iface eth0` watches while no router is configured for it, and runs
// those of the file once there are some. The log says which of the two it does.
func TestTakesPartOrWatches(t *testing.T) {
	s := newSite(t)
	const path, etc = "/etc/failoverd/failoverd.yaml", "mkdir -p /etc/failoverd && cat >/etc/failoverd/failoverd.yaml <<'.'\n"
	start := func(content, says string) {
		t.Helper()
		script := `exec "$0" --iface eth0`
		if content != "" {
			script = etc + content + ".\n" + script
		}
		// Only this process sees the file.
		f, err := s.a.Start("unshare", "--mount", "/bin/sh", "-c", "mount -t tmpfs none /etc && "+script, failoverd())
		s.ok(err)
		_, err = f.WaitLine(s.ctx, 0, func(line string) bool { return strings.Contains(line, says) })
		s.ok(err)
		s.ok(f.Signal(syscall.SIGTERM))
		code, err := f.Wait(s.ctx)
		s.ok(err)
		if code != 0 {
			t.Errorf("exit code %d:\n%s", code, f.Output())
		}
	}
	const nothing = "no router is configured for eth0: watching"
	start("", nothing)
	start("# routers:\n", nothing)
	start("routers: [{name: db, interface: eth7, vrid: 52, addresses: [203.0.113.10/24]}]\n", nothing)
	start("routers: [{name: web, interface: eth0, vrid: 51, addresses: [198.18.0.10/24]}]\n", "running web, from "+path)
	s.clean(s.a)
}

// Each log line about a router has its name, also for a router that a reload has added.
func TestRoutersAreNamed(t *testing.T) {
	s := newSite(t)
	const routers = "routers:\n  - {name: web, interface: eth0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24]}\n"
	c := s.withFile(s.a, routers)
	s.waitHolder("198.18.0.10", s.a)
	c.write(routers + "  - {name: db, interface: eth0, vrid: 52, interval: 100ms, addresses: [198.18.0.11/24]}\n")
	s.ok(c.Signal(syscall.SIGHUP))
	s.waitHolder("198.18.0.11", s.a)
	s.ok(c.Signal(syscall.SIGTERM))
	_, err := c.Wait(s.ctx)
	s.ok(err)
	seen := make(map[string]bool)
	for _, l := range c.Lines() {
		if !strings.Contains(l.Text, `"vrid":`) {
			continue
		}
		name := "web"
		if strings.Contains(l.Text, `"vrid":52`) {
			name = "db"
		}
		if !strings.Contains(l.Text, `"router":"`+name+`"`) {
			t.Errorf("a line without the name %s: %s", name, l.Text)
		}
		seen[name] = seen[name] || strings.Contains(l.Text, `"msg":"transition"`)
	}
	if !seen["web"] || !seen["db"] {
		t.Errorf("transitions of %v only:\n%s", seen, c.Output())
	}
}

// Two stop signals at the same moment count as one: failoverd waits for a slow hook.
func TestTwoSignalsAreOne(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	hook := dir + "/hook"
	s.ok(writeScript(hook, "sleep 1\necho done >"+dir+"/done\n"))
	a := s.withFile(s.a, "routers:\n  - {name: web, interface: eth0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24], notify_stop: "+hook+"}\n")
	s.waitHolder("198.18.0.10", s.a)
	s.ok(a.Signal(syscall.SIGTERM))
	s.ok(a.Signal(syscall.SIGINT))
	code, err := a.Wait(s.ctx)
	s.ok(err)
	if code != 0 || strings.Contains(a.Output(), "hurry") || !isFile(dir+"/done") {
		t.Errorf("exit code %d, hook ended: %v\n%s", code, isFile(dir+"/done"), a.Output())
	}
	s.clean(s.a)
}

func writeScript(path, body string) error {
	return os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o755)
}

func isFile(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
