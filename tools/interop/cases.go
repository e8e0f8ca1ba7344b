// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// protocol is a version and family to speak.
type protocol struct {
	name      string
	version   int
	family    string
	addresses []string // with prefix lengths
	extra     string   // one more
	hmac      bool     // authenticated
	unicast   bool
}

var (
	ipv4 = []string{"198.18.0.10/24"}
	ipv6 = []string{"fe80::12:33/64", "2001:db8::10/64"}

	protocols = []protocol{
		{name: "v2", version: 2, family: "ipv4", addresses: ipv4, extra: "198.18.0.11/24"},
		{name: "v3-ipv4", version: 3, family: "ipv4", addresses: ipv4, extra: "198.18.0.11/24"},
		{name: "v3-ipv6", version: 3, family: "ipv6", addresses: ipv6, extra: "2001:db8::11/64"},
		{name: "hmac-ipv4", version: 3, family: "ipv4", addresses: ipv4, hmac: true},
		{name: "hmac-ipv6", version: 3, family: "ipv6", addresses: ipv6, hmac: true},
		{name: "hmac-ipv4-unicast", version: 3, family: "ipv4", addresses: ipv4, hmac: true, unicast: true},
		{name: "hmac-ipv6-unicast", version: 3, family: "ipv6", addresses: ipv6, hmac: true, unicast: true},
	}
)

const (
	peerKeepalived = "keepalived"
	peerFRR        = "frr"
)

var peerNames = []string{peerKeepalived, peerFRR}

// The versions of keepalived that cases depend on.
var (
	keepalivedLogsLists = version{2, 3, 3} // another address list is no longer discarded
	keepalivedSignsIPv4 = version{2, 4, 1} // auth_hmac
	keepalivedSignsIPv6 = version{2, 4, 2}
)

// testCase is a cell of the matrix.
type testCase struct {
	peer     string
	version  version // of the peer
	proto    protocol
	weFirst  bool
	scenario scenario
}

// possible reports whether the scenario can be played with the protocol, and the peer
// speaks it.
func (c testCase) possible() bool {
	switch {
	case !c.proto.hmac:
		return c.scenario.on != onHMAC
	case c.peer != peerKeepalived, c.scenario.on == onPlain, c.scenario.on == onMulticast && c.proto.unicast:
		return false
	case c.proto.family == "ipv6":
		return c.version.atLeast(keepalivedSignsIPv6)
	}
	return c.version.atLeast(keepalivedSignsIPv4)
}

func (c testCase) order() string {
	if c.weFirst {
		return "we-first"
	}
	return "they-first"
}

// String returns the name that --run is matched with.
func (c testCase) String() string {
	return fmt.Sprintf("%s/%s/%s/%s", c.peer, c.proto.name, c.order(), c.scenario.name)
}

// cases returns the cases that there are with these versions of the peers.
func cases(versions map[string]version) []testCase {
	var all []testCase
	for _, peer := range peerNames {
		for _, proto := range protocols {
			for _, weFirst := range []bool{true, false} {
				for _, s := range scenarios {
					if c := (testCase{peer, versions[peer], proto, weFirst, s}); c.possible() {
						all = append(all, c)
					}
				}
			}
		}
	}
	return all
}

// turn is an expected claim: of which router, and after how long without an Active, if the
// machine adds no noise.
type turn struct {
	who      string
	min, max time.Duration
}

// expectation is what the wire has to show.
type expectation struct {
	turns  []turn   // the claims in the order of their beginnings
	final  []string // the routers that claim at the end
	leaves bool     // the first claim ends with priority 0
	// The longest and the shortest time with two Actives that can hear each other.
	maxTwo, minTwo time.Duration
	// mute is the router that may have the addresses without advertising. An Active
	// keepalived delays its next advertisement when it discards one, and so is silent
	// beside another Active.
	mute string
	log  string // a counter that failoverd's log has to name
	why  string // the reason for two Actives; empty if there must not be two
}

// noise is the delay that a busy machine may add.
const noise = time.Second

