// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net/netip"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/plan"
)

// Facts describe a host. A fact that couldn't be determined has its zero value and is listed
// in Unchecked.
type Facts struct {
	// ConfigPath is the path of the configuration file, empty without one. ConfigNothing is
	// the path of a file that has only comments. ConfigError has the mistakes of a file.
	ConfigPath    string
	ConfigNothing string
	ConfigError   string
	Routers       []config.Router // on the checked interfaces

	Kernel     Kernel
	Clock      Clock
	Realtime   Realtime
	Machine    Machine
	Interfaces []Interface
	Daemons    []Daemon // the processes that speak VRRP in this network namespace
	Ruleset    *Ruleset
	// Status and Stats are those of the running failoverd, nil if none runs.
	Status *control.Status
	Stats  *control.Stats
	// Alone is true if the running failoverd is Active for all its routers. Heard is the
	// number of advertisements that it accepted within Listened then.
	Alone    bool
	Heard    uint64
	Listened time.Duration

	Unchecked []Unchecked
}

// Kernel has the capabilities of the kernel.
type Kernel struct {
	Release string // like 6.12.48-amd64
	BPF     bool   // whether the BPF fields were determined
	// Unavailable is the reason why the XDP program can't be loaded, and Unfenced the reason
	// why the TC programs can't.
	Unavailable, Unfenced string
	TC                    string // tcx or clsact
	BTF                   bool
	BPFFS                 bool // mounted
	JIT                   int  // net.core.bpf_jit_enable; -1 if unknown
}

// Clock has the clock source of the kernel and the steal time.
type Clock struct {
	Source    string
	Available []string
	Stolen    float64 // the share of the CPU time since boot that the hypervisor took, 0 to 1
}

// Realtime has the CPU time that the kernel grants to real-time threads.
type Realtime struct {
	Known           bool
	Runtime, Period int // kernel.sched_rt_runtime_us and kernel.sched_rt_period_us, in µs; Runtime -1 is no limit
}

// Machine has the identification that the firmware gives.
type Machine struct {
	Vendor, Product, BIOS, Asset string
	Virtual                      bool // runs on a hypervisor
}

// Daemon is a process that speaks VRRP.
type Daemon struct {
	Name string // keepalived, vrrpd, …
	PID  int
	Unit string // its systemd unit, if it has one
	// Routers are those of its configuration, if Known.
	Routers []config.Router
	Known   bool // whether its configuration could be read
	Own     bool // whether it is the failoverd of Facts.Status
}

// Interface is a network interface.
type Interface struct {
	Name    string
	Present bool

	Index              int
	Kind               string // the link kind of rtnetlink; empty for a hardware device
	Driver             string
	Up, Running        bool
	Multicast, NoARP   bool // its flags
	Ethernet           bool
	Wireless           bool
	MTU                int
	LRO                bool
	BondMode           string
	Master, MasterKind string // if it is a port
	OneMAC             string // why it gets only frames to its own MAC; empty if it gets others too
	// Obstacles keep its routers in Initialize, Doubts don't.
	Obstacles, Doubts   []plan.Finding
	Addresses           []netip.Prefix
	LinkLocal, Primary  netip.Addr // source addresses of advertisements; the zero value without one
	VirtualMACs         []string   // interfaces on top of it that have a virtual MAC of VRRP
	DefaultRoute        string     // the interface of the IPv4 default route, if it is another one
	Twin                string     // another interface in a subnet of this one
	Settings4           map[string]int
	Settings6           map[string]int // nil without IPv6
	Bridge              *Bridge
	Receive, ReceiveWhy string   // the mode of receiving, in use or expected
	Occupant            string   // the XDP program of another owner, with its mode
	OccupantMode        string   // native or generic
	Ahead               []string // TC programs of other owners that run before failoverd's
	Networkd            *Networkd
	NetworkManager      bool // whether NetworkManager manages it
}

// Bridge describes an interface that is a bridge, or the bridge of a port.
type Bridge struct {
	Name              string
	Snooping, Querier bool
}

// Networkd has the configuration of systemd-networkd for an interface.
type Networkd struct {
	File string // .network
	Keep string // KeepConfiguration=
}

// onInterface returns the routers of an interface.
func (f *Facts) onInterface(name string) []config.Router {
	var all []config.Router
	for _, r := range f.Routers {
		if r.Interface == name {
			all = append(all, r)
		}
	}
	return all
}
