// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/failoverd/failoverd/pkg/flock"
)

// A directory or symbolic link that an unprivileged user has put in place of the pins' directory
// doesn't prevent pinning. The target of the symbolic link isn't touched.
func TestStrangersDirectory(t *testing.T) {
	const stranger = 65534
	precious := t.TempDir()
	if err := os.WriteFile(filepath.Join(precious, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(dir string) error{
		"directory": func(dir string) error {
			return errors.Join(os.MkdirAll(filepath.Join(dir, mountedMark), 0o755), os.Chown(dir, stranger, stranger))
		},
		"symbolic link": func(dir string) error {
			return errors.Join(os.Symlink(precious, dir), os.Lchown(dir, stranger, stranger))
		},
	} {
		dir := filepath.Join(t.TempDir(), "failoverd")
		if err := put(dir); err != nil {
			t.Fatal(err)
		}
		if removed, err := clean(dir, dir); err != nil || len(removed) > 0 {
			t.Errorf("%s: cleaned up: %v, %v", name, removed, err)
		}
		lock, err := lockDir(dir, true)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if own, err := isOwn(dir); !own || err != nil {
			t.Errorf("%s: not its own: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, mountedMark)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: what was in it is still there: %v", name, err)
		}
		if _, err := lockDir(dir, true); !errors.Is(err, flock.ErrHeld) {
			t.Errorf("%s: locked twice: %v", name, err)
		}
		if err := lock.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(precious, "file")); err != nil {
		t.Error(err)
	}
}
