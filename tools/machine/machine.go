// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/tools/lab"
)

//go:embed boot.sh
var bootScript string

// mark is the prefix of the names of machines and of their control groups.
const mark = "failoverd-test-"

// included lists the packages of the machines beside the essential ones.
const included = "systemd,systemd-sysv,dbus,iproute2,util-linux,procps,rpm"

// prepare is a unit that makes a container like a host: it mounts the BPF file system, which
// systemd mounts on hosts only, and makes the sysctls of the network writable.
const prepare = `[Unit]
DefaultDependencies=no
Before=local-fs.target
[Service]
Type=oneshot
ExecStart=mount -t bpf -o mode=0700 bpf /sys/fs/bpf
ExecStart=mount --bind /proc/sys/net /proc/sys/net
ExecStart=mount -o remount,rw,bind /proc/sys/net
[Install]
WantedBy=local-fs.target
`

// makeBase makes the file system of a minimal Debian.
func makeBase(ctx context.Context, suite, dir string) error {
	if _, err := output(ctx, "mmdebstrap", "--quiet", "--variant=minbase", "--include="+included, suite, dir); err != nil {
		return err
	}
	const unit = "prepare.service"
	if err := os.WriteFile(filepath.Join(dir, "etc/systemd/system", unit), []byte(prepare), 0o644); err != nil {
		return err
	}
	_, err := output(ctx, "systemctl", "--root="+dir, "enable", unit)
	return err
}

// machine is a booted Debian on the LAN.
type machine struct {
	name    string
	address string // its address on the LAN
	base    string // the directory of the file system that the machines share
	dir     string // the directory of its own files
	lab     *lab.Lab
	lan     *lab.LAN

	node *lab.Node
	port *lab.Port
	boot *lab.Process
	init int // the process ID of its init, as this host sees it
}

