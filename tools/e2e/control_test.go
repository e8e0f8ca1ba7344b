// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/tools/lab"
)

// No load on the control socket disturbs the rhythm of the advertisements: 10,000 malformed
// requests, clients that send or read nothing, followers that never read, and many clients that
// ask as fast as they can.
func TestControlAbuse(t *testing.T) {
	s := newSite(t)
	const routers, interval = 50, 100 * time.Millisecond
	var text strings.Builder
	text.WriteString("routers:\n")
	for n := range routers {
		fmt.Fprintf(&text, "  - {interface: eth0, vrid: %d, interval: %v, addresses: [10.1.0.%d/32]}\n", n+1, interval, n+1)
	}
	c := s.withFile(s.a, text.String())
	for n := range routers {
		c.router(fmt.Sprintf("eth0-%d", n+1), "ipv4", inState("Active"))
	}
	quiet := len(s.capture.Frames())
	_, err := s.capture.Wait(s.ctx, quiet+20*routers, func(lab.Frame) bool { return true })
	s.ok(err)
	began, canary := len(s.capture.Frames()), lab.NewOrdinaryCanary(interval)
	from := time.Now()

	dial := func() net.Conn {
		for {
			conn, err := net.Dial("unix", socketOf(c.Failoverd))
			if errors.Is(err, syscall.EAGAIN) {
				time.Sleep(time.Millisecond) // the queue of connections is full
				continue
			}
			s.ok(err)
			return conn
		}
	}
	for range 500 {
		conn := dial()
		defer func() { _ = conn.Close() }()
		_, err := io.WriteString(conn, "GET /v1/events?follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
		s.ok(err)
	}
	for range 100 { // slow clients
		conn := dial()
		defer func() { _ = conn.Close() }()
		_, err := io.WriteString(conn, "GET /v1/sta")
		s.ok(err)
	}
	for n := range 10_000 {
		conn := dial()
		_, _ = io.WriteString(conn, []string{"\x00\xff\r\n\r\n", "GET /v1/status HTTP/9\r\n\r\n", "POST /v1/reload?dry_run=maybe HTTP/1.0\r\n\r\n", "GET /v1/status HTTP/1.0\r\n\r\n"}[n%4])
		_ = conn.Close()
	}
	c.write("routers: [")
	for range 100 {
		if _, err := c.client.Reload(s.ctx, false); err == nil {
			t.Fatal("a reload with a broken file succeeded")
		}
	}
	ended := len(s.capture.Frames())
	before, _ := longestSilence(s.capture.Frames()[quiet:began])
	during, sent := longestSilence(s.capture.Frames()[began:ended])
	t.Logf("%d advertisements meanwhile, at most %v between two of one router; before %v", sent, during, before)
	stall := lab.Longest(canary.Stalls(from, time.Now()))
	s.ok(canary.Close())
	if during > 3*interval+stall {
		t.Errorf("a router was silent for %v; the longest stall of the machine was %v", during, stall)
	}
	for n := range routers {
		if r := c.router(fmt.Sprintf("eth0-%d", n+1), "ipv4", inState("Active")); r.BecameActive != 1 {
			t.Errorf("%s became Active %d times", r.Name, r.BecameActive)
		}
	}
	s.stop(s.a, c.Failoverd)
}

// longestSilence returns the longest time between two advertisements of a router, and the number
// of advertisements.
func longestSilence(frames []lab.Frame) (longest time.Duration, sent int) {
	last := make(map[uint8]time.Time)
	for _, f := range frames {
		a, _, _, ok := f.Advertisement()
		if !ok {
			continue
		}
		sent++
		if before, ok := last[a.VRID]; ok {
			longest = max(longest, f.At.Sub(before))
		}
		last[a.VRID] = f.At
	}
	return longest, sent
}

// A second failoverd on a host is reachable beside the first one.
func TestSecondSocket(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, err := s.lan.Connect(s.a, "eth1", "203.0.113.1/24")
	s.ok(err)
	first := s.withFile(s.a, "routers: [{interface: eth0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24]}]")
	first.router("eth0-51", "ipv4", inState("Active"))
	second := s.failoverd(s.a, "--iface", "eth1", "--vip", "203.0.113.10/24", "--vrid", "52", "--interval", "100ms")
	s.waitState(second, 0, "ipv4", "Active")
	beside, err := filepath.Glob(filepath.Join(filepath.Dir(socketOf(second)), "control-*.sock"))
	s.ok(err)
	if len(beside) != 1 {
		t.Fatalf("the sockets beside that of the first failoverd are %v", beside)
	}
	status, err := control.NewClient(beside[0]).Status(s.ctx)
	s.ok(err)
	if len(status.Routers) != 1 || status.Routers[0].Interface != "eth1" {
		t.Errorf("the status of the second failoverd is %+v", status)
	}
	code, err := second.Stop(s.ctx)
	s.ok(err)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(socketOf(first.Failoverd)); err != nil {
		t.Errorf("the socket of the first failoverd went with the second: %v", err)
	}
	s.stop(s.a, first.Failoverd)
}
