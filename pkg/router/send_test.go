// SPDX-License-Identifier: Apache-2.0

package router

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// refuse makes the transmitter refuse the frames for which f returns an error.
func (h *host) refuse(f func(frame []byte) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuses = f
}

func always(err error) func([]byte) error { return func([]byte) error { return err } }

// only refuses the advertisements of one VRID.
func only(vrid uint8, err error) func([]byte) error {
	return func(frame []byte) error {
		var a packet.Advertisement
		if d, e := packet.ParseFrame(frame); e == nil {
			if _, e := a.Decode(d); e == nil && a.VRID == vrid {
				return err
			}
		}
		return nil
	}
}

// answers reports whether the kernel answers for the addresses of a VRID.
func (h *host) answers(vrid uint8) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := testKey
	k.VRID = vrid
	return h.leases[k] > h.Now()
}

func (h *host) status(vrid uint8) Status {
	h.t.Helper()
	id := testID
	id.VRID = vrid
	s, ok, err := h.loop.StatusOf(id)
	if err != nil || !ok {
		h.t.Fatalf("no VRID %d: %v", vrid, err)
	}
	return s
}

func second() (ID, Config) {
	id := testID
	id.VRID = 52
	return id, Config{ID: id, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.99/24")}, Protocol: vrrp.Config{
		Version: 3, VRID: 52, Family: packet.IPv4, Priority: 100, Interval: time.Second, Preempt: true,
		Checksum: vrrp.ChecksumOnlyRFC9568, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.99")},
	}}
}

// One of two routers of an interface can't send. Its lease ends, and it steps down when its
// slowest peer must have taken over. The other router isn't affected.
func TestOneCannotSend(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMSGSIZE, syscall.EPERM, syscall.ENOBUFS, syscall.EAGAIN, syscall.ENETDOWN, syscall.EHOSTUNREACH, syscall.EINVAL} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t, 100)
			id, c := second()
			if err := errors.Join(h.loop.Add(c)...); err != nil {
				t.Fatal(err)
			}
			h.up()
			if err := h.loop.Start(Start{id, h.port(), vrrp.CauseStarting}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			if !h.answers(51) || !h.answers(52) {
				t.Fatal("they aren't Active")
			}
			h.refuse(only(52, errno))
			before := h.status(52)
			ended := h.Now()
			for i := range 16 {
				time.Sleep(250 * time.Millisecond)
				if !h.answers(51) {
					t.Fatalf("%v: the one that can send doesn't answer", errno)
				}
				if s := h.status(52); i == 12 && (h.answers(52) || s.Unsent == nil || !errors.Is(s.Unsent.Err, errno)) {
					t.Errorf("%v: the one that can't send answers: %v", errno, s.Unsent)
				}
			}
			s := h.status(52)
			if s.Protocol.State != vrrp.Backup || s.Protocol.LastTransition.Cause != vrrp.CauseCannotSend || s.Assigned {
				t.Errorf("%v: %v because %s", errno, s.Protocol.State, s.Protocol.LastTransition.Why())
			}
			if why := s.Protocol.LastTransition.Why(); !strings.HasPrefix(why, "could not advertise for 4s (limit 3.996s): "+errno.Error()) {
				t.Errorf("Backup because %q", why)
			}
			if s.Counters.Sent != before.Counters.Sent || s.Counters.PriorityZeroSent != 0 || s.Counters.SendErrors < 5 || s.Sent > ended {
				t.Errorf("%v: %+v, after %+v; sent at %v", errno, s.Counters, before.Counters, s.Sent)
			}
			if other := h.status(51); other.Counters.SendErrors != 0 || other.Protocol.State != vrrp.Active || other.Unsent != nil {
				t.Errorf("%v: of the other %+v", errno, other)
			}
			// It probes, but its state doesn't change.
			moved := len(h.transitions)
			time.Sleep(time.Minute)
			if h.status(52).Protocol.State != vrrp.Backup || len(h.transitions) != moved {
				t.Errorf("%v: %d changes of state of a router that can't send", errno, len(h.transitions)-moved)
			}
			h.refuse(nil)
			time.Sleep(maxProbeInterval)
			if s := h.status(52); s.Protocol.State != vrrp.Active || !h.answers(52) || s.Unsent != nil {
				t.Errorf("%v: when it can send it is %v", errno, s.Protocol.State)
			}
			h.end()
		})
	}
}

