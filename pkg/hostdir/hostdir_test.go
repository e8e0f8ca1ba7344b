// SPDX-License-Identifier: Apache-2.0

package hostdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const stranger = 65534

func TestMake(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := Check(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that doesn't exist: %v", err)
	}
	for range 2 { // the second time it exists
		if err := Make(dir); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o022 != 0 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A directory that another user can write to is refused, with the remedy.
func TestRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"everybody's": {func(dir string) error { return os.Chmod(dir, 0o777) }, "chmod o-w"},
		"sticky":      {func(dir string) error { return os.Chmod(dir, 0o777|fs.ModeSticky) }, "chmod o-w"},
		"a group's":   {func(dir string) error { return errors.Join(os.Chown(dir, 0, stranger), os.Chmod(dir, 0o775)) }, "chmod g-w"},
		"a user's":    {func(dir string) error { return os.Chown(dir, stranger, 0) }, "belongs to user 65534"},
		"a user's link": {func(dir string) error {
			return errors.Join(os.Remove(dir), os.Symlink(filepath.Dir(dir), dir), os.Lchown(dir, stranger, 0))
		}, "belongs to user 65534"},
		"a file": {func(dir string) error { return errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600)) }, "not a directory"},
	} {
		dir := filepath.Join(t.TempDir(), "run")
		if err := Make(dir); err != nil {
			t.Fatal(err)
		}
		if err := c.spoil(dir); err != nil {
			t.Fatal(err)
		}
		if err := Make(dir); err == nil || !strings.Contains(err.Error(), c.want) && name != "a file" {
			t.Errorf("%s: %v", name, err)
		}
		if err := Check(dir); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A directory of root's group and a symbolic link of root are accepted.
func TestAccepts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	link := dir + "-link"
	if err := errors.Join(Make(dir), os.Chmod(dir, 0o775), os.Symlink(dir, link)); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, link} {
		if err := Make(d); err != nil {
			t.Error(err)
		}
	}
}
