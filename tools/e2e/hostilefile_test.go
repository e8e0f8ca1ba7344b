// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever a reload finds in place of the file, an Active reports the fault and stays Active.
func TestReloadHostileFiles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const good = "routers:\n  - {name: web, interface: eth0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24]}\n"
	c := s.withFile(s.a, good)
	c.router("web", "ipv4", inState("Active"))

	merges := "a0: &a0 {log_level: info}\n"
	for i := range 11 {
		merges += fmt.Sprintf("a%d: &a%d {<<: [%s]}\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d,", i), 9))
	}
	var anchors strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&anchors, "  a%d: &a%d x\n", i, i)
	}
	write := func(content string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(content), 0o644) }
	}
	for _, bad := range []struct {
		name string
		make func(path string) error
		says string
	}{
		{"merge of itself", write("global: &g\n  <<: *g\n" + good), "before this alias"},
		{"nested merges", write(merges + good), "more than 250000 values"},
		{"deep in brackets", write("global: " + strings.Repeat("[", 500_000) + "\n" + good), "within each other"},
		{"deep in braces", write("global: " + strings.Repeat("{a: ", 500_000) + "\n" + good), "within each other"},
		{"anchors", write("global:\n" + anchors.String() + good), "unknown key"},
		{"a long name", write(good[:len(good)-2] + ", name: " + strings.Repeat("y", 5<<20) + "}\n"), "is here twice"},
		{"a terabyte", func(path string) error {
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				return err
			}
			return os.Truncate(path, 1<<40)
		}, "and the limit is 8388608"},
		{"UTF-16", write("\xff\xfer\x00o\x00u\x00t\x00e\x00r\x00s\x00:\x00"), ":1:1: the file is UTF-16: save it as UTF-8"},
		{"a FIFO", func(path string) error { return unix.Mkfifo(path, 0o644) }, "nothing is configured yet"},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o755) }, "it is a directory"},
		{"a device", func(path string) error { return os.Symlink("/dev/zero", path) }, "it is a device"},
		{"itself", func(path string) error { return os.Symlink(path, path) }, "too many levels of symbolic links"},
	} {
		s.ok(os.Remove(c.path))
		s.ok(bad.make(c.path))
		seen := len(c.Lines())
		s.ok(c.Signal(syscall.SIGHUP))
		_, err := c.WaitLine(s.ctx, seen, func(line string) bool { return strings.Contains(line, "could not reload") })
		s.ok(err)
		said := ""
		for _, line := range c.Lines()[seen:] {
			said += line.Text + "\n"
		}
		if !strings.Contains(said, bad.says) || len(said) > 30_000 {
			t.Errorf("%s: the error is %.2000s", bad.name, said)
		}
		if web := c.router("web", "ipv4", inState("Active")); web.BecameActive != 1 {
			t.Fatalf("%s: it changed its state meanwhile: %+v", bad.name, web)
		}
	}

	s.ok(os.Remove(c.path))
	c.write("\ufeff" + strings.ReplaceAll(good, "\n", "\r\n"))
	if changes := c.reload(); len(changes) != 0 {
		t.Errorf("a byte order mark changes %v", changes)
	}
	s.answeredBy("198.18.0.10", s.a)
	s.stop(s.a, c.Failoverd)
}
