// SPDX-License-Identifier: Apache-2.0

// Package datapath receives VRRP advertisements. It uses the programs of package
// bpf where the kernel and the interface allow it, and AF_PACKET sockets elsewhere.
// Both paths apply the same checks and raise the same counters. The package also
// loads and attaches the fence, and keeps the kernel's maps in step with the
// Virtual Routers.
package datapath

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
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

// Options configure Load.
type Options struct {
	// Dir is the directory in a BPF file system in which programs, maps and links
	// are pinned.
	Dir string
	// Unpinned pins nothing. The kernel then removes everything when the process
	// ends.
	Unpinned bool
	// Adopt lists the interfaces whose XDP program, if a killed run left one, is
	// replaced in place instead of detached.
	Adopt []int
	// Candidates lists the interfaces that Attach is going to be called for first. Load loads
	// the programs that they need. Others are loaded by Attach. If it is nil, Load loads
	// all programs.
	Candidates []Candidate
	// Namespace is the cookie of the network namespace. With 0 a later run can't take over
	// anything from this one.
	Namespace uint64
	// Remains is the result of Survey in the same directory, nil for none. Load takes
	// ownership of it. Heirs are the Virtual Routers of it whose entries and leases go on;
	// Load removes the others. Their addresses must be gone from the host.
	Remains *Remains
	Heirs   []packet.Key
	// Prepared has the programs that Prepare has loaded, nil for none. Load takes ownership of it.
	Prepared *Prepared
	// Objects is the result of ParseObjects. If it is nil, Load parses the files.
	Objects *Objects
	// Reserved is the result of Reserve, nil for none.
	Reserved *Reservations
	// Authenticates loads receiving programs that know authentication. Without it they are replaced
	// when the first Virtual Router with a Verifier is registered.
	Authenticates bool
}

// addressesMax is the largest number of addresses in an advertisement.
const addressesMax = 255

// Router holds the parameters of a Virtual Router that the checks, the fence and the
// virtual MAC depend on.
type Router struct {
	Version     uint8
	Dual        bool       // accept version 2 beside 3 (RFC 9568 §8.4)
	Source      netip.Addr // its own address: an advertisement from it is refused
	Running     bool       // false in Initialize: advertisements are discarded
	MinPriority uint8      // the lowest priority that a ReceiveState stamps
	// Priority is its own priority. The kernel ends Lease.Answer when it receives an
	// advertisement of version 3 that this router yields to as an Active; 0 switches
	// this off.
	Priority uint8
	Forms    packet.Checksum
	Tolerate packet.Tolerance
	// Peers makes it a unicast router, which accepts advertisements only from its
	// peers and none that were sent to the group. SetRouter takes ownership of the map.
	Peers map[netip.Addr]packet.Hops
	// Verifier authenticates advertisements that have passed all other checks; nil
	// accepts all of them. The kernel applies its Rules first, so what it refuses
	// is neither delivered nor visible in a ReceiveState.
	Verifier Verifier
	// DropUnchanged drops the advertisements that ReceiveState.SetExpected names, so that they
	// don't reach the host's network stack.
	DropUnchanged bool
	// Addresses are fenced: the host answers for them only until Lease.Answer. The
	// addresses of an Owner are the host's own: it answers for them unless its lease
	// has ended and another router is known to be Active.
	Addresses  []netip.Addr
	Owner      bool
	VirtualMAC bool // the addresses use the virtual MAC (RFC 9568 §7.3)
	Device     bool // the addresses are on a macvlan that has the virtual MAC
	Accept     bool // Accept_Mode; ignored for an Owner, which always accepts
}

// Verifier authenticates advertisements. Drain calls it in the order of reception.
// The Message, Trailer and Header of the datagram are valid only during the call.
type Verifier interface {
	// Rules returns the keys and rules that the kernel verifies with. They don't
	// change.
	Rules() auth.Rules
	// Verify returns nil for an authentic advertisement, and otherwise the
	// packet.Reason to refuse it.
	Verify(at vrrp.Instant, d *packet.Datagram, a *packet.Advertisement) error
}

// Discard describes the last packet that was refused for a reason.
type Discard struct {
	ReceivedAt vrrp.Instant
	Ifindex    int
	Family     packet.Family
	VRID       uint8 // 0 if unknown
	Source     netip.Addr
}

