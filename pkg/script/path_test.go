// SPDX-License-Identifier: Apache-2.0

package script

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	base := t.TempDir()
	file := func(path string, mode os.FileMode, uid, gid int) {
		path = filepath.Join(base, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	directory := func(path string, mode os.FileMode, uid, gid int) {
		path = filepath.Join(base, path)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	symlink := func(target, path string) {
		if err := os.Symlink(target, filepath.Join(base, path)); err != nil {
			t.Fatal(err)
		}
	}
	file("good", 0o755, 0, 0)
	file("root-group", 0o775, 0, 0)
	file("plain", 0o644, 0, 0)
	file("group", 0o775, 0, 1)
	file("others", 0o757, 0, 0)
	file("nobodys", 0o755, 65534, 65534)
	file("private", 0o700, 0, 0)
	file("open/check", 0o755, 0, 0)
	directory("open", 0o777, 0, 0)
	file("sticky/check", 0o755, 0, 0)
	file("sticky/nobodys", 0o755, 65534, 0)
	directory("sticky", 0o777|os.ModeSticky, 0, 0)
	file("owned/check", 0o755, 0, 0)
	directory("owned", 0o755, 65534, 0)
	symlink("good", "link")
	symlink(filepath.Join(base, "open"), "to-open")
	symlink("loop", "loop")
	symlink("nothing", "dangling")
	symlink(filepath.Join(base, "sticky"), "to-sticky")
	symlink("../good", "open/link")
	nobody, err := Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	root := &Credential{}

	for _, c := range []struct {
		path     string
		user     *Credential
		insecure bool
		text     string // empty if Check returns no error
	}{
		{"good", root, false, ""},
		{"good", nil, false, ""},
		{"good", nobody, false, ""},
		{"root-group", root, false, ""},
		{"link", root, false, ""},
		{"sticky/check", root, false, ""},
		{"to-sticky/check", root, false, ""},
		{"nobodys", nobody, false, ""},
		{"owned/check", nobody, false, ""},
		{"plain", root, false, "plain isn't executable for user 0"},
		{"private", nobody, false, "private isn't executable for user 65534"},
		{"nothing", root, false, "there is no "},
		{"dangling", root, false, "there is no "},
		{"loop", root, false, "too many symbolic links"},
		{"good/below", root, false, "good isn't a directory"},
		{"open", root, false, "open isn't a regular file"},
		{"group", root, true, "group 1 may write to "},
		{"others", root, true, "all users may write to "},
		{"nobodys", root, true, "nobodys belongs to user 65534"},
		{"open/check", root, true, "all users may write to " + filepath.Join(base, "open")},
		{"to-open/check", root, true, "all users may write to " + filepath.Join(base, "open")},
		{"open/link", root, true, "all users may write to "},
		{"sticky/nobodys", root, true, "belongs to user 65534"},
		{"owned/check", root, true, "owned belongs to user 65534"},
	} {
		err := Check(filepath.Join(base, c.path), c.user)
		switch {
		case c.text == "" && err == nil:
		case err == nil || c.text == "" || !strings.Contains(err.Error(), c.text) || errors.Is(err, ErrInsecure) != c.insecure:
			t.Errorf("%s for %v: %v; want %q, insecure: %t", c.path, c.user, err, c.text, c.insecure)
		}
	}
	if err := Check("check", nil); err == nil || !strings.Contains(err.Error(), "isn't an absolute path") {
		t.Errorf("a relative path: %v", err)
	}
}
