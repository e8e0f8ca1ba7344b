// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	ifname    = "eth0"
	service   = "failoverd.service"
	file      = "/etc/failoverd/failoverd.yaml"
	virtual4  = "198.18.0.10"
	virtual6  = "2001:db8::10"
	interval  = 200 * time.Millisecond
	askEvery  = 5 * time.Millisecond
	priorityA = 200
	priorityB = 100
	// exposure is the highest allowed score of systemd-analyze security. A unit without
	// any restriction has 10.
	exposure = 3.5
)

// Parts of the causes of transitions, as status shows them.
const (
	left   = "left with priority 0"
	silent = "nothing heard from"
	lower  = "has the lower priority"
	higher = "has the higher priority"
)

type site struct {
	options
	a, b    *machine
	client  *lab.Node
	pingers []*lab.Pinger
	before  map[*machine]map[string]bool // the files of each machine before the package was installed
}

type step struct {
	name string
	play func(context.Context) error
}

func (s *site) steps() []step {
	all := []step{
		{"boot", s.boot},
		{"apt install: enabled, and nothing runs before it is configured", s.install},
		{"README: the first five minutes", s.readme},
		{"configure and start", s.start},
		{"the rights of root, of the group failoverd and of others", s.rights},
		{"systemd-analyze security", s.security},
		{"systemctl reload, with a good file and a bad one", s.reload},
		{"checks of another user, within the unit's restrictions", s.checks},
		{"systemctl stop of the Active, and start", s.stop},
		{"the Active loses its power, and boots again", s.crash},
		{"failoverctl restart and systemctl restart of the Active", s.restart},
		{"systemctl restart of the Active with a bad file", s.restartBad},
		{"upgrade and downgrade of the Active", s.upgrade},
		{"upgrade while failoverd is stopped", s.upgradeStopped},
		{"the Active hangs: the watchdog", s.hang},
		{"the Active is killed", s.kill},
		{"stop and purge", s.purge},
	}
	if s.rpmFile != "" {
		all = append(all, step{"the RPM package: install, failover, upgrade, erase", s.rpm})
	}
	return all
}

func (s *site) play(ctx context.Context, st step) error {
	ctx, cancel := context.WithTimeout(ctx, patience+time.Duration(s.kills)*10*time.Second)
	defer cancel()
	fmt.Printf("\n== %s\n", st.name)
	start := time.Now()
	if err := st.play(ctx); err != nil {
		return err
	}
	say("done in %.1f s", time.Since(start).Seconds())
	return nil
}

