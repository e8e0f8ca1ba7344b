// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	patience = 20 * time.Second
	// holdLab is the environment variable that lets the test binary make a lab and wait.
	holdLab = "LAB_TEST_HOLD"
)

func TestMain(m *testing.M) {
	if os.Getenv(holdLab) != "" {
		hold()
	}
	os.Exit(m.Run())
}

// build connects two hosts to a LAN.
func build(l *lab.Lab) (lan *lab.LAN, a, b *lab.Node, port *lab.Port, err error) {
	if lan, err = l.LAN("lan"); err != nil {
		return
	}
	if a, err = l.Node("a"); err != nil {
		return
	}
	if b, err = l.Node("b"); err != nil {
		return
	}
	if port, err = lan.Connect(a, "eth0", "198.18.0.1/24", "fe80::1/64"); err != nil {
		return
	}
	_, err = lan.Connect(b, "eth0", "198.18.0.2/24", "fe80::2/64")
	return
}

func hold() {
	l, err := lab.New()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_, a, _, _, err := build(l)
	if err == nil {
		_, err = a.Start("sleep", "1234.5")
	}
	if err == nil {
		err = a.Do(func() error {
			ns, err := os.Readlink("/proc/thread-self/ns/net")
			fmt.Println(ns)
			return err
		})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	select {}
}

func newLab(t *testing.T) (*lab.LAN, *lab.Node, *lab.Node, *lab.Port) {
	t.Helper()
	l := lab.ForTest(t)
	lan, a, b, port, err := build(l)
	if err != nil {
		t.Fatal(err)
	}
	return lan, a, b, port
}

func withPatience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// SignalAll reaches the children of the process.
func TestSignalAll(t *testing.T) {
	_, a, _, _ := newLab(t)
	ctx := withPatience(t)
	p, err := a.Start("sh", "-c", "sleep 1234.6 & echo started; wait; echo ended; wait")
	ok(t, err)
	_, err = p.WaitLine(ctx, 0, func(line string) bool { return line == "started" })
	ok(t, err)
	ok(t, p.SignalAll(syscall.SIGSTOP))
	ok(t, p.SignalAll(syscall.SIGKILL))
	code, err := p.Wait(ctx)
	ok(t, err)
	// The process is done when no process holds the pipe of its output.
	if code != -1 || p.Output() != "started\n" {
		t.Errorf("it ended with %d and wrote %q", code, p.Output())
	}
}

// The output of a program that was started with StartToFile is complete when it has ended, also
// if nothing read it meanwhile and a pipe would have been full.
func TestStartToFile(t *testing.T) {
	_, a, _, _ := newLab(t)
	const lines = 50000
	p, err := a.StartToFile("seq", fmt.Sprint(lines))
	ok(t, err)
	code, err := p.Wait(withPatience(t))
	ok(t, err)
	if got := strings.Count(p.Output(), "\n"); code != 0 || got != lines || !strings.HasSuffix(p.Output(), "\n50000\n") {
		t.Errorf("exit code %d, %d lines of output", code, got)
	}
	if p.Began.IsZero() || len(p.Lines()) > 0 {
		t.Errorf("began at %v, %d lines", p.Began, len(p.Lines()))
	}
}

func TestPing(t *testing.T) {
	lan, a, b, port := newLab(t)
	capture, err := lan.Capture()
	if err != nil {
		t.Fatal(err)
	}
	defer capture.Close()
	ctx := withPatience(t)
	p, err := b.Ping(netip.MustParseAddr("198.18.0.1"), 5*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.WaitReply(ctx, time.Now()); err != nil {
		t.Fatal(err)
	}

	if err := port.Pull(); err != nil {
		t.Fatal(err)
	}
	pulled := time.Now()
	time.Sleep(200 * time.Millisecond)
	if err := port.Plug(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.WaitReply(ctx, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := p.Outage(pulled); got < 150*time.Millisecond {
		t.Errorf("outage %v, but the cable was out for 200ms", got)
	}
	if !slices.ContainsFunc(capture.Frames(), func(f lab.Frame) bool { return f.From == b.Name }) {
		t.Error("the capture has no frame of b")
	}
	if holds, err := a.Holds("eth0", "198.18.0.1"); !holds || err != nil {
		t.Errorf("a holds 198.18.0.1: %v, %v", holds, err)
	}
}

func TestWhoHas(t *testing.T) {
	_, a, b, _ := newLab(t)
	mac, err := a.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"198.18.0.1", "fe80::1"} {
		got, err := b.WhoHas("eth0", netip.MustParseAddr(addr), 500*time.Millisecond)
		if err != nil || !slices.Equal(got, []string{mac}) {
			t.Errorf("%s is answered for by %v, %v, not by %s alone", addr, got, err, mac)
		}
	}
	got, err := b.WhoHas("eth0", netip.MustParseAddr("198.18.0.77"), 100*time.Millisecond)
	if err != nil || len(got) != 0 {
		t.Errorf("no host has 198.18.0.77, but %v answer, %v", got, err)
	}
}

// A lab leaves nothing behind, neither after Close nor after kill -9.
func TestNothingStays(t *testing.T) {
	t.Run("closed", func(t *testing.T) {
		l, err := lab.New()
		if err != nil {
			t.Fatal(err)
		}
		_, a, _, _, err := build(l)
		if err != nil {
			t.Fatal(err)
		}
		var ns string
		if err := a.Do(func() (err error) { ns, err = os.Readlink("/proc/thread-self/ns/net"); return err }); err != nil {
			t.Fatal(err)
		}
		defer keep(t, ns)()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		waitGone(t, ns)
	})
	t.Run("killed", func(t *testing.T) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), holdLab+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		ns := strings.TrimSpace(line)
		if err != nil || !strings.HasPrefix(ns, "net:") {
			t.Fatalf("%q, %v", line, err)
		}
		defer keep(t, ns)()
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		waitGone(t, ns)
	})
}

// member finds a thread that is in the network namespace.
func member(t *testing.T, ns string) string {
	t.Helper()
	tasks, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range tasks {
		if got, err := os.Readlink(path); err == nil && got == ns {
			return path
		}
	}
	return ""
}

// keep holds the namespace, so that the kernel reuses its number for no other.
func keep(t *testing.T, ns string) (release func()) {
	t.Helper()
	path := member(t, ns)
	if path == "" {
		t.Fatalf("%s isn't found while it exists", ns)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = f.Close() }
}

func waitGone(t *testing.T, ns string) {
	t.Helper()
	for end := time.Now().Add(patience); member(t, ns) != ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s is still there", ns)
		}
	}
}

// A test's directory is removed after the test's processes have ended, because they may write
// into it until then.
func TestDirectoryGoesLast(t *testing.T) {
	_, a, _, _ := newLab(t)
	ctx := withPatience(t)
	dir := t.TempDir()
	_, err := a.Start("sh", "-c", "while :; do : > "+dir+"/$((n = n + 1)); done")
	ok(t, err)
	for {
		ok(t, ctx.Err())
		files, err := os.ReadDir(dir)
		ok(t, err)
		if len(files) > 100 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
