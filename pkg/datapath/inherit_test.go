// SPDX-License-Identifier: Apache-2.0

//go:build !kernels

// These tests need TCX, too: filters of clsact aren't taken over.

package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

const inheritDir = "/sys/fs/bpf/inherit"

// estate is a host with eth0 on which runs are killed.
type estate struct {
	t       *testing.T
	node    *lab.Node
	ifindex int
	dp      *Datapath
}

func newEstate(t *testing.T) *estate {
	t.Helper()
	l := lab.ForTest(t)
	lan, err := l.LAN("lan")
	if err != nil {
		t.Fatal(err)
	}
	port, err := lan.Host("host", "eth0", "192.0.2.1/24")
	if err != nil {
		t.Fatal(err)
	}
	return &estate{t: t, node: port.Node, ifindex: index(t, port.Node)}
}

func (e *estate) do(f func() error) {
	e.t.Helper()
	if err := e.node.Do(f); err != nil {
		e.t.Fatal(err)
	}
}

func (e *estate) key(vrid uint8) packet.Key {
	return packet.Key{Ifindex: e.ifindex, Family: packet.IPv4, VRID: vrid}
}

// load begins a run.
func (e *estate) load(r *Remains, heirs ...packet.Key) {
	e.t.Helper()
	e.do(func() (err error) {
		if e.dp, err = Load(Options{Dir: inheritDir, Namespace: namespace, Remains: r, Heirs: heirs, Adopt: []int{e.ifindex}}); err != nil {
			return err
		}
		return errors.Join(e.dp.Unavailable(), e.dp.Unpinned(), e.dp.unfenced)
	})
}

func (e *estate) attach(m Mode) {
	e.t.Helper()
	e.do(func() error {
		_, err := e.dp.Attach(Link{Index: e.ifindex, Name: "eth0", Kind: "veth"}, m, false)
		return err
	})
}

func (e *estate) set(vrid uint8, addresses ...string) {
	e.t.Helper()
	r := Router{Version: 3, Running: true, Priority: 100, Source: netip.MustParseAddr("192.0.2.1"), Addresses: list(addresses...), VirtualMAC: true, Accept: true}
	e.do(func() error { return e.dp.SetRouter(e.key(vrid), r) })
}

// begin begins a run with an Active at TC.
func (e *estate) begin() Lease {
	e.t.Helper()
	e.load(nil)
	e.attach(ModeTC)
	e.set(51, "192.0.2.10")
	l, _ := e.dp.Lease(e.key(51))
	l.Answer(monotonic().Add(time.Hour))
	return l
}

// kill unlocks the directory, as the kernel does at the end of a process.
func (e *estate) kill() *Datapath {
	e.t.Helper()
	dead := e.dp
	for _, a := range dead.attached {
		for _, l := range append(a.fence, a.link) {
			if l != nil {
				e.do(l.Close)
			}
		}
	}
	e.do(dead.pins.lock.Close)
	return dead
}

func (e *estate) survey(namespace uint64) (r *Remains) {
	e.t.Helper()
	e.do(func() (err error) { r, err = Survey(inheritDir, namespace, nil); return err })
	if r == nil {
		e.t.Fatal("no remains")
	}
	return r
}

// links returns the IDs of the pinned links.
func (e *estate) links() map[string]link.ID {
	e.t.Helper()
	all := make(map[string]link.ID)
	e.do(func() error {
		paths, err := filepath.Glob(filepath.Join(inheritDir, "links", "eth0", "*"))
		for _, path := range paths {
			l, err := link.LoadPinnedLink(path, nil)
			if err != nil {
				return err
			}
			info, err := l.Info()
			if err := errors.Join(err, l.Close()); err != nil {
				return err
			}
			all[filepath.Base(path)] = info.ID
		}
		return err
	})
	return all
}