// oneExchange is the longest time with two Actives after they begin to hear each other: until
// the loser hears the next advertisement of the winner.
const oneExchange = second + 250*time.Millisecond

// skew and down return the Skew_Time and Active_Down_Interval of a Backup (RFC 9568 §6.1). In
// version 2 Skew_Time doesn't depend on the interval (RFC 3768 §6.1).
func skew(proto protocol, priority int, interval time.Duration) time.Duration {
	if proto.version == 2 {
		interval = second
	}
	return time.Duration(256-priority) * interval / 256
}

func down(proto protocol, priority int, interval time.Duration) time.Duration {
	return 3*interval + skew(proto, priority, interval)
}

// parties returns the names of the routers in the order of their starts.
func (c testCase) parties() (first, second string) {
	if c.weFirst {
		return ours, c.peer
	}
	return c.peer, ours
}

// late returns how long after it became Active a router may send its first advertisement. FRR's
// macvlan is down while FRR is Backup, and has no link-local address at the moment when it
// comes up. So FRR can't send the first advertisement over IPv6, only its announcements.
func (c testCase) late(who string) time.Duration {
	if who == peerFRR && c.proto.family == "ipv6" {
		return second
	}
	return 0
}

// takes returns the turn of a Backup that takes over after a time.
func (c testCase) takes(who string, after time.Duration) turn {
	return turn{who: who, max: after + c.late(who)}
}

// crashed returns the turn of a Backup after the crash of an Active with the interval.
func (c testCase) crashed(who string, interval time.Duration) turn {
	t := c.takes(who, down(c.proto, low, interval))
	t.min = 3 * interval
	return t
}

// scenario is a column of the matrix.
type scenario struct {
	name   string
	head   string
	on     rows
	long   bool // it takes about half a minute
	play   func(ctx context.Context, c testCase, s *site) error
	expect func(c testCase) expectation
}

// rows are the protocols that a scenario is played with.
type rows int

const (
	onAll rows = iota
	onPlain
	onHMAC
	// onMulticast leaves out unicast: two routers that can't reach each other don't find
	// each other's MAC, so nothing on the wire shows that they are Active.
	onMulticast
)

var scenarios = []scenario{
	{"crash", "CRASH", onAll, false, playCrash, expectCrash},
	{"stop", "STOP", onAll, false, playStop, expectStop},
	{"preempt", "PREEMPT", onPlain, false, playPreempt, expectPreempt},
	{"no-preempt", "NO-PREEMPT", onPlain, false, playNoPreempt, expectNoPreempt},
	{"equal", "EQUAL", onMulticast, false, playEqual, expectEqual},
	{"interval", "INTERVAL", onPlain, true, playInterval, expectInterval},
	{"addresses", "ADDRESSES", onPlain, false, playAddresses, expectAddresses},
	{"introduce", "INTRODUCE", onHMAC, true, playIntroduce, expectHMAC},
	{"key", "KEY", onHMAC, true, playKey, expectHMAC},
}

// begin starts the first router, waits until it is Active, and starts the second.
func begin(ctx context.Context, s *site) error {
	if err := s.first.run(ctx); err != nil {
		return err
	}
	if err := s.hear(ctx, s.first, 2); err != nil {
		return err
	}
	return s.second.run(ctx)
}

// The first router, which has the higher priority, loses its link and gets it back.
func playCrash(ctx context.Context, c testCase, s *site) error {
	times := 2
	if c.proto.unicast {
		// The crashed peer doesn't answer for its MAC, so the frames to it end at some time.
		times = 1
	}
	return steps(
		func() error { return begin(ctx, s) },
		s.wait(ctx, s.first, 2),
		func() error { return s.pull(ctx, s.first) },
		s.wait(ctx, s.second, times),
		func() error { return s.plug(s.first) },
		s.wait(ctx, s.first, 4),
	)
}

func expectCrash(c testCase) expectation {
	first, other := c.parties()
	return expectation{
		turns:  []turn{{who: first}, c.crashed(other, second), {who: first}},
		final:  []string{first},
		maxTwo: oneExchange,
	}
}

