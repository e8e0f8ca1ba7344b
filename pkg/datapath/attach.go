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

// Mode selects the hook that receives advertisements.
type Mode string

// The values of --xdp-mode.
const (
	ModeAuto    Mode = "auto"    // the best one that works on the interface
	ModeNative  Mode = "native"  // XDP in the driver
	ModeGeneric Mode = "generic" // XDP behind the driver
	ModeTC      Mode = "tc"      // a TC program behind the driver
	ModeOff     Mode = "off"     // an AF_PACKET socket
)

// ParseMode parses a value of --xdp-mode.
func ParseMode(s string) (Mode, error) {
	m := Mode(s)
	if slices.Contains([]Mode{ModeAuto, ModeNative, ModeGeneric, ModeTC, ModeOff}, m) {
		return m, nil
	}
	return "", fmt.Errorf("%q is not known: it is auto, native, generic, tc or off", s)
}

// The values of Path.Kind.
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
	Kind  string // rtnetlink's kind; empty for a hardware device
	// VLANs reports whether VLAN devices are on top of the interface. The NIC may
	// strip the tags of their frames before XDP sees them.
	VLANs bool
}

// Path describes how an interface receives, and the reason for it.
type Path struct {
	Kind string
	Why  string
	// Unfenced is the reason why the host may go on answering for the virtual
	// addresses when the daemon hangs or is killed. It is nil if the fence prevents
	// that.
	Unfenced error
	// TC says how the TC programs are attached: "tcx" or "clsact". It is empty if they
	// aren't; then neither the virtual MAC nor Accept_Mode is available.
	TC string
}

// attachment is everything that is attached to one interface.
type attachment struct {
	on         Link
	kind       string // the Path.Kind of its receiver
	watch      bool
	sibling    bool // only the fence is attached: see SetSibling
	link       link.Link
	fence      []link.Link   // the links of the ingress and of the egress program
	ingress    *ebpf.Program // the fence's program at the TC ingress hook
	hasFilters bool          // programs are attached as filters of clsact
	filters    []classifier  // those programs
	fenced     bool          // the fence is attached
	transient  error         // why the fence ends with the process
	pinned     string        // the directory of the pinned links
	sockets    []*socket
	hearing    hearing

	failures int // failed calls of Repair in a row

	moves int       // how often Repair put the programs in front again
	moved time.Time // when it last did
}

// Attach starts receiving on an interface. Attaching XDP may reset a NIC, so call
// Attach once, before a Virtual Router starts on the interface. With watch every
// advertisement is delivered, even a refused one, and nothing is dropped.
//
// Attach falls back to an AF_PACKET socket if another program owns the XDP hook, or if
// no program can be attached in ModeAuto; Path.Why gives the reason. It returns an
// error if the interface doesn't support an explicit mode.
func (d *Datapath) Attach(l Link, m Mode, watch bool) (Path, error) {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	if before, ok := d.attached[l.Index]; ok && !before.sibling {
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
		path.Unfenced = errors.Join(path.Unfenced, a.transient)
		switch {
		case len(a.fence) > 0:
			path.TC = "tcx"
		case a.hasFilters && path.Unfenced == nil:
			path.TC = "clsact"
		}
	}
	if path.Kind == PathPacket {
		if err := d.openSockets(a, l.Index); err != nil {
			return Path{}, errors.Join(err, d.release(a))
		}
	}
	if d.pins != nil {
		d.pins.dropLeftovers(l.Index)
	}
	d.reserved.drop(l.Index)
	d.attached[l.Index] = a
	d.publish()
	return path, nil
}

func (d *Datapath) attach(a *attachment, l Link, m Mode) (Path, error) {
	if m == ModeOff || m == ModeTC {
		d.dropLeftover(l.Index) // it would keep dropping packets by the configuration of a dead run
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
			return Path{}, fmt.Errorf("switch the interface to watching: %w", err)
		}
	}
	path, err := d.attachProgram(a, l, m)
	if err != nil && a.watch {
		_ = d.objects.FailoverIface.Delete(bpf.VrrpFailoverLink{Ifindex: uint32(l.Index)}) // an error is harmless: the map ends with the process
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

// attachProgram attaches a receiving program. It tries the paths that modes returns, in
// their order.
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
		program, err := d.program(bpf.VrrpProgFailoverVrrp)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		x, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: l.Index, Flags: flags})
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

// modes returns the paths to try, the best one first.
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
		// Native XDP on a virtual device costs other traffic most of its throughput,
		// and generic XDP copies every packet.
		tc.Why += ", as suits a " + l.Kind + " device"
		return []Path{tc, generic}
	}
	tc.Why += ", because native XDP isn't available"
	return []Path{native, tc, generic}
}

