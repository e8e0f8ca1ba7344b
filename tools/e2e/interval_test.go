// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/doctor"
	"github.com/failoverd/failoverd/pkg/doctor/gather"
	"github.com/failoverd/failoverd/pkg/packet"
)

// forge sends an advertisement from the client, with the highest priority and the longest
// interval.
func (s *site) forge() {
	s.t.Helper()
	a := packet.Advertisement{
		Version: 3, VRID: 51, Priority: 255, Interval: 40950 * time.Millisecond,
		Addresses: []netip.Addr{netip.MustParseAddr("198.18.0.10")},
	}
	frame, err := packet.AppendAdvertisementFrame(nil, packet.MAC{2, 0, 0, 0, 0, 77}, netip.MustParseAddr("198.18.0.77"), &a, packet.ChecksumRFC5798)
	s.ok(err)
	s.inject(s.c, frame)
}

// pair starts two routers with additional lines in their entries, and waits for the Active.
func (s *site) pair(lines string) (a, b *configured) {
	s.t.Helper()
	const text = "routers:\n  - {name: web, interface: eth0, vrid: 51, priority: %d, interval: 100ms, addresses: [198.18.0.10/24]%s}\n"
	a = s.withFile(s.a, fmt.Sprintf(text, 200, lines))
	a.router("web", "ipv4", inState("Active"))
	b = s.withFile(s.b, fmt.Sprintf(text, 100, lines))
	b.router("web", "ipv4", inState("Backup"))
	return a, b
}

// A bound on the learnt interval also bounds how long one forged advertisement keeps the routers
// Backup, with every way to receive.
func TestMaxInterval(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"generic", "off"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			a, _ := s.pair(", max_interval: 1s, xdp_mode: " + mode)
			s.forge()
			yielded := a.router("web", "ipv4", inState("Backup"))
			if yielded.Active != "198.18.0.77" || yielded.MaxInterval != 1 || yielded.ActiveAdverInterval != 1 {
				t.Errorf("a Backup with a bound: %+v", yielded)
			}
			active := a.router("web", "ipv4", inState("Active"))
			// Active_Down_Interval is 3.22 s. The host may be late.
			if held := active.Since.Sub(yielded.Since); held > 20*time.Second {
				t.Errorf("the forged advertisement kept it Backup for %v", held)
			}
			s.answeredBy("198.18.0.10", s.a)
		})
	}
}

// Without a bound, the status and the doctor report the Active with the long interval, and its
// silence, until the router stops waiting for it; here because a reload sets a bound.
func TestSlowActive(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, b := s.pair("")
	s.forge()
	silent := func(r control.Router) bool {
		return slices.ContainsFunc(r.Problems, func(p control.Problem) bool {
			return p.Kind == control.SlowActive && strings.Contains(p.Text, "which has been silent for")
		})
	}
	b.router("web", "ipv4", silent)
	p := b.problem("ipv4", control.SlowActive, "198.18.0.77")
	for _, want := range []string{"follows 198.18.0.77, whose interval of 40.95s is 409 times this host's 100ms", "takes over in 2m"} {
		if !strings.Contains(p.Text, want) || !strings.Contains(p.Remedy, "max_interval") {
			t.Errorf("problem %+v", p)
		}
	}
	var report doctor.Report
	s.ok(s.b.Do(func() error {
		facts, err := gather.Facts(s.ctx, gather.Options{Config: b.path, Required: true, Client: b.client})
		if err == nil {
			report = doctor.Examine(facts)
		}
		return err
	}))
	if !slices.ContainsFunc(report.Findings, func(f doctor.Finding) bool {
		return f.Level == doctor.Problem && f.Check == "slow_active" && strings.Contains(f.Cause, "198.18.0.77") && strings.Contains(f.Remedy, "max_interval")
	}) {
		t.Errorf("the doctor does not report it: %+v", report.Findings)
	}
	b.write("routers:\n  - {name: web, interface: eth0, vrid: 51, priority: 100, interval: 100ms, max_interval: 1s, addresses: [198.18.0.10/24]}\n")
	changes := b.reload()
	if len(changes) != 1 || !slices.Equal(changes[0].Details, []string{"max_interval: 0s → 1s"}) {
		t.Errorf("changes %+v", changes)
	}
	// The bound counts from the reception of the advertisement.
	for _, p := range b.router("web", "ipv4", inState("Active")).Problems {
		if p.Kind == control.SlowActive {
			t.Errorf("after the take-over there is the problem %+v", p)
		}
	}
	s.until("its end is told", func() (told bool) {
		s.ok(b.client.Events(s.ctx, 0, false, func(e control.Event) error {
			told = told || e.Kind == "problem" && strings.HasPrefix(e.Text, "slow_active over after ")
			return nil
		}))
		return told
	})
}
