// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// No way of printing shows a secret, or one within another value.
func TestSecretIsNotPrinted(t *testing.T) {
	const text = "correct horse battery staple 0123456789"
	s := NewSecret([]byte(text))
	key := Key{1, s}
	for _, what := range []any{s, &s, key, []Key{key}, Settings{Type: HMAC, Keys: []Key{key}}, *NewGuard(Settings{Type: Password, Keys: []Key{{Secret: s}}}), struct{ hidden Secret }{s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			out := fmt.Sprintf(verb, what)
			for _, form := range []string{"correct", "636f7272", "99 111 114 114", "0x63, 0x6f"} {
				if strings.Contains(out, form) {
					t.Errorf("%s of %T: %s", verb, what, out)
				}
			}
		}
		if b, err := json.Marshal(what); err == nil && strings.Contains(string(b), "correct") {
			t.Errorf("JSON of %T: %s", what, b)
		}
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want, wrong string }{
		{write("text", "a word and another\n", 0o600), "a word and another", ""},
		{write("hex", "hex:00ff10\r\n", 0o400), "\x00\xff\x10", ""},
		{write("empty", "\n", 0o600), "", ""},
		{write("badhex", "hex:00secretsecret", 0o600), "", "the text after hex: is not hexadecimal"},
		{write("open", "secret", 0o644), "", "chmod 600 " + filepath.Join(dir, "open")},
		{write("group", "secret", 0o640), "", "mode 0640"},
		{write("long", strings.Repeat("x", 5000), 0o600), "", "too long"},
		{filepath.Join(dir, "none"), "", "no such file"},
		{fifo, "", "not a regular file"},
		{dir, "", "not a regular file"},
	} {
		s, err := ReadFile(c.path)
		switch {
		case c.wrong == "" && err != nil:
			t.Errorf("%s: %v", c.path, err)
		case c.wrong == "" && string(s.octets()) != c.want:
			t.Errorf("%s: %q", c.path, s.octets())
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%s: %v, not %q", c.path, err, c.wrong)
		case err != nil && strings.Contains(err.Error(), "secretsecret"):
			t.Errorf("%s shows the secret: %v", c.path, err)
		}
	}
	// A file of another user, which only root can create.
	if given := write("given", "secret", 0o600); os.Geteuid() == 0 {
		if err := os.Chown(given, 65534, -1); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadFile(given); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
			t.Errorf("a stranger's: %v", err)
		}
	}
	// The credentials of systemd may be readable by a group.
	if s, err := ReadCredential(dir, "group"); err != nil || string(s.octets()) != "secret" {
		t.Errorf("a credential: %v", err)
	}
	for dir, wrong := range map[string]string{"": "systemd has passed no credentials", dir: "add LoadCredential=nothing:FILE"} {
		if _, err := ReadCredential(dir, "nothing"); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%v, not %q", err, wrong)
		}
	}
}

func TestSettingsCheck(t *testing.T) {
	of := func(kind Type, n int) error {
		return (&Settings{Type: kind, Keys: []Key{{ID: 7, Secret: NewSecret(make([]byte, n))}}}).Check()
	}
	for kind, limits := range map[Type][2]int{Password: {1, PasswordMax}, Header: {1, PasswordMax}, HMAC: {KeyMin, KeyMax}} {
		for _, n := range limits {
			if err := of(kind, n); err != nil {
				t.Errorf("%s of %d octets: %v", kind, n, err)
			}
		}
		for _, n := range []int{limits[0] - 1, limits[1] + 1} {
			if err := of(kind, n); err == nil {
				t.Errorf("%s of %d octets", kind, n)
			}
		}
	}
}

func TestDifference(t *testing.T) {
	a := Settings{Keys: []Key{one, two}}
	b := Settings{Keys: []Key{{1, octets('c')}, {3, octets('d')}}}
	if got, want := strings.Join(Difference(&a, &b), ", "), "key 1 changed, key 2 removed, key 3 added"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
	if got := Difference(&a, &a); got != nil {
		t.Error(got)
	}
}
