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

// ErrInsecure is returned for a program that others than root and the user it
// runs as may change.
var ErrInsecure = errors.New("others may change it")

// links is how many symbolic links are followed, as many as the kernel does.
const links = 40

// Check says what is wrong with a program's path for a user, nil for this
// process's own: it must be absolute, a regular file that the user may execute,
// and nobody but root and the user may write to it, to a directory on the way to
// it, or to where a symbolic link leads. A directory with the sticky bit may be
// everybody's, if what is in it is root's or the user's. What only others'
// permission to write is wrong with is an ErrInsecure.
func Check(path string, c *Credential) error {
	if c == nil {
		c = Self()
	}
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is not an absolute path: write it from the root, like /usr/local/bin/check", path)
	}
	at, rest := "/", strings.Split(filepath.Clean(path), "/")
	sticky := false // of the directory that the next one is in
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
		if link && followed == links {
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
			// The directories of the target are looked at from the root.
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
			return fmt.Errorf("%s is not a directory", at)
		}
		at, rest = filepath.Join(at, rest[0]), rest[1:]
	}
}

// examine notes who else may change a file or directory. It reports whether it is
// a directory in which only a file's owner may replace it.
func (c *Credential) examine(at string, mode fs.FileMode, stat *syscall.Stat_t, inSticky bool, note func(string, ...any)) (sticky bool) {
	if stat.Uid != 0 && stat.Uid != c.UID {
		if inSticky || mode&fs.ModeSymlink == 0 {
			note("%s belongs to user %d; make it root's: chown root %s", at, stat.Uid, at)
		}
	}
	if mode&fs.ModeSymlink != 0 {
		return false // its own permissions mean nothing
	}
	if sticky = mode.IsDir() && mode&fs.ModeSticky != 0; sticky {
		return true
	}
	if mode.Perm()&0o002 != 0 {
		note("everybody may write to %s; change that: chmod o-w %s", at, at)
	}
	if mode.Perm()&0o020 != 0 && stat.Gid != 0 {
		note("group %d may write to %s; change that: chmod g-w %s", stat.Gid, at, at)
	}
	return false
}

// executable says why a user can't run a file.
func (c *Credential) executable(at string, mode fs.FileMode, stat *syscall.Stat_t) error {
	if !mode.IsRegular() {
		return fmt.Errorf("%s is not a file that can be run", at)
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
		return fmt.Errorf("%s is not executable for user %d; change that: chmod +x %s", at, c.UID, at)
	}
	return nil
}
