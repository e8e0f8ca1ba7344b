// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// host is a loop with fakes of all its interfaces, on the virtual time of a synctest
// bubble.
type host struct {
	protocol vrrp.Config

	t     *testing.T
	start time.Time
	loop  *Loop
	stop  func()
	ended chan error

	replace func() // ends the loop because another process continues

	mu           sync.Mutex
	news         chan struct{}
	pending      []Received
	stamp        map[packet.Key]vrrp.Stamp
	sent         []sent
	leases       map[packet.Key]vrrp.Instant // until when the host may answer for the addresses
	permit       vrrp.Instant                // until when advertisements may be sent
	refuses      func(frame []byte) error
	reception    Reception
	detached     bool            // nothing is received, and a check finds that
	unseen       bool            // a check doesn't finish in time
	checks       []time.Duration // when checks were requested
	queued       [][]byte
	assigned     []string
	assignErr    error
	releaseErr   error
	releaseHangs bool
	hold         []func() // delayed completions of assignments
	holding      bool
	transitions  []Transition
	order        []string // the outputs of the loop in their order
	failures     []Failure
	findings     []packet.Reason
}

type sent struct {
	at    time.Duration
	frame []byte
}

func (h *host) Now() vrrp.Instant {
	// Instants of 0 mean never, so the clock doesn't start there.
	return vrrp.Instant(time.Since(h.start)) + vrrp.Instant(time.Hour)
}

func (h *host) Wait(until vrrp.Instant) error {
	timer := time.NewTimer(until.Sub(h.Now()))
	defer timer.Stop()
	select {
	case <-h.news:
	case <-timer.C:
	}
	return nil
}

func (h *host) Wake() {
	select {
	case h.news <- struct{}{}:
	default:
	}
}

func (h *host) Drain(f func(*Received)) {
	h.mu.Lock()
	pending := h.pending
	h.pending = nil
	h.mu.Unlock()
	for i := range pending {
		f(&pending[i])
	}
}

func (h *host) ReceiveState(k packet.Key) ReceiveState { return hostReceiveState{h, k} }

func (h *host) Reception(ifindex int) Reception {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ifindex != h.port().Ifindex {
		return Reception{}
	}
	return h.reception
}

// RequestCheck completes the check at once.
func (h *host) RequestCheck(int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, time.Since(h.start))
	switch {
	case h.unseen:
	case h.detached:
		h.reception.Detached = true
	default:
		h.reception.Checked = h.Now()
	}
}

// hostReceiveState has only a stamp. Every advertisement is passed on.
type hostReceiveState struct {
	h *host
	k packet.Key
}

func (e hostReceiveState) Stamp() (vrrp.Stamp, bool) {
	e.h.mu.Lock()
	defer e.h.mu.Unlock()
	s, ok := e.h.stamp[e.k]
	return s, ok
}

func (hostReceiveState) SetExpected([2]uint64)                 {}
func (hostReceiveState) SetOutranked(vrrp.Outranked)           {}
func (hostReceiveState) Repeated() (n [2]uint64, order uint64) { return n, 0 }
func (hostReceiveState) RepeatedAt() *vrrp.Instant             { return new(vrrp.Instant) }

func (h *host) Lease(k packet.Key) Lease { return hostLease{h, k} }

type hostLease struct {
	h *host
	k packet.Key
}

func (l hostLease) Until() vrrp.Instant {
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	return l.h.leases[l.k]
}

func (l hostLease) Answer(until vrrp.Instant) {
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	l.h.leases[l.k] = until
}

func (l hostLease) Renew(was, until vrrp.Instant) bool {
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	if l.h.leases[l.k] != was {
		return false
	}
	l.h.leases[l.k] = until
	return true
}

func (l hostLease) Advertise(until vrrp.Instant) {
	l.h.mu.Lock()
	defer l.h.mu.Unlock()
	l.h.permit = until
}

func (h *host) Queue(frame []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.queued = append(h.queued, slices.Clone(frame))
}

func (h *host) Queued() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.queued)
}

func (h *host) Flush(unsent func(int, error)) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queued) > 0 {
		h.order = append(h.order, "send")
	}
	for i, f := range h.queued {
		if h.refuses != nil {
			if err := h.refuses(f); err != nil {
				unsent(i, err)
				continue
			}
		}
		h.sent = append(h.sent, sent{time.Since(h.start), f})
		n++
	}
	h.queued = nil
	return n
}

