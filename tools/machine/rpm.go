// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
)

// rpm installs the RPM package on both machines, and plays a failover, an upgrade and the removal.
// The machines have the program rpm, but their systemd comes from Debian's packages. So rpm runs
// with --nodeps. The scripts of the package and the calls of rpm are those of an RPM distribution.
func (s *site) rpm(ctx context.Context) error {
	for _, m := range s.machines() {
		if err := m.copy(s.rpmFile, "/tmp/failoverd.rpm"); err != nil {
			return err
		}
		const install = "rpm --install --nodeps /tmp/failoverd.rpm"
		out, err := m.shell(ctx, install+" && rpm --verify --nodeps failoverd")
		if err != nil {
			return err
		}
		if m == s.a {
			show(m, install, out)
		}
		priority := priorityB
		if m == s.a {
			priority = priorityA
		}
		if err := m.write(file, configuration(priority)); err != nil {
			return err
		}
		// The preset of the distribution decides whether the package enables the service.
		if _, err := m.shell(ctx, "getent passwd failoverd && failoverctl check && systemctl enable --now "+service); err != nil {
			return err
		}
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	if _, err := s.a.run(ctx, "systemctl", "stop", service); err != nil {
		return err
	}
	if err := s.b.become(ctx, "Active", left); err != nil {
		return err
	}
	if err := s.b.warned(ctx); err != nil {
		return err
	}
	if _, err := s.a.run(ctx, "systemctl", "start", service); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	if err := s.upgradeRPM(ctx, s.a); err != nil {
		return err
	}
	for _, m := range s.machines() {
		if err := m.eraseRPM(ctx); err != nil {
			return err
		}
	}
	say("nothing is left behind but the configuration, which rpm has saved")
	return nil
}

// upgradeRPM upgrades the Active. It starts again with the configuration that it had.
func (s *site) upgradeRPM(ctx context.Context, m *machine) error {
	before, err := m.property(ctx, "MainPID")
	if err != nil {
		return err
	}
	if err := m.copy(s.newerRPM, "/tmp/newer.rpm"); err != nil {
		return err
	}
	out, err := m.shell(ctx, "rpm --upgrade --nodeps /tmp/newer.rpm && rpm --query failoverd")
	if err != nil {
		return err
	}
	show(m, "rpm --upgrade newer.rpm", out)
	if err := s.settle(ctx); err != nil {
		return err
	}
	after, err := m.property(ctx, "MainPID")
	if err != nil {
		return err
	}
	if after == before || after == "0" {
		return fmt.Errorf("the process before the upgrade was %s, and is %s after it", before, after)
	}
	kept, err := m.run(ctx, "cat", file)
	if err == nil && kept != configuration(priorityA) {
		err = fmt.Errorf("the upgrade has changed %s:\n%s", file, kept)
	}
	return err
}

// eraseRPM removes the package, which stops the service and leaves only the changed configuration.
func (m *machine) eraseRPM(ctx context.Context) error {
	if _, err := m.run(ctx, "rpm", "--erase", "failoverd"); err != nil {
		return err
	}
	if err := m.clean(ctx); err != nil {
		return err
	}
	left, err := m.shell(ctx, "find /etc/failoverd /usr/bin/failoverctl /usr/sbin/failoverd /usr/lib/systemd/system/failoverd.service /usr/share/doc/failoverd 2>/dev/null; true")
	if err == nil && strings.TrimSpace(left) != "/etc/failoverd\n"+file+".rpmsave" {
		err = fmt.Errorf("left on %s:\n%s", m.name, left)
	}
	return err
}