func (e *estate) close() {
	e.t.Helper()
	e.do(e.dp.Close)
	e.do(func() error {
		if _, err := os.Stat(inheritDir); !errors.Is(err, fs.ErrNotExist) {
			e.t.Errorf("something stayed: %v", err)
		}
		return nil
	})
}

// otherBuild makes the pinned programs those of another build.
func (e *estate) otherBuild() {
	e.t.Helper()
	e.do(func() error {
		return os.Rename(filepath.Join(inheritDir, programsMark()), filepath.Join(inheritDir, "programs-0"))
	})
}

// programs returns the IDs of the pinned programs.
func (e *estate) programs() map[string]ebpf.ProgramID {
	e.t.Helper()
	all := make(map[string]ebpf.ProgramID)
	e.do(func() error {
		for _, name := range programsFor(nil) {
			p, err := ebpf.LoadPinnedProgram(filepath.Join(inheritDir, "progs", name), nil)
			if err != nil {
				return err
			}
			info, err := p.Info()
			if err := errors.Join(err, p.Close()); err != nil {
				return err
			}
			all[name], _ = info.ID()
		}
		return nil
	})
	return all
}

// A run takes over the slots, leases and links of the routers that a killed run had, and deletes
// the rest. That works again and again. It keeps the programs too, if it has the same ones.
func TestInherit(t *testing.T) {
	for _, c := range []struct {
		mode Mode
		same bool
	}{{ModeTC, true}, {ModeTC, false}, {ModeGeneric, true}, {ModeGeneric, false}} {
		mode := c.mode
		t.Run(fmt.Sprintf("%s same=%v", mode, c.same), func(t *testing.T) {
			e := newEstate(t)
			e.load(nil)
			e.attach(mode)
			e.set(50, "192.0.2.9")
			e.set(51, "192.0.2.10", "192.0.2.11")
			e.set(52, "192.0.2.12")
			until := monotonic().Add(time.Hour)
			for _, vrid := range []uint8{50, 51, 52} {
				l, _ := e.dp.Lease(e.key(vrid))
				l.Answer(until)
				l.Advertise(until.Add(-time.Second))
			}
			if r, err := Survey(inheritDir, namespace, nil); r != nil || err != nil {
				t.Fatalf("the remains of a living run: %v, %v", r, err)
			}
			links := e.links()
			for range 2 {
				dead, programs := e.kill(), e.programs()
				if !c.same {
					e.otherBuild()
				}
				r := e.survey(namespace + 1)
				if len(r.Found) > 0 {
					t.Errorf("found in another network namespace: %+v", r.Found)
				}
				e.do(r.Close)
				r = e.survey(namespace)
				i := slices.IndexFunc(r.Found, func(f Found) bool { return f.Key == e.key(51) })
				if i < 0 {
					t.Fatalf("found: %+v", r.Found)
				}
				f := r.Found[i]
				addresses := f.Addresses
				slices.SortFunc(addresses, netip.Addr.Compare)
				if f.Version != 3 || f.Dual || f.Source != netip.MustParseAddr("192.0.2.1") || !slices.Equal(addresses, list("192.0.2.10", "192.0.2.11")) ||
					f.Owner || !f.VirtualMAC || f.Device || f.Unicast || f.Verified || !f.Active || f.Answer != until || f.Advertise != until.Add(-time.Second) || !f.Kept {
					t.Errorf("found %+v", f)
				}
				lease := Lease{dead.fence.lease(f.slot)}
				lease.Answer(until + 1)
				e.do(r.Reread)
				if again := r.Found[i]; again.Answer != until+1 || again.Read <= f.Read || !again.Active {
					t.Errorf("reread %+v", again)
				}
				lease.Answer(until)
				e.do(r.Reread)
				if err := dead.objects.FailoverStamp.Put(f.slot, bpf.VrrpFailoverLiveness{Received: 1, Version: 3, Expected: [2]uint64{7, 8}}); err != nil {
					t.Fatal(err)
				}
				e.load(r, e.key(51))
				if got := e.programs(); maps.Equal(got, programs) != c.same || e.dp.used != c.same {
					t.Errorf("programs %v before, %v now", programs, got)
				}
				var slot bpf.VmacFailoverSlot
				o := &e.dp.fence.objects
				if err := o.FailoverAddress.Lookup(addressKey(e.key(51), list("192.0.2.10")[0]), &slot); err != nil || slot.Slot != f.slot {
					t.Errorf("slot %d: %v", slot.Slot, err)
				}
				for vrid, address := range map[uint8]string{50: "192.0.2.9", 52: "192.0.2.12"} {
					var v bpf.VrrpFailoverVirtualRouter
					if err := o.FailoverAddress.Lookup(addressKey(e.key(vrid), list(address)[0]), &slot); !errors.Is(err, ebpf.ErrKeyNotExist) {
						t.Errorf("the address of VRID %d: %v", vrid, err)
					}
					if err := e.dp.objects.FailoverRouter.Lookup(kernelKey(e.key(vrid)), &v); !errors.Is(err, ebpf.ErrKeyNotExist) {
						t.Errorf("VRID %d: %v", vrid, err)
					}
				}
				if got := e.links(); len(got) != len(links) {
					t.Errorf("links before Attach: %v, want %v", got, links)
				}
				e.attach(mode)
				for name, id := range e.links() {
					if links[name] != id {
						t.Errorf("%s is attached by the link %d, not by %d", name, id, links[name])
					}
				}
				e.set(51, "192.0.2.10", "192.0.2.11")
				e.set(52, "192.0.2.12")
				e.set(50, "192.0.2.9")
				if got, ok := e.dp.Heir(e.key(51)); got != until || !ok {
					t.Errorf("the lease ends at %v, %v", got, ok)
				}
				state, _ := e.dp.ReceiveState(e.key(51))
				if stamp, ok := state.Stamp(); ok || *state.expected != [2]uint64{} {
					t.Errorf("it has an old stamp %+v, expects %v", stamp, *state.expected)
				}
				if l, _ := e.dp.Lease(e.key(52)); l.Until() != 0 {
					t.Errorf("a new router has a lease until %v", l.Until())
				}
				if !e.dp.Intact() {
					t.Errorf("missing: %v %v %v", e.dp.Missing(e.key(50)), e.dp.Missing(e.key(51)), e.dp.Missing(e.key(52)))
				}
				e.do(func() error { return errors.Join(e.dp.Attached(e.ifindex), dead.closeBPF()) })
			}
			e.close()
		})
	}
}

