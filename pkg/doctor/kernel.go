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
		j.bad(Problem, "configuration", "", j.ConfigError, "mend the file; failoverctl check shows each mistake with its place")
	case j.ConfigNothing != "":
		j.bad(Warning, "configuration", "", "nothing is configured yet: "+j.ConfigNothing+" has only comments", "describe a router in it (failoverctl reference shows every key)")
	case j.ConfigPath != "":
		j.good("configuration", "", "%s is good", j.ConfigPath)
	case len(j.Interfaces) == 0:
		j.bad(Warning, "configuration", "", "there is no configuration file "+config.DefaultPath+", so no interface was looked at",
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
		j.bad(Warning, "bpf", "", "the XDP program can't be loaded: "+k.Unavailable+"; an AF_PACKET socket receives instead, and nothing holds back a hung Active",
			"run Linux 5.15 or newer with CONFIG_BPF_SYSCALL, CONFIG_XDP_SOCKETS, CONFIG_NET_CLS_BPF and CONFIG_DEBUG_INFO_BTF; this is "+k.Release)
	case k.Unfenced != "":
		j.bad(Warning, "bpf", "", "the TC programs can't be loaded: "+k.Unfenced+"; the virtual MAC needs a macvlan, and nothing holds back a hung Active",
			"run Linux 5.15 or newer with CONFIG_NET_CLS_ACT and CONFIG_NET_CLS_BPF; this is "+k.Release)
	default:
		j.good("bpf", "", "Linux %s loads all programs; TC programs are attached with %s", k.Release, k.TC)
	}
	if k.Unavailable == "" && k.JIT == 0 {
		j.bad(Warning, "bpf-jit", "", "net.core.bpf_jit_enable is 0: the programs are interpreted, for each packet", "switch the compiler on",
			"sysctl -w net.core.bpf_jit_enable=1")
	}
	if k.Unavailable == "" && !k.BPFFS {
		j.good("bpffs", "", "no BPF file system on /sys/fs/bpf: failoverd mounts one while it runs")
	}
	if !k.BTF {
		j.good("btf", "", "no /sys/kernel/btf/vmlinux: bpftool can't show what kernel types hold, failoverd doesn't need it")
	}
}

// fastClocks can be read without leaving user space, or nearly so.
var fastClocks = []string{"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "timebase", "stp", "tod", "riscv_clocksource", "xen"}

// stealLimit is how much of the CPU time may be taken by the hypervisor.
const stealLimit = 0.05

func (j *judge) clock() {
	c := j.Clock
	switch {
	case c.Source == "":
	case slices.Contains(fastClocks, c.Source):
		j.good("clock", "", "the clock source is %s", c.Source)
	default:
		remedy, commands := "let the firmware or the hypervisor offer a constant TSC, and have it with the kernel parameter tsc=reliable if it is one", []string(nil)
		for _, better := range fastClocks {
			if slices.Contains(c.Available, better) {
				remedy = "use " + better + ", which is there; the kernel may have left it for being unstable: see dmesg"
				commands = []string{"echo " + better + " > /sys/devices/system/clocksource/clocksource0/current_clocksource"}
				break
			}
		}
		j.bad(Warning, "clock", "", "the clock source is "+c.Source+", which takes microseconds to read or is coarse: timers fire late", remedy, commands...)
	}
	if c.Stolen > stealLimit {
		fast := ""
		for _, r := range j.Routers {
			if r.Interval < time.Second {
				fast = fmt.Sprintf(", and %s has an interval of %v", r.Name, r.Interval)
				break
			}
		}
		j.bad(Warning, "steal", "", fmt.Sprintf("the hypervisor took %.0f %% of the CPU time since boot%s: advertisements leave late, and Backups take over for nothing", 100*c.Stolen, fast),
			"give the machine CPUs of its own, or use an interval of 1s or longer")
	}
}

// realtime judges whether the event loop comes before other programs: by what the running
// daemon says of itself, and otherwise by what the kernel allows.
func (j *judge) realtime() {
	r := j.Realtime
	if r.Known && r.Runtime >= 0 && r.Runtime*10 < r.Period {
		j.bad(Warning, "realtime", "", fmt.Sprintf("the kernel lets real-time threads run for %d of %d µs: failoverd's event loop isn't real-time, and on a busy host its advertisements may be late", r.Runtime, r.Period),
			"let them run for most of the time, or accept it with realtime: false", "sysctl -w kernel.sched_rt_runtime_us=950000")
		return
	}
	if j.Status == nil || j.Status.Realtime.Wanted == "" {
		return
	}
	switch s := j.Status.Realtime; {
	case s.Wanted == string(config.RealtimeNone):
		j.good("realtime", "", "failoverd isn't real-time, as the configuration wants; on a busy host its advertisements may be late")
	case s.Is == string(config.RealtimeNone):
		j.bad(Warning, "realtime", "", "failoverd isn't real-time: "+s.Problem+"; on a busy host its advertisements may be late",
			"grant what is missing and run failoverctl reload, or accept it with realtime: false")
	case s.Problem != "":
		j.bad(Warning, "realtime", "", "failoverd is real-time, but: "+s.Problem+"; a host short of memory may keep it waiting", "grant what is missing and restart failoverd")
	case r.Known && r.Runtime < 0:
		j.good("realtime", "", "failoverd's event loop is real-time; it bounds its time itself, because kernel.sched_rt_runtime_us is -1")
	default:
		j.good("realtime", "", "failoverd's event loop is real-time")
	}
}

const (
	noMulticast = "the network delivers no multicast and no MAC but the assigned one"
	elsewhere   = "advertise to unicast peers, use virtual MAC mode off, and have a hook move the address by the provider's interface"
)

// clouds are found by what the firmware says.
var clouds = []struct{ word, name, remedy string }{
	{"amazon ec2", "Amazon EC2", elsewhere + " (aws ec2 assign-private-ip-addresses, or associate-address)"},
	{"google", "Google Compute Engine", elsewhere + " (an alias IP range or a route)"},
	{"7783-7084-3265-9085-8269-3286-77", "Microsoft Azure", elsewhere + " (the secondary IP configuration of the NIC)"},
	{"digitalocean", "DigitalOcean", elsewhere + " (a reserved IP)"},
	{"hetzner", "Hetzner Cloud", elsewhere + " (hcloud floating-ip assign, or an alias IP)"},
	{"oraclecloud", "Oracle Cloud", elsewhere + " (a secondary private IP of the VNIC)"},
	{"alibaba cloud", "Alibaba Cloud", elsewhere + " (a HaVip)"},
}

// hypervisors may filter, and let it be allowed.
var hypervisors = []struct{ word, name, remedy string }{
	{"vmware", "VMware", "allow forged transmits, and promiscuous mode or MAC learning, for the port group"},
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
			j.bad(Warning, "hypervisor", "", "this is a guest of "+h.name+", which drops frames of the virtual MAC unless it was told to let them through; that can't be seen from inside",
				h.remedy+"; or use virtual MAC mode off on all hosts")
			return
		default:
			j.good("hypervisor", "", "this is a guest of %s; no virtual MAC is used that it could filter", h.name)
			return
		}
	}
	name := strings.TrimSpace(m.Vendor + " " + m.Product)
	if name == "" {
		name = "a hypervisor that doesn't say its name"
	}
	j.good("hypervisor", "", "this is a guest of %s; if it filters MACs (libvirt's clean-traffic, Proxmox's MAC filter) let 00:00:5e:00:01:* and 00:00:5e:00:02:* through", name)
}
