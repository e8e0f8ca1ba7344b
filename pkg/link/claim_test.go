// SPDX-License-Identifier: Apache-2.0

package link

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

// claimOne claims one Virtual Router.
func claimOne(ifindex int, f packet.Family, vrid uint8) (io.Closer, error) {
	held, errs := Claim(packet.Key{Ifindex: ifindex, Family: f, VRID: vrid})
	return held[0], errs[0]
}

func TestClaim(t *testing.T) {
	n, _, _ := newHost(t)
	if err := n.Do(func() error {
		first, err := claimOne(2, packet.IPv4, 51)
		if err != nil {
			return err
		}
		if _, err := claimOne(2, packet.IPv4, 51); !errors.Is(err, ErrClaimed) {
			t.Errorf("claimed twice: %v", err)
		}
		for _, c := range []struct {
			ifindex int
			family  packet.Family
			vrid    uint8
		}{{2, packet.IPv4, 52}, {3, packet.IPv4, 51}, {2, packet.IPv6, 51}} {
			other, err := claimOne(c.ifindex, c.family, c.vrid)
			if err != nil {
				return err
			}
			defer func() { _ = other.Close() }()
		}
		if err := first.Close(); err != nil {
			return err
		}
		again, err := claimOne(2, packet.IPv4, 51)
		if err != nil {
			return err
		}
		return again.Close()
	}); err != nil {
		t.Fatal(err)
	}
}

// Claim claims thousands at once. Only the one that another process holds fails.
func TestClaimMany(t *testing.T) {
	n, _, _ := newHost(t)
	var keys []packet.Key
	for i := range 2000 {
		keys = append(keys, packet.Key{Ifindex: 2 + i/500, Family: []packet.Family{packet.IPv4, packet.IPv6}[i%2], VRID: uint8(1 + i%500/2)})
	}
	if err := n.Do(func() error {
		other, err := claimOne(keys[7].Ifindex, keys[7].Family, keys[7].VRID)
		if err != nil {
			return err
		}
		defer func() { _ = other.Close() }()
		held, errs := Claim(keys...)
		for i := range keys {
			if (errs[i] == nil) != (i != 7) || (held[i] != nil) != (i != 7) {
				t.Errorf("%v: %v, %v", keys[i], held[i], errs[i])
			}
		}
		if !errors.Is(errs[7], ErrClaimed) {
			t.Errorf("one that is held already: %v", errs[7])
		}
		for _, c := range held {
			if c != nil {
				err = errors.Join(err, c.Close())
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// If many ask for the same Virtual Router at the same moment, exactly one gets it.
func TestClaimAtOnce(t *testing.T) {
	n, _, _ := newHost(t)
	const rounds, askers = 25, 6
	for round := range rounds {
		var mu sync.Mutex
		var won, lost int
		begin := make(chan struct{})
		var all sync.WaitGroup
		for range askers {
			all.Go(func() {
				on(t, n, func() {
					<-begin
					_, err := claimOne(2, packet.IPv6, uint8(round+1)) // held until the end of the test
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						won++
					case errors.Is(err, ErrClaimed):
						lost++
					default:
						t.Error(err)
					}
				})
			})
		}
		close(begin)
		all.Wait()
		if won != 1 || lost != askers-1 {
			t.Fatalf("round %d: %d got it, %d didn't", round, won, lost)
		}
	}
}

// on runs f on a separate thread in the network namespace of a node.
func on(t *testing.T, n *lab.Node, f func()) {
	var ns int
	if err := n.Do(func() (err error) {
		ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	}); err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = unix.Close(ns) }()
	done := make(chan struct{})
	var begin func()
	begin = func() {
		runtime.LockOSThread() // for good: the thread ends
		if unix.Gettid() == unix.Getpid() {
			go begin() // on another thread, because the main thread never ends
			<-done
			runtime.UnlockOSThread()
			return
		}
		defer close(done)
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		f()
	}
	go begin()
	<-done
}

// An unprivileged user can't hold a claim, and can't prevent one with the sockets that every
// user may open.
func TestClaimWithoutRights(t *testing.T) {
	n, _, _ := newHost(t)
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	on(t, n, func() {
		// The raw system call changes the user of this thread only.
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); e != 0 {
			t.Error(e)
			return
		}
		for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
			if c, err := claimOne(2, f, 51); !errors.Is(err, unix.EPERM) {
				t.Errorf("%v: claimed %v, %v", f, c, err)
			}
			l, err := net.Listen("unix", fmt.Sprintf("@failoverd/2/%d/51", f))
			if err != nil {
				t.Error(err)
				continue
			}
			held = append(held, l)
		}
	})
	on(t, n, func() {
		for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
			c, err := claimOne(2, f, 51)
			if err != nil {
				t.Errorf("%v: %v", f, err)
				continue
			}
			_ = c.Close()
		}
	})
}
