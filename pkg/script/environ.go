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

// environmentOf reads the environment of a process. That of another user's process is readable
// only for that user. Root without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH reads it by changing
// the fsuid and fsgid of a thread to that user.
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
		// The IDs belong to the thread. If they can't be restored, the thread stays
		// locked, so it ends with this goroutine.
		runtime.LockOSThread()
		gid, _ := unix.SetfsgidRetGid(int(owner.Gid)) // a failure shows in the reading
		uid, _ := unix.SetfsuidRetUid(int(owner.Uid))
		env, err = os.ReadFile(path)
		_, _ = unix.SetfsuidRetUid(uid)
		_, _ = unix.SetfsgidRetGid(gid)
		// The kernel refuses the ID -1 and returns the current one.
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
