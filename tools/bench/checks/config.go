// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// uses returns the checks of a router. Each check has one router.
func (p plan) uses(router int) (checks []int) {
	for c := router; c < p.checks; c += p.routers {
		checks = append(checks, c)
	}
	return checks
}

func failoverdConfig(p plan) string {
	var b strings.Builder
	if p.checks > 0 {
		b.WriteString("tracks:\n")
	}
	for c := range p.checks {
		what := "script: /bin/true"
		if c%2 == 1 {
			what = "tcp: \"" + service + "\""
		}
		fmt.Fprintf(&b, "  - {name: c%d, %s, interval: %v}\n", c, what, p.every)
	}
	b.WriteString("routers:\n")
	for r := range p.routers {
		var names []string
		for _, c := range p.uses(r) {
			names = append(names, fmt.Sprintf("c%d", c))
		}
		fmt.Fprintf(&b, "  - {interface: %s, vrid: %d, interval: %v, checksum: rfc5798, virtual_mac: off, announce_again: 0s, addresses: [198.18.1.%d/16], track: [%s]}\n",
			ifname, r+1, p.interval, r+1, strings.Join(names, ", "))
	}
	return b.String()
}

// keepalivedConfig makes scripts of the TCP checks, because keepalived's VRRP process has no
// others.
func keepalivedConfig(p plan) string {
	host, port, _ := strings.Cut(service, ":")
	var b strings.Builder
	b.WriteString("global_defs {\n  vrrp_version 3\n  script_user root\n}\n")
	for c := range p.checks {
		script := "/bin/true"
		if c%2 == 1 {
			script = fmt.Sprintf("/bin/bash -c '</dev/tcp/%s/%s'", host, port)
		}
		fmt.Fprintf(&b, "vrrp_script c%d {\n  script \"%s\"\n  interval %g\n}\n", c, script, p.every.Seconds())
	}
	for r := range p.routers {
		fmt.Fprintf(&b, "vrrp_instance r%d {\n  state BACKUP\n  interface %s\n  virtual_router_id %d\n  advert_int %g\n  garp_master_delay 0\n  virtual_ipaddress {\n    198.18.1.%d/16\n  }\n  track_script {\n",
			r, ifname, r+1, p.interval.Seconds(), r+1)
		for _, c := range p.uses(r) {
			fmt.Fprintf(&b, "    c%d\n", c)
		}
		b.WriteString("  }\n}\n")
	}
	return b.String()
}

// usage returns the CPU time of a daemon, of its worker processes and of all children that
// they have waited for.
func usage(pid int) (time.Duration, error) {
	own, err := processor(pid)
	if err != nil {
		return 0, err
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, err
	}
	name := comm(pid)
	for field := range strings.FieldsSeq(string(children)) {
		child, err := strconv.Atoi(field)
		if err != nil || comm(child) != name {
			continue // a script that still runs
		}
		if t, err := processor(child); err == nil {
			own += t
		}
	}
	return own, nil
}

func comm(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // the process may have ended
	return string(b)
}

// processor returns the CPU time of a process and of the children that it has waited for.
func processor(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	const first, last = 11, 15 // utime, stime, cutime and cstime
	if len(fields) < last {
		return 0, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	var ticks int64
	for _, f := range fields[first:last] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100, nil // USER_HZ
}
