// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

func (s *site) stop(ctx context.Context) error {
	from := time.Now()
	if _, err := s.a.run(ctx, "systemctl", "stop", service); err != nil {
		return err
	}
	if err := s.b.become(ctx, "Active", left); err != nil {
		return err
	}
	if err := s.answered(ctx); err != nil {
		return err
	}
	say("b took over, because a left with priority 0; %s", s.outage(from))
	if err := s.a.expect(ctx, map[string]string{"ActiveState": "inactive", "Result": "success"}); err != nil {
		return err
	}
	if err := s.a.clean(ctx); err != nil {
		return err
	}
	say("nothing is left on a")
	if _, err := s.a.run(ctx, "systemctl", "start", service); err != nil {
		return err
	}
	return s.back(ctx)
}

// back waits until a has taken over again.
func (s *site) back(ctx context.Context) error {
	if err := s.b.become(ctx, "Backup", higher); err != nil {
		return err
	}
	if err := s.a.become(ctx, "Active", lower); err != nil {
		return err
	}
	return s.answered(ctx)
}

func (s *site) crash(ctx context.Context) error {
	from := time.Now()
	if err := s.a.crash(ctx); err != nil {
		return err
	}
	if err := s.b.become(ctx, "Active", silent); err != nil {
		return err
	}
	if err := s.answered(ctx); err != nil {
		return err
	}
	skew := interval * (256 - priorityB) / 256
	say("b took over, because it heard nothing; %s, predicted %d ms", s.outage(from), (3*interval + skew).Milliseconds())
	if err := s.b.warned(ctx); err != nil {
		return err
	}
	if err := s.a.up(ctx); err != nil {
		return err
	}
	if err := s.back(ctx); err != nil {
		return err
	}
	say("a has booted, its service has started by itself, and a has taken over again")
	return nil
}

// unnoticed carries out a change of the Active's process, which nobody else must notice: b has no
// transition, and hears no advertisement of priority 0.
func (s *site) unnoticed(ctx context.Context, what string, change func() error) error {
	before, err := s.a.property(ctx, "MainPID")
	if err != nil {
		return err
	}
	heard, err := s.transitions(ctx)
	if err != nil {
		return err
	}
	from := time.Now()
	if err := change(); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	if err := s.answered(ctx); err != nil {
		return err
	}
	after, err := s.a.property(ctx, "MainPID")
	if err != nil {
		return err
	}
	if after == before || after == "0" {
		return fmt.Errorf("the process before was %s, and is %s now", before, after)
	}
	if now, err := s.transitions(ctx); err != nil || now != heard {
		journal, e := s.a.run(ctx, "journalctl", "--no-pager", "--output=short-precise", "-n", "60")
		return errors.Join(fmt.Errorf("%s: b had transitions:\n%s\nthe journal of a:\n%s", what, now, journal), err, e)
	}
	say("%s: process %s follows %s, b noticed nothing; %s", what, after, before, s.outage(from))
	return nil
}

// transitions returns the transitions of b.
func (s *site) transitions(ctx context.Context) (string, error) {
	return s.b.run(ctx, "failoverctl", "events", "--kind", "transition")
}

func (s *site) restart(ctx context.Context) error {
	err := s.unnoticed(ctx, "failoverctl restart", func() error {
		out, err := s.a.run(ctx, "failoverctl", "restart")
		show(s.a, "failoverctl restart", out)
		return err
	})
	if err != nil {
		return err
	}
	err = s.unnoticed(ctx, "systemctl restart", func() error {
		_, err := s.a.run(ctx, "systemctl", "restart", service)
		return err
	})
	if err != nil {
		return err
	}
	return s.a.expect(ctx, map[string]string{"ActiveState": "active", "NRestarts": "0"})
}

