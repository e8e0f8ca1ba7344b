// SPDX-License-Identifier: Apache-2.0

// Package hostdir makes the directories of what a run keeps on the host. Only root
// and this process's user may write to them: who else may could take a name first,
// or put another file in place of one.
package hostdir

import (
	"fmt"
	"os"
	"syscall"
)

// Make makes a directory and those above it, if they aren't there, and checks it.
// It is safe for concurrent use.
func Make(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return Check(dir)
}

// Check says what keeps a directory from being root's and this user's alone. One that
// isn't there is an fs.ErrNotExist.
func Check(dir string) error {
	// Who owns a symbolic link decides where it leads.
	for _, look := range []func(string) (os.FileInfo, error){os.Lstat, os.Stat} {
		info, err := look(dir)
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: its owner can't be told", dir)
		}
		if uid := int(stat.Uid); uid != 0 && uid != os.Geteuid() {
			return fmt.Errorf("%s belongs to user %d, who could keep failoverd from starting: remove it, or make it root's with chown -h root %s", dir, uid, dir)
		}
		if info.Mode()&os.ModeSymlink != 0 {
			continue // its permissions mean nothing
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory: remove it", dir)
		}
		if info.Mode().Perm()&0o002 != 0 {
			return fmt.Errorf("everybody may write to %s, and could keep failoverd from starting: chmod o-w %s", dir, dir)
		}
		if gid := int(stat.Gid); info.Mode().Perm()&0o020 != 0 && gid != 0 && gid != os.Getegid() {
			return fmt.Errorf("group %d may write to %s, and could keep failoverd from starting: chmod g-w %s", gid, dir, dir)
		}
	}
	return nil
}
