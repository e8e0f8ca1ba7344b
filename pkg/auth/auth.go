// SPDX-License-Identifier: Apache-2.0

// Package auth authenticates the advertisements of Virtual Routers: it holds
// their keys, makes the proof that is sent, and judges what is received before a
// state machine hears of it. It knows no clock: the time is a parameter.
package auth

import (
	"crypto/subtle"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
)

// sendersMax is how many routers of one VRID are remembered. More than two send
// at the same time only while they don't hear each other.
const sendersMax = 16

// Guard authenticates one Virtual Router's advertisements by settings that don't
// change. Prepare, Sign and Verify belong to one goroutine. Nothing allocates for
// an advertisement but the first of a sender.
type Guard struct {
	settings Settings
	password Secret // filled up with zeros
	header   *packet.HeaderKey
	trailers map[uint8]*packet.TrailerKey

	*memory
}

// memory is what a Guard leaves to the one with the next settings.
type memory struct {
	sent     sequence // the last that was sent
	numbered uint32   // the last that was sent or accepted in an Authentication Header
	senders  []sender
	refused  [packet.ReasonCount]atomic.Uint64
}

// sender is a router that has proved who it is.
type sender struct {
	address netip.Addr
	last    sequence
}

// NewGuard returns a Guard that remembers nothing yet. For a Type with secrets
// the settings have at least one.
func NewGuard(s Settings) *Guard { return guard(s, new(memory)) }

// With returns the Guard that takes over from g with other settings. What g has
// accepted it refuses as a replay.
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

// Settings returns the settings.
func (g *Guard) Settings() Settings { return g.settings }

// Refused is how many advertisements were refused for a reason. Any goroutine may
// ask.
func (g *Guard) Refused(r packet.Reason) uint64 { return g.refused[r].Load() }

// Prepare returns an IP datagram, from its header on, with room for the proof
// that Sign writes. It leaves d as it is.
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

// Sign writes the proof into a datagram of Prepare. Each time it is sent it needs a
// new one. Now is the time of day.
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

// Verify returns the packet.Reason to refuse an advertisement, nil if it is
// authentic. Received is the time of day when the kernel had it. Only what is
// authentic changes what is remembered.
func (g *Guard) Verify(received time.Time, d *packet.Datagram, a *packet.Advertisement) error {
	reason := g.verify(received, d, a)
	if reason == packet.ErrNotVRRP {
		return nil
	}
	g.refused[reason].Add(1)
	return reason
}

// Rules are what whoever receives for the Guard needs to judge as it does. They are as
// good as the secrets.
type Rules struct {
	Type     Type
	Enforce  bool // what has no trailer is refused
	Window   time.Duration
	Password [PasswordMax]byte
	Keys     map[uint8]packet.HMACStates // by their ids
}

// Rules returns the Guard's.
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

// verify is Verify, with the zero Reason for what is authentic.
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
	n, there := d.HeaderSequence()
	switch {
	case !there:
		return packet.ErrAuthMissing
	case n <= g.numbered:
		return packet.ErrAuthReplay
	case !g.header.Verify(d):
		return packet.ErrAuth
	}
	// All routers of a VRID count on from each other's number, as keepalived's do.
	g.numbered = n
	return 0
}

// verifyTrailer refuses what is stale or a replay before it computes anything: a flood
// of recorded packets costs no digests.
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
	// A mark outside the window says nothing that the window doesn't; without
	// it, who had a clock that was ahead is heard again once that is set right.
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

// remember puts a sender first, in the place that it has or in a new one. The one that
// wasn't heard for the longest time makes room.
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
