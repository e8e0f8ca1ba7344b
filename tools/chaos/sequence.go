// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// setup is the configuration of both hosts.
type setup struct {
	receive   string // xdp_mode
	unchanged string
	routers   []router
}

type router struct {
	name       string
	vrid       int
	version    int
	priority   [2]int // on each host
	interval   time.Duration
	virtualMAC string
	addresses  []string
}

// clone returns a deep copy.
func (s setup) clone() setup {
	s.routers = slices.Clone(s.routers)
	for n := range s.routers {
		s.routers[n].addresses = slices.Clone(s.routers[n].addresses)
	}
	return s
}

// file returns the configuration file of a host.
func (s setup) file(host int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global: {xdp_mode: %s, unchanged: %s}\nrouters:\n", s.receive, s.unchanged)
	for _, r := range s.routers {
		fmt.Fprintf(&b, "  - {name: %s, interface: eth0, vrid: %d, version: %d, priority: %d, interval: %v, virtual_mac: %s, announce_again: 1s,\n     addresses: [\"%s\"]}\n",
			r.name, r.vrid, r.version, r.priority[host], r.interval, r.virtualMAC, strings.Join(r.addresses, `", "`))
	}
	return b.String()
}

const (
	// quick is the interval of version 3 routers, slow that of version 2 ones.
	quick = 100 * time.Millisecond
	slow  = time.Second
)

var (
	virtualMACs = []string{"auto", "bpf", "macvlan", "off"}
	asked4      = []string{"198.18.0.10/24", "198.18.0.11/24", "198.18.0.12/24", "198.18.0.13/24", "198.18.0.14/24"}
	asked6      = []string{"2001:db8::10/64", "2001:db8::11/64"}
)

const (
	// unasked is the number of addresses that the client doesn't ask for. With them the
	// advertisement of their router is longer than the MTU tooLow.
	unasked = 14
	// tooLow is an MTU in octets. 68 is the least one of IPv4.
	tooLow = 70
)

// newSetup returns the setup that a round begins with.
func newSetup(r *rand.Rand) setup {
	s := setup{receive: pick(r, []string{"auto", "auto", "generic", "off"}), unchanged: "pass"}
	for n, addresses := range [][]string{
		{asked4[0], asked4[1], asked6[0]},
		{asked4[2], asked4[3], asked6[1]},
		{asked4[4]},
	} {
		x := router{name: fmt.Sprintf("r%d", n+1), vrid: n + 1, version: 3, priority: [2]int{100, 100}, interval: quick, virtualMAC: pick(r, virtualMACs), addresses: addresses}
		x.priority[n%2] = 200
		s.routers = append(s.routers, x)
	}
	long := &s.routers[2]
	for n := range unasked {
		long.addresses = append(long.addresses, fmt.Sprintf("198.18.0.%d/24", 100+n))
	}
	return s
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// step is one change of a host. Many are undone after a time.
type step struct {
	kind   kind
	host   int
	number int           // selects one of the objects that the step finds
	hold   time.Duration // the time until it is undone
	pause  time.Duration // the time after it
	settle bool          // after it, wait until everything is right
	setup  setup         // the setup after a reload
	what   string        // what the reload changes

	meanwhile *step // a step to run before this one is undone
}

func (s step) String() string {
	text := fmt.Sprintf("%s on %s", s.kind.name, hosts[s.host])
	if s.what != "" {
		text = fmt.Sprintf("%s, %s first: %s", s.kind.name, hosts[s.host], s.what)
	}
	if s.kind.undo != nil {
		text += fmt.Sprintf(", for %v", s.hold)
	}
	if s.meanwhile != nil {
		text += fmt.Sprintf(" [meanwhile: %v]", *s.meanwhile)
	}
	if s.pause > 0 {
		text += fmt.Sprintf("; %v pause", s.pause)
	}
	if s.settle {
		text += "; wait until all is right"
	}
	return text
}

// blinds reports whether two hosts may answer until the daemons have noticed the step.
func (s step) blinds() bool {
	return s.kind.blinds || s.meanwhile != nil && s.meanwhile.blinds()
}

// sequence is the steps of a round. It follows from the seed and the round's number.
type sequence struct {
	begin setup
	steps []step
	ends  [2]string // how each host ends: stopped or cleaned
}

func (q sequence) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "xdp_mode %s", q.begin.receive)
	for _, r := range q.begin.routers {
		fmt.Fprintf(&b, ", %s %s", r.name, r.virtualMAC)
	}
	for n, s := range q.steps {
		fmt.Fprintf(&b, "\n  %d. %v", n+1, s)
	}
	fmt.Fprintf(&b, "\n  at last a is %s, b %s\n", q.ends[0], q.ends[1])
	return b.String()
}

