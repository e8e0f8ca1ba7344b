// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// setting is what a router is configured with; everything else is as it comes.
type setting struct {
	proto     protocol
	number    int // the router's addresses end in it
	priority  int
	interval  time.Duration
	noPreempt bool
	addresses []string
}

// router is a VRRP router of any make.
type router interface {
	// start returns when it is Backup.
	start(ctx context.Context, n *lab.Node, s setting) error
	// stop ends it in order.
	stop(ctx context.Context) error
	// setInterval changes the advertisement interval of the running router.
	setInterval(ctx context.Context, interval time.Duration) error
	output() string
}

// failoverd is ours.
type failoverd struct {
	binary    string
	node      *lab.Node
	setting   setting
	intervals []time.Duration // of each run
	runs      []*lab.Failoverd
	running   bool
}

func (f *failoverd) start(ctx context.Context, n *lab.Node, s setting) error {
	f.node, f.setting = n, s
	args := []string{
		"--iface", ifname, "--vrid", fmt.Sprint(vrid), "--vrrp-version", fmt.Sprint(s.proto.version),
		"--priority", fmt.Sprint(s.priority), "--interval", s.interval.String(),
	}
	for _, a := range s.addresses {
		args = append(args, "--vip", a)
	}
	if s.noPreempt {
		args = append(args, "--no-preempt")
	}
	run, err := n.Failoverd(nil, f.binary, args...)
	if err != nil {
		return err
	}
	f.runs, f.running = append(f.runs, run), true
	f.intervals = append(f.intervals, s.interval)
	_, _, err = run.WaitState(ctx, 0, s.proto.family, "Backup")
	return err
}

func (f *failoverd) stop(ctx context.Context) error {
	f.running = false
	code, err := f.runs[len(f.runs)-1].Stop(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("failoverd ended with exit code %d", code)
	}
	return err
}

// setInterval starts it anew: it can't reload.
func (f *failoverd) setInterval(ctx context.Context, interval time.Duration) error {
	if err := f.stop(ctx); err != nil {
		return err
	}
	s := f.setting
	s.interval = interval
	return f.start(ctx, f.node, s)
}

func (f *failoverd) output() string {
	var b strings.Builder
	for _, r := range f.runs {
		b.WriteString(r.Output())
	}
	return b.String()
}

// keepalived is Debian's.
type keepalived struct {
	node    *lab.Node
	config  lab.KeepalivedConfig
	process *lab.Process
}

func (k *keepalived) start(ctx context.Context, n *lab.Node, s setting) (err error) {
	k.node = n
	k.config = lab.KeepalivedConfig{
		Interface: ifname, Version: s.proto.version, VRID: vrid, Priority: s.priority,
		Interval: s.interval, NoPreempt: s.noPreempt, Addresses: s.addresses,
	}
	if k.process, err = n.Keepalived(k.config); err != nil {
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

func (k *keepalived) setInterval(_ context.Context, interval time.Duration) error {
	k.config.Interval = interval
	path := fmt.Sprintf("/run/keepalived-%d/keepalived.conf", vrid)
	err := k.node.Do(func() error { return os.WriteFile(path, []byte(k.config.String()), 0o644) })
	if err != nil {
		return err
	}
	return k.process.Signal(syscall.SIGHUP)
}

func (k *keepalived) output() string {
	if k.process == nil {
		return ""
	}
	return k.process.Output()
}

// frr is Debian's.
type frr struct{ *lab.FRR }

func (f *frr) start(ctx context.Context, n *lab.Node, s setting) (err error) {
	f.FRR, err = n.FRR(ctx, lab.FRRConfig{
		Interface: ifname, Version: s.proto.version, VRID: vrid, Priority: s.priority,
		Interval: s.interval, NoPreempt: s.noPreempt, Addresses: s.addresses,
		LinkLocal: fmt.Sprintf("fe80::%x/64", s.number+1),
	})
	return err
}

func (f *frr) stop(ctx context.Context) error {
	code, err := f.Stop(ctx)
	if err == nil && code != 0 {
		err = fmt.Errorf("vrrpd ended with exit code %d", code)
	}
	return err
}

func (f *frr) setInterval(ctx context.Context, interval time.Duration) error {
	return f.SetInterval(ctx, interval)
}

func (f *frr) output() string {
	if f.FRR == nil {
		return ""
	}
	return f.Output()
}