func (h *host) Assign(_ ID, _ int, p []netip.Prefix, done func(error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range p {
		h.assigned = append(h.assigned, "+"+p.String())
	}
	h.order = append(h.order, "assign")
	err := h.assignErr
	if h.holding {
		h.hold = append(h.hold, func() { done(err) })
		return
	}
	go done(err)
}

func (h *host) Release(_ ID, _ int, p []netip.Prefix, done func(error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range p {
		h.assigned = append(h.assigned, "-"+p.String())
	}
	h.order = append(h.order, "release")
	if h.releaseHangs {
		return
	}
	go done(h.releaseErr)
}

func (h *host) Transition(t Transition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.transitions = append(h.transitions, t)
	h.order = append(h.order, "tell")
}
func (h *host) Finding(f Finding) { h.findings = append(h.findings, f.Reason) }
func (h *host) Failure(f Failure) { h.failures = append(h.failures, f) }

var (
	testID     = ID{Interface: "eth0", Family: packet.IPv4, VRID: 51}
	testKey    = packet.Key{Ifindex: 7, Family: packet.IPv4, VRID: 51}
	testPeer   = netip.MustParseAddr("192.0.2.2")
	testSource = netip.MustParseAddr("192.0.2.3")
	testVIP    = netip.MustParsePrefix("192.0.2.1/24")
)

func newHost(t *testing.T, priority uint8) *host {
	return newHostOf(t, vrrp.Config{
		Version: 3, VRID: 51, Family: packet.IPv4, Priority: priority,
		Interval: time.Second, Preempt: true, Checksum: vrrp.ChecksumOnlyRFC9568,
		Addresses: []netip.Addr{testVIP.Addr()},
	})
}

func newHostOf(t *testing.T, protocol vrrp.Config) *host {
	h := &host{
		t: t, start: time.Now(), ended: make(chan error, 1), protocol: protocol,
		news: make(chan struct{}, 1), stamp: make(map[packet.Key]vrrp.Stamp), leases: make(map[packet.Key]vrrp.Instant),
	}
	h.loop = New(h, h, h, h, h)
	ctx, cancel := context.WithCancelCause(t.Context())
	h.stop, h.replace = func() { cancel(nil) }, func() { cancel(ErrReplaced) }
	go func() { h.ended <- h.loop.Run(ctx) }()
	c := Config{ID: testID, Addresses: []netip.Prefix{testVIP}, Protocol: protocol}
	if protocol.Priority == 255 {
		c.Addresses = nil
	}
	if err := errors.Join(h.loop.Add(c)...); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) port() Port {
	return Port{Ifindex: 7, MAC: packet.MAC{2, 0, 0, 0, 0, 11}, Source: testSource, Transmitter: h}
}

func (h *host) up() {
	h.t.Helper()
	if err := h.loop.Start(Start{testID, h.port(), vrrp.CauseStarting}); err != nil {
		h.t.Fatal(err)
	}
}

// newActive returns a host whose router is Active.
func newActive(t *testing.T) *host {
	t.Helper()
	h := newHost(t, 100)
	h.up()
	time.Sleep(5 * time.Second)
	if s := h.state(); s != vrrp.Active {
		t.Fatalf("%v 5 s after the start", s)
	}
	return h
}

func (h *host) end() {
	h.t.Helper()
	h.stop()
	if err := <-h.ended; err != nil {
		h.t.Errorf("Run: %v", err)
	}
}

func (h *host) advertisement(priority uint8) Received {
	return Received{
		At: h.Now(), Key: testKey, From: testPeer, Checksum: packet.ChecksumRFC9568,
		Advertisement: packet.Advertisement{
			Version: 3, VRID: 51, Priority: priority, Interval: time.Second,
			Addresses: []netip.Addr{testVIP.Addr()},
		},
	}
}

// hear delivers an advertisement. Without wake it is in the ring, but doesn't wake the
// loop.
func (h *host) hear(r Received, wake bool) {
	h.mu.Lock()
	h.pending = append(h.pending, r)
	h.mu.Unlock()
	if wake {
		h.Wake()
	}
}

func (h *host) state() vrrp.State {
	h.t.Helper()
	s, err := h.loop.Status()
	if err != nil || len(s) != 1 {
		h.t.Fatalf("Status = %v, %v", s, err)
	}
	return s[0].Protocol.State
}

func (h *host) assignments() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.assigned)
}

