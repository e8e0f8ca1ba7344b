// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// barrierTimeout bounds the wait for the service manager.
const barrierTimeout = 5 * time.Second

// Managed reports whether a service manager has started this process, or the process before it.
func Managed() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// NotifyMainPID tells the service manager that another process is the main process of the service
// now, and waits until it knows: it ignores the messages of processes that have ended. It returns
// false if there is no service manager.
func NotifyMainPID(pid int) (managed bool, err error) {
	if managed, err = daemon.SdNotify(false, fmt.Sprintf("MAINPID=%d", pid)); !managed || err != nil {
		return managed, err
	}
	return true, barrier()
}

// barrier waits until the service manager has processed all messages of this process: it then
// closes the descriptor that comes with the message (sd_notify_barrier(3)).
func barrier() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // nothing is read
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Sendmsg(fd, []byte("BARRIER=1"), unix.UnixRights(int(w.Fd())), &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")}, 0)
		_ = unix.Close(fd) // the message is sent
	}
	_ = w.Close() // the service manager has a copy
	if err != nil {
		return err
	}
	if err := r.SetReadDeadline(time.Now().Add(barrierTimeout)); err != nil {
		return err
	}
	if _, err = r.Read(make([]byte, 1)); os.IsTimeout(err) {
		return fmt.Errorf("the service manager has not answered within %v", barrierTimeout)
	}
	return nil
}
