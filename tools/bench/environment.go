// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/failoverd/failoverd/tools/lab"
)

// environment is the load and the limits under which the daemons of a pair run.
type environment struct {
	name, title string
	extra       bool // only where --only names it
	begin       func(s *site, daemons ...*daemon) error
}

var environments = []environment{
	{begin: func(*site, ...*daemon) error { return nil }},
	{"busy", "all cores kept busy", false, func(s *site, _ ...*daemon) error { return s.busy(runtime.NumCPU()) }},
	{"eight jobs", "eight jobs beside", true, func(s *site, _ ...*daemon) error { return s.busy(8) }},
	{"quota", "all cores kept busy and half a core for each daemon (cgroup)", true, limitTime},
	{"memory", "memory pressure in its cgroup and all cores kept busy", true, limitMemory},
}

// busy starts shells that loop for ever.
func (s *site) busy(count int) error {
	_, err := s.crowd(count, "while :; do :; done")
	return err
}

func (s *site) crowd(count int, script string) (all []*lab.Process, err error) {
	other, err := s.lab.Node("busy")
	if err != nil {
		return nil, err
	}
	for range count {
		p, err := other.Start("sh", "-c", script)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func processes(daemons []*daemon) (all []*lab.Process) {
	for _, d := range daemons {
		all = append(all, d.Process)
	}
	return all
}

// limitTime puts each daemon into a cgroup that has half the time of a core.
func limitTime(s *site, daemons ...*daemon) error {
	for _, p := range processes(daemons) {
		// With CONFIG_RT_GROUP_SCHED, a real-time thread needs a budget of its own in cgroup version 1.
		// All groups together get 950 ms of a second at most.
		g, err := s.group("cpu", map[string]string{"cpu.cfs_quota_us": "50000", "cpu.rt_runtime_us": "450000"}, map[string]string{"cpu.max": "50000 100000"})
		if err != nil {
			return err
		}
		if err := g.take(p); err != nil {
			return err
		}
	}
	return s.busy(runtime.NumCPU())
}

// limitMemory puts the daemons into one cgroup with programs that read a file of twice the
// group's memory again and again. The kernel then takes back all memory that it can.
func limitMemory(s *site, daemons ...*daemon) error {
	const limit = 256 << 20
	g, err := s.group("memory", map[string]string{"memory.limit_in_bytes": fmt.Sprint(limit)}, map[string]string{"memory.high": fmt.Sprint(limit)})
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	s.closers = append(s.closers, remover(dir))
	path := filepath.Join(dir, "large")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 2*limit)); err != nil {
		return err
	}
	readers, err := s.crowd(runtime.NumCPU(), "while :; do cat "+path+" >/dev/null; done")
	if err != nil {
		return err
	}
	for _, p := range append(readers, processes(daemons)...) {
		if err := g.take(p); err != nil {
			return err
		}
	}
	return nil
}

// remover removes the directory that it names.
type remover string

func (r remover) Close() error { return os.RemoveAll(string(r)) }

// group is a cgroup.
type group struct {
	parent, dir string
}

// group makes a cgroup below the root. first are the controller's settings in cgroup version 1,
// second those in version 2.
func (s *site) group(controller string, first, second map[string]string) (*group, error) {
	g, settings := &group{parent: filepath.Join("/sys/fs/cgroup", controller)}, first
	if _, err := os.Stat(filepath.Join(g.parent, "cgroup.procs")); err != nil {
		g.parent, settings = "/sys/fs/cgroup", second
		if err := os.WriteFile(filepath.Join(g.parent, "cgroup.subtree_control"), []byte("+"+controller), 0); err != nil {
			return nil, fmt.Errorf("the controller %s can't be used in cgroups: %w", controller, err)
		}
	}
	var err error
	if g.dir, err = os.MkdirTemp(g.parent, "bench-"); err != nil {
		return nil, fmt.Errorf("make a cgroup: %w", err)
	}
	s.closers = append(s.closers, g)
	for name, value := range settings {
		err := os.WriteFile(filepath.Join(g.dir, name), []byte(value), 0)
		if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(name, "cpu.rt_") {
			continue // this kernel has no CONFIG_RT_GROUP_SCHED
		}
		if err != nil {
			return nil, fmt.Errorf("set up a cgroup: %w", err)
		}
	}
	return g, nil
}

// take moves a process and its descendants into the group.
func (g *group) take(p *lab.Process) error {
	all, err := p.Family()
	if err != nil {
		return err
	}
	for _, pid := range all {
		if err := os.WriteFile(filepath.Join(g.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("move process %d into a cgroup: %w", pid, err)
		}
	}
	return nil
}

// Close moves the living processes to the parent group and removes the group. It tries again
// because they may start others meanwhile.
func (g *group) Close() (err error) {
	for range 100 {
		living, e := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
		if e != nil {
			return e
		}
		for _, pid := range strings.Fields(string(living)) {
			_ = os.WriteFile(filepath.Join(g.parent, "cgroup.procs"), []byte(pid), 0) // the process may have ended
		}
		if err = os.Remove(g.dir); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}
