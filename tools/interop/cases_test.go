// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

// debian are the versions of the peers in Debian 12, newest some with every case.
var (
	debian = map[string]version{peerKeepalived: {2, 2, 7}, peerFRR: {8, 4, 4}}
	newest = map[string]version{peerKeepalived: {2, 4, 3}, peerFRR: {10, 3, 0}}
)

func TestCases(t *testing.T) {
	for count, versions := range map[int]map[string]version{
		84:  debian,
		102: {peerKeepalived: {2, 4, 1}, peerFRR: {8, 4, 4}},
		120: newest,
	} {
		names := make(map[string]bool)
		for _, c := range cases(versions) {
			names[c.String()] = true
			e := c.scenario.expect(c)
			if first, _ := c.parties(); len(e.turns) == 0 || e.turns[0].who != first {
				t.Errorf("%s: the first claim is expected of %v, not of the router that is started first", c, e.turns)
			}
			if len(e.final) == 0 || len(e.final) > 1 != (e.why != "") || (e.minTwo > 0) != (e.why != "") {
				t.Errorf("%s: %v at the end, with the reason %q", c, e.final, e.why)
			}
		}
		if len(names) != count {
			t.Errorf("%v: %d cases, want %d", versions, len(names), count)
		}
	}
}

// Another address list makes two Actives with an older keepalived, and one with a newer.
func TestAddressesByVersion(t *testing.T) {
	for v, want := range map[version]int{{2, 2, 7}: 2, {2, 3, 2}: 2, {2, 3, 3}: 1, {2, 4, 3}: 1} {
		c := testCase{peer: peerKeepalived, version: v, proto: protocols[1], weFirst: true}
		if e := expectAddresses(c); len(e.final) != want {
			t.Errorf("keepalived %s: %v are Active at the end, want %d", v, e.final, want)
		}
	}
}

