// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/plan"
)

// healthy are the facts of a host on which nothing is wrong.
func healthy() *Facts {
	web := config.Router{
		Name: "web", Interface: "eth0", VRID: 51, Version: 3, Priority: 100, Interval: time.Second, Accept: true, VirtualMAC: config.VirtualMACAuto,
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24"), netip.MustParsePrefix("2001:db8::10/64")},
	}
	return &Facts{
		ConfigPath: config.DefaultPath,
		Routers:    []config.Router{web},
		Kernel:     Kernel{Release: "6.12.0", BPF: true, TC: "tcx", BTF: true, BPFFS: true, JIT: 1},
		Clock:      Clock{Source: "tsc", Available: []string{"tsc", "hpet"}},
		Machine:    Machine{Vendor: "Dell Inc.", Product: "PowerEdge"},
		Interfaces: []Interface{{
			Name: "eth0", Present: true, Index: 2, Up: true, Running: true, Multicast: true, Ethernet: true, MTU: 1500, Driver: "igb",
			Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}, Primary: netip.MustParseAddr("192.0.2.2"), LinkLocal: netip.MustParseAddr("fe80::2"),
			Settings4: map[string]int{}, Settings6: map[string]int{}, Receive: "xdp-native", ReceiveWhy: "XDP in the driver",
		}},
		Ruleset: new(Ruleset),
	}
}

func TestHealthy(t *testing.T) {
	r := Examine(healthy())
	if r.Worst() != OK || len(r.Findings) < 6 {
		t.Errorf("found %+v", r.Findings)
	}
	empty := healthy()
	empty.Routers[0].Addresses = nil
	if r := Examine(empty); r.Worst() != OK {
		t.Errorf("a router without addresses: %+v", r.Findings)
	}
	without := healthy()
	without.Routers = nil // with --iface, without a configuration
	if r := Examine(without); r.Worst() != OK {
		t.Errorf("without a configuration: %+v", r.Findings)
	}
}

