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

// local is the address of the router under test, in the middle of its peers'.
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

// machine is a Router with what a test says to it and hears from it.
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

// expire lets the time pass to the deadline.
func (m *machine) expire() []Action {
	m.t.Helper()
	deadline, ok := m.Deadline()
	if !ok {
		m.t.Fatal("no deadline")
	}
	m.now = deadline
	return m.Step(m.now, Event{Kind: TimerExpired}, nil)
}

// heard is an advertisement like the router's own, but for its priority.
func (m *machine) heard(priority uint8) packet.Advertisement {
	return packet.Advertisement{Version: m.c.Version, VRID: m.c.VRID, Priority: priority, Interval: m.c.Interval, Addresses: m.c.Addresses, AuthType: m.c.AuthType, AuthData: m.c.AuthData}
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

// say puts actions into words, one for each.
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

const (
	down = 3609375 * time.Microsecond // priority 100, interval 1 s
	skew = 609375 * time.Microsecond
)

// The rows of the checklist's section 3.2, for every version and family.
func TestTransitions(t *testing.T) {
	for _, v := range []struct {
		name    string
		version uint8
		family  packet.Family
	}{{"v2", 2, packet.IPv4}, {"v3 IPv4", 3, packet.IPv4}, {"v3 IPv6", 3, packet.IPv6}} {
		v2 := v.version == 2
		build := func(t *testing.T, change func(*Config)) *machine {
			return newMachine(t, func(c *Config) {
				c.Version, c.Family = v.version, v.family
				if change != nil {
					change(c)
				}
			})
		}
		f := v.family
		run := func(name string, test func(t *testing.T)) { t.Run(v.name+"/"+name, test) }

		run("S-I1 owner starts", func(t *testing.T) {
			m := build(t, func(c *Config) { c.Priority = 255 })
			m.expect("startup", m.startup(), "Initialize>Active assign ADV(255) announce", Active, time.Second)
		})
		run("S-I2 start", func(t *testing.T) {
			m := build(t, nil)
			m.expect("startup", m.startup(), "Initialize>Backup", Backup, down)
			m.expect("startup again", m.startup(), "", Backup, down)
		})
		run("S-I3 nothing in Initialize", func(t *testing.T) {
			m := build(t, nil)
			m.expect("advertisement", m.receive(200, greater(f)), "refused:initialize", Initialize, 0)
			m.expect("timer", m.Step(m.now, Event{Kind: TimerExpired}, nil), "", Initialize, 0)
			m.expect("shutdown", m.shutdown(), "", Initialize, 0)
		})
		run("S-B1 shutdown", func(t *testing.T) {
			m := build(t, nil).backup()
			m.expect("shutdown", m.shutdown(), "Backup>Initialize", Initialize, 0)
		})
		run("S-B2 timer", func(t *testing.T) {
			m := build(t, nil).backup()
			m.now += Instant(down) - 1
			m.expect("a nanosecond early", m.Step(m.now, Event{Kind: TimerExpired}, nil), "", Backup, 1)
			m.expect("timer", m.expire(), "Backup>Active assign ADV(100) announce", Active, time.Second)
		})
		run("S-B3 priority 0", func(t *testing.T) {
			m := build(t, nil).backup()
			m.receive(200, greater(f))
			m.now += second / 2
			m.expect("release", m.receive(0, greater(f)), "advertisement_rcvd priority_zero_pkts_rcvd", Backup, skew)
		})
		run("S-B4 equal or higher priority", func(t *testing.T) {
			for _, p := range []uint8{100, 101, 255} {
				m := build(t, nil).backup()
				m.now += second
				m.expect(fmt.Sprint(p), m.receive(p, less(f)), "advertisement_rcvd", Backup, down)
			}
		})
		run("S-B4 no preemption", func(t *testing.T) {
			m := build(t, func(c *Config) { c.Preempt = false }).backup()
			m.now += second
			m.expect("lower priority", m.receive(1, less(f)), "advertisement_rcvd", Backup, down)
		})
		run("S-B5 lower priority", func(t *testing.T) {
			m := build(t, nil).backup()
			m.now += second
			m.expect("lower priority", m.receive(99, greater(f)), "advertisement_rcvd", Backup, down-time.Second)
			m.expect("takes over", m.expire(), "Backup>Active assign ADV(100) announce", Active, time.Second)
			if got := m.Status().LastTransition; got.Cause != CausePreempted || got.Peer != greater(f) || got.Priority != 99 {
				t.Errorf("because %s", got.Why())
			}
		})
		run("S-A1 shutdown", func(t *testing.T) {
			m := build(t, nil).active()
			m.expect("shutdown", m.shutdown(), "ADV(0) release Active>Initialize", Initialize, 0)
		})
		run("S-A2 timer, without drift", func(t *testing.T) {
			m := build(t, nil).active()
			deadline, _ := m.Deadline()
			m.now = deadline + second/4 // late
			m.expect("late", m.Step(m.now, Event{Kind: TimerExpired}, nil), "ADV(100)", Active, 750*time.Millisecond)
		})
		run("S-A2 after a long pause", func(t *testing.T) {
			m := build(t, nil).active()
			m.now += 100 * second
			m.expect("late", m.Step(m.now, Event{Kind: TimerExpired}, nil), "ADV(100)", Active, time.Second)
		})
		run("S-A3 priority 0", func(t *testing.T) {
			m := build(t, nil).active()
			m.now += second / 2
			m.receive(0, greater(f))
			if deadline := m.deadline.Sub(m.now); deadline != time.Second {
				t.Errorf("Adver_Timer fires in %v", deadline)
			}
		})
		run("S-A4 higher priority", func(t *testing.T) {
			for _, preempt := range []bool{true, false} {
				m := build(t, func(c *Config) { c.Preempt = preempt }).active()
				m.expect("rival", m.receive(101, less(f)), "advertisement_rcvd release Active>Backup", Backup, down)
			}
		})
		run("S-A4 equal priority, greater address", func(t *testing.T) {
			m := build(t, nil).active()
			m.expect("rival", m.receive(100, greater(f)), "advertisement_rcvd release Active>Backup", Backup, down)
			if got := m.Status().LastTransition.Cause; got != CauseGreaterAddress {
				t.Errorf("because %v", got)
			}
		})
		run("S-A5 lower priority, or equal and lower address", func(t *testing.T) {
			want := "advertisement_rcvd ADV(100) announce"
			if v2 {
				want = "advertisement_rcvd announce" // RFC 3768 has no answer
			}
			for p, from := range map[uint8]netip.Addr{99: greater(f), 100: less(f)} {
				m := build(t, nil).active()
				m.now += second / 2
				m.expect("rival", m.receive(p, from), want, Active, announceAgain)
				m.expect("announced again", m.expire(), "announce", Active, 400*time.Millisecond)
				m.expect("Adver_Timer untouched", m.expire(), "ADV(100)", Active, time.Second)
			}
		})
		run("S-A5 storm guard", func(t *testing.T) {
			m := build(t, nil).active()
			answers := 0
			for range 100 { // in 50 ms
				m.now += Instant(500 * time.Microsecond)
				answers += strings.Count(say(m.receive(99, less(f))), "announce")
			}
			if answers > 6 {
				t.Errorf("%d answers in 50 ms", answers)
			}
		})
		run("S-X4 owner preempts", func(t *testing.T) {
			m := build(t, func(c *Config) { c.Priority, c.Preempt = 255, false })
			m.active()
			if m.receive(254, greater(f)); m.State() != Active {
				t.Errorf("the owner gave way to a lower priority")
			}
		})
		run("E-03 two owners", func(t *testing.T) {
			m := build(t, func(c *Config) { c.Priority = 255 }).active()
			actions := m.receive(255, greater(f))
			if v2 {
				m.expect("v2 discards", actions, "refused:owner_conflict", Active, time.Second)
			} else {
				m.expect("v3 compares", actions, "owner_conflict advertisement_rcvd release Active>Backup", Backup, 3*time.Second+time.Second/256)
			}
		})
		run("R-12 own source", func(t *testing.T) {
			m := build(t, nil).active()
			m.expect("loop", m.receive(200, local[f]), "refused:own_source", Active, time.Second)
		})
		run("TM-05 priority 0 again and again", func(t *testing.T) {
			m := build(t, nil).backup()
			m.receive(200, greater(f))
			m.now += second
			began := m.now
			for m.State() == Backup {
				if m.now += second / 10; m.now > began+second {
					t.Fatal("starved")
				}
				m.receive(0, greater(f))
				m.receive(0, less(f))
				m.Step(m.now, Event{Kind: TimerExpired}, nil)
			}
			if got := m.Status().LastTransition; got.Cause != CauseReleased || got.Peer != greater(f) {
				t.Errorf("because %s", got.Why())
			}
		})
		run("TM-05 priority 0 from somebody else", func(t *testing.T) {
			m := build(t, nil).backup()
			m.receive(200, greater(f))
			m.expect("not the Active", m.receive(0, less(f)), "advertisement_rcvd priority_zero_pkts_rcvd", Backup, down)
		})
	}
}

// Version 3 learns the Active's interval, version 2 insists on its own.
func TestInterval(t *testing.T) {
	t.Run("v3 learns", func(t *testing.T) {
		m := newMachine(t, nil).backup()
		a := m.heard(200)
		a.Interval = 250 * time.Millisecond // V11
		m.expect("learnt", m.hear(a, greater(packet.IPv4), packet.ChecksumRFC9568), "interval_errors advertisement_rcvd", Backup, 902343750)
		m.expect("S-B3 from the stored interval", m.receive(0, greater(packet.IPv4)), "advertisement_rcvd priority_zero_pkts_rcvd", Backup, 152343750)
		m.expire()
		if got := m.deadline.Sub(m.now); got != time.Second {
			t.Errorf("Adver_Timer has the learnt interval: %v", got)
		}
		m.shutdown()
		m.expect("TM forgets it", m.startup(), "Initialize>Backup", Backup, down)
	})
	t.Run("v3 doesn't learn from a lower priority", func(t *testing.T) {
		m := newMachine(t, nil).backup()
		a := m.heard(50)
		a.Interval = 10 * time.Millisecond
		m.expect("S-B5", m.hear(a, greater(packet.IPv4), packet.ChecksumRFC9568), "interval_errors advertisement_rcvd", Backup, down)
	})
	t.Run("v2 refuses", func(t *testing.T) {
		m := newMachine(t, func(c *Config) { c.Version = 2 }).backup()
		m.now += second
		a := m.heard(200)
		a.Interval = 3 * time.Second // V22
		m.expect("R-17", m.hear(a, greater(packet.IPv4), packet.ChecksumRFC9568), "refused:interval_errors", Backup, down-time.Second)
	})
}

// and the version.
func TestSoftChecks(t *testing.T) {
	other := []netip.Addr{netip.MustParseAddr("192.0.2.77")}
	for _, c := range []struct {
		name   string
		config func(*Config)
		change func(*packet.Advertisement)
		want   string
	}{
		{"R-18 v3 notes other addresses", nil, func(a *packet.Advertisement) { a.Addresses = other }, "address_list_errors advertisement_rcvd"},
		{"R-18 v3 doesn't mind the order", func(c *Config) {
			c.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.1"), other[0]}
		}, func(a *packet.Advertisement) {
			a.Addresses = []netip.Addr{a.Addresses[1], a.Addresses[0]}
		}, "advertisement_rcvd"},
		{"R-18 v2 refuses", func(c *Config) { c.Version = 2 }, func(a *packet.Advertisement) { a.Addresses = other }, "refused:address_list_errors"},
		{"R-18 v2 unless it's the owner", func(c *Config) { c.Version = 2 }, func(a *packet.Advertisement) { a.Addresses, a.Priority = other, 255 }, "address_list_errors advertisement_rcvd"},
		{"K-06 v2 ignores it", func(c *Config) { c.Version, c.IgnoreAddressList = 2, true }, func(a *packet.Advertisement) { a.Addresses = other }, "address_list_errors advertisement_rcvd"},
		{"R-16 unexpected authentication", func(c *Config) { c.Version = 2 }, func(a *packet.Advertisement) { a.AuthType = 1 }, "refused:auth_type_mismatch"},
		{"R-16 missing authentication", password, func(a *packet.Advertisement) { a.AuthType = 0 }, "refused:auth_type_mismatch"},
		{"R-16 wrong password", password, func(a *packet.Advertisement) { a.AuthData[7]++ }, "refused:auth_failures"},
		{"R-16 right password", password, nil, "advertisement_rcvd"},
		{"R-14 other version", nil, func(a *packet.Advertisement) { a.Version = 2 }, "refused:version_errors"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, c.config).backup()
			a := m.heard(200)
			if c.change != nil {
				c.change(&a)
			}
			if got := say(m.hear(a, greater(packet.IPv4), packet.ChecksumRFC9568)); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func password(c *Config) {
	c.Version, c.AuthType, c.AuthData = 2, 1, [8]byte([]byte("failovr1"))
}

// The exact values of the checklist's section 3.1, in ms, Skew_Time first.
func TestExactTimers(t *testing.T) {
	const cs = 10 * time.Millisecond
	columns := []struct {
		version  uint8
		interval time.Duration
	}{{3, cs}, {3, 10 * cs}, {3, 25 * cs}, {3, 100 * cs}, {3, 4095 * cs}, {2, time.Second}, {2, 3 * time.Second}}
	for _, priority := range []uint8{1, 50, 100, 200, 254} {
		for _, c := range columns {
			m := newMachine(t, func(cfg *Config) { cfg.Version, cfg.Interval, cfg.Priority = c.version, c.interval, priority }).backup()
			unit := int64(c.interval)
			if c.version == 2 {
				unit = int64(time.Second)
			}
			// In 256ths of a nanosecond, so that nothing is rounded.
			wantSkew := (256 - int64(priority)) * unit
			wantDown := 3*256*int64(c.interval) + wantSkew
			s := m.Status()
			if off := wantSkew - 256*int64(s.SkewTime); off < 0 || off >= 256 {
				t.Errorf("priority %d, v%d %v: Skew_Time %v", priority, c.version, c.interval, s.SkewTime)
			}
			if off := wantDown - 256*int64(s.ActiveDownInterval); off < 0 || off >= 256 {
				t.Errorf("priority %d, v%d %v: Active_Down_Interval %v", priority, c.version, c.interval, s.ActiveDownInterval)
			}
		}
	}
	// Some of the table's own figures.
	for _, c := range []struct {
		priority uint8
		interval time.Duration
		skew     string
		down     string
	}{
		{100, cs, "6.09375ms", "36.09375ms"},
		{254, cs, "78.125µs", "30.078125ms"},
		{1, 4095 * cs, "40.790039062s", "2m43.640039062s"},
		{200, 25 * cs, "54.6875ms", "804.6875ms"},
	} {
		s := newMachine(t, func(cfg *Config) { cfg.Interval, cfg.Priority = c.interval, c.priority }).backup().Status()
		if s.SkewTime.String() != c.skew || s.ActiveDownInterval.String() != c.down {
			t.Errorf("priority %d at %v: %v / %v, want %s / %s", c.priority, c.interval, s.SkewTime, s.ActiveDownInterval, c.skew, c.down)
		}
	}
}

// S-C1: V09 and V10. The address is compared in network order, unsigned.
func TestTies(t *testing.T) {
	for _, c := range []struct {
		own, other string
		want       State
	}{
		{"198.18.0.200", "198.18.1.3", Backup}, // V09
		{"198.18.1.3", "198.18.0.200", Active},
		{"127.255.255.255", "128.0.0.0", Backup},
		{"fe80::b", "fe80::a", Active}, // V10
		{"fe80::b", "fe80::1:0", Backup},
	} {
		own := netip.MustParseAddr(c.own)
		f := packet.FamilyOf(own)
		m := newMachine(t, func(cfg *Config) { cfg.Family = f })
		m.Step(m.now, Event{Kind: Startup, Source: own}, nil)
		m.expire()
		m.receive(100, netip.MustParseAddr(c.other))
		if m.State() != c.want {
			t.Errorf("%s hears %s: %v, want %v", c.own, c.other, m.State(), c.want)
		}
	}
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

// C-06 to C-08: which form is sent to whom.
func TestChecksumForms(t *testing.T) {
	f := packet.IPv4
	const old, current = packet.ChecksumRFC5798, packet.ChecksumRFC9568
	expect := func(t *testing.T, what string, actions []Action, want string) {
		t.Helper()
		if got := sent(actions); got != want {
			t.Errorf("%s: sent in %q, want %q", what, got, want)
		}
	}
	t.Run("starts with RFC 9568's", func(t *testing.T) {
		m := newMachine(t, nil)
		m.startup()
		expect(t, "first", m.expire(), "rfc9568")
		// Who doesn't understand it may never be heard (keepalived), so both
		// are sent until somebody is.
		expect(t, "second", m.expire(), "rfc9568+rfc5798")
		expect(t, "third", m.expire(), "rfc9568+rfc5798")
		expect(t, "farewell", m.shutdown(), "rfc9568+rfc5798")
	})
	t.Run("probes twice a second at most", func(t *testing.T) {
		m := newMachine(t, func(c *Config) { c.Interval = 10 * time.Millisecond }).active()
		both := 0
		for range 100 {
			both += strings.Count(sent(m.expire()), "+")
		}
		if both != 2 {
			t.Errorf("%d probes in a second", both)
		}
	})
	t.Run("a rival's form is taken over at once", func(t *testing.T) {
		m := newMachine(t, nil).active()
		m.now += second / 2
		expect(t, "answer", m.hear(m.heard(50), less(f), old), "rfc5798")
		m.now += second / 4
		expect(t, "the same again", m.hear(m.heard(50), less(f), old), "rfc5798")
		expect(t, "another one's too", m.hear(m.heard(50), greater(f), current), "")
		m.now += second / 10
		expect(t, "both from then on", m.hear(m.heard(50), greater(f), current), "rfc9568+rfc5798")
	})
	t.Run("a Backup remembers the Active's", func(t *testing.T) {
		m := newMachine(t, nil).backup()
		m.hear(m.heard(200), greater(f), old)
		m.hear(m.heard(200), greater(f), old)
		expect(t, "take-over", m.expire(), "rfc5798")
		expect(t, "later", m.expire(), "rfc5798")
	})
	t.Run("also that of one it doesn't heed", func(t *testing.T) {
		m := newMachine(t, nil).backup()
		m.hear(m.heard(50), greater(f), old)
		expect(t, "preemption", m.expire(), "rfc5798")
	})
	t.Run("an Active that sends both gets both", func(t *testing.T) {
		m := newMachine(t, nil).backup()
		m.hear(m.heard(200), greater(f), current)
		m.hear(m.heard(200), greater(f), old)
		expect(t, "take-over", m.expire(), "rfc9568+rfc5798")
	})
	t.Run("remembered through Initialize", func(t *testing.T) {
		m := newMachine(t, nil).backup()
		m.hear(m.heard(200), greater(f), old)
		m.shutdown()
		m.startup()
		expect(t, "take-over", m.expire(), "rfc5798")
	})
	for policy, form := range map[ChecksumPolicy]packet.Checksum{ChecksumOnlyRFC9568: current, ChecksumOnlyRFC5798: old} {
		t.Run("only "+form.String(), func(t *testing.T) {
			m := newMachine(t, func(c *Config) { c.Checksum = policy }).active()
			for range 3 {
				expect(t, "advertisement", m.expire(), form.String())
			}
			if got := say(m.hear(m.heard(200), greater(f), (current|old)&^form)); got != "refused:checksum_errors" {
				t.Errorf("the other form: %q", got)
			}
		})
	}
	t.Run("IPv6 has one", func(t *testing.T) {
		m := newMachine(t, func(c *Config) { c.Family = packet.IPv6 }).active()
		expect(t, "advertisement", m.expire(), "rfc9568")
		expect(t, "farewell", m.shutdown(), "rfc9568")
	})
}

// A lost record: the kernel knows only when, and how important.
func TestStampHeard(t *testing.T) {
	stamp := func(m *machine, priority uint8, interval time.Duration) {
		m.Step(m.now, Event{Kind: StampHeard, Advertisement: packet.Advertisement{Version: 3, Priority: priority, Interval: interval}}, nil)
	}
	m := newMachine(t, nil).backup()
	m.now += second
	stamp(m, 200, time.Second)
	m.expect("the Active lives", nil, "", Backup, down)
	m.now += second
	stamp(m, 50, time.Second)
	m.expect("a lower priority doesn't count", nil, "", Backup, down-time.Second)
	stamp(m, 0, time.Second)
	m.expect("somebody leaves", nil, "", Backup, skew)
	stamp(m, 200, 100*time.Millisecond)
	m.expect("the interval is learnt", nil, "", Backup, 360937500)
	m = newMachine(t, nil).active()
	stamp(m, 255, time.Second)
	m.expect("an Active waits for the record", nil, "", Active, time.Second)
}

// The reasons that people read.
func TestWhy(t *testing.T) {
	f := packet.IPv4
	why := func(m *machine) string { return m.Status().LastTransition.Why() }
	m := newMachine(t, nil).active()
	if got, want := why(m), "nobody else heard for 3.609s (Active_Down_Interval 3.609s)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	m = newMachine(t, nil).backup()
	m.receive(200, greater(f))
	m.expire()
	if got, want := why(m), "nothing heard from 192.0.2.200 for 3.609s (Active_Down_Interval 3.609s)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	m.receive(101, less(f))
	if got, want := why(m), "192.0.2.2 has the higher priority 101"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	m.receive(0, less(f))
	m.expire()
	if got, want := why(m), "192.0.2.2 left with priority 0"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for c := range len(causes) + 1 {
		if Cause(c).String() == "" {
			t.Errorf("cause %d has no name", c)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"good", func(*Config) {}, ""},
		{"VRID", func(c *Config) { c.VRID = 0 }, "VRID 0"},
		{"priority", func(c *Config) { c.Priority = 0 }, "priority 0"},
		{"version", func(c *Config) { c.Version = 1 }, "version 1"},
		{"interval", func(c *Config) { c.Interval = 15 * time.Millisecond }, "interval 15ms"},
		{"interval of version 2", func(c *Config) { c.Version, c.Interval = 2, 100*time.Millisecond }, "interval 100ms"},
		{"IPv6 in version 2", func(c *Config) { c.Version, c.Family, c.Addresses = 2, packet.IPv6, virtual(packet.IPv6) }, "no IPv6"},
		{"no address", func(c *Config) { c.Addresses = []netip.Addr{} }, "0 virtual addresses"},
		{"other family", func(c *Config) { c.Addresses = virtual(packet.IPv6) }, "not ipv4"},
		{"link-local first", func(c *Config) { c.Family, c.Addresses = packet.IPv6, virtual(packet.IPv6)[1:] }, "link-local"},
		{"authentication", func(c *Config) { c.AuthType = 1 }, "authentication"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{Version: 3, VRID: 51, Family: packet.IPv4, Priority: 100, Interval: time.Second, Addresses: virtual(packet.IPv4)}
			c.change(&cfg)
			_, err := New(cfg)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// The steady states allocate nothing.
func TestAllocations(t *testing.T) {
	m := newMachine(t, nil).backup()
	ev := Event{Kind: Receive, Advertisement: m.heard(200), From: greater(packet.IPv4), Checksum: packet.ChecksumRFC9568}
	actions := make([]Action, 0, 16)
	if n := testing.AllocsPerRun(100, func() { actions = m.Step(m.now, ev, actions[:0]) }); n != 0 {
		t.Errorf("a Backup's advertisement allocates %v times", n)
	}
	m = newMachine(t, nil).active()
	if n := testing.AllocsPerRun(100, func() {
		m.now, _ = m.Deadline()
		actions = m.Step(m.now, Event{Kind: TimerExpired}, actions[:0])
	}); n != 0 {
		t.Errorf("an Active's advertisement allocates %v times", n)
	}
}

// A configuration isn't shared with who gave it.
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