// The first router, which has the higher priority, is stopped.
func playStop(ctx context.Context, _ testCase, s *site) error {
	return steps(
		func() error { return begin(ctx, s) },
		s.wait(ctx, s.first, 2),
		func() error { return s.first.stop(ctx) },
		s.wait(ctx, s.second, 3),
	)
}

func expectStop(c testCase) expectation {
	first, other := c.parties()
	return expectation{
		turns:  []turn{{who: first}, c.takes(other, skew(c.proto, low, second))},
		final:  []string{other},
		leaves: true,
	}
}

// The second router has the higher priority.
func playPreempt(ctx context.Context, _ testCase, s *site) error {
	s.first.setting.priority, s.second.setting.priority = low, high
	return steps(
		func() error { return begin(ctx, s) },
		s.wait(ctx, s.second, 4),
	)
}

func expectPreempt(c testCase) expectation {
	first, other := c.parties()
	return expectation{
		turns:  []turn{{who: first}, {who: other}},
		final:  []string{other},
		maxTwo: oneExchange,
	}
}

// The second router has the higher priority, but must not preempt.
func playNoPreempt(ctx context.Context, _ testCase, s *site) error {
	s.first.setting.priority, s.second.setting.priority = low, high
	s.second.setting.noPreempt = true
	return steps(
		func() error { return begin(ctx, s) },
		s.wait(ctx, s.first, 6), // more than Active_Down_Interval
	)
}

func expectNoPreempt(c testCase) expectation {
	first, _ := c.parties()
	return expectation{turns: []turn{{who: first}}, final: []string{first}}
}

// Both routers have the same priority and become Active apart from each other. The second one
// has the greater address and wins (RFC 9568 §6.4.3), although the first one was Active before.
func playEqual(ctx context.Context, _ testCase, s *site) error {
	s.first.setting.priority, s.second.setting.priority = low, low
	return steps(
		s.isolate,
		func() error { return begin(ctx, s) },
		s.wait(ctx, s.second, 2),
		s.connect,
		s.wait(ctx, s.second, 5),
	)
}

func expectEqual(c testCase) expectation {
	first, other := c.parties()
	return expectation{
		turns:  []turn{{who: first}, {who: other}},
		final:  []string{other},
		maxTwo: oneExchange,
	}
}

// changed is the new interval of the Active.
const changed = 2 * second

// The first router, which has the higher priority, changes its interval.
func playInterval(ctx context.Context, c testCase, s *site) error {
	all := []func() error{
		func() error { return begin(ctx, s) },
		s.wait(ctx, s.first, 2),
		s.reload(ctx, s.first, func(s *setting) { s.interval = changed }),
		// One advertisement only: the second router of version 2 discards it, and keepalived is
		// mute as soon as that router is Active too.
		s.wait(ctx, s.first, 1),
	}
	if c.proto.version == 2 {
		return steps(append(all, s.bothActive(ctx)...)...)
	}
	return steps(append(all,
		s.wait(ctx, s.first, 1),
		func() error { return s.pull(ctx, s.first) },
		s.wait(ctx, s.second, 3),
	)...)
}

func expectInterval(c testCase) expectation {
	first, other := c.parties()
	e := expectation{turns: []turn{{who: first}}, maxTwo: oneExchange}
	if c.proto.version == 3 {
		// The Backup has learnt the new interval.
		e.turns = append(e.turns, c.crashed(other, changed))
		e.final = []string{other}
		return e
	}
	e.turns = append(e.turns, turn{who: other})
	c.expectTwo(&e)
	e.log = "interval_errors"
	e.why = "version 2 discards advertisements with another interval (RFC 3768 §7.1), so neither hears the other"
	return e
}

// longer is a number of advertisements that takes longer than the Active_Down_Interval
// of a Backup that refuses them all.
const longer = 5

