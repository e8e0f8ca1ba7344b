// SPDX-License-Identifier: Apache-2.0

// Package auth authenticates the advertisements of Virtual Routers. It holds their keys,
// signs what is sent, and verifies what is received before a state machine processes it.
// It has no clock: the time is a parameter.
package auth

import (
	"crypto/subtle"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// sendersMax is the number of senders of one VRID whose last sequence number is kept. More
// than two routers advertise at the same time only while they don't hear each other.
const sendersMax = 16

// Guard authenticates the advertisements of one Virtual Router, with settings that don't
// change. Prepare, Sign and Verify must be called from one goroutine. Sign doesn't allocate,
// and Verify allocates only for the first advertisement of a sender.
type Guard struct {
	settings Settings
	password Secret // padded with zeros
	header   *packet.HeaderKey
	trailers map[uint8]*packet.TrailerKey

	*memory
}

// memory is the state of a Guard that passes to the Guard with the next settings.
type memory struct {
	sent     sequence // the last one sent
	numbered uint32   // the last one sent or accepted in an Authentication Header
	senders  []sender // the one heard last comes first
	refused  [packet.ReasonCount]atomic.Uint64
}

// sender is a router that has sent an authentic advertisement.
type sender struct {
	address netip.Addr
	last    sequence
}

// NewGuard returns a Guard without memory. If the Type needs secrets, the settings must
// have at least one.
func NewGuard(s Settings) *Guard { return guard(s, new(memory)) }

// With returns a Guard with other settings and the memory of g. It refuses advertisements
// that g has accepted as replays.
func (g *Guard) With(s Settings) *Guard { return guard(s, g.memory) }

func guard(s Settings, m *memory) *Guard {
	g := &Guard{settings: s, memory: m, trailers: make(map[uint8]*packet.TrailerKey)}
	for _, k := range s.Keys {
		switch s.Type {
		case Password:
			g.password = NewSecret(slices.Concat(k.Secret.octets(), make([]byte, PasswordMax))[:PasswordMax])
		case Header:
			g.header = packet.NewHeaderKey(k.Secret.octets())
		case HMAC:
			g.trailers[k.ID] = packet.NewTrailerKey(k.Secret.octets())
		}
	}
	return g
}

// Settings returns the settings of the Guard.
func (g *Guard) Settings() Settings { return g.settings }

// Refused returns the number of advertisements that were refused for a reason. It may be
// called from any goroutine.
func (g *Guard) Refused(r packet.Reason) uint64 { return g.refused[r].Load() }

// Prepare returns a copy of an IP datagram, from its header on, with room for the proof that
// Sign writes. It returns d itself if there is none.
func (g *Guard) Prepare(d []byte) []byte {
	switch s := &g.settings; {
	case s.Type == Password:
		return packet.WithPassword(d, [PasswordMax]byte(g.password.octets()))
	case s.Type == Header:
		return packet.WithHeader(d)
	case s.Type == HMAC && s.Mode != ReceiveOnly:
		return packet.WithTrailer(d)
	}
	return d
}

// Sign writes the proof into a datagram of Prepare. It has to be called for each sending.
// now is the time of day.
func (g *Guard) Sign(d []byte, now time.Time) {
	switch s := &g.settings; {
	case s.Type == Header:
		g.numbered++
		g.header.Sign(d, g.numbered)
	case s.Type == HMAC && s.Mode != ReceiveOnly:
		g.sent = g.sent.next(at(now), s.Window)
		g.trailers[s.Send].Sign(d, packet.Trailer{KeyID: s.Send, Sequence: uint64(g.sent)})
	}
}

// Verify returns the packet.Reason for which an advertisement is refused, or nil if it is
// authentic. received is the time of day at which the kernel received it. Only authentic
// advertisements change the memory.
func (g *Guard) Verify(received time.Time, d *packet.Datagram, a *packet.Advertisement) error {
	reason := g.verify(received, d, a)
	if reason == packet.ErrNotVRRP {
		return nil
	}
	g.refused[reason].Add(1)
	return reason
}

// Rules are what the kernel's programs need to verify advertisements like the Guard. They
// are as secret as the keys.
type Rules struct {
	Type     Type
	Enforce  bool // advertisements without a trailer are refused
	Window   time.Duration
	Password [PasswordMax]byte
	Keys     map[uint8]packet.HMACStates // by Key.ID
}

// Rules returns the rules of the Guard.
func (g *Guard) Rules() Rules {
	s := &g.settings
	r := Rules{Type: s.Type, Enforce: s.Type == HMAC && s.Mode == Enforce, Window: s.Window, Keys: make(map[uint8]packet.HMACStates)}
	for _, k := range s.Keys {
		switch s.Type {
		case Password:
			copy(r.Password[:], k.Secret.octets())
		case Header:
			r.Keys[k.ID] = packet.NewHeaderStates(k.Secret.octets())
		case HMAC:
			r.Keys[k.ID] = packet.NewTrailerStates(k.Secret.octets())
		}
	}
	return r
}

// verify is Verify without counting. It returns the zero Reason for an authentic
// advertisement.
func (g *Guard) verify(received time.Time, d *packet.Datagram, a *packet.Advertisement) packet.Reason {
	const authentic = packet.ErrNotVRRP
	switch g.settings.Type {
	case Password:
		if a.AuthType != 1 {
			return packet.ErrAuthType
		}
		if subtle.ConstantTimeCompare(a.AuthData[:], g.password.octets()) != 1 {
			return packet.ErrAuth
		}
	case Header:
		return g.verifyHeader(d, a)
	case HMAC:
		return g.verifyTrailer(received, d)
	}
	return authentic
}

func (g *Guard) verifyHeader(d *packet.Datagram, a *packet.Advertisement) packet.Reason {
	if a.AuthType != 2 {
		return packet.ErrAuthType
	}
	n, ok := d.HeaderSequence()
	switch {
	case !ok:
		return packet.ErrAuthMissing
	case n <= g.numbered:
		return packet.ErrAuthReplay
	case !g.header.Verify(d):
		return packet.ErrAuth
	}
	// All routers of a VRID continue the same sequence, as in keepalived.
	g.numbered = n
	return 0
}

// verifyTrailer refuses a stale advertisement or a replay before it computes a digest, so
// that a flood of recorded packets is cheap.
func (g *Guard) verifyTrailer(received time.Time, d *packet.Datagram) packet.Reason {
	s := &g.settings
	if d.Trailer == nil {
		if s.Mode == Enforce {
			return packet.ErrAuthMissing
		}
		return 0
	}
	t, ok := d.ParseTrailer()
	if !ok {
		return packet.ErrAuthMalformed
	}
	now, n := at(received), sequence(t.Sequence)
	if s.Window > 0 && !n.within(now, s.Window) {
		return packet.ErrAuthStale
	}
	key := g.trailers[t.KeyID]
	if key == nil {
		return packet.ErrAuthKey
	}
	// A last sequence number outside of the window is ignored, because the window already
	// refuses what is as old. So a sender whose clock was ahead is accepted again after its
	// clock was corrected.
	known := slices.IndexFunc(g.senders, func(s sender) bool { return s.address == d.Source })
	if known >= 0 {
		last := g.senders[known].last
		if (s.Window == 0 || last.within(now, s.Window)) && !n.after(last) {
			return packet.ErrAuthReplay
		}
	}
	if !key.Verify(d) {
		return packet.ErrAuth
	}
	g.remember(known, sender{d.Source, n})
	return 0
}

// remember moves a sender to the first place or adds it there. If there are too many, it
// drops the one that was last heard the longest time ago.
func (g *Guard) remember(known int, s sender) {
	if known < 0 {
		if len(g.senders) < sendersMax {
			g.senders = append(g.senders, sender{})
		}
		known = len(g.senders) - 1
	}
	copy(g.senders[1:known+1], g.senders[:known])
	g.senders[0] = s
}
