// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	maintenance = "/etc/failoverd/maintenance"

	// checkScript succeeds if it runs as its user and the maintenance file doesn't exist.
	checkScript = "#!/bin/sh\n[ \"$(id -un)\" = nobody ] && [ ! -e " + maintenance + " ]\n"
	// stuckScript never ends, and starts a process in another session.
	stuckScript = "#!/bin/sh\n(setsid sleep 1000 &)\nexec sleep 1000\n"

	tracks = `tracks:
  - {name: own, script: /etc/failoverd/check, user: nobody, interval: 100ms, timeout: 10s}
  - {name: stuck, script: /etc/failoverd/stuck, user: nobody, interval: 300ms, timeout: 200ms, weight: 1}
`
)

func (s *site) checks(ctx context.Context) error {
	before := configuration(priorityA)
	if err := s.a.write("/etc/failoverd/check", checkScript); err != nil {
		return err
	}
	if err := s.a.write("/etc/failoverd/stuck", stuckScript); err != nil {
		return err
	}
	if err := s.a.write(file, tracks+before+"    track: [own, stuck]\n"); err != nil {
		return err
	}
	if _, err := s.a.shell(ctx, "chmod +x /etc/failoverd/check /etc/failoverd/stuck && systemctl reload "+service); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	if _, err := s.a.run(ctx, "touch", maintenance); err != nil {
		return err
	}
	if err := s.b.become(ctx, "Active", left); err != nil {
		return err
	}
	out, err := s.a.run(ctx, "failoverctl", "status")
	if err != nil {
		return err
	}
	show(s.a, "touch "+maintenance+"; failoverctl status", out)
	if _, err := s.a.run(ctx, "rm", maintenance); err != nil {
		return err
	}
	if err := s.back(ctx); err != nil {
		return err
	}
	if err := s.a.write(file, before); err != nil {
		return err
	}
	if _, err := s.a.shell(ctx, "systemctl reload "+service+" && rm /etc/failoverd/check /etc/failoverd/stuck"); err != nil {
		return err
	}
	for {
		left, err := s.a.shell(ctx, "pgrep --list-full --euid nobody || true")
		if err != nil {
			return err
		}
		if left == "" {
			say("the check that never ends was killed each time, with the process that it had started")
			return s.settle(ctx)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("processes of the check that never ends still run: %s: %w", strings.TrimSpace(left), ctx.Err())
		}
	}
}