// Of a router that heard a better one before it had to step down, it isn't known whether it
// can send. The same is true of one whose last advertisement was that of priority 0.
func TestFailureToSendIsForgotten(t *testing.T) {
	for name, leave := range map[string]func(*host) error{
		"better": func(h *host) error { h.hear(h.advertisement(200), true); return nil },
		"stop":   func(h *host) error { return h.loop.Stop(testID, vrrp.CauseMaintenance, "") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, 100)
				h.up()
				time.Sleep(5 * time.Second)
				h.refuse(always(syscall.ENOBUFS))
				if name == "better" {
					time.Sleep(time.Second)
					if h.status(51).Unsent == nil {
						t.Fatal("it could send")
					}
				}
				if err := leave(h); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
				if s := h.status(51); s.Protocol.State == vrrp.Active || s.Unsent != nil {
					t.Errorf("%v, can't send: %+v", s.Protocol.State, s.Unsent)
				}
				h.end()
			})
		})
	}
}

// Retry makes a router that can't send probe at once.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.refuse(only(51, syscall.EMSGSIZE))
		h.up()
		time.Sleep(time.Minute)
		if s := h.status(51); s.Protocol.State != vrrp.Backup || h.answers(51) {
			t.Fatalf("%v", s.Protocol.State)
		}
		for h.status(51).Protocol.State == vrrp.Backup && h.loop.routers[testID].sendFailure.probeAt < h.Now().Add(5*time.Second) {
			time.Sleep(time.Second)
		}
		h.refuse(nil)
		if err := h.loop.Retry(testID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		if s := h.status(51); s.Protocol.State != vrrp.Active || !h.answers(51) {
			t.Errorf("%v", s.Protocol.State)
		}
		h.end()
	})
}

// An address owner that can't send waits in Initialize.
func TestOwnerCannotSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 255)
		h.up()
		time.Sleep(time.Second)
		h.refuse(always(syscall.EPERM))
		time.Sleep(time.Minute)
		if s := h.status(51); s.Protocol.State != vrrp.Initialize || s.Protocol.LastTransition.Cause != vrrp.CauseCannotSend || s.Protocol.BecameActive != 1 {
			t.Errorf("%v because %s", s.Protocol.State, s.Protocol.LastTransition.Why())
		}
		h.refuse(nil)
		time.Sleep(maxProbeInterval)
		if s := h.status(51); s.Protocol.State != vrrp.Active {
			t.Errorf("when it can send it is %v", s.Protocol.State)
		}
		h.end()
	})
}

// If the queue is full, the advertisement is sent a little later, and nothing else changes.
func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.up()
		time.Sleep(5 * time.Second)
		refused := 0
		h.refuse(func([]byte) error {
			if refused++; refused%3 != 0 {
				return syscall.ENOBUFS
			}
			return nil
		})
		before := h.status(51)
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			if !h.answers(51) {
				t.Fatal("it doesn't answer")
			}
		}
		if s := h.status(51); s.Counters.Sent != before.Counters.Sent+10 || s.Counters.SendErrors != 20 || s.Protocol.BecameActive != 1 {
			t.Errorf("%+v, before %+v", s.Counters, before.Counters)
		}
		// The number of retries is limited.
		h.refuse(always(syscall.ENOBUFS))
		before = h.status(51)
		time.Sleep(2500 * time.Millisecond)
		if n := h.status(51).Counters.SendErrors - before.Counters.SendErrors; n != 8 {
			t.Errorf("%d attempts for 2 advertisements, not 8", n)
		}
		h.end()
	})
}

// unreached is the error for a destination that can't be reached.
type unreached struct{}

