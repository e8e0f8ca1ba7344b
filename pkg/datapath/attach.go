// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/packet"
)

// Mode says where to receive.
type Mode string

// The modes of --xdp-mode.
const (
	ModeAuto    Mode = "auto"    // what is best for the interface
	ModeNative  Mode = "native"  // XDP in the driver
	ModeGeneric Mode = "generic" // XDP behind the driver
	ModeTC      Mode = "tc"      // a TC program behind the driver
	ModeOff     Mode = "off"     // an AF_PACKET socket
)

// ParseMode reads a Mode.
func ParseMode(s string) (Mode, error) {
	m := Mode(s)
	if slices.Contains([]Mode{ModeAuto, ModeNative, ModeGeneric, ModeTC, ModeOff}, m) {
		return m, nil
	}
	return "", fmt.Errorf("%q is not known: it is auto, native, generic, tc or off", s)
}

// The ways of receiving, as Path.Kind names them.
const (
	PathNative  = "xdp-native"
	PathGeneric = "xdp-generic"
	PathTC      = "tc"
	PathPacket  = "af_packet"
)

// Link is an interface to attach to.
type Link struct {
	Index int
	Name  string
	Kind  string // as rtnetlink has it; empty for a hardware device
	// VLANs says that the interface carries VLAN devices. The tags of their
	// frames may be gone before XDP sees them.
	VLANs bool
}

// Path is how an interface receives, and why that way.
type Path struct {
	Kind string
	Why  string
	// Unfenced is why nothing holds back answers for the virtual addresses
	// when the daemon hangs or is killed, nil if the fence does.
	Unfenced error
	// TC is how the TC programs are attached, without which there is no
	// virtual MAC and no Accept_Mode: tcx or clsact. Empty if they aren't.
	TC string
}

// attachment is what receives on one interface.
type attachment struct {
	on      Link
	kind    string // how it receives, as Path.Kind
	watch   bool
	beside  bool // it receives nothing: see SetSibling
	link    link.Link
	fence   []link.Link   // in, out
	ingress *ebpf.Program // of the fence
	classes bool          // the fence is made of classifiers,
	filters []classifier  // which are these
	fenced  bool          // attaching the fence was tried
	holding error         // why the fence doesn't hold when the process is gone
	pinned  string        // the links' directory
	sockets []*socket
	hearing hearing

	failures int // of Repair in a row

	moves int       // how often it was put in front of others again,
	moved time.Time // and when last
}

// Attach begins to receive on an interface. Attaching XDP to a NIC may reset
// it, so it is done before anybody takes part, and once. With watch everything
// is delivered, refused or not, and nothing is dropped.
//
// Where another program owns the NIC's XDP hook, or with ModeAuto none can be
// attached, an AF_PACKET socket receives instead, and Path says so. An
// explicit mode that the interface doesn't support is an error.
func (d *Datapath) Attach(l Link, m Mode, watch bool) (Path, error) {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	if before, ok := d.attached[l.Index]; ok && !before.beside {
		return Path{}, fmt.Errorf("interface %s is attached already", l.Name)
	}
	if err := d.detach(l.Index); err != nil {
		return Path{}, err
	}
	a := &attachment{on: l, watch: watch}
	path, err := d.attach(a, l, m)
	if err != nil {
		return Path{}, err
	}
	a.kind = path.Kind
	if !watch {
		if !a.fenced {
			path.Unfenced = d.attachFence(a, l, false)
		}
		path.Unfenced = errors.Join(path.Unfenced, a.holding)
		switch {
		case len(a.fence) > 0:
			path.TC = "tcx"
		case a.classes && path.Unfenced == nil:
			path.TC = "clsact"
		}
	}
	if path.Kind == PathPacket {
		if err := d.openSockets(a, l.Index); err != nil {
			return Path{}, errors.Join(err, d.release(a))
		}
	}
	d.attached[l.Index] = a
	d.publish()
	return path, nil
}

func (d *Datapath) attach(a *attachment, l Link, m Mode) (Path, error) {
	if m == ModeOff || m == ModeTC {
		d.dropLeftover(l.Index) // it would go on dropping by a dead run's rules
	}
	switch {
	case m == ModeOff:
		return Path{Kind: PathPacket, Why: "XDP is switched off (--xdp-mode off)"}, nil
	case d.unavailable != nil && m == ModeAuto:
		return Path{Kind: PathPacket, Why: fmt.Sprintf("BPF can't be used: %v", d.unavailable)}, nil
	case d.unavailable != nil:
		return Path{}, fmt.Errorf("BPF can't be used: %w", d.unavailable)
	}
	if a.watch {
		if err := d.objects.FailoverIface.Put(bpf.VrrpFailoverLink{Ifindex: uint32(l.Index)}, bpf.VrrpFailoverInterface{Watch: 1}); err != nil {
			return Path{}, fmt.Errorf("tell the kernel to watch: %w", err)
		}
	}
	path, err := d.attachProgram(a, l, m)
	if err != nil && a.watch {
		_ = d.objects.FailoverIface.Delete(bpf.VrrpFailoverLink{Ifindex: uint32(l.Index)}) // it goes with the map
	}
	switch {
	case err == nil:
		return path, nil
	case taken(err):
		return Path{Kind: PathPacket, Why: "another program owns its XDP hook"}, nil
	case m == ModeAuto:
		return Path{Kind: PathPacket, Why: fmt.Sprintf("no program can be attached: %v", err)}, nil
	}
	return Path{}, fmt.Errorf("no program can be attached in %s mode: %w; use --xdp-mode auto", m, err)
}

