// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

const (
	// moveMost is how often in moveWithin the programs of an interface are put in front
	// of another one again that was put in front of them: it may want the same.
	moveMost   = 5
	moveWithin = time.Hour
	// filtersAtOnce is at how many interfaces with classifiers one Look looks: listing
	// them takes more than all else.
	filtersAtOnce = 50
	// chainMost is how many programs of a hook are looked at.
	chainMost = 64
)

// Lack is what keeps the programs of an interface from seeing its packets.
type Lack struct {
	Interface Link
	// Detached names what isn't attached any more: xdp, receive, ingress, egress, or
	// af_packet for a socket whose interface is gone.
	Detached []string
	// InFront names the programs of others that see the packets first and can keep
	// them from failoverd's.
	InFront []string
	// Left says that Repair has put failoverd's in front of them so often that it leaves
	// them there.
	Left bool
}

func (l *Lack) Error() string {
	var all []string
	if len(l.Detached) > 0 {
		all = append(all, "detached: "+strings.Join(l.Detached, ", "))
	}
	if len(l.InFront) > 0 {
		all = append(all, "behind "+strings.Join(l.InFront, ", "))
	}
	return fmt.Sprintf("the programs of %s don't see its packets (%s)", l.Interface.Name, strings.Join(all, "; "))
}

// hook is where a program is attached by a link.
type hook struct {
	name    string // as it is pinned
	link    *link.Link
	program *ebpf.Program
	at      ebpf.AttachType // AttachXDP, or one of TCX
}

// hooks are those of an attachment.
func (d *Datapath) hooks(a *attachment) (all []hook) {
	switch {
	case a.link == nil:
	case a.kind == PathTC:
		all = append(all, hook{"receive", &a.link, d.objects.FailoverTc, ebpf.AttachTCXIngress})
	default:
		all = append(all, hook{"xdp", &a.link, d.objects.FailoverVrrp, ebpf.AttachXDP})
	}
	if len(a.fence) == 2 {
		all = append(all,
			hook{"ingress", &a.fence[0], a.ingress, ebpf.AttachTCXIngress},
			hook{"egress", &a.fence[1], d.fence.objects.FailoverEgress, ebpf.AttachTCXEgress})
	}
	return all
}

// Look returns the interfaces whose programs don't see all packets, by what the kernel
// has. It takes some microseconds for each interface, and waits for the kernel's lock of
// the interfaces, so it isn't for the event loop. Interfaces with classifiers are looked
// at in turns.
func (d *Datapath) Look() []Lack {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	d.looks++
	var all []Lack
	began := monotonic()
	classes := 0
	for _, ifindex := range d.order() {
		a := d.attached[ifindex]
		if a.classes {
			classes++
		}
		if l, _ := d.look(a, began, !a.classes || d.turn(classes-1)); l != nil {
			all = append(all, *l)
		}
	}
	d.classes = classes
	return all
}

// order returns the interfaces in one that is always the same.
func (d *Datapath) order() []int {
	if d.ordered == nil {
		for ifindex := range d.attached {
			d.ordered = append(d.ordered, ifindex)
		}
		slices.Sort(d.ordered)
	}
	return d.ordered
}

// turn reports whether it is the turn of one of the interfaces with classifiers.
func (d *Datapath) turn(n int) bool {
	rounds := max(1, (d.classes+filtersAtOnce-1)/filtersAtOnce)
	return n/filtersAtOnce%rounds == d.looks%rounds
}

// Attached returns nil if the programs of an interface see its packets, and otherwise a
// *Lack; an error if that can't be told. It isn't for the event loop.
func (d *Datapath) Attached(ifindex int) error {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	a, ok := d.attached[ifindex]
	if !ok {
		return fmt.Errorf("interface %d isn't attached", ifindex)
	}
	l, err := d.look(a, monotonic(), true)
	if l != nil {
		return l
	}
	return err
}

