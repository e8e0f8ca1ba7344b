// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const signalled = "routers:\n  - {name: web, interface: eth0, vrid: 51, interval: 100ms, priority: 100, addresses: [198.18.0.10/24, '2001:db8::10/64']%s}\n"

// oneStop is the time within which several stop signals count as one.
const oneStop = 500 * time.Millisecond

// Any number of signals, of any kind, leads to one complete stop.
func TestSignals(t *testing.T) {
	const apart = time.Millisecond
	term, in, hup := syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP
	many := make([]syscall.Signal, 20)
	for i := range many {
		many[i] = []syscall.Signal{term, in}[i%2]
	}
	for name, signals := range map[string][]syscall.Signal{
		"terminated twice":         {term, term},
		"interrupted, terminated":  {in, term},
		"many":                     many,
		"hangup in between":        {term, hup, term, hup},
		"hangup first":             {hup, term, term},
		"reload, stop, and reload": {hup, hup, in, hup, in},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			a := s.withFile(s.a, fmt.Sprintf(signalled, ""))
			s.waitHolder("198.18.0.10", s.a)
			frames := len(s.capture.Frames())
			for _, signal := range signals {
				_ = a.Signal(signal) // it may have ended by now
				time.Sleep(apart)
			}
			code, err := a.Wait(s.ctx)
			s.ok(err)
			if code != 0 {
				t.Errorf("exit code %d", code)
			}
			zero := false
			for _, f := range s.capture.Frames()[frames:] {
				ad, _, _, ok := f.Advertisement()
				zero = zero || ok && ad.Priority == 0
			}
			if !zero {
				t.Error("it did not send priority 0")
			}
			s.clean(s.a)
		})
	}
}

// failoverd leaves nothing behind if it is stopped at any moment of its start.
func TestSignalsAtTheStart(t *testing.T) {
	s := newSite(t)
	for n := range 12 {
		a := s.failoverd(s.a, args(100)...)
		time.Sleep(time.Duration(n) * 30 * time.Millisecond)
		for range 3 {
			_ = a.Signal(syscall.SIGTERM) // it may have ended by now
			time.Sleep(time.Millisecond)
		}
		_, err := a.Wait(s.ctx)
		s.ok(err)
		s.clean(s.a)
	}
}

// A second stop signal ends the wait for hooks, and skips nothing else.
func TestImpatience(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	slow := filepath.Join(dir, "slow")
	s.ok(os.WriteFile(slow, []byte("#!/bin/sh\ntrap '' TERM INT\necho begun >>"+dir+"/begun\nwhile :; do sleep 1; done\n"), 0o755))
	a := s.withFile(s.a, fmt.Sprintf(signalled, ", notify_stop: "+slow))
	s.waitHolder("198.18.0.10", s.a)
	s.ok(a.Signal(syscall.SIGTERM))
	s.until("the hook runs", func() bool {
		b, _ := os.ReadFile(dir + "/begun")
		return strings.Contains(string(b), "begun")
	})
	s.waitHolder("198.18.0.10") // on no host: the address doesn't wait for the hook
	time.Sleep(2 * oneStop)     // a signal within this time would count as the first one
	s.ok(a.Signal(syscall.SIGTERM))
	code, err := a.Wait(s.ctx)
	s.ok(err)
	if code != 0 || !strings.Contains(a.Output(), "because of a second signal") {
		t.Errorf("exit code %d:\n%s", code, a.Output())
	}
	s.clean(s.a)
}
