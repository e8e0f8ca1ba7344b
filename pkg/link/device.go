// SPDX-License-Identifier: Apache-2.0

package link

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
)

// MinMTUIPv6 is the smallest MTU with which an interface can have IPv6 (RFC 8200 §5).
const MinMTUIPv6 = 1280

// Device is a macvlan on top of an interface. It has the virtual MAC of one Virtual Router
// as its own, and gets the router's addresses. It is up only while it has them.
type Device struct {
	Name   string        `json:"name"`
	Parent int           `json:"parent"` // the index of the interface below it
	Family packet.Family `json:"family"`
	MAC    packet.MAC    `json:"mac"`
}

// NewDevice returns the Device of a Virtual Router. The name identifies the router.
func NewDevice(parent int, f packet.Family, vrid uint8) Device {
	return Device{
		Name:   fmt.Sprintf("vrrp%d-%d-%d", uint8(f), parent, vrid),
		Parent: parent,
		Family: f,
		MAC:    packet.VirtualMAC(f, vrid),
	}
}

// AddDevice creates a device and returns its index. parent is the name of the interface
// below it, from which it copies settings.
func (h *Handle) AddDevice(d Device, parent string) (index int, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.HardwareAddr = d.Name, d.Parent, d.MAC[:]
	err = h.h.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_PRIVATE})
	switch {
	case errors.Is(err, unix.EEXIST):
		return 0, fmt.Errorf("an interface %s exists already: remove it with ip link del %s if nothing needs it", d.Name, d.Name)
	case errors.Is(err, unix.EBUSY):
		return 0, fmt.Errorf("add macvlan %s: %w: an interface that is part of a bridge or of a bond can't have one", d.Name, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return 0, fmt.Errorf("add macvlan %s: %w: this kernel has no macvlan (CONFIG_MACVLAN)", d.Name, err)
	case err != nil:
		return 0, fmt.Errorf("add macvlan %s: %w", d.Name, err)
	}
	l, err := h.h.LinkByName(d.Name)
	if err != nil {
		return 0, fmt.Errorf("look for %s after adding it: %w", d.Name, err)
	}
	index = l.Attrs().Index
	if err := errors.Join(h.enslave(index, d.Parent), d.applySettings(parent)); err != nil {
		return 0, errors.Join(err, h.DeleteDevice(index))
	}
	return index, nil
}

// enslave puts a device into the VRF of the interface below it, so that packets to the
// virtual MAC are routed by the same tables.
func (h *Handle) enslave(index, parent int) error {
	below, err := h.h.LinkByIndex(parent)
	if err != nil {
		return fmt.Errorf("look for the interface below: %w", err)
	}
	master := below.Attrs().MasterIndex
	if master == 0 {
		return nil
	}
	if m, err := h.h.LinkByIndex(master); err != nil || m.Type() != KindVRF {
		return err
	}
	if err := h.h.LinkSetMasterByIndex(&netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Index: index}}, master); err != nil {
		return fmt.Errorf("put the macvlan into the VRF: %w", err)
	}
	return nil
}

// DeleteDevice removes a device. One that is gone already is no error.
func (h *Handle) DeleteDevice(index int) error {
	err := h.h.LinkDel(&netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Index: index}})
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove the macvlan with index %d: %w", index, err)
	}
	return nil
}

// setLinkUp brings a macvlan up or takes it down. Taking down one that is gone is no error.
func (h *Handle) setLinkUp(index int, up bool) error {
	l := &netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Index: index}}
	if up {
		if err := h.h.LinkSetUp(l); err != nil {
			return fmt.Errorf("bring the macvlan up: %w", err)
		}
		return nil
	}
	if err := h.h.LinkSetDown(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("take the macvlan down: %w", err)
	}
	return nil
}

// Is reports whether an interface is the device. Another interface with the same name isn't.
func (d Device) Is(i Interface) bool {
	return i.Kind == kindMacvlan && i.Name == d.Name && i.Parent == d.Parent && i.MAC == d.MAC
}

// Stale reports whether the interface of a Device must be replaced. That is so if the
// interface below it has moved to another VRF, or if the MTU below was too small for IPv6
// and no longer is. The kernel never raises the MTU of a macvlan. Raising it by hand would
// give the macvlan a link-local address that all routers of the VRID share.
func Stale(device Interface, all []Interface) bool {
	n := slices.IndexFunc(all, func(i Interface) bool { return i.Index == device.Parent })
	if n < 0 {
		return false
	}
	below := all[n]
	return device.MTU < MinMTUIPv6 && below.MTU >= MinMTUIPv6 || device.Master != vrfOf(below, all)
}

// vrfOf returns the index of the VRF of an interface, 0 for none.
func vrfOf(i Interface, all []Interface) int {
	if m, ok := MasterOf(i, all); ok && m.Kind == KindVRF {
		return m.Index
	}
	return 0
}