func sequenceOf(seed uint64, round int) sequence {
	r := rand.New(rand.NewPCG(seed, uint64(round)^1<<63))
	q := sequence{begin: newSetup(r)}
	now := q.begin
	for range 4 + r.IntN(4) {
		var s step
		s, now = newStep(r, now, true)
		s.settle = r.IntN(3) == 0
		q.steps = append(q.steps, s)
	}
	q.ends = [2]string{pick(r, []string{stopped, cleaned}), pick(r, []string{stopped, cleaned})}
	return q
}

// newStep returns a random step, and the setup after it.
func newStep(r *rand.Rand, now setup, outer bool) (step, setup) {
	s := step{kind: pickKind(r), host: r.IntN(2), number: r.IntN(1 << 20)}
	s.hold = time.Duration(50+r.IntN(1200)) * time.Millisecond
	if outer {
		s.pause = time.Duration(r.IntN(600)) * time.Millisecond
	}
	if s.kind.name == reloading {
		now, s.what = changed(r, now)
		s.setup = now
	}
	if s.kind.undo != nil && outer && r.IntN(2) == 0 {
		var inner step
		inner, now = newStep(r, now, false)
		s.meanwhile = &inner
	}
	return s, now
}

// pickKind picks a kind at random, by weight.
func pickKind(r *rand.Rand) kind {
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	n := r.IntN(total)
	for _, k := range kinds {
		if n -= k.weight; n < 0 {
			return k
		}
	}
	panic("the kinds have no weights")
}

// change changes something in a setup. It describes the change, or returns an empty string
// if the setup doesn't allow it.
type change func(r *rand.Rand, s *setup) string

var changes = []change{moveAddress, moveAddress, swapAddresses, swapAddresses, changePriorities, changeInterval, changeMAC, changeMAC, changeVersion, changeUnchanged}

// changed makes one to three changes.
func changed(r *rand.Rand, s setup) (setup, string) {
	s = s.clone()
	var all []string
	for want := 1 + r.IntN(3); len(all) < want; {
		if text := pick(r, changes)(r, &s); text != "" {
			all = append(all, text)
		}
	}
	return s, strings.Join(all, ", ")
}

// takes reports whether a router may have the address.
func (r router) takes(address string) bool { return r.version == 3 || !strings.Contains(address, ":") }

func two(r *rand.Rand, s *setup) (a, b *router) {
	n := r.Perm(len(s.routers))
	return &s.routers[n[0]], &s.routers[n[1]]
}

func moveAddress(r *rand.Rand, s *setup) string {
	from, to := two(r, s)
	n := r.IntN(len(from.addresses))
	a := from.addresses[n]
	if len(from.addresses) == 1 || !to.takes(a) {
		return ""
	}
	from.addresses = slices.Delete(from.addresses, n, n+1)
	to.addresses = append(to.addresses, a)
	return fmt.Sprintf("%s from %s to %s", a, from.name, to.name)
}

func swapAddresses(r *rand.Rand, s *setup) string {
	one, other := two(r, s)
	x, y := r.IntN(len(one.addresses)), r.IntN(len(other.addresses))
	a, b := one.addresses[x], other.addresses[y]
	if !one.takes(b) || !other.takes(a) {
		return ""
	}
	one.addresses[x], other.addresses[y] = b, a
	return fmt.Sprintf("%s of %s for %s of %s", a, one.name, b, other.name)
}

func changePriorities(r *rand.Rand, s *setup) string {
	x := &s.routers[r.IntN(len(s.routers))]
	low := 1 + r.IntN(200)
	x.priority = [2]int{low, low + 1 + r.IntN(50)}
	if r.IntN(2) == 0 {
		x.priority[0], x.priority[1] = x.priority[1], x.priority[0]
	}
	return fmt.Sprintf("priorities of %s %d and %d", x.name, x.priority[0], x.priority[1])
}

func changeInterval(r *rand.Rand, s *setup) string {
	x := &s.routers[r.IntN(len(s.routers))]
	if x.version == 2 {
		return ""
	}
	x.interval = time.Duration(5+r.IntN(16)) * 10 * time.Millisecond
	return fmt.Sprintf("interval of %s %v", x.name, x.interval)
}

func changeMAC(r *rand.Rand, s *setup) string {
	x := &s.routers[r.IntN(len(s.routers))]
	x.virtualMAC = pick(r, virtualMACs)
	return fmt.Sprintf("virtual_mac of %s %s", x.name, x.virtualMAC)
}

func changeVersion(r *rand.Rand, s *setup) string {
	x := &s.routers[r.IntN(len(s.routers))]
	if slices.ContainsFunc(x.addresses, func(a string) bool { return strings.Contains(a, ":") }) {
		return ""
	}
	x.version, x.interval = 5-x.version, quick
	if x.version == 2 {
		x.interval = slow
	}
	return fmt.Sprintf("version of %s %d", x.name, x.version)
}

func changeUnchanged(_ *rand.Rand, s *setup) string {
	s.unchanged = map[string]string{"pass": "drop", "drop": "pass"}[s.unchanged]
	return "unchanged: " + s.unchanged
}
