// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

func TestCases(t *testing.T) {
	names := make(map[string]bool)
	for _, c := range cases() {
		names[c.String()] = true
		e := c.scenario.expect(c)
		if first, _ := c.parties(); len(e.turns) == 0 || e.turns[0].who != first {
			t.Errorf("%s: the one that is started first is not Active first", c)
		}
		if len(e.final) == 0 || len(e.final) > 1 != (e.why != "") || (e.minTwo > 0) != (e.why != "") {
			t.Errorf("%s: %v at the end, with the reason %q", c, e.final, e.why)
		}
	}
	if len(names) != 84 {
		t.Errorf("%d cases, not 84", len(names))
	}
}

func TestChoose(t *testing.T) {
	for expression, want := range map[string]int{"": 84, "^frr/": 42, "/v2/": 28, "we-first/crash$": 6, "^keepalived/v3-ipv6/they-first/equal$": 1} {
		if got, err := choose(expression); err != nil || len(got) != want {
			t.Errorf("%q: %d cases, %v, want %d", expression, len(got), err, want)
		}
	}
	if _, err := choose("nothing"); err == nil || !strings.Contains(err.Error(), "--list") {
		t.Errorf("got %v", err)
	}
	if _, err := choose("("); err == nil {
		t.Error("a bad expression is no error")
	}
	if len(longestFirst(cases())) != 84 || longestFirst(cases())[11].scenario.name != "interval" {
		t.Error("the longest cases aren't the first")
	}
}

// The times of RFC 9568 §6.1 and RFC 3768 §6.1.
func TestTimes(t *testing.T) {
	for _, c := range []struct {
		proto      protocol
		priority   int
		interval   time.Duration
		skew, down time.Duration
	}{
		{protocols[0], 100, second, 609375 * time.Microsecond, 3609375 * time.Microsecond},
		{protocols[0], 100, 2 * second, 609375 * time.Microsecond, 6609375 * time.Microsecond},
		{protocols[1], 100, 2 * second, 1218750 * time.Microsecond, 7218750 * time.Microsecond},
		{protocols[2], 200, second, 218750 * time.Microsecond, 3218750 * time.Microsecond},
	} {
		if s, d := skew(c.proto, c.priority, c.interval), down(c.proto, c.priority, c.interval); s != c.skew || d != c.down {
			t.Errorf("%s, %d, %v: %v and %v, want %v and %v", c.proto.name, c.priority, c.interval, s, d, c.skew, c.down)
		}
	}
}

func TestMisstated(t *testing.T) {
	address := netip.MustParseAddr("198.18.0.10")
	s := setting{proto: protocols[0], priority: 100}
	good := lab.Sent{
		Kind: lab.KindAdvertisement, Version: 2, VRID: vrid, Priority: 100, Interval: second,
		Addresses: []netip.Addr{address}, Checksum: "message",
	}
	for want, change := range map[string]func(*lab.Sent){
		"":                                    func(*lab.Sent) {},
		"version 3":                           func(s *lab.Sent) { s.Version = 3 },
		"VRID 52":                             func(s *lab.Sent) { s.VRID = 52 },
		"priority 200":                        func(s *lab.Sent) { s.Priority = 200 },
		"interval 3s":                         func(s *lab.Sent) { s.Interval = 3 * second },
		"addresses []":                        func(s *lab.Sent) { s.Addresses = nil },
		"addresses [198.18.0.10 198.18.0.10]": func(s *lab.Sent) { s.Addresses = append(s.Addresses, address) },
		"checksum with pseudo-header in version 2": func(s *lab.Sent) { s.Checksum = "pseudo-header" },
	} {
		sent := good
		sent.Addresses = slices.Clone(good.Addresses)
		change(&sent)
		if got := misstated(sent, s, []netip.Addr{address}, []time.Duration{second, changed}); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	good.Priority = 0
	if got := misstated(good, s, []netip.Addr{address}, []time.Duration{second}); got != "" {
		t.Errorf("who leaves: %q", got)
	}
}

// Only our frames are judged, and every address has to be announced.
func TestWellFormedFrames(t *testing.T) {
	frame := func(from, text string) lab.Frame {
		data, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		return lab.Frame{From: from, Data: data}
	}
	const (
		advertisement = "01005e000012 020000000001 0800 45c0002000000000ff701430c6120059e0000012 313364010064a44ac612000a"
		arp           = "ffffffffffff 020000000001 0806 0001080006040001 020000000001c612000a 020000000001c612000a"
	)
	s := setting{proto: protocols[1], priority: 100, addresses: protocols[1].addresses}
	for _, c := range []struct {
		name, want string
		frames     []lab.Frame
	}{
		{"good", "", []lab.Frame{frame(ours, advertisement), frame(ours, arp)}},
		{"not announced", "never announced", []lab.Frame{frame(ours, advertisement)}},
		{"of another", "", []lab.Frame{frame("frr", advertisement[:len(advertisement)-2]+"0b")}},
		{"damaged", "checksum", []lab.Frame{frame(ours, advertisement[:len(advertisement)-2]+"0b"), frame(ours, arp)}},
		{"not ours to announce", "198.18.0.11 is announced", []lab.Frame{frame(ours, strings.ReplaceAll(arp, "c612000a", "c612000b"))}},
	} {
		var v verdict
		v.wellFormed(c.frames, s, []time.Duration{second})
		got := strings.Join(v.problems, "; ")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestPrintMatrix(t *testing.T) {
	var results []result
	for _, c := range cases() {
		if c.peer == peerFRR && c.proto.version == 2 {
			results = append(results, result{testCase: c, verdict: verdict{two: 5 * time.Millisecond, none: second}})
		}
	}
	results[0].blame("wrong")
	var b strings.Builder
	printMatrix(&b, results)
	const want = `Longest time with two Actives / with none, in milliseconds:
PEER  PROTOCOL  STARTED     CRASH        STOP       PREEMPT    NO-PREEMPT  EQUAL      INTERVAL    ADDRESSES
frr   v2        we-first    FAIL 5/1000  ok 5/1000  ok 5/1000  ok 5/1000   ok 5/1000  ok* 5/1000  ok 5/1000
frr   v2        they-first  ok 5/1000    ok 5/1000  ok 5/1000  ok 5/1000   ok 5/1000  ok* 5/1000  ok* 5/1000
`
	if got := b.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