// entry is a registered Virtual Router.
type entry struct {
	Router
	slot uint32                      // its index in the kernel's array maps
	keys []bpf.VrrpFailoverSecretKey // its entries in failover_keys
	// proven reports whether failover_proven has an entry for it.
	proven bool
}

// Datapath receives on the attached interfaces. Only one goroutine may call Wait,
// WaitInThread and Drain. All other methods are safe for concurrent use.
type Datapath struct {
	unavailable   error           // why BPF can't be used; nil if it can
	unpinned      error           // why pinning failed; nil if it didn't
	objects       bpf.VrrpObjects // its programs are nil until an interface needs them
	collection    *collection
	fence         *fence // nil if it can't be loaded
	unfenced      error  // why it can't
	pins          *pins
	reserved      *Reservations
	rings         []*ring // failover_ring and failover_sealed
	clock         *clock  // nil without BPF
	receiveStates []byte  // failover_stamp, mapped
	waiter        *waiter

	// attaching guards the fields of this block. It is held while a NIC attaches or
	// detaches a program, which can take seconds. Drain and ReceiveState must not wait for it,
	// so they read the copies that publish makes.
	attaching    sync.Mutex
	attached     map[int]*attachment
	ordered      []int // the keys of attached in ascending order; nil: not computed yet
	looks        int   // the number of calls of Look
	withFilters  int   // the number of interfaces with classifiers, by the last Look
	ids          map[*ebpf.Program]ebpf.ProgramID
	sockets      atomic.Pointer[[]*socket]
	watched      atomic.Pointer[map[int]bool]
	hearing      atomic.Pointer[map[int]*hearing]
	lookRequests chan struct{} // see LookRequests

	mu       sync.RWMutex // only ever held briefly
	routers  map[packet.Key]entry
	siblings map[int]map[packet.Key][]netip.Addr // see SetSibling; by the index of the sibling
	restored map[packet.Key][]string             // see Restored
	// inherited has the Virtual Routers of a killed run that are heirs and not registered yet.
	inherited map[packet.Key]*Found
	// inheritedStates is the mapped memory of failover_stamp of the killed run, nil without such.
	inheritedStates []byte
	used            bool     // the maps and programs are those of another run
	free            []uint32 // slots of deleted routers
	slots           uint32   // the number of slots ever used
	last            [packet.ReasonCount]Discard

	counts [packet.ReasonCount]atomic.Uint64
	record Record
	// deliver is the argument of the current Drain. sample holds d.drainSample:
	// making the method value once keeps Drain free of allocations.
	deliver func(*Record)
	sample  func([]byte)
}

