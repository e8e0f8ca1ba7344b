// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/flock"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// layout is the version of the meaning of the inheritable maps. It changes whenever a program
// could misunderstand entries that an older version of failoverd has written.
const layout = 1

// inheritable are the maps that a run can take over from a killed one. They tell the kernel's
// programs which routers are Active, until when, and for which addresses.
var inheritable = []string{
	bpf.VmacMapFailoverLease, bpf.VmacMapFailoverAddress, bpf.VmacMapFailoverVmac, bpf.VmacMapFailoverNext,
	bpf.VrrpMapFailoverRouter, bpf.VrrpMapFailoverPeer,
}

// stateMark returns the name of a directory beside the maps. It marks that the maps are
// complete, which layout they have, and which network namespace their interfaces are in.
func stateMark(namespace uint64) string { return fmt.Sprintf("state-%d-%d", layout, namespace) }

// Found is a Virtual Router in the maps of a killed run.
type Found struct {
	Key      packet.Key
	Version  uint8
	Dual     bool
	Source   netip.Addr
	Unicast  bool
	Verified bool // its advertisements are authenticated
	// Addresses are the fenced addresses on its own interface.
	Addresses  []netip.Addr
	Owner      bool
	VirtualMAC bool
	Device     bool
	Active     bool         // the run last set it as Active
	Answer     vrrp.Instant // the end of the lease; 0: the kernel or the run has ended it
	Read       vrrp.Instant // when Answer was read: a run that hands over renews it meanwhile
	Advertise  vrrp.Instant // until when it could advertise
	// Heard is the last advertisement that the kernel has accepted for it, also after the end of
	// the run; zero if there was none.
	Heard vrrp.Stamp
	// Kept reports whether the fence is still attached to its interface, and the kernel still
	// hears the other routers there and ends the lease for a better one.
	Kept bool

	slot     uint32
	running  bool // it took part
	peers    []bpf.VrrpFailoverPeerKey
	priority uint8        // its own
	state    ReceiveState // what the programs of the other run still write
}

// outdone reports whether the programs of the other run have accepted an advertisement of at least
// its priority since the Survey.
func (f *Found) outdone() bool {
	now, ok := f.state.Stamp()
	return ok && now.At > f.Heard.At && now.Priority >= f.priority
}

// Remains are the pinned objects of a killed run. The directory is locked.
type Remains struct {
	Found []Found

	lock   *os.File
	specs  *specs
	maps   map[string]*ebpf.Map         // the inheritable ones
	whole  *inheritance                 // everything, if this build has the same programs; nil otherwise
	states []byte                       // failover_stamp, mapped
	links  map[int]map[string]link.Link // by interface and name of the pin
}

// inheritance is what Load takes over from another run. The zero value is nothing.
type inheritance struct {
	specs *specs // nil: not read yet
	maps  map[string]*ebpf.Map
	// programs are those of the other run, which use the maps. They are nil if only the inheritable
	// maps are taken over. Load removes the programs that it owns from then on.
	programs map[string]*ebpf.Program
}

// objects returns what can be taken over, the best first. Only programs that know no authentication
// are taken over.
func (r *Remains) objects(authenticates bool) (all []*inheritance) {
	if r.whole != nil && !authenticates {
		all = append(all, r.whole)
	}
	return append(all, &inheritance{specs: r.specs, maps: r.maps})
}

// programsMark returns the name of a directory beside the maps. It marks that all programs and maps
// that this build needs are pinned, and that the programs know no authentication.
func programsMark() string { return "programs-" + bpf.Fingerprint() }

// Survey locks the directory of a killed run and reads what can be taken over from it. It
// returns nil if there is no directory, or if a living process has it. Without anything that
// this version understands in this network namespace, Found is empty.
func Survey(dir string, namespace uint64, o *Objects) (*Remains, error) {
	lock, err := lockDir(dir, false)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, flock.ErrHeld) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return survey(dir, namespace, lock, o)
}