// restartBad restarts the Active with a file that it can't read. It must leave as after systemctl stop.
func (s *site) restartBad(ctx context.Context) error {
	if err := s.a.write(file, "routers: [{interface: eth0, vridd: 51}]\n"); err != nil {
		return err
	}
	from := time.Now()
	if out, err := s.a.run(ctx, "systemctl", "restart", service); err == nil {
		return fmt.Errorf("a restart with a bad file succeeded: %s", out)
	}
	if err := s.b.become(ctx, "Active", left); err != nil {
		return err
	}
	if err := s.answered(ctx); err != nil {
		return err
	}
	say("b took over, because a left with priority 0; %s", s.outage(from))
	if err := s.a.write(file, configuration(priorityA)); err != nil {
		return err
	}
	if _, err := s.a.shell(ctx, "systemctl stop "+service+"; systemctl reset-failed "+service+"; systemctl start "+service); err != nil {
		return err
	}
	return s.back(ctx)
}

func (s *site) upgrade(ctx context.Context) error {
	err := s.unnoticed(ctx, "upgrade", func() error {
		out, err := s.installNewer(ctx, s.a)
		show(s.a, "dpkg -i newer.deb", out)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.a.copy(s.deb, "/tmp/failoverd.deb"); err != nil {
		return err
	}
	err = s.unnoticed(ctx, "downgrade", func() error {
		out, err := s.a.run(ctx, "dpkg", "-i", "/tmp/failoverd.deb")
		show(s.a, "dpkg -i older.deb", out)
		return err
	})
	if err != nil {
		return err
	}
	return s.a.expect(ctx, map[string]string{"ActiveState": "active", "NRestarts": "0"})
}

// kill kills the Active with an interval of 1s, at which systemd starts it within the lease: at any
// moment, in a reload and in a restart.
func (s *site) kill(ctx context.Context) error {
	for _, m := range s.machines() {
		if err := s.setInterval(ctx, m, time.Second); err != nil {
			return err
		}
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	for n := range s.kills {
		during := []struct{ what, begin string }{
			{"kill -9", "true"}, {"kill -9 in a reload", "systemctl reload --no-block " + service}, {"kill -9 in a restart", "(failoverctl restart || true) > /dev/null 2>&1 & true"},
		}[n%3]
		after := rand.N([]time.Duration{time.Second, 100 * time.Millisecond, 200 * time.Millisecond}[n%3])
		err := s.unnoticed(ctx, fmt.Sprintf("%s, after %v", during.what, after.Round(time.Millisecond)), func() error {
			if _, err := s.a.shell(ctx, fmt.Sprintf("systemctl reset-failed %[3]s; %[1]s; sleep %[2]f; pid=$(systemctl show -P MainPID %[3]s); [ $pid -gt 1 ] && kill -KILL $pid", during.begin, after.Seconds(), service)); err != nil {
				return err
			}
			return s.a.become(ctx, "Active", "continued as Active after a")
		})
		if err != nil {
			return err
		}
	}
	for _, m := range s.machines() {
		if err := s.setInterval(ctx, m, interval); err != nil {
			return err
		}
	}
	return s.settle(ctx)
}

// setInterval reloads a machine with another interval.
func (s *site) setInterval(ctx context.Context, m *machine, to time.Duration) error {
	priority := priorityB
	if m == s.a {
		priority = priorityA
	}
	if err := m.write(file, strings.Replace(configuration(priority), interval.String(), to.String(), 1)); err != nil {
		return err
	}
	_, err := m.run(ctx, "systemctl", "reload", service)
	return err
}

// installNewer installs the newer package, which keeps the configuration.
func (s *site) installNewer(ctx context.Context, m *machine) (string, error) {
	if err := m.copy(s.newer, "/tmp/newer.deb"); err != nil {
		return "", err
	}
	before, err := m.run(ctx, "cat", file)
	if err != nil {
		return "", err
	}
	out, err := m.run(ctx, "dpkg", "-i", "/tmp/newer.deb")
	if err != nil {
		return "", err
	}
	after, err := m.run(ctx, "cat", file)
	if err == nil && after != before {
		err = fmt.Errorf("the upgrade has changed %s:\n%s", file, after)
	}
	return out, err
}

func (s *site) upgradeStopped(ctx context.Context) error {
	if _, err := s.b.run(ctx, "systemctl", "stop", service); err != nil {
		return err
	}
	if _, err := s.installNewer(ctx, s.b); err != nil {
		return err
	}
	if err := s.b.expect(ctx, map[string]string{"ActiveState": "inactive", "UnitFileState": "enabled"}); err != nil {
		return err
	}
	say("b is still stopped and enabled")
	if _, err := s.b.run(ctx, "systemctl", "start", service); err != nil {
		return err
	}
	return s.settle(ctx)
}

func (s *site) hang(ctx context.Context) error {
	before, err := s.a.property(ctx, "MainPID")
	if err != nil {
		return err
	}
	from := time.Now()
	if _, err := s.a.run(ctx, "kill", "-STOP", before); err != nil {
		return err
	}
	if err := s.b.become(ctx, "Active", silent); err != nil {
		return err
	}
	if err := s.answered(ctx); err != nil {
		return err
	}
	say("b took over from the hung a; %s", s.outage(from))
	for {
		n, err := s.a.property(ctx, "NRestarts")
		if err != nil {
			return err
		}
		if n == "1" {
			break
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("systemd has restarted the service of a %s times, want 1: %w", n, ctx.Err())
		}
	}
	// systemd aborts the hung process, which may run again for some milliseconds before it ends. If it
	// advertises in them, b yields to it, and the next process continues as Active. Otherwise the next
	// process removes the addresses, and takes over from b.
	if err := s.b.become(ctx, "Backup", higher); err != nil {
		return err
	}
	if err := s.a.become(ctx, "Active", ""); err != nil {
		return err
	}
	if err := s.answered(ctx); err != nil {
		return err
	}
	journal, err := s.a.run(ctx, "journalctl", "--no-pager", "--output=cat", "-u", service)
	if err != nil {
		return err
	}
	timeout, begun := false, false
	for line := range strings.Lines(journal) {
		watchdog := strings.Contains(line, "Watchdog timeout")
		timeout = timeout || watchdog
		again := timeout && (strings.Contains(line, "leftover") && strings.Contains(line, virtual4) || strings.Contains(line, "continued as Active after a crash"))
		begun = begun || again
		if watchdog || again {
			say("  %s", strings.TrimSpace(line))
		}
	}
	if !timeout || !begun {
		return fmt.Errorf("the journal lacks the watchdog's timeout, or afterwards what the next process did with the old addresses:\n%s", journal)
	}
	say("systemd has restarted a, which took over again after %.1f s", time.Since(from).Seconds())
	return nil
}

func (s *site) purge(ctx context.Context) error {
	for _, p := range s.pingers {
		if err := p.Close(); err != nil {
			return err
		}
	}
	for _, m := range s.machines() {
		out, err := m.run(ctx, "dpkg", "--remove", "failoverd")
		if err != nil {
			return err
		}
		if err := m.clean(ctx); err != nil {
			return err
		}
		if _, err := m.run(ctx, "test", "-e", file); err != nil {
			return fmt.Errorf("dpkg --remove has removed the configuration: %w", err)
		}
		purged, err := m.run(ctx, "dpkg", "--purge", "failoverd")
		if err != nil {
			return err
		}
		if m == s.a {
			show(m, "dpkg --remove failoverd && dpkg --purge failoverd", out+purged)
		}
		after, err := m.files()
		if err != nil {
			return err
		}
		var more []string
		for _, name := range slices.Sorted(maps.Keys(after)) {
			if !s.before[m][name] {
				more = append(more, name)
			}
		}
		if len(more) > 0 {
			return fmt.Errorf("files are left on %s:\n%s", m.name, strings.Join(more, "\n"))
		}
		users, err := m.shell(ctx, "getent passwd failoverd; getent group failoverd; systemctl list-unit-files --no-legend 'failoverd*'; true")
		if err == nil && users != "" {
			err = fmt.Errorf("left on %s: %s", m.name, users)
		}
		if err != nil {
			return err
		}
	}
	say("nothing is left behind: no address, BPF object, file, user or unit")
	return nil
}
