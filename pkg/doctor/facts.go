// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net/netip"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/plan"
)

// Facts are what is known of a host. What isn't known has its zero value and is
// in Unchecked.
type Facts struct {
	// ConfigPath is the configuration file's, empty without one. ConfigNothing is that of
	// a file that has only comments. ConfigError is what is wrong with a file.
	ConfigPath    string
	ConfigNothing string
	ConfigError   string
	Routers       []config.Router // on the interfaces looked at

	Kernel     Kernel
	Clock      Clock
	Realtime   Realtime
	Machine    Machine
	Interfaces []Interface
	Daemons    []Daemon // that speak VRRP, in this network namespace
	Ruleset    *Ruleset
	// Status and Stats are the running failoverd's, nil without one.
	Status *control.Status
	Stats  *control.Stats
	// Alone says that it is Active for everything it runs, and Heard how many
	// advertisements of others it accepted within Listened.
	Alone    bool
	Heard    uint64
	Listened time.Duration

	Unchecked []Unchecked
}

// Kernel is what the kernel can do.
type Kernel struct {
	Release string // like 6.12.48-amd64
	BPF     bool   // the rest was looked at
	// Unavailable is why the XDP program can't be loaded, Unfenced why the TC
	// programs can't be.
	Unavailable, Unfenced string
	TC                    string // tcx or clsact
	BTF                   bool
	BPFFS                 bool // mounted
	JIT                   int  // net.core.bpf_jit_enable; -1: not known
}

// Clock is what the kernel tells the time by, and how much of it is stolen.
type Clock struct {
	Source    string
	Available []string
	Stolen    float64 // the share of the CPU time since boot that the hypervisor took, 0 to 1
}

// Realtime is how much time the kernel lets real-time threads have.
type Realtime struct {
	Known           bool
	Runtime, Period int // in µs, kernel.sched_rt_runtime_us and kernel.sched_rt_period_us; Runtime -1: all
}

// Machine is what the firmware says of itself.
type Machine struct {
	Vendor, Product, BIOS, Asset string
	Virtual                      bool // it runs on a hypervisor
}

// Daemon is a process that speaks VRRP.
type Daemon struct {
	Name string // keepalived, vrrpd, …
	PID  int
	Unit string // systemd's, if it is one's
	// Routers are its own, if its configuration could be read.
	Routers []config.Router
	Known   bool // it could
	Own     bool // it is the failoverd of Facts.Status
}

// Interface is a network interface.
type Interface struct {
	Name    string
	Present bool

	Index              int
	Kind               string // as rtnetlink has it; empty for a hardware device
	Driver             string
	Up, Running        bool
	Multicast, NoARP   bool // its flags
	Ethernet           bool
	Wireless           bool
	MTU                int
	LRO                bool
	BondMode           string
	Master, MasterKind string // of a port
	OneMAC             string // why it gets frames to its own MAC only; empty if it doesn't
	// Obstacles keep its routers from taking part, Doubts don't.
	Obstacles, Doubts   []plan.Finding
	Addresses           []netip.Prefix
	LinkLocal, Primary  netip.Addr // to send advertisements from, zero without
	VirtualMACs         []string   // interfaces on top of it with a virtual MAC of VRRP
	DefaultRoute        string     // the interface that IPv4's leads through, if that is another
	Twin                string     // another interface in a subnet of this one
	Settings4           map[string]int
	Settings6           map[string]int // nil without IPv6
	Bridge              *Bridge
	Receive, ReceiveWhy string   // what would be chosen, or is in use
	Occupant            string   // the XDP program of somebody else, with its mode
	OccupantMode        string   // native or generic
	Ahead               []string // TC programs of somebody else before failoverd's
	Networkd            *Networkd
	NetworkManager      bool // manages it
}

// Bridge is the bridge that an interface is, or is a port of.
type Bridge struct {
	Name              string
	Snooping, Querier bool
}

// Networkd is what systemd-networkd has been told of an interface.
type Networkd struct {
	File string // .network
	Keep string // KeepConfiguration=
}

// onInterface returns the routers of an interface. Without any configuration
// there is none.
func (f *Facts) onInterface(name string) []config.Router {
	var all []config.Router
	for _, r := range f.Routers {
		if r.Interface == name {
			all = append(all, r)
		}
	}
	return all
}
