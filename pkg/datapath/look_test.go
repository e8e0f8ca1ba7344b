// SPDX-License-Identifier: Apache-2.0

//go:build !kernels

// Most of it needs TCX, which the oldest kernel that is booted for tests hasn't.

package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/transmit"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Whatever is detached is seen, told and attached again, and only that; the links are
// pinned as before. It is the kernel that is asked.
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
						t.Fatalf("%s is detached, and it says %v", name, err)
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
				t.Errorf("nothing is wrong, and it repairs %v, %v", done, err)
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

// A program that somebody puts in front is named, and gone before; one that comes again
// and again is left there. Another failoverd's is nobody to fight with.
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
	for n := range moveMost {
		_, gone := stranger("cil_from_netdev")
		var lack *Lack
		if err := w.attached(); !errors.As(err, &lack) || lack.Left || len(lack.InFront) != 1 || !strings.HasPrefix(lack.InFront[0], "cil_from_netdev (number ") {
			t.Fatalf("the %d. time: %v", n+1, err)
		}
		if done, err := w.repair(); err != nil || !slices.Equal(done, []string{"ingress"}) {
			t.Fatalf("the %d. time: %v, %v", n+1, done, err)
		}
		if err := w.attached(); err != nil {
			t.Errorf("the %d. time, afterwards: %v", n+1, err)
		}
		gone()
	}
	_, gone = stranger("cil_from_netdev")
	defer gone()
	if done, err := w.repair(); len(done) != 0 || err != nil {
		t.Errorf("it goes in front for ever: %v, %v", done, err)
	}
	var lack *Lack
	if err := w.attached(); !errors.As(err, &lack) || !lack.Left {
		t.Errorf("%v", err)
	}
	// What is detached is attached all the same.
	if err := a.fence[1].Detach(); err != nil {
		t.Fatal(err)
	}
	if done, err := w.repair(); err != nil || !slices.Equal(done, []string{"egress"}) {
		t.Errorf("repaired %v, %v", done, err)
	}
}

// Classifiers, and the queueing discipline with them, come back too.
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

// While the programs that receive are detached, or another one ends the chain in front of
// them, the kernel goes on keeping when an advertisement came, if it counts; otherwise it
// is they who do.
func TestStampWithoutPrograms(t *testing.T) {
	for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
		w := newWire(t, ModeTC)
		a := w.dp.attached[w.ifindex]
		source := map[packet.Family]string{packet.IPv4: "192.0.2.2", packet.IPv6: "fe80::a"}[f]
		own := map[packet.Family]string{packet.IPv4: "192.0.2.3", packet.IPv6: "fe80::b"}[f]
		if err := w.here.AddAddress("eth0", own+map[packet.Family]string{packet.IPv4: "/24", packet.IPv6: "/64"}[f]); err != nil {
			t.Fatal(err)
		}
		if err := w.here.Do(func() error {
			member, err := transmit.Open(w.ifindex)
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = member.Close() })
			return member.Join(f)
		}); err != nil {
			t.Fatal(err)
		}
		plain := Router{Version: 3, Running: true, Heed: 100, Forms: packet.ChecksumRFC9568, Source: list(own)[0]}
		ears := make(map[uint8]Ear)
		for _, vrid := range []uint8{51, 52} {
			k := packet.Key{Ifindex: w.ifindex, Family: f, VRID: vrid}
			if err := w.dp.SetRouter(k, plain); err != nil {
				t.Fatal(err)
			}
			ears[vrid], _ = w.dp.Ear(k)
		}
		advertise := func(priority uint8, from string, hops byte) (before, after vrrp.Stamp) {
			t.Helper()
			before, _ = ears[51].Stamp()
			a := packet.Advertisement{Version: 3, VRID: 51, Priority: priority, Interval: 250 * time.Millisecond, Addresses: list(own)}
			frame, err := packet.AppendAdvertisementFrame(nil, packet.MAC{2, 0, 0, 0, 0, 9}, list(from)[0], &a, packet.ChecksumRFC9568)
			if err != nil {
				t.Fatal(err)
			}
			frame[14+map[packet.Family]int{packet.IPv4: 8, packet.IPv6: 7}[f]] = hops
			sumHeader(frame)
			time.Sleep(10 * time.Millisecond) // or the programs may have seen it
			w.conn.Queue(frame)
			// What comes behind it has been dealt with later.
			advertise52 := packet.Advertisement{Version: 3, VRID: 52, Priority: 200, Interval: 250 * time.Millisecond, Addresses: list(own)}
			behind, err := packet.AppendAdvertisementFrame(nil, packet.MAC{2, 0, 0, 0, 0, 9}, list(source)[0], &advertise52, packet.ChecksumRFC9568)
			if err != nil {
				t.Fatal(err)
			}
			w.conn.Queue(behind)
			mark, _ := ears[52].Stamp()
			err = nil
			if w.conn.Flush(func(_ int, e error) { err = e }); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
				if now, _ := ears[52].Stamp(); now != mark {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%s: VRID 52 isn't stamped", f)
				}
			}
			after, _ = ears[51].Stamp()
			return before, after
		}
		stamped := func(what string, priority uint8, from string, hops byte, want bool) {
			t.Helper()
			before, after := advertise(priority, from, hops)
			if got := after != before; got != want {
				t.Errorf("%s, %s: stamped %v", f, what, got)
			}
			if want && (after.Priority != priority || after.Version != 3 || after.Interval != 250*time.Millisecond) {
				t.Errorf("%s, %s: %+v", f, what, after)
			}
		}
		stamped("attached", 200, source, 255, true)
		stamped("attached, of a priority that doesn't count", 99, source, 255, false)
		if err := a.fence[0].Detach(); err != nil {
			t.Fatal(err)
		}
		stamped("detached", 201, source, 255, true)
		stamped("detached, of a priority that doesn't count", 99, source, 255, false)
		stamped("detached, of a router beyond the link", 202, source, 254, false)
		stamped("detached, its own", 203, own, 255, false)
		// Nobody has proven that such an advertisement is authentic.
		sealed := plain
		sealed.Verifier = rules{auth.Rules{Type: auth.HMAC, Keys: map[uint8]packet.HMACStates{1: {}}}}
		k := packet.Key{Ifindex: w.ifindex, Family: f, VRID: 51}
		if err := w.dp.SetRouter(k, sealed); err != nil {
			t.Fatal(err)
		}
		stamped("detached, of a router that authenticates", 204, source, 255, false)
		if err := w.dp.SetRouter(k, plain); err != nil {
			t.Fatal(err)
		}
		if done, err := w.repair(); err != nil || len(done) != 1 {
			t.Fatal(done, err)
		}
		stamped("attached again", 205, source, 255, true)
	}
}
