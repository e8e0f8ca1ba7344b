// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
)

// instance is a vrrp_instance as keepalived reads it, or the defaults of all.
type instance struct {
	node   *node
	router *router // its translation

	name          string
	iface         string
	vrid          int
	vridNode      *node // virtual_router_id
	version       int   // 0: not said
	priority      int
	interval      time.Duration
	advert        *node // advert_int
	state         *node
	accept        *node // or no_accept
	strict        *bool
	preempt       *node // or nopreempt
	delay         *node
	delayTime     time.Duration
	vmac          *node // use_vmac
	xmitBase      *node
	again         *node // garp_master_delay
	againTime     time.Duration
	againMinimal  bool // vrrp_min_garp
	count         int  // garp_master_repeat; 0: not said
	refresh       *time.Duration
	downAfter     int   // down_timer_adverts; 0: not said
	downNode      *node // where that is said
	unicast       *node // unicast_peer
	peers         []config.Peer
	peerNodes     []*node
	source        *node // unicast_src_ip or mcast_src_ip
	sourceAddress netip.Addr
	ttl           *node // unicast_ttl
	ttlValue      int
	faultless     *node   // unicast_fault_no_peer
	group         *node   // another multicast group
	auth          *node   // authentication
	hmac          *node   // auth_hmac
	hooks         []pair  // programs to run
	hookNodes     []*node // where they are named
	pending       []*node // blocks of addresses, which need the interface's name
	addresses     []vip
	excluded      []vip
	addressless   *node     // no_virtual_ipaddress
	six           bool      // native_ipv6
	routing       []pair    // routes and rules
	uses          []tracked // of checks

	withoutCarrier bool // dont_track_primary, or delays of its own interface
}

// block comments the router out. A finding tells the reason.
func (in *instance) block(why string) {
	if in.router.blocked == "" {
		in.router.blocked = why
	}
}

func beginInstance(t *translator, _ *instance, n *node) {
	in := &instance{node: n, router: &router{}, name: n.arg(1), priority: config.DefaultPriority, interval: config.DefaultInterval}
	in.router.node, in.router.order = n, n.order
	in.router.place = Finding{Path: n.path, Line: n.number, Directive: cut("vrrp_instance " + in.name)}
	n.router = in.router
	t.instances = append(t.instances, in)
	t.apply(instanceRules, in, n.block)
	for _, block := range in.pending {
		if block.name() == "virtual_ipaddress" {
			in.addresses = append(in.addresses, t.entries(in, block)...)
		} else {
			in.excluded = append(in.excluded, t.entries(in, block)...)
		}
	}
}

// finish translates an instance, after everything is read.
func (t *translator) finish(in *instance) error {
	n, r := in.node, in.router
	where := fmt.Sprintf("%s:%d: vrrp_instance %s", n.path, n.number, clean(in.name))
	if in.iface == "" && in.unicast == nil {
		return fmt.Errorf("%s has no interface: add a line like `interface eth0`", where)
	}
	if v := in.vridNode; in.vrid == 0 && v != nil {
		return fmt.Errorf("%s:%d: virtual_router_id: `%s` isn't a number from 1 to 255: write one", v.path, v.number, clean(cut(v.arg(1))))
	}
	if in.vrid == 0 {
		return fmt.Errorf("%s has no virtual_router_id from 1 to 255: add a line like `virtual_router_id 51`", where)
	}
	if in.name != "" {
		r.name = in.name
	}
	r.set("interface", text(in.iface))
	r.owner = in.priority == config.OwnerPriority
	r.set("vrid", strconv.Itoa(in.vrid))
	six := t.sameFamily(in)
	version := t.version(in, six)
	if t.strict(in) && in.unicast != nil {
		t.find(in.unicast, Doubtful, "keepalived doesn't run an instance with unicast peers in strict mode: the router is commented out")
		in.block("keepalived doesn't run it")
	}
	r.set("version", strconv.Itoa(version))
	if in.priority != config.DefaultPriority {
		r.set("priority", strconv.Itoa(in.priority))
	}
	if r.owner {
		r.set("add_addresses", "true") // keepalived adds them, too
	}
	t.interval(in, version)
	t.addresses(in, six, version)
	t.preemption(in)
	t.acceptance(in, version)
	t.virtualMAC(in)
	t.announce(in)
	t.hooks(in)
	t.authentication(in, version)
	t.unicast(in)
	t.multicast(in, six)
	r.keys = append(r.keys, in.routing...)
	return nil
}

