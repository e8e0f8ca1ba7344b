// SPDX-License-Identifier: Apache-2.0

// Command machine tests failoverd's Debian package on two booted machines: install, start,
// failover, reload, upgrade, watchdog, stop, purge. Then it installs the RPM package on them.
// systemd-nspawn boots a Debian with systemd
// for each machine, in the namespaces of a lab, which end with this program.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// patience bounds each step. It is much longer than a slow step takes.
const patience = 2 * time.Minute

const help = `machine tests failoverd's Debian package on two booted machines: install, failover, reload,
upgrade, watchdog, stop, purge. With --rpm, the RPM package follows. It needs root, and the packages systemd-container and
mmdebstrap. make test-package builds the packages and runs it.

Flags:
`

func main() {
	var o options
	flag.StringVar(&o.deb, "deb", "", "`path` of the package to install")
	flag.StringVar(&o.newer, "newer", "", "`path` of the package to upgrade to")
	flag.StringVar(&o.rpmFile, "rpm", "", "`path` of the RPM package to install afterwards")
	flag.StringVar(&o.newerRPM, "newer-rpm", "", "`path` of the RPM package to upgrade to")
	flag.IntVar(&o.kills, "kills", 6, "`number` of times that the Active is killed")
	flag.StringVar(&o.suite, "suite", "bookworm", "Debian `suite` of the machines")
	lab.Main("machine", help, func(ctx context.Context) error { return run(ctx, o) })
}

type options struct {
	deb, newer, rpmFile, newerRPM, suite string
	kills                                int
}

func run(ctx context.Context, o options) (err error) {
	if o.deb == "" || o.newer == "" || (o.rpmFile == "") != (o.newerRPM == "") {
		return errors.New("--deb and --newer are needed, and --rpm goes with --newer-rpm; make test-package gives them")
	}
	start := time.Now()
	work, err := os.MkdirTemp("", "failoverd-machine-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	base := filepath.Join(work, "base")
	l, err := lab.New()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close(), removeGroups()) }()
	fmt.Printf("Two machines with Debian %s, and a client that pings %s and %s:\n", o.suite, virtual4, virtual6)
	if err := makeBase(ctx, o.suite, base); err != nil {
		return fmt.Errorf("make the file system: %w", err)
	}
	lan, err := l.LAN("switch")
	if err != nil {
		return err
	}
	s := &site{options: o}
	for _, m := range []struct {
		to            **machine
		name, address string
	}{{&s.a, "a", "198.18.0.1"}, {&s.b, "b", "198.18.0.2"}} {
		*m.to = &machine{name: m.name, address: m.address, base: base, dir: filepath.Join(work, m.name), lab: l, lan: lan}
	}
	if s.client, err = l.Node("client"); err != nil {
		return err
	}
	if _, err := lan.Connect(s.client, ifname, "198.18.0.100/24", "2001:db8::100/64"); err != nil {
		return err
	}
	for _, step := range s.steps() {
		if err := s.play(ctx, step); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	fmt.Printf("\nAll steps passed. (%.0f s)\n", time.Since(start).Seconds())
	return nil
}
