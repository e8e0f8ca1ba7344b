// SPDX-License-Identifier: Apache-2.0

package gather

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/doctor"
	"github.com/failoverd/failoverd/pkg/migrate"
)

// speakers are the programs that speak VRRP, or CARP with the same protocol
// number.
var speakers = []string{"failoverd", "keepalived", "vrrpd", "ucarp", "uvrrpd", "failover", "holod"}

var unitShape = regexp.MustCompile(`/([^/]+\.service)(/|$)`)

// daemons finds the processes in this network namespace that speak VRRP.
func (g *gatherer) daemons() {
	if !g.privileged {
		g.skip("daemon", needsRoot)
		return
	}
	here, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		g.skip("daemon", err.Error())
		return
	}
	found := make(map[int]doctor.Daemon)
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is valid
	for _, dir := range dirs {
		name := line(dir, "comm")
		if ns, err := os.Readlink(filepath.Join(dir, "ns/net")); err != nil || ns != here || !slices.Contains(speakers, name) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		d := doctor.Daemon{Name: name, PID: pid}
		if unit := unitShape.FindStringSubmatch(line(dir, "cgroup")); unit != nil {
			d.Unit = unit[1]
		}
		if name == "keepalived" {
			args := strings.Split(line(dir, "cmdline"), "\x00")
			if balancesOnly(args) {
				continue
			}
			d.Routers, d.Known = keepalived(dir, args)
		}
		d.Own = g.Status != nil && name == "failoverd" && inner(dir) == g.Status.PID
		found[pid] = d
	}
	for pid, d := range found {
		if parent, ok := found[parent(pid)]; ok && parent.Name == d.Name {
			continue // keepalived runs as two processes
		}
		g.Daemons = append(g.Daemons, d)
	}
	slices.SortFunc(g.Daemons, func(a, b doctor.Daemon) int { return a.PID - b.PID })
}

// inner returns the ID of a process in its own PID namespace.
func inner(dir string) int {
	for l := range strings.Lines(line(dir, "status")) {
		if all, ok := strings.CutPrefix(l, "NSpid:"); ok {
			numbers := strings.Fields(all)
			n, err := strconv.Atoi(numbers[len(numbers)-1])
			if err == nil {
				return n
			}
		}
	}
	return 0
}

func parent(pid int) int {
	for l := range strings.Lines(line("/proc", strconv.Itoa(pid), "status")) {
		if number, ok := strings.CutPrefix(l, "PPid:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(number))
			if err == nil {
				return n
			}
		}
	}
	return 0
}

// balancesOnly reports whether a keepalived runs as load balancer only, without VRRP.
func balancesOnly(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		return arg == "--check" || shortOptions.MatchString(arg)
	})
}

// shortOptions matches -C, alone or behind short options without a value.
var shortOptions = regexp.MustCompile(`^-[BlDdnGXVIRax]*C`)

// keepalived reads the configuration of a running keepalived in the mount namespace of that
// process.
func keepalived(dir string, args []string) ([]config.Router, bool) {
	path := "/etc/keepalived/keepalived.conf"
	for n, arg := range args {
		if value, ok := strings.CutPrefix(arg, "--use-file="); ok {
			path = value
		} else if (arg == "--use-file" || arg == "-f") && n+1 < len(args) {
			path = args[n+1]
		}
	}
	root := filepath.Join(dir, "root")
	read := func(name string) ([]byte, error) { return config.ReadFile(filepath.Join(root, name)) }
	glob := func(pattern string) ([]string, error) {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		for n := range names {
			names[n] = strings.TrimPrefix(names[n], root)
		}
		return names, err
	}
	r, err := migrate.Keepalived(path, read, glob)
	if errors.Is(err, migrate.ErrNothing) {
		return nil, true
	}
	if err != nil {
		return nil, false
	}
	f, err := config.Parse(path, r.YAML)
	if err != nil {
		return nil, false
	}
	return f.Routers, true
}

// ruleset reads the firewall's rules with nft.
func (g *gatherer) ruleset(ctx context.Context) {
	if !g.privileged {
		g.skip("firewall", needsRoot)
		return
	}
	if names := line("/proc/net/ip_tables_names"); names != "" {
		g.skip("firewall", fmt.Sprintf("there are legacy iptables rules (%s), which doctor can't read: see iptables-legacy -S", strings.ReplaceAll(names, "\n", ", ")))
	}
	out, err := nft(ctx, "-j", "list", "ruleset")
	if err != nil {
		g.skip("firewall", err.Error())
		return
	}
	if g.Ruleset, err = doctor.ParseRuleset(out); err != nil {
		g.skip("firewall", err.Error())
		return
	}
	if bytes.Contains(out, []byte(`"ingress"`)) || bytes.Contains(out, []byte(`"egress"`)) {
		if text, err := nft(ctx, "list", "ruleset"); err == nil {
			g.Ruleset.SetDevices(string(text))
		}
	}
}

func nft(ctx context.Context, args ...string) ([]byte, error) {
	path, err := exec.LookPath("nft")
	if err != nil {
		if path = "/usr/sbin/nft"; exec.CommandContext(ctx, path, "--version").Run() != nil {
			return nil, fmt.Errorf("nft, which lists the rules of nftables and iptables-nft, isn't installed")
		}
	}
	out, err := exec.CommandContext(ctx, path, args...).Output()
	if err != nil {
		return nil, fmt.Errorf("nft %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}