// attachProgram attaches the program in the mode, or for ModeAuto in the first
// of the modes that suit the interface and work.
func (d *Datapath) attachProgram(a *attachment, l Link, m Mode) (Path, error) {
	var errs []error
	for _, t := range modes(l, m) {
		if t.Kind == PathTC {
			d.dropLeftover(l.Index)
			err := d.attachTC(a, l)
			if err == nil {
				return t, nil
			}
			errs = append(errs, err)
			continue
		}
		if path, ok := d.adopt(a, l, t); ok {
			return path, nil
		}
		flags := link.XDPGenericMode
		if t.Kind == PathNative {
			flags = link.XDPDriverMode
		}
		x, err := link.AttachXDP(link.XDPOptions{Program: d.objects.FailoverVrrp, Interface: l.Index, Flags: flags})
		if err == nil {
			a.link = x
			if d.pinLink(a, l, "xdp", x) != nil {
				t.Why += ", not pinned"
			}
			return t, nil
		}
		errs = append(errs, err)
	}
	return Path{}, errors.Join(errs...)
}

// modes returns the ways to try, the best one first.
func modes(l Link, m Mode) []Path {
	native := Path{Kind: PathNative, Why: "XDP in the driver"}
	generic := Path{Kind: PathGeneric, Why: "XDP behind the driver"}
	tc := Path{Kind: PathTC, Why: "a TC program behind the driver"}
	switch {
	case m == ModeNative:
		return []Path{native}
	case m == ModeGeneric:
		return []Path{generic}
	case m == ModeTC:
		return []Path{tc}
	case l.VLANs:
		tc.Why += ", because it carries VLAN devices, whose tags XDP may not see"
		return []Path{tc}
	case l.Kind != "":
		// In the driver of a virtual device XDP costs the other traffic most
		// of its throughput, and behind any driver it has each packet copied.
		tc.Why += ", as suits a " + l.Kind + " device"
		return []Path{tc, generic}
	}
	tc.Why += ", which has no XDP that is free"
	return []Path{native, tc, generic}
}

// attachTC attaches the program that receives by TC, as a part of the fence if
// there is one. The ring it fills is the same.
func (d *Datapath) attachTC(a *attachment, l Link) error {
	if d.fence != nil && !a.watch && d.attachFence(a, l, true) == nil {
		return nil
	}
	x, err := link.AttachTCX(link.TCXOptions{Interface: l.Index, Program: d.objects.FailoverTc, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	if errors.Is(err, ebpf.ErrNotSupported) { // before Linux 6.6
		return d.attachClassifiers(a, l, classifier{d.objects.FailoverTc, netlink.HANDLE_MIN_INGRESS, "receive", 2})
	}
	if err != nil {
		return err
	}
	a.link = x
	_ = d.pinLink(a, l, "receive", x) // without it, it goes with the process
	return nil
}

// taken reports whether another program owns the hook: in the same mode, or in
// another one.
func taken(err error) bool { return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) }

// adopt takes over the link of a killed run: its program is replaced in place,
// without a reset of the NIC and without a gap.
func (d *Datapath) adopt(a *attachment, l Link, want Path) (Path, bool) {
	if d.pins == nil {
		return Path{}, false
	}
	left, ok := d.pins.takeLeftover(l.Index)
	if !ok {
		return Path{}, false
	}
	mode, ok := attachedMode(l.Index, left)
	kind := PathGeneric
	if mode == ModeNative {
		kind = PathNative
	}
	if ok && want.Kind == kind && left.Update(d.objects.FailoverVrrp) == nil {
		a.link = left
		if d.pinLink(a, l, "xdp", left) == nil {
			return Path{Kind: kind, Why: "XDP program of a killed run replaced in place"}, true
		}
		a.link = nil
	}
	// Not what is wanted, or of another network namespace.
	_ = left.Unpin()
	_ = left.Close()
	return Path{}, false
}

// dropLeftover detaches what a killed run left on an interface.
func (d *Datapath) dropLeftover(ifindex int) {
	if d.pins == nil {
		return
	}
	if left, ok := d.pins.takeLeftover(ifindex); ok {
		_ = left.Close() // its pin is gone already
	}
}

// attachedMode tells in which mode the link is attached to the interface of
// this network namespace, if it is.
func attachedMode(ifindex int, l link.Link) (Mode, bool) {
	info, err := l.Info()
	if err != nil {
		return "", false
	}
	device, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return "", false
	}
	x := device.Attrs().Xdp
	if x == nil || x.ProgId != uint32(info.Program) {
		return "", false
	}
	if x.AttachMode == nl.XDP_ATTACHED_DRV {
		return ModeNative, true
	}
	return ModeGeneric, true
}

