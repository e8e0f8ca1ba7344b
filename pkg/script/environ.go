// SPDX-License-Identifier: Apache-2.0

package script

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// environmentOf reads a process's environment. Of another user's it is that user's
// alone: root reads it without a right of its own (CAP_SYS_PTRACE and
// CAP_DAC_READ_SEARCH) by being that user for the file system's permissions.
func environmentOf(pid int) ([]byte, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	path := dir + "/environ"
	env, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrPermission) {
		return env, err
	}
	info, statErr := os.Stat(dir)
	if statErr != nil {
		return nil, err
	}
	owner := info.Sys().(*syscall.Stat_t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// These are the thread's own. If they can't be restored it stays locked,
		// and ends with this function.
		runtime.LockOSThread()
		gid, _ := unix.SetfsgidRetGid(int(owner.Gid)) // whether it could be done shows below
		uid, _ := unix.SetfsuidRetUid(int(owner.Uid))
		env, err = os.ReadFile(path)
		_, _ = unix.SetfsuidRetUid(uid)
		_, _ = unix.SetfsgidRetGid(gid)
		// An ID that can't be is refused, and tells the present one.
		if now, _ := unix.SetfsuidRetUid(-1); now != uid {
			return
		}
		if now, _ := unix.SetfsgidRetGid(-1); now != gid {
			return
		}
		runtime.UnlockOSThread()
	}()
	<-done
	return env, err
}