func (h *host) kinds() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, s := range h.sent {
		d, err := packet.ParseFrame(s.frame)
		if err != nil {
			all = append(all, "announcement")
			continue
		}
		var a packet.Advertisement
		if _, err := a.Decode(d); err != nil {
			h.t.Errorf("sent a bad advertisement: %v", err)
		}
		all = append(all, map[bool]string{true: "advertisement 0", false: "advertisement"}[a.Priority == 0])
	}
	return all
}

func TestTakeOverOrder(t *testing.T) {
	t.Attr("proves", "D-12 Q-08 S-B2 S-X1")
	// Q-08, D-12: advertisement, then announcement, which waits until the
	// address is in place; priority 0 is the last frame of all.
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.holding = true
		h.up()
		time.Sleep(3609 * time.Millisecond)
		if s := h.state(); s != vrrp.Backup {
			t.Fatalf("state before the Active_Down_Interval has passed: %v", s)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if s := h.state(); s != vrrp.Active {
			t.Fatalf("state after the Active_Down_Interval: %v", s)
		}
		if got := h.kinds(); !slices.Equal(got, []string{"advertisement"}) {
			t.Fatalf("sent before the address is in place: %v", got)
		}
		if want := 3609375 * time.Microsecond; h.sent[0].at != want {
			t.Errorf("first advertisement after %v, want %v", h.sent[0].at, want)
		}
		h.hold[0]()
		synctest.Wait()
		h.end()
		want := []string{"advertisement", "announcement", "advertisement 0"}
		if got := h.kinds(); !slices.Equal(got, want) {
			t.Errorf("sent %v, want %v", got, want)
		}
		if want := []string{"+192.0.2.1/24", "-192.0.2.1/24"}; !slices.Equal(h.assigned, want) {
			t.Errorf("addresses %v, want %v", h.assigned, want)
		}
	})
}

// Run returns an error if addresses are left behind.
func TestLeaveWithoutRelease(t *testing.T) {
	for name, c := range map[string]struct {
		hangs bool
		err   error
		want  string
	}{
		"fails": {false, errors.New("not permitted"), "remove the addresses of VRID 51 from eth0: not permitted"},
		"hangs": {true, nil, "failoverd --cleanup"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, 100)
				h.releaseHangs, h.releaseErr = c.hangs, c.err
				h.up()
				time.Sleep(4 * time.Second)
				h.stop()
				if err := <-h.ended; err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				// It sent priority 0 before, and can't be started again.
				if got := h.kinds(); got[len(got)-1] != "advertisement 0" {
					t.Errorf("sent %v", got)
				}
				if err := h.loop.Start(Start{testID, h.port(), vrrp.CauseStarting}); !errors.Is(err, ErrStopped) {
					t.Errorf("started after the end: %v", err)
				}
			})
		})
	}
}

// A transition sends the advertisement first, then changes the addresses, and informs the
// observer last.
func TestOrderOfTransition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.up()
		synctest.Wait()
		since := func() []string {
			synctest.Wait()
			h.mu.Lock()
			defer h.mu.Unlock()
			got := h.order
			h.order = nil
			return got
		}
		since()
		time.Sleep(3700 * time.Millisecond)
		if got := since(); len(got) < 3 || !slices.Equal(got[:3], []string{"send", "assign", "tell"}) {
			t.Errorf("a takeover: %v", got)
		}
		h.hear(h.advertisement(200), true)
		if got, want := since(), []string{"release", "tell"}; !slices.Equal(got, want) {
			t.Errorf("giving way: %v, want %v", got, want)
		}
		h.end()
	})
}

// Only an Active assigns and announces its addresses again after they were removed.
func TestRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.up()
		if err := h.loop.Restore(testID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(h.assignments()) != 0 {
			t.Errorf("a Backup assigns: %v", h.assignments())
		}
		time.Sleep(3700 * time.Millisecond)
		synctest.Wait()
		before := len(h.kinds())
		if err := h.loop.Restore(testID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := h.kinds()[before:]; !slices.Equal(got, []string{"announcement"}) {
			t.Errorf("sent %v", got)
		}
		if want := []string{"+192.0.2.1/24", "+192.0.2.1/24"}; !slices.Equal(h.assignments(), want) {
			t.Errorf("addresses %v, want %v", h.assigned, want)
		}
		h.end()
	})
}

