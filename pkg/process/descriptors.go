// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	stdlog "log"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// WithRemedy adds the remedy to an error that says that there are no file descriptors left.
// It returns any other error unchanged.
func WithRemedy(err error) error {
	if !outOfDescriptors(err) {
		return err
	}
	return fmt.Errorf("%w: %s", err, descriptorRemedy(errors.Is(err, unix.ENFILE)))
}

// outOfDescriptors reports whether an error says that there are no file descriptors left.
func outOfDescriptors(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE)
}

func descriptorRemedy(host bool) string {
	if host {
		return "the host has reached its limit of open files: raise the sysctl fs.file-max, or end programs that have many files open"
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return "raise LimitNOFILE= of the unit, or ulimit -n"
	}
	return fmt.Sprintf("failoverd has reached its limit of %d open files: raise LimitNOFILE= of the unit, or ulimit -n", limit.Cur)
}

// serverLogInterval is the least time between two log lines of a server.
const serverLogInterval = 10 * time.Second

// serverLog logs the errors of a net/http server, for example that it can't accept a
// connection. Clients can cause such errors, so the number of lines is limited.
type serverLog struct {
	log *logrus.Entry

	mu      sync.Mutex
	until   time.Time // lines are skipped until then
	skipped int
}

// NewServerLog returns the ErrorLog for a net/http server. It writes one line every ten
// seconds at most.
func NewServerLog(log *logrus.Logger, server string) *stdlog.Logger {
	return stdlog.New(&serverLog{log: log.WithField("server", server)}, "", 0)
}

// Write logs one line, or skips it.
func (t *serverLog) Write(line []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if now.Before(t.until) {
		t.skipped++
		return len(line), nil
	}
	t.until = now.Add(serverLogInterval)
	entry := t.log
	if t.skipped > 0 {
		entry = entry.WithField("skipped", t.skipped)
		t.skipped = 0
	}
	text, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(line)), "http: "), "\n") // without the stack of a panic
	for _, e := range []syscall.Errno{unix.EMFILE, unix.ENFILE} {
		if strings.Contains(text, e.Error()) {
			text += ": " + descriptorRemedy(e == unix.ENFILE)
		}
	}
	entry.Warn(text)
	return len(line), nil
}