// attachFence attaches the TC programs, and returns why it can't. With receive
// they also receive.
func (d *Datapath) attachFence(a *attachment, l Link, receive bool) error {
	if d.fence == nil {
		return errors.Join(d.unavailable, d.unfenced)
	}
	ingress := d.fence.objects.FailoverIngress
	if receive {
		ingress = d.fence.objects.FailoverIn
	}
	links, err := d.fence.attach(l.Index, ingress)
	if errors.Is(err, ebpf.ErrNotSupported) && d.pins != nil {
		err = d.attachClassifiers(a, l, // before Linux 6.6
			classifier{ingress, netlink.HANDLE_MIN_INGRESS, "ingress", 1},
			classifier{d.fence.objects.FailoverEgress, netlink.HANDLE_MIN_EGRESS, "egress", 1})
		a.fenced = err == nil
		return err
	}
	if err != nil {
		return fmt.Errorf("attach the fence: %w", err)
	}
	a.fence, a.ingress, a.fenced = links, ingress, true
	if d.pins == nil {
		a.holding = errors.New("it ends with the process, because it can't be pinned")
		return nil
	}
	for n, name := range []string{"ingress", "egress"} {
		if err := d.pinLink(a, l, name, links[n]); err != nil {
			a.holding = fmt.Errorf("it goes with the process: %w", err)
			return nil
		}
	}
	return nil
}

func (d *Datapath) attachClassifiers(a *attachment, l Link, all ...classifier) error {
	if d.pins == nil {
		return fmt.Errorf("filters need a place to write down that they are there: %w", errors.Join(d.unpinned, ebpf.ErrNotSupported))
	}
	dir, err := d.pins.markClassifiers(pinName(l.Name))
	if err != nil {
		return err
	}
	a.pinned, a.classes, a.filters = dir, true, append(a.filters, all...)
	return attachClassifiers(l.Index, all)
}

func (d *Datapath) pinLink(a *attachment, l Link, name string, x link.Link) error {
	if d.pins == nil {
		return nil
	}
	dir, err := d.pins.pinLink(x, pinName(l.Name), name)
	if err == nil {
		a.pinned = dir
	}
	return err
}

// pinName makes a name for a BPF file system, which knows no dots, of an
// interface's, which knows no colons.
func pinName(name string) string { return strings.ReplaceAll(name, ".", ":") }

func (d *Datapath) openSockets(a *attachment, ifindex int) error {
	for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
		s, err := openSocket(ifindex, f, a.watch)
		if err == nil {
			a.sockets = append(a.sockets, s)
			err = d.waiter.add(s.fd)
		}
		if err != nil {
			for _, s := range a.sockets {
				err = errors.Join(err, s.close())
			}
			return err
		}
	}
	return nil
}

// Detach ends receiving on an interface, which may be gone already.
func (d *Datapath) Detach(ifindex int) error {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	return d.detach(ifindex)
}

func (d *Datapath) detach(ifindex int) error {
	a, ok := d.attached[ifindex]
	if !ok {
		return nil
	}
	delete(d.attached, ifindex)
	d.publish()
	if a.watch && a.link != nil {
		_ = d.objects.FailoverIface.Delete(bpf.VrrpFailoverLink{Ifindex: uint32(ifindex)}) // it goes with the map
	}
	for _, s := range a.sockets {
		d.counts[packet.ReasonRingFull].Add(s.lost())
	}
	return d.release(a)
}

// release closes all that an attachment holds.
func (d *Datapath) release(a *attachment) error {
	var errs []error
	for _, s := range a.sockets {
		errs = append(errs, s.close())
	}
	links := a.fence
	if a.link != nil {
		links = append(links, a.link)
	}
	for _, l := range links {
		if a.pinned != "" {
			errs = append(errs, l.Unpin())
		}
		errs = append(errs, l.Close())
	}
	if a.classes {
		errs = append(errs, removeClassifiers(a.pinned))
	}
	if a.pinned != "" {
		errs = append(errs, d.pins.removeLink(a.pinned))
	}
	return errors.Join(errs...)
}

// publish makes what Drain reads of the attachments.
func (d *Datapath) publish() {
	d.ordered = nil
	var sockets []*socket
	watched, heard := make(map[int]bool), make(map[int]*hearing)
	for ifindex, a := range d.attached {
		sockets = append(sockets, a.sockets...)
		watched[ifindex] = a.watch
		heard[ifindex] = &a.hearing
	}
	d.sockets.Store(&sockets)
	d.watched.Store(&watched)
	d.hearing.Store(&heard)
}

func (d *Datapath) allSockets() []*socket {
	if all := d.sockets.Load(); all != nil {
		return *all
	}
	return nil
}
