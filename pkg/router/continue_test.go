// SPDX-License-Identifier: Apache-2.0

package router

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// A router continues as Active while the lease of a killed run lasts. It advertises at once,
// renews the lease then, and announces nothing.
func TestContinue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.leases[testKey] = h.Now().Add(2 * time.Second)
		continued, err := h.loop.Continue(testID, h.port(), vrrp.CauseContinued)
		if err != nil || !continued {
			t.Fatalf("continued: %v, %v", continued, err)
		}
		if got := h.kinds(); len(got) != 1 || got[0] == "announcement" {
			t.Errorf("sent at once: %v", got)
		}
		if until := h.leases[testKey]; until != h.Now().Add(3*time.Second) {
			t.Errorf("the lease ends in %v", until.Sub(h.Now()))
		}
		if again, err := h.loop.Continue(testID, h.port(), vrrp.CauseContinued); again || err != nil {
			t.Errorf("a second time: %v, %v", again, err)
		}
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if got := h.kinds(); len(got) != 2 || slices.Contains(got, "announcement") {
			t.Errorf("sent: %v", got)
		}
		if got := h.assignments(); !slices.Equal(got, []string{"+" + testVIP.String()}) {
			t.Errorf("assigned: %v", got)
		}
		if tr := h.transitions; len(tr) != 1 || tr[0].Cause != vrrp.CauseContinued || tr[0].To != vrrp.Active || tr[0].Silence != time.Second {
			t.Errorf("transitions: %+v", tr)
		}
		h.hear(h.advertisement(200), true)
		time.Sleep(time.Millisecond)
		if s := h.state(); s != vrrp.Backup {
			t.Errorf("%v after a higher priority", s)
		}
		h.end()
	})
}

// Without a lease a router doesn't continue, and can start as always.
func TestContinueTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		for _, until := range []vrrp.Instant{0, h.Now().Add(-time.Millisecond), h.Now()} {
			h.leases[testKey] = until
			if continued, err := h.loop.Continue(testID, h.port(), vrrp.CauseContinued); err != nil || continued {
				t.Errorf("continued with a lease until %v: %v, %v", until, continued, err)
			}
		}
		if s := h.state(); s != vrrp.Initialize || len(h.kinds()) > 0 || len(h.assignments()) > 0 {
			t.Errorf("%v, sent %v, assigned %v", s, h.kinds(), h.assignments())
		}
		h.up()
		if s := h.state(); s != vrrp.Backup {
			t.Errorf("%v after the start", s)
		}
		h.end()
	})
}

// The lease isn't renewed if the first advertisement can't be sent.
func TestContinueUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		until := h.Now().Add(2 * time.Second)
		h.leases[testKey] = until
		h.refuses = func([]byte) error { return errors.ErrUnsupported }
		if continued, err := h.loop.Continue(testID, h.port(), vrrp.CauseContinued); err != nil || !continued {
			t.Fatalf("continued: %v, %v", continued, err)
		}
		if h.leases[testKey] != until {
			t.Errorf("the lease ends at %v, not at %v", h.leases[testKey], until)
		}
		h.end()
	})
}
