// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

func dual(interval time.Duration) func(*Config) {
	return func(c *Config) { c.Dual, c.Interval = true, interval }
}

// version2 is an advertisement of the router's configuration in version 2.
func (m *machine) version2(priority uint8) packet.Advertisement {
	a := m.heard(priority)
	a.Version, a.Interval = 2, m.c.Version2Interval()
	return a
}

func (m *machine) receive2(priority uint8, from netip.Addr) []Action {
	return m.hear(m.version2(priority), from, packet.ChecksumRFC9568)
}

// inBoth reports whether every advertisement among the actions goes out in
// version 2 too, and that there is one.
func inBoth(actions []Action) bool {
	any := false
	for _, a := range actions {
		if a.Kind == SendAdvertisement {
			if !a.Version2 {
				return false
			}
			any = true
		}
	}
	return any
}

// I-02, I-07e, I-07f: an Active sends every advertisement in both versions, also with an
// interval below a second.
func TestDualSendsBoth(t *testing.T) {
	t.Attr("proves", "I-02 I-07")
	m := newMachine(t, dual(100*time.Millisecond)).backup()
	m.now, _ = m.Deadline()
	if a := m.timer(); m.State() != Active || !inBoth(a) {
		t.Errorf("take-over: %s", say(a))
	}
	for range 20 {
		if a := m.expire(); !inBoth(a) {
			t.Errorf("Adver_Timer: %s", say(a))
		}
	}
	m.pass(100 * time.Millisecond)
	if a := m.receive(50, less(packet.IPv4)); !inBoth(a) {
		t.Errorf("answer to version 3: %s", say(a))
	}
	m.pass(100 * time.Millisecond)
	if a := m.receive2(50, less(packet.IPv4)); !inBoth(a) {
		t.Errorf("answer to version 2: %s", say(a))
	}
	m.pass(100 * time.Millisecond)
	if a := m.receive2(0, less(packet.IPv4)); !inBoth(a) {
		t.Errorf("answer to a leaving one: %s", say(a))
	}
	if a := m.shutdown(); !inBoth(a) {
		t.Errorf("priority 0: %s", say(a))
	}
	if a := newMachine(t, nil).active().expire(); inBoth(a) {
		t.Errorf("not dual: %s", say(a))
	}
}

// I-03, I-07d: a Backup uses the interval that the Active advertises, in version 2 in
// seconds, and the Skew_Time of version 3.
func TestDualLearnsInterval(t *testing.T) {
	t.Attr("proves", "I-03 I-07")
	m := newMachine(t, dual(100*time.Millisecond)).backup()
	a := m.version2(200)
	a.Interval = 3 * time.Second
	got := m.hear(a, greater(packet.IPv4), packet.ChecksumRFC9568)
	// 3 * 3 s + 156/256 * 3 s
	m.expect("3 s in version 2", got, "interval_errors advertisement_rcvd", Backup, 10828125*time.Microsecond)
	// 100 ms are 1 s in version 2: no mismatch.
	m.expect("1 s in version 2", m.receive2(200, greater(packet.IPv4)), "advertisement_rcvd", Backup, 3609375*time.Microsecond)
}

// I-04: while an Active is heard in version 3, its version 2 only restarts the timer.
// After an Active_Down_Interval without version 3, version 2 counts again. Version 2 of
// another Active always counts.
func TestDualPrefersVersion3(t *testing.T) {
	t.Attr("proves", "I-04")
	const down = 360937500
	m := newMachine(t, dual(100*time.Millisecond)).backup()
	active, other := greater(packet.IPv4), less(packet.IPv4)
	m.expect("version 3", m.receive(200, active), "advertisement_rcvd", Backup, down)
	m.pass(100 * time.Millisecond)
	m.expect("version 2 beside it", m.receive2(200, active), "advertisement_rcvd", Backup, down)
	m.pass(100 * time.Millisecond)
	m.expect("it leaves in version 2", m.receive2(0, active), "advertisement_rcvd priority_zero_pkts_rcvd", Backup, down-100*time.Millisecond)
	m.expect("another one's", m.receive2(201, other), "advertisement_rcvd", Backup, 3609375*time.Microsecond)
	m.expect("the first again", m.receive(200, active), "advertisement_rcvd", Backup, down)
	m.pass(down)
	m.expect("version 2 alone", m.receive2(200, active), "advertisement_rcvd", Backup, 3609375*time.Microsecond)
	m.pass(time.Second)
	m.expect("and again", m.receive2(200, active), "advertisement_rcvd", Backup, 3609375*time.Microsecond)
}

