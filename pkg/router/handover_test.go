// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// After Run has ended for another process, an Active advertises in its rhythm, until the other process
// or the kernel changes its lease. It changes no address and no state.
func TestKeepAdvertising(t *testing.T) {
	better := vrrp.Stamp{Version: 3, Priority: 150, Interval: time.Second}
	lower := vrrp.Stamp{Version: 3, Priority: 50, Interval: time.Second}
	for name, test := range map[string]struct {
		event func(*host)   // after 2.25 s
		stop  time.Duration // when the context ends
		want  []int         // the times of the advertisements since the end of Run, in ms
		left  bool          // the lease is as KeepAdvertising has set it
	}{
		"the hand-over fails":          {func(*host) {}, 3300 * time.Millisecond, []int{500, 1500, 2500, 3300}, true},
		"the other process advertises": {func(h *host) { h.leases[testKey] = h.Now().Add(3 * time.Second) }, time.Minute, []int{500, 1500}, false},
		"the kernel ends the lease":    {func(h *host) { h.leases[testKey] = 0 }, time.Minute, []int{500, 1500}, false},
		"a better router is stamped": {func(h *host) {
			better.At = h.Now()
			h.stamp[testKey] = better
		}, time.Minute, []int{500, 1500}, true},
		"a lower one is stamped": {func(h *host) {
			lower.At = h.Now()
			h.stamp[testKey] = lower
		}, 3 * time.Second, []int{500, 1500, 2500, 3000}, true},
		"it can't send": {func(h *host) {
			h.refuses = func([]byte) error { return errors.ErrUnsupported }
		}, time.Minute, []int{500, 1500}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newActive(t)
				for len(h.ended) == 0 { // half an interval after an advertisement
					time.Sleep(h.sent[len(h.sent)-1].at + 500*time.Millisecond - time.Since(h.start))
					h.replace()
					synctest.Wait()
				}
				if err := <-h.ended; err != nil {
					t.Fatal(err)
				}
				if err := h.loop.Stop(testID, vrrp.CauseAdministrator, ""); !errors.Is(err, ErrStopped) {
					t.Errorf("Stop: %v", err)
				}
				before, assigned, transitions := len(h.sent), len(h.assigned), len(h.transitions)
				at := time.Since(h.start)
				ctx, cancel := context.WithTimeout(t.Context(), test.stop)
				defer cancel()
				time.AfterFunc(2250*time.Millisecond, func() {
					h.mu.Lock()
					defer h.mu.Unlock()
					test.event(h)
				})
				h.hear(h.advertisement(150), true) // the other process may already receive
				if err := h.loop.KeepAdvertising(ctx); err != nil {
					t.Fatal(err)
				}
				var got []int
				for _, s := range h.sent[before:] {
					got = append(got, int((s.at - at).Milliseconds()))
					if _, err := packet.ParseFrame(s.frame); err != nil {
						t.Errorf("sent %x: %v", s.frame, err)
					}
				}
				if len(got) != len(test.want) {
					t.Fatalf("sent at %d ms, want %d", got, test.want)
				}
				for i := range got {
					if early := test.want[i] - got[i]; early < 0 || early > 5 { // by coalescing
						t.Errorf("sent at %d ms, want %d", got, test.want)
					}
				}
				last := h.sent[len(h.sent)-1].at
				if left := h.leases[testKey] == vrrp.Instant(last)+vrrp.Instant(time.Hour+3*time.Second); left != test.left {
					t.Errorf("the lease ends at %v, the last advertisement was at %v", h.leases[testKey], last)
				}
				if len(h.assigned) != assigned || len(h.transitions) != transitions {
					t.Errorf("assigned %v, transitions %+v", h.assigned, h.transitions)
				}
			})
		})
	}
}

// Another process that reads a lease while the Active advertises finds what belongs to one
// advertisement.
func TestLeaseWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newActive(t)
		read := 0
		h.mu.Lock()
		h.refuses = func([]byte) error { // called while it sends
			read++
			if at, ok := h.protocol.LastAdvertised(h.leases[testKey], h.permit); !ok || h.Now().Sub(at) > time.Second {
				t.Errorf("a lease until %v, which allows to send until %v, at %v", h.leases[testKey], h.permit, h.Now())
			}
			return nil
		}
		h.mu.Unlock()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if read < 3 {
			t.Errorf("%d reads", read)
		}
		h.end()
	})
}