// Each thing that is wrong is found, with a remedy.
func TestFindings(t *testing.T) {
	type facts = func(f *Facts, i *Interface, r *config.Router)
	running := func(r control.Router) *control.Status {
		r.Name, r.Interface, r.Family, r.VRID = "web", "eth0", "ipv4", 51
		return &control.Status{PID: 7, Routers: []control.Router{r}}
	}
	keepalived := func(name string, vrid int, known bool) []Daemon {
		d := Daemon{Name: "keepalived", PID: 99, Unit: "keepalived.service", Known: known}
		if known {
			d.Routers = []config.Router{{Interface: name, VRID: vrid, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")}}}
		}
		return []Daemon{d}
	}
	realtime := func(wanted, is, problem string) facts {
		return func(f *Facts, _ *Interface, _ *config.Router) {
			f.Status = &control.Status{Realtime: control.Realtime{Wanted: wanted, Is: is, Problem: problem}}
		}
	}
	for name, c := range map[string]struct {
		change facts
		level  Level
		check  string
		says   string // part of the cause, the remedy or a command
	}{
		"a file of comments": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.ConfigPath, f.ConfigNothing = "", "/etc/failoverd/failoverd.yaml"
		}, Warning, "configuration", "failoverctl reference"},
		"a bad file":         {func(f *Facts, _ *Interface, _ *config.Router) { f.ConfigError = "x:1:1: unknown key" }, Problem, "configuration", "failoverctl check"},
		"nothing to look at": {func(f *Facts, _ *Interface, _ *config.Router) { f.ConfigPath, f.Interfaces = "", nil }, Warning, "configuration", "--iface"},
		"no BPF":             {func(f *Facts, _ *Interface, _ *config.Router) { f.Kernel.Unavailable = "function not implemented" }, Warning, "bpf", "AF_PACKET"},
		"no TC programs":     {func(f *Facts, _ *Interface, _ *config.Router) { f.Kernel.Unfenced = "invalid argument" }, Warning, "bpf", "macvlan"},
		"no JIT":             {func(f *Facts, _ *Interface, _ *config.Router) { f.Kernel.JIT = 0 }, Warning, "bpf-jit", "bpf_jit_enable=1"},
		"a slow clock":       {func(f *Facts, _ *Interface, _ *config.Router) { f.Clock.Source = "hpet" }, Warning, "clock", "echo tsc >"},
		"no better clock":    {func(f *Facts, _ *Interface, _ *config.Router) { f.Clock = Clock{Source: "acpi_pm"} }, Warning, "clock", "firmware"},
		"no time for it": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.Realtime = Realtime{Known: true, Runtime: 0, Period: 1000000}
		}, Warning, "realtime", "sched_rt_runtime_us=950000"},
		"not permitted":     {realtime("auto", "false", "operation not permitted; grant CAP_SYS_NICE"), Warning, "realtime", "grant CAP_SYS_NICE"},
		"memory not locked": {realtime("auto", "auto", "lock the memory: grant CAP_IPC_LOCK"), Warning, "realtime", "CAP_IPC_LOCK"},
		"not wanted":        {realtime("false", "false", ""), OK, "realtime", "as configured"},
		"real-time":         {realtime("auto", "auto", ""), OK, "realtime", "is real-time"},
		"stolen time":       {func(f *Facts, _ *Interface, r *config.Router) { f.Clock.Stolen, r.Interval = 0.2, 100*time.Millisecond }, Warning, "steal", "web has an interval of 100ms"},
		"Amazon":            {func(f *Facts, _ *Interface, _ *config.Router) { f.Machine = Machine{Vendor: "Amazon EC2"} }, Problem, "hypervisor", "unicast"},
		"Azure": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.Machine = Machine{Vendor: "Microsoft Corporation", Asset: "7783-7084-3265-9085-8269-3286-77", Virtual: true}
		}, Problem, "hypervisor", "Azure"},
		"VMware": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.Machine = Machine{Vendor: "VMware, Inc.", Virtual: true}
		}, Warning, "hypervisor", "forged transmits"},
		"Hyper-V": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.Machine = Machine{Vendor: "Microsoft Corporation", Virtual: true}
		}, Warning, "hypervisor", "MacAddressSpoofing"},
		"keepalived's VRID": {func(f *Facts, _ *Interface, _ *config.Router) { f.Daemons = keepalived("eth0", 51, true) }, Problem, "daemon", "systemctl disable --now keepalived.service"},
		"unknown VRIDs":     {func(f *Facts, _ *Interface, _ *config.Router) { f.Daemons = keepalived("", 0, false) }, Warning, "daemon", "process 99"},
		"any VRID with --iface": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.Routers, f.Daemons = nil, keepalived("eth0", 7, true)
		}, Problem, "daemon", "VRID 7"},
		"a macvlan left": {func(_ *Facts, i *Interface, _ *config.Router) { i.VirtualMACs = []string{"vrrp.51"} }, Warning, "daemon", "ip link del vrrp.51"},
		"no interface":   {func(_ *Facts, i *Interface, _ *config.Router) { i.Present = false }, Problem, "interface", "waits"},
		"it is down":     {func(_ *Facts, i *Interface, _ *config.Router) { i.Up = false }, Problem, "interface", "ip link set eth0 up"},
		"no carrier":     {func(_ *Facts, i *Interface, _ *config.Router) { i.Running = false }, Problem, "interface", "cable"},
		"no Ethernet":    {func(_ *Facts, i *Interface, _ *config.Router) { i.Ethernet = false }, Problem, "interface", "Ethernet"},
		"no multicast":   {func(_ *Facts, i *Interface, _ *config.Router) { i.Multicast = false }, Problem, "interface", "multicast on"},
		"no ARP":         {func(_ *Facts, i *Interface, _ *config.Router) { i.NoARP = true }, Problem, "interface", "arp on"},
		"a port":         {func(_ *Facts, i *Interface, _ *config.Router) { i.Master, i.MasterKind = "br0", "bridge" }, Problem, "interface", "run the router on br0"},
		"wireless":       {func(_ *Facts, i *Interface, _ *config.Router) { i.Wireless = true }, Warning, "interface", "virtual MAC mode off"},
		"ipvlan": {func(_ *Facts, i *Interface, r *config.Router) {
			i.OneMAC, r.VirtualMAC = "eth0 is an ipvlan", config.VirtualMACBPF
		}, Problem, "interface", "mode auto or off"},
		"an address elsewhere": {func(_ *Facts, i *Interface, _ *config.Router) {
			i.Obstacles = []plan.Finding{{Code: plan.AddressElsewhere, Text: "on eth1", Remedy: "remove it there"}}
		}, Problem, "address", "remove it there"},
		"a doubt": {func(_ *Facts, i *Interface, _ *config.Router) {
			i.Doubts = []plan.Finding{{Code: plan.HostPrefix, Text: "alone", Remedy: "give it the length"}}
		}, Warning, "address", "give it the length"},
		"a bond that rewrites": {func(_ *Facts, i *Interface, _ *config.Router) { i.BondMode = "balance-alb" }, Warning, "interface", "active-backup"},
		"a small MTU":          {func(_ *Facts, i *Interface, r *config.Router) { i.MTU, r.Addresses = 1280, many(80) }, Problem, "mtu", "1344"},
		"another's XDP": {func(_ *Facts, i *Interface, _ *config.Router) {
			i.Occupant, i.OccupantMode = "filter (number 5)", "native"
		}, Warning, "xdp", "ip link set dev eth0 xdpdrv off"},
		"LRO":                    {func(_ *Facts, i *Interface, _ *config.Router) { i.LRO = true }, Warning, "offload", "ethtool -K eth0 lro off"},
		"no address of its own":  {func(_ *Facts, i *Interface, _ *config.Router) { i.Primary = netip.Addr{} }, Problem, "address", "ip addr add"},
		"no link-local address":  {func(_ *Facts, i *Interface, _ *config.Router) { i.LinkLocal = netip.Addr{} }, Problem, "address", "IPv6 link-local"},
		"a virtual address left": {func(_ *Facts, i *Interface, r *config.Router) { i.Addresses = r.Addresses }, Problem, "address", "failoverd --cleanup"},
		"IPv6 off":               {func(_ *Facts, i *Interface, _ *config.Router) { i.Settings6["disable_ipv6"] = 1 }, Problem, "ipv6", "disable_ipv6=0"},
		"strict, two ways":       {func(_ *Facts, i *Interface, _ *config.Router) { i.Settings4["rp_filter"], i.DefaultRoute = 1, "eth1" }, Warning, "rp_filter", "sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
		"strict, a twin":         {func(_ *Facts, i *Interface, _ *config.Router) { i.Settings4["rp_filter"], i.Twin = 1, "eth1" }, Warning, "rp_filter", "same network"},
		"no ARP answers":         {func(_ *Facts, i *Interface, _ *config.Router) { i.Settings4["arp_ignore"] = 8 }, Problem, "arp", "arp_ignore=1"},
		"no ARP answers for /32": {func(_ *Facts, i *Interface, r *config.Router) {
			i.Settings4["arp_ignore"] = 2
			r.Addresses[0] = netip.MustParsePrefix("192.0.2.10/32")
		}, Problem, "arp", "prefix length"},
		"arp_filter and a twin": {func(_ *Facts, i *Interface, _ *config.Router) { i.Settings4["arp_filter"], i.Twin = 1, "eth1" }, Warning, "arp", "arp_filter=0"},
		"gratuitous ARP dropped": {func(_ *Facts, i *Interface, r *config.Router) {
			i.Settings4["drop_gratuitous_arp"], r.VirtualMAC = 1, config.VirtualMACOff
		}, Warning, "arp", "drop_gratuitous_arp=0"},
		"unsolicited NA dropped": {func(_ *Facts, i *Interface, r *config.Router) {
			i.Settings6["drop_unsolicited_na"], r.VirtualMAC = 1, config.VirtualMACOff
		}, Warning, "ndp", "drop_unsolicited_na=0"},
		"a gateway that isn't": {func(_ *Facts, _ *Interface, r *config.Router) { r.Accept = false }, Problem, "forwarding", "ip_forward=1"},
		"a silent bridge":      {func(_ *Facts, i *Interface, _ *config.Router) { i.Bridge = &Bridge{Name: "br0", Snooping: true} }, Warning, "multicast", "mcast_querier 1"},
		"networkd": {func(_ *Facts, i *Interface, _ *config.Router) {
			i.Networkd = &Networkd{File: "/run/systemd/network/10-netplan-eth0.network"}
		}, Warning, "networkd", "KeepConfiguration=static"},
		"NetworkManager, macvlan": {func(_ *Facts, i *Interface, r *config.Router) {
			i.NetworkManager, r.VirtualMAC = true, config.VirtualMACMacvlan
		}, Warning, "networkmanager", "unmanaged-devices"},
		"egress": {func(f *Facts, _ *Interface, _ *config.Router) { f.Ruleset = onDevice(t, "egress") }, Problem, "firewall", "nft insert rule netdev t c 'meta l4proto 112 accept'"},
		"output and a peer": {func(f *Facts, _ *Interface, r *config.Router) {
			f.Ruleset = table(t, "ip", "output", "drop")
			r.Unicast.Peers = []config.Peer{config.NewPeer(netip.MustParseAddr("192.0.2.3"))}
		}, Problem, "firewall", `nft insert rule ip t c 'oifname "eth0" meta l4proto 112 accept'`},
		"an Authentication Header": {func(f *Facts, _ *Interface, r *config.Router) {
			f.Ruleset, r.Version, r.Authentication.Type = onDevice(t, "egress"), 2, auth.Header
		}, Problem, "firewall", "nft insert rule netdev t c 'meta l4proto 51 accept'"},
		"ingress": {func(f *Facts, _ *Interface, _ *config.Router) { f.Ruleset = onDevice(t, "ingress") }, Warning, "firewall", "in front of it"},
		"input and keepalived": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.Daemons, f.Ruleset = keepalived("eth0", 9, true), table(t, "ip", "input", "drop")
		}, Warning, "firewall", `nft insert rule ip t c 'iifname "eth0" meta l4proto 112 accept'`},
		"ARP dropped": {func(f *Facts, _ *Interface, _ *config.Router) { f.Ruleset = table(t, "arp", "input", "drop") }, Problem, "firewall", "nft insert rule arp t c accept"},
		"ND dropped":  {func(f *Facts, _ *Interface, _ *config.Router) { f.Ruleset = table(t, "ip6", "input", "drop") }, Problem, "firewall", "nd-neighbor-solicit"},
		"MLD dropped": {func(f *Facts, _ *Interface, _ *config.Router) { f.Ruleset = table(t, "ip6", "output", "drop") }, Warning, "firewall", "mld2-listener-report"},
		"a router that waits": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.Status = running(control.Router{Waiting: "eth0 has no carrier"})
		}, Problem, "status", "no carrier"},
		"no fence": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.Status = running(control.Router{Receive: "af_packet"})
		}, Warning, "fence", "goes on answering"},
		"another's TC program": {func(_ *Facts, i *Interface, _ *config.Router) {
			i.Ahead, i.Receive = []string{"from_netdev (number 5)"}, "tc"
		}, Warning, "tc", "xdp_mode: generic"},
		"another Active": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.Status, f.Alone, f.Heard, f.Listened = running(control.Router{Fence: "tcx"}), true, 3, 3*time.Second
		}, Problem, "rival", "tcpdump"},
		"a slow Active": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.Status = running(control.Router{Fence: "tcx", Problems: []control.Problem{{Kind: control.SlowActive, Text: "follows 192.0.2.77", Remedy: "set max_interval"}}})
		}, Problem, "slow_active", "max_interval"},
		"maintenance": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.Status = running(control.Router{Name: "web", Maintenance: true, Waiting: "check web is down"})
		}, Warning, "status", "failoverctl maintenance off web"},
		"a hook that failed": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.Status = running(control.Router{Name: "web", Hooks: []control.Hook{{Setting: "notify", Command: "/n", Last: &control.HookRun{Outcome: "failed", Text: "exit status 1"}}}})
		}, Warning, "hook", "exit status 1"},
		"a hook that can't be run": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.Status = running(control.Router{Name: "web", Hooks: []control.Hook{{Setting: "notify", Command: "/n", Problem: "there is no /n"}}})
		}, Warning, "hook", "there is no /n"},
		"a FIFO without a reader": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.Status = running(control.Router{})
			f.Status.FIFO = &control.FIFO{Path: "/run/f", Lost: 3}
		}, Warning, "hook", "/run/f lost 3 lines"},
		"another interval": {func(f *Facts, _ *Interface, _ *config.Router) {
			f.Status, f.Stats = running(control.Router{Fence: "tcx"}), &control.Stats{Global: []control.Counter{{Name: "interval_errors", Value: 3}}}
		}, Warning, "heard", "same interval"},
	} {
		t.Run(name, func(t *testing.T) {
			f := healthy()
			var i *Interface
			if len(f.Interfaces) > 0 {
				i = &f.Interfaces[0]
			}
			c.change(f, i, &f.Routers[0])
			r := Examine(f)
			n := slices.IndexFunc(r.Findings, func(f Finding) bool {
				return f.Level == c.level && f.Check == c.check && strings.Contains(strings.Join(append([]string{f.Cause, f.Remedy}, f.Commands...), "\n"), c.says)
			})
			if n < 0 {
				t.Fatalf("not found among %+v", r.Findings)
			}
			for _, f := range r.Findings {
				if (f.Level == OK) != (f.Remedy == "") {
					t.Errorf("only a finding of level OK has no remedy: %+v", f)
				}
				for _, command := range f.Commands {
					if len(command) > 90 {
						t.Errorf("it doesn't fit a line: %s", command)
					}
				}
			}
			if !slices.IsSortedFunc(r.Findings, func(a, b Finding) int { return int(b.Level - a.Level) }) {
				t.Errorf("the worst isn't first: %+v", r.Findings)
			}
		})
	}
}