func (unreached) Error() string     { return "no route" }
func (unreached) Unreachable() bool { return true }

// A unicast router doesn't step down because peers can't be reached. It does if a firewall
// rejects the frames to all peers.
func TestUnicastCannotSend(t *testing.T) {
	peers := []netip.Addr{netip.MustParseAddr("192.0.2.4"), netip.MustParseAddr("192.0.2.5")}
	to := func(n int, err error) func([]byte) error {
		return func(frame []byte) error {
			if n < 0 || [4]byte(frame[16:]) == peers[n].As4() {
				return err
			}
			return nil
		}
	}
	for _, c := range []struct {
		what    string
		refuses func([]byte) error
		answers bool
		sent    bool
	}{
		{"nothing refused", nil, true, true},
		{"one is cut off", to(0, unreached{}), true, true},
		{"all are cut off", to(-1, unreached{}), true, false},
		{"one is behind a firewall", to(1, syscall.EPERM), true, true},
		{"all are", to(-1, syscall.EPERM), false, false},
		{"too long for one", to(0, syscall.EMSGSIZE), false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t, 100)
			if err := h.loop.Update(Config{ID: testID, Addresses: []netip.Prefix{testVIP}, Protocol: h.protocol, Peers: peers, TTL: 64}); err != nil {
				t.Fatal(err)
			}
			port := h.port()
			port.Unicast = h
			if err := h.loop.Start(Start{testID, port, vrrp.CauseStarting}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			before := h.status(51).Counters.Sent
			h.refuse(c.refuses)
			time.Sleep(10 * time.Second)
			s := h.status(51)
			if active := s.Protocol.State == vrrp.Active; active != c.answers || h.answers(51) != c.answers {
				t.Errorf("%s: %v because %s", c.what, s.Protocol.State, s.Protocol.LastTransition.Why())
			}
			if (s.Counters.Sent > before) != c.sent {
				t.Errorf("%s: %d sent", c.what, s.Counters.Sent-before)
			}
			h.end()
		})
	}
}

// The members of a group stay Backup while one of them can't send.
func TestGroupCannotSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		time.Sleep(4 * time.Second)
		p.expect("nobody else is there", vrrp.Active, vrrp.Active)
		p.refuse(only(52, syscall.EMSGSIZE))
		time.Sleep(time.Minute)
		p.expect("one can't send", vrrp.Backup, vrrp.Backup)
		if s := p.status(51); s.Protocol.BecameActive != 1 || s.HeldBy == nil || *s.HeldBy != p.id(52) {
			t.Errorf("51 was Active %d times and waits for %v", s.Protocol.BecameActive, s.HeldBy)
		}
		p.refuse(nil)
		time.Sleep(maxProbeInterval)
		p.expect("it can", vrrp.Active, vrrp.Active)
		p.end()
	})
}

// A router that steps down repeatedly waits longer each time.
func TestStepsDownAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.up()
		for range 120 {
			// It can send only now and then.
			h.refuse(always(syscall.EMSGSIZE))
			time.Sleep(19 * time.Second)
			h.refuse(nil)
			time.Sleep(11 * time.Second)
		}
		if n := h.status(51).Protocol.BecameActive; n < 5 || n > 40 {
			t.Errorf("Active %d times in an hour", n)
		}
		h.end()
	})
}

// The kernel gets a limited time in which it lets an advertisement out.
func TestAdvertiseWindow(t *testing.T) {
	for _, interval := range []time.Duration{10 * time.Millisecond, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			h := newHostOf(t, vrrp.Config{
				Version: 3, VRID: 51, Family: packet.IPv4, Priority: 100, Interval: interval, Preempt: true, Addresses: []netip.Addr{testVIP.Addr()},
			})
			h.up()
			time.Sleep(5 * interval)
			for range 20 {
				time.Sleep(interval)
				synctest.Wait()
				s := h.status(51)
				h.mu.Lock()
				window := h.permit.Sub(s.Sent)
				h.mu.Unlock()
				if want := max(interval, 100*time.Millisecond); s.Protocol.State != vrrp.Active || window <= 0 || window > want {
					t.Fatalf("%v: an advertisement may leave for %v, not %v", s.Protocol.State, window, want)
				}
			}
			h.end()
		})
	}
}

