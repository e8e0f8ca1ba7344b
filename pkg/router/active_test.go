// SPDX-License-Identifier: Apache-2.0

package router

import (
	"net/netip"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// activeTwin returns a host on which many routers are Active.
func activeTwin(tb testing.TB, routers int, interval time.Duration) *twin {
	tb.Helper()
	w := &twin{kernel: make(map[packet.Key]*twinReceiveState), now: vrrp.Instant(time.Hour)}
	w.loop = New(w, w, w, w, w)
	for n := range routers {
		vrid, ifindex := uint8(n%250+1), n/250+7
		c := Config{ID: ID{Interface: "eth" + string(rune('0'+n/250)), Family: packet.IPv4, VRID: vrid}}
		c.Protocol = vrrp.Config{
			Version: 3, VRID: vrid, Family: packet.IPv4, Priority: 100, Interval: interval, Preempt: true,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{198, 18, byte(n / 250), vrid})},
		}
		c.Addresses = []netip.Prefix{netip.PrefixFrom(c.Protocol.Addresses[0], 24)}
		machine, err := vrrp.New(c.Protocol)
		if err != nil {
			tb.Fatal(err)
		}
		w.kernel[packet.Key{Ifindex: ifindex, Family: packet.IPv4, VRID: vrid}] = &twinReceiveState{}
		if err := w.loop.add(c, machine); err != nil {
			tb.Fatal(err)
		}
		w.now = w.now.Add(interval / time.Duration(routers))
		w.loop.start(c.ID, Port{Ifindex: ifindex, Source: netip.MustParseAddr("198.18.0.3"), Transmitter: w}, vrrp.CauseStarting)
	}
	w.turn()
	w.until(w.now.Add(20 * interval))
	return w
}

// An Active in the steady state allocates no memory.
func TestSteadyStateAllocates(t *testing.T) {
	const interval = 10 * time.Millisecond
	w := activeTwin(t, 50, interval)
	if n := testing.AllocsPerRun(100, func() { w.until(w.now.Add(interval)) }); n != 0 {
		t.Errorf("an Active allocates %v times for 50 advertisements", n)
	}
}

func BenchmarkActive(b *testing.B) {
	const interval = 10 * time.Millisecond
	w := activeTwin(b, 1000, interval)
	b.ReportAllocs()
	for b.Loop() {
		w.until(w.now.Add(interval))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/advertisement")
}

// Actives share wake-ups without drifting: in a hundred intervals each advertises a hundred
// times, and never later than one interval after the last time.
func TestSharedWakeups(t *testing.T) {
	const routers, intervals, interval = 50, 100, 10 * time.Millisecond
	w := activeTwin(t, routers, interval)
	w.queued, w.flushed = 0, 0
	due := make(map[*virtualRouter]vrrp.Instant)
	for _, r := range w.loop.routers {
		due[r] = r.deadline
	}
	began := w.now
	for w.now < began.Add(intervals*interval) {
		w.until(min(w.loop.next(), began.Add(intervals*interval)))
		for _, r := range w.loop.routers {
			if at := r.machine.Status().Advertised; w.now.Sub(at) > interval || at > w.now.Add(interval/20) {
				t.Fatalf("at %d: advertised at %d", w.now, at)
			}
			if (r.deadline-due[r])%vrrp.Instant(interval) != 0 {
				t.Fatalf("the deadline drifts from %d to %d", due[r], r.deadline)
			}
		}
	}
	// Each advertisement has two forms of the checksum. A router may be a little early at
	// the begin and at the end.
	if least := 2 * routers * intervals; w.queued < least-2*routers || w.queued > least+2*routers {
		t.Errorf("%d frames, not about %d", w.queued, least)
	}
	if w.flushed > routers*intervals/2 {
		t.Errorf("sent %d times for %d advertisements", w.flushed, routers*intervals)
	}
}