// Without a router that continues, a run of the same build takes over programs, links and counters,
// and nothing of the routers.
func TestTakeOver(t *testing.T) {
	e := newEstate(t)
	e.begin()
	one := make([]bpf.VrrpFailoverCounters, ebpf.MustPossibleCPU())
	one[0].ChecksumErrors = 3
	stamp := bpf.VrrpFailoverLiveness{Received: 1, Version: 3, Expected: [2]uint64{7, 8}}
	if err := errors.Join(e.dp.objects.FailoverCount.Put(uint32(0), one), e.dp.objects.FailoverStamp.Put(uint32(0), stamp), e.dp.objects.FailoverStamp.Put(uint32(1), stamp)); err != nil {
		t.Fatal(err)
	}
	dead, programs, links := e.kill(), e.programs(), e.links()
	e.load(e.survey(namespace))
	if _, ok := e.dp.Heir(e.key(51)); ok || len(e.dp.fence.holders)+len(e.dp.fence.vmacs) > 0 || !e.dp.Intact() {
		t.Error("something of VRID 51 is left")
	}
	e.attach(ModeTC)
	e.set(52, "192.0.2.10")
	e.set(53, "192.0.2.11")
	for _, vrid := range []uint8{52, 53} {
		state, _ := e.dp.ReceiveState(e.key(vrid))
		if s, ok := state.Stamp(); ok || *state.expected != [2]uint64{} {
			t.Errorf("VRID %d has the stamp %+v, and expects %v", vrid, s, *state.expected)
		}
	}
	if n := e.dp.Counters()[packet.ErrChecksum]; n != 3 || !maps.Equal(e.programs(), programs) || !maps.Equal(e.links(), links) || !e.dp.Intact() {
		t.Errorf("%d checksum_errors, programs %v and links %v, before %v and %v", n, e.programs(), e.links(), programs, links)
	}
	e.do(func() error { return errors.Join(e.dp.Attached(e.ifindex), dead.closeBPF()) })

	dead = e.kill()
	e.otherBuild()
	e.load(e.survey(namespace))
	if n := e.dp.Counters()[packet.ErrChecksum]; n != 0 || len(e.links()) > 0 {
		t.Errorf("another build has %d checksum_errors and the links %v", n, e.links())
	}
	e.do(dead.closeBPF)
	e.close()
}

