// SPDX-License-Identifier: Apache-2.0

package script

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrInsecure is returned for a program that users other than root and its own may change.
var ErrInsecure = errors.New("others may change it")

// maxLinks is the maximum number of symbolic links to follow, as in the kernel.
const maxLinks = 40

// Check returns an error if a program isn't suitable for a user; nil means the user of this
// process. The path must be absolute and lead to a regular file that the user may execute. Only
// root and the user may have write permission for the file, for the directories of the path,
// and for the targets of symbolic links. A directory with the sticky bit may be writable for
// all, if its entry on the path belongs to root or the user. The error is an ErrInsecure if
// only write permissions are wrong.
func Check(path string, c *Credential) error {
	if c == nil {
		c = Self()
	}
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s isn't an absolute path: begin it with a slash, like /usr/local/bin/check", path)
	}
	at, rest := "/", strings.Split(filepath.Clean(path), "/")
	sticky := false // whether the parent directory has the sticky bit
	var insecure error
	note := func(format string, args ...any) {
		if insecure == nil {
			insecure = fmt.Errorf("%w: %s", ErrInsecure, fmt.Sprintf(format, args...))
		}
	}
	for followed := 0; ; {
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no %s", at)
		}
		if err != nil {
			return err
		}
		link := info.Mode()&fs.ModeSymlink != 0
		if link && followed == maxLinks {
			return fmt.Errorf("%s: too many symbolic links", path)
		}
		stat := info.Sys().(*syscall.Stat_t)
		sticky = c.examine(at, info.Mode(), stat, sticky, note)
		if link {
			followed++
			target, err := os.Readlink(at)
			if err != nil {
				return err
			}
			if !filepath.IsAbs(target) {
				target = filepath.Join(filepath.Dir(at), target)
			}
			// The directories of the target are checked from the root on.
			at, rest, sticky = "/", append(strings.Split(filepath.Clean(target), "/"), rest...), false
			continue
		}
		for len(rest) > 0 && rest[0] == "" {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			if err := c.executable(at, info.Mode(), stat); err != nil {
				return err
			}
			return insecure
		}
		if !info.IsDir() {
			return fmt.Errorf("%s isn't a directory", at)
		}
		at, rest = filepath.Join(at, rest[0]), rest[1:]
	}
}

// examine notes if other users may change a file or directory. It reports whether the directory
// has the sticky bit, so that only the owner of a file can replace it.
func (c *Credential) examine(at string, mode fs.FileMode, stat *syscall.Stat_t, inSticky bool, note func(string, ...any)) (sticky bool) {
	if stat.Uid != 0 && stat.Uid != c.UID {
		if inSticky || mode&fs.ModeSymlink == 0 {
			note("%s belongs to user %d: chown root %s", at, stat.Uid, at)
		}
	}
	if mode&fs.ModeSymlink != 0 {
		return false // the permissions of a link have no effect
	}
	if sticky = mode.IsDir() && mode&fs.ModeSticky != 0; sticky {
		return true
	}
	if mode.Perm()&0o002 != 0 {
		note("all users may write to %s: chmod o-w %s", at, at)
	}
	if mode.Perm()&0o020 != 0 && stat.Gid != 0 {
		note("group %d may write to %s: chmod g-w %s", stat.Gid, at, at)
	}
	return false
}

// executable returns the reason why a user can't run a file, or nil.
func (c *Credential) executable(at string, mode fs.FileMode, stat *syscall.Stat_t) error {
	if !mode.IsRegular() {
		return fmt.Errorf("%s isn't a regular file", at)
	}
	bit := fs.FileMode(0o001)
	switch {
	case c.UID == 0:
		bit = 0o111
	case c.UID == stat.Uid:
		bit = 0o100
	case c.in(stat.Gid):
		bit = 0o010
	}
	if mode.Perm()&bit == 0 {
		return fmt.Errorf("%s isn't executable for user %d: chmod +x %s", at, c.UID, at)
	}
	return nil
}