// strict reports whether an instance is in strict mode.
func (t *translator) strict(in *instance) bool {
	strict := cmp.Or(in.strict, t.global.strict)
	return strict != nil && *strict
}

// virtualMAC sets the key virtual_mac. A keepalived with vmac_xmit_base listens on the
// interface. Linux delivers multicast from the virtual MAC to the macvlan alone, so
// such a keepalived would never hear failoverd.
func (t *translator) virtualMAC(in *instance) {
	if in.xmitBase != nil && t.strict(in) {
		t.find(in.xmitBase, Doubtful, "keepalived ignores it in strict mode")
		in.xmitBase = nil
	}
	deaf := in.vmac != nil && in.xmitBase != nil && in.unicast == nil
	if in.vmac != nil {
		where, another := "on the interface itself, at the virtual MAC", ". `virtual_mac: macvlan` makes a macvlan, with another name"
		if deaf {
			where, another = "on the interface itself, at its own MAC because of vmac_xmit_base", ""
		}
		t.find(in.vmac, Changed, "the addresses are %s: firewall rules that name keepalived's macvlan no longer match%s", where, another)
	}
	if in.xmitBase != nil && !deaf {
		t.find(in.xmitBase, Unneeded, "failoverd always sends from the interface")
	}
	switch {
	case deaf:
		t.find(in.xmitBase, Changed, "hosts that run keepalived with it don't hear advertisements from the virtual MAC, which RFC 9568 7.2 demands, and both hosts would be Active: so failoverd sends from the interface's MAC (`virtual_mac: off`). Make it auto when all hosts run failoverd, or none has vmac_xmit_base")
		in.router.set("virtual_mac", "off")
	case in.vmac != nil && in.unicast != nil:
		in.router.set("virtual_mac", "bpf") // auto is off then
	case in.vmac != nil:
		in.router.set("virtual_mac", "auto")
	case in.unicast == nil:
		in.router.set("virtual_mac", "off", t.once(
			"The addresses are at the interface's own MAC, as in keepalived without use_vmac. When",
			"all hosts run failoverd, auto is better: the addresses keep one MAC when they move.")...)
	}
}

func (t *translator) version(in *instance, six bool) int {
	version := in.version
	if version == 0 {
		version = t.global.version
	}
	switch {
	case six:
		return 3 // version 2 has no IPv6, and keepalived takes version 3, too
	case version == 0:
		return 2 // keepalived's default
	}
	return version
}

// interval rounds as keepalived does.
func (t *translator) interval(in *instance, version int) {
	unit := 10 * time.Millisecond
	if version == 2 {
		unit = time.Second
	}
	interval := max(in.interval.Round(unit), unit)
	if interval != in.interval {
		t.find(in.advert, Doubtful, "%s is %s in version %d: keepalived rounds it, too", duration(in.interval), duration(interval), version)
	}
	if interval != config.DefaultInterval {
		in.router.set("interval", duration(interval))
	}
}

func (t *translator) preemption(in *instance) {
	strict := t.strict(in)
	first := in.state != nil && in.state.arg(1) == "MASTER"
	if strict && in.priority != config.OwnerPriority {
		first = false // keepalived begins as Backup, too
	}
	if in.state != nil {
		switch state := in.state.arg(1); {
		case state != "MASTER" && state != "BACKUP":
			t.find(in.state, Doubtful, "`%s` is neither MASTER nor BACKUP; the priority decides", cut(state))
		case in.priority == config.OwnerPriority && !first:
			t.find(in.state, Changed, "with priority 255 the router is Active at once, as RFC 9568 demands")
		default:
			t.find(in.state, Unneeded, "the priority decides")
		}
	}
	preempt := in.preempt == nil || in.preempt.name() == "preempt"
	if !preempt && first {
		preempt = true
		t.find(in.preempt, Doubtful, "keepalived ignores it beside `state MASTER`, so the router preempts; add `preempt: false` if it was meant")
	}
	if !preempt {
		in.router.set("preempt", "false")
	}
	switch {
	case in.delay == nil:
	case strict && in.delayTime > 0:
		t.find(in.delay, Doubtful, "keepalived ignores it in strict mode; add `preempt_delay: %s` if it was meant", duration(in.delayTime))
	case first && in.delayTime > 0:
		t.find(in.delay, Doubtful, "keepalived ignores it beside `state MASTER`; add `preempt_delay: %s` if it was meant", duration(in.delayTime))
	case !preempt && in.delayTime > 0:
		t.find(in.delay, Doubtful, "keepalived ignores it beside nopreempt")
	case in.priority == config.OwnerPriority:
		t.find(in.delay, Unneeded, "the owner of the addresses is Active at once")
	case in.delayTime > 1000*time.Second:
		t.find(in.delay, Changed, "it is 1000s here, failoverd's maximum")
		in.router.set("preempt_delay", "1000s")
	case in.delayTime > 0:
		in.router.set("preempt_delay", duration(in.delayTime))
	}
}