// look returns what an attachment lacks, nil if nothing. It began at that time.
func (d *Datapath) look(a *attachment, began vrrp.Instant, filters bool) (*Lack, error) {
	lack := Lack{Interface: a.on}
	var errs []error
	for _, h := range d.hooks(a) {
		there, ahead, err := d.lookAt(a, h)
		if errors.Is(err, unix.ENODEV) {
			return nil, err // the interface is gone, which others notice
		}
		errs = append(errs, err)
		if !there && err == nil {
			lack.Detached = append(lack.Detached, h.name)
		}
		lack.add(ahead)
	}
	if a.classes && filters {
		detached, ahead, err := lookAtFilters(a)
		if errors.Is(err, unix.ENODEV) {
			return nil, err
		}
		errs = append(errs, err)
		lack.Detached = append(lack.Detached, detached...)
		lack.add(ahead)
	}
	if slices.ContainsFunc(a.sockets, (*socket).orphaned) {
		lack.Detached = append(lack.Detached, PathPacket)
	}
	err := errors.Join(errs...)
	if len(lack.Detached) == 0 && len(lack.InFront) == 0 {
		if err == nil && (!a.classes || filters) {
			a.found(began, nil)
		}
		return nil, err
	}
	lack.Left = a.moves >= moveMost && time.Since(a.moved) < moveWithin || a.classes
	a.found(began, &lack)
	return &lack, err
}

func (l *Lack) add(ahead []string) {
	for _, name := range ahead {
		if !slices.Contains(l.InFront, name) {
			l.InFront = append(l.InFront, name)
		}
	}
}

// lookAt reports whether a program is still attached to its hook, and which programs run
// before it.
func (d *Datapath) lookAt(a *attachment, h hook) (there bool, ahead []string, err error) {
	if h.at == ebpf.AttachXDP {
		info, err := (*h.link).Info()
		if err != nil {
			return false, nil, fmt.Errorf("look at the XDP program: %w", err)
		}
		x := info.XDP()
		return x != nil && int(x.Ifindex) == a.on.Index, nil, nil
	}
	own, err := d.idOf(h.program)
	if err != nil {
		return false, nil, err
	}
	chain, err := queryTCX(a.on.Index, h.at)
	if err != nil {
		return false, nil, err
	}
	for n, id := range chain {
		if id == own {
			return true, strangers(chain[:n]), nil
		}
	}
	return false, nil, nil
}

// idOf is the kernel's number of a program, which never changes.
func (d *Datapath) idOf(p *ebpf.Program) (ebpf.ProgramID, error) {
	if id, ok := d.ids[p]; ok {
		return id, nil
	}
	info, err := p.Info()
	if err != nil {
		return 0, fmt.Errorf("look at a TC program: %w", err)
	}
	id, ok := info.ID()
	if !ok {
		return 0, errors.New("the kernel doesn't tell the numbers of programs")
	}
	if d.ids == nil {
		d.ids = make(map[*ebpf.Program]ebpf.ProgramID)
	}
	d.ids[p] = id
	return id, nil
}

// strangers names the programs that aren't failoverd's.
func strangers(ids []ebpf.ProgramID) (names []string) {
	for _, id := range ids {
		name := "?"
		if p, err := ebpf.NewProgramFromID(id); err == nil {
			if info, err := p.Info(); err == nil {
				name = info.Name
			}
			_ = p.Close() // it was only read
		}
		if !strings.HasPrefix(name, classifierName) {
			names = append(names, fmt.Sprintf("%s (number %d)", cmp.Or(name, "?"), id))
		}
	}
	return names
}

// progQuery is what bpf(2) takes for BPF_PROG_QUERY.
type progQuery struct {
	ifindex, at, queryFlags, attachFlags uint32
	programs                             uint64
	count, _                             uint32
	_, _, _, revision                    uint64
}

// queryTCX returns the programs of an interface's hook, the first ones first, by one
// system call.
func queryTCX(ifindex int, at ebpf.AttachType) ([]ebpf.ProgramID, error) {
	var ids [chainMost]ebpf.ProgramID
	q := progQuery{ifindex: uint32(ifindex), at: uint32(at), programs: uint64(uintptr(unsafe.Pointer(&ids))), count: chainMost}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_QUERY, uintptr(unsafe.Pointer(&q)), unsafe.Sizeof(q))
	runtime.KeepAlive(&ids)
	if errno != 0 && errno != unix.ENOSPC { // with that, the first ones are there
		return nil, fmt.Errorf("look at the TC programs: %w", errno)
	}
	return ids[:min(q.count, chainMost)], nil
}

