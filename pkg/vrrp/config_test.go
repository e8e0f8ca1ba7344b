// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/failoverd/failoverd/pkg/packet"
)

func TestConfigErrors(t *testing.T) {
	t.Attr("proves", "E-06 O-03")
	many := func(f packet.Family, n int) []netip.Addr {
		addresses := []netip.Addr{virtual(f)[0]}
		for len(addresses) < n {
			addresses = append(addresses, addresses[len(addresses)-1].Next())
		}
		return addresses
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"the least", func(c *Config) { c.VRID, c.Priority, c.Interval = 1, 1, 10*time.Millisecond }, nil},
		{"the most", func(c *Config) { c.VRID, c.Priority, c.Interval = 255, 255, 40950*time.Millisecond }, nil},
		{"v2 the most", func(c *Config) { c.Version, c.Interval = 2, 255*time.Second }, nil},
		{"v2 password", password, nil},
		{"255 addresses", func(c *Config) { c.Addresses = many(packet.IPv4, 255) }, nil},
		{"90 IPv6 addresses", func(c *Config) { c.Family, c.Addresses = packet.IPv6, many(packet.IPv6, 90) }, nil},
		{"VRID", func(c *Config) { c.VRID = 0 }, []string{"VRID 0 is out of range 1 to 255"}},
		{"priority", func(c *Config) { c.Priority = 0 }, []string{"priority 0 is out of range 1 to 255"}},
		{"version", func(c *Config) { c.Version = 4 }, []string{"version 4 is not 2 or 3"}},
		{"E-06 interval 0", func(c *Config) { c.Interval = 0 }, []string{"interval 0s is not a multiple of 10ms up to 40.95s"}},
		{"negative interval", func(c *Config) { c.Interval = -time.Second }, []string{"interval -1s is not a multiple of 10ms up to 40.95s"}},
		{"no centiseconds", func(c *Config) { c.Interval = 12 * time.Millisecond }, []string{"interval 12ms is not a multiple of 10ms up to 40.95s"}},
		{"interval too long", func(c *Config) { c.Interval = 40960 * time.Millisecond }, []string{"interval 40.96s is not a multiple of 10ms up to 40.95s"}},
		{"v2 no seconds", func(c *Config) { c.Version, c.Interval = 2, 1500*time.Millisecond }, []string{"interval 1.5s is not a multiple of 1s up to 4m15s"}},
		{"v2 too long", func(c *Config) { c.Version, c.Interval = 2, 256*time.Second }, []string{"interval 4m16s is not a multiple of 1s up to 4m15s"}},
		{"v2 IPv6", func(c *Config) { c.Version, c.Family, c.Addresses = 2, packet.IPv6, virtual(packet.IPv6) }, []string{"version 2 has no IPv6"}},
		{"no address", func(c *Config) { c.Addresses = nil }, nil},
		{"no IPv6 address", func(c *Config) { c.Family, c.Addresses = packet.IPv6, nil }, nil},
		{"too many", func(c *Config) { c.Addresses = many(packet.IPv4, 256) }, []string{"256 virtual addresses, more than 255"}},
		{"too many IPv6", func(c *Config) { c.Family, c.Addresses = packet.IPv6, many(packet.IPv6, 91) }, []string{"91 virtual addresses, more than 90"}},
		{"one of the other family", func(c *Config) { c.Addresses = []netip.Addr{virtual(packet.IPv4)[0], netip.MustParseAddr("fe80::1")} }, []string{"virtual address fe80::1 is not ipv4"}},
		{"E-05 not link-local", func(c *Config) { c.Family, c.Addresses = packet.IPv6, virtual(packet.IPv6)[1:] }, []string{"first virtual address 2001:db8::1 is not link-local (RFC 9568 §5.2.9)"}},
		{"IPv4 in IPv6", func(c *Config) { c.Addresses = []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1")} }, []string{"virtual address ::ffff:192.0.2.1 is not ipv4"}},
		{"zone", func(c *Config) {
			c.Family, c.Addresses = packet.IPv6, []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}
		}, []string{"virtual address fe80::1%eth0 is not ipv6"}},
		{"no family", func(c *Config) { c.Family, c.Addresses = 0, []netip.Addr{{}} }, []string{"family 0 is neither IPv4 nor IPv6"}},
		{"checksum policy", func(c *Config) { c.Checksum = 9 }, []string{"checksum policy 9 is unknown"}},
		{"v3 password", func(c *Config) { c.AuthType = 1 }, []string{"authentication type 1 is not possible in version 3"}},
		{"v2 IPsec AH", func(c *Config) { c.Version, c.AuthType = 2, 2 }, nil},
		{"v2 type 3", func(c *Config) { c.Version, c.AuthType = 2, 3 }, []string{"authentication type 3 is not possible in version 2"}},
		{"all at once", func(c *Config) { c.VRID, c.Priority, c.Interval = 0, 0, 0 }, []string{
			"VRID 0 is out of range 1 to 255", "priority 0 is out of range 1 to 255", "interval 0s is not a multiple of 10ms up to 40.95s",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{Version: 3, VRID: 51, Family: packet.IPv4, Priority: 100, Interval: time.Second, Addresses: virtual(packet.IPv4)}
			c.change(&cfg)
			var got []string
			r, err := New(cfg)
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if (r == nil) != (err != nil) {
				t.Errorf("router %v with error %v", r, err)
			}
		})
	}
}