func (t *translator) acceptance(in *instance, version int) {
	strict := t.strict(in)
	accept := !strict
	if in.accept != nil {
		accept = in.accept.name() == "accept"
	}
	if accept && strict && version == 2 {
		accept = false
		t.find(in.accept, Unneeded, "keepalived ignores it in version 2 in strict mode, so the addresses accept nothing; add `accept: true` if it was meant")
	}
	if !accept && in.priority != config.OwnerPriority {
		in.router.set("accept", "false")
	}
}

func (t *translator) announce(in *instance) {
	after := cmp.Or(in.downAfter, t.global.downAfter, config.DefaultDownAfter)
	switch {
	case after == config.DefaultDownAfter:
	case t.strict(in):
		t.find(cmp.Or(in.downNode, t.global.downNode), Doubtful, "keepalived ignores it in strict mode; add `down_after: %d` if it was meant", after)
	default:
		in.router.set("down_after", strconv.Itoa(after))
	}
	count := cmp.Or(in.count, t.global.count, config.DefaultAnnouncements)
	if t.global.againMinimal && in.count == 0 && t.global.count == 0 {
		count = 1
	}
	if count != config.DefaultAnnouncements {
		in.router.set("announce_count", strconv.Itoa(count))
	}
	if refresh := cmp.Or(in.refresh, t.global.refresh); refresh != nil && *refresh > 0 {
		in.router.set("announce_refresh", duration(*refresh))
	}
	t.announceAgain(in)
}

func (t *translator) announceAgain(in *instance) {
	from, again := in.again, in.againTime
	if from == nil {
		from, again = t.global.again, t.global.againTime
	}
	if from == nil && !t.global.againMinimal {
		return
	}
	if again > time.Hour {
		again = time.Hour
		t.find(from, Changed, "the addresses are announced again after %s, failoverd's maximum", duration(again))
	}
	if again != config.DefaultRepeat {
		in.router.set("announce_again", duration(again))
	}
}

// multicast comments out a router of another multicast group.
func (t *translator) multicast(in *instance, six bool) {
	name := "vrrp_mcast_group4"
	if six {
		name = "vrrp_mcast_group6"
	}
	if in.group == nil && t.groups[name] != nil {
		t.groups[name].members = append(t.groups[name].members, in.name)
		in.group = t.groups[name]
	}
	if in.group != nil {
		in.block("failoverd has no other multicast group than VRRP's")
	}
}

// number reads a number, and finds another word.
func (t *translator) number(n *node, least, most int) (int, bool) {
	v, err := strconv.Atoi(n.arg(1))
	if err != nil || v < least || v > most {
		t.find(n, Unknown, "`%s` isn't a number from %d to %d", cut(n.arg(1)), least, most)
		return 0, false
	}
	return v, true
}

// seconds reads a word that is a time in seconds.
func (t *translator) seconds(n *node) (time.Duration, bool) {
	const most = 1e6
	v, err := strconv.ParseFloat(n.arg(1), 64)
	if err != nil || math.IsNaN(v) || v < 0 || v > most {
		t.find(n, Unknown, "`%s` isn't a number of seconds", cut(n.arg(1)))
		return 0, false
	}
	return time.Duration(math.Round(v*1e6)) * time.Microsecond, true
}

// boolean reads a truth value. A missing one is true.
func (t *translator) boolean(n *node) (value, ok bool) {
	switch n.arg(1) {
	case "", "on", "true", "yes":
		return true, true
	case "off", "false", "no":
		return false, true
	}
	t.find(n, Unknown, "`%s` is neither on nor off", cut(n.arg(1)))
	return false, false
}

// duration writes a duration as failoverd's file has it.
func duration(d time.Duration) string {
	if d > 0 && d < time.Second {
		return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', -1, 64) + "ms"
	}
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}
