// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"slices"

	"github.com/failoverd/failoverd/pkg/control"
)

type running = control.Router

// refusals are the counters that show a disagreement with another host, with
// what it means and what to do.
var refusals = []struct{ counter, cause, remedy string }{
	{"ip_ttl_errors", "advertisements came with a TTL below 255: through a router, or from a host of another network", "keep routers and multicast forwarding out of the way: VRRP is for one network"},
	{"version_errors", "another VRRP version was heard", "use the same version on all hosts (--vrrp-version), or --dual while you move"},
	{"checksum_errors", "wrong checksums were heard", "look for --checksum in the manual if keepalived or a hardware router is on the network; otherwise a NIC or a cable is bad"},
	{"auth_type_mismatch", "advertisements with other authentication were heard", "use the same authentication, or none, on all hosts"},
	{"auth_failures", "advertisements with another password or key were heard", "use the same passwords and keys on all hosts"},
	{"auth_missing", "advertisements without authentication were heard", "configure authentication on all hosts, or mode: permit until all have it"},
	{"auth_malformed", "advertisements with another kind of authentication trailer were heard", "use the same version of keepalived or failoverd on all hosts"},
	{"auth_key_unknown", "advertisements with an unknown key were heard", "give all hosts the same keys before one sends with a new one"},
	{"auth_stale", "advertisements of another time were heard", "set the clocks of all hosts by NTP; if they are right, somebody sends old advertisements again"},
	{"auth_replay", "advertisements were heard again", "look for a loop in the network, or for somebody who sends old advertisements again"},
	{"interval_errors", "another interval was heard", "use the same interval on all hosts"},
	{"address_list_errors", "other addresses were heard for a VRID", "give all hosts of a VRID the same addresses, and different networks different VRIDs"},
	{"owner_conflict", "another host advertises addresses that this one owns", "give priority 255 to one host only"},
	{"own_source", "advertisements came back with this host's own address", "look for a loop in the network, or another host with the same address"},
	{"first_addr_errors", "IPv6 advertisements didn't begin with a link-local address", "use --tolerate first-address with keepalived and FRR"},
	{"ring_full", "the daemon didn't read in time", "give it CPU time: look at the load and at CPUQuota= of its unit"},
}

// running judges what the daemon says of itself.
func (j *judge) running() {
	if j.Status == nil {
		j.good("status", "", "no failoverd runs that could be asked")
		return
	}
	looked := func(r running) bool {
		return slices.ContainsFunc(j.Interfaces, func(i Interface) bool { return i.Name == r.Interface })
	}
	before := len(j.findings)
	for _, r := range j.Status.Routers {
		if !looked(r) {
			continue
		}
		name := fmt.Sprintf("%s (VRID %d, %s)", r.Name, r.VRID, r.Family)
		switch {
		case r.Maintenance:
			j.bad(Warning, "status", r.Interface, name+" is in maintenance, and takes no part", "failoverctl maintenance off "+r.Name+" ends it")
		case r.Waiting != "":
			j.bad(Problem, "status", r.Interface, name+" takes no part: "+r.Waiting, "do away with that: the router starts by itself then")
		case r.Receive != "" && r.Fence == "":
			j.bad(Warning, "fence", r.Interface, name+" has no fence: killed or hung while Active, this host goes on answering for the addresses", "see what is said of BPF above; failoverd logs why at its start")
		}
	}
	j.problems()
	j.hooks()
	if len(j.findings) == before {
		j.good("status", "", "failoverd %s runs, and its routers take part", j.Status.Version)
	}
	j.rivals()
	j.counters()
}

// problems repeats what the routers find wrong between them and others, also on interfaces
// that weren't asked for. What doesn't keep an Active from being followed is a warning.
func (j *judge) problems() {
	for _, r := range j.Status.Routers {
		for _, p := range r.Problems {
			level := Problem
			if p.Harmless() {
				level = Warning
			}
			j.bad(level, p.Kind, r.Interface, fmt.Sprintf("%s (VRID %d, %s): %s", r.Name, r.VRID, r.Family, p.Text), p.Remedy)
		}
	}
}

// hooks repeats what is wrong with those that are told of changes of state.
func (j *judge) hooks() {
	if f := j.Status.FIFO; f != nil && f.Lost > 0 {
		j.bad(Warning, "hook", "", fmt.Sprintf("%s lost %d lines, because nobody read them in time", f.Path, f.Lost), "see what reads it")
	}
	told := make(map[string]bool) // both families of a router have the same, all of a group too
	for _, r := range j.Status.Routers {
		for _, h := range r.Hooks {
			cause := ""
			switch {
			case h.Last != nil && h.Last.Outcome != "ok":
				cause = h.Last.Text
			case h.Last == nil:
				cause = h.Problem
			}
			text := fmt.Sprintf("%s of %s (%s): %s", h.Setting, r.Name, h.Command, cause)
			if cause == "" || told[text] {
				continue
			}
			told[text] = true
			j.bad(Warning, "hook", "", text, "failoverctl status "+r.Name+" shows what it wrote")
		}
	}
}

// rivals judges whether another host is Active beside this one: whoever hears an
// Active of higher priority is silent.
func (j *judge) rivals() {
	switch {
	case !j.Alone:
	case j.Heard > 1:
		j.bad(Problem, "rival", "", fmt.Sprintf("this host is Active, and %d advertisements of others came within %v: another host is Active too, because it doesn't hear this one", j.Heard, j.Listened),
			"look on both hosts what arrives (tcpdump -n 'ip proto 112 or ip6 proto 112'), and run failoverctl doctor on the other: a firewall, a switch that snoops multicast, a hypervisor, or another version or checksum is in the way")
	default:
		j.good("rival", "", "this host is Active, and nobody else was heard within %v; if another host is Active too, multicast doesn't arrive", j.Listened)
	}
}

func (j *judge) counters() {
	if j.Stats == nil {
		return
	}
	for _, refusal := range refusals {
		for _, c := range j.Stats.Global {
			if c.Name == refusal.counter && c.Value > 0 {
				j.bad(Warning, "heard", "", fmt.Sprintf("%s (%s %d since the start)", refusal.cause, c.Name, c.Value), refusal.remedy+"; failoverctl events says who it was")
			}
		}
	}
}