// Each problem of the status is a finding with its text and remedy.
func TestProblemsOfTheStatus(t *testing.T) {
	for _, kind := range control.ProblemKinds() {
		f := healthy()
		r := control.Router{Name: "db", Interface: "eth7", Family: "ipv4", VRID: 7, Fence: "tcx", Problems: []control.Problem{{Kind: kind, Text: "what is wrong", Remedy: "the remedy"}}}
		f.Status = &control.Status{PID: 7, Routers: []control.Router{r}}
		want := Finding{Check: kind, Interface: "eth7", Cause: "db (VRID 7, ipv4): what is wrong", Remedy: "the remedy"}
		if !slices.ContainsFunc(Examine(f).Findings, func(f Finding) bool {
			return f.Level >= Warning && f.Check == want.Check && f.Interface == want.Interface && f.Cause == want.Cause && f.Remedy == want.Remedy
		}) {
			t.Errorf("%s is not found: %+v", kind, Examine(f).Findings)
		}
	}
}

// Conditions that don't matter cause no warning.
func TestNoAlarm(t *testing.T) {
	for name, change := range map[string]func(f *Facts, i *Interface, r *config.Router){
		"strict with one way": func(_ *Facts, i *Interface, _ *config.Router) { i.Settings4["rp_filter"] = 1 },
		"loose":               func(_ *Facts, i *Interface, _ *config.Router) { i.Settings4["rp_filter"], i.DefaultRoute = 2, "eth1" },
		"keepalived elsewhere": func(f *Facts, _ *Interface, _ *config.Router) {
			f.Daemons = []Daemon{{Name: "keepalived", Known: true}}
		},
		"a second failoverd":    func(f *Facts, _ *Interface, _ *config.Router) { f.Daemons = []Daemon{{Name: "failoverd"}} },
		"protocol 112 at input": func(f *Facts, _ *Interface, _ *config.Router) { f.Ruleset = table(t, "ip", "input", "drop") },
		"a querier":             func(_ *Facts, i *Interface, _ *config.Router) { i.Bridge = &Bridge{Snooping: true, Querier: true} },
		"no snooping":           func(_ *Facts, i *Interface, _ *config.Router) { i.Bridge = new(Bridge) },
		"snooping, IPv4 alone": func(_ *Facts, i *Interface, r *config.Router) {
			i.Bridge, r.Addresses = &Bridge{Snooping: true}, many(1)
		},
		"networkd keeps": func(_ *Facts, i *Interface, _ *config.Router) { i.Networkd = &Networkd{File: "/x", Keep: "yes"} },
		"NetworkManager": func(_ *Facts, i *Interface, _ *config.Router) { i.NetworkManager = true },
		"VMware without virtual MAC": func(f *Facts, _ *Interface, r *config.Router) {
			f.Machine, r.VirtualMAC = Machine{Vendor: "VMware, Inc.", Virtual: true}, config.VirtualMACOff
		},
		"the owner's address": func(_ *Facts, i *Interface, r *config.Router) {
			r.Priority, i.Addresses = config.OwnerPriority, r.Addresses
		},
		"the only Active": func(f *Facts, _ *Interface, _ *config.Router) { f.Status, f.Alone = new(control.Status), true },
		"a large MTU":     func(_ *Facts, _ *Interface, r *config.Router) { r.Addresses = many(80) },
	} {
		f := healthy()
		change(f, &f.Interfaces[0], &f.Routers[0])
		if r := Examine(f); r.Worst() != OK {
			t.Errorf("%s: %+v", name, r.Findings[0])
		}
	}
}

// onDevice returns a ruleset that drops all packets at a hook of eth0.
func onDevice(t *testing.T, hook string) *Ruleset {
	r := table(t, "netdev", hook, "drop")
	r.chains[0].Device = json.RawMessage(`"eth0"`)
	return r
}

// many returns n IPv6 addresses, or one IPv4 address for 1.
func many(n int) []netip.Prefix {
	if n == 1 {
		return []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")}
	}
	var all []netip.Prefix
	for k := range n {
		all = append(all, netip.MustParsePrefix(fmt.Sprintf("2001:db8::%x/64", k+1)))
	}
	return all
}

// The levels in JSON are words.
func TestLevels(t *testing.T) {
	for _, want := range []Level{OK, Warning, Problem} {
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Level
		if err := json.Unmarshal(b, &got); err != nil || got != want || string(b) != `"`+want.String()+`"` {
			t.Errorf("%s became %v: %v", b, got, err)
		}
	}
	if json.Unmarshal([]byte(`"bad"`), new(Level)) == nil {
		t.Error("an unknown level is read")
	}
}
