// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Inspection describes what BPF can do on this host.
type Inspection struct {
	// Unavailable is the reason why the programs can't be loaded, nil if they can.
	Unavailable error
	// Unfenced is the reason why the programs of the fence and the virtual MAC can't be
	// loaded, nil if they can.
	Unfenced error
	TC       string // how TC programs are attached: "tcx" or "clsact"
}

// Inspect loads the programs and unloads them again. It attaches and pins nothing, but
// needs the privileges of the daemon.
func Inspect() (Inspection, error) {
	d, err := Load(Options{Unpinned: true})
	if err != nil {
		return Inspection{}, err
	}
	i := Inspection{Unavailable: d.unavailable, Unfenced: d.unfenced}
	if i.Unavailable == nil {
		// This interface doesn't exist. A kernel with TCX returns another error than
		// one without.
		_, err := link.AttachTCX(link.TCXOptions{Interface: math.MaxInt32, Program: d.objects.FailoverTc, Attach: ebpf.AttachTCXIngress})
		if i.TC = "tcx"; errors.Is(err, ebpf.ErrNotSupported) {
			i.TC = "clsact"
		}
	}
	return i, d.Close()
}

// Occupant is a foreign XDP program on an interface.
type Occupant struct {
	ID   uint32
	Name string // may be empty
	Mode Mode   // native or generic
}

// FindOccupant returns the foreign XDP program on an interface. It returns nil if there is
// none or if the program is failoverd's.
func FindOccupant(ifindex int) (*Occupant, error) {
	device, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return nil, fmt.Errorf("look for an XDP program: %w", err)
	}
	x := device.Attrs().Xdp
	if x == nil || !x.Attached {
		return nil, nil
	}
	o := &Occupant{ID: x.ProgId, Mode: ModeGeneric}
	if x.AttachMode != nl.XDP_ATTACHED_SKB {
		o.Mode = ModeNative
	}
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(x.ProgId))
	if err != nil {
		return o, nil // reading the name needs a privilege
	}
	defer func() { _ = p.Close() }() // it was only read
	if info, err := p.Info(); err == nil {
		o.Name = info.Name
	}
	if strings.HasPrefix(o.Name, classifierName) {
		return nil, nil
	}
	return o, nil
}

// Ahead returns the names of the foreign TC programs that run before failoverd's on an
// interface. They were attached later, because failoverd attaches its programs in front.
// On a kernel without TCX there are none.
func Ahead(ifindex int) ([]string, error) {
	all, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: ebpf.AttachTCXIngress})
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for TC programs: %w", err)
	}
	var names []string
	for _, attached := range all.Programs {
		p, err := ebpf.NewProgramFromID(attached.ID)
		if err != nil {
			return names, fmt.Errorf("look at TC program %d: %w", attached.ID, err)
		}
		info, err := p.Info()
		_ = p.Close() // it was only read
		if err != nil {
			return names, fmt.Errorf("look at TC program %d: %w", attached.ID, err)
		}
		if strings.HasPrefix(info.Name, classifierName) {
			return names, nil
		}
		names = append(names, fmt.Sprintf("%s (number %d)", info.Name, attached.ID))
	}
	return nil, nil
}

// DriverXDP reports whether the interface's driver supports XDP. known is false before
// Linux 6.3, where drivers don't report it.
func DriverXDP(ifindex int) (can, known bool) {
	const (
		commandGet   = 1 // NETDEV_CMD_DEV_GET
		attrIfindex  = 1 // NETDEV_A_DEV_IFINDEX
		attrFeatures = 3 // NETDEV_A_DEV_XDP_FEATURES
		basic        = 1 // NETDEV_XDP_ACT_BASIC
	)
	family, err := netlink.GenlFamilyGet("netdev")
	if err != nil {
		return false, false
	}
	request := nl.NewNetlinkRequest(int(family.ID), 0)
	request.AddData(&nl.Genlmsg{Command: commandGet, Version: 1})
	request.AddData(nl.NewRtAttr(attrIfindex, nl.Uint32Attr(uint32(ifindex))))
	answers, err := request.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil || len(answers) == 0 || len(answers[0]) < nl.SizeofGenlmsg {
		return false, false
	}
	attrs, err := nl.ParseRouteAttr(answers[0][nl.SizeofGenlmsg:])
	if err != nil {
		return false, false
	}
	for _, a := range attrs {
		if a.Attr.Type == attrFeatures && len(a.Value) == 8 {
			return binary.NativeEndian.Uint64(a.Value)&basic != 0, true
		}
	}
	return false, false
}

// Expect predicts the Path that Attach would return for an interface, without attaching
// anything. The occupant may be nil.
func (i Inspection) Expect(l Link, m Mode, occupant *Occupant) Path {
	taken := Path{Kind: PathPacket, Why: "another program owns its XDP hook"}
	switch {
	case m == ModeOff:
		return Path{Kind: PathPacket, Why: "XDP is switched off (--xdp-mode off)"}
	case i.Unavailable != nil:
		return Path{Kind: PathPacket, Why: fmt.Sprintf("BPF can't be used: %v", i.Unavailable)}
	}
	for _, p := range modes(l, m) {
		if p.Kind == PathTC {
			return p
		}
		if occupant != nil {
			continue
		}
		if can, known := DriverXDP(l.Index); p.Kind == PathNative && m == ModeAuto && known && !can {
			continue
		}
		return p
	}
	return taken
}
