// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// directorConf is keepalived's file of a host that balances load behind a virtual address.
const directorConf = keepalivedConf + `
virtual_server 198.18.0.10 80 {
    delay_loop 1
    lb_algo rr
    lb_kind NAT
    protocol TCP
    ha_suspend
    real_server 198.18.0.100 80 {
        TCP_CHECK {
            connect_timeout 1
        }
    }
}
`

// failoverd runs the instance of a keepalived.conf, and keepalived beside it the virtual
// servers, from the two files that import makes. With --check keepalived speaks no VRRP.
func TestLoadBalancerBeside(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	s.ok(os.WriteFile(in("keepalived.conf"), []byte(directorConf), 0o600))
	s.ok(os.WriteFile(in("web.conf"), []byte(keepalivedInstance), 0o600))
	if out, err := exec.Command(failoverctl(), "import", "-o", in("failoverd.yaml"), "--lvs", in("lvs.conf"), in("keepalived.conf")).CombinedOutput(); err != nil || !strings.Contains(string(out), "keepalived --check --use-file "+in("lvs.conf")) {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := s.a.Run(s.ctx, "keepalived", "--config-test", "--use-file="+in("lvs.conf")); err != nil {
		t.Fatalf("keepalived refuses the file: %v: %s", err, out)
	}
	f := s.failoverd(s.a, "--config", in("failoverd.yaml"))
	s.waitHolder("198.18.0.10", s.a)

	beside := s.balancer(s.a, in("lvs.conf"))
	switch services, err := serviceList(s.a); {
	case errors.Is(err, fs.ErrNotExist): // a kernel without IPVS
		s.waitOutput(beside, "Can't initialize ipvs")
	default:
		for err == nil && s.ctx.Err() == nil && !strings.Contains(services, "C612000A:0050") {
			time.Sleep(20 * time.Millisecond)
			services, err = serviceList(s.a)
		}
		if err != nil || s.ctx.Err() != nil {
			t.Fatalf("keepalived has no virtual server: %v: %s", err, services)
		}
	}

	// keepalived ignores a virtual server without real servers, so this one runs without IPVS.
	// It leaves the instance in its file alone, even while no host is Active.
	s.ok(os.WriteFile(in("all.conf"), []byte(keepalivedInstance+"virtual_server 198.18.0.10 80 {\n    lb_algo rr\n}\n"), 0o600))
	other := s.balancer(s.b, in("all.conf"))
	s.waitHolder("198.18.0.10", s.a)
	s.stop(s.a, f)
	f = s.failoverd(s.a, "--config", in("failoverd.yaml")) // which takes over only if it hears nobody
	s.waitHolder("198.18.0.10", s.a)
	s.answeredBy("198.18.0.10", s.a)
	for _, frame := range s.capture.Frames() {
		if _, _, _, ok := frame.Advertisement(); ok && frame.From != s.a.Name {
			t.Fatalf("keepalived --check speaks VRRP: %s", frame)
		}
	}
	select {
	case <-other.Done():
		t.Errorf("keepalived on b ended: %s", other.Output())
	default:
	}
	s.stop(s.a, f)
}

// balancer starts keepalived without VRRP, and waits until it checks.
func (s *site) balancer(n *lab.Node, path string) *lab.Process {
	s.t.Helper()
	pids := strings.TrimSuffix(path, ".conf")
	k, err := n.Start("keepalived", "--dont-fork", "--log-console", "--check", "--use-file", path, "--pid="+pids+".pid", "--checkers_pid="+pids+"-c.pid")
	s.ok(err)
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("keepalived on %s wrote:\n%s", n.Name, excerpt(k.Output()))
		}
	})
	s.waitOutput(k, "Starting Healthcheck child process")
	if strings.Contains(k.Output(), "Starting VRRP child process") {
		s.t.Fatalf("keepalived --check starts VRRP: %s", k.Output())
	}
	return k
}

// waitOutput waits until a process has written a line with a text.
func (s *site) waitOutput(p *lab.Process, text string) {
	s.t.Helper()
	_, err := p.WaitLine(s.ctx, 0, func(line string) bool { return strings.Contains(line, text) })
	s.ok(err)
}

// serviceList returns the kernel's list of virtual servers on a node.
func serviceList(n *lab.Node) (list string, err error) {
	err = n.Do(func() error {
		content, err := os.ReadFile("/proc/thread-self/net/ip_vs")
		list = string(content)
		return err
	})
	return list, err
}