func TestLateWakeUp(t *testing.T) {
	t.Attr("proves", "TM-02")
	// TM-02: the process was stopped beyond its deadline. The advertisements that arrived
	// are in the ring, but the loop wasn't woken for them.
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.up()
		for range 3 {
			time.Sleep(time.Second)
			h.hear(h.advertisement(200), false)
		}
		time.Sleep(700 * time.Millisecond) // past the deadline counted from the start
		if s := h.state(); s != vrrp.Backup {
			t.Fatalf("state %v: took over from a live Active", s)
		}
		// The last one was heard at 3 s, so the deadline is at 6.609 s.
		time.Sleep(2900 * time.Millisecond)
		if s := h.state(); s != vrrp.Backup {
			t.Fatalf("state %v before the new deadline", s)
		}
		time.Sleep(20 * time.Millisecond)
		if s := h.state(); s != vrrp.Active {
			t.Fatalf("state %v after the new deadline", s)
		}
		h.end()
	})
}

func TestLostRecord(t *testing.T) {
	t.Attr("proves", "TM-02")
	// The ring was full, so only the stamp shows that an advertisement arrived.
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.up()
		time.Sleep(3 * time.Second)
		now := h.Now()
		h.mu.Lock()
		h.stamp[testKey] = vrrp.Stamp{At: now, Version: 3, Priority: 200, Interval: time.Second}
		h.mu.Unlock()
		time.Sleep(time.Second)
		if s := h.state(); s != vrrp.Backup {
			t.Fatalf("state %v: took over although the kernel had heard the Active", s)
		}
		time.Sleep(3 * time.Second)
		if s := h.state(); s != vrrp.Active {
			t.Fatalf("state %v after the Active has been silent", s)
		}
		h.end()
	})
}

func TestBacklogIsAnsweredOnce(t *testing.T) {
	t.Attr("proves", "S-T1")
	// A process that wakes up as Active and finds a backlog of a rival's
	// advertisements answers once (S-A5), not once for each.
	synctest.Test(t, func(t *testing.T) {
		h := newHostOf(t, vrrp.Config{
			Version: 3, VRID: 51, Family: packet.IPv4, Priority: 200,
			Interval: time.Second, Preempt: true, Addresses: []netip.Addr{testVIP.Addr()},
		})
		h.up()
		time.Sleep(3500 * time.Millisecond)
		synctest.Wait()
		before := len(h.sent)
		for range 20 {
			r := h.advertisement(100)
			time.Sleep(15 * time.Millisecond)
			h.hear(r, false)
		}
		h.hear(h.advertisement(100), true)
		synctest.Wait()
		want := []string{"advertisement", "advertisement", "announcement"} // in both checksum forms
		if got := h.kinds()[before:]; !slices.Equal(got, want) {
			t.Errorf("answered with %v, want %v", got, want)
		}
		h.end()
	})
}

// A stamped advertisement that the state machine has refused isn't treated as a lost record
// the Backup takes over.
func TestRefusedIsStamped(t *testing.T) {
	t.Attr("proves", "R-18 TM-02")
	synctest.Test(t, func(t *testing.T) {
		h := newHostOf(t, vrrp.Config{
			Version: 2, VRID: 51, Family: packet.IPv4, Priority: 100,
			Interval: time.Second, Preempt: true, Addresses: []netip.Addr{testVIP.Addr()},
		})
		h.up()
		for range 5 {
			time.Sleep(time.Second)
			r := h.advertisement(200)
			r.Advertisement.Version, r.Advertisement.Addresses = 2, []netip.Addr{testPeer}
			h.mu.Lock()
			h.stamp[testKey] = vrrp.Stamp{At: r.At, Version: 2, Priority: 200, Interval: time.Second}
			h.mu.Unlock()
			h.hear(r, true)
		}
		if s := h.state(); s != vrrp.Active {
			t.Fatalf("state %v beside a router of other addresses", s)
		}
		h.end()
	})
}