func TestNewIsInInitialize(t *testing.T) {
	m := newMachine(t, nil)
	if _, ok := m.Deadline(); ok || m.State() != Initialize {
		t.Errorf("state %v, deadline %v", m.State(), ok)
	}
	if got := m.Step(m.now, Event{}, nil); len(got) != 0 {
		t.Errorf("no event has actions %v", got)
	}
	kept := []Action{{Kind: AnnounceAddresses}}
	if got := say(m.Step(m.now, Event{Kind: Startup, Source: local[packet.IPv4]}, kept)); got != "announce Initialize>Backup" {
		t.Errorf("actions aren't appended: %q", got)
	}
}

// Why has the values that decided a transition.
func TestWhyHasTheValues(t *testing.T) {
	p := netip.MustParseAddr("192.0.2.7")
	for _, c := range []struct {
		cause Cause
		want  []string
	}{
		{CauseSilence, []string{"192.0.2.7", "3.7s", "3.609s"}},
		{CauseNobody, []string{"3.7s", "3.609s"}},
		{CauseReleased, []string{"192.0.2.7", "priority 0"}},
		{CausePreempted, []string{"192.0.2.7", "lower", "42"}},
		{CauseHigherPriority, []string{"192.0.2.7", "higher", "42"}},
		{CauseGreaterAddress, []string{"192.0.2.7", "greater address", "42"}},
		{CauseInterfaceDown, []string{"interface is down"}},
	} {
		a := Action{Kind: TransitionTo, Cause: c.cause, Peer: p, Priority: 42, Silence: 3700 * time.Millisecond, Limit: 3609375 * time.Microsecond}
		for _, want := range c.want {
			if got := a.Why(); !strings.Contains(got, want) {
				t.Errorf("%v: %q lacks %q", c.cause, got, want)
			}
		}
	}
	var seen []string
	for c := CauseNone; int(c) < len(causes); c++ {
		if s := c.String(); s == "" || slices.Contains(seen, s) {
			t.Errorf("cause %d is called %q", c, s)
		} else {
			seen = append(seen, s)
		}
	}
	if got := Cause(200).String(); got != "cause 200" {
		t.Errorf("an unknown cause is called %q", got)
	}
	// Under a second the digits count: 1 cs leaves 36 ms.
	m := newMachine(t, func(c *Config) { c.Interval = 10 * time.Millisecond }).active()
	if got, want := m.Status().LastTransition.Why(), "nobody else heard for 36.09ms (Active_Down_Interval 36.09ms)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// The causes that a router determines itself, and those of events.
func TestTransitionCauses(t *testing.T) {
	f := packet.IPv4
	for _, c := range []struct {
		name   string
		change func(*Config)
		do     func(m *machine)
		want   Action
	}{
		{
			"S-I1", func(c *Config) { c.Priority = 255 }, func(m *machine) { m.startup() },
			Action{From: Initialize, To: Active, Cause: CauseOwner},
		},
		{
			"S-I2", nil, func(m *machine) { m.startup() },
			Action{From: Initialize, To: Backup, Cause: CauseStarting},
		},
		{
			"S-X3", nil, func(m *machine) { m.active().Step(m.now, Event{Kind: Shutdown, Cause: CauseInterfaceDown}, nil) },
			Action{From: Active, To: Initialize, Cause: CauseInterfaceDown},
		},
		{
			"S-B2 nobody", nil, func(m *machine) { m.active() },
			Action{From: Backup, To: Active, Cause: CauseNobody, Silence: 3609375 * time.Microsecond, Limit: 3609375 * time.Microsecond},
		},
		{
			"S-B2 silence", nil, func(m *machine) { m.backup().receive(200, greater(f)); m.expire() },
			Action{From: Backup, To: Active, Cause: CauseSilence, Peer: greater(f), Priority: 200, Silence: 3609375 * time.Microsecond, Limit: 3609375 * time.Microsecond},
		},
		{
			"S-B5", nil, func(m *machine) { m.backup().receive(50, greater(f)); m.expire() },
			Action{From: Backup, To: Active, Cause: CausePreempted, Peer: greater(f), Priority: 50, Silence: 3609375 * time.Microsecond, Limit: 3609375 * time.Microsecond},
		},
		{
			"S-A4 priority", nil, func(m *machine) { m.active().receive(150, less(f)) },
			Action{From: Active, To: Backup, Cause: CauseHigherPriority, Peer: less(f), Priority: 150},
		},
		{
			"S-A4 address", nil, func(m *machine) { m.active().receive(100, greater(f)) },
			Action{From: Active, To: Backup, Cause: CauseGreaterAddress, Peer: greater(f), Priority: 100},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, c.change)
			c.do(m)
			c.want.Kind = TransitionTo
			if got := m.Status().LastTransition; got != c.want {
				t.Errorf("%s %+v, want %+v", got.Why(), got, c.want)
			}
		})
	}
}