// Load loads the programs and maps. If BPF can't be used, the Datapath still
// receives through AF_PACKET sockets, and Unavailable returns the reason.
func Load(o Options) (*Datapath, error) {
	defer func() { _ = o.Remains.Close() }() // pins has the lock, and the maps are pinned
	heirs, from := o.heirs(), o.sources()
	d, err := o.Prepared.take(from[0])
	if d == nil && err == nil {
		d, err = load(&o, from)
	}
	if err != nil {
		o.Reserved.Close()
		return nil, err
	}
	d.reserved = o.Reserved
	if d.unavailable == nil {
		if d.unfenced != nil {
			d.unfenced = fmt.Errorf("load the fence: %w", d.unfenced)
		}
		err = errors.Join(d.waiter.add(d.objects.FailoverRing.FD()), d.waiter.add(d.objects.FailoverSealed.FD()))
		if err == nil && d.fence != nil && d.objects.FailoverTc != nil {
			err = d.fence.setNext(d.objects.FailoverTc)
		}
		if err == nil && (len(heirs) > 0 || d.used) && d.fence != nil {
			err = d.inherit(o.Remains, heirs)
		}
		if err == nil && !o.Unpinned {
			d.pins, d.unpinned = openPins(&o, d.fence != nil && len(heirs) > 0, d.used)
			if d.unpinned == nil {
				err = d.pins.pin(d)
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// sources returns what Load may take over, the best first: everything, what has to last for the
// heirs, or nothing.
func (o *Options) sources() []*inheritance {
	if o.Remains == nil || o.Unpinned {
		return []*inheritance{{}}
	}
	all := o.Remains.objects(o.Authenticates)
	if len(o.heirs()) == 0 {
		last := &all[len(all)-1]
		*last = &inheritance{specs: (*last).specs}
	}
	return all
}

// load returns a Datapath that has loaded its programs, and changed no inherited map. It tries the
// next source if the programs of the one before can't be used.
func load(o *Options, from []*inheritance) (*Datapath, error) {
	for n, source := range from {
		d, err := loadFrom(o, source)
		if err != nil || n == len(from)-1 || d.unavailable == nil && d.unfenced == nil {
			return d, err
		}
		if err := d.Close(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func loadFrom(o *Options, from *inheritance) (*Datapath, error) {
	d := &Datapath{
		routers:      make(map[packet.Key]entry),
		siblings:     make(map[int]map[packet.Key][]netip.Addr),
		attached:     make(map[int]*attachment),
		lookRequests: make(chan struct{}, 1),
		inherited:    make(map[packet.Key]*Found),
	}
	d.sample = d.drainSample
	waiter, err := newWaiter()
	if err != nil {
		return nil, err
	}
	d.waiter = waiter
	if from.specs == nil {
		from.specs, d.unavailable = o.Objects.get()
	}
	if d.unavailable == nil {
		d.unavailable = d.loadBPF(from, programsFor(o.Candidates), o.Authenticates)
	}
	return d, nil
}

// loadBPF loads the receiving programs, and the fence at the same time. The two have one map
// in common. Inherited maps and programs are used instead of new ones.
func (d *Datapath) loadBPF(from *inheritance, names []string, authenticates bool) (err error) {
	shared := maps.Clone(from.maps)
	if len(shared) == 0 {
		shared = make(map[string]*ebpf.Map)
		var leases *ebpf.Map
		if leases, err = ebpf.NewMap(from.specs.vmac.Maps[bpf.VmacMapFailoverLease]); err == nil {
			defer func() { _ = leases.Close() }() // both have a copy of the descriptor
			shared[bpf.VmacMapFailoverLease] = leases
		}
	}
	if d.used = from.programs != nil; d.used {
		names = slices.DeleteFunc(names, func(name string) bool { return from.programs[name] != nil })
	}
	if err == nil {
		loaded := make(chan struct{})
		go func() {
			defer close(loaded)
			d.fence, d.unfenced = loadFence(from.specs.vmac, shared, names)
		}()
		err = d.loadReceivers(from.specs.vrrp, shared, names, authenticates)
		<-loaded
	}
	if errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("missing privilege, grant CAP_BPF and CAP_PERFMON: %w", err)
	}
	if err != nil {
		return errors.Join(err, d.closeBPF())
	}
	for name, p := range from.programs {
		if at := d.programAt(name); at != nil && *at == nil {
			*at = p
			delete(from.programs, name)
		}
	}
	return nil
}

// programAt returns the field of a program, nil without a fence.
func (d *Datapath) programAt(name string) **ebpf.Program {
	switch name {
	case bpf.VrrpProgFailoverVrrp:
		return &d.objects.FailoverVrrp
	case bpf.VrrpProgFailoverTc:
		return &d.objects.FailoverTc
	}
	if d.fence == nil {
		return nil
	}
	switch o := &d.fence.objects; name {
	case bpf.VmacProgFailoverIn:
		return &o.FailoverIn
	case bpf.VmacProgFailoverIngress:
		return &o.FailoverIngress
	}
	return &d.fence.objects.FailoverEgress
}

// loadReceivers loads the receiving programs and opens what they write to. After an error
// closeBPF closes the part that is open.
func (d *Datapath) loadReceivers(spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map, names []string, authenticates bool) error {
	c := &collection{read: bpf.LoadVrrp, authenticates: authenticates}
	programs, err := c.load(spec, withVariables(shared, bpf.VrrpVarFailoverClock), names, &d.objects.VrrpMaps, &d.objects.VrrpVariables)
	if err != nil {
		return err
	}
	d.collection = c
	d.objects.FailoverVrrp, d.objects.FailoverTc = programs[bpf.VrrpProgFailoverVrrp], programs[bpf.VrrpProgFailoverTc]
	for _, m := range []*ebpf.Map{d.objects.FailoverRing, d.objects.FailoverSealed} {
		r, err := openRing(m)
		if err != nil {
			return err
		}
		d.rings = append(d.rings, r)
	}
	if d.receiveStates, err = mapReceiveStates(d.objects.FailoverStamp); err == nil {
		d.clock, err = newClock(d.objects.FailoverClock)
	}
	return err
}

// withVariables returns the shared maps of an object file. Both files call the map of their
// variables the same, so it is shared under the name of a variable in it.
func withVariables(shared map[string]*ebpf.Map, variable string) map[string]*ebpf.Map {
	m := shared[variable]
	if m == nil {
		return shared
	}
	shared = maps.Clone(shared)
	shared[variables] = m
	return shared
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
	if d.receiveStates != nil {
		errs = append(errs, unmap(d.receiveStates))
		d.receiveStates = nil
	}
	if d.inheritedStates != nil {
		errs = append(errs, unmap(d.inheritedStates))
		d.inheritedStates = nil
	}
	if d.fence != nil {
		errs = append(errs, d.fence.close())
		d.fence = nil
	}
	d.collection.close()
	return errors.Join(append(errs, d.objects.Close())...)
}

// Unavailable returns the reason why BPF can't be used on this host, nil if it can.
func (d *Datapath) Unavailable() error { return d.unavailable }

// Unpinned returns the reason why the BPF objects could not be pinned. It is nil if
// they are pinned or if Options.Unpinned was set. Unpinned objects work, but bpftool
// can't find their maps by path.
func (d *Datapath) Unpinned() error { return d.unpinned }

// Temporary returns the reason why the kernel forgets everything of this Datapath when the process
// ends, nil if it doesn't.
func (d *Datapath) Temporary() error {
	switch {
	case d.unavailable != nil:
		return d.unavailable
	case d.unfenced != nil:
		return d.unfenced
	case d.unpinned != nil:
		return d.unpinned
	case d.pins == nil || d.pins.mark == "":
		return errors.New("the BPF objects are not pinned for another process")
	}
	return nil
}

// Close detaches from every interface and removes everything that Load created.
func (d *Datapath) Close() error {
	var errs []error
	d.attaching.Lock()
	for ifindex := range d.attached {
		errs = append(errs, d.detach(ifindex))
	}
	d.attaching.Unlock()
	d.reserved.Close()
	errs = append(errs, d.waiter.close())
	if d.pins != nil {
		errs = append(errs, d.pins.close())
	}
	if d.unavailable == nil {
		errs = append(errs, d.closeBPF())
	}
	return errors.Join(errs...)
}

// Unlock gives the directory of the pins up to another process. From then on this Datapath must
// not be used, and Close must not be called: the other process may have everything that is pinned.
func (d *Datapath) Unlock() error {
	if d.pins == nil {
		return nil
	}
	return d.pins.lock.Close()
}

// Wait blocks until there may be something to drain, until Wake is called, or until
// the time until of CLOCK_MONOTONIC. It never returns early because of the time, and
// only microseconds late. Only one goroutine may call it. While it waits, its thread
// runs other goroutines.
func (d *Datapath) Wait(until vrrp.Instant) error { return d.waiter.wait(until) }

// WaitInThread is like Wait, but blocks the thread of the goroutine. It returns faster,
// because no other thread has to wake this one. long says that the wait may be long:
// the thread then hands its processor (P) to other goroutines before it blocks.
func (d *Datapath) WaitInThread(until vrrp.Instant, long bool) error {
	return d.waiter.waitInThread(until, long)
}

// Wake ends the current Wait, or the next one if there is none.
func (d *Datapath) Wake() { d.waiter.wake() }

// SetRouter registers a Virtual Router or changes a registered one. Advertisements for
// a Virtual Router that isn't registered raise vrid_errors. After an error nothing has
// changed. If one of the kernel's maps is full, the error names it: see Fit.
func (d *Datapath) SetRouter(k packet.Key, r Router) error {
	return d.SetRouters([]packet.Key{k}, []Router{r})[0]
}

// SetRouters is SetRouter for several Virtual Routers, and returns one error for each. The new ones
// share the system calls for what the kernel has once for an interface or for all of them.
func (d *Datapath) SetRouters(keys []packet.Key, routers []Router) []error {
	errs := make([]error, len(keys))
	if slices.ContainsFunc(routers, func(r Router) bool { return r.Verifier != nil }) {
		if err := d.authenticate(); err != nil {
			for n := range errs {
				errs[n] = fmt.Errorf("load programs that know authentication: %w", err)
			}
			return errs
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var fresh []int
	for n, k := range keys {
		if _, known := d.routers[k]; known || d.fence == nil {
			errs[n] = d.setRouter(k, routers[n])
		} else {
			fresh = append(fresh, n)
		}
	}
	if len(fresh) > 0 {
		d.addTogether(fresh, keys, routers, errs)
	}
	return errs
}

// addTogether adds those of the Virtual Routers that are new, by their indexes.
func (d *Datapath) addTogether(fresh []int, keys []packet.Key, routers []Router, errs []error) {
	d.fence.postpone = true
	for _, n := range fresh {
		errs[n] = d.setRouter(keys[n], routers[n])
	}
	if d.fence.flush() == nil {
		return
	}
	// There is no room for all of them. One by one, those for which there is room have no error.
	fresh = slices.DeleteFunc(fresh, func(n int) bool { return errs[n] != nil })
	d.fence.postpone = true
	for _, n := range fresh {
		e := d.routers[keys[n]]
		delete(d.routers, keys[n])
		errs[n] = d.forget(keys[n], &e)
	}
	undone := d.fence.flush()
	for _, n := range fresh {
		if errs[n] = errors.Join(errs[n], undone); errs[n] == nil {
			errs[n] = d.setRouter(keys[n], routers[n])
		}
	}
}

func (d *Datapath) setRouter(k packet.Key, r Router) error {
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
			return fmt.Errorf("write VRID %d into the kernel's maps: %w", k.VRID, err)
		}
	}
	d.routers[k] = now
	return nil
}

// add writes a new Virtual Router into the kernel's maps. After an error none of its
// entries are left.
func (d *Datapath) add(k packet.Key, e *entry) (err error) {
	if f := d.inherited[k]; f != nil {
		return d.addInherited(k, f, e)
	}
	if e.slot, err = d.newSlot(); err != nil {
		return err
	}
	if d.fence != nil {
		err = d.fence.addRouter(k, e.slot, &e.Router)
	}
	if err == nil {
		err = d.putReceiver(k, &entry{}, e)
	}
	if err != nil {
		err = errors.Join(err, d.forget(k, e))
	}
	return err
}

// change replaces the entries of a Virtual Router in the kernel's maps. After an error
// it restores the old ones.
func (d *Datapath) change(k packet.Key, before, now *entry) error {
	err := d.update(k, before, now)
	if err != nil {
		err = errors.Join(err, d.update(k, now, before))
	}
	return err
}

// update writes the difference between two versions of a Virtual Router.
func (d *Datapath) update(k packet.Key, before, now *entry) error {
	if d.fence != nil {
		if err := d.fence.changeRouter(k, now.slot, &before.Router, &now.Router); err != nil {
			return err
		}
	}
	return d.putReceiver(k, before, now)
}

// putReceiver writes the entries that the receiving programs read. Peers and keys are
// written before the router's entry and obsolete ones are deleted after it, so the
// programs never see a router without them.
func (d *Datapath) putReceiver(k packet.Key, before, now *entry) error {
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

// forget deletes a Virtual Router from the kernel's maps, even if only some of its
// entries exist.
func (d *Datapath) forget(k packet.Key, e *entry) error {
	var errs []error
	if d.fence != nil {
		errs = append(errs, d.forgetSiblings(k, e.slot), d.fence.removeRouter(k, e.slot, &e.Router))
	}
	errs = append(errs, ignoreNotExist(d.objects.FailoverRouter.Delete(kernelKey(k))), d.deletePeers(k, e.Peers, nil), d.deleteKeys(&entry{slot: e.slot}, e))
	d.free = append(d.free, e.slot)
	return errors.Join(errs...)
}

// unicast reports whether the router accepts advertisements from peers instead of
// those to the group.
func (r *Router) unicast() bool { return len(r.Peers) > 0 }

func (d *Datapath) putPeers(k packet.Key, peers map[netip.Addr]packet.Hops) error {
	for a, hops := range peers {
		limits := bpf.VrrpFailoverPeerLimits{MinTtl: uint16(hops.Min), MaxTtl: uint16(hops.Max)}
		if err := d.objects.FailoverPeer.Put(peerKey(k, a), limits); err != nil {
			return fmt.Errorf("add its peer %s: %w", a, noRoom(bpf.VrrpMapFailoverPeer, d.objects.FailoverPeer.MaxEntries(), err))
		}
	}
	return nil
}

// deletePeers deletes from the kernel's map the peers in before that aren't in now.
func (d *Datapath) deletePeers(k packet.Key, before, now map[netip.Addr]packet.Hops) error {
	for a := range before {
		if _, stays := now[a]; stays {
			continue
		}
		if err := ignoreNotExist(d.objects.FailoverPeer.Delete(peerKey(k, a))); err != nil {
			return fmt.Errorf("remove its peer %s: %w", a, err)
		}
	}
	return nil
}

// newSlot returns an unused slot with a cleared stamp.
func (d *Datapath) newSlot() (uint32, error) {
	if n := len(d.free); n > 0 {
		slot := d.free[n-1]
		if err := d.clearStamp(slot); err != nil {
			return 0, err
		}
		d.free = d.free[:n-1]
		return slot, nil
	}
	if d.slots == d.objects.FailoverStamp.MaxEntries() {
		return 0, noRoom(bpf.VrrpMapFailoverStamp, d.objects.FailoverStamp.MaxEntries(), unix.E2BIG)
	}
	if d.used {
		if err := d.clearStamp(d.slots); err != nil {
			return 0, err
		}
	}
	d.slots++
	return d.slots - 1, nil
}

func (d *Datapath) clearStamp(slot uint32) error {
	return d.objects.FailoverStamp.Put(slot, bpf.VrrpFailoverLiveness{})
}

// DeleteRouter deletes a Virtual Router. One that isn't registered is no error.
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
	if err := d.forget(k, &e); err != nil {
		return fmt.Errorf("delete VRID %d from the kernel's maps: %w", k.VRID, err)
	}
	return nil
}

// Counters returns the value of each counter, by Reason.
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
		return all // can't happen: the map is an array with one entry
	}
	for _, counters := range perCPU {
		for n, v := range counters {
			all[n] += v
		}
	}
	return all
}

// Count raises a counter on behalf of the state machine.
func (d *Datapath) Count(r packet.Reason) { d.counts[r].Add(1) }

// Counts are the counters of a process before: all of them, and those that it didn't raise in the
// kernel's programs.
type Counts struct {
	Total [packet.ReasonCount]uint64 `json:"total"`
	Own   [packet.ReasonCount]uint64 `json:"own"`
}

// Counts returns the counters for the next process.
func (d *Datapath) Counts() (c Counts) {
	c.Total = d.Counters()
	for n := range d.counts {
		c.Own[n] = d.counts[n].Load()
	}
	for _, s := range d.allSockets() {
		c.Own[packet.ReasonRingFull] += s.lost()
	}
	return c
}

// Lacking returns what the counters of this run lack of those of the process before. Programs that
// were taken over have theirs.
func (d *Datapath) Lacking(c *Counts) [packet.ReasonCount]uint64 {
	if d.used {
		return c.Own
	}
	return c.Total
}

// LastDiscard returns the last packet that the datapath refused for a reason, false if
// there was none.
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

// speaks reports whether the router accepts advertisements of the version.
func (r Router) speaks(version uint8) bool {
	return version == r.Version || r.Dual && version == 2
}

// kernel returns the entry of the router in failover_router.
func (e *entry) kernel() bpf.VrrpFailoverVirtualRouter {
	r := &e.Router
	v := bpf.VrrpFailoverVirtualRouter{Slot: e.slot, Versions: 1 << r.Version, Heed: r.MinPriority, Forms: uint8(r.Forms), Source: octets(r.Source)}
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
	if r.Tolerate.NoAddress {
		v.Tolerate |= bpf.VrrpFailoverToleranceTOLERATE_NO_ADDRESS
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

// octets returns an address in the layout of the kernel's maps: IPv4 in the first four
// octets.
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