// Programs that use other maps than the pinned ones are loaded again.
func TestTakeOverForeign(t *testing.T) {
	e := newEstate(t)
	e.load(nil)
	e.attach(ModeTC)
	dead := e.kill()
	e.do(func() error {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
		if err != nil {
			return err
		}
		path := filepath.Join(inheritDir, "progs", bpf.VmacProgFailoverEgress)
		return errors.Join(os.Remove(path), p.Pin(path), p.Close())
	})
	e.load(e.survey(namespace))
	if e.dp.used {
		t.Error("the programs are taken over")
	}
	e.attach(ModeTC)
	e.do(func() error { return errors.Join(e.dp.Attached(e.ifindex), dead.closeBPF()) })
	e.close()
}

// A router that can't continue after all loses its lease at once, and then its entries.
func TestDisinherit(t *testing.T) {
	e := newEstate(t)
	l := e.begin()
	dead := e.kill()
	e.load(e.survey(namespace), e.key(51))
	e.dp.EndLease(e.key(51))
	if until, ok := e.dp.Heir(e.key(51)); until != 0 || !ok || l.Until() != 0 {
		t.Errorf("the lease ends at %v, %v", until, ok)
	}
	e.do(func() error { return errors.Join(e.dp.Disinherit(e.key(51)), e.dp.Disinherit(e.key(52))) })
	if _, ok := e.dp.Heir(e.key(51)); ok || len(e.dp.fence.holders) > 0 || len(e.dp.fence.vmacs) > 0 {
		t.Errorf("it is still there: %v %v", e.dp.fence.holders, e.dp.fence.vmacs)
	}
	e.attach(ModeTC)
	e.set(51, "192.0.2.10")
	if until, _ := e.dp.Heir(e.key(51)); until != 0 || !e.dp.Intact() {
		t.Errorf("its lease ends at %v", until)
	}
	e.do(dead.closeBPF)
	e.close()
}

// Maps of another layout are not taken over, and nothing is left of them.
func TestOtherLayout(t *testing.T) {
	e := newEstate(t)
	e.load(nil)
	e.attach(ModeTC)
	e.set(51, "192.0.2.10")
	dead := e.kill()
	e.do(func() error {
		path := filepath.Join(inheritDir, "maps", bpf.VrrpMapFailoverRouter)
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 1})
		if err != nil {
			return err
		}
		if err := errors.Join(os.Remove(path), m.Pin(path), m.Close()); err != nil {
			return err
		}
		r, err := Survey(inheritDir, namespace, nil)
		if err == nil || r == nil || len(r.Found) > 0 {
			t.Errorf("found %+v, %v", r, err)
		}
		e.dp, err = Load(Options{Dir: inheritDir, Namespace: namespace, Remains: r, Heirs: []packet.Key{e.key(51)}})
		return err
	})
	if len(e.links()) > 0 {
		t.Errorf("links: %v", e.links())
	}
	e.attach(ModeTC)
	e.set(51, "192.0.2.10")
	if !e.dp.Intact() {
		t.Error("not intact")
	}
	e.do(dead.closeBPF)
	e.close()
}