// attachTC attaches the program that receives at TC. If there is a fence, the fence's
// ingress program receives too, so that one program does both. Both write to the same
// rings.
func (d *Datapath) attachTC(a *attachment, l Link) error {
	if d.fence != nil && !a.watch && d.attachFence(a, l, true) == nil {
		return nil
	}
	program, err := d.program(bpf.VrrpProgFailoverTc)
	if err != nil {
		return err
	}
	x, err := link.AttachTCX(link.TCXOptions{Interface: l.Index, Program: program, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	if errors.Is(err, ebpf.ErrNotSupported) { // before Linux 6.6
		return d.attachClassifiers(a, l, classifier{program, netlink.HANDLE_MIN_INGRESS, "receive", 2})
	}
	if err != nil {
		return err
	}
	a.link = x
	_ = d.pinLink(a, l, "receive", x) // without a pin the link just ends with the process
	return nil
}

// taken reports whether the error means that another program owns the XDP hook, in this
// mode or in another one.
func taken(err error) bool { return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) }

// adopt takes over the XDP link of a killed run. It replaces the program in place,
// so the NIC isn't reset and no packet is missed.
func (d *Datapath) adopt(a *attachment, l Link, want Path) (Path, bool) {
	if d.pins == nil {
		return Path{}, false
	}
	left, ok := d.pins.takeLeftover(l.Index, "xdp")
	if !ok {
		return Path{}, false
	}
	mode, ok := attachedMode(l.Index, left)
	kind := PathGeneric
	if mode == ModeNative {
		kind = PathNative
	}
	program, err := d.program(bpf.VrrpProgFailoverVrrp)
	if ok && err == nil && want.Kind == kind && left.Update(program) == nil {
		a.link = left
		if d.pinLink(a, l, "xdp", left) == nil {
			return Path{Kind: kind, Why: "XDP program of a killed run replaced in place"}, true
		}
		a.link = nil
	}
	drop(left) // it has another mode or belongs to another network namespace
	return Path{}, false
}

// dropLeftover detaches the XDP link that a killed run left on an interface.
func (d *Datapath) dropLeftover(ifindex int) {
	if d.pins == nil {
		return
	}
	if left, ok := d.pins.takeLeftover(ifindex, "xdp"); ok {
		drop(left)
	}
}

// attachedMode returns the mode in which the link is attached to the interface, false
// if it isn't attached to that interface of this network namespace.
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

// attachFence attaches the TC programs of the fence. With receive the ingress program
// also receives advertisements.
func (d *Datapath) attachFence(a *attachment, l Link, receive bool) error {
	if d.fence == nil {
		return errors.Join(d.unavailable, d.unfenced)
	}
	name := bpf.VmacProgFailoverIngress
	if receive {
		name = bpf.VmacProgFailoverIn
	}
	ingress, err := d.program(name)
	if err != nil {
		return err
	}
	egress, err := d.program(bpf.VmacProgFailoverEgress)
	if err != nil {
		return err
	}
	links, err := d.adoptPair(l.Index, ingress, egress)
	if errors.Is(err, ebpf.ErrNotSupported) && d.pins != nil {
		err = d.attachClassifiers(a, l, // no TCX before Linux 6.6
			classifier{ingress, netlink.HANDLE_MIN_INGRESS, "ingress", 1},
			classifier{egress, netlink.HANDLE_MIN_EGRESS, "egress", 1})
		a.fenced = err == nil
		return err
	}
	if err != nil {
		return fmt.Errorf("attach the fence: %w", err)
	}
	a.fence, a.ingress, a.fenced = links, ingress, true
	if d.pins == nil {
		a.transient = errors.New("the fence ends with the process, because it can't be pinned")
		return nil
	}
	for n, name := range []string{"ingress", "egress"} {
		if err := d.pinLink(a, l, name, links[n]); err != nil {
			a.transient = fmt.Errorf("the fence ends with the process: %w", err)
			return nil
		}
	}
	return nil
}

// adoptPair takes over the fence that a killed run left on an interface, or the links that are
// reserved there, or attaches new ones. It replaces the programs in place, so the fence of a killed
// run never opens.
func (d *Datapath) adoptPair(ifindex int, ingress, egress *ebpf.Program) ([]link.Link, error) {
	left := make([]link.Link, 2)
	if d.pins != nil {
		left[0], _ = d.pins.takeLeftover(ifindex, "ingress")
		left[1], _ = d.pins.takeLeftover(ifindex, "egress")
	}
	if left[0] == nil && left[1] == nil {
		if reserved := d.reserved.take(ifindex); reserved != nil {
			left = reserved
		}
	}
	if left[0] != nil && left[1] != nil && left[0].Update(ingress) == nil && left[1].Update(egress) == nil {
		return left, nil
	}
	links, err := attachPair(ifindex, ingress, egress)
	for _, l := range left {
		if l != nil {
			drop(l) // after the new ones are attached
		}
	}
	return links, err
}

func (d *Datapath) attachClassifiers(a *attachment, l Link, all ...classifier) error {
	if d.pins == nil {
		return fmt.Errorf("filters of clsact need the BPF file system, in which failoverd marks that they exist: %w", errors.Join(d.unpinned, ebpf.ErrNotSupported))
	}
	dir, err := d.pins.markClassifiers(pinName(l.Name))
	if err != nil {
		return err
	}
	a.pinned, a.hasFilters, a.filters = dir, true, append(a.filters, all...)
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

// pinName turns an interface's name into a name for the BPF file system, which doesn't
// allow dots. The result is unambiguous, because interface names have no colons.
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

// Detach stops receiving on an interface. The interface may be gone already.
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
		_ = d.objects.FailoverIface.Delete(bpf.VrrpFailoverLink{Ifindex: uint32(ifindex)}) // an error is harmless: the map ends with the process
	}
	for _, s := range a.sockets {
		d.counts[packet.ReasonRingFull].Add(s.lost())
	}
	return d.release(a)
}

// release closes everything that belongs to an attachment, and removes its pins.
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
	if a.hasFilters {
		errs = append(errs, removeClassifiers(a.pinned))
	}
	if a.pinned != "" {
		errs = append(errs, d.pins.removeLink(a.pinned))
	}
	return errors.Join(errs...)
}

// publish copies what Drain, Hearing and RequestLook read of the attachments, so that
// they don't need d.attaching.
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
