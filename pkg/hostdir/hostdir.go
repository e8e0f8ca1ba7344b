// SPDX-License-Identifier: Apache-2.0

// Package hostdir creates the directories for what a run keeps on the host. Only root and the
// user of this process may be able to write to them, because any other user could create a file
// first, or replace one.
package hostdir

import (
	"fmt"
	"os"
	"syscall"
)

// Make creates a directory and its parents if they don't exist, and checks it. It is safe for
// concurrent use.
func Make(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return Check(dir)
}

// Check returns an error with the remedy if a user other than root and this process's user can
// write to a directory. The error is fs.ErrNotExist if the directory doesn't exist.
func Check(dir string) error {
	// Check a symbolic link too, because its owner decides where it leads.
	for _, look := range []func(string) (os.FileInfo, error){os.Lstat, os.Stat} {
		info, err := look(dir)
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: the owner of the file can't be read", dir)
		}
		if uid := int(stat.Uid); uid != 0 && uid != os.Geteuid() {
			return fmt.Errorf("%s belongs to user %d, who could keep failoverd from starting: remove it, or run chown -h root %s", dir, uid, dir)
		}
		if info.Mode()&os.ModeSymlink != 0 {
			continue // the permissions of a link have no effect
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory: remove it", dir)
		}
		if info.Mode().Perm()&0o002 != 0 {
			return fmt.Errorf("all users may write to %s, and could keep failoverd from starting: chmod o-w %s", dir, dir)
		}
		if gid := int(stat.Gid); info.Mode().Perm()&0o020 != 0 && gid != 0 && gid != os.Getegid() {
			return fmt.Errorf("group %d may write to %s, and could keep failoverd from starting: chmod g-w %s", gid, dir, dir)
		}
	}
	return nil
}
