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

// environment is what else the machine does while daemons are watched.
type environment struct {
	name, title string
	begin       func(s *site, daemons ...*daemon) error
}

var environments = []environment{
	{begin: func(*site, ...*daemon) error { return nil }},
	{"busy", "all cores kept busy", func(s *site, _ ...*daemon) error { return s.busy(runtime.NumCPU()) }},
	{"eight jobs", "eight jobs beside", func(s *site, _ ...*daemon) error { return s.busy(8) }},
	{"quota", "all cores kept busy and half a core for each daemon (cgroup)", limitTime},
	{"memory", "memory pressure in its cgroup and all cores kept busy", limitMemory},
}

// busy starts shells that run in circles.
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

// limitTime lets each daemon have half of the time of a core.
func limitTime(s *site, daemons ...*daemon) error {
	for _, p := range processes(daemons) {
		// A kernel with CONFIG_RT_GROUP_SCHED lets no real-time thread into a group without a budget.
		g, err := s.group("cpu", map[string]string{"cpu.cfs_quota_us": "50000", "cpu.rt_runtime_us": "200000"}, map[string]string{"cpu.max": "50000 100000"})
		if err != nil {
			return err
		}
		if err := g.take(p); err != nil {
			return err
		}
	}
	return s.busy(runtime.NumCPU())
}

// limitMemory has the daemons share so much memory with programs that read files of twice
// the size again and again: all that can be taken away is.
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

// remover removes a directory.
type remover string

func (r remover) Close() error { return os.RemoveAll(string(r)) }

// group is a cgroup.
type group struct {
	parent, dir string
}

// group makes a cgroup below the root with a controller's settings, of version 1 or 2.
func (s *site) group(controller string, first, second map[string]string) (*group, error) {
	g, settings := &group{parent: filepath.Join("/sys/fs/cgroup", controller)}, first
	if _, err := os.Stat(filepath.Join(g.parent, "cgroup.procs")); err != nil {
		g.parent, settings = "/sys/fs/cgroup", second
		if err := os.WriteFile(filepath.Join(g.parent, "cgroup.subtree_control"), []byte("+"+controller), 0); err != nil {
			return nil, fmt.Errorf("no cgroup has the controller %s: %w", controller, err)
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
			continue // nobody needs a budget here
		}
		if err != nil {
			return nil, fmt.Errorf("set up a cgroup: %w", err)
		}
	}
	return g, nil
}

// take brings a program and all that it has started into the group.
func (g *group) take(p *lab.Process) error {
	all, err := p.Family()
	if err != nil {
		return err
	}
	for _, pid := range all {
		if err := os.WriteFile(filepath.Join(g.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("bring process %d into a cgroup: %w", pid, err)
		}
	}
	return nil
}

// Close gives those that live back to the parent and removes the group. They may start
// others meanwhile.
func (g *group) Close() (err error) {
	for range 100 {
		living, e := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
		if e != nil {
			return e
		}
		for _, pid := range strings.Fields(string(living)) {
			_ = os.WriteFile(filepath.Join(g.parent, "cgroup.procs"), []byte(pid), 0) // it may have ended
		}
		if err = os.Remove(g.dir); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}
