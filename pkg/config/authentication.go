// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/failoverd/failoverd/pkg/auth"
)

// Authentication says how a router's advertisements are authenticated, and where the
// secrets are. It has no secret itself. The zero value is no authentication.
type Authentication struct {
	Type auth.Type
	// Keys are the keys of HMAC, or the password with the id 0.
	Keys []Key
	// Send is the id of the key to send with, for HMAC.
	Send int
	Mode auth.Mode
	// Window is the greatest difference between the clocks of two hosts, 1s to 300s, or 0
	// for no limit. AutoWindow is three intervals of the router, and at least 5s.
	Window time.Duration
}

// AutoWindow derives the window from the interval.
const AutoWindow time.Duration = -1

// Key is the place of a key: a file, or a credential of the service.
type Key struct {
	ID         int // 1 to 255; 0 for a password
	File       string
	Credential string
}

// On reports whether there is any authentication.
func (a Authentication) On() bool { return a.Type != "" && a.Type != auth.None }

// String is the value as it is written in the file.
func (a Authentication) String() string {
	if !a.On() {
		return Off
	}
	var g group
	g.add("type", string(a.Type), nil)
	if a.Type != auth.HMAC {
		for _, k := range a.Keys {
			g.add("key_file", k.File, "")
			g.add("credential", k.Credential, "")
		}
		return g.String()
	}
	g.add("keys", a.Keys, nil)
	g.add("send", a.Send, nil)
	g.add("mode", string(a.Mode), string(auth.Enforce))
	g.add("window", a.Window, AutoWindow)
	return g.String()
}

// String is the value as it is written in the file.
func (k Key) String() string {
	var g group
	g.add("id", k.ID, nil)
	g.add("file", k.File, "")
	g.add("credential", k.Credential, "")
	return g.String()
}

// Settings returns the settings of package auth without the secrets. An AutoWindow depends
// on the interval.
func (a Authentication) Settings(interval time.Duration) auth.Settings {
	window := a.Window
	if window == AutoWindow {
		// A trailer counts whole seconds.
		window = min(max(3*interval, 5*time.Second).Truncate(time.Second), auth.WindowMax)
	}
	return auth.Settings{Type: a.Type, Mode: a.Mode, Send: uint8(a.Send), Window: window}
}

// authenticationProblems returns the problems of the authentication. Item 0 is the whole
// group, the others are the list of keys.
func (r Router) authenticationProblems() (all []Problem) {
	a := r.Authentication
	add := func(item int, format string, args ...any) {
		all = append(all, Problem{Key: "authentication", Item: item, Text: fmt.Sprintf(format, args...)})
	}
	if a.Type.Weak() && r.Version != 2 {
		add(0, "version 3 has no authentication of type %s: use hmac, or version 2", a.Type)
	}
	if len(a.Keys) == 0 {
		add(0, "authentication of type %s has no key: add %s", a.Type, map[bool]string{true: "`key_file: /etc/failoverd/password`", false: "`keys: [{id: 1, file: /etc/failoverd/key}]`"}[a.Type.Weak()])
	}
	twice := repeated(a.Keys, func(k Key) int { return k.ID })
	for i, k := range a.Keys {
		item := 1 + i
		if a.Type.Weak() {
			item = 0
		}
		name := fmt.Sprintf("key %d", k.ID)
		if k.ID == 0 {
			name = "the password"
		}
		switch {
		case a.Type == auth.HMAC && (k.ID < 1 || k.ID > 255):
			add(item, "the key's id is %d: it is 1 to 255", k.ID)
		case twice[i]:
			add(item, "%s is given twice", name)
		case (k.File == "") == (k.Credential == ""):
			add(item, "%s has to be either in a file or in a credential of the service", name)
		case strings.ContainsRune(k.Credential, '/'):
			add(item, "%s can't be a credential's name: it is that of LoadCredential=NAME:FILE in the unit", quote(k.Credential))
		}
		if k.File != "" && !filepath.IsAbs(k.File) {
			add(item, "the file of %s isn't an absolute path: write it from the root, like /etc/failoverd/key", name)
			all[len(all)-1].Secret = true // an administrator may have written the key itself
		}
	}
	if a.Type == auth.HMAC && len(a.Keys) > 0 && !slices.ContainsFunc(a.Keys, func(k Key) bool { return k.ID == a.Send }) {
		add(0, "no key has the id %d, which is to be sent with: `send` is the id of one of the keys", a.Send)
	}
	if a.Window != 0 && a.Window != AutoWindow && (a.Window < auth.WindowMin || a.Window > auth.WindowMax || a.Window%time.Second != 0) {
		add(0, "window %v is out of range: it is 1s to 300s in whole seconds, or 0s to accept any time", a.Window)
	}
	return all
}

var (
	authTypes = []string{string(auth.None), string(auth.Password), string(auth.Header), string(auth.HMAC)}
	authModes = []string{string(auth.ReceiveOnly), string(auth.Permit), string(auth.Enforce)}
)

