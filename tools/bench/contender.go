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

// setup is the way in which the contenders are configured. RESULTS.md lists what each one
// sets for each contender.
type setup string

const (
	// alike makes all daemons send the same frames: keepalived's checksum, the addresses at
	// the interface's own MAC, announcements at a takeover and none later.
	alike       setup = "alike"
	virtualMACs setup = "virtual MACs" // alike, with the addresses at virtual MACs
	// defaults sets only what a virtual router can't do without.
	defaults setup = "defaults"
	// What only failoverd has, beside its defaults.
	authenticated setup = "HMAC"
	macvlans      setup = "macvlan"
)

// router is the configuration of one virtual router, over IPv4 in version 3.
type router struct {
	port      int // number of the interface
	vrid      int
	priority  int
	interval  time.Duration
	addresses []string // with prefix lengths
}

// key identifies a router on the wire.
type key struct{ port, vrid uint8 }

func (r router) key() key { return key{uint8(r.port), uint8(r.vrid)} }

// downInterval returns the router's Active_Down_Interval (RFC 9568 §6.1), if the Active
// advertises at the router's own interval.
func (r router) downInterval() time.Duration {
	return 3*r.interval + time.Duration(256-r.priority)*r.interval/256
}

// contender is one of the daemons that are compared.
type contender struct {
	name string
	// start starts the daemon with these routers. Its log goes to a file in memory.
	start func(ctx context.Context, n *lab.Node, routers []router, s setup) (*lab.Process, error)
	// again starts it after it has ended; nil: like start.
	again func(ctx context.Context, n *lab.Node) (*lab.Process, error)
	// lone starts it with one router at the defaults, as a user would; nil for a contender
	// that doesn't measure this.
	lone func(n *lab.Node, priority int, interval time.Duration) (*lab.Process, error)
}

const (
	failoverdName = "failoverd"
	// The contenders beside failoverd and keepalived.
	frr = "FRR" // measured only in the experiments that it can cope with
	// ranked is keepalived with a real-time priority. vrrp_rlimit_rttime is raised because
	// the default, 10 ms without a pause, ends a keepalived that starts with 255 routers.
	ranked  = "keepalived, vrrp_rt_priority 50"
	without = "failoverd, --against" // a second failoverd
)

// ours reports whether a contender is failoverd.
func (c *contender) ours() bool { return c.name == failoverdName || c.name == without }

// newContenders returns the daemons. o.global is the content of the key global in failoverd's
// file. With o.against there is a second failoverd, with that content.
func newContenders(o options) []*contender {
	all := []*contender{
		failoverd(failoverdName, o.binary, o.global),
		keepalived("keepalived", o.keepalived, ""),
		keepalived(ranked, o.keepalived, "  vrrp_rt_priority 50\n  vrrp_rlimit_rttime 10000000\n"),
		frrs(),
	}
	if o.against != "" {
		all = append(all, failoverd(without, o.binary, o.against))
	}
	return all
}

func failoverd(name, binary, global string) *contender {
	return &contender{
		name: name,
		start: func(_ context.Context, n *lab.Node, routers []router, s setup) (*lab.Process, error) {
			const path = "/run/bench.yaml"
			if err := n.Do(func() error {
				return errors.Join(
					os.WriteFile(path, []byte(failoverdConfig(global, routers, s)), 0o644),
					os.WriteFile(keyPath, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600),
				)
			}); err != nil {
				return nil, err
			}
			return n.StartToFile(binary, "--log-format", "json", "--config", path)
		},
		lone: func(n *lab.Node, priority int, interval time.Duration) (*lab.Process, error) {
			return n.StartToFile(binary, "--log-format", "json", "--iface", ifname, "--vip", virtual+"/24", "--priority", fmt.Sprint(priority), "--interval", interval.String())
		},
	}
}

// keepalived adds the lines of global to the section global_defs.
func keepalived(name, program, global string) *contender {
	return &contender{
		name: name,
		start: func(_ context.Context, n *lab.Node, routers []router, s setup) (*lab.Process, error) {
			return n.KeepalivedToFile(program, keepalivedConfig(global, routers, s))
		},
		lone: func(n *lab.Node, priority int, interval time.Duration) (*lab.Process, error) {
			return n.KeepalivedToFile(program, lab.KeepalivedConfig{Interface: ifname, Version: 3, VRID: 51, Priority: priority, Interval: interval, Addresses: []string{virtual + "/24"}}.String())
		},
	}
}

// frrs ignores the setup: FRR has nothing to set.
func frrs() *contender {
	started := make(map[*lab.Node]*lab.FRR)
	return &contender{
		name: frr,
		start: func(ctx context.Context, n *lab.Node, routers []router, _ setup) (*lab.Process, error) {
			var all []lab.FRRConfig
			for _, r := range routers {
				all = append(all, lab.FRRConfig{Interface: portName(r.port), Version: 3, VRID: r.vrid, Priority: r.priority, Interval: r.interval, Addresses: r.addresses})
			}
			f, err := n.FRRToFile(ctx, all...)
			if err != nil {
				return nil, err
			}
			started[n] = f
			return f.VRRPD(), nil
		},
		again: func(_ context.Context, n *lab.Node) (*lab.Process, error) {
			if err := started[n].StartAgain(); err != nil {
				return nil, err
			}
			return started[n].VRRPD(), nil
		},
	}
}

// keyPath is the path of the key of authenticated routers.
const keyPath = "/run/bench.key"