// An Active that has a reason to announce its addresses and yields in the same wake-up
// doesn't announce them.
func TestYieldingAnnouncesNothing(t *testing.T) {
	t.Attr("proves", "S-X2")
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 150)
		h.up()
		time.Sleep(3500 * time.Millisecond)
		synctest.Wait()
		before := len(h.sent)
		h.hear(h.advertisement(100), false)
		h.hear(h.advertisement(200), true)
		synctest.Wait()
		if s := h.state(); s != vrrp.Backup {
			t.Fatalf("state %v", s)
		}
		if got := h.kinds()[before:]; len(got) == 0 || slices.Contains(got, "announcement") {
			t.Errorf("sent %v, want advertisements only", got)
		}
		h.end()
	})
}

// A lost record counts even if a refused advertisement arrives after it.
func TestLostRecordBeforeAnother(t *testing.T) {
	t.Attr("proves", "TM-02")
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.up()
		time.Sleep(3 * time.Second)
		h.mu.Lock()
		h.stamp[testKey] = vrrp.Stamp{At: h.Now(), Version: 3, Priority: 200, Interval: time.Second}
		h.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
		h.hear(h.advertisement(50), true)
		time.Sleep(time.Second)
		if s := h.state(); s != vrrp.Backup {
			t.Fatalf("state %v: took over although the kernel had heard the Active", s)
		}
		h.end()
	})
}

func TestAssignFailure(t *testing.T) {
	// Nobody would answer for the addresses of an Active that doesn't have them.
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.assignErr = errors.New("no such device")
		h.up()
		time.Sleep(4 * time.Second)
		if s := h.state(); s != vrrp.Initialize {
			t.Fatalf("state %v, want Initialize", s)
		}
		want := []string{"advertisement", "advertisement 0"}
		if got := h.kinds(); !slices.Equal(got, want) {
			t.Errorf("sent %v, want %v", got, want)
		}
		h.mu.Lock()
		h.assignErr = nil
		h.mu.Unlock()
		time.Sleep(assignRetry + 4*time.Second)
		if s := h.state(); s != vrrp.Active {
			t.Errorf("state %v after the retry, want Active", s)
		}
		h.end()
	})
}

func TestStopAndStart(t *testing.T) {
	// S-X3: the loss of the interface is Shutdown, its return is Startup.
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.up()
		time.Sleep(4 * time.Second)
		if err := h.loop.Stop(testID, vrrp.CauseInterfaceDown, ""); err != nil {
			t.Fatal(err)
		}
		if s := h.state(); s != vrrp.Initialize {
			t.Fatalf("state %v, want Initialize", s)
		}
		h.hear(h.advertisement(200), true)
		time.Sleep(time.Minute)
		if got := h.kinds(); got[len(got)-1] != "advertisement 0" {
			t.Errorf("sent in Initialize: %v", got)
		}
		h.up()
		if s := h.state(); s != vrrp.Backup {
			t.Fatalf("state %v after Startup, want Backup", s)
		}
		h.end()
	})
}

// Update assigns new addresses and removes old ones without a change of state. Remove sends
// priority 0 and forgets the router when its addresses are removed.
func TestUpdateAndRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.up()
		time.Sleep(4 * time.Second)
		h.assigned = nil
		c := Config{ID: testID, Addresses: []netip.Prefix{testVIP}, Protocol: h.protocol}
		c.Protocol.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.99")}
		c.Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.99/24")}
		before := len(h.sent)
		if err := h.loop.Update(c); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if want := []string{"-192.0.2.1/24", "+192.0.2.99/24"}; !slices.Equal(h.assigned, want) {
			t.Errorf("addresses %v, want %v", h.assigned, want)
		}
		if got := h.kinds()[before:]; !slices.Equal(got, []string{"advertisement", "announcement"}) || h.state() != vrrp.Active {
			t.Errorf("sent %v, in %v", got, h.state())
		}
		c.Protocol.Priority = 255
		if err := h.loop.Update(c); !errors.Is(err, vrrp.ErrRestart) {
			t.Errorf("an owner by now: %v", err)
		}
		if err := h.loop.Remove(testID, vrrp.CauseRemoved); err != nil {
			t.Fatal(err)
		}
		if got := h.kinds(); got[len(got)-1] != "advertisement 0" {
			t.Errorf("sent %v", got)
		}
		if h.assigned[len(h.assigned)-1] != "-192.0.2.99/24" {
			t.Errorf("addresses %v", h.assigned)
		}
		if all, err := h.loop.Status(); err != nil || len(all) != 0 {
			t.Errorf("it is still there: %v, %v", all, err)
		}
		if err := h.loop.Remove(testID, vrrp.CauseRemoved); err != nil {
			t.Errorf("once more: %v", err)
		}
		if err := h.loop.Update(c); err == nil {
			t.Error("one that isn't there was changed")
		}
		if err := errors.Join(h.loop.Add(c)...); err != nil {
			t.Errorf("again: %v", err)
		}
		h.end()
	})
}

