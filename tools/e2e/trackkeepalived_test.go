// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/failoverd/failoverd/pkg/migrate"
	"github.com/failoverd/failoverd/tools/lab"
)

// imported returns failoverd's file for a keepalived configuration.
func imported(t *testing.T, text string) string {
	t.Helper()
	r, err := migrate.Keepalived("keepalived.conf",
		func(string) ([]byte, error) { return []byte(text), nil },
		func(string) ([]string, error) { return nil, errors.New("no includes") })
	if err != nil {
		t.Fatal(err)
	}
	return string(r.YAML)
}

// keepalived runs a configuration on a node.
func (s *site) keepalived(n *lab.Node, text string) *lab.Process {
	s.t.Helper()
	dir := s.t.TempDir()
	path := filepath.Join(dir, "keepalived.conf")
	s.ok(os.WriteFile(path, []byte(text), 0o644))
	p, err := n.Start("keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp",
		"--use-file", path, "--pid", dir+"/pid", "--vrrp_pid", dir+"/vrrp.pid")
	s.ok(err)
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("keepalived on %s wrote:\n%s", n.Name, p.Output())
		}
	})
	return p
}

// failoverd and keepalived behave alike with the same configuration when the check of either goes
// down: with a weight the other router has the better priority, without one the router takes no
// part.
func TestTrackKeepalived(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		lines  string // additional lines of the script
		weight string // the weight where it is tracked
		down   int    // the priority with the check down
	}{
		{"weight", "weight -60", "", 90},
		{"fault", "", "", 0},
		{"reverse", "", "weight 70 reverse", 80}, // the script is up when the other one is down
	} {
		for _, first := range []string{"failoverd", "keepalived"} {
			t.Run(c.name+"/"+first, func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.holder = ""
				dir := t.TempDir()
				text := func(name string, priority int) string {
					test := "/usr/bin/test -e " + filepath.Join(dir, name)
					if c.name == "reverse" {
						test = "/usr/bin/test ! -e " + filepath.Join(dir, name)
					}
					return fmt.Sprintf(`
global_defs {
    vrrp_version 3
    script_user root
}
vrrp_script good {
    script "%s"
    interval 1
    fall 2
    %s
}
vrrp_instance web {
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority %d
    advert_int 1
    virtual_ipaddress {
        198.18.0.10/24
    }
    track_script {
        good %s
    }
}
`, test, c.lines, priority, c.weight)
				}
				for _, name := range []string{"better", "other"} {
					s.ok(os.WriteFile(filepath.Join(dir, name), nil, 0o644))
				}
				better, other := s.a, s.b
				if first == "failoverd" {
					s.withFile(s.a, imported(t, text("better", 150)))
					s.keepalived(s.b, text("other", 100))
				} else {
					better, other = s.b, s.a
					s.keepalived(s.b, text("better", 150))
					s.withFile(s.a, imported(t, text("other", 100)))
				}
				s.waitHolder("198.18.0.10", better)
				from := s.advertised(better, 0, 150)
				s.ok(os.Remove(filepath.Join(dir, "better")))
				s.advertised(better, from, c.down)
				s.waitHolder("198.18.0.10", other)
				s.advertised(other, from, 100)
				s.ok(os.WriteFile(filepath.Join(dir, "better"), nil, 0o644))
				s.waitHolder("198.18.0.10", better)
			})
		}
	}
}