func TestChoose(t *testing.T) {
	for expression, want := range map[string]int{"": 84, "^frr/": 42, "/v2/": 28, "we-first/crash$": 6, "^keepalived/v3-ipv6/they-first/equal$": 1} {
		if got, err := choose(expression, cases(debian)); err != nil || len(got) != want {
			t.Errorf("%q: %d cases, %v, want %d", expression, len(got), err, want)
		}
	}
	if _, err := choose("nothing", cases(debian)); err == nil || !strings.Contains(err.Error(), "--list") {
		t.Errorf("got %v", err)
	}
	if _, err := choose("(", cases(debian)); err == nil {
		t.Error("no error for a malformed expression")
	}
	sorted := longestFirst(cases(newest))
	if len(sorted) != 120 {
		t.Errorf("%d cases after sorting", len(sorted))
	}
	for n, c := range sorted {
		if c.scenario.long != (n < 28) { // 12 of interval, 8 each of introduce and key
			t.Errorf("%s is case %d", c, n)
		}
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]version{
		"Keepalived v2.2.7 (01/16,2022)\n\nCopyright(C) 2001-2022": {2, 2, 7},
		"vrrpd version 8.4.4\nCopyright 1996-2005":                 {8, 4, 4},
		"vrrpd version 10.3\n":                                     {10, 3, 0},
	} {
		if got, err := parseVersion(text); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	if v, err := parseVersion("no number"); err == nil {
		t.Errorf("got %v", v)
	}
}

// Both programs get the same keys and addresses in their own words.
func TestConfigurations(t *testing.T) {
	s := setting{
		proto: protocols[6], own: 110, peer: 120, priority: high, interval: second, noPreempt: true, addresses: ipv6,
		auth: authentication{modePermit, []int{1, 2}, 2},
	}
	const want = `routers:
  - interface: eth0
    vrid: 51
    version: 3
    priority: 200
    interval: 1s
    addresses: ["fe80::12:33/64", "2001:db8::10/64"]
    preempt: false
    unicast: {source: "2001:db8::6e", peers: ["2001:db8::78"]}
    authentication: {type: hmac, mode: permit, send: 2, keys: [{id: 1, file: /run/key-1}, {id: 2, file: /run/key-2}]}
`
	if got := s.configuration(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	text := new(keepalived).configuration(s).String()
	for _, line := range []string{"nopreempt", "unicast_src_ip 2001:db8::6e", "2001:db8::78", "key 2 file:/run/key-2", "active_key 2", "mode permissive"} {
		if !strings.Contains(text, "  "+line+"\n") {
			t.Errorf("keepalived's lacks %q:\n%s", line, text)
		}
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
	had := []setting{{proto: protocols[0], priority: 100, interval: second}, {proto: protocols[0], priority: 100, interval: changed}}
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
		if got := misstated(sent, had, []netip.Addr{address}); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	good.Priority = 0
	if got := misstated(good, had, []netip.Addr{address}); got != "" {
		t.Errorf("priority 0: %q", got)
	}
}

// The key that signs each advertisement is one of the router's settings.
func TestSigned(t *testing.T) {
	message := &packet.Advertisement{Version: 3, VRID: vrid, Priority: high, Interval: second, Addresses: []netip.Addr{netip.MustParseAddr("198.18.0.10")}}
	plain, err := packet.AppendAdvertisementFrame(nil, packet.MAC{2}, netip.MustParseAddr("198.18.0.110"), message, packet.ChecksumRFC9568)
	if err != nil {
		t.Fatal(err)
	}
	guard := auth.NewGuard(auth.Settings{
		Type: auth.HMAC, Mode: auth.Enforce, Window: auth.WindowMax, Send: 2,
		Keys: []auth.Key{{ID: 2, Secret: auth.NewSecret(make([]byte, 32))}},
	})
	sealed := packet.InFrame(plain, guard.Prepare(packet.IPOf(plain)))
	guard.Sign(packet.IPOf(sealed), time.Now())
	receiveOnly, enforce := authentication{modeReceiveOnly, []int{2}, 2}, authentication{modeEnforce, []int{1, 2}, 2}
	for _, c := range []struct {
		name  string
		frame []byte
		had   []authentication
		want  bool
	}{
		{"signed", sealed, []authentication{enforce}, true},
		{"signed by another key", sealed, []authentication{{modeEnforce, []int{1, 2}, 1}}, false},
		{"not signed", plain, []authentication{enforce}, false},
		{"receive-only", plain, []authentication{receiveOnly}, true},
		{"receive-only, but signed", sealed, []authentication{receiveOnly}, false},
		{"signed after a reload", sealed, []authentication{receiveOnly, enforce}, true},
	} {
		p := &party{name: ours}
		for _, a := range c.had {
			p.had = append(p.had, setting{auth: a})
		}
		var v verdict
		v.signed([]lab.Frame{{From: ours, Data: c.frame}}, p)
		if got := len(v.problems) == 0; got != c.want {
			t.Errorf("%s: %v", c.name, v.problems)
		}
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
	s := setting{proto: protocols[1], priority: 100, interval: second, addresses: protocols[1].addresses}
	for _, c := range []struct {
		name, want string
		frames     []lab.Frame
	}{
		{"good", "", []lab.Frame{frame(ours, advertisement), frame(ours, arp)}},
		{"not announced", "never announced", []lab.Frame{frame(ours, advertisement)}},
		{"of another", "", []lab.Frame{frame("frr", advertisement[:len(advertisement)-2]+"0b")}},
		{"damaged", "checksum", []lab.Frame{frame(ours, advertisement[:len(advertisement)-2]+"0b"), frame(ours, arp)}},
		{"not ours to announce", "announced 198.18.0.11", []lab.Frame{frame(ours, strings.ReplaceAll(arp, "c612000a", "c612000b"))}},
	} {
		var v verdict
		v.wellFormed(c.frames, []setting{s})
		got := strings.Join(v.problems, "; ")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestPrintMatrix(t *testing.T) {
	var results []result
	for _, c := range cases(debian) {
		if c.peer == peerFRR && c.proto.version == 2 {
			results = append(results, result{testCase: c, verdict: verdict{two: 5 * time.Millisecond, none: second}})
		}
	}
	results[0].blame("wrong")
	var b strings.Builder
	printMatrix(&b, results)
	const want = `Longest time with two Actives / with none, in milliseconds:
PEER       PROTOCOL  STARTED     CRASH        STOP       PREEMPT    NO-PREEMPT  EQUAL      INTERVAL    ADDRESSES
frr 8.4.4  v2        we-first    FAIL 5/1000  ok 5/1000  ok 5/1000  ok 5/1000   ok 5/1000  ok* 5/1000  ok 5/1000
frr 8.4.4  v2        they-first  ok 5/1000    ok 5/1000  ok 5/1000  ok 5/1000   ok 5/1000  ok* 5/1000  ok* 5/1000
`
	if got := b.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
