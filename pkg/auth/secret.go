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

// redacted is printed instead of a Secret.
const redacted = "[secret]"

// fileMax is the largest size of a key file, in octets. It is more than any key needs.
const fileMax = 4096

// Secret is a key or a password. No way of printing shows it.
type Secret struct {
	// A function, because package fmt calls no methods on values in unexported fields. It
	// would follow a pointer and print the octets, but it can't look into a function.
	hidden func() []byte
}

// NewSecret returns a Secret with a copy of the octets.
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

// String returns a placeholder instead of the secret.
func (Secret) String() string { return redacted }

// GoString returns a placeholder instead of the secret.
func (Secret) GoString() string { return redacted }

// Format prints a placeholder instead of the secret, for any verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns a placeholder instead of the secret. JSON uses it too.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Equal reports whether two secrets are equal. The time depends only on their length.
func (s Secret) Equal(o Secret) bool { return subtle.ConstantTimeCompare(s.octets(), o.octets()) == 1 }

// Len returns the number of octets.
func (s Secret) Len() int { return len(s.octets()) }

// ReadFile reads a secret from a file that only its owner may access. The file has text,
// or "hex:" and hexadecimal digits. Newlines at the end are ignored. Errors don't show the
// content.
func ReadFile(path string) (Secret, error) { return read(path, true) }

// ReadCredential reads a secret that systemd has passed to the service with LoadCredential=
// or LoadCredentialEncrypted=. dir is $CREDENTIALS_DIRECTORY. The modes of its files aren't
// checked, because systemd sets them.
func ReadCredential(dir, name string) (Secret, error) {
	if dir == "" {
		return Secret{}, fmt.Errorf("credential %s: systemd has passed no credentials: add LoadCredential=%s:FILE to the unit, or use a key file", name, name)
	}
	s, err := read(filepath.Join(dir, name), false)
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("credential %s does not exist: add LoadCredential=%s:FILE to the unit and restart it", name, name)
	}
	return s, err
}

func read(path string, private bool) (Secret, error) {
	// Without O_NONBLOCK, opening a FIFO without a writer would block.
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
		return Secret{}, fmt.Errorf("other users may access %s (mode %04o): chmod 600 %s, and use a new key if they may have read this one", path, info.Mode().Perm(), path)
	}
	if uid, stranger := owner(info); private && stranger {
		return Secret{}, fmt.Errorf("%s belongs to user %d, who can change the key: chown root %s", path, uid, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, fileMax+1))
	if err != nil {
		return Secret{}, err
	}
	defer clear(b)
	if len(b) > fileMax {
		return Secret{}, fmt.Errorf("%s is too long for a key file", path)
	}
	octets, err := parse(b)
	if err != nil {
		return Secret{}, fmt.Errorf("%s: %w", path, err)
	}
	return Secret{func() []byte { return octets }}, nil
}

// owner returns the owner of a file, and whether that is neither root nor this user.
func owner(info fs.FileInfo) (uid int, stranger bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	uid = int(stat.Uid)
	return uid, uid != 0 && uid != os.Geteuid()
}

// parse parses the content of a key file. Its error doesn't show the content.
func parse(b []byte) ([]byte, error) {
	b = bytes.TrimRight(b, "\r\n")
	digits, ok := bytes.CutPrefix(b, []byte("hex:"))
	if !ok {
		return bytes.Clone(b), nil
	}
	octets := make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(octets, digits); err != nil {
		return nil, errors.New("the text after hex: is not hexadecimal")
	}
	return octets, nil
}
