// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"fmt"
	"slices"
	"time"
)

// Type is a way to authenticate advertisements.
type Type string

// The types.
const (
	None     Type = "none"
	Password Type = "password" // RFC 2338 §5.3.6.2: in clear text, version 2 only
	Header   Type = "ah"       // RFC 2338 §5.3.6.3: in an Authentication Header, version 2 only
	HMAC     Type = "hmac"     // draft-cassen-vrrp-auth-hmac: in a trailer
)

// Weak reports whether a type gives no protection against anybody who wants to do
// harm (RFC 3768 §10).
func (t Type) Weak() bool { return t == Password || t == Header }

// Number is the Auth Type of a version 2 message (RFC 2338 §5.3.6): HMAC's has
// none.
func (t Type) Number() uint8 {
	switch t {
	case Password:
		return 1
	case Header:
		return 2
	}
	return 0
}

// Mode is how far the routers of a VRID have got with introducing HMAC. In every
// mode a trailer that is there must be right.
type Mode string

// The modes, in the order in which a running VRID passes through them.
const (
	ReceiveOnly Mode = "receive-only" // sends no trailer, and asks for none
	Permit      Mode = "permit"       // sends one, and asks for none
	Enforce     Mode = "enforce"      // sends one, and refuses what comes without
)

// Limits of secrets, in octets. A password is what keepalived takes of one.
const (
	PasswordMax = 8
	KeyMin      = 32
	KeyMax      = 64
)

// Limits of the window.
const (
	WindowMin = time.Second
	WindowMax = 300 * time.Second
)

// Key is a key of HMAC, or the password under id 0.
type Key struct {
	ID     uint8
	Secret Secret
}

// Settings say how the advertisements of a Virtual Router are authenticated. They
// are the same on all its routers.
type Settings struct {
	Type Type
	Keys []Key
	// Send is the id of the key that HMAC is sent with; all of Keys are accepted.
	Send uint8
	Mode Mode
	// Window is how far the time in a trailer may be from the clock of this
	// host, 1s to 300s; 0 accepts any time, as long as it grows.
	Window time.Duration
}

// Check returns what is wrong with the secrets; it doesn't tell them.
func (s *Settings) Check() error {
	least, most := 1, PasswordMax
	if s.Type == HMAC {
		least, most = KeyMin, KeyMax
	}
	for _, k := range s.Keys {
		if n := k.Secret.Len(); n < least || n > most {
			return fmt.Errorf("%s has %d octets: %s takes %d to %d", k.name(), n, s.Type, least, most)
		}
	}
	return nil
}

func (k *Key) name() string {
	if k.ID == 0 {
		return "the password"
	}
	return fmt.Sprintf("key %d", k.ID)
}

// Difference says what is different between the keys of two settings, but not
// the keys.
func Difference(a, b *Settings) (all []string) {
	of := func(s *Settings, id uint8) *Key {
		if i := slices.IndexFunc(s.Keys, func(k Key) bool { return k.ID == id }); i >= 0 {
			return &s.Keys[i]
		}
		return nil
	}
	for _, k := range a.Keys {
		switch o := of(b, k.ID); {
		case o == nil:
			all = append(all, k.name()+" removed")
		case !o.Secret.Equal(k.Secret):
			all = append(all, k.name()+" changed")
		}
	}
	for _, k := range b.Keys {
		if of(a, k.ID) == nil {
			all = append(all, k.name()+" added")
		}
	}
	return all
}
