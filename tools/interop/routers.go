// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/tools/lab"
)

// setting is the configuration of a router. What it doesn't name is at its default.
type setting struct {
	proto     protocol
	own, peer int // the numbers of the two hosts, see lab.Addresses
	priority  int
	interval  time.Duration
	noPreempt bool
	addresses []string
	auth      authentication
}

// The modes of HMAC authentication, by failoverd's names.
const (
	modeEnforce     = "enforce"
	modePermit      = "permit"
	modeReceiveOnly = "receive-only"
)

// authentication is the HMAC authentication of a router, the zero value is none.
type authentication struct {
	mode string
	keys []int // the ids of the keys that are accepted
	send int   // the id of the key that signs
}

// signs returns the id of the key that signs advertisements, 0 if they have no trailer.
func (a authentication) signs() int {
	if a.mode == modeReceiveOnly {
		return 0
	}
	return a.send
}

// keyFile is the path of a key in the file system of each node.
func keyFile(id int) string { return fmt.Sprintf("/run/key-%d", id) }

// writeKeys writes the key files of a node. Both routers read the same form.
func writeKeys(n *lab.Node, ids ...int) error {
	return n.Do(func() error {
		for _, id := range ids {
			if err := os.WriteFile(keyFile(id), fmt.Appendf(nil, "hex:%064x\n", id), 0o600); err != nil {
				return err
			}
		}
		return nil
	})
}

// host returns the address of the numbered host that advertises over the family.
func (p protocol) host(number int) string {
	addresses := lab.Addresses(number)
	if p.family == "ipv6" {
		return netip.MustParsePrefix(addresses[2]).Addr().String()
	}
	return netip.MustParsePrefix(addresses[0]).Addr().String()
}

// router is a VRRP router of any make.
type router interface {
	// start returns when the router is Backup.
	start(ctx context.Context, n *lab.Node, s setting) error
	// stop ends the router with SIGTERM.
	stop(ctx context.Context) error
	// change reloads the running router with another setting.
	change(ctx context.Context, s setting) error
	output() string
}

// failoverd is the failoverd under test.
type failoverd struct {
	binary  string
	node    *lab.Node
	process *lab.Failoverd
	running bool
}

// failoverdFile is the path of failoverd's configuration on its node.
const failoverdFile = "/run/interop.yaml"

// configuration renders the setting as failoverd's configuration file.
func (s setting) configuration() string {
	var b strings.Builder
	fmt.Fprintf(&b, "routers:\n  - interface: %s\n    vrid: %d\n    version: %d\n    priority: %d\n    interval: %s\n",
		ifname, vrid, s.proto.version, s.priority, s.interval)
	fmt.Fprintf(&b, "    addresses: [\"%s\"]\n", strings.Join(s.addresses, "\", \""))
	if s.noPreempt {
		b.WriteString("    preempt: false\n")
	}
	if s.proto.unicast {
		fmt.Fprintf(&b, "    unicast: {source: \"%s\", peers: [\"%s\"]}\n", s.proto.host(s.own), s.proto.host(s.peer))
	}
	if s.auth.mode != "" {
		var keys []string
		for _, id := range s.auth.keys {
			keys = append(keys, fmt.Sprintf("{id: %d, file: %s}", id, keyFile(id)))
		}
		fmt.Fprintf(&b, "    authentication: {type: hmac, mode: %s, send: %d, keys: [%s]}\n", s.auth.mode, s.auth.send, strings.Join(keys, ", "))
	}
	return b.String()
}

func (f *failoverd) write(s setting) error {
	return f.node.Do(func() error { return os.WriteFile(failoverdFile, []byte(s.configuration()), 0o644) })
}

func (f *failoverd) start(ctx context.Context, n *lab.Node, s setting) (err error) {
	f.node = n
	if err := f.write(s); err != nil {
		return err
	}
	if f.process, err = n.Failoverd(nil, f.binary, "--config", failoverdFile); err != nil {
		return err
	}
	f.running = true
	_, _, err = f.process.WaitState(ctx, 0, s.proto.family, "Backup")
	return err
}

