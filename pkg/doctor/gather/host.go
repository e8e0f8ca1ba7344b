// SPDX-License-Identifier: Apache-2.0

package gather

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/doctor"
)

func (g *gatherer) kernel() {
	k := &g.Kernel
	k.Release = line("/proc/sys/kernel/osrelease")
	_, err := os.Stat("/sys/kernel/btf/vmlinux")
	k.BTF = err == nil
	var st unix.Statfs_t
	k.BPFFS = unix.Statfs("/sys/fs/bpf", &st) == nil && st.Type == unix.BPF_FS_MAGIC
	if k.JIT, err = strconv.Atoi(line("/proc/sys/net/core/bpf_jit_enable")); err != nil {
		k.JIT = -1
	}
	if !g.privileged {
		g.skip("bpf", needsRoot)
		return
	}
	if g.inspection, err = datapath.Inspect(); err != nil {
		g.skip("bpf", err.Error())
		return
	}
	k.BPF, k.TC = true, g.inspection.TC
	if err := g.inspection.Unavailable; err != nil {
		k.Unavailable = firstLine(err)
	}
	if err := g.inspection.Unfenced; err != nil {
		k.Unfenced = firstLine(err)
	}
}

// firstLine returns an error's text without the verifier's log.
func firstLine(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return first
}

func (g *gatherer) clock() {
	const dir = "/sys/devices/system/clocksource/clocksource0"
	g.Clock.Source = line(dir, "current_clocksource")
	g.Clock.Available = strings.Fields(line(dir, "available_clocksource"))
	// cpu user nice system idle iowait irq softirq steal …
	first, _, _ := strings.Cut(line("/proc/stat"), "\n")
	fields := strings.Fields(first)
	if len(fields) < 9 {
		return
	}
	var all, stolen float64
	for n, field := range fields[1:9] {
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return
		}
		if all += ticks; n == 7 {
			stolen = ticks
		}
	}
	if all > 0 {
		g.Clock.Stolen = stolen / all
	}
}

func (g *gatherer) realtime() {
	const dir = "/proc/sys/kernel"
	most, err := strconv.Atoi(line(dir, "sched_rt_runtime_us"))
	period, e := strconv.Atoi(line(dir, "sched_rt_period_us"))
	if err != nil || e != nil {
		g.skip("realtime", "kernel.sched_rt_runtime_us or sched_rt_period_us can't be read")
		return
	}
	g.Realtime = doctor.Realtime{Known: true, Runtime: most, Period: period}
}

func (g *gatherer) machine() {
	const dir = "/sys/class/dmi/id"
	m := &g.Machine
	m.Vendor, m.Product = line(dir, "sys_vendor"), line(dir, "product_name")
	m.BIOS, m.Asset = line(dir, "bios_vendor"), line(dir, "chassis_asset_tag")
	m.Virtual = line("/sys/hypervisor/type") != ""
	for l := range strings.Lines(line("/proc/cpuinfo")) {
		if flags, ok := strings.CutPrefix(l, "flags"); ok {
			m.Virtual = m.Virtual || strings.Contains(flags+" ", " hypervisor ")
			break
		}
	}
	// Some CPUs have no such flag, like those of ARM. The firmware names the hypervisor then.
	for _, word := range []string{"QEMU", "KVM", "Virtual", "VMware", "OpenStack"} {
		m.Virtual = m.Virtual || strings.Contains(m.Vendor+m.Product, word)
	}
}
