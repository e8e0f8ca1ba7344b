// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is the CPU time and the memory of a process and its living descendants.
type Usage struct {
	CPU    time.Duration // of all threads, in steps of 1 ns
	Memory int           // proportional set size (Pss), in octets
}

// Family returns the process IDs of the process and its living descendants.
func (p *Process) Family() ([]int, error) { return family(p.PID()) }

// Usage returns the CPU time and the memory of the process and its living descendants.
func (p *Process) Usage() (u Usage, err error) {
	all, err := family(p.PID())
	if err != nil {
		return u, err
	}
	for _, pid := range all {
		one, err := usage(pid)
		if err != nil {
			return u, err
		}
		u.CPU, u.Memory = u.CPU+one.CPU, u.Memory+one.Memory
	}
	return u, nil
}

func usage(pid int) (u Usage, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return u, err
	}
	for _, task := range tasks {
		t, err := scheduled(task)
		if err != nil {
			return u, err
		}
		u.CPU += t
	}
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(smaps)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Pss:" {
			kilo, err := strconv.Atoi(fields[1])
			if err != nil {
				return u, err
			}
			u.Memory += kilo << 10
		}
	}
	return u, nil
}

// ThreadTime returns the CPU time of a thread of any process, 0 if the thread has ended.
func ThreadTime(thread int) (time.Duration, error) {
	return scheduled(fmt.Sprintf("/proc/%d/schedstat", thread))
}

// scheduled returns the CPU time in a schedstat, which is its first field.
func scheduled(path string) (time.Duration, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil // the thread has just ended
	}
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(b), " ")
	ns, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return time.Duration(ns), nil
}

// SoftirqTime returns the CPU time of all ksoftirqd threads.
func SoftirqTime() (sum time.Duration, err error) {
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0, err
	}
	for _, comm := range comms {
		name, err := os.ReadFile(comm)
		if err != nil || !strings.HasPrefix(string(name), "ksoftirqd/") {
			continue // the process has ended, or isn't ksoftirqd
		}
		t, err := scheduled(filepath.Join(filepath.Dir(comm), "schedstat"))
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}
