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

// leastShare is the part of the time that real-time threads have to be allowed, as
// 1/leastShare: the loop would stand still for the rest.
const leastShare = 10

// mayBeRealtime bounds the time that a thread may run for without a pause, and says
// whether one may be real-time, by trying it. The error says what is missing and how to
// grant it.
func mayBeRealtime() error {
	if err := rationed("/proc/sys/kernel/sched_rt_runtime_us", "/proc/sys/kernel/sched_rt_period_us"); err != nil {
		return fmt.Errorf("%w; set the sysctl kernel.sched_rt_runtime_us to 950000", err)
	}
	if group, err := budget(); err != nil {
		return fmt.Errorf("%w; write 100000 to %s and those of the cgroups above, or run it in the root cgroup", err, filepath.Join(group, "cpu.rt_runtime_us"))
	}
	if err := unix.Setrlimit(unix.RLIMIT_RTTIME, &unix.Rlimit{Cur: uint64(realtimeSoft.Microseconds()), Max: uint64(realtimeHard.Microseconds())}); err != nil {
		return fmt.Errorf("bound the time without a pause: %w", err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return fmt.Errorf("sched_getattr: %w", err)
	}
	err = rank(0, unix.SchedAttr{Policy: first.Policy, Priority: first.Priority})
	if err == nil {
		return unix.SchedSetAttr(0, was, 0)
	}
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	if !capable(unix.CAP_SYS_NICE) {
		return fmt.Errorf("%w; grant CAP_SYS_NICE, in a unit by AmbientCapabilities= and CapabilityBoundingSet=, to a container by --cap-add SYS_NICE", err)
	}
	return fmt.Errorf("%w, although CAP_SYS_NICE is there: a seccomp filter forbids it, or the cgroup has no time for it (CONFIG_RT_GROUP_SCHED)", err)
}

// rationed returns an error if what is in the files allows real-time threads too little.
func rationed(runtimePath, periodPath string) error {
	most, err := numberIn(runtimePath)
	if err != nil || most < 0 {
		return nil // no bound
	}
	period, err := numberIn(periodPath)
	if err != nil || most*leastShare >= period {
		return nil
	}
	return fmt.Errorf("the kernel lets real-time threads run for %d of %d µs (%s)", most, period, runtimePath)
}

func numberIn(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// budget looks whether the process's cgroup has time for real-time threads, and returns
// its directory. Only cgroups of version 1 say so.
func budget() (group string, err error) {
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
			if err := rationed(filepath.Join(group, "cpu.rt_runtime_us"), filepath.Join(group, "cpu.rt_period_us")); err != nil {
				return group, err
			}
		}
	}
	return "", nil
}

// capable says whether the process has a capability in effect.
func capable(number uint) bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return true // not known
	}
	return d[number/32].Effective&(1<<(number%32)) != 0
}