// lookAtFilters is lookAt for an interface with classifiers.
func lookAtFilters(a *attachment) (detached, ahead []string, err error) {
	device := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: a.on.Index}}
	for _, c := range a.filters {
		filters, err := netlink.FilterList(device, c.hook)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // those: there is no clsact
			return nil, nil, fmt.Errorf("list the filters: %w", err)
		}
		there := false
		for _, f := range filters {
			b, ok := f.(*netlink.BpfFilter)
			switch {
			case !ok:
			case b.Name == classifierName+c.name:
				there = true
			case !strings.HasPrefix(b.Name, classifierName) && b.DirectAction && b.Priority < classifierPriority:
				ahead = append(ahead, b.Name)
			}
		}
		if !there {
			detached = append(detached, c.name)
		}
	}
	return detached, ahead, nil
}

// Repair attaches again what was detached from an interface, and goes in front of what
// was put in front, but not for ever. It returns what it has done, empty for nothing.
// What can't be attached by XDP any more is received through AF_PACKET sockets meanwhile.
// What can't be attached at all is Lost then.
func (d *Datapath) Repair(ifindex int) (done []string, err error) {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	a, ok := d.attached[ifindex]
	if !ok {
		return nil, nil
	}
	lack, err := d.look(a, monotonic(), true)
	if lack == nil {
		if err == nil {
			a.repaired(nil, nil)
		}
		return nil, err
	}
	var errs []error
	moved := false
	for _, h := range d.hooks(a) {
		there, ahead, err := d.lookAt(a, h)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		switch {
		case !there:
		case len(ahead) > 0 && !lack.Left:
			moved = true
		default:
			continue
		}
		if err := d.reattach(a, h); err != nil {
			errs = append(errs, fmt.Errorf("attach %s again: %w", h.name, err))
			continue
		}
		done = append(done, h.name)
	}
	if moved {
		if time.Since(a.moved) >= moveWithin {
			a.moves = 0
		}
		a.moves, a.moved = a.moves+1, time.Now()
	}
	if detached, _, err := lookAtFilters(a); err == nil && len(detached) > 0 {
		if err := attachClassifiers(a.on.Index, a.filters); err != nil {
			errs = append(errs, err)
		} else {
			done = append(done, detached...)
		}
	}
	if slices.ContainsFunc(a.sockets, (*socket).orphaned) {
		err := errors.Join(d.closeSockets(a), d.openSockets(a, ifindex))
		if d.publish(); err == nil {
			done = append(done, PathPacket)
		}
		errs = append(errs, err)
	}
	lack, err = d.look(a, monotonic(), true) // from now on it hears
	err = errors.Join(append(errs, err)...)
	a.repaired(lack, err)
	return done, err
}

// reattach attaches the program of a hook anew: a link can't be moved, nor used again.
func (d *Datapath) reattach(a *attachment, h hook) error {
	old := *h.link
	// Its program can't be attached twice.
	_ = old.Detach()
	_ = old.Unpin()
	var x link.Link
	var err error
	if h.at == ebpf.AttachXDP {
		flags := link.XDPGenericMode
		if a.kind == PathNative {
			flags = link.XDPDriverMode
		}
		x, err = link.AttachXDP(link.XDPOptions{Program: h.program, Interface: a.on.Index, Flags: flags})
	} else {
		x, err = link.AttachTCX(link.TCXOptions{Interface: a.on.Index, Program: h.program, Attach: h.at, Anchor: link.Head()})
	}
	if err != nil {
		if h.at == ebpf.AttachXDP && len(a.sockets) == 0 {
			err = errors.Join(err, d.openSockets(a, a.on.Index))
			d.publish()
		}
		return err
	}
	*h.link = x
	errs := []error{old.Close()}
	if a.pinned != "" {
		_, err := d.pins.pinLink(x, filepath.Base(a.pinned), h.name)
		errs = append(errs, err)
	}
	if h.at == ebpf.AttachXDP && len(a.sockets) > 0 {
		errs = append(errs, d.closeSockets(a))
		d.publish()
	}
	return errors.Join(errs...)
}

func (d *Datapath) closeSockets(a *attachment) error {
	var errs []error
	for _, s := range a.sockets {
		d.counts[packet.ReasonRingFull].Add(s.lost())
		errs = append(errs, s.close())
	}
	a.sockets = nil
	return errors.Join(errs...)
}

// orphaned reports whether the interface of the socket is gone: another one with its
// number isn't it.
func (s *socket) orphaned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return false
	}
	at, err := unix.Getsockname(s.fd)
	if err != nil {
		return false
	}
	bound, ok := at.(*unix.SockaddrLinklayer)
	return ok && bound.Ifindex != s.ifindex
}