// The kernel's stamp may be that of the version 2 advertisement beside it, or of
// another Active that speaks version 2 only.
func TestDualStamp(t *testing.T) {
	m := newMachine(t, dual(100*time.Millisecond)).backup()
	m.receive(200, greater(packet.IPv4))
	m.pass(100 * time.Millisecond)
	m.expect("stamp", m.Step(m.now, Event{Kind: StampHeard, Advertisement: m.version2(200)}, nil), "", Backup, 360937500)
	m.expect("another's", m.Step(m.now, Event{Kind: StampHeard, Advertisement: m.version2(201)}, nil), "", Backup, 3609375*time.Microsecond)
	m = newMachine(t, dual(100*time.Millisecond)).backup()
	m.expect("of one who speaks version 2 only", m.Step(m.now, Event{Kind: StampHeard, Advertisement: m.version2(200)}, nil), "", Backup, 3609375*time.Microsecond)
}

// I-07b, I-07h, R-18: the checks of version 2 still apply to its messages, except that of
// the interval.
func TestDualRefuses(t *testing.T) {
	t.Attr("proves", "I-07 R-14")
	m := newMachine(t, dual(time.Second)).backup()
	a := m.version2(200)
	a.AuthType = 1
	m.expect("password", m.hear(a, greater(packet.IPv4), packet.ChecksumRFC9568), "refused:auth_type_mismatch", Backup, 3609375*time.Microsecond)
	a = m.version2(200)
	a.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.99")}
	m.expect("addresses", m.hear(a, greater(packet.IPv4), packet.ChecksumRFC9568), "refused:address_list_errors", Backup, 3609375*time.Microsecond)
	a.Version = 4
	m.expect("version 4", m.hear(a, greater(packet.IPv4), packet.ChecksumRFC9568), "refused:version_errors", Backup, 3609375*time.Microsecond)
	m = newMachine(t, func(c *Config) { c.Dual, c.Priority = true, OwnerPriority }).active()
	m.expect("owner, version 2", m.receive2(200, greater(packet.IPv4)), "refused:owner_conflict", Active, time.Second)
}

// Version 2 has one form of the checksum. It says nothing about the form that peers use in
// version 3.
func TestDualChecksum(t *testing.T) {
	m := newMachine(t, dual(time.Second)).active()
	m.receive2(50, less(packet.IPv4))
	if got := sent(m.adverTimer()); got != "rfc9568+rfc5798" {
		t.Errorf("sent in %s: a form was learnt from version 2", got)
	}
	m = newMachine(t, func(c *Config) { c.Dual, c.Checksum = true, ChecksumOnlyRFC5798 }).backup()
	m.expect("version 2", m.receive2(200, greater(packet.IPv4)), "advertisement_rcvd", Backup, 3609375*time.Microsecond)
	m.expect("version 3", m.receive(200, greater(packet.IPv4)), "refused:checksum_errors", Backup, 3609375*time.Microsecond)
}

// I-07a, I-07g: the interval in version 2 is in whole seconds, never shorter;
// version 2 has no IPv6.
func TestDualConfig(t *testing.T) {
	t.Attr("proves", "I-07")
	for interval, want := range map[time.Duration]time.Duration{
		10 * time.Millisecond:    time.Second,
		time.Second:              time.Second,
		1010 * time.Millisecond:  2 * time.Second,
		40950 * time.Millisecond: 41 * time.Second,
	} {
		c := Config{Interval: interval}
		if got := c.Version2Interval(); got != want {
			t.Errorf("%v: %v, want %v", interval, got, want)
		}
	}
	for _, c := range []Config{
		{Version: 2, Family: packet.IPv4, Addresses: virtual(packet.IPv4)},
		{Version: 3, Family: packet.IPv6, Addresses: virtual(packet.IPv6)},
	} {
		c.VRID, c.Priority, c.Interval, c.Dual = 51, 100, time.Second, true
		if err := c.Validate(); err == nil {
			t.Errorf("version %d over %s: no error", c.Version, c.Family)
		}
	}
}