// survey is Survey of a directory that this process has locked, or only reads.
func survey(dir string, namespace uint64, lock *os.File, o *Objects) (*Remains, error) {
	r := &Remains{lock: lock, maps: make(map[string]*ebpf.Map), links: make(map[int]map[string]link.Link)}
	if _, err := os.Stat(filepath.Join(dir, stateMark(namespace))); err != nil {
		return r, nil
	}
	if err := r.open(dir, o); err != nil {
		r.forget()
		return r, fmt.Errorf("read the maps of another run: %w", err)
	}
	return r, nil
}

// open opens the maps and links, and reads them.
func (r *Remains) open(dir string, o *Objects) (err error) {
	if r.specs, err = o.get(); err != nil {
		return err
	}
	for _, name := range inheritable {
		m, err := ebpf.LoadPinnedMap(filepath.Join(dir, "maps", name), nil)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r.maps[name] = m
		spec := r.specs.vmac.Maps[name]
		if spec == nil {
			spec = r.specs.vrrp.Maps[name]
		}
		if err := spec.Compatible(m); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, programsMark())); err == nil {
		// Without it the programs are loaded again.
		r.whole, _ = openWhole(dir, r.specs, r.maps)
	}
	heard, err := r.openLinks(dir)
	if err != nil {
		return err
	}
	stamps, err := ebpf.LoadPinnedMap(filepath.Join(dir, "maps", bpf.VrrpMapFailoverStamp), nil)
	if err != nil {
		return fmt.Errorf("%s: %w", bpf.VrrpMapFailoverStamp, err)
	}
	defer func() { _ = stamps.Close() }() // it is pinned
	if r.states, err = mapReceiveStates(stamps); err != nil {
		return err
	}
	return r.read(heard)
}

// openWhole opens all pinned maps and programs of a run whose programs this build has too. Some
// of its maps are open already.
func openWhole(dir string, s *specs, opened map[string]*ebpf.Map) (w *inheritance, err error) {
	w = &inheritance{specs: s, maps: make(map[string]*ebpf.Map), programs: make(map[string]*ebpf.Program)}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
			w = nil
		}
	}()
	for _, name := range pinned {
		if m := opened[name]; m != nil {
			w.maps[name], err = m.Clone()
		} else {
			w.maps[name], err = ebpf.LoadPinnedMap(filepath.Join(dir, "maps", name), nil)
		}
		if err != nil {
			return w, err
		}
	}
	leases, err := mapID(opened[bpf.VmacMapFailoverLease])
	if err != nil {
		return w, err
	}
	for _, name := range programsFor(nil) {
		p, err := ebpf.LoadPinnedProgram(filepath.Join(dir, "progs", name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return w, err
		}
		w.programs[name] = p
		info, err := p.Info()
		if err != nil {
			return w, err
		}
		if uses, _ := info.MapIDs(); !slices.Contains(uses, leases) {
			return w, fmt.Errorf("%s uses other maps", name)
		}
	}
	return w, nil
}

