// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// redacted is all that is ever printed of a Secret.
const redacted = "[secret]"

// fileMax is more than any key takes, in octets.
const fileMax = 4096

// Secret is a key or a password. However it is printed, it doesn't show.
type Secret struct {
	// Package fmt asks no method of what is in an unexported field, and looks
	// through pointers there, but not through functions.
	hidden func() []byte
}

// NewSecret returns the secret that the octets are.
func NewSecret(octets []byte) Secret {
	octets = bytes.Clone(octets)
	return Secret{func() []byte { return octets }}
}

func (s Secret) octets() []byte {
	if s.hidden == nil {
		return nil
	}
	return s.hidden()
}

// String doesn't tell the secret.
func (Secret) String() string { return redacted }

// GoString doesn't tell the secret.
func (Secret) GoString() string { return redacted }

// Format doesn't tell the secret, whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText doesn't tell the secret, in JSON neither.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Equal reports whether two secrets are the same, in the same time for all of a
// length.
func (s Secret) Equal(o Secret) bool { return subtle.ConstantTimeCompare(s.octets(), o.octets()) == 1 }

// Len is the number of octets.
func (s Secret) Len() int { return len(s.octets()) }

// ReadFile reads a secret from a file that nobody but its owner may read: text,
// or after hex: octets in hexadecimal. A newline at its end doesn't count. No
// error tells anything of what the file has in it.
func ReadFile(path string) (Secret, error) { return read(path, true) }

// ReadCredential reads a secret that systemd has passed to the service with
// LoadCredential= or LoadCredentialEncrypted=; dir is $CREDENTIALS_DIRECTORY,
// whose modes are systemd's business.
func ReadCredential(dir, name string) (Secret, error) {
	if dir == "" {
		return Secret{}, fmt.Errorf("credential %s: not started by systemd with credentials: add LoadCredential=%s:FILE to the unit, or give a file", name, name)
	}
	s, err := read(filepath.Join(dir, name), false)
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("credential %s is not there: add LoadCredential=%s:FILE to the unit and restart it", name, name)
	}
	return s, err
}

func read(path string, private bool) (Secret, error) {
	// A FIFO without a writer must not keep anybody waiting.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Secret{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return Secret{}, err
	case !info.Mode().IsRegular():
		return Secret{}, fmt.Errorf("%s is not a regular file", path)
	case private && info.Mode().Perm()&0o077 != 0:
		return Secret{}, fmt.Errorf("%s is not its owner's alone (mode %04o), so its key is no secret: chmod 600 %s, and use a new key if others may have read it", path, info.Mode().Perm(), path)
	}
	if uid, stranger := owner(info); private && stranger {
		return Secret{}, fmt.Errorf("%s belongs to user %d, who can make it another key: chown root %s", path, uid, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, fileMax+1))
	if err != nil {
		return Secret{}, err
	}
	defer clear(b)
	if len(b) > fileMax {
		return Secret{}, fmt.Errorf("%s is too long for a key", path)
	}
	octets, err := parse(b)
	if err != nil {
		return Secret{}, fmt.Errorf("%s: %w", path, err)
	}
	return Secret{func() []byte { return octets }}, nil
}

// owner returns whose a file is, and whether that is neither root nor this user.
func owner(info fs.FileInfo) (uid int, stranger bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	uid = int(stat.Uid)
	return uid, uid != 0 && uid != os.Geteuid()
}

// parse reads what is in a file. Its error doesn't quote it.
func parse(b []byte) ([]byte, error) {
	b = bytes.TrimRight(b, "\r\n")
	digits, ok := bytes.CutPrefix(b, []byte("hex:"))
	if !ok {
		return bytes.Clone(b), nil
	}
	octets := make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(octets, digits); err != nil {
		return nil, errors.New("what is behind hex: is not hexadecimal")
	}
	return octets, nil
}