// Events of the steady state don't allocate.
func TestSteadyStateAllocations(t *testing.T) {
	for _, x := range exactTimers {
		setup := func() *machine {
			return newMachine(t, func(c *Config) { c.Version, c.Family, c.Interval = x.version, x.family, x.interval })
		}
		backup, active := setup().backup(), setup().active()
		heard := Event{Kind: Receive, Advertisement: backup.heard(200), From: greater(x.family), Checksum: packet.ChecksumRFC9568}
		noted := heard
		noted.Advertisement.Interval = x.peers
		rival := heard
		rival.Advertisement.Priority = 1
		stamp := heard
		stamp.Kind = StampHeard
		actions := make([]Action, 0, 16)
		step := func(m *machine, ev Event) func() {
			return func() {
				m.pass(x.interval / 100)
				actions = m.Step(m.now, ev, actions[:0])
			}
		}
		for name, f := range map[string]func(){
			"Backup hears":         step(backup, heard),
			"Backup notes":         step(backup, noted),
			"Backup has a stamp":   step(backup, stamp),
			"Active's timer":       step(active, Event{Kind: TimerExpired}),
			"Active hears a rival": step(active, rival),
			"Deadline and State":   func() { backup.Deadline(); _ = active.State() },
		} {
			if n := testing.AllocsPerRun(100, f); n != 0 {
				t.Errorf("%s/%s: %v allocations", x.name, name, n)
			}
		}
		if backup.State() != Backup || active.State() != Active {
			t.Errorf("%s: states %v and %v", x.name, backup.State(), active.State())
		}
	}
}