func say(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

// show prints a command of a machine and its output.
func show(m *machine, command, out string) {
	say("%s# %s", m.name, command)
	for line := range strings.Lines(out) {
		say("  %s", strings.TrimRight(line, "\n"))
	}
}

func (s *site) machines() []*machine { return []*machine{s.a, s.b} }

func (s *site) boot(ctx context.Context) error {
	s.before = make(map[*machine]map[string]bool)
	for _, m := range s.machines() {
		if err := m.up(ctx); err != nil {
			return err
		}
		version, err := m.shell(ctx, "systemctl --version | head -1; systemctl is-system-running; ps -p 1 -o comm=")
		if err != nil {
			return err
		}
		say("%s: %s", m.name, strings.Join(strings.Fields(version), " "))
		if s.before[m], err = m.files(); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) install(ctx context.Context) error {
	for _, m := range s.machines() {
		if err := m.copy(s.deb, "/tmp/failoverd.deb"); err != nil {
			return err
		}
		out, err := m.shell(ctx, "apt install -y /tmp/failoverd.deb 2>/dev/null | tail -n 5")
		if err != nil {
			return err
		}
		if m == s.a {
			show(m, "apt install ./failoverd.deb", out)
		}
		// An administrator may start the service before it is configured. That is no failure.
		if _, err := m.run(ctx, "systemctl", "start", service); err != nil {
			return err
		}
		if err := m.expect(ctx, map[string]string{"ActiveState": "inactive", "UnitFileState": "enabled", "NRestarts": "0"}); err != nil {
			return err
		}
		if _, err := m.shell(ctx, "getent passwd failoverd && getent group failoverd && failoverctl check /usr/share/doc/failoverd/examples/failoverd.yaml"); err != nil {
			return err
		}
		if err := m.clean(ctx); err != nil {
			return err
		}
	}
	return nil
}

// expect compares properties of the service.
func (m *machine) expect(ctx context.Context, want map[string]string) error {
	for name, value := range want {
		got, err := m.property(ctx, name)
		if err != nil {
			return err
		}
		if got != value {
			journal, err := m.run(ctx, "journalctl", "--no-pager", "-n", "40", "-u", service)
			return errors.Join(fmt.Errorf("%s: %s of the service is %s, not %s:\n%s", m.name, name, got, value, journal), err)
		}
	}
	return nil
}

func configuration(priority int) string {
	return fmt.Sprintf("routers:\n  - name: web\n    interface: %s\n    vrid: 51\n    priority: %d\n    interval: %v\n    addresses: [%s/24, %s/64]\n",
		ifname, priority, interval, virtual4, virtual6)
}

func (s *site) start(ctx context.Context) error {
	for m, priority := range map[*machine]int{s.a: priorityA, s.b: priorityB} {
		if err := m.write(file, configuration(priority)); err != nil {
			return err
		}
		if _, err := m.shell(ctx, "failoverctl check && systemctl start "+service); err != nil {
			return err
		}
		if err := m.expect(ctx, map[string]string{"ActiveState": "active"}); err != nil {
			return err
		}
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	for _, address := range []string{virtual4, virtual6} {
		p, err := s.client.Ping(netip.MustParseAddr(address), askEvery)
		if err != nil {
			return err
		}
		s.pingers = append(s.pingers, p)
	}
	if err := s.answered(ctx); err != nil {
		return err
	}
	for _, m := range s.machines() {
		out, err := m.run(ctx, "failoverctl", "status")
		if err != nil {
			return err
		}
		show(m, "failoverctl status", out)
	}
	out, err := s.a.run(ctx, "systemctl", "status", "--no-pager", "--lines=0", service)
	show(s.a, "systemctl status failoverd", out)
	return err
}

// settle waits until a is Active and b is Backup.
func (s *site) settle(ctx context.Context) error {
	return errors.Join(s.a.become(ctx, "Active", ""), s.b.become(ctx, "Backup", ""))
}

// answered waits until the client has replies to pings that it sends from now on.
func (s *site) answered(ctx context.Context) error {
	now := time.Now()
	for _, p := range s.pingers {
		if _, err := p.WaitReply(ctx, now); err != nil {
			return err
		}
	}
	return nil
}

// outage describes the longest time without a reply to the client.
func (s *site) outage(since time.Time) string {
	var all []string
	for _, p := range s.pingers {
		all = append(all, fmt.Sprintf("%.0f ms", float64(p.Outage(since))/1e6))
	}
	return "the client had no reply for " + strings.Join(all, " and ") + " (IPv4 and IPv6)"
}

func (s *site) rights(ctx context.Context) error {
	const as = "setpriv --reuid=nobody --regid=%s --clear-groups failoverctl %s"
	if _, err := s.a.shell(ctx, fmt.Sprintf(as, "failoverd", "status")); err != nil {
		return err
	}
	if out, err := s.a.shell(ctx, fmt.Sprintf(as, "failoverd", "reload")); err == nil {
		return fmt.Errorf("a member of the group failoverd may reload: %s", out)
	}
	if out, err := s.a.shell(ctx, fmt.Sprintf(as, "nogroup", "status")); err == nil {
		return fmt.Errorf("any user may read the status: %s", out)
	}
	say("members of the group failoverd may read the status, only root may reload, others may do neither")
	return nil
}

func (s *site) security(ctx context.Context) error {
	out, err := s.a.run(ctx, "systemd-analyze", "security", "--no-pager", service)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	last := lines[len(lines)-1]
	say("%s", last)
	words := strings.Fields(last[strings.Index(last, ":")+1:])
	level, err := strconv.ParseFloat(words[0], 64)
	if err != nil {
		return fmt.Errorf("%q: %w", last, err)
	}
	if level > exposure {
		return fmt.Errorf("the exposure of the unit is above %.1f", exposure)
	}
	return nil
}

func (s *site) reload(ctx context.Context) error {
	pid, err := s.a.property(ctx, "MainPID")
	if err != nil {
		return err
	}
	if err := s.a.write(file, configuration(priorityA+10)); err != nil {
		return err
	}
	if _, err := s.a.run(ctx, "systemctl", "reload", service); err != nil {
		return err
	}
	if err := s.b.write(file, "routers: [{interface: eth0, vridd: 51}]\n"); err != nil {
		return err
	}
	out, err := s.b.run(ctx, "systemctl", "reload", service)
	if err == nil {
		return fmt.Errorf("a reload with a bad file succeeded: %s", out)
	}
	journal, err := s.b.run(ctx, "journalctl", "--no-pager", "--output=cat", "-u", service)
	if err != nil || !strings.Contains(journal, "did you mean `vrid`?") {
		return fmt.Errorf("the journal doesn't say what is wrong with the file: %w:\n%s", err, journal)
	}
	status, err := s.a.status(ctx)
	if err != nil {
		return err
	}
	for _, r := range status.Routers {
		if r.ConfiguredPriority != priorityA+10 || r.BecameActive != 1 {
			return fmt.Errorf("after the reload: %+v", r)
		}
	}
	say("a has priority %d and stayed Active; b reports what is wrong with its file and stays Backup", priorityA+10)
	return errors.Join(
		s.a.expect(ctx, map[string]string{"ActiveState": "active", "MainPID": pid}),
		s.b.expect(ctx, map[string]string{"ActiveState": "active"}),
		s.b.write(file, configuration(priorityB)),
		s.settle(ctx))
}
