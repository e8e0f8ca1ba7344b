// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"fmt"
	"slices"
	"time"
)

// Type is a method to authenticate advertisements.
type Type string

// The types.
const (
	None     Type = "none"
	Password Type = "password" // RFC 2338 §5.3.6.2: a password in clear text, version 2 only
	Header   Type = "ah"       // RFC 2338 §5.3.6.3: an Authentication Header, version 2 only
	HMAC     Type = "hmac"     // draft-cassen-vrrp-auth-hmac: an authentication trailer
)

// Weak reports whether a type doesn't protect against an attacker (RFC 3768 §10).
func (t Type) Weak() bool { return t == Password || t == Header }

// Number returns the Auth Type of a version 2 message (RFC 2338 §5.3.6). It is 0 for HMAC.
func (t Type) Number() uint8 {
	switch t {
	case Password:
		return 1
	case Header:
		return 2
	}
	return 0
}

// Mode is a step in the introduction of HMAC on the routers of a VRID. In every mode an
// existing trailer must be right.
type Mode string

// The modes, in the order in which a running VRID passes through them.
const (
	ReceiveOnly Mode = "receive-only" // sends no trailer and requires none
	Permit      Mode = "permit"       // sends a trailer but requires none
	Enforce     Mode = "enforce"      // sends a trailer and requires one
)

// The limits of secrets, in octets. That of a password is keepalived's.
const (
	PasswordMax = 8
	KeyMin      = 32
	KeyMax      = 64
)

// The limits of Settings.Window.
const (
	WindowMin = time.Second
	WindowMax = 300 * time.Second
)

// Key is a key of HMAC, or the password with the ID 0.
type Key struct {
	ID     uint8
	Secret Secret
}

// Settings are the parameters of authentication of a Virtual Router. All its routers need
// compatible ones.
type Settings struct {
	Type Type
	Keys []Key
	// Send is the ID of the key for sending with HMAC. All Keys are accepted.
	Send uint8
	Mode Mode
	// Window is the largest difference between the time in a trailer and the clock of this
	// host, 1s to 300s. 0 accepts any time that is later than the sender's last one.
	Window time.Duration
}

// Check returns an error if a secret is too short or too long. The error doesn't show it.
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

// Difference describes the differences between the keys of two settings, without showing
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