// applySettings changes the sysctls of a device, because Linux doesn't expect a second
// interface on the same link. The device must not answer for the addresses of the
// interface below it, must not drop packets as spoofed because the route back uses that
// interface, and must not get addresses of its own.
func (d Device) applySettings(parent string) error {
	settings := [][2]string{
		{"ipv4/conf/" + d.Name + "/arp_ignore", "1"},
		{"ipv6/conf/" + d.Name + "/addr_gen_mode", "1"}, // none
		{"ipv6/conf/" + d.Name + "/accept_ra", "0"},
		{"ipv6/conf/" + d.Name + "/autoconf", "0"},
	}
	if d.Family == packet.IPv4 {
		strictness, err := Effective("ipv4", parent, "rp_filter")
		if err != nil {
			return err
		}
		if strictness != 0 {
			strictness = 2 // loose; with 0 the value of conf/all would apply
		}
		settings = append(settings, [2]string{"ipv4/conf/" + d.Name + "/rp_filter", strconv.Itoa(strictness)})
	}
	family := fmt.Sprintf("ipv%d", uint8(d.Family))
	forwarding, err := ReadSetting(path.Join(family, "conf", parent, "forwarding"))
	if errors.Is(err, fs.ErrNotExist) && d.Family == packet.IPv6 {
		return fmt.Errorf("%s has no IPv6: is its MTU less than %d?", parent, MinMTUIPv6)
	}
	if err != nil {
		return err
	}
	settings = append(settings, [2]string{family + "/conf/" + d.Name + "/forwarding", strconv.Itoa(forwarding)})
	for _, s := range settings {
		if err := writeSetting(s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}

// Setting is a change of a sysctl of an interface.
type Setting struct {
	// Ifindex is the index of the interface, which may be renamed later. If it is 0, the
	// name in Path counts.
	Ifindex int `json:"ifindex,omitempty"`
	// Path is below /proc/sys/net. It contains the interface's name at that time.
	Path   string `json:"path"`
	Value  int    `json:"value"`
	Before int    `json:"before"`
}

// ParentSettings returns the settings to change on an interface that gets a Device with
// IPv4 addresses on top. The interface must not send ARP requests from the device's
// addresses, because the replies would go to the device. If it isn't fenced, it also must
// not answer for these addresses from its own MAC.
func ParentSettings(ifindex int, name string, fenced bool) ([]Setting, error) {
	wanted := []Setting{{Ifindex: ifindex, Path: "arp_announce", Value: 2}}
	if !fenced {
		wanted = append(wanted, Setting{Ifindex: ifindex, Path: "arp_ignore", Value: 1})
	}
	var settings []Setting
	for _, s := range wanted {
		now, err := Effective("ipv4", name, s.Path)
		if err != nil {
			return nil, err
		}
		if now >= s.Value {
			continue
		}
		s.Path = path.Join("ipv4/conf", name, s.Path)
		if s.Before, err = ReadSetting(s.Path); err != nil {
			return nil, err
		}
		settings = append(settings, s)
	}
	return settings, nil
}

// Set writes the value of the setting.
func (s Setting) Set() error { return writeSetting(s.Path, strconv.Itoa(s.Value)) }

// On returns the setting with the current name of the interface in its path.
func (s Setting) On(name string) Setting {
	dir, base := path.Split(s.Path)
	s.Path = path.Join(path.Dir(path.Clean(dir)), name, base)
	return s
}

// Restore writes the value from before, unless the setting has been changed since or the
// interface is gone.
func (s Setting) Restore() (restored bool, err error) {
	now, err := ReadSetting(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || now != s.Value {
		return false, err
	}
	return true, writeSetting(s.Path, strconv.Itoa(s.Before))
}

// Effective returns the effective value of a setting on an interface, for settings whose
// value is the maximum of conf/all and the interface's own. The family is "ipv4" or "ipv6".
func Effective(family, name, setting string) (int, error) {
	all, err := ReadSetting(path.Join(family, "conf/all", setting))
	if err != nil {
		return 0, err
	}
	own, err := ReadSetting(path.Join(family, "conf", name, setting))
	return max(all, own), err
}

const settingsDir = "/proc/sys/net/"

// ReadSetting returns the value of a sysctl. The name is its path below /proc/sys/net.
func ReadSetting(name string) (int, error) {
	b, err := os.ReadFile(settingsDir + name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return 0, fmt.Errorf("%s%s: %w", settingsDir, name, err)
	}
	return n, nil
}

func writeSetting(name, value string) error {
	err := os.WriteFile(settingsDir+name, []byte(value), 0)
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(name, "ipv6/") {
		if _, err := os.Stat(settingsDir + path.Dir(name)); errors.Is(err, fs.ErrNotExist) {
			return nil // no IPv6 in the kernel, or an MTU that is too small for it
		}
	}
	return err
}

// DeviceOf returns the Device that an interface represents, false if it is none of
// failoverd's.
func DeviceOf(i *Interface) (d Device, is bool) {
	if i.Kind != kindMacvlan {
		return d, false
	}
	for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
		if d = NewDevice(i.Parent, f, i.MAC[len(i.MAC)-1]); d.Is(*i) {
			return d, true
		}
	}
	return Device{}, false
}
