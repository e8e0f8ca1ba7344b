// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
)

func (j *judge) configuration() {
	switch {
	case j.ConfigError != "":
		j.bad(Problem, "configuration", "", j.ConfigError, "correct the file; failoverctl check shows each mistake with its place")
	case j.ConfigNothing != "":
		j.bad(Warning, "configuration", "", "no router is configured yet: "+j.ConfigNothing+" has only comments", "add a router to it (failoverctl reference shows every key)")
	case j.ConfigPath != "":
		j.good("configuration", "", "%s is valid", j.ConfigPath)
	case len(j.Interfaces) == 0:
		j.bad(Warning, "configuration", "", "there is no configuration file "+config.DefaultPath+", so no interface was checked",
			"write one (failoverctl reference shows every key), or name the interfaces with --iface")
	}
}

func (j *judge) kernel() {
	k := j.Kernel
	if !k.BPF {
		return
	}
	switch {
	case k.Unavailable != "":
		j.bad(Warning, "bpf", "", "the XDP program can't be loaded: "+k.Unavailable+"; failoverd receives by an AF_PACKET socket instead, and there is no fence against a hung Active",
			"run Linux 5.15 or newer with CONFIG_BPF_SYSCALL, CONFIG_XDP_SOCKETS, CONFIG_NET_CLS_BPF and CONFIG_DEBUG_INFO_BTF; this is "+k.Release)
	case k.Unfenced != "":
		j.bad(Warning, "bpf", "", "the TC programs can't be loaded: "+k.Unfenced+"; the virtual MAC needs a macvlan, and there is no fence against a hung Active",
			"run Linux 5.15 or newer with CONFIG_NET_CLS_ACT and CONFIG_NET_CLS_BPF; this is "+k.Release)
	default:
		j.good("bpf", "", "Linux %s loads all programs, and attaches the TC programs by %s", k.Release, k.TC)
	}
	if k.Unavailable == "" && k.JIT == 0 {
		j.bad(Warning, "bpf-jit", "", "net.core.bpf_jit_enable is 0: the kernel interprets the programs for each packet, which is slow", "enable the compiler",
			"sysctl -w net.core.bpf_jit_enable=1")
	}
	if k.Unavailable == "" && !k.BPFFS {
		j.good("bpffs", "", "there is no BPF file system on /sys/fs/bpf; failoverd mounts one when it runs")
	}
	if !k.BTF {
		j.good("btf", "", "there is no /sys/kernel/btf/vmlinux; failoverd doesn't need it, but bpftool can't show kernel types without it")
	}
}

