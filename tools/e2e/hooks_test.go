// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

// program writes a shell script.
func (s *site) program(dir, name, text string) string {
	s.t.Helper()
	path := filepath.Join(dir, name)
	s.ok(os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	return path
}

// lines returns the lines of a file, or none if it doesn't exist.
func (s *site) lines(path string) []string {
	s.t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	s.ok(err)
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// until waits until a condition holds.
func (s *site) until(what string, so func() bool) {
	s.t.Helper()
	for !so() {
		if s.ctx.Err() != nil {
			s.t.Fatalf("it did not happen within %v: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// alive reports whether a process runs whose command line contains a word.
func (s *site) alive(word string) bool {
	s.t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	s.ok(err)
	return slices.ContainsFunc(paths, func(path string) bool {
		b, err := os.ReadFile(path)
		return err == nil && slices.Contains(strings.Split(string(b), "\x00"), word)
	})
}

// ran waits until a router's hook has ended for a state.
func (c *configured) ran(router, state string) control.HookRun {
	c.t.Helper()
	var hook control.Hook
	c.router(router, "ipv4", func(r control.Router) bool {
		hook = r.Hooks[0]
		return hook.Last != nil && hook.Last.State == state
	})
	return *hook.Last
}

// The status reports hooks that hang, leave a daemon behind, write a gigabyte, don't exist or are
// writable by others. None of them delays an advertisement for so long that the Backup takes over.
func TestBadHooks(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	hang := s.program(dir, "hang", "sleep 86401 & sleep 86401")
	daemon := s.program(dir, "daemon", "setsid sleep 86402 & echo started") // it ends with the host
	flood := s.program(dir, "flood", "head -c 1073741824 /dev/zero | tr '\\0' x; echo; echo the end")
	open := s.program(dir, "open", "echo it runs")
	s.ok(os.Chmod(open, 0o757))
	hooks := map[string]string{"hang": hang, "daemon": daemon, "flood": flood, "open": open, "missing": dir + "/missing"}
	names := []string{"hang", "daemon", "flood", "open", "missing"}
	file := func(priority int, hook bool) string {
		text := "routers:\n"
		for i, name := range names {
			text += fmt.Sprintf("  - {name: %s, interface: eth0, vrid: %d, interval: 100ms, priority: %d, addresses: [198.18.0.%d/24]", name, 51+i, priority, 10+i)
			if hook {
				text += fmt.Sprintf(", notify_active: %s, notify_timeout: %s", hooks[name], map[bool]string{true: "3s", false: "50s"}[name == "hang"])
			}
			text += "}\n"
		}
		return text
	}
	b := s.withFile(s.b, file(100, false))
	for _, name := range names {
		b.router(name, "ipv4", inState("Active"))
	}
	a := s.withFile(s.a, file(200, true), "--metrics", "127.0.0.1:9650")
	for _, name := range names {
		b.router(name, "ipv4", inState("Backup"))
	}
	a.router("hang", "ipv4", func(r control.Router) bool { return r.Hooks[0].Running == "MASTER" })

	for name, want := range map[string]struct{ outcome, text, output string }{
		"hang":    {"timeout", "killed at its time limit", ""},
		"daemon":  {"ok", "exit status 0", "started\n"},
		"flood":   {"ok", "exit status 0", "x\nthe end\n"},
		"open":    {"refused", "all users may write to " + open, ""},
		"missing": {"failed", "there is no " + dir + "/missing", ""},
	} {
		r := a.ran(name, "MASTER")
		if r.Outcome != want.outcome || !strings.Contains(r.Text, want.text) || !strings.HasSuffix(r.Output, want.output) {
			t.Errorf("%s: %+v", name, r)
		}
		if name == "flood" && (r.Written < 1<<30 || len(r.Output) > 1<<13) {
			t.Errorf("%d octets were written, of which %d are kept", r.Written, len(r.Output))
		}
	}
	s.until("what the hook started is gone", func() bool { return !s.alive("86401") })
	if !s.alive("86402") {
		t.Error("the daemon that a hook had started has ended")
	}
	if memory := peakMemory(t, a.PID()); memory > 256<<20 {
		t.Errorf("failoverd used %d MiB of memory", memory>>20)
	}
	for i, name := range names {
		var states []string
		for _, t := range b.Transitions() {
			if t.VRID == 51+i {
				states = append(states, t.To)
			}
		}
		if !slices.Equal(states, []string{"Backup", "Active", "Backup"}) {
			t.Errorf("%s: the other router was %v; VRRP on the wire:\n%s", name, states, s.capture.VRRP())
		}
	}
	var events strings.Builder
	s.ok(a.client.Events(s.ctx, 0, false, func(e control.Event) error {
		if e.Kind == "hook" {
			fmt.Fprintln(&events, e.Name, e.Text)
		}
		return nil
	}))
	for _, name := range names {
		if !strings.Contains(events.String(), name+" notify_active: ") {
			t.Errorf("no event about %s:\n%s", name, events.String())
		}
	}
	var text string
	s.ok(s.a.Do(func() (err error) {
		text, err = scrape("127.0.0.1:9650")
		return err
	}))
	for _, want := range []string{
		`failoverd_hook_runs_total{name="hang",result="timeout"} 1`, `failoverd_hook_runs_total{name="open",result="refused"} 1`,
		`failoverd_hook_runs_total{name="missing",result="failed"} 1`, `failoverd_hook_runs_total{name="flood",result="ok"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no metric %s", want)
		}
	}
	s.stop(s.a, a.Failoverd)
	s.stop(s.b, b.Failoverd)
}

// peakMemory returns the peak memory of a process in octets.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == "VmHWM:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// There are ten changes of state in a second. A slow hook runs for some of them, in their order
// and one at a time, and in any case for the last one; the environment says how many it missed.
// The FIFO has all of them.
func TestHookKeepsUp(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	slow := s.program(dir, "slow", fmt.Sprintf("mkdir %[1]s/lock || echo overlap >> %[1]s/log; sleep 0.3; echo $FAILOVERD_SKIPPED $FAILOVERD_STATE \"$@\" >> %[1]s/log; rmdir %[1]s/lock", dir))
	fifo := dir + "/fifo"
	const router = "routers:\n  - {name: web, interface: eth0, vrid: 51, interval: 100ms, priority: %d, addresses: [198.18.0.10/24, '2001:db8::10/64']%s}\n"
	b := s.withFile(s.b, fmt.Sprintf(router, 100, ""))
	b.router("web", "ipv6", inState("Active"))
	a := s.withFile(s.a, "global: {notify_fifo: "+fifo+"}\n"+fmt.Sprintf(router, 200, ", notify: "+slow))
	s.until("there is a FIFO", func() bool {
		_, err := os.Lstat(fifo)
		return err == nil
	})
	reader, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	s.ok(err)
	defer reader.Close()
	b.router("web", "ipv4", inState("Backup"))
	b.router("web", "ipv6", inState("Backup"))
	for range 5 {
		s.ok(s.ports[s.a].Pull())
		a.router("web", "ipv4", inState("Initialize"))
		s.ok(s.ports[s.a].Plug())
		a.router("web", "ipv4", inState("Backup"))
	}
	a.router("web", "ipv4", inState("Active"))
	a.router("web", "ipv6", inState("Active"))
	last := "Active INSTANCE web MASTER 200"
	s.until("the last state is told", func() bool {
		told := s.lines(dir + "/log")
		changes := len(told)
		for _, line := range told {
			var skipped int
			fmt.Sscan(line, &skipped)
			changes += skipped
		}
		// Backup, Active, five times fault and Backup, and Active.
		return changes >= 13 && strings.HasSuffix(told[len(told)-1], last)
	})
	status := a.router("web", "ipv4", func(r control.Router) bool { return r.Hooks[0].Running == "" })
	var events int
	s.ok(a.client.Events(s.ctx, 0, false, func(e control.Event) error {
		if e.Kind == "hook" {
			events++
		}
		return nil
	}))
	s.stop(s.a, a.Failoverd)
	s.stop(s.b, b.Failoverd)

	b4, err := readAll(reader)
	s.ok(err)
	var written []string
	for line := range strings.Lines(b4) {
		written = append(written, strings.TrimSpace(strings.ReplaceAll(line, `"`, "")))
	}
	told := s.lines(dir + "/log")
	at, skipped := 0, 0
	for _, line := range told {
		var n int
		var state string
		if _, err := fmt.Sscan(line, &n, &state); err != nil {
			t.Fatalf("%q: %v in\n%s", line, err, strings.Join(told, "\n"))
		}
		_, line, _ = strings.Cut(line, state+" ")
		// The number of skipped changes is the distance to the previous one.
		if at += n; at >= len(written) || written[at] != line {
			t.Fatalf("%d were skipped before %q; the hooks got:\n%s\nthe FIFO:\n%s", n, line, strings.Join(told, "\n"), strings.Join(written, "\n"))
		}
		at++
		skipped += n
	}
	if at != len(written) || written[at-1] != "INSTANCE web STOP 200" || written[at-2] != "INSTANCE web MASTER 200" || len(written) < 13 {
		t.Errorf("the hooks got:\n%s\nthe FIFO:\n%s", strings.Join(told, "\n"), strings.Join(written, "\n"))
	}
	if int(status.SkippedHooks) != skipped || events != len(told)-1 {
		t.Errorf("the status has %d skipped, %d events; the hooks got:\n%s", status.SkippedHooks, events, strings.Join(told, "\n"))
	}
	if _, err := os.Lstat(fifo); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the FIFO is still there: %v", err)
	}
}

// readAll reads the rest of a FIFO that has no writer.
func readAll(f *os.File) (string, error) {
	b, err := io.ReadAll(f)
	return string(b), err
}

// keepalived and failoverd call the same script with the same arguments, on the host that fails
// and on the one that takes over: at a start, failover, failback and stop.
func TestHooksAsKeepalived(t *testing.T) {
	type told struct{ a, b []string }
	all := make(map[string]told)
	for _, program := range []string{"keepalived", "failoverd"} {
		s := newSite(t)
		dir := t.TempDir()
		start := func(n *lab.Node, priority int) *lab.Process {
			hook := s.program(dir, n.Name+".sh", fmt.Sprintf(`echo "$@" >> %s/%s`, dir, n.Name))
			if program == "failoverd" {
				return s.withFile(n, fmt.Sprintf("routers: [{name: lab, interface: eth0, vrid: 51, version: 2, priority: %d, addresses: [198.18.0.10/24], notify: %s}]", priority, hook)).Process
			}
			p, err := n.Keepalived(lab.KeepalivedConfig{Interface: ifname, Version: 2, VRID: 51, Priority: priority, Interval: time.Second, Addresses: []string{"198.18.0.10/24"}, Notify: hook})
			s.ok(err)
			return p
		}
		wait := func(n *lab.Node, line string) {
			s.until(program+" on "+n.Name+" says "+line, func() bool {
				lines := s.lines(dir + "/" + n.Name)
				return len(lines) > 0 && lines[len(lines)-1] == line
			})
		}
		a := start(s.a, 200)
		wait(s.a, "INSTANCE lab MASTER 200")
		b := start(s.b, 100)
		wait(s.b, "INSTANCE lab BACKUP 100")
		s.ok(s.ports[s.a].Pull())
		wait(s.a, "INSTANCE lab FAULT 200")
		wait(s.b, "INSTANCE lab MASTER 100")
		s.ok(s.ports[s.a].Plug())
		wait(s.a, "INSTANCE lab MASTER 200")
		wait(s.b, "INSTANCE lab BACKUP 100")
		for _, p := range []*lab.Process{a, b} {
			if p == b {
				wait(s.b, "INSTANCE lab MASTER 100")
			}
			if code, err := p.Stop(s.ctx); err != nil || code != 0 {
				t.Errorf("%s: exit code %d, %v", program, code, err)
			}
		}
		all[program] = told{s.lines(dir + "/a"), s.lines(dir + "/b")}
	}
	if diff := cmp.Diff(all["keepalived"], all["failoverd"], cmp.AllowUnexported(told{})); diff != "" {
		t.Errorf("the calls differ: -keepalived +failoverd\n%s", diff)
	}
	t.Logf("%+v", all["failoverd"])
}

// An advertisement of lower priority calls notify_lower_priority of the Active.
func TestHookLowerPriority(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	hook := s.program(dir, "lower", "echo $FAILOVERD_STATE >> "+dir+"/log")
	a := s.withFile(s.a, "routers:\n  - {name: web, interface: eth0, vrid: 51, interval: 100ms, priority: 200, addresses: [198.18.0.10/24], notify_lower_priority: "+hook+"}\n")
	a.router("web", "ipv4", inState("Active"))
	if all := s.lines(dir + "/log"); len(all) > 0 {
		t.Errorf("it was called although no advertisement came: %q", all)
	}
	lower := packet.Advertisement{Version: 3, VRID: 51, Priority: 100, Interval: 100 * time.Millisecond, Addresses: []netip.Addr{netip.MustParseAddr("198.18.0.10")}}
	frame, err := packet.AppendAdvertisementFrame(nil, packet.VirtualMAC(packet.IPv4, 51), netip.MustParseAddr("198.18.0.2"), &lower, packet.ChecksumRFC9568)
	s.ok(err)
	s.inject(s.b, frame)
	s.until("the hook has run", func() bool { return len(s.lines(dir+"/log")) > 0 })
	if all := s.lines(dir + "/log"); !slices.Equal(all, []string{"Active"}) {
		t.Errorf("the hook wrote %q", all)
	}
	s.stop(s.a, a.Failoverd)
}
