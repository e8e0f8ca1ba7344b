// SPDX-License-Identifier: Apache-2.0

package gather

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/doctor"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
)

const netDir = "/sys/class/net"

func (g *gatherer) interfaces(names []string) error {
	h, err := link.NewHandle()
	if err != nil {
		return err
	}
	defer h.Close()
	all, err := h.Interfaces()
	if err != nil {
		return err
	}
	virtual := g.virtual()
	for _, name := range names {
		i := doctor.Interface{Name: name}
		if n := slices.IndexFunc(all, func(one link.Interface) bool { return one.Name == name }); n >= 0 {
			i.Present = true
			g.state(&i, all[n], virtual)
			neighbourhood(&i, all, all[n])
			g.plan(&i, all, virtual)
			device(&i)
			i.Settings4 = settings("ipv4", name, "rp_filter", "arp_ignore", "arp_announce", "arp_filter", "drop_gratuitous_arp")
			i.Settings6 = settings("ipv6", name, "drop_unsolicited_na")
			g.reception(&i, all)
			managers(&i)
		}
		g.Interfaces = append(g.Interfaces, i)
	}
	return nil
}

// virtual returns the virtual addresses, without those that this host owns.
func (g *gatherer) virtual() link.AddressSet {
	all := make(link.AddressSet)
	for _, r := range g.Routers {
		if r.OwnsAddresses() {
			continue
		}
		full, _ := r.WithLinkLocal()
		for _, p := range full.Addresses {
			all.Add(p.Addr())
		}
	}
	return all
}

func (g *gatherer) state(i *doctor.Interface, l link.Interface, virtual link.AddressSet) {
	i.Index, i.Kind, i.Up, i.Running, i.MTU = l.Index, l.Kind, l.Up, l.Running, l.MTU
	for _, a := range l.Addresses {
		i.Addresses = append(i.Addresses, a.Prefix)
	}
	i.OneMAC = l.OneMAC()
	i.Primary, i.LinkLocal = link.PrimaryIPv4(l, virtual), link.LinkLocalIPv6(l.Settled(), virtual)
}

// plan adds the obstacles and warnings of package plan for the routers of an interface.
func (g *gatherer) plan(i *doctor.Interface, all []link.Interface, virtual link.AddressSet) {
	host := plan.HostFacts{Interfaces: all, Fenced: g.Kernel.TC != ""}
	for _, r := range g.Routers {
		if r.Interface == i.Name {
			i.Obstacles = append(i.Obstacles, plan.Obstacles(r, host)...)
			i.Doubts = append(i.Doubts, plan.Warnings(r, host, virtual)...)
		}
	}
}

// neighbourhood sets the facts that depend on other interfaces and on the routes.
func neighbourhood(i *doctor.Interface, all []link.Interface, l link.Interface) {
	for _, other := range all {
		if other.Index == l.Index || other.Kind == link.KindLoopback {
			continue
		}
		vrid := other.MAC[5]
		if other.Parent == l.Index && (other.MAC == packet.VirtualMAC(packet.IPv4, vrid) || other.MAC == packet.VirtualMAC(packet.IPv6, vrid)) {
			i.VirtualMACs = append(i.VirtualMACs, other.Name)
			continue
		}
		for _, a := range l.Addresses {
			if a.Prefix.Addr().Is4() && other.Up && slices.ContainsFunc(other.Addresses, func(b link.Address) bool { return b.Prefix.Masked() == a.Prefix.Masked() }) {
				i.Twin = other.Name
			}
		}
	}
	via := ""
	for n, l := range strings.Split(line("/proc/net/route"), "\n") {
		fields := strings.Fields(l)
		if n > 0 && len(fields) > 7 && fields[1] == "00000000" && fields[7] == "00000000" {
			if fields[0] == i.Name {
				return // a strict filter accepts any of several default routes
			}
			via = fields[0]
		}
	}
	i.DefaultRoute = via
}