// A pair gets authentication, as failoverd.yaml(5) describes it. The Backup is reloaded before
// the Active.
func playIntroduce(ctx context.Context, _ testCase, s *site) error {
	for _, p := range []*party{s.first, s.second} {
		p.setting.auth.mode = modeReceiveOnly
	}
	all := []func() error{func() error { return begin(ctx, s) }, s.wait(ctx, s.first, longer)}
	for _, mode := range []string{modePermit, modeEnforce} {
		for _, p := range []*party{s.second, s.first} {
			all = append(all,
				s.reload(ctx, p, func(s *setting) { s.auth.mode = mode }),
				s.wait(ctx, s.first, longer))
		}
	}
	return steps(append(all,
		func() error { return s.pull(ctx, s.first) },
		s.wait(ctx, s.second, 3),
	)...)
}

// A pair changes its key, as failoverd.yaml(5) describes it.
func playKey(ctx context.Context, _ testCase, s *site) error {
	all := []func() error{func() error { return begin(ctx, s) }, s.wait(ctx, s.first, 2)}
	for _, a := range []authentication{
		{modeEnforce, []int{1, 2}, 1},
		{modeEnforce, []int{1, 2}, 2},
		{modeEnforce, []int{2}, 2},
	} {
		for _, p := range []*party{s.first, s.second} {
			all = append(all, s.reload(ctx, p, func(s *setting) { s.auth = a }))
		}
		all = append(all, s.wait(ctx, s.first, longer))
	}
	return steps(append(all,
		func() error { return s.pull(ctx, s.first) },
		s.wait(ctx, s.second, 3),
	)...)
}

// While the authentication changes the Active stays, and the Backup can still take over.
func expectHMAC(c testCase) expectation {
	first, other := c.parties()
	return expectation{
		turns:  []turn{{who: first}, c.crashed(other, second)},
		final:  []string{other},
		maxTwo: oneExchange,
	}
}

// The second router, which has the lower priority, has an additional address.
func playAddresses(ctx context.Context, c testCase, s *site) error {
	s.second.setting.addresses = append(slices.Clone(c.proto.addresses), c.proto.extra)
	last := []func() error{s.wait(ctx, s.first, 6)} // more than Active_Down_Interval
	if len(expectAddresses(c).final) > 1 {
		last = s.bothActive(ctx)
	}
	return steps(append([]func() error{func() error { return begin(ctx, s) }}, last...)...)
}

func expectAddresses(c testCase) expectation {
	first, other := c.parties()
	e := expectation{turns: []turn{{who: first}}, final: []string{first}}
	if first != ours {
		e.log = "address_list_errors" // failoverd logs it in every version
	}
	switch {
	case c.weFirst && c.peer == peerKeepalived && !c.version.atLeast(keepalivedLogsLists):
		e.why = fmt.Sprintf("keepalived before %s discards advertisements with other addresses in every version of VRRP, so it doesn't hear failoverd", keepalivedLogsLists)
	case !c.weFirst && c.proto.version == 2:
		e.why = "version 2 discards advertisements with other addresses unless they are the owner's (RFC 3768 §7.1), so failoverd doesn't hear the peer"
	default:
		// FRR, newer keepalived, and failoverd in version 3, only log it.
		return e
	}
	e.turns = append(e.turns, turn{who: other})
	e.log = "address_list_errors"
	c.expectTwo(&e)
	return e
}

// expectTwo expects two Actives at the end.
func (c testCase) expectTwo(e *expectation) {
	e.final = []string{ours, c.peer}
	e.maxTwo, e.minTwo = time.Hour, second+second/2
	if c.peer == peerKeepalived {
		e.mute = c.peer
	}
}

// bothActive returns the steps that wait for advertisements of two Actives.
func (s *site) bothActive(ctx context.Context) []func() error {
	return []func() error{s.wait(ctx, s.second, 1), s.wait(ctx, s.us(), 4)}
}

// reload returns the step that reloads a router with a changed setting.
func (s *site) reload(ctx context.Context, p *party, change func(*setting)) func() error {
	return func() error { return p.reload(ctx, change) }
}

// wait returns the step that waits for advertisements of a router.
func (s *site) wait(ctx context.Context, p *party, times int) func() error {
	return func() error { return s.hear(ctx, p, times) }
}

func steps(all ...func() error) error {
	for _, step := range all {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