// authenticationKeys returns the keys below authentication. It appends the nodes of the
// list of keys to items.
func authenticationKeys(items *[]*node) []key[Authentication] {
	single := func(name, doc string, field func(*Key) *string) key[Authentication] {
		return textKey(name, doc, func(a *Authentication) *string {
			if len(a.Keys) == 0 || a.Keys[0].ID != 0 {
				a.Keys = slices.Insert(a.Keys, 0, Key{})
			}
			return field(&a.Keys[0])
		})
	}
	return []key[Authentication]{
		need(choiceKey("type", "`hmac` is HMAC-SHA-256 in a trailer, as keepalived 2.4 sends it (`auth_hmac`). Version 2 also has `password`, in clear text, and `ah`, an Authentication Header with HMAC-MD5. RFC 3768 removed both, because they keep out mistakes but no attacker.", authTypes, "", func(a *Authentication, v string) { a.Type = auth.Type(v) }), ""),
		single("key_file", "For `password` and `ah`: the file with the password, 1 to 8 octets, of mode 0600.", func(k *Key) *string { return &k.File }),
		single("credential", "For `password` and `ah`: the systemd credential with the password, instead of `key_file`.", func(k *Key) *string { return &k.Credential }),
		{name: "keys", kind: kindSecrets, below: below(keyKeys), doc: "For `hmac`: the keys that are accepted, of 32 to 64 octets.", read: func(r *reader, n *node, a *Authentication) []*node {
			for _, item := range r.list(n, "keys", "keys: [{id: 1, file: /etc/failoverd/key}]") {
				var k Key
				if read(r, item, "the key", &k, keyKeys, nil) {
					a.Keys, *items = append(a.Keys, k), append(*items, r.value(item))
				}
			}
			return nil
		}},
		numberKey("send", "For `hmac`: the id of the key to send with. The default is the id of the only key.", 1, 255, "", func(a *Authentication) *int { return &a.Send }),
		choiceKey("mode", "For `hmac`: `receive-only` sends no trailer and accepts advertisements without one. `permit` sends a trailer and accepts advertisements without one. `enforce` sends a trailer and refuses advertisements without one. A wrong trailer is refused in each mode.", authModes, string(auth.Enforce), func(a *Authentication, v string) { a.Mode = auth.Mode(v) }),
		durationKey("window", "For `hmac`: how far the time in a trailer may be from this host's clock, 1s to 300s in whole seconds. `0s` accepts any time, for hosts without NTP. The default is three intervals, and at least 5s.", "", func(a *Authentication) *time.Duration { return &a.Window }),
	}
}

// keyKeys are the keys of an entry of keys.
var keyKeys = []key[Key]{
	need(numberKey("id", "The key's number. It is the same on all hosts.", 1, 255, "", func(k *Key) *int { return &k.ID }), ""),
	textKey("file", "The file with the key, of mode 0600: text, or octets in hexadecimal after `hex:`.", func(k *Key) *string { return &k.File }),
	textKey("credential", "The systemd credential with the key, instead of `file`.", func(k *Key) *string { return &k.Credential }),
}

func authenticationKey() key[Router] {
	const name = "authentication"
	doc := "How advertisements are authenticated. It is the same on all hosts. `off` is without authentication. An advertisement that isn't authentic is refused before it has any effect, and counted by its reason. Secrets are in files or in systemd credentials, and a reload reads them again."
	return key[Router]{name: name, kind: kindGroup, fallback: Off, doc: doc, below: below(authenticationKeys(nil)), sample: "{type: hmac, keys: [{id: 1, file: /etc/failoverd/key-1}]}", read: func(r *reader, n *node, t *Router) []*node {
		if r.off(n) {
			return nil
		}
		var items []*node
		p := newPlaces(n)
		a := Authentication{Mode: auth.Enforce, Window: AutoWindow}
		mapping := read(r, n, quote(name), &a, authenticationKeys(&items), &p)
		if _, there := p.keys["type"]; mapping && !there {
			r.fail(n, "add `type: hmac`", "%s has no `type`", quote(name))
		}
		r.foreign(&a, &p)
		if a.Type == auth.HMAC && a.Send == 0 && len(a.Keys) == 1 {
			a.Send = a.Keys[0].ID
		}
		if _, there := p.keys["send"]; !there && a.Type == auth.HMAC && len(a.Keys) > 1 {
			r.fail(n, "add `send: "+strconv.Itoa(a.Keys[0].ID)+"`", "with several keys %s needs the id of the one to `send` with", quote(name))
		}
		if a.On() {
			t.Authentication = a
		}
		return slices.Concat([]*node{r.value(n)}, items)
	}}
}

// foreign adds a mistake for each key that only another type has.
func (r *reader) foreign(a *Authentication, p *places) {
	of := map[string][]auth.Type{
		"key_file": {auth.Password, auth.Header}, "credential": {auth.Password, auth.Header},
		"keys": {auth.HMAC}, "send": {auth.HMAC}, "mode": {auth.HMAC}, "window": {auth.HMAC},
	}
	for name, n := range p.keys {
		types, special := of[name]
		if special && a.Type != "" && !slices.Contains(types, a.Type) {
			r.fail(n, "remove it", "type %s has no %s", a.Type, quote(name))
		}
	}
}
