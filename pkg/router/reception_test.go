// SPDX-License-Identifier: Apache-2.0

package router

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// downInterval is the Active_Down_Interval of priority 100 with an interval of one second.
const downInterval = 3*time.Second + 156*time.Second/256

// follow delivers three advertisements to a Backup of priority 100, a second apart. It
// returns the time of the last one.
func (h *host) follow() (last time.Duration) {
	for range 3 {
		time.Sleep(time.Second)
		last = time.Since(h.start)
		h.hear(h.advertisement(200), true)
		synctest.Wait()
	}
	return last
}

// when returns when a router has become Active, 0 if it hasn't.
func (h *host) when() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.transitions {
		if t.To == vrrp.Active {
			return t.When.Sub(vrrp.Instant(time.Hour)).Round(time.Microsecond)
		}
	}
	return 0
}

// The check of the reception doesn't delay a take-over, even if it takes too long. It is
// requested once, before the take-over.
func TestCheckBeforeTakeOver(t *testing.T) {
	for _, unseen := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t, 100)
			defer h.end()
			h.up()
			h.unseen = unseen
			last := h.follow()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if got := h.when(); got != last+downInterval {
				t.Errorf("Active after %v, want %v", got-last, downInterval)
			}
			if want := []time.Duration{last + downInterval - checkLead(downInterval)}; !slices.Equal(h.checks, want) {
				t.Errorf("checks at %v, want %v", h.checks, want)
			}
		})
	}
}

// A Backup doesn't take over while the programs are detached. When they are attached again it
// waits for Active_Down_Interval, and longer if it hears the Active then.
func TestDetachedBackup(t *testing.T) {
	for _, alive := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t, 100)
			defer h.end()
			h.up()
			h.follow()
			h.mu.Lock()
			h.detached = true
			h.mu.Unlock()
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if h.state() != vrrp.Backup || len(h.checks) != 1 {
				t.Fatalf("with detached programs: %v, checks at %v", h.state(), h.checks)
			}
			h.mu.Lock()
			h.detached, h.reception = false, Reception{Checked: h.Now(), Restored: h.Now()}
			h.mu.Unlock()
			again := time.Since(h.start)
			if alive {
				time.Sleep(3 * time.Second)
				again = time.Since(h.start)
				h.hear(h.advertisement(200), true)
			}
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if got := h.when(); got != again+downInterval {
				t.Errorf("Active %v after the programs are attached again, want %v", got-again, downInterval)
			}
		})
	}
}

// A group doesn't take over while the programs of one member are detached.
func TestDetachedMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		defer p.end()
		elsewhere := p.port()
		elsewhere.Ifindex++
		if err := p.loop.Stop(p.id(52), vrrp.CauseMaintenance, ""); err != nil {
			t.Fatal(err)
		}
		if err := p.loop.Start(Start{p.id(52), elsewhere, vrrp.CauseStarting}); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		p.detached = true // the interface of 51
		p.mu.Unlock()
		time.Sleep(20 * time.Second)
		p.expect("while the programs of one are detached", vrrp.Backup, vrrp.Backup)
		p.mu.Lock()
		p.detached, p.reception = false, Reception{Checked: p.Now(), Restored: p.Now()}
		p.mu.Unlock()
		time.Sleep(downInterval - time.Second)
		p.expect("while it could have heard no advertisement yet", vrrp.Backup, vrrp.Backup)
		time.Sleep(2 * time.Second)
		p.expect("when it hears no advertisement", vrrp.Active, vrrp.Active)
	})
}

// A Backup that has just heard priority 0 needs no check.
func TestNoCheckOnLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		defer h.end()
		h.up()
		last := h.follow()
		h.hear(h.advertisement(0), true)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got, want := h.when(), last+156*time.Second/256; got != want || len(h.checks) > 0 {
			t.Errorf("Active at %v, want %v; checks at %v", got, want, h.checks)
		}
	})
}

