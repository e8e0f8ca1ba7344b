// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// router is one virtual router of a contender, over IPv4 in version 3.
type router struct {
	port      int // number of the interface
	vrid      int
	priority  int
	interval  time.Duration
	addresses []string // with prefix lengths
}

// contender is one of the daemons that are compared. They are asked for the same: the
// same checksum, addresses at the interface's own MAC unless the virtual MAC is wanted,
// which FRR always has, announcements at a take-over and none later.
type contender struct {
	name  string
	start func(ctx context.Context, n *lab.Node, routers []router, virtualMAC bool) (*lab.Process, error)
	// These are in the lines that it logs for each router that enters a state.
	active, backup string
	lone           func(n *lab.Node, priority int, interval time.Duration) (*lab.Process, error)
}

// newContenders are the daemons. In failoverd's configuration file, which it has but
// where there is one router only, global is under the key of that name.
//
// With against, there is another failoverd that has these keys instead, to be compared with.
func newContenders(binary, global, against string) []*contender {
	all := []*contender{
		failoverd("failoverd", binary, global),
		keepalived("keepalived", ""),
		keepalived(ranked, "  vrrp_rt_priority 50\n  vrrp_rlimit_rttime 10000000\n"),
		frrs(),
	}
	if against != "" {
		all = append(all, failoverd(without, binary, against))
	}
	return all
}

// ranked is keepalived with a real-time priority; within its default bound of 10 ms without
// a pause it can't start with 255 routers. without is the other failoverd.
const (
	ranked  = "keepalived, vrrp_rt_priority 50"
	without = "failoverd, --against"
)

func failoverd(name, binary, global string) *contender {
	return &contender{
		name: name, active: `"to":"Active"`, backup: `"to":"Backup"`,
		start: func(_ context.Context, n *lab.Node, routers []router, virtualMAC bool) (*lab.Process, error) {
			path, err := write(n, failoverdConfig(global, routers, virtualMAC))
			if err != nil {
				return nil, err
			}
			f, err := n.Failoverd(nil, binary, "--config", path)
			if err != nil {
				return nil, err
			}
			return f.Process, nil
		},
		lone: func(n *lab.Node, priority int, interval time.Duration) (*lab.Process, error) {
			f, err := n.Failoverd(nil, binary, "--iface", ifname, "--vip", virtual+"/24", "--priority", fmt.Sprint(priority), "--interval", interval.String())
			if err != nil {
				return nil, err
			}
			return f.Process, nil
		},
	}
}

// keepalived has more in its global_defs.
func keepalived(name, global string) *contender {
	return &contender{
		name: name, active: "Entering MASTER STATE", backup: "Entering BACKUP STATE",
		start: func(_ context.Context, n *lab.Node, routers []router, virtualMAC bool) (*lab.Process, error) {
			path, err := write(n, keepalivedConfig(global, routers, virtualMAC))
			if err != nil {
				return nil, err
			}
			return n.Start("keepalived", "--dont-fork", "--log-console", "--vrrp", "--use-file", path, "--pid", "/run/keepalived.pid", "--vrrp_pid", "/run/vrrp.pid")
		},
		lone: func(n *lab.Node, priority int, interval time.Duration) (*lab.Process, error) {
			return n.Keepalived(lab.KeepalivedConfig{Interface: ifname, Version: 3, VRID: 51, Priority: priority, Interval: interval, Addresses: []string{virtual + "/24"}})
		},
	}
}

func frrs() *contender {
	return &contender{
		name: frr, active: "Backup -> Master", backup: "Initialize -> Backup",
		start: func(ctx context.Context, n *lab.Node, routers []router, _ bool) (*lab.Process, error) {
			var all []lab.FRRConfig
			for _, r := range routers {
				all = append(all, lab.FRRConfig{Interface: portName(r.port), Version: 3, VRID: r.vrid, Priority: r.priority, Interval: r.interval, Addresses: r.addresses})
			}
			f, err := n.FRR(ctx, all...)
			if err != nil {
				return nil, err
			}
			return f.VRRPD(), nil
		},
	}
}

// frr is the contender that takes part where it can.
const frr = "FRR"

// write writes a configuration where a daemon of the node finds it.
func write(n *lab.Node, text string) (path string, err error) {
	path = "/run/bench.conf"
	return path, n.Do(func() error { return os.WriteFile(path, []byte(text), 0o644) })
}

func failoverdConfig(global string, routers []router, virtualMAC bool) string {
	mode := "off"
	if virtualMAC {
		mode = "auto"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "global: {%s}\nrouters:\n", global)
	for _, r := range routers {
		fmt.Fprintf(&b, "  - {interface: %s, vrid: %d, priority: %d, interval: %v, checksum: rfc5798, virtual_mac: %s, announce_again: 0s, addresses: [%s]}\n",
			portName(r.port), r.vrid, r.priority, r.interval, mode, strings.Join(r.addresses, ", "))
	}
	return b.String()
}

func keepalivedConfig(global string, routers []router, virtualMAC bool) string {
	mode := ""
	if virtualMAC {
		mode = "  use_vmac\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "global_defs {\n  vrrp_version 3\n%s}\n", global)
	for _, r := range routers {
		fmt.Fprintf(&b, "vrrp_instance r%d_%d {\n  state BACKUP\n  interface %s\n%s  virtual_router_id %d\n  priority %d\n  advert_int %g\n  garp_master_delay 0\n  virtual_ipaddress {\n    %s\n  }\n}\n",
			r.port, r.vrid, portName(r.port), mode, r.vrid, r.priority, r.interval.Seconds(), strings.Join(r.addresses, "\n    "))
	}
	return b.String()
}

// daemon is a contender that runs.
type daemon struct {
	*lab.Process
	*contender
	count   int
	started time.Time
}

// run starts the contender on a node with these routers.
func (c *contender) run(ctx context.Context, n *lab.Node, routers []router, virtualMAC bool) (*daemon, error) {
	d := &daemon{contender: c, count: len(routers), started: time.Now()}
	var err error
	d.Process, err = c.start(ctx, n, routers, virtualMAC)
	return d, err
}

// settled starts the contender with these routers, and waits until each has entered the
// state and the machine has come to rest.
func (c *contender) settled(ctx context.Context, n *lab.Node, routers []router, state string) (*daemon, error) {
	d, err := c.run(ctx, n, routers, false)
	if err != nil {
		return nil, err
	}
	if _, err := d.wait(ctx, state); err != nil {
		return nil, err
	}
	return d, lab.Pause(ctx, 2*settle)
}

// wait waits until it has logged for each router that it entered the state, and returns
// when that was.
func (d *daemon) wait(ctx context.Context, state string) (time.Time, error) {
	entered := 0
	n, err := d.WaitLine(ctx, 0, func(line string) bool {
		if strings.Contains(line, state) {
			entered++
		}
		return entered == d.count
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("%d of %d routers logged %s: %w", entered, d.count, state, shorten(err))
	}
	return d.Lines()[n].At, nil
}

// shorten cuts an error that quotes a long log.
func shorten(err error) error {
	const most = 2000
	if text := err.Error(); len(text) > most {
		return errors.New(text[:most])
	}
	return err
}

// logged is how many octets it has logged.
func (d *daemon) logged() (octets int) {
	for _, l := range d.Lines() {
		octets += len(l.Text) + 1
	}
	return octets
}