// With random failures to send: the lease ends before a peer takes over, counted from the
// last advertisement that was sent in all forms; a router that can't send doesn't stay
// Active; only what was sent is counted as sent; and in the end the router is Active.
func TestSendErrorsAtRandom(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			h := newHostOf(t, vrrp.Config{
				Version: 3, VRID: 51, Family: packet.IPv4, Priority: 100, Interval: time.Second, Preempt: true, Addresses: []netip.Addr{testVIP.Addr()},
			})
			h.up()
			errnos := []syscall.Errno{syscall.EMSGSIZE, syscall.ENOBUFS, syscall.EPERM, syscall.ENETDOWN}
			for range 20 {
				share, errno := rng.IntN(5), errnos[rng.IntN(len(errnos))]
				h.refuse(func([]byte) error {
					if rng.IntN(4) < share {
						return errno
					}
					return nil
				})
				for range rng.IntN(100) {
					time.Sleep(100 * time.Millisecond)
					if err := h.checkSent(); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
				}
			}
			h.refuse(nil)
			time.Sleep(maxProbeDelay + maxProbeInterval)
			if s := h.status(51); s.Protocol.State != vrrp.Active || !h.answers(51) {
				t.Errorf("seed %d: in the end %v", seed, s.Protocol.State)
			}
			h.end()
		})
	}
}

func (h *host) checkSent() error {
	s := h.status(51)
	h.mu.Lock()
	defer h.mu.Unlock()
	now, last := h.Now(), vrrp.Instant(0)
	type advertisement struct {
		at       time.Duration
		priority uint8
	}
	forms := make(map[advertisement]int) // the number of forms that were sent
	for _, one := range h.sent {
		var a packet.Advertisement
		if d, err := packet.ParseFrame(one.frame); err == nil {
			if _, err := a.Decode(d); err != nil {
				return err
			}
			forms[advertisement{one.at, a.Priority}]++
		}
	}
	n := uint64(0)
	for a, left := range forms {
		if left == 2 {
			n++
			last = max(last, vrrp.Instant(a.at)+vrrp.Instant(time.Hour))
		}
	}
	if until := h.leases[testKey]; until > last.Add(3*time.Second) {
		return fmt.Errorf("a lease of %v, %v after the last advertisement", until.Sub(now), now.Sub(last))
	}
	if since := max(last, s.Protocol.Since); s.Protocol.State == vrrp.Active && now.Sub(since) > 5*time.Second {
		return fmt.Errorf("it is Active %v after the last advertisement", now.Sub(since))
	}
	if s.Counters.Sent != n {
		return fmt.Errorf("%d advertisements counted, %d sent", s.Counters.Sent, n)
	}
	return nil
}

// A router whose addresses can't be removed stays, and retries the removal.
func TestRemoveFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.releaseErr = syscall.EBUSY
		h.up()
		time.Sleep(5 * time.Second)
		if err := h.loop.Remove(testID, vrrp.CauseRemoved); !errors.Is(err, syscall.EBUSY) {
			t.Fatalf("Remove = %v", err)
		}
		before := len(h.assignments())
		time.Sleep(5 * time.Second)
		if s := h.status(51); s.Protocol.State != vrrp.Initialize {
			t.Errorf("%v", s.Protocol.State)
		}
		if all := h.assignments()[before:]; len(all) < 4 || slices.Contains(all, "+"+testVIP.String()) {
			t.Errorf("it goes on with %v", all)
		}
		h.mu.Lock()
		h.releaseErr = nil
		h.mu.Unlock()
		time.Sleep(2 * time.Second)
		if err := h.loop.Remove(testID, vrrp.CauseRemoved); err != nil {
			t.Error(err)
		}
		if _, ok, _ := h.loop.StatusOf(testID); ok {
			t.Error("it is still there")
		}
		h.end()
	})
}