// fastClocks are the clock sources that are cheap to read, most of them without a system call.
var fastClocks = []string{"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "timebase", "stp", "tod", "riscv_clocksource", "xen"}

// stealLimit is the share of the CPU time that the hypervisor may take without a warning.
const stealLimit = 0.05

func (j *judge) clock() {
	c := j.Clock
	switch {
	case c.Source == "":
	case slices.Contains(fastClocks, c.Source):
		j.good("clock", "", "the clock source is %s", c.Source)
	default:
		remedy, commands := "make the firmware or the hypervisor offer a constant TSC, and if it is constant, add the kernel parameter tsc=reliable", []string(nil)
		for _, better := range fastClocks {
			if slices.Contains(c.Available, better) {
				remedy = "use " + better + ", which is available; if dmesg says that the kernel found it unstable, keep the current one"
				commands = []string{"echo " + better + " > /sys/devices/system/clocksource/clocksource0/current_clocksource"}
				break
			}
		}
		j.bad(Warning, "clock", "", "the clock source is "+c.Source+", which is slow to read or coarse: timers fire late", remedy, commands...)
	}
	if c.Stolen > stealLimit {
		fast := ""
		for _, r := range j.Routers {
			if r.Interval < time.Second {
				fast = fmt.Sprintf(", and %s has an interval of %v", r.Name, r.Interval)
				break
			}
		}
		j.bad(Warning, "steal", "", fmt.Sprintf("the hypervisor took %.0f %% of the CPU time since boot%s: advertisements are late, and Backups take over without need", 100*c.Stolen, fast),
			"give the machine dedicated CPUs, or use an interval of 1s or longer")
	}
}

// realtime checks whether the event loop runs before other programs. It uses the status of
// the running daemon, or the limits of the kernel if none runs.
func (j *judge) realtime() {
	r := j.Realtime
	if r.Known && r.Runtime >= 0 && r.Runtime*10 < r.Period {
		j.bad(Warning, "realtime", "", fmt.Sprintf("the kernel lets real-time threads run for %d of %d µs: failoverd's event loop isn't real-time, and on a busy host its advertisements may be late", r.Runtime, r.Period),
			"allow them most of the time, or accept this with realtime: false", "sysctl -w kernel.sched_rt_runtime_us=950000")
		return
	}
	if j.Status == nil || j.Status.Realtime.Wanted == "" {
		return
	}
	switch s := j.Status.Realtime; {
	case s.Wanted == string(config.RealtimeNone):
		j.good("realtime", "", "failoverd isn't real-time, as configured; on a busy host its advertisements may be late")
	case s.Is == string(config.RealtimeNone):
		j.bad(Warning, "realtime", "", "failoverd isn't real-time: "+s.Problem+"; on a busy host its advertisements may be late",
			"grant what is missing and run failoverctl reload, or accept this with realtime: false")
	case s.Problem != "":
		j.bad(Warning, "realtime", "", "failoverd is real-time, with a limitation: "+s.Problem+"; it may be late on a host that is short of memory", "grant what is missing and restart failoverd")
	case r.Known && r.Runtime < 0:
		j.good("realtime", "", "failoverd's event loop is real-time; failoverd limits its CPU time itself, because kernel.sched_rt_runtime_us is -1")
	default:
		j.good("realtime", "", "failoverd's event loop is real-time")
	}
}

const (
	noMulticast = "the network delivers neither multicast nor frames of a virtual MAC"
	elsewhere   = "advertise to unicast peers, use virtual MAC mode off, and move the address by a hook that calls the provider's API"
)

// clouds are recognized by words of the firmware. Their networks can't be configured for VRRP.
var clouds = []struct{ word, name, remedy string }{
	{"amazon ec2", "Amazon EC2", elsewhere + " (aws ec2 assign-private-ip-addresses, or associate-address)"},
	{"google", "Google Compute Engine", elsewhere + " (an alias IP range or a route)"},
	{"7783-7084-3265-9085-8269-3286-77", "Microsoft Azure", elsewhere + " (the secondary IP configuration of the NIC)"},
	{"digitalocean", "DigitalOcean", elsewhere + " (a reserved IP)"},
	{"hetzner", "Hetzner Cloud", elsewhere + " (hcloud floating-ip assign, or an alias IP)"},
	{"oraclecloud", "Oracle Cloud", elsewhere + " (a secondary private IP of the VNIC)"},
	{"alibaba cloud", "Alibaba Cloud", elsewhere + " (a HaVip)"},
}

// hypervisors are recognized by words of the firmware. They can be configured to pass frames
// of the virtual MAC.
var hypervisors = []struct{ word, name, remedy string }{
	{"vmware", "VMware", "in the port group, allow forged transmits, and promiscuous mode or MAC learning"},
	{"microsoft", "Hyper-V", "on its host: Set-VMNetworkAdapter -VMName NAME -MacAddressSpoofing On"},
	{"openstack", "OpenStack", "allow the addresses and virtual MACs as allowed_address_pairs of the port, and protocol 112 in its security group"},
	{"xen", "Xen", "unlock the virtual interface (xe vif-param-set locking-mode=unlocked)"},
	{"innotek", "VirtualBox", "set the adapter's promiscuous mode to allow all"},
	{"parallels", "Parallels", "allow the adapter promiscuous mode"},
}

func (j *judge) hypervisor() {
	m := j.Machine
	said := strings.ToLower(strings.Join([]string{m.Vendor, m.Product, m.BIOS, m.Asset}, " "))
	for _, c := range clouds {
		if strings.Contains(said, c.word) && (m.Virtual || c.word == "amazon ec2") {
			j.bad(Problem, "hypervisor", "", "this is "+c.name+": "+noMulticast, c.remedy)
			return
		}
	}
	if !m.Virtual {
		return
	}
	uses := len(j.Routers) == 0 || slices.ContainsFunc(j.Routers, func(r config.Router) bool { return r.VirtualMAC != config.VirtualMACOff })
	for _, h := range hypervisors {
		switch {
		case !strings.Contains(said, h.word):
		case uses:
			j.bad(Warning, "hypervisor", "", "this is a guest of "+h.name+", which drops frames of the virtual MAC unless it is configured to pass them; a guest can't see that setting",
				h.remedy+"; or use virtual MAC mode off on all hosts")
			return
		default:
			j.good("hypervisor", "", "this is a guest of %s; no virtual MAC is used that it could filter", h.name)
			return
		}
	}
	name := strings.TrimSpace(m.Vendor + " " + m.Product)
	if name == "" {
		name = "an unknown hypervisor"
	}
	j.good("hypervisor", "", "this is a guest of %s; if it filters MACs (libvirt's clean-traffic, Proxmox's MAC filter), it must pass 00:00:5e:00:01:* and 00:00:5e:00:02:*", name)
}
