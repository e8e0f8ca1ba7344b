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
	// moveLimit is how often Repair puts the programs of an interface in front of others
	// again within movePeriod. Another program may insist on the first place too.
	moveLimit  = 5
	movePeriod = time.Hour
	// filtersAtOnce is the number of interfaces with classifiers that one Look checks:
	// listing filters costs more than everything else.
	filtersAtOnce = 50
	// chainMax is the number of programs of a hook that a look reads.
	chainMax = 64
)

// Lack says why the programs of an interface don't see all of its packets.
type Lack struct {
	Interface Link
	// Detached names what is no longer attached: xdp, receive, ingress, egress, or
	// af_packet for a socket whose interface is gone.
	Detached []string
	// InFront names the foreign programs that see the packets first. They can keep
	// packets from failoverd's programs.
	InFront []string
	// Left says that Repair leaves the programs in InFront where they are. It has
	// moved failoverd's in front of them too often, or can't, because they are filters.
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

// hook is a hook of an interface at which a link attaches one of failoverd's programs.
type hook struct {
	name    string // the name of the link's pin
	link    *link.Link
	program *ebpf.Program
	at      ebpf.AttachType // AttachXDP, or one of TCX
}

// hooks returns the hooks at which an attachment has links.
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

// Look asks the kernel which programs are attached, and returns a Lack for each interface
// whose programs don't see all packets. It takes some microseconds per interface and
// waits for the kernel's RTNL lock, so the event loop must not call it. Interfaces with
// classifiers take turns: one call checks filtersAtOnce of them.
func (d *Datapath) Look() []Lack {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	d.looks++
	var all []Lack
	began := monotonic()
	withFilters := 0
	for _, ifindex := range d.order() {
		a := d.attached[ifindex]
		if a.hasFilters {
			withFilters++
		}
		if l, _ := d.look(a, began, !a.hasFilters || d.isTurn(withFilters-1)); l != nil {
			all = append(all, *l)
		}
	}
	d.withFilters = withFilters
	return all
}

// order returns the indexes of the attached interfaces in ascending order.
func (d *Datapath) order() []int {
	if d.ordered == nil {
		for ifindex := range d.attached {
			d.ordered = append(d.ordered, ifindex)
		}
		slices.Sort(d.ordered)
	}
	return d.ordered
}

// isTurn reports whether this Look checks the nth interface with classifiers.
func (d *Datapath) isTurn(n int) bool {
	rounds := max(1, (d.withFilters+filtersAtOnce-1)/filtersAtOnce)
	return n/filtersAtOnce%rounds == d.looks%rounds
}

// Attached returns nil if the programs of an interface see its packets, a *Lack if they
// don't, and another error if it can't find out. The event loop must not call it.
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

// look returns what an attachment lacks, nil for nothing. began is the time at which it
// began. With filters it also lists the filters of clsact.
func (d *Datapath) look(a *attachment, began vrrp.Instant, filters bool) (*Lack, error) {
	lack := Lack{Interface: a.on}
	var errs []error
	for _, h := range d.hooks(a) {
		there, ahead, err := d.lookAt(a, h)
		if errors.Is(err, unix.ENODEV) {
			return nil, err // the interface is gone; the link monitor reports that
		}
		errs = append(errs, err)
		if !there && err == nil {
			lack.Detached = append(lack.Detached, h.name)
		}
		lack.add(ahead)
	}
	if a.hasFilters && filters {
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
		if err == nil && (!a.hasFilters || filters) {
			a.noteLook(began, nil)
		}
		return nil, err
	}
	lack.Left = a.moves >= moveLimit && time.Since(a.moved) < movePeriod || a.hasFilters
	a.noteLook(began, &lack)
	return &lack, err
}

func (l *Lack) add(ahead []string) {
	for _, name := range ahead {
		if !slices.Contains(l.InFront, name) {
			l.InFront = append(l.InFront, name)
		}
	}
}

// lookAt reports whether a program is still attached to its hook, and returns the names of
// the foreign programs that run before it.
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
			return true, foreignPrograms(chain[:n]), nil
		}
	}
	return false, nil, nil
}

// idOf returns the kernel's ID of a program. IDs never change, so it keeps them.
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
		return 0, errors.New("the kernel doesn't report program IDs")
	}
	if d.ids == nil {
		d.ids = make(map[*ebpf.Program]ebpf.ProgramID)
	}
	d.ids[p] = id
	return id, nil
}

// foreignPrograms returns the names of the programs that aren't failoverd's.
func foreignPrograms(ids []ebpf.ProgramID) (names []string) {
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

// progQuery is the argument of BPF_PROG_QUERY in bpf(2).
type progQuery struct {
	ifindex, at, queryFlags, attachFlags uint32
	programs                             uint64
	count, _                             uint32
	_, _, _, revision                    uint64
}

// queryTCX returns the IDs of the programs at an interface's hook, in the order in which
// they run. It makes a single system call.
func queryTCX(ifindex int, at ebpf.AttachType) ([]ebpf.ProgramID, error) {
	var ids [chainMax]ebpf.ProgramID
	q := progQuery{ifindex: uint32(ifindex), at: uint32(at), programs: uint64(uintptr(unsafe.Pointer(&ids))), count: chainMax}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_QUERY, uintptr(unsafe.Pointer(&q)), unsafe.Sizeof(q))
	runtime.KeepAlive(&ids)
	if errno != 0 && errno != unix.ENOSPC { // ENOSPC: there are more than chainMax
		return nil, fmt.Errorf("look at the TC programs: %w", errno)
	}
	return ids[:min(q.count, chainMax)], nil
}

// lookAtFilters is lookAt for the classifiers of an interface.
func lookAtFilters(a *attachment) (detached, ahead []string, err error) {
	device := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: a.on.Index}}
	for _, c := range a.filters {
		filters, err := netlink.FilterList(device, c.hook)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // both mean that there is no clsact
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

// Repair attaches again what was detached from an interface, and moves failoverd's
// programs in front of foreign ones, at most moveLimit times in movePeriod. It returns the
// names of what it attached. While the XDP program can't be attached, AF_PACKET sockets
// receive. After several failures Lost names what can't be attached.
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
			a.noteRepair(nil, nil)
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
		if time.Since(a.moved) >= movePeriod {
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
	lack, err = d.look(a, monotonic(), true) // so that Hearing knows the result
	err = errors.Join(append(errs, err)...)
	a.noteRepair(lack, err)
	return done, err
}

// reattach attaches the program of a hook with a new link, because a link can neither be
// moved nor attached again.
func (d *Datapath) reattach(a *attachment, h hook) error {
	old := *h.link
	// A program can't be attached twice to one hook.
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

// orphaned reports whether the interface of the socket is gone. A new interface with the
// same index doesn't revive the socket.
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
