// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/tools/lab"
)

// keepalivedConf is a file for both hosts. Its instance is in a file that it includes.
const (
	keepalivedConf = `! Configuration File for keepalived
global_defs {
    router_id lab
}
include web.conf
`
	keepalivedInstance = `vrrp_instance web {
    interface eth0
    virtual_router_id 51
    priority 100
    advert_int 1
    authentication {
        auth_type PASS
        auth_pass not2tell
    }
    virtual_ipaddress {
        198.18.0.10/24 label eth0:vip
    }
}
`
)

// failoverd and keepalived run from the same keepalived.conf, with the password in it. The
// address has its label on both. A reload takes over another priority and tells it in keepalived's words.
func TestKeepalivedConf(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := t.TempDir()
	path, included := filepath.Join(dir, "keepalived.conf"), filepath.Join(dir, "web.conf")
	write := func(priority string) {
		t.Helper()
		s.ok(os.WriteFile(included, []byte(strings.Replace(keepalivedInstance, "priority 100", "priority "+priority, 1)), 0o600))
	}
	s.ok(os.WriteFile(path, []byte(keepalivedConf), 0o600))
	write("100")

	f := s.failoverd(s.a, "--config", path)
	c := &configured{site: s, Failoverd: f, path: path, client: control.NewClient(socketOf(f))}
	s.waitHolder("198.18.0.10", s.a)
	k, err := s.b.KeepalivedFile(path)
	s.ok(err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("keepalived wrote:\n%s", excerpt(k.Output()))
		}
	})

	// keepalived has read 100 before: the file isn't written again until it stands by.
	for s.ctx.Err() == nil && !strings.Contains(k.Output(), "BACKUP STATE") {
		time.Sleep(20 * time.Millisecond)
	}
	s.waitHolder("198.18.0.10", s.a)
	changed := func(from, to string) {
		t.Helper()
		write(to)
		changes := c.reload()
		if want := included + ":4: priority " + from + " → " + to; len(changes) != 1 || changes[0].Router != "web" || changes[0].What != "changed" || len(changes[0].Details) != 1 || changes[0].Details[0] != want {
			t.Errorf("the reload tells %+v, not %q", changes, want)
		}
	}
	labelled := func(n *lab.Node) {
		t.Helper()
		out, err := n.Run(s.ctx, "ip", "-4", "-o", "addr", "show", "label", "eth0:vip")
		s.ok(err)
		if !strings.Contains(out, "198.18.0.10/24") {
			t.Errorf("on %s the address has another label than eth0:vip: %q", n.Name, out)
		}
	}
	labelled(s.a)
	c.router("web", "ipv4", func(r control.Router) bool { return r.Labels["198.18.0.10/24"] == "eth0:vip" })
	changed("100", "90")
	s.waitHolder("198.18.0.10", s.b)
	labelled(s.b)
	changed("90", "150")
	s.waitHolder("198.18.0.10", s.a)

	// A file with a mistake changes nothing, and its line is told.
	s.ok(os.WriteFile(included, []byte(strings.Replace(keepalivedInstance, "    virtual_router_id 51\n", "", 1)), 0o600))
	if _, err := c.client.Reload(s.ctx, false); err == nil || !strings.Contains(err.Error(), included+":1: vrrp_instance web") {
		t.Errorf("reloading a bad file: %v", err)
	}
	lines := len(f.Lines())
	s.ok(f.Signal(syscall.SIGHUP))
	_, err = f.WaitLine(s.ctx, lines, func(l string) bool {
		return strings.Contains(l, "could not reload") && strings.Contains(l, included+":1")
	})
	s.ok(err)
	if r := c.router("web", "ipv4", inState("Active")); r.Priority != 150 {
		t.Errorf("a bad file changed the priority to %d", r.Priority)
	}

	s.stop(s.a, f)
	s.waitHolder("198.18.0.10", s.b)
	if strings.Contains(f.Output(), "not2tell") {
		t.Error("the log has the password")
	}
	code, err := k.Stop(s.ctx)
	s.ok(err)
	if code != 0 {
		t.Errorf("keepalived ended with exit code %d", code)
	}
}

// failoverd and keepalived run from the same keepalived.conf without an address, as in a cloud,
// where hooks move the address. On both the same hooks run, through a kill on each side, a return
// and an end. The peers include each host's own address, so that the hosts can share the file.
func TestKeepalivedConfWithoutAddress(t *testing.T) {
	t.Parallel()
	for name, cast := range map[string]string{
		"multicast": "",
		"unicast":   "unicast_peer {\n        198.18.0.1\n        198.18.0.2\n    }",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			dir := t.TempDir()
			// The hosts are network namespaces: a hook writes to the file of its own one.
			hook := s.program(dir, "hook", `echo "$*" >>"$0-$(readlink /proc/self/ns/net)"`)
			path := filepath.Join(dir, "keepalived.conf")
			s.ok(os.WriteFile(path, fmt.Appendf(nil, `global_defs {
    script_user root
    enable_script_security
}
vrrp_instance cloud {
    interface eth0
    virtual_router_id 51
    priority 100
    %s
    notify %s
}
`, cast, hook), 0o600))
			file := func(p *lab.Process) string {
				namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.PID()))
				s.ok(err)
				return hook + "-" + namespace
			}
			hooks := func(what, file string, want ...string) {
				t.Helper()
				for i := range want {
					want[i] = "INSTANCE cloud " + want[i] + " 100"
				}
				s.until(what, func() bool { return len(s.lines(file)) >= len(want) })
				if got := s.lines(file); !slices.Equal(got, want) {
					t.Errorf("%s: the hooks were told %q, want %q", what, got, want)
				}
			}

			f := s.failoverd(s.a, "--config", path)
			a := file(f.Process)
			hooks("failoverd alone", a, "BACKUP", "MASTER")
			k, err := s.b.KeepalivedFile(path)
			s.ok(err)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("keepalived wrote:\n%s", excerpt(k.Output()))
				}
			})
			b := file(k)
			hooks("keepalived stands by", b, "BACKUP")
			s.ok(f.Signal(syscall.SIGKILL))
			hooks("failoverd was killed", b, "BACKUP", "MASTER")
			_, err = f.Wait(s.ctx)
			s.ok(err)

			f = s.failoverd(s.a, "--config", path)
			hooks("failoverd returns", a, "BACKUP", "MASTER", "BACKUP")
			s.ok(k.SignalAll(syscall.SIGKILL))
			hooks("keepalived was killed", a, "BACKUP", "MASTER", "BACKUP", "MASTER")
			client := control.NewClient(socketOf(f))
			status, err := client.Status(s.ctx)
			s.ok(err)
			if r := status.Routers[0]; len(status.Routers) != 1 || r.State != "Active" || r.Family != "ipv4" || len(r.Addresses) != 0 || len(r.Problems) != 0 {
				t.Errorf("the status is %+v", status.Routers)
			}
			s.stop(s.a, f)
			hooks("failoverd was stopped", a, "BACKUP", "MASTER", "BACKUP", "MASTER", "STOP")

			sent := map[string]int{}
			for _, frame := range s.capture.Frames() {
				if a, _, _, ok := frame.Advertisement(); ok {
					sent[frame.From]++
					if len(a.Addresses) != 0 {
						t.Errorf("%s advertised %v", frame.From, a.Addresses)
					}
				}
			}
			if sent[s.a.Name] == 0 || sent[s.b.Name] == 0 {
				t.Errorf("the hosts sent %v advertisements", sent)
			}
		})
	}
}