func failoverdConfig(global string, routers []router, s setup) string {
	more := ""
	switch s {
	case alike:
		more = "checksum: rfc5798, virtual_mac: off, announce_again: 0s, "
	case virtualMACs:
		more = "checksum: rfc5798, virtual_mac: auto, announce_again: 0s, "
	case authenticated:
		more = "authentication: {type: hmac, keys: [{id: 1, file: " + keyPath + "}]}, "
	case macvlans:
		more = "virtual_mac: macvlan, "
	case defaults:
	}
	var b strings.Builder
	fmt.Fprintf(&b, "global: {%s}\nrouters:\n", global)
	for _, r := range routers {
		fmt.Fprintf(&b, "  - {interface: %s, vrid: %d, priority: %d, interval: %v, %saddresses: [%s]}\n",
			portName(r.port), r.vrid, r.priority, r.interval, more, strings.Join(r.addresses, ", "))
	}
	return b.String()
}

func keepalivedConfig(global string, routers []router, s setup) string {
	more := ""
	switch s {
	case alike:
		more = "  garp_master_delay 0\n"
	case virtualMACs:
		more = "  garp_master_delay 0\n  use_vmac\n"
	case defaults, authenticated, macvlans:
	}
	var b strings.Builder
	fmt.Fprintf(&b, "global_defs {\n  vrrp_version 3\n%s}\n", global)
	for _, r := range routers {
		fmt.Fprintf(&b, "vrrp_instance r%d_%d {\n  state BACKUP\n  interface %s\n%s  virtual_router_id %d\n  priority %d\n  advert_int %g\n  virtual_ipaddress {\n    %s\n  }\n}\n",
			r.port, r.vrid, portName(r.port), more, r.vrid, r.priority, r.interval.Seconds(), strings.Join(r.addresses, "\n    "))
	}
	return b.String()
}

// daemon is a contender that runs.
type daemon struct {
	*lab.Process
	name    string
	routers []router
}

// run starts the contender on a node.
func (c *contender) run(ctx context.Context, n *lab.Node, routers []router, s setup) (*daemon, error) {
	p, err := c.start(ctx, n, routers, s)
	if err != nil {
		return nil, err
	}
	return &daemon{p, c.name, routers}, nil
}

// settled starts the contender on the site's host. It returns some seconds after all routers
// have become Active.
func (c *contender) settled(ctx context.Context, s *site, routers []router, how setup) (*daemon, error) {
	d, err := c.run(ctx, s.host, routers, how)
	if err != nil {
		return nil, err
	}
	if err := d.allActive(ctx, s.wire); err != nil {
		return nil, err
	}
	rest := settle
	if how == defaults {
		rest += secondAnnouncement
	}
	return d, lab.Pause(ctx, rest)
}

// secondAnnouncement is the time after which all daemons announce their addresses once more at
// their defaults (announce_again, garp_master_delay).
const secondAnnouncement = 5 * time.Second

// allActive waits until the peer, the node at the other end of the cables, has received an
// advertisement of each router.
func (d *daemon) allActive(ctx context.Context, peer *lab.Node) error {
	silent := make(map[key]bool)
	for _, r := range d.routers {
		silent[r.key()] = true
	}
	return d.watch(ctx, peer, func(ctx context.Context, t *tap) error {
		if _, err := t.wait(ctx, 0, func(s sighting) bool {
			if s.kind == advertisement {
				delete(silent, s.router())
			}
			return len(silent) == 0
		}); err != nil {
			return fmt.Errorf("%d of %d routers of %s didn't become Active: %w", len(silent), len(d.routers), d.name, err)
		}
		return nil
	})
}

// allBackup waits until the peer has received no advertisement of these routers for longer
// than Active_Down_Interval.
func (d *daemon) allBackup(ctx context.Context, peer *lab.Node, routers []router) error {
	quiet := make(map[key]bool)
	for _, r := range routers {
		quiet[r.key()] = true
	}
	return d.watch(ctx, peer, func(ctx context.Context, t *tap) error {
		for {
			mark := t.mark()
			if err := lab.Pause(ctx, 100*time.Millisecond+routers[0].downInterval()); err != nil {
				return fmt.Errorf("routers of %s don't become Backup: %w", d.name, err)
			}
			loud := 0
			for _, s := range t.since(mark) {
				if s.kind == advertisement && quiet[s.router()] {
					loud++
				}
			}
			if loud == 0 {
				return nil
			}
		}
	})
}

// watch calls f with a tap on all ports of the peer, as whileAlive does.
func (d *daemon) watch(ctx context.Context, peer *lab.Node, f func(context.Context, *tap) error) error {
	t, err := openTap(peer, false, allPorts)
	if err != nil {
		return err
	}
	defer func() { _ = t.Close() }() // a lost frame doesn't matter: the next advertisement comes
	return d.whileAlive(ctx, func(ctx context.Context) error { return f(ctx, t) })
}

// whileAlive calls f with a context that ends when the daemon ends. Its cause says what the
// daemon wrote.
func (d *daemon) whileAlive(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-d.Done():
			cancel(d.alive())
		case <-ctx.Done():
		}
	}()
	return f(ctx)
}

// alive returns an error if the daemon has ended.
func (d *daemon) alive() error {
	select {
	case <-d.Done():
		return fmt.Errorf("%s has ended; it wrote:\n%s", d.name, d.Output())
	default:
		return nil
	}
}

// shorten cuts an error that quotes a long log.
func shorten(err error) error {
	const most = 2000
	if text := err.Error(); len(text) > most {
		return errors.New(text[:most])
	}
	return err
}
