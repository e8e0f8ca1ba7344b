// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"slices"

	"github.com/failoverd/failoverd/pkg/control"
)

type running = control.Router

// refusals are the counters that show a disagreement with another host, with their causes and
// remedies.
var refusals = []struct{ counter, cause, remedy string }{
	{"ip_ttl_errors", "advertisements arrived with a TTL below 255: through a router, or from a host of another network", "keep routers and multicast forwarding from passing VRRP on, because VRRP works within one network"},
	{"version_errors", "advertisements of another VRRP version arrived", "use the same version on all hosts (--vrrp-version), or --dual during a migration"},
	{"checksum_errors", "advertisements with wrong checksums arrived", "see --checksum in failoverd(8) if keepalived or a hardware router is on the network; otherwise a NIC or a cable is faulty"},
	{"auth_type_mismatch", "advertisements with another type of authentication arrived", "use the same authentication, or none, on all hosts"},
	{"auth_failures", "advertisements with another password or key arrived", "use the same passwords and keys on all hosts"},
	{"auth_missing", "advertisements without authentication arrived", "configure authentication on all hosts, or mode: permit until all have it"},
	{"auth_malformed", "advertisements with an unknown authentication trailer arrived", "use the same version of keepalived or failoverd on all hosts"},
	{"auth_key_unknown", "advertisements with an unknown key arrived", "give all hosts the new key before one of them sends with it"},
	{"auth_stale", "advertisements with an old or future time arrived", "synchronize the clocks of all hosts by NTP; if they are right, a host replays old advertisements"},
	{"auth_replay", "advertisements arrived a second time", "look for a loop in the network, or for a host that replays old advertisements"},
	{"interval_errors", "advertisements with another interval arrived", "use the same interval on all hosts"},
	{"address_list_errors", "advertisements with other addresses arrived for a VRID", "give all hosts of a VRID the same addresses, and use different VRIDs for different addresses"},
	{"owner_conflict", "another host advertises addresses that this host owns", "give priority 255 to one host only"},
	{"own_source", "advertisements with this host's own source address arrived", "look for a loop in the network, or for another host with the same address"},
	{"first_addr_errors", "IPv6 advertisements arrived whose first address isn't link-local", "use --tolerate first-address with keepalived and FRR"},
	{"ring_full", "the daemon didn't read advertisements in time", "give it CPU time: check the load of the host and CPUQuota= of its unit"},
}

// running checks the status and the counters of the running daemon.
func (j *judge) running() {
	if j.Status == nil {
		j.good("status", "", "failoverd isn't running, so its status wasn't checked")
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
			j.bad(Warning, "status", r.Interface, name+" is in maintenance", "failoverctl maintenance off "+r.Name+" ends it")
		case r.Waiting != "":
			j.bad(Problem, "status", r.Interface, name+" is in Initialize: "+r.Waiting, "remove this cause, and the router starts by itself")
		case r.Receive != "" && r.Fence == "":
			j.bad(Warning, "fence", r.Interface, name+" has no fence: if failoverd hangs or is killed while Active, this host goes on answering for the addresses", "see the findings about bpf; failoverd logs the reason when it starts")
		}
	}
	j.problems()
	j.hooks()
	if len(j.findings) == before {
		j.good("status", "", "failoverd %s runs, and all its routers are Active or Backup", j.Status.Version)
	}
	j.rivals()
	j.counters()
}

// problems adds the problems that the status shows, even on interfaces that weren't asked
// for. A harmless problem is a warning.
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

// hooks adds the problems of hooks and of the FIFO.
func (j *judge) hooks() {
	if f := j.Status.FIFO; f != nil && f.Lost > 0 {
		j.bad(Warning, "hook", "", fmt.Sprintf("%s lost %d lines, because no program read them in time", f.Path, f.Lost), "check the program that reads it")
	}
	seen := make(map[string]bool) // the families of a router, and the routers of a group, share hooks
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
			if cause == "" || seen[text] {
				continue
			}
			seen[text] = true
			j.bad(Warning, "hook", "", text, "failoverctl status "+r.Name+" shows its output")
		}
	}
}

// rivals checks whether another host is Active too. If this host is Active and hears another
// Active, that one doesn't hear this host, because otherwise one of them would become Backup.
func (j *judge) rivals() {
	switch {
	case !j.Alone:
	case j.Heard > 1:
		j.bad(Problem, "rival", "", fmt.Sprintf("this host is Active, and %d advertisements of others arrived within %v: another host is Active too, because it doesn't hear this host", j.Heard, j.Listened),
			"check on both hosts which advertisements arrive (tcpdump -n 'ip proto 112 or ip6 proto 112'), and run failoverctl doctor on the other host: a firewall, a switch with multicast snooping, a hypervisor, or a different version or checksum is the cause")
	default:
		j.good("rival", "", "this host is Active, and no other Active was heard within %v; if there is one, its multicast doesn't arrive", j.Listened)
	}
}

func (j *judge) counters() {
	if j.Stats == nil {
		return
	}
	for _, refusal := range refusals {
		for _, c := range j.Stats.Global {
			if c.Name == refusal.counter && c.Value > 0 {
				j.bad(Warning, "heard", "", fmt.Sprintf("%s (%s %d since the start)", refusal.cause, c.Name, c.Value), refusal.remedy+"; failoverctl events names the host")
			}
		}
	}
}