func (f *failoverd) stop(ctx context.Context) error {
	f.running = false
	code, err := f.process.Stop(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("failoverd ended with exit code %d", code)
	}
	return err
}

func (f *failoverd) change(ctx context.Context, s setting) error {
	if err := f.write(s); err != nil {
		return err
	}
	socket := fmt.Sprintf("/proc/%d/root%s", f.process.PID(), control.DefaultPath)
	_, err := control.NewClient(socket).Reload(ctx, false)
	return err
}

func (f *failoverd) output() string {
	if f.process == nil {
		return ""
	}
	return f.process.Output()
}

// keepalived is Debian's, or the one at a path.
type keepalived struct {
	program string // empty for Debian's
	node    *lab.Node
	process *lab.Process
}

// configuration renders the setting for keepalived.
func (k *keepalived) configuration(s setting) lab.KeepalivedConfig {
	c := lab.KeepalivedConfig{
		Program: k.program, Interface: ifname, Version: s.proto.version, VRID: vrid, Priority: s.priority,
		Interval: s.interval, NoPreempt: s.noPreempt, Addresses: s.addresses,
	}
	if s.proto.unicast {
		c.Source, c.Peers = s.proto.host(s.own), []string{s.proto.host(s.peer)}
	}
	if s.auth.mode != "" {
		for _, id := range s.auth.keys {
			c.HMAC = append(c.HMAC, fmt.Sprintf("key %d file:%s", id, keyFile(id)))
		}
		c.HMAC = append(c.HMAC, fmt.Sprint("active_key ", s.auth.send), "mode "+keepalivedModes[s.auth.mode])
	}
	return c
}

// keepalivedModes are keepalived's names of the modes.
var keepalivedModes = map[string]string{modeEnforce: "enforce", modePermit: "permissive", modeReceiveOnly: "receive-only"}

func (k *keepalived) start(ctx context.Context, n *lab.Node, s setting) (err error) {
	k.node = n
	if k.process, err = n.Keepalived(k.configuration(s)); err != nil {
		return err
	}
	_, err = k.process.WaitLine(ctx, 0, func(l string) bool { return strings.Contains(l, "Entering BACKUP STATE") })
	return err
}

func (k *keepalived) stop(ctx context.Context) error {
	code, err := k.process.Stop(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("keepalived ended with exit code %d", code)
	}
	return err
}

// change returns when keepalived's process that speaks VRRP begins to read the file.
func (k *keepalived) change(ctx context.Context, s setting) error {
	from := len(k.process.Lines())
	if _, err := k.node.WriteKeepalived(k.configuration(s)); err != nil {
		return err
	}
	if err := k.process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	_, err := k.process.WaitLine(ctx, from, func(l string) bool { return strings.HasSuffix(l, ": Reloading") })
	return err
}

func (k *keepalived) output() string {
	if k.process == nil {
		return ""
	}
	return k.process.Output()
}

// frr is Debian's, or the one in a directory.
type frr struct {
	*lab.FRR
	dir string // empty for Debian's
}

func (f *frr) start(ctx context.Context, n *lab.Node, s setting) (err error) {
	c := lab.FRRConfig{
		Interface: ifname, Version: s.proto.version, VRID: vrid, Priority: s.priority,
		Interval: s.interval, NoPreempt: s.noPreempt, Addresses: s.addresses,
		LinkLocal: fmt.Sprintf("fe80::%x/64", s.own+1),
	}
	if f.dir == "" {
		f.FRR, err = n.FRR(ctx, c)
	} else {
		f.FRR, err = n.FRRFrom(ctx, f.dir, c)
	}
	return err
}

func (f *frr) stop(ctx context.Context) error {
	code, err := f.Stop(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("vrrpd ended with exit code %d", code)
	}
	return err
}

// change changes the interval, which is all that a scenario changes of FRR.
func (f *frr) change(ctx context.Context, s setting) error { return f.SetInterval(ctx, s.interval) }

func (f *frr) output() string {
	if f.FRR == nil {
		return ""
	}
	return f.Output()
}
