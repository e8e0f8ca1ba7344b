// SPDX-License-Identifier: Apache-2.0

// Package datapath receives VRRP advertisements: through the XDP program of
// package bpf where that is possible, and through AF_PACKET sockets where it
// isn't. Both ways apply the same checks and raise the same counters.
package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Options say how to load the datapath.
type Options struct {
	// Dir is where programs, maps and links are pinned, in a BPF file system.
	Dir string
	// Unpinned pins nothing: everything goes with the process.
	Unpinned bool
	// Adopt are the interfaces whose XDP program, left behind by a killed
	// run, is replaced in place instead of being detached.
	Adopt []int
}

// addressesMax is how many addresses an advertisement has at most.
const addressesMax = 255

// Router is what the checks need to know of a Virtual Router.
type Router struct {
	Version  uint8
	Dual     bool       // accept version 2 beside 3 (RFC 9568 §8.4)
	Source   netip.Addr // its own address: an advertisement from it is refused
	Running  bool       // false in Initialize: advertisements are discarded
	Heed     uint8      // the least priority that an Ear knows of
	Priority uint8      // its own: Answer ends as soon as a better one is heard in version 3; 0: it doesn't
	Forms    packet.Checksum
	Tolerate packet.Tolerance
	// Peers make it a unicast router: it hears nobody else, and nothing that was
	// sent to the group. They belong to the Datapath then.
	Peers map[netip.Addr]packet.Hops
	// Verifier judges what has passed all other checks; nil lets it all in.
	// Nothing but what it accepts is delivered, and an Ear knows of nothing else:
	// the kernel judges by its Rules first.
	Verifier Verifier
	// DropUnchanged keeps what Ear.Expect was told of from the host's stack.
	DropUnchanged bool
	// Addresses are fenced: the host answers for them while Answer says so. An
	// Owner's are its own: it answers until another router is heard to be Active.
	Addresses  []netip.Addr
	Owner      bool
	VirtualMAC bool // the addresses are at the virtual MAC (RFC 9568 §7.3)
	Device     bool // they are on a macvlan, which has it as its own
	Accept     bool // Accept_Mode; an owner always does
}

// Verifier decides whether an advertisement is authentic. It is called by Drain,
// in the order of reception; the Message, Trailer and Header of the datagram are
// valid during the call.
type Verifier interface {
	// Rules are what the kernel judges by. They don't change.
	Rules() auth.Rules
	// Verify returns the packet.Reason to refuse it, nil if it is authentic.
	Verify(at vrrp.Instant, d *packet.Datagram, a *packet.Advertisement) error
}

// Discard is the last packet that was refused for a reason.
type Discard struct {
	ReceivedAt vrrp.Instant
	Ifindex    int
	Family     packet.Family
	VRID       uint8 // 0 if it can't be told
	Source     netip.Addr
}

// entry is a Virtual Router that was made known.
type entry struct {
	Router
	slot uint32
	keys []bpf.VrrpFailoverSecretKey // that the kernel has of it
	// proven says that the kernel keeps what it has accepted for it.
	proven bool
}

// Datapath receives on the interfaces that are attached. Wait and Drain belong to
// one goroutine; the other methods may be called from any.
type Datapath struct {
	unavailable error // why there is no BPF
	unpinned    error // why nothing is pinned though it should be
	objects     bpf.VrrpObjects
	fence       *fence // nil where there is none
	unfenced    error  // and why
	pins        *pins
	rings       []*ring // of routers without authentication, and with
	clock       *clock  // nil without BPF
	ears        []byte  // the stamps, mapped
	waiter      *waiter

	// attaching is held while a NIC takes its time to attach or detach, so
	// Drain and Ear must not need it: they read what is published.
	attaching sync.Mutex
	attached  map[int]*attachment
	ordered   []int // the interfaces, nil if that isn't known
	looks     int   // at them
	classes   int   // how many have classifiers
	ids       map[*ebpf.Program]ebpf.ProgramID
	sockets   atomic.Pointer[[]*socket]
	watched   atomic.Pointer[map[int]bool]
	hearing   atomic.Pointer[map[int]*hearing]
	asked     chan struct{} // somebody wants a look

	mu      sync.RWMutex // held for moments only
	routers map[packet.Key]entry
	beside  map[int]map[packet.Key][]netip.Addr // what SetSibling was told, by interfaces
	free    []uint32                            // slots of forgotten routers
	slots   uint32
	last    [packet.ReasonCount]Discard

	counts [packet.ReasonCount]atomic.Uint64
	record Record
	// deliver is whom Drain is for, and sample is drainSample, made once: Drain
	// leaves nothing for the garbage collector.
	deliver func(*Record)
	sample  func([]byte)
}

