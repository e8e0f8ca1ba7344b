// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// readme plays the README's first five minutes on machine b, with its commands as they stand
// there and its file.
func (s *site) readme(ctx context.Context) error {
	text, err := os.ReadFile("README.md")
	if err != nil {
		return fmt.Errorf("%w; run this in the directory of the repository", err)
	}
	_, section, _ := strings.Cut(string(text), "\n## The first five minutes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, yaml, _ := strings.Cut(section, "```yaml\n")
	yaml, _, found := strings.Cut(yaml, "```")
	if !found {
		return fmt.Errorf("README.md: there is no file in \"The first five minutes\"")
	}
	for _, c := range []struct {
		command, instead string // instead: what to type instead of the command, because that doesn't end
		before           func() error
		want             string
	}{
		{"sudo failoverd --iface eth0", "timeout --preserve-status --signal=INT 3 failoverd --iface eth0", nil, "Listening for VRRP on eth0"},
		{"failoverctl check", "failoverctl check", func() error { return s.b.write(file, yaml) }, "is valid"},
		{"sudo failoverd\n", "timeout --preserve-status --signal=INT 8 failoverd 2>&1", nil, "Active"},
		{"sudo systemctl enable --now failoverd", "systemctl enable --now failoverd", nil, ""},
		{"sudo failoverctl status", "sleep 6; failoverctl status", nil, "this host"},
		{"failoverctl reload", "failoverctl reload", nil, "nothing"},
		{"failoverctl maintenance on web", "failoverctl maintenance on web", nil, "web"},
		{"failoverctl events", "failoverctl events", nil, "web"},
		{"failoverctl doctor", "failoverctl doctor; true", nil, "OK"},
	} {
		if !strings.Contains(section, c.command) {
			return fmt.Errorf("README.md: \"The first five minutes\" has no %q any more", c.command)
		}
		if c.before != nil {
			if err := c.before(); err != nil {
				return err
			}
		}
		out, err := s.b.shell(ctx, c.instead)
		if err != nil {
			return fmt.Errorf("README.md: %q: %w", c.command, err)
		}
		show(s.b, strings.TrimSpace(c.command), out)
		if !strings.Contains(out, c.want) {
			return fmt.Errorf("README.md: the output of %q has no %q", c.command, c.want)
		}
	}
	if _, err := s.b.shell(ctx, "failoverctl maintenance off web; systemctl stop "+service+"; rm "+file+"; echo '# nothing yet' > "+file); err != nil {
		return err
	}
	return s.b.clean(ctx)
}

// warned checks that the journal's warnings have the takeover of a machine as a record with fields.
func (m *machine) warned(ctx context.Context) error {
	const command = "journalctl --no-pager -u failoverd -p warning -o json"
	out, err := m.shell(ctx, command)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, line)
		}
		if record["VRRP_ROUTER"] == "web" && record["VRRP_STATE"] == "Active" {
			say("%s# %s", m.name, command)
			say("  VRRP_ROUTER=web VRRP_STATE=Active PRIORITY=%v MESSAGE=%v", record["PRIORITY"], record["MESSAGE"])
			return nil
		}
	}
	return fmt.Errorf("%s: %s shows no transition of the router web to Active:\n%s", m.name, command, out)
}
