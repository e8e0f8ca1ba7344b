// SPDX-License-Identifier: Apache-2.0

package router

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// signer is a Guard with the virtual time of a synctest bubble.
type signer struct{ *auth.Guard }

func (s signer) Sign(d []byte) { s.Guard.Sign(d, time.Now()) }

// Every advertisement is signed when it is sent, also the last one and those after a change
// of the settings. None is signed while the settings forbid it.
func TestAuthenticator(t *testing.T) {
	t.Attr("proves", "A-09")
	synctest.Test(t, func(t *testing.T) {
		settings := auth.Settings{
			Type: auth.HMAC, Mode: auth.Enforce, Send: 1, Window: 5 * time.Second,
			Keys: []auth.Key{{ID: 1, Secret: auth.NewSecret(bytes.Repeat([]byte{1}, auth.KeyMin))}},
		}
		h := newHost(t, 100)
		c := Config{ID: testID, Addresses: []netip.Prefix{testVIP}, Protocol: h.protocol}
		ours := auth.NewGuard(settings)
		update := func(g *auth.Guard) {
			t.Helper()
			c.Authenticator = signer{g}
			if err := h.loop.Update(c); err != nil {
				t.Fatal(err)
			}
		}
		update(ours)
		h.up()
		time.Sleep(8 * time.Second)
		signed := h.trailers(settings)
		if len(signed) < 5 {
			t.Fatalf("%d advertisements", len(signed))
		}

		plain := settings
		plain.Mode = auth.ReceiveOnly
		update(ours.With(plain))
		before := len(signed)
		time.Sleep(3 * time.Second)
		if later := h.trailers(settings)[before:]; len(later) < 2 || slices.Contains(later, true) {
			t.Errorf("receive-only signs %v", later)
		}
		update(ours.With(settings))
		time.Sleep(2 * time.Second)
		h.end()
		signed = h.trailers(settings)
		if last := signed[len(signed)-3:]; slices.Contains(last, false) {
			t.Errorf("the last are signed %v", last)
		}
	})
}

// trailers returns for each sent advertisement whether it has a trailer. A peer must accept
// each trailer in this order.
func (h *host) trailers(s auth.Settings) (all []bool) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	peer := auth.NewGuard(s)
	for _, sent := range h.sent {
		d, err := packet.ParseFrame(sent.frame)
		if err != nil {
			continue // an announcement
		}
		var a packet.Advertisement
		if _, err := a.DecodeTolerant(&d, packet.Tolerance{AuthTrailer: true}); err != nil {
			h.t.Errorf("sent a bad advertisement: %v", err)
		}
		all = append(all, d.Trailer != nil)
		if d.Trailer == nil {
			continue
		}
		if err := peer.Verify(h.start.Add(sent.at), &d, &a); err != nil {
			h.t.Errorf("advertisement of priority %d after %v: %v", a.Priority, sent.at, err)
		}
	}
	return all
}

var _ Authenticator = signer{}

// A Virtual Router without an Authenticator sends messages without a trailer.
func TestNoAuthenticator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, 100)
		h.up()
		time.Sleep(6 * time.Second)
		if h.state() != vrrp.Active || slices.Contains(h.trailers(auth.Settings{}), true) {
			t.Error("it signs, or isn't Active")
		}
		h.end()
	})
}
