// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// With too few file descriptors, whatever their number, failoverd reports that, and undoes
// everything that it had begun.
func TestFewDescriptors(t *testing.T) {
	s := newSite(t)
	started := false
	for limit := 8; !started; limit += 4 {
		if limit > 400 {
			t.Fatal("failoverd needs too many descriptors")
		}
		a, err := s.a.Start("/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, limit), failoverd(),
			"--iface", ifname, "--vip", "198.18.0.10/24", "--interval", "100ms", "--metrics", "127.0.0.1:9650", "--log-format", "json")
		s.ok(err)
		select {
		case <-a.Done():
		case <-time.After(2 * time.Second):
			started = true
			_, err := a.Stop(s.ctx)
			s.ok(err)
		}
		out := a.Output()
		for line := range strings.Lines(out) {
			if strings.Contains(line, "too many open files") && (strings.Contains(line, "remove ") || strings.Contains(line, "writable") || strings.Contains(line, "chmod")) {
				t.Errorf("with %d descriptors it advises: %s", limit, line)
			}
			if !strings.HasPrefix(line, "{") && !strings.HasPrefix(line, "failoverd: ") {
				t.Errorf("with %d descriptors a line bypasses the logger: %s", limit, line)
			}
		}
		if !started && !strings.Contains(out, "LimitNOFILE") {
			t.Errorf("with %d descriptors the log is:\n%s", limit, out)
		}
		if left := leftovers(t, s.ctx, s.a); left != "" {
			what, _ := s.a.Run(s.ctx, "find", "/run/failoverd", "/sys/fs/bpf/failoverd")
			t.Fatalf("%s: with %d descriptors it leaves %s behind; the log:\n%s", what, limit, left, out)
		}
	}
}

// Clients that use up the control socket's descriptors don't cause messages that bypass the
// logger.
func TestDescriptorsRunOut(t *testing.T) {
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "failoverd.yaml")
	s.ok(os.WriteFile(file, []byte(fmt.Sprintf(signalled, "")), 0o600))
	a, err := s.a.Start("/bin/sh", "-c", `ulimit -n 100; exec "$0" "$@"`, failoverd(), "--config", file, "--log-format", "json")
	s.ok(err)
	s.waitHolder("198.18.0.10", s.a)
	for range 200 {
		conn, err := net.Dial("unix", fmt.Sprintf("/proc/%d/root%s", a.PID(), "/run/failoverd/control.sock"))
		s.ok(err)
		defer func() { _ = conn.Close() }()
	}
	_, err = a.WaitLine(s.ctx, 0, func(line string) bool { return strings.Contains(line, "LimitNOFILE") })
	s.ok(err)
	s.waitHolder("198.18.0.10", s.a)
	code, err := a.Stop(s.ctx)
	s.ok(err)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for line := range strings.Lines(a.Output()) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("a line bypasses the logger: %s", line)
		}
	}
	s.clean(s.a)
}
