// SPDX-License-Identifier: Apache-2.0

//go:build !kernels

// These tests need TCX, which the oldest kernel of make test-kernels doesn't have.

package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// A detached program is noticed, named and attached again. The others stay as they are. The
// new link is pinned in the place of the old one.
func TestDetachedIsAttachedAgain(t *testing.T) {
	for _, mode := range []Mode{ModeGeneric, ModeTC, ModeOff} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWire(t, mode)
			a := w.dp.attached[w.ifindex]
			if err := w.attached(); err != nil {
				t.Fatalf("at the beginning: %v", err)
			}
			var names []string
			for _, h := range w.dp.hooks(a) {
				names = append(names, h.name)
			}
			want := map[Mode][]string{ModeGeneric: {"xdp", "ingress", "egress"}, ModeTC: {"ingress", "egress"}, ModeOff: {"ingress", "egress"}}[mode]
			if !slices.Equal(names, want) {
				t.Fatalf("hooks %v, want %v", names, want)
			}
			for n, name := range names {
				t.Run(name, func(t *testing.T) {
					others := w.linkIDs(t)
					if err := (*w.dp.hooks(a)[n].link).Detach(); err != nil {
						t.Fatal(err)
					}
					var lack *Lack
					if err := w.attached(); !errors.As(err, &lack) || !slices.Equal(lack.Detached, []string{name}) || lack.InFront != nil {
						t.Fatalf("%s is detached, and Attached returns %v", name, err)
					}
					done, err := w.repair()
					if err != nil || !slices.Equal(done, []string{name}) {
						t.Fatalf("repaired %v, %v", done, err)
					}
					if err := w.attached(); err != nil {
						t.Errorf("afterwards: %v", err)
					}
					now := w.linkIDs(t)
					for i := range now {
						if (now[i] != others[i]) != (i == n) {
							t.Errorf("link %s: %d before, %d now", names[i], others[i], now[i])
						}
						if err := w.here.Do(func() error {
							pinned, err := link.LoadPinnedLink(filepath.Join(a.pinned, names[i]), nil)
							if err != nil {
								return err
							}
							if info, err := pinned.Info(); err != nil || info.ID != now[i] {
								t.Errorf("%s is pinned as %v, %v; it is %d", names[i], info, err, now[i])
							}
							return pinned.Close()
						}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			if done, err := w.repair(); len(done) != 0 || err != nil {
				t.Errorf("nothing is wrong, and Repair returns %v, %v", done, err)
			}
			pinned := a.pinned
			if err := w.here.Do(func() error {
				if err := w.dp.Detach(w.ifindex); err != nil {
					return err
				}
				if _, err := os.Stat(pinned); !errors.Is(err, os.ErrNotExist) {
					return fmt.Errorf("left behind in %s: %w", pinned, err)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

func (w *wire) attached() (err error) {
	_ = w.here.Do(func() error { err = w.dp.Attached(w.ifindex); return nil })
	return err
}

func (w *wire) repair() (done []string, err error) {
	_ = w.here.Do(func() error { done, err = w.dp.Repair(w.ifindex); return nil })
	return done, err
}

func (w *wire) linkIDs(t *testing.T) (ids []link.ID) {
	t.Helper()
	for _, h := range w.dp.hooks(w.dp.attached[w.ifindex]) {
		info, err := (*h.link).Info()
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, info.ID)
	}
	return ids
}

// Repair moves failoverd's programs in front of a foreign one, and the foreign one is named.
// One that returns again and again is left in front. Programs of another failoverd don't
// count as foreign.
func TestProgramInFront(t *testing.T) {
	w := newWire(t, ModeTC)
	a := w.dp.attached[w.ifindex]
	stranger := func(name string) (link.Link, func()) {
		t.Helper()
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: name, Type: ebpf.SchedCLS, License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}, // TC_ACT_OK
		})
		if err != nil {
			t.Fatal(err)
		}
		var l link.Link
		if err := w.here.Do(func() (err error) {
			l, err = link.AttachTCX(link.TCXOptions{Interface: w.ifindex, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return l, func() { _, _ = l.Close(), p.Close() }
	}
	_, gone := stranger("failover_other")
	if err := w.attached(); err != nil {
		t.Errorf("another failoverd is in front: %v", err)
	}
	gone()
	for n := range moveLimit {
		_, gone := stranger("cil_from_netdev")
		var lack *Lack
		if err := w.attached(); !errors.As(err, &lack) || lack.Left || len(lack.InFront) != 1 || !strings.HasPrefix(lack.InFront[0], "cil_from_netdev (number ") {
			t.Fatalf("round %d: %v", n+1, err)
		}
		if done, err := w.repair(); err != nil || !slices.Equal(done, []string{"ingress"}) {
			t.Fatalf("round %d: repaired %v, %v", n+1, done, err)
		}
		if err := w.attached(); err != nil {
			t.Errorf("round %d, afterwards: %v", n+1, err)
		}
		gone()
	}
	_, gone = stranger("cil_from_netdev")
	defer gone()
	if done, err := w.repair(); len(done) != 0 || err != nil {
		t.Errorf("still moved to the front: %v, %v", done, err)
	}
	var lack *Lack
	if err := w.attached(); !errors.As(err, &lack) || !lack.Left {
		t.Errorf("Left isn't set: %v", err)
	}
	// A detached program is attached again nevertheless.
	if err := a.fence[1].Detach(); err != nil {
		t.Fatal(err)
	}
	if done, err := w.repair(); err != nil || !slices.Equal(done, []string{"egress"}) {
		t.Errorf("repaired %v, %v", done, err)
	}
}

// Repair restores classifiers too, and clsact if it was removed.
func TestFiltersComeBack(t *testing.T) {
	w := newWire(t, ModeOff)
	a := w.dp.attached[w.ifindex]
	device := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: w.ifindex}}
	clsact := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: w.ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if err := w.here.Do(func() error {
		for _, l := range a.fence {
			if err := errors.Join(l.Unpin(), l.Close()); err != nil {
				return err
			}
		}
		a.fence = nil
		return w.dp.attachClassifiers(a, a.on,
			classifier{w.dp.fence.objects.FailoverIngress, netlink.HANDLE_MIN_INGRESS, "ingress", 1},
			classifier{w.dp.fence.objects.FailoverEgress, netlink.HANDLE_MIN_EGRESS, "egress", 1})
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.attached(); err != nil {
		t.Fatalf("at the beginning: %v", err)
	}
	for what, remove := range map[string]func() error{
		"ingress": func() error {
			all, err := netlink.FilterList(device, netlink.HANDLE_MIN_INGRESS)
			if err != nil || len(all) != 1 {
				return fmt.Errorf("%v: %w", all, err)
			}
			return netlink.FilterDel(all[0])
		},
		"ingress egress": func() error { return netlink.QdiscDel(clsact) },
	} {
		if err := w.here.Do(remove); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		var lack *Lack
		if err := w.attached(); !errors.As(err, &lack) || strings.Join(lack.Detached, " ") != what {
			t.Fatalf("%s: %v", what, err)
		}
		if done, err := w.repair(); err != nil || strings.Join(done, " ") != what {
			t.Fatalf("%s: repaired %v, %v", what, done, err)
		}
		if err := w.attached(); err != nil {
			t.Errorf("%s, afterwards: %v", what, err)
		}
	}
	if found := func() (all []Lack) { _ = w.here.Do(func() error { all = w.dp.Look(); return nil }); return all }(); len(found) != 0 {
		t.Errorf("Look: %v", found)
	}
}

// Reception reports whether packets arrive, and since when they do again. Detaching a program
// that only fences doesn't count.
func TestReception(t *testing.T) {
	for _, test := range []struct {
		mode   Mode
		detach string // the program without which nothing is received; empty: there is none
	}{{ModeTC, "ingress"}, {ModeGeneric, "xdp"}, {ModeOff, ""}} {
		t.Run(string(test.mode), func(t *testing.T) {
			w := newWire(t, test.mode)
			hearing := func() vrrp.Instant {
				t.Helper()
				looked, since, detached := w.dp.Reception(w.ifindex)
				if detached {
					t.Error("detached")
				}
				if since != 0 {
					t.Errorf("attached again at %v, want never", since)
				}
				return looked
			}
			if hearing() != 0 {
				t.Error("a look before any was requested")
			}
			w.dp.RequestLook(w.ifindex + 1) // there is no such interface
			select {
			case <-w.dp.LookRequests():
				t.Error("a look at an interface that isn't attached")
			default:
			}
			before := monotonic()
			w.dp.RequestLook(w.ifindex)
			w.dp.RequestLook(w.ifindex)
			<-w.dp.LookRequests()
			if lacks := w.lookAsked(); len(lacks) > 0 || hearing() < before {
				t.Fatalf("a look finds %v", lacks)
			}
			looked := hearing()
			if lacks := w.lookAsked(); len(lacks) > 0 || hearing() != looked {
				t.Errorf("a look that nobody requested: %v", lacks)
			}
			if err := w.dp.attached[w.ifindex].fence[1].Detach(); err != nil {
				t.Fatal(err)
			}
			w.dp.RequestLook(w.ifindex)
			if lacks := w.lookAsked(); len(lacks) != 1 || hearing() == looked {
				t.Errorf("without the egress program: %v", lacks)
			}
			for _, h := range w.dp.hooks(w.dp.attached[w.ifindex]) {
				if h.name == "egress" {
					continue
				}
				if err := (*h.link).Detach(); err != nil {
					t.Fatal(err)
				}
				w.dp.RequestLook(w.ifindex)
				lacks := w.lookAsked()
				if _, _, detached := w.dp.Reception(w.ifindex); detached != (h.name == test.detach) {
					t.Errorf("without %s: detached %v, %v", h.name, detached, lacks)
				}
				before := monotonic()
				if _, err := w.repair(); err != nil {
					t.Fatal(err)
				}
				looked, since, detached := w.dp.Reception(w.ifindex)
				if detached || (since >= before) != (h.name == test.detach) || looked < before {
					t.Errorf("with %s again: looked %v, since %v, detached %v; it was attached after %v", h.name, looked, since, detached, before)
				}
			}
		})
	}
}

// A look restores the map entry of a router that another program has deleted. Until then the
// router heard nothing, so the interface counts as attached again.
func TestLookRestoresEntries(t *testing.T) {
	w := newWire(t, ModeTC)
	k := packet.Key{Ifindex: w.ifindex, Family: packet.IPv4, VRID: 7}
	if err := w.dp.SetRouter(k, Router{Version: 3, Source: netip.MustParseAddr("192.0.2.3"), Running: true}); err != nil {
		t.Fatal(err)
	}
	look := func() vrrp.Instant {
		t.Helper()
		w.dp.RequestLook(w.ifindex)
		if lacks := w.lookAsked(); len(lacks) > 0 {
			t.Fatal(lacks)
		}
		_, since, detached := w.dp.Reception(w.ifindex)
		if detached {
			t.Error("detached")
		}
		return since
	}
	if since := look(); since != 0 || len(w.dp.Restored()) > 0 {
		t.Errorf("attached again at %v, want never", since)
	}
	if err := w.dp.objects.FailoverRouter.Delete(kernelKey(k)); err != nil {
		t.Fatal(err)
	}
	before := monotonic()
	if since := look(); since < before || !w.dp.Intact() {
		t.Errorf("attached again at %v, the entry was deleted at %v", since, before)
	}
	want := map[packet.Key][]string{k: {"the kernel's entry failover_router"}}
	if diff := cmp.Diff(want, w.dp.Restored()); diff != "" || len(w.dp.Restored()) > 0 {
		t.Errorf("restored (-want +got):\n%s", diff)
	}
}

// Lost names a program that can't be attached again, because foreign ones have taken all
// places of the hook. After Detach, Attach finds another path.
func TestLost(t *testing.T) {
	w := newWire(t, ModeAuto)
	if err := w.dp.attached[w.ifindex].fence[0].Detach(); err != nil {
		t.Fatal(err)
	}
	var foreign []func() error
	t.Cleanup(func() {
		for _, remove := range foreign {
			_ = remove()
		}
	})
	attach := func() error {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "pass", Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}})
		if err != nil {
			return err
		}
		foreign = append(foreign, p.Close)
		l, err := link.AttachTCX(link.TCXOptions{Interface: w.ifindex, Program: p, Attach: ebpf.AttachTCXIngress})
		if err == nil {
			foreign = append(foreign, l.Close)
		}
		return err
	}
	var err error
	for err == nil {
		err = w.here.Do(attach)
	}
	if !errors.Is(err, unix.ERANGE) {
		t.Fatal(err)
	}
	for n := range lostAfter {
		if lost := w.dp.Lost(w.ifindex); lost != "" {
			t.Errorf("lost after %d attempts: %s", n, lost)
		}
		if _, err := w.repair(); err == nil {
			t.Fatal("attached although the hook is full")
		}
	}
	if lost := w.dp.Lost(w.ifindex); !strings.Contains(lost, "ingress") || !strings.Contains(lost, "can't be attached again") {
		t.Errorf("lost: %q", lost)
	}
	var path Path
	err = w.here.Do(func() (err error) {
		if err = w.dp.Detach(w.ifindex); err != nil {
			return err
		}
		path, err = w.dp.Attach(Link{Index: w.ifindex, Name: "eth0", Kind: "veth"}, ModeAuto, false)
		return err
	})
	if err != nil || path.Kind != PathGeneric || path.Unfenced == nil {
		t.Errorf("attached anew: %+v, %v", path, err)
	}
	if lost := w.dp.Lost(w.ifindex); lost != "" {
		t.Errorf("lost when attached anew: %s", lost)
	}
}

func (w *wire) lookAsked() (all []Lack) {
	_ = w.here.Do(func() error { all = w.dp.LookRequested(); return nil })
	return all
}
