// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// script is a scenario of testdata/*.txt, whose lines are
//
//	interval D, delay D         of the routers and of the LAN, before them
//	bound D                     the MaxInterval of the routers that follow, 0s for none
//	router N PRIORITY ADDRESS [nopreempt]
//	start N, stop N             Startup and Shutdown
//	kill N                      a crash: without priority 0, and the state is lost
//	cut N, heal N               cut and restore the link of the router
//	forge PRIORITY ADDRESS D    send one forged advertisement with the interval D to all
//	run D                       let the time pass
//	settle                      ten intervals, then exactly one of the routers
//	                            that reach each other is Active and advertises
//	                            every interval, for ten intervals more
//	expect N STATE
//	became N COUNT              how often it became Active since it was created
type script struct {
	*lan
	t        *testing.T
	interval time.Duration
	bound    time.Duration
	names    map[string]*station
}

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			s := &script{lan: newLAN(100 * time.Microsecond), t: t, interval: time.Second, names: map[string]*station{}}
			lines := bufio.NewScanner(f)
			for n := 1; lines.Scan(); n++ {
				line, _, _ := strings.Cut(lines.Text(), "//")
				words := strings.Fields(line)
				if len(words) == 0 {
					continue
				}
				if err := s.command(words[0], words[1:]); err != nil {
					t.Fatalf("%s:%d: %s: %v", file, n, strings.TrimSpace(line), err)
				}
				for name, r := range s.names {
					if r.fault != "" {
						t.Fatalf("%s:%d: router %s %s", file, n, name, r.fault)
					}
				}
			}
			if err := lines.Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func (s *script) command(verb string, args []string) error {
	arg := func(n int) string {
		if n < len(args) {
			return args[n]
		}
		return ""
	}
	switch verb {
	case "settle":
		return s.settle()
	case "interval", "bound", "delay", "run":
		d, err := time.ParseDuration(arg(0))
		if err != nil {
			return err
		}
		switch verb {
		case "interval":
			s.interval = d
		case "bound":
			s.bound = d
		case "delay":
			s.delay = Instant(d)
		case "run":
			s.run(d)
		}
		return nil
	case "router":
		return s.router(arg(0), arg(1), arg(2), arg(3))
	case "forge":
		return s.forge(arg(0), arg(1), arg(2))
	}

	r := s.names[arg(0)]
	if r == nil {
		return fmt.Errorf("no router %q", arg(0))
	}
	switch verb {
	case "start":
		s.step(r, Event{Kind: Startup, Source: r.source})
	case "stop":
		s.step(r, Event{Kind: Shutdown, Cause: CauseAdministrator})
	case "kill":
		fresh, err := New(r.config)
		if err != nil {
			return err
		}
		r.Router, r.holding = fresh, false
	case "cut":
		r.cut = true
	case "heal":
		r.cut = false
	case "expect":
		if got := r.State().String(); got != arg(1) {
			return fmt.Errorf("it is %s (%s)", got, r.Status().LastTransition.Why())
		}
	case "became":
		if got := fmt.Sprint(r.Status().BecameActive); got != arg(1) {
			return fmt.Errorf("it became Active %s times", got)
		}
	default:
		return fmt.Errorf("no command %q", verb)
	}
	return nil
}

func (s *script) router(name, priority, address, option string) error {
	c := Config{Version: 3, VRID: 51, Family: packet.IPv4, Interval: s.interval, MaxInterval: s.bound, Preempt: option != "nopreempt", Addresses: virtual(packet.IPv4)}
	if _, err := fmt.Sscan(priority, &c.Priority); err != nil {
		return err
	}
	source, err := netip.ParseAddr(address)
	if err != nil {
		return err
	}
	r, err := New(c)
	if err != nil {
		return err
	}
	s.names[name] = &station{Router: r, config: c, source: source}
	s.routers = append(s.routers, s.names[name])
	return nil
}

func (s *script) forge(priority, address, interval string) error {
	a := packet.Advertisement{Version: 3, VRID: 51, Addresses: virtual(packet.IPv4)}
	if _, err := fmt.Sscan(priority, &a.Priority); err != nil {
		return err
	}
	from, err := netip.ParseAddr(address)
	if err != nil {
		return err
	}
	if a.Interval, err = time.ParseDuration(interval); err != nil {
		return err
	}
	for _, r := range s.routers {
		if !r.cut {
			s.step(r, Event{Kind: Receive, Advertisement: a, From: from, Checksum: packet.ChecksumRFC9568})
		}
	}
	return nil
}

func (s *script) settle() error {
	const intervals = 10
	s.run(intervals * s.interval)
	want, running, changes := s.census()
	if running && want == 0 {
		return fmt.Errorf("nobody is Active after %d intervals", intervals)
	}
	before := s.sent
	s.run(intervals * s.interval)
	if n := s.sent - before; n < want*(intervals-1) || n > want*(intervals+1) {
		return fmt.Errorf("%d advertisements of %d Active in %d intervals", n, want, intervals)
	}
	if _, _, now := s.census(); now != changes {
		return fmt.Errorf("it has not settled")
	}
	for _, r := range s.routers {
		if r.cut && r.State() == Backup {
			return fmt.Errorf("%v is alone and not Active", r.source)
		}
	}
	if connected := s.connected(); running && connected > 1 {
		return fmt.Errorf("%d are Active", connected)
	}
	return nil
}

// census returns how many routers are Active, whether any router runs, and how often
// routers became Active in all.
func (s *script) census() (active int, running bool, changes uint64) {
	for _, r := range s.routers {
		running = running || r.State() != Initialize
		if r.State() == Active {
			active++
		}
		changes += r.Status().BecameActive
	}
	return active, running, changes
}

// connected returns how many of the routers that can reach each other are Active.
func (s *script) connected() (active int) {
	for _, r := range s.routers {
		if !r.cut && r.State() == Active {
			active++
		}
	}
	return active
}