// up connects the machine to the LAN and boots it.
func (m *machine) up(ctx context.Context) (err error) {
	if m.node, err = m.lab.Node(m.name); err != nil {
		return err
	}
	if m.port, err = m.lan.Connect(m.node, ifname, m.address+"/24"); err != nil {
		return err
	}
	m.boot, err = m.node.Start("unshare", "--mount", "--propagation", "private", "sh", "-c", bootScript, "boot", mark+m.name, m.base, m.dir)
	if err != nil {
		return err
	}
	for {
		if m.init = firstChild(m.boot.PID()); m.init > 0 {
			// An error means that systemd can't be asked yet.
			out, _ := m.run(ctx, "systemctl", "is-system-running", "--wait")
			switch strings.TrimSpace(out) {
			case "running":
				return nil
			case "degraded":
				failed, err := m.run(ctx, "systemctl", "--failed", "--no-legend")
				return errors.Join(fmt.Errorf("%s has booted with failed units: %s", m.name, failed), err)
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-m.boot.Done():
			return fmt.Errorf("%s did not boot: %s", m.name, m.boot.Output())
		case <-ctx.Done():
			return fmt.Errorf("%s did not boot: %w: %s", m.name, ctx.Err(), m.boot.Output())
		}
	}
}

// crash pulls the machine's cable and then cuts its power.
func (m *machine) crash(ctx context.Context) error {
	if err := m.port.Pull(); err != nil {
		return err
	}
	if err := m.boot.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	if _, err := m.boot.Wait(ctx); err != nil {
		return err
	}
	return m.port.Disconnect()
}

func firstChild(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	child, _, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	n, err := strconv.Atoi(child)
	if err != nil {
		return 0 // none yet
	}
	return n
}

// run runs a program in the machine and returns its standard output.
func (m *machine) run(ctx context.Context, args ...string) (string, error) {
	out, err := output(ctx, "nsenter", append([]string{
		"--target", strconv.Itoa(m.init), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--",
		"env", "-i", "--chdir=/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "TERM=dumb",
	}, args...)...)
	if err != nil {
		err = fmt.Errorf("%s: %s: %w", m.name, strings.Join(args, " "), err)
	}
	return out, err
}

// shell runs a shell command in the machine.
func (m *machine) shell(ctx context.Context, line string) (string, error) {
	return m.run(ctx, "sh", "-c", line)
}

// path returns the path of a machine's file on this host.
func (m *machine) path(name string) string {
	return filepath.Join("/proc", strconv.Itoa(m.init), "root", name)
}

// copy copies a file into the machine.
func (m *machine) copy(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return m.write(to, string(b))
}

func (m *machine) write(name, text string) error {
	return os.WriteFile(m.path(name), []byte(text), 0o644)
}

// property returns a property of the service from systemd.
func (m *machine) property(ctx context.Context, name string) (string, error) {
	out, err := m.run(ctx, "systemctl", "show", "--value", "--property", name, service)
	return strings.TrimSpace(out), err
}

// status returns failoverd's status.
func (m *machine) status(ctx context.Context) (s control.Status, err error) {
	out, err := m.run(ctx, "failoverctl", "status", "-o", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	return s, err
}

// become waits until all routers of the machine are in a state, with a cause that contains
// the given text, and know the Active.
func (m *machine) become(ctx context.Context, state, cause string) error {
	last := "failoverd does not run"
	for {
		s, err := m.status(ctx)
		right := err == nil && len(s.Routers) > 0
		for _, r := range s.Routers {
			last = fmt.Sprintf("%s %s is %s: %s", r.Name, r.Family, r.State, r.Cause)
			if right = right && r.State == state && strings.Contains(r.Cause, cause) && r.Assigned == (state == "Active") && r.Active != ""; !right {
				break
			}
		}
		if right {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			events, _ := m.run(context.WithoutCancel(ctx), "failoverctl", "events") // failoverd may not run
			return fmt.Errorf("%s did not become %s (%s): %s: %w\n%s", m.name, state, cause, last, ctx.Err(), events)
		}
	}
}

// clean returns an error if failoverd, which doesn't run, has left something behind.
func (m *machine) clean(ctx context.Context) error {
	for _, c := range []struct{ what, line string }{
		{"addresses", "ip -o addr show | grep -wE '" + strings.ReplaceAll(virtual4+"|"+virtual6, ".", "[.]") + "|fe80::12:33' || true"},
		{"devices", "ip -o link show | grep vrrp || true"},
		{"BPF objects", "find /sys/fs/bpf -mindepth 1 -not -name '*.debug'"},
		{"files in /run", "find /run -path '*failoverd*' -not -path '/run/systemd/*'"},
		{"processes", "pgrep -a failoverd || true"},
	} {
		out, err := m.shell(ctx, c.line)
		if err != nil {
			return err
		}
		if out != "" {
			return fmt.Errorf("%s are left behind on %s: %s", c.what, m.name, out)
		}
	}
	return nil
}

// files lists the machine's files, without the directories that every machine writes to.
func (m *machine) files() (map[string]bool, error) {
	all := make(map[string]bool)
	root := m.path("/")
	for _, top := range []string{"etc", "usr", "var"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, _ fs.DirEntry, err error) error {
			name := "/" + strings.TrimPrefix(path, root+"/")
			for _, other := range []string{"/var/log", "/var/cache", "/var/tmp", "/var/lib/apt", "/var/lib/dpkg"} {
				if name == other {
					return fs.SkipDir
				}
			}
			all[name] = true
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// removeGroups removes the control groups of machines that have ended.
func removeGroups() error {
	var errs []error
	for _, tree := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"} {
		groups, err := filepath.Glob(filepath.Join(tree, mark+"*"))
		errs = append(errs, err)
		for _, g := range groups {
			var all []string
			errs = append(errs, filepath.WalkDir(g, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					all = append(all, path)
				}
				return err
			}))
			for n := len(all) - 1; n >= 0; n-- {
				errs = append(errs, syscall.Rmdir(all[n]))
			}
		}
	}
	return errors.Join(errs...)
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s%s", name, err, out, stderr.String())
	}
	return string(out), err
}
