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

// WithRemedy says what to do where there are no file descriptors left.
func WithRemedy(err error) error {
	if !Scarce(err) {
		return err
	}
	return fmt.Errorf("%w: %s", err, moreFiles(errors.Is(err, unix.ENFILE)))
}

// Scarce reports whether an error is that descriptors have run out.
func Scarce(err error) bool { return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) }

func moreFiles(host bool) string {
	if host {
		return "this host may have no more files open: raise fs.file-max (sysctl), or end what has so many open"
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return "raise LimitNOFILE= of the unit, or ulimit -n"
	}
	return fmt.Sprintf("failoverd may have %d files open and needs more: raise LimitNOFILE= of the unit, or ulimit -n", limit.Cur)
}

// troubleEvery is how often a server's trouble is logged.
const troubleEvery = 10 * time.Second

// trouble logs what package net/http says of a server: that it can't accept a
// connection, most of all. A client may be the cause, so it is a line now and then.
type trouble struct {
	log *logrus.Entry

	mu      sync.Mutex
	until   time.Time // when the next line may be
	skipped int
}

// NewServerLog is the log of a server of net/http, a line now and then.
func NewServerLog(log *logrus.Logger, server string) *stdlog.Logger {
	return stdlog.New(&trouble{log: log.WithField("server", server)}, "", 0)
}

// Write takes one line.
func (t *trouble) Write(line []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if now.Before(t.until) {
		t.skipped++
		return len(line), nil
	}
	t.until = now.Add(troubleEvery)
	entry := t.log
	if t.skipped > 0 {
		entry = entry.WithField("skipped", t.skipped)
		t.skipped = 0
	}
	text, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(line)), "http: "), "\n") // not a whole stack
	for _, e := range []syscall.Errno{unix.EMFILE, unix.ENFILE} {
		if strings.Contains(text, e.Error()) {
			text += ": " + moreFiles(e == unix.ENFILE)
		}
	}
	entry.Warn(text)
	return len(line), nil
}
