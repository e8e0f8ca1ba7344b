// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/tools/lab"
)

const logged = "routers: [{name: web, interface: eth0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24]}]\n"

// pty opens a terminal and returns its far end and its path.
func pty(s *site) (*os.File, string) {
	s.t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	s.ok(err)
	s.t.Cleanup(func() { _ = far.Close() })
	s.ok(unix.IoctlSetPointerInt(int(far.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(far.Fd()), unix.TIOCGPTN)
	s.ok(err)
	return far, fmt.Sprintf("/dev/pts/%d", n)
}

// seen collects what is written to it.
type seen struct {
	mu   sync.Mutex
	text string
}

func (w *seen) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text += string(b)
	return len(b), nil
}

func (w *seen) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text
}

// runLogged runs failoverd in a script until its router is Active, and stops it. The script gets
// its command line.
func runLogged(s *site, script string, env ...string) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "failoverd.yaml")
	s.ok(os.WriteFile(file, []byte(logged), 0o644))
	var f *lab.Process
	f, err := s.a.StartEnv(env, "unshare", "--mount", "/bin/sh", "-c", script, failoverd(), "--config", file)
	s.ok(err)
	s.waitHolder("198.18.0.10", s.a)
	s.ok(f.Signal(syscall.SIGINT))
	code, err := f.Wait(s.ctx)
	s.ok(err)
	if code != 0 {
		s.t.Errorf("exit code %d:\n%s", code, f.Output())
	}
}

// On a terminal the log has lines for people. They say that failoverd runs and how to stop it.
func TestLogOnTerminal(t *testing.T) {
	for name, c := range map[string]struct {
		env    []string
		colors bool
	}{
		"colours":    {[]string{"TERM=xterm", "NO_COLOR="}, true},
		"no colours": {[]string{"TERM=xterm", "NO_COLOR=1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			far, path := pty(s)
			var screen seen
			go func() { _, _ = io.Copy(&screen, far) }() // until the terminal is closed
			runLogged(s, `exec "$0" "$@" 2>`+path, c.env...)
			s.until("the last line", func() bool { return strings.Contains(screen.String(), "stopped by the administrator") })
			text := screen.String()
			for _, want := range []string{
				`running web, from \S+failoverd.yaml; Ctrl-C stops it`,
				`\d\d:\d\d:\d\d (\x1b\[33m)?web   Backup → Active      nobody else heard`,
				`\d\d:\d\d:\d\d web   Active → Initialize  stopped by the administrator\r\n`, // no warning
			} {
				if !regexp.MustCompile(want).MatchString(text) {
					t.Errorf("%s is missing in\n%s", want, text)
				}
			}
			if got := strings.Contains(text, "\x1b[33m"); got != c.colors {
				t.Errorf("colours: %v, want %v:\n%q", got, c.colors, text)
			}
		})
	}
}

// toJournal makes standard error a file that JOURNAL_STREAM names as the journal's.
func toJournal(file, before string) string {
	return before + ` : >` + file + `; JOURNAL_STREAM=$(stat -c %d:%i ` + file + `); export JOURNAL_STREAM; exec "$0" "$@" 2>>` + file
}

// Below systemd each log line is a record of the journal, with its priority and fields.
func TestLogInJournal(t *testing.T) {
	s := newSite(t)
	dir := t.TempDir()
	socket, errs := filepath.Join(dir, "socket"), filepath.Join(dir, "stderr")
	journald, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket})
	s.ok(err)
	defer func() { _ = journald.Close() }()
	const place = "/run/systemd/journal/socket"
	var all []string
	read := make(chan struct{})
	go func() {
		defer close(read)
		b := make([]byte, 64<<10)
		for {
			n, err := journald.Read(b)
			if err != nil {
				return
			}
			all = append(all, "\n"+string(b[:n]))
		}
	}()
	runLogged(s, toJournal(errs, "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && : >"+place+" && mount --bind "+socket+" "+place+" &&"))
	s.ok(journald.SetReadDeadline(time.Now().Add(time.Second))) // everything was sent before the program ended
	<-read
	find := func(of string, want ...string) {
		t.Helper()
		for _, record := range all {
			if !strings.Contains(record, of) {
				continue
			}
			for _, w := range want {
				if !strings.Contains(record, "\n"+w) {
					t.Errorf("%s is missing in%s", w, record)
				}
			}
			if strings.Contains(record, "time=") {
				t.Errorf("the record has a time of its own:%s", record)
			}
			return
		}
		t.Errorf("no record with %q of\n%s", of, all)
	}
	find("Backup → Active", "PRIORITY=4\n", "VRRP_ROUTER=web\n", "VRRP_STATE=Active\n", "VRRP_INTERFACE=eth0\n", "VRRP_VRID=51\n", "VRRP_FAMILY=ipv4\n",
		"VRRP_CAUSE=nobody else heard", "MESSAGE=web: Backup → Active: nobody else heard", "SYSLOG_IDENTIFIER=failoverd\n")
	find("Active → Initialize", "PRIORITY=6\n", "VRRP_STATE=Initialize\n")
	find("running web, from", "PRIORITY=6\n")
	if said, err := os.ReadFile(errs); err != nil || len(said) > 0 {
		t.Errorf("standard error has %q, %v", said, err)
	}
}

// Without the journal's socket the lines on standard error begin with the priority.
func TestLogInJournalWithoutSocket(t *testing.T) {
	s := newSite(t)
	errs := filepath.Join(t.TempDir(), "stderr")
	runLogged(s, toJournal(errs, "mount -t tmpfs none /run &&"))
	said, err := os.ReadFile(errs)
	s.ok(err)
	for _, want := range []string{"<4>web: Backup → Active: nobody else heard", "<6>running web, from "} {
		if !strings.Contains("\n"+string(said), "\n"+want) {
			t.Errorf("%q is missing in\n%s", want, said)
		}
	}
}
