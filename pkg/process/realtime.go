// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// minShare is the denominator of the least share of time, 1/minShare, that the kernel must
// give to real-time threads. It stops them for the rest of the time.
const minShare = 10

// tryRealtime limits the time for which a thread may run without a pause, and tries whether
// this process may have real-time threads. The error says what is missing and how to grant
// it.
func tryRealtime() error {
	if err := checkBudget("/proc/sys/kernel/sched_rt_runtime_us", "/proc/sys/kernel/sched_rt_period_us"); err != nil {
		return fmt.Errorf("%w; set the sysctl kernel.sched_rt_runtime_us to 950000", err)
	}
	if group, err := checkCgroup(); err != nil {
		return fmt.Errorf("%w; write 100000 to %s and to that of each parent cgroup, or run failoverd in the root cgroup", err, filepath.Join(group, "cpu.rt_runtime_us"))
	}
	if err := unix.Setrlimit(unix.RLIMIT_RTTIME, &unix.Rlimit{Cur: uint64(realtimeSoft.Microseconds()), Max: uint64(realtimeHard.Microseconds())}); err != nil {
		return fmt.Errorf("limit the time of a thread without a pause (RLIMIT_RTTIME): %w", err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return fmt.Errorf("sched_getattr: %w", err)
	}
	err = rank(0, unix.SchedAttr{Policy: loopRank.Policy, Priority: loopRank.Priority})
	if err == nil {
		return unix.SchedSetAttr(0, was, 0)
	}
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	if !capable(unix.CAP_SYS_NICE) {
		return fmt.Errorf("%w; grant CAP_SYS_NICE, in a unit by AmbientCapabilities= and CapabilityBoundingSet=, to a container by --cap-add SYS_NICE", err)
	}
	return fmt.Errorf("%w, although the process has CAP_SYS_NICE: a seccomp filter forbids it, or the cgroup has no real-time budget (CONFIG_RT_GROUP_SCHED)", err)
}

// checkBudget returns an error if the budget in the two files gives real-time threads too
// little time.
func checkBudget(runtimePath, periodPath string) error {
	most, err := readInt(runtimePath)
	if err != nil || most < 0 {
		return nil // no limit
	}
	period, err := readInt(periodPath)
	if err != nil || most*minShare >= period {
		return nil
	}
	return fmt.Errorf("the kernel lets real-time threads run for only %d of %d µs (%s)", most, period, runtimePath)
}

func readInt(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// checkCgroup returns an error if the process's cgroup gives real-time threads too little
// time, and the directory of the cgroup. Only cgroups of version 1 have such a budget.
func checkCgroup() (group string, err error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", nil
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) < 3 {
			continue
		}
		for _, c := range strings.Split(fields[1], ",") {
			if c != "cpu" {
				continue
			}
			group = filepath.Join("/sys/fs/cgroup", fields[1], fields[2])
			if err := checkBudget(filepath.Join(group, "cpu.rt_runtime_us"), filepath.Join(group, "cpu.rt_period_us")); err != nil {
				return group, err
			}
		}
	}
	return "", nil
}

// capable reports whether the process has an effective capability.
func capable(number uint) bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return true // unknown
	}
	return d[number/32].Effective&(1<<(number%32)) != 0
}
