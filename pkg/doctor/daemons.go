// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/packet"
)

// daemons checks the other VRRP daemons of this host.
func (j *judge) daemons() {
	for _, d := range j.Daemons {
		if d.Own {
			continue
		}
		who := fmt.Sprintf("%s (process %d)", d.Name, d.PID)
		stop := fmt.Sprintf("kill %d", d.PID)
		if d.Unit != "" {
			stop = "systemctl disable --now " + d.Unit
		}
		switch theirs, shared := j.compete(d); {
		case d.Name == "failoverd":
			j.good("daemon", "", "another %s runs on this host; two failoverd never run the same Virtual Router", who)
		case shared != "":
			j.bad(Problem, "daemon", theirs.Interface, fmt.Sprintf("%s runs VRID %d on %s, %s: both would answer for the addresses, because each ignores advertisements from its own host", who, theirs.VRID, theirs.Interface, shared),
				"stop it, and move its configuration with failoverctl import; or use another VRID", stop)
		case !d.Known:
			j.bad(Warning, "daemon", "", who+" speaks VRRP on this host, and its VRIDs can't be determined", "make sure that it has no VRID of failoverd on the same interface, or stop it", stop)
		default:
			j.good("daemon", "", "%s speaks VRRP on this host too, but with other VRIDs or on other interfaces", who)
		}
	}
	for n := range j.Interfaces {
		j.strangers(&j.Interfaces[n])
	}
}

// compete returns a router of another daemon that failoverd has too, or could have, and a
// text that names the router of failoverd. The text is empty if there is none.
func (j *judge) compete(d Daemon) (theirs config.Router, shared string) {
	for _, a := range d.Routers {
		for _, b := range j.Routers {
			if a.Interface == b.Interface && a.VRID == b.VRID && shareFamily(a, b) {
				return a, "as failoverd's " + b.Name + " does"
			}
		}
		if len(j.Routers) == 0 && slices.ContainsFunc(j.Interfaces, func(i Interface) bool { return i.Name == a.Interface }) {
			return a, "which failoverd would use too"
		}
	}
	return config.Router{}, ""
}

func shareFamily(a, b config.Router) bool {
	return slices.ContainsFunc([]packet.Family{packet.IPv4, packet.IPv6}, func(f packet.Family) bool {
		return a.Has(f) && b.Has(f)
	})
}

// strangers checks for devices with a virtual MAC that no running daemon made.
func (j *judge) strangers(i *Interface) {
	if len(i.VirtualMACs) == 0 || slices.ContainsFunc(j.Daemons, func(d Daemon) bool { return !d.Own }) {
		return
	}
	var commands []string
	for _, name := range i.VirtualMACs {
		if j.Status != nil && slices.ContainsFunc(j.Status.Routers, func(r running) bool { return r.Macvlan == name }) {
			continue
		}
		commands = append(commands, "ip link del "+name)
	}
	if len(commands) > 0 {
		j.bad(Warning, "daemon", i.Name, fmt.Sprintf("%s has a virtual MAC, but no running daemon made it: it takes frames to the virtual addresses", strings.Join(i.VirtualMACs, ", ")),
			"remove what a dead daemon left behind (failoverd --cleanup removes that of failoverd)", commands...)
	}
}
