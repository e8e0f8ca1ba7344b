// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

func reconfigurable(t *testing.T, priority uint8) (*Router, Config) {
	t.Helper()
	c := Config{
		Version: 3, VRID: 51, Family: packet.IPv4, Priority: priority, Interval: 100 * time.Millisecond, Preempt: true,
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.10")},
	}
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	r.Step(0, Event{Kind: Startup, Source: netip.MustParseAddr("192.0.2.1")}, nil)
	return r, c
}

func change(t *testing.T, r *Router, now Instant, c Config) []Action {
	t.Helper()
	actions, err := r.Reconfigure(now, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return actions
}

func kinds(actions []Action) (all []ActionKind) {
	for _, a := range actions {
		all = append(all, a.Kind)
	}
	return all
}

func at(d time.Duration) Instant { return Instant(d) }

// An Active stays Active, advertises the change at once, and restarts its timer.
func TestReconfigureActive(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   []ActionKind
	}{
		{"nothing", func(*Config) {}, nil},
		{"what concerns a Backup only", func(c *Config) { c.Preempt = false }, nil},
		{"priority", func(c *Config) { c.Priority = 50 }, []ActionKind{SendAdvertisement}},
		{"interval", func(c *Config) { c.Interval = 50 * time.Millisecond }, []ActionKind{SendAdvertisement}},
		{"checksum", func(c *Config) { c.Checksum = ChecksumOnlyRFC5798 }, []ActionKind{SendAdvertisement}},
		{"version", func(c *Config) { c.Version, c.Interval = 2, time.Second }, []ActionKind{SendAdvertisement}},
		{"addresses", func(c *Config) { c.Addresses = append(c.Addresses, netip.MustParseAddr("192.0.2.11")) }, []ActionKind{AssignAddresses, SendAdvertisement, AnnounceAddresses}},
	} {
		r, config := reconfigurable(t, 100)
		now := at(time.Second)
		r.Step(now, Event{Kind: TimerExpired}, nil)
		if r.State() != Active {
			t.Fatal("it isn't Active")
		}
		now = now.Add(30 * time.Millisecond)
		before, _ := r.Deadline()
		c.change(&config)
		actions := change(t, r, now, config)
		if got := kinds(actions); len(got) != len(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		deadline, _ := r.Deadline()
		want := now.Add(config.Interval)
		if c.name == "version" {
			want = now.Add(100 * time.Millisecond) // the old interval, at first
		}
		if len(c.want) > 0 && deadline != want || len(c.want) == 0 && deadline != before {
			t.Errorf("%s: deadline %v, before %v", c.name, deadline, before)
		}
		for _, a := range actions {
			if a.Kind == SendAdvertisement && a.Priority != config.Priority {
				t.Errorf("%s: priority %d is sent", c.name, a.Priority)
			}
		}
		if s := r.Status(); s.State != Active || s.BecameActive != 1 {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
}

// A longer interval is advertised after the old interval until every Backup must know
// it.
func TestReconfigureSlower(t *testing.T) {
	r, config := reconfigurable(t, 100)
	now := at(time.Second)
	r.Step(now, Event{Kind: TimerExpired}, nil)
	config.Interval = time.Second
	change(t, r, now, config)
	var times []time.Duration
	for range 5 {
		deadline, _ := r.Deadline()
		times = append(times, deadline.Sub(now))
		now = deadline
		if got := kinds(r.Step(now, Event{Kind: TimerExpired}, nil)); len(got) != 1 || got[0] != SendAdvertisement {
			t.Fatalf("actions %v", got)
		}
	}
	const fast = 100 * time.Millisecond
	for i, want := range []time.Duration{fast, fast, fast, time.Second, time.Second} {
		if times[i] != want {
			t.Errorf("advertisement %d after %v, want %v", i, times[i], want)
		}
	}
}

// A Backup restarts its timer from the last advertisement of the Active.
func TestReconfigureBackup(t *testing.T) {
	t.Attr("proves", "TM-03")
	r, config := reconfigurable(t, 100)
	config.Interval = time.Second
	change(t, r, at(50*time.Millisecond), config)
	// No Active has advertised an interval, so the own new one is used.
	if deadline, _ := r.Deadline(); deadline != at(3*time.Second+156*time.Second/256) {
		t.Errorf("deadline %v", deadline)
	}
	heard := at(500 * time.Millisecond)
	r.Step(heard, Event{
		Kind: Receive, From: netip.MustParseAddr("192.0.2.2"), Checksum: packet.ChecksumRFC9568,
		Advertisement: packet.Advertisement{Version: 3, VRID: 51, Priority: 200, Interval: 200 * time.Millisecond, Addresses: config.Addresses},
	}, nil)
	config.Priority, config.Interval = 156, 10*time.Second
	if actions := change(t, r, heard.Add(100*time.Millisecond), config); len(actions) > 0 {
		t.Errorf("actions %v", actions)
	}
	// The interval is still the Active's; the Skew_Time follows the new priority.
	if deadline, _ := r.Deadline(); deadline != heard.Add(600*time.Millisecond+100*200*time.Millisecond/256) {
		t.Errorf("deadline %v", deadline)
	}
	if s := r.Status(); s.State != Backup || s.LastHeard != heard || s.Priority != 156 {
		t.Errorf("%+v", s)
	}
}

// A Backup of another version has heard nobody, and waits as long as after a start.
func TestReconfigureVersionOfBackup(t *testing.T) {
	r, config := reconfigurable(t, 156)
	from := netip.MustParseAddr("192.0.2.2")
	r.Step(at(time.Second), Event{
		Kind: Receive, From: from, Checksum: packet.ChecksumRFC9568,
		Advertisement: packet.Advertisement{Version: 3, VRID: 51, Priority: 0, Interval: 10 * time.Second, Addresses: config.Addresses},
	}, nil)
	now := at(1010 * time.Millisecond)
	config.Version, config.Interval = 2, time.Second
	if actions := change(t, r, now, config); len(actions) > 0 {
		t.Errorf("actions %v", actions)
	}
	if deadline, _ := r.Deadline(); r.State() != Backup || deadline != now.Add(3*time.Second+100*time.Second/256) {
		t.Errorf("%v, deadline %v", r.State(), deadline)
	}
	heard := now.Add(time.Second)
	r.Step(heard, Event{Kind: Receive, From: from, Advertisement: packet.Advertisement{Version: 2, VRID: 51, Priority: 200, Interval: time.Second, Addresses: config.Addresses}}, nil)
	if deadline, _ := r.Deadline(); deadline != heard.Add(3*time.Second+100*time.Second/256) {
		t.Errorf("deadline %v", deadline)
	}
}

func TestReconfigureRestart(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) { c.VRID = 52 },
		func(c *Config) { c.Priority = OwnerPriority },
	} {
		r, config := reconfigurable(t, 100)
		before := r.Status()
		change(&config)
		if _, err := r.Reconfigure(at(time.Millisecond), config, nil); !errors.Is(err, ErrRestart) {
			t.Errorf("%v", err)
		}
		if r.Status() != before {
			t.Errorf("it has changed: %+v", r.Status())
		}
	}
	r, config := reconfigurable(t, 100)
	config.Interval = 0
	if _, err := r.Reconfigure(0, config, nil); err == nil {
		t.Error("no interval")
	}
}