// device sets the facts that sysfs and the driver give about an interface.
func device(i *doctor.Interface) {
	dir := filepath.Join(netDir, i.Name)
	flags, err := strconv.ParseUint(line(dir, "flags"), 0, 32)
	i.Multicast, i.NoARP = err != nil || flags&unix.IFF_MULTICAST != 0, flags&unix.IFF_NOARP != 0
	const ethernet = "1" // ARPHRD_ETHER
	i.Ethernet = line(dir, "type") == ethernet
	_, err = os.Stat(filepath.Join(dir, "wireless"))
	i.Wireless = err == nil
	i.BondMode, _, _ = strings.Cut(line(dir, "bonding/mode"), " ")
	if driver, err := os.Readlink(filepath.Join(dir, "device/driver")); err == nil {
		i.Driver = filepath.Base(driver)
	}
	bridge := dir
	if master, err := os.Readlink(filepath.Join(dir, "master")); err == nil {
		i.Master = filepath.Base(master)
		bridge = filepath.Join(netDir, i.Master)
		i.MasterKind = value(line(bridge, "uevent"), "DEVTYPE")
	}
	if snooping := line(bridge, "bridge/multicast_snooping"); snooping != "" {
		i.Bridge = &doctor.Bridge{Name: filepath.Base(bridge), Snooping: snooping == "1", Querier: line(bridge, "bridge/multicast_querier") == "1"}
	}
	i.LRO = largeReceive(i.Name)
}

// largeReceive reports whether large receive offload is on.
func largeReceive(name string) bool {
	const (
		getFlags = 0x25    // ETHTOOL_GFLAGS
		lro      = 1 << 15 // ETH_FLAG_LRO
	)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }() // it is only read
	question := struct{ command, flags uint32 }{command: getFlags}
	var request struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	request.data = unsafe.Pointer(&question)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	return errno == 0 && question.flags&lro != 0
}

// settings returns the effective settings of an interface for a family, or nil if it has none.
func settings(family, name string, wanted ...string) map[string]int {
	all := make(map[string]int)
	for _, s := range wanted {
		n, err := link.Effective(family, name, s)
		if err != nil {
			continue
		}
		all[s] = n
	}
	for _, s := range []string{"forwarding", "disable_ipv6"} { // the value of "all" doesn't affect these
		if n, err := link.ReadSetting(filepath.Join(family, "conf", name, s)); err == nil {
			all[s] = n
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// reception sets the mode of receiving, in use or expected.
func (g *gatherer) reception(i *doctor.Interface, all []link.Interface) {
	occupant, err := datapath.FindOccupant(i.Index)
	if err != nil {
		g.skip("xdp", err.Error())
	}
	if occupant != nil {
		i.Occupant, i.OccupantMode = strings.TrimSpace(fmt.Sprintf("%s (number %d)", occupant.Name, occupant.ID)), string(occupant.Mode)
	}
	if g.privileged {
		if i.Ahead, err = datapath.Ahead(i.Index); err != nil {
			g.skip("tc", err.Error())
		}
	}
	if g.Status != nil {
		for _, r := range g.Status.Routers {
			if r.Interface == i.Name && r.Receive != "" {
				i.Receive, i.ReceiveWhy = r.Receive, r.ReceiveWhy
				return
			}
		}
	}
	if !g.Kernel.BPF {
		return
	}
	mode := datapath.ModeAuto
	for _, r := range g.Routers {
		if r.Interface == i.Name && r.XDPMode != "" {
			mode = datapath.Mode(r.XDPMode)
		}
	}
	path := g.inspection.Expect(datapath.Link{Index: i.Index, Name: i.Name, Kind: i.Kind, VLANs: link.CarriesVLANs(all, i.Index)}, mode, occupant)
	i.Receive, i.ReceiveWhy = path.Kind, path.Why+" (expected)"
}

// managers sets the facts about systemd-networkd and NetworkManager.
func managers(i *doctor.Interface) {
	index := strconv.Itoa(i.Index)
	state := line("/run/systemd/netif/links", index)
	if admin := value(state, "ADMIN_STATE"); admin != "" && admin != "unmanaged" {
		i.Networkd = &doctor.Networkd{File: value(state, "NETWORK_FILE")}
		files := append([]string{i.Networkd.File}, strings.FieldsFunc(value(state, "NETWORK_FILE_DROPINS"), func(r rune) bool { return r == ':' || r == ' ' })...)
		for _, file := range files {
			if keep := value(line(file), "KeepConfiguration"); keep != "" {
				i.Networkd.Keep = keep
			}
		}
	}
	i.NetworkManager = value(line("/run/NetworkManager/devices", index), "managed") == "true"
}