// close closes the maps, and the programs that Load hasn't taken over.
func (w *inheritance) close() error {
	if w == nil {
		return nil
	}
	errs := []error{closePrograms(w.programs)}
	for _, m := range w.maps {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// openLinks opens the pinned links. It returns the interfaces to which the whole fence and a
// receiving program are attached.
func (r *Remains) openLinks(dir string) (heard map[int]bool, err error) {
	receiving := ebpf.ProgramID(0) // of failover_in
	if p, err := ebpf.LoadPinnedProgram(filepath.Join(dir, "progs", bpf.VmacProgFailoverIn), nil); err == nil {
		if info, err := p.Info(); err == nil {
			receiving, _ = info.ID()
		}
		if err := p.Close(); err != nil {
			return nil, err
		}
	}
	paths, err := filepath.Glob(filepath.Join(dir, "links", "*", "*"))
	if err != nil {
		return nil, err
	}
	heard = make(map[int]bool)
	for _, path := range paths {
		l, err := link.LoadPinnedLink(path, nil)
		if err != nil {
			continue // the mark of filters, which aren't taken over
		}
		info, err := l.Info()
		ifindex := 0
		if err == nil && info.XDP() != nil {
			ifindex = int(info.XDP().Ifindex)
		} else if err == nil && info.TCX() != nil {
			ifindex = int(info.TCX().Ifindex)
		}
		if ifindex == 0 { // the interface is gone
			if err := l.Close(); err != nil {
				return nil, err
			}
			continue
		}
		if r.links[ifindex] == nil {
			r.links[ifindex] = make(map[string]link.Link)
		}
		name := filepath.Base(path)
		r.links[ifindex][name] = l
		if name == "xdp" || name == "receive" || name == "ingress" && info.Program == receiving {
			heard[ifindex] = true
		}
	}
	for ifindex, all := range r.links {
		heard[ifindex] = heard[ifindex] && all["ingress"] != nil && all["egress"] != nil
	}
	return heard, nil
}

// read reads the Virtual Routers from the maps.
func (r *Remains) read(heard map[int]bool) error {
	addresses := make(map[uint32]map[int][]netip.Addr) // by slot and interface
	var at bpf.VmacFailoverAddressKey
	var slot bpf.VmacFailoverSlot
	all := r.maps[bpf.VmacMapFailoverAddress].Iterate()
	for all.Next(&at, &slot) {
		if addresses[slot.Slot] == nil {
			addresses[slot.Slot] = make(map[int][]netip.Addr)
		}
		addresses[slot.Slot][int(at.Ifindex)] = append(addresses[slot.Slot][int(at.Ifindex)], fromOctets(packet.Family(at.Family), at.Address))
	}
	if err := all.Err(); err != nil {
		return err
	}
	peers := make(map[packet.Key][]bpf.VrrpFailoverPeerKey)
	var peer bpf.VrrpFailoverPeerKey
	var limits bpf.VrrpFailoverPeerLimits
	all = r.maps[bpf.VrrpMapFailoverPeer].Iterate()
	for all.Next(&peer, &limits) {
		k := packet.Key{Ifindex: int(peer.Ifindex), Family: packet.Family(peer.Family), VRID: uint8(peer.Vrid)}
		peers[k] = append(peers[k], peer)
	}
	if err := all.Err(); err != nil {
		return err
	}
	var key bpf.VrrpFailoverKey
	var v bpf.VrrpFailoverVirtualRouter
	all = r.maps[bpf.VrrpMapFailoverRouter].Iterate()
	for all.Next(&key, &v) {
		k := packet.Key{Ifindex: int(key.Ifindex), Family: packet.Family(key.Family), VRID: uint8(key.Vrid)}
		var l bpf.VmacFailoverLeaseState
		var vmacs bpf.VmacFailoverVmacs
		now := monotonic()
		if r.maps[bpf.VmacMapFailoverLease].Lookup(v.Slot, &l) != nil || r.maps[bpf.VmacMapFailoverVmac].Lookup(key.Ifindex, &vmacs) != nil {
			continue
		}
		if vmacs.Slot[familyIndex(k.Family)][k.VRID] != v.Slot+1 || l.Ifindex != key.Ifindex || l.Family != key.Family || l.Vrid != key.Vrid {
			continue
		}
		f := Found{
			Key: k, Dual: v.Versions == 1<<2|1<<3, Source: fromOctets(k.Family, v.Source), Unicast: v.Unicast != 0, Verified: v.Auth != 0,
			Addresses: addresses[v.Slot][k.Ifindex], Owner: l.Owner != 0, VirtualMAC: l.VirtualMac != 0, Device: l.Macvlan != 0,
			running: v.Running != 0, Kept: heard[k.Ifindex], slot: v.Slot, peers: peers[k], priority: v.Priority, state: receiveStateAt(r.states, v.Slot),
		}
		f.setLease(&l, now)
		f.Heard, _ = f.state.Stamp()
		if f.Version = 2; v.Versions&(1<<3) != 0 {
			f.Version = 3
		}
		r.Found = append(r.Found, f)
	}
	return all.Err()
}

// setLease takes in what was read of a lease at a moment.
func (f *Found) setLease(l *bpf.VmacFailoverLeaseState, at vrrp.Instant) {
	f.Active, f.Answer, f.Advertise, f.Read = l.Active != 0 && f.running, vrrp.Instant(l.Answer), vrrp.Instant(l.Advertise), at
}

// Reread reads the leases again. The other run may still work. While it sends an advertisement, the
// lease says that it may, and isn't renewed yet.
func (r *Remains) Reread() error {
	for i := range r.Found {
		f, now := &r.Found[i], monotonic()
		var l bpf.VmacFailoverLeaseState
		if err := r.maps[bpf.VmacMapFailoverLease].Lookup(f.slot, &l); err != nil {
			return fmt.Errorf("read the lease of VRID %d: %w", f.Key.VRID, err)
		}
		f.setLease(&l, now)
	}
	return nil
}

// forget closes the maps and links, so that nothing can be taken over any more.
func (r *Remains) forget() {
	for _, m := range r.maps {
		_ = m.Close() // it is pinned
	}
	for _, links := range r.links {
		for _, l := range links {
			_ = l.Close() // it is pinned
		}
	}
	if r.states != nil {
		_ = unmap(r.states)
	}
	_ = r.whole.close() // everything is pinned
	r.Found, r.specs, r.maps, r.whole, r.links, r.states = nil, nil, nil, nil, nil, nil
}

// Close gives up what Load hasn't taken over, and leaves what is pinned in place.
func (r *Remains) Close() error {
	if r == nil {
		return nil
	}
	r.forget()
	if lock := r.takeLock(); lock != nil {
		return lock.Close()
	}
	return nil
}

// takeLock returns the lock of the directory, nil without remains. The caller owns it.
func (r *Remains) takeLock() *os.File {
	if r == nil {
		return nil
	}
	lock := r.lock
	r.lock = nil
	return lock
}

// heirs returns the found Virtual Routers that Options.Heirs names.
func (o *Options) heirs() map[packet.Key]*Found {
	if o.Remains == nil || o.Unpinned {
		return nil
	}
	all := make(map[packet.Key]*Found)
	for i := range o.Remains.Found {
		if f := &o.Remains.Found[i]; slices.Contains(o.Heirs, f.Key) {
			all[f.Key] = f
		}
	}
	return all
}

// inherit registers the slots of the heirs, and deletes everything else from the inherited
// maps. No program of this run is attached yet.
func (d *Datapath) inherit(r *Remains, heirs map[packet.Key]*Found) error {
	used := make(map[uint32]*Found)
	vmacs := make(map[int]*bpf.VmacFailoverVmacs)
	for k, f := range heirs {
		used[f.slot] = f
		d.slots = max(d.slots, f.slot+1)
		d.inherited[k] = f
		if vmacs[k.Ifindex] == nil {
			vmacs[k.Ifindex] = new(bpf.VmacFailoverVmacs)
		}
		vmacs[k.Ifindex].Slot[familyIndex(k.Family)][k.VRID] = f.slot + 1
	}
	for slot := range d.slots {
		if used[slot] == nil {
			d.free = append(d.free, slot)
		}
	}
	if len(heirs) > 0 {
		d.inheritedStates, r.states = r.states, nil
	}
	o, receivers := &d.fence.objects, &d.objects
	errs := []error{
		deleteEntries(o.FailoverAddress, func(k *bpf.VmacFailoverAddressKey, v *bpf.VmacFailoverSlot) bool {
			f := used[v.Slot]
			return f == nil || f.Key.Ifindex != int(k.Ifindex)
		}),
		deleteEntries(o.FailoverVmac, func(ifindex *uint32, _ *bpf.VmacFailoverVmacs) bool { return vmacs[int(*ifindex)] == nil }),
		deleteEntries(receivers.FailoverRouter, func(k *bpf.VrrpFailoverKey, _ *bpf.VrrpFailoverVirtualRouter) bool {
			return heirs[packet.Key{Ifindex: int(k.Ifindex), Family: packet.Family(k.Family), VRID: uint8(k.Vrid)}] == nil
		}),
		deleteEntries(receivers.FailoverPeer, func(k *bpf.VrrpFailoverPeerKey, _ *bpf.VrrpFailoverPeerLimits) bool {
			return heirs[packet.Key{Ifindex: int(k.Ifindex), Family: packet.Family(k.Family), VRID: uint8(k.Vrid)}] == nil
		}),
	}
	for ifindex, all := range vmacs {
		d.fence.vmacs[ifindex] = all
		errs = append(errs, o.FailoverVmac.Put(uint32(ifindex), all))
	}
	var addresses []netip.Addr
	for k, f := range heirs {
		for _, a := range f.Addresses {
			d.fence.holders[addressKey(k, a)] = []uint32{f.slot}
		}
		addresses = append(addresses, f.Addresses...)
	}
	errs = append(errs, d.fence.updateFilter(addresses, 1))
	if d.used {
		errs = append(errs, deleteEntries(receivers.FailoverIface, func(*bpf.VrrpFailoverLink, *bpf.VrrpFailoverInterface) bool { return true }))
		// What the other run hasn't read is in the stamps too.
		for _, ring := range d.rings {
			ring.drain(func([]byte) {})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take over the maps of a killed run: %w", err)
	}
	return nil
}

// deleteEntries deletes the entries of a map that unwanted selects.
func deleteEntries[K, V any](m *ebpf.Map, unwanted func(*K, *V) bool) error {
	var all []K
	var k K
	var v V
	entries := m.Iterate()
	for entries.Next(&k, &v) {
		if unwanted(&k, &v) {
			all = append(all, k)
		}
	}
	errs := []error{entries.Err()}
	for _, k := range all {
		errs = append(errs, ignoreNotExist(m.Delete(k)))
	}
	return errors.Join(errs...)
}

// addInherited writes an heir into the kernel's maps. It keeps its slot, and its lease goes
// on. After an error it is still inherited, and fenced, but its lease has ended.
func (d *Datapath) addInherited(k packet.Key, f *Found, e *entry) error {
	e.slot = f.slot
	if d.used { // what follows is new to the router
		if f.outdone() {
			Lease{d.fence.lease(f.slot)}.Answer(0)
		}
		if err := d.clearStamp(f.slot); err != nil {
			return err
		}
	}
	err := d.fence.changeRouter(k, e.slot, &Router{Addresses: f.Addresses}, &e.Router)
	if err == nil {
		err = d.putReceiver(k, &entry{}, e)
	}
	for _, p := range f.peers {
		if _, stays := e.Peers[fromOctets(k.Family, p.Address)]; err == nil && !stays {
			err = ignoreNotExist(d.objects.FailoverPeer.Delete(p))
		}
	}
	if err != nil {
		Lease{d.fence.lease(f.slot)}.Answer(0)
		return err
	}
	return d.settle(k)
}

// settle forgets that a Virtual Router was inherited.
func (d *Datapath) settle(k packet.Key) error {
	delete(d.inherited, k)
	if len(d.inherited) > 0 || d.inheritedStates == nil {
		return nil
	}
	states := d.inheritedStates
	d.inheritedStates = nil
	return unmap(states)
}

// Heir returns the end of the lease that a Virtual Router has inherited from another run, 0 if that
// run's programs have heard a better router meanwhile, false if there is none that this run has
// taken over.
func (d *Datapath) Heir(k packet.Key) (until vrrp.Instant, ok bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.fence == nil {
		return 0, false
	}
	if f := d.inherited[k]; f != nil && f.outdone() {
		return 0, true
	} else if f != nil {
		return vrrp.Instant(atomic.LoadUint64(&d.fence.lease(f.slot).Answer)), true
	}
	if e, known := d.routers[k]; known {
		return vrrp.Instant(atomic.LoadUint64(&d.fence.lease(e.slot).Answer)), true
	}
	return 0, false
}

// EndLease ends the lease of a Virtual Router at once, also one that was inherited and isn't
// registered yet. Its addresses stay fenced.
func (d *Datapath) EndLease(k packet.Key) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.fence == nil {
		return
	}
	slot, known := uint32(0), false
	if e, is := d.routers[k]; is {
		slot, known = e.slot, true
	} else if f := d.inherited[k]; f != nil {
		slot, known = f.slot, true
	}
	if known {
		l := Lease{d.fence.lease(slot)}
		l.Answer(0)
		l.Advertise(0)
	}
}

// Disinherit removes the inherited entries of a Virtual Router that isn't registered. Its
// addresses must be gone from the host.
func (d *Datapath) Disinherit(k packet.Key) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.inherited[k]
	if f == nil {
		return nil
	}
	e := &entry{slot: f.slot}
	e.Addresses = f.Addresses
	err := errors.Join(d.settle(k), d.forget(k, e))
	for _, p := range f.peers {
		err = errors.Join(err, ignoreNotExist(d.objects.FailoverPeer.Delete(p)))
	}
	return err
}