func TestOwner(t *testing.T) {
	t.Attr("proves", "S-I1")
	// S-I1: an address owner is Active at once, and its addresses aren't changed.
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 255)
		h.up()
		if want := []string{"advertisement", "announcement"}; !slices.Equal(h.kinds(), want) {
			t.Errorf("sent %v, want %v", h.kinds(), want)
		}
		h.end()
		if len(h.assigned) != 0 {
			t.Errorf("an owner's addresses were touched: %v", h.assigned)
		}
	})
}

// After an interface was renamed, a router of its new name may have the key that a router of
// its old name had. It hears its advertisements also after the old one was removed.
func TestRemoveKeepsAnotherRoutersKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.up()
		time.Sleep(5 * time.Second)
		if err := h.loop.Stop(testID, vrrp.CauseInterfaceRemoved, ""); err != nil {
			t.Fatal(err)
		}
		id, c := second()
		id.Interface, id.VRID = "eth9", testID.VRID
		c.ID, c.Protocol.VRID = id, testID.VRID
		if err := errors.Join(h.loop.Add(c)...); err != nil {
			t.Fatal(err)
		}
		if err := h.loop.Start(Start{id, h.port(), vrrp.CauseStarting}); err != nil {
			t.Fatal(err)
		}
		if err := h.loop.Remove(testID, vrrp.CauseRemoved); err != nil {
			t.Fatal(err)
		}
		h.hear(h.advertisement(200), true)
		time.Sleep(time.Millisecond)
		s, _, err := h.loop.StatusOf(id)
		if err != nil {
			t.Fatal(err)
		}
		if !s.Protocol.Active.IsValid() {
			t.Errorf("it hears nobody: %+v", s.Protocol)
		}
		h.end()
	})
}

// Virtual addresses on other interfaces are advertised, but not announced on the router's.
func TestElsewhereIsNotAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 255)
		protocol := h.protocol
		other := netip.MustParseAddr("198.51.100.10")
		protocol.Addresses = append(slices.Clone(protocol.Addresses), other)
		if err := h.loop.Update(Config{ID: testID, Protocol: protocol, Elsewhere: []netip.Addr{other}}); err != nil {
			t.Fatal(err)
		}
		h.up()
		synctest.Wait()
		if got := h.kinds(); !slices.Equal(got, []string{"advertisement", "announcement"}) {
			t.Errorf("sent: %v", got)
		}
		h.end()
	})
}

func TestRebindAnnouncesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 255)
		h.up()
		p := h.port()
		p.MAC = packet.MAC{2, 0, 0, 0, 0, 12}
		if err := h.loop.Rebind(testID, p); err != nil {
			t.Fatal(err)
		}
		last := h.sent[len(h.sent)-1].frame
		if packet.MAC(last[6:12]) != p.MAC {
			t.Errorf("announced from %x, want %v", last[6:12], p.MAC)
		}
		h.end()
	})
}

// An Active whose addresses belong on another device has them there before it loses them on the
// old one.
func TestRebindToAnotherDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.up()
		time.Sleep(4 * time.Second)
		h.assigned = nil
		before := len(h.sent)
		p := h.port()
		p.Device, p.VirtualMAC = p.Ifindex+1, true
		if err := h.loop.Rebind(testID, p); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if want := []string{"+192.0.2.1/24", "-192.0.2.1/24"}; !slices.Equal(h.assignments(), want) {
			t.Errorf("addresses %v, want %v", h.assignments(), want)
		}
		if got := h.kinds()[before:]; !slices.Equal(got, []string{"announcement"}) || h.state() != vrrp.Active {
			t.Errorf("sent %v, in %v", got, h.state())
		}
		h.end()
	})
}

func TestAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.end()
		if err := h.loop.Stop(testID, vrrp.CauseInterfaceDown, ""); !errors.Is(err, ErrStopped) {
			t.Errorf("Stop = %v, want ErrStopped", err)
		}
	})
}
