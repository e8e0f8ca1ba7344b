// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/failoverd/failoverd/pkg/packet"
)

const (
	second = Instant(time.Second)
	start  = 1000 * second
)

// local is the address of the router under test, between those of its peers.
var local = map[packet.Family]netip.Addr{
	packet.IPv4: netip.MustParseAddr("192.0.2.100"),
	packet.IPv6: netip.MustParseAddr("fe80::100"),
}

func less(f packet.Family) netip.Addr    { return peer(f, 2) }
func greater(f packet.Family) netip.Addr { return peer(f, 200) }

func peer(f packet.Family, n int) netip.Addr {
	if f == packet.IPv6 {
		return netip.MustParseAddr(fmt.Sprintf("fe80::%d", n))
	}
	return netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", n))
}

func virtual(f packet.Family) []netip.Addr {
	if f == packet.IPv6 {
		return []netip.Addr{netip.MustParseAddr("fe80::1"), netip.MustParseAddr("2001:db8::1")}
	}
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}
}

// machine is a Router with a clock and helpers for a test.
type machine struct {
	*Router
	t   *testing.T
	now Instant
	c   Config
}

func newMachine(t *testing.T, change func(*Config)) *machine {
	t.Helper()
	c := Config{Version: 3, VRID: 51, Family: packet.IPv4, Priority: 100, Interval: time.Second, Preempt: true}
	if change != nil {
		change(&c)
	}
	if c.Addresses == nil {
		c.Addresses = virtual(c.Family)
	}
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return &machine{Router: r, t: t, now: start, c: c}
}

func (m *machine) startup() []Action {
	return m.Step(m.now, Event{Kind: Startup, Source: local[m.c.Family]}, nil)
}

func (m *machine) shutdown() []Action {
	return m.Step(m.now, Event{Kind: Shutdown, Cause: CauseAdministrator}, nil)
}

// expire advances the time to the deadline and runs TimerExpired.
func (m *machine) expire() []Action {
	m.t.Helper()
	deadline, ok := m.Deadline()
	if !ok {
		m.t.Fatal("no deadline")
	}
	m.now = deadline
	return m.Step(m.now, Event{Kind: TimerExpired}, nil)
}

// heard returns an advertisement like the router's own with another priority.
func (m *machine) heard(priority uint8) packet.Advertisement {
	return packet.Advertisement{Version: m.c.Version, VRID: m.c.VRID, Priority: priority, Interval: m.c.Interval, Addresses: m.c.Addresses, AuthType: m.c.AuthType}
}

func (m *machine) receive(priority uint8, from netip.Addr) []Action {
	return m.hear(m.heard(priority), from, packet.ChecksumRFC9568)
}

func (m *machine) hear(a packet.Advertisement, from netip.Addr, form packet.Checksum) []Action {
	return m.Step(m.now, Event{Kind: Receive, Advertisement: a, From: from, Checksum: form}, nil)
}

func (m *machine) backup() *machine {
	m.t.Helper()
	m.startup()
	if m.State() != Backup {
		m.t.Fatalf("state %v", m.State())
	}
	return m
}

func (m *machine) active() *machine {
	m.t.Helper()
	m.startup()
	if m.State() == Backup {
		m.expire()
	}
	if m.State() != Active {
		m.t.Fatalf("state %v", m.State())
	}
	return m
}

// say describes actions, one word for each.
func say(actions []Action) string {
	var words []string
	for _, a := range actions {
		switch a.Kind {
		case SendAdvertisement:
			words = append(words, fmt.Sprintf("ADV(%d)", a.Priority))
		case AssignAddresses:
			words = append(words, "assign")
		case AnnounceAddresses:
			words = append(words, "announce")
		case ReleaseAddresses:
			words = append(words, "release")
		case TransitionTo:
			words = append(words, fmt.Sprintf("%v>%v", a.From, a.To))
		case Report:
			word := a.Reason.String()
			if a.Refused {
				word = "refused:" + word
			}
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

func (m *machine) expect(what string, actions []Action, want string, state State, deadline time.Duration) {
	m.t.Helper()
	if got := say(actions); got != want {
		m.t.Errorf("%s: actions %q, want %q", what, got, want)
	}
	if m.State() != state {
		m.t.Errorf("%s: state %v, want %v", what, m.State(), state)
	}
	got, ok := m.Deadline()
	if ok != (state != Initialize) {
		m.t.Errorf("%s: a deadline: %v", what, ok)
	}
	if ok && got.Sub(m.now) != deadline {
		m.t.Errorf("%s: deadline in %v, want %v", what, got.Sub(m.now), deadline)
	}
}

func password(c *Config) {
	c.Version, c.AuthType = 2, 1
}

// sent returns the checksum forms of the advertisements among the actions.
func sent(actions []Action) string {
	var forms []string
	for _, a := range actions {
		if a.Kind == SendAdvertisement {
			forms = append(forms, a.Checksum.String())
		}
	}
	return strings.Join(forms, " ")
}

// C-08: a Backup that reads only RFC 5798's form is never heard. It has to be able to
// read every advertisement, from the first one on.
func TestBothForms(t *testing.T) {
	t.Attr("proves", "C-08")
	m := newMachine(t, nil).backup()
	m.now, _ = m.Deadline()
	const both = "rfc9568+rfc5798"
	if got := sent(m.timer()); got != both {
		t.Errorf("the first is sent in %s", got)
	}
	for range 10 {
		if got := sent(m.expire()); got != both {
			t.Errorf("sent in %s", got)
		}
	}
	m.hear(m.heard(50), less(packet.IPv4), packet.ChecksumRFC9568)
	if got := sent(m.adverTimer()); got != both {
		t.Errorf("sent in %s when RFC 9568's was heard", got)
	}
	if got := sent(m.shutdown()); got != both {
		t.Errorf("priority 0 is sent in %s", got)
	}
}

// A Router keeps no reference to the slices of its caller's Config.
func TestConfigIsCopied(t *testing.T) {
	addresses := slices.Clone(virtual(packet.IPv4))
	m := newMachine(t, func(c *Config) { c.Addresses = addresses }).backup()
	addresses[0] = netip.MustParseAddr("192.0.2.99")
	a := m.heard(200)
	a.Addresses = virtual(packet.IPv4)
	if diff := cmp.Diff("advertisement_rcvd", say(m.hear(a, greater(packet.IPv4), packet.ChecksumRFC9568))); diff != "" {
		t.Error(diff)
	}
}