// One check serves all Backups of an interface whose Active is silent, also the steady ones.
func TestOneCheckForAll(t *testing.T) {
	for _, shortcut := range []bool{false, true} {
		w := newReceptionTwin(t, shortcut)
		const routers, interval = 100, 100 * time.Millisecond
		var at []vrrp.Instant
		for n := range routers {
			at = append(at, vrrp.Instant(time.Hour)+vrrp.Instant(n)*vrrp.Instant(interval)/routers)
		}
		for round := range 10 {
			for n := range routers {
				w.now = at[n] + vrrp.Instant(round)*vrrp.Instant(interval)
				w.advertise(uint8(n + 1))
				w.loop.turn()
			}
		}
		if w.checks != 0 {
			t.Errorf("shortcut %v: %d checks while all is well", shortcut, w.checks)
		}
		for end := w.now.Add(time.Second); w.now < end; {
			w.now = max(w.loop.next(), w.now)
			w.loop.turn()
		}
		if w.active != routers || w.checks == 0 || w.checks > 2 {
			t.Errorf("shortcut %v: %d of %d routers are Active, %d checks", shortcut, w.active, routers, w.checks)
		}
	}
}

// receptionTwin is a twin of many routers that answers checks of the reception.
type receptionTwin struct {
	*twin
	protocols map[uint8]vrrp.Config
	reception Reception
	checks    int
	active    int
}

func (w *receptionTwin) Reception(int) Reception { return w.reception }
func (w *receptionTwin) RequestCheck(int)        { w.checks++; w.reception.Checked = w.now }
func (w *receptionTwin) Transition(t Transition) {
	if t.To == vrrp.Active {
		w.active++
	}
}

func newReceptionTwin(t *testing.T, shortcut bool) *receptionTwin {
	w := &receptionTwin{twin: &twin{shortcut: shortcut, kernel: make(map[packet.Key]*twinReceiveState)}, protocols: make(map[uint8]vrrp.Config)}
	w.now = vrrp.Instant(time.Hour)
	w.loop = New(w, w, w, w, w)
	for vrid := uint8(1); vrid <= 100; vrid++ {
		c := vrrp.Config{Version: 3, VRID: vrid, Family: packet.IPv4, Priority: 100, Interval: 100 * time.Millisecond, Preempt: true, Checksum: vrrp.ChecksumOnlyRFC9568, Addresses: []netip.Addr{testVIP.Addr()}}
		machine, err := vrrp.New(c)
		if err != nil {
			t.Fatal(err)
		}
		id := ID{Interface: "eth0", Family: packet.IPv4, VRID: vrid}
		if err := w.loop.add(Config{ID: id, Protocol: c}, machine); err != nil {
			t.Fatal(err)
		}
		w.protocols[vrid] = c
		w.kernel[packet.Key{Ifindex: 7, Family: packet.IPv4, VRID: vrid}] = &twinReceiveState{}
		w.loop.start(id, Port{Ifindex: 7, Source: testSource, Transmitter: w}, vrrp.CauseStarting)
	}
	w.loop.flush()
	return w
}

func (w *receptionTwin) advertise(vrid uint8) {
	c := w.protocols[vrid]
	w.hear(Received{
		At: w.now, Key: packet.Key{Ifindex: 7, Family: packet.IPv4, VRID: vrid}, From: testPeer, Checksum: packet.ChecksumRFC9568, Signature: 1 + uint64(vrid),
		Advertisement: packet.Advertisement{Version: 3, VRID: vrid, Priority: 200, Interval: c.Interval, Addresses: c.Addresses},
	}, &c)
}

// A stamp from before a Backup began doesn't teach it an interval, although its record was lost.
func TestStampOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newActive(t)
		h.mu.Lock()
		h.stamp[testKey] = vrrp.Stamp{At: h.Now(), Version: 3, Priority: 255, Interval: 40 * time.Second}
		h.mu.Unlock()
		time.Sleep(time.Second)
		if err := h.loop.Stop(testID, vrrp.CauseAdministrator, ""); err != nil {
			t.Fatal(err)
		}
		h.up()
		time.Sleep(5 * time.Second)
		if s := h.state(); s != vrrp.Active {
			t.Errorf("%v 5 s after the start", s)
		}
		if err := h.loop.Relinquish(testID, vrrp.CauseHandedOver, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if s := h.state(); s != vrrp.Active {
			t.Errorf("%v 10 s after it has handed over to nobody", s)
		}
		h.end()
	})
}