// Load makes the datapath ready. Where BPF can't be used, the Datapath still
// works with AF_PACKET sockets, and Unavailable says why.
func Load(o Options) (*Datapath, error) {
	d := &Datapath{
		routers:  make(map[packet.Key]entry),
		beside:   make(map[int]map[packet.Key][]netip.Addr),
		attached: make(map[int]*attachment),
		asked:    make(chan struct{}, 1),
	}
	d.sample = d.drainSample
	waiter, err := newWaiter()
	if err != nil {
		return nil, err
	}
	d.waiter = waiter
	if d.unavailable = d.loadBPF(); d.unavailable == nil {
		if d.fence, d.unfenced = loadFence(d.objects.FailoverTc, d.objects.FailoverLease); d.unfenced != nil {
			d.unfenced = fmt.Errorf("load the fence: %w", d.unfenced)
		}
		err = errors.Join(d.waiter.add(d.objects.FailoverRing.FD()), d.waiter.add(d.objects.FailoverSealed.FD()))
		if err == nil && !o.Unpinned {
			d.pins, d.unpinned = openPins(o.Dir, o.Adopt)
			if d.unpinned == nil {
				err = d.pins.pin(&d.objects, d.fence)
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Datapath) loadBPF() error {
	spec, err := bpf.LoadVrrp()
	if err != nil {
		return err
	}
	spec.Maps[".rodata"].Name = "failover.rodata" // or bpftool doesn't say whose it is
	if err := spec.LoadAndAssign(&d.objects, nil); err != nil {
		if errors.Is(err, os.ErrPermission) {
			err = fmt.Errorf("no privilege, grant CAP_BPF and CAP_PERFMON: %w", err)
		}
		return err
	}
	for _, m := range []*ebpf.Map{d.objects.FailoverRing, d.objects.FailoverSealed} {
		r, err := openRing(m)
		if err != nil {
			return errors.Join(err, d.closeBPF())
		}
		d.rings = append(d.rings, r)
	}
	if d.ears, err = mapEars(d.objects.FailoverStamp); err == nil {
		d.clock, err = newClock(d.objects.FailoverClock)
	}
	if err != nil {
		return errors.Join(err, d.closeBPF())
	}
	return nil
}

func (d *Datapath) closeBPF() error {
	var errs []error
	if d.clock != nil {
		errs = append(errs, d.clock.close())
		d.clock = nil
	}
	for _, r := range d.rings {
		errs = append(errs, r.close())
	}
	d.rings = nil
	if d.ears != nil {
		errs = append(errs, unmap(d.ears))
		d.ears = nil
	}
	if d.fence != nil {
		errs = append(errs, d.fence.close())
		d.fence = nil
	}
	return errors.Join(append(errs, d.objects.Close())...)
}

// Unavailable returns why BPF can't be used on this host, nil if it can.
func (d *Datapath) Unavailable() error { return d.unavailable }

// Unpinned returns why the BPF objects could not be pinned, nil if they were
// or were not to be. They work all the same, but bpftool finds no map by path.
func (d *Datapath) Unpinned() error { return d.unpinned }

// Close detaches from every interface and removes everything that Load made.
func (d *Datapath) Close() error {
	var errs []error
	d.attaching.Lock()
	for ifindex := range d.attached {
		errs = append(errs, d.detach(ifindex))
	}
	d.attaching.Unlock()
	errs = append(errs, d.waiter.close())
	if d.pins != nil {
		errs = append(errs, d.pins.close())
	}
	if d.unavailable == nil {
		errs = append(errs, d.closeBPF())
	}
	return errors.Join(errs...)
}

// Wait returns when there may be something to drain, after Wake, and when a time of
// CLOCK_MONOTONIC has come, not before and by microseconds later. It belongs to one
// goroutine, whose thread serves others meanwhile.
func (d *Datapath) Wait(until vrrp.Instant) error { return d.waiter.wait(until) }

// WaitInThread is Wait, but the goroutine's thread is what waits: no other one lies
// between the arrival and the return. If that may be long, Go's runtime gives what the
// thread held to others at once.
func (d *Datapath) WaitInThread(until vrrp.Instant, long bool) error {
	return d.waiter.waitInThread(until, long)
}

// Wake ends the Wait that is under way, or the next one.
func (d *Datapath) Wake() { d.waiter.wake() }

// SetRouter makes a Virtual Router known, or changes it. Without it its
// advertisements are counted as vrid_errors. If the kernel doesn't take it, nothing has
// changed, and the error names what is full: see Fit.
func (d *Datapath) SetRouter(k packet.Key, r Router) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, known := d.routers[k]
	now := entry{Router: r, slot: before.slot, proven: before.proven}
	if d.unavailable == nil {
		var err error
		if known {
			err = d.change(k, &before, &now)
		} else {
			err = d.add(k, &now)
		}
		if err != nil {
			return fmt.Errorf("tell the kernel of VRID %d: %w", k.VRID, err)
		}
	}
	d.routers[k] = now
	return nil
}

// add makes a new Virtual Router known to the kernel, or leaves nothing of it there.
func (d *Datapath) add(k packet.Key, e *entry) (err error) {
	if e.slot, err = d.newSlot(); err != nil {
		return err
	}
	if d.fence != nil {
		err = d.fence.own(k, e.slot, &e.Router)
	}
	if err == nil {
		err = d.tellReceivers(k, &entry{}, e)
	}
	if err != nil {
		err = errors.Join(err, d.takeBack(k, e))
	}
	return err
}

// change makes a Virtual Router another one in the kernel, or leaves it as it was.
func (d *Datapath) change(k packet.Key, before, now *entry) error {
	err := d.tell(k, before, now)
	if err != nil {
		err = errors.Join(err, d.tell(k, now, before))
	}
	return err
}

func (d *Datapath) tell(k packet.Key, before, now *entry) error {
	if d.fence != nil {
		if err := d.fence.change(k, now.slot, &before.Router, &now.Router); err != nil {
			return err
		}
	}
	return d.tellReceivers(k, before, now)
}

// tellReceivers makes a Virtual Router known to the receiving programs, or changes it:
// what it needs comes before it, and what it needs no longer goes behind it.
func (d *Datapath) tellReceivers(k packet.Key, before, now *entry) error {
	if err := d.putPeers(k, now.Peers); err != nil {
		return err
	}
	if err := d.putKeys(now); err != nil {
		return err
	}
	if err := d.objects.FailoverRouter.Put(kernelKey(k), now.kernel()); err != nil {
		return noRoom(bpf.VrrpMapFailoverRouter, d.objects.FailoverRouter.MaxEntries(), err)
	}
	return errors.Join(d.deletePeers(k, before.Peers, now.Peers), d.deleteKeys(now, before))
}

// takeBack has the kernel forget a Virtual Router, also one that it knows only partly.
func (d *Datapath) takeBack(k packet.Key, e *entry) error {
	var errs []error
	if d.fence != nil {
		errs = append(errs, d.forgetBeside(k, e.slot), d.fence.disown(k, e.slot, &e.Router))
	}
	errs = append(errs, absent(d.objects.FailoverRouter.Delete(kernelKey(k))), d.deletePeers(k, e.Peers, nil), d.deleteKeys(&entry{slot: e.slot}, e))
	d.free = append(d.free, e.slot)
	return errors.Join(errs...)
}

// unicast reports whether it hears peers and not the group.
func (r *Router) unicast() bool { return len(r.Peers) > 0 }

func (d *Datapath) putPeers(k packet.Key, peers map[netip.Addr]packet.Hops) error {
	for a, hops := range peers {
		limits := bpf.VrrpFailoverPeerLimits{MinTtl: uint16(hops.Min), MaxTtl: uint16(hops.Max)}
		if err := d.objects.FailoverPeer.Put(peerKey(k, a), limits); err != nil {
			return fmt.Errorf("its peer %s: %w", a, noRoom(bpf.VrrpMapFailoverPeer, d.objects.FailoverPeer.MaxEntries(), err))
		}
	}
	return nil
}

// deletePeers has the kernel forget the peers that aren't among those kept.
func (d *Datapath) deletePeers(k packet.Key, peers, kept map[netip.Addr]packet.Hops) error {
	for a := range peers {
		if _, keep := kept[a]; keep {
			continue
		}
		if err := absent(d.objects.FailoverPeer.Delete(peerKey(k, a))); err != nil {
			return fmt.Errorf("its peer %s: %w", a, err)
		}
	}
	return nil
}

// newSlot returns an empty slot for a stamp.
func (d *Datapath) newSlot() (uint32, error) {
	if n := len(d.free); n > 0 {
		slot := d.free[n-1]
		if err := d.objects.FailoverStamp.Put(slot, bpf.VrrpFailoverLiveness{}); err != nil {
			return 0, err
		}
		d.free = d.free[:n-1]
		return slot, nil
	}
	if d.slots == d.objects.FailoverStamp.MaxEntries() {
		return 0, noRoom(bpf.VrrpMapFailoverStamp, d.objects.FailoverStamp.MaxEntries(), unix.E2BIG)
	}
	d.slots++
	return d.slots - 1, nil
}

// DeleteRouter forgets a Virtual Router.
func (d *Datapath) DeleteRouter(k packet.Key) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, known := d.routers[k]
	if !known {
		return nil
	}
	delete(d.routers, k)
	if d.unavailable != nil {
		return nil
	}
	if err := d.takeBack(k, &e); err != nil {
		return fmt.Errorf("have the kernel forget VRID %d: %w", k.VRID, err)
	}
	return nil
}

// Counters returns how many packets raised each counter, by Reason.
func (d *Datapath) Counters() [packet.ReasonCount]uint64 {
	var all [packet.ReasonCount]uint64
	for n := range d.counts {
		all[n] = d.counts[n].Load()
	}
	for _, s := range d.allSockets() {
		all[packet.ReasonRingFull] += s.lost()
	}
	if d.unavailable != nil {
		return all
	}
	var perCPU [][packet.ReasonCount]uint64
	if err := d.objects.FailoverCount.Lookup(uint32(0), &perCPU); err != nil {
		return all // the map is an array: its one entry can't be missing
	}
	for _, counters := range perCPU {
		for n, v := range counters {
			all[n] += v
		}
	}
	return all
}

// Count raises a counter for what the state machine found.
func (d *Datapath) Count(r packet.Reason) { d.counts[r].Add(1) }

// LastDiscard returns the last packet refused for a reason before it reached a
// state machine.
func (d *Datapath) LastDiscard(r packet.Reason) (Discard, bool) {
	d.mu.RLock()
	newest := d.last[r]
	d.mu.RUnlock()
	if d.unavailable == nil {
		var perCPU []bpf.VrrpFailoverDiscard
		if err := d.objects.FailoverLast.Lookup(uint32(r), &perCPU); err == nil {
			for _, v := range perCPU {
				if at := vrrp.Instant(v.Received); at > newest.ReceivedAt {
					f := packet.Family(v.Family)
					newest = Discard{ReceivedAt: at, Ifindex: int(v.Ifindex), Family: f, VRID: uint8(v.Vrid), Source: fromOctets(f, v.Source)}
				}
			}
		}
	}
	return newest, newest.ReceivedAt != 0
}

// speaks reports whether advertisements of the version are for the router.
func (r Router) speaks(version uint8) bool {
	return version == r.Version || r.Dual && version == 2
}

// kernel returns the router as the receiving programs know it.
func (e *entry) kernel() bpf.VrrpFailoverVirtualRouter {
	r := &e.Router
	v := bpf.VrrpFailoverVirtualRouter{Slot: e.slot, Versions: 1 << r.Version, Heed: r.Heed, Forms: uint8(r.Forms), Source: octets(r.Source)}
	if r.Dual {
		v.Versions |= 1 << 2
	}
	v.Running, v.Unicast = uint8(number(r.Running)), uint8(number(r.unicast()))
	v.Priority = r.Priority
	v.DropUnchanged = uint8(number(r.DropUnchanged))
	v.Addresses = uint16(min(len(r.Addresses), addressesMax))
	if r.Verifier != nil {
		rules := r.Verifier.Rules()
		v.Auth, v.Enforce, v.Window = kernelAuth[rules.Type], uint8(number(rules.Enforce)), uint16(rules.Window/time.Second)
	}
	if r.Tolerate.TrailingOctets {
		v.Tolerate |= bpf.VrrpFailoverToleranceTOLERATE_TRAILING_OCTETS
	}
	if r.Tolerate.AnyFirstAddress {
		v.Tolerate |= bpf.VrrpFailoverToleranceTOLERATE_ANY_FIRST_ADDRESS
	}
	if r.Tolerate.AuthTrailer {
		v.Tolerate |= bpf.VrrpFailoverToleranceTOLERATE_AUTH_TRAILER
	}
	if r.Tolerate.AuthHeader {
		v.Tolerate |= bpf.VrrpFailoverToleranceTOLERATE_AUTH_HEADER
	}
	return v
}

func kernelKey(k packet.Key) bpf.VrrpFailoverKey {
	return bpf.VrrpFailoverKey{Ifindex: uint32(k.Ifindex), Family: uint16(k.Family), Vrid: uint16(k.VRID)}
}

func peerKey(k packet.Key, a netip.Addr) bpf.VrrpFailoverPeerKey {
	return bpf.VrrpFailoverPeerKey{Ifindex: uint32(k.Ifindex), Family: uint16(k.Family), Vrid: uint16(k.VRID), Address: octets(a)}
}

// octets returns an address as the kernel keeps it: IPv4 in the first four.
func octets(a netip.Addr) (b [16]byte) {
	if a.IsValid() {
		copy(b[:], a.Unmap().AsSlice())
	}
	return b
}

func fromOctets(f packet.Family, b [16]byte) netip.Addr {
	if f == packet.IPv4 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16(b)
}
