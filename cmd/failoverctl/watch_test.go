// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/failoverd/failoverd/pkg/control"
)

// patient bounds each wait of the tests.
const patient = 30 * time.Second

// many is a daemon with many routers. The last one has a problem.
type many struct {
	fake
	routers int
}

func (m many) Status() (control.Status, error) {
	s := control.Status{Version: "1.2.3", Now: now}
	for i := range m.routers {
		s.Routers = append(s.Routers, control.Router{
			Name: fmt.Sprintf("r%d", i), Interface: "eth0", Family: "ipv4", VRID: i + 1, State: "Active", Since: now.Add(-time.Hour), Cause: "the reason of " + fmt.Sprint(i), Priority: 100,
		})
	}
	s.Routers[m.routers-2].State, s.Routers[m.routers-2].Waiting = "Initialize", "there is no interface eth9"
	s.Routers[m.routers-1].Problems = []control.Problem{{Kind: control.Interval, Since: now, Last: now, Text: strings.Repeat("long ", 30), Remedy: "the remedy"}}
	return s, nil
}

// A page fits the window, and routers with problems come first.
func TestPage(t *testing.T) {
	s, _ := many{routers: 62}.Status()
	for _, c := range []struct{ columns, rows int }{{80, 24}, {40, 10}, {200, 500}, {3, 2}, {1, 1}} {
		lines := page(answer{status: s}, c.columns, c.rows)
		if len(lines) > c.rows {
			t.Errorf("%v: %d lines", c, len(lines))
		}
		for _, l := range lines {
			if n := len([]rune(l)); n > max(c.columns, 2) {
				t.Errorf("%v: %d columns: %s", c, n, l)
			}
		}
	}
	text := strings.Join(page(answer{status: s}, 80, 24), "\n")
	problem, waiting, good := strings.Index(text, "r61 "), strings.Index(text, "r60 "), strings.Index(text, "r0 ")
	if problem < 0 || problem > waiting || waiting > good || !strings.Contains(text, "-> the remedy") || strings.Contains(text, "the reason of 0") || !strings.Contains(text, "more lines") {
		t.Error(text)
	}
	text = strings.Join(page(answer{status: s}, 80, 500), "\n")
	if !strings.Contains(text, "the reason of 0") || strings.Contains(text, "more lines") {
		t.Error(text)
	}
}

// terminal is a pseudoterminal: the tests write keys to its master end and read the screen
// there.
type terminal struct {
	t           *testing.T
	master, own *os.File

	mu    sync.Mutex
	shown bytes.Buffer
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	own, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, own: own}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			if err != nil {
				return
			}
			term.mu.Lock()
			term.shown.Write(b[:n])
			term.mu.Unlock()
		}
	}()
	t.Cleanup(func() { _, _ = own.Close(), master.Close() })
	return term
}

func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.shown.String()
}

// wait waits until want is true for the last frame on the screen.
func (x *terminal) wait(what string, want func(frame string) bool) {
	x.t.Helper()
	for end := time.Now().Add(patient); ; time.Sleep(5 * time.Millisecond) {
		frames := strings.Split(x.text(), toTop)
		if len(frames) > 1 && strings.Contains(frames[len(frames)-1], clearBelow) && want(frames[len(frames)-1]) {
			return
		}
		if time.Now().After(end) {
			x.t.Fatalf("no %s:\n%q", what, frames[len(frames)-1])
		}
	}
}

func (x *terminal) resize(columns, rows uint16) {
	x.t.Helper()
	if err := unix.IoctlSetWinsize(int(x.own.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		x.t.Fatal(err)
	}
}

// state returns the settings of the terminal.
func (x *terminal) state() *unix.Termios {
	x.t.Helper()
	state, err := unix.IoctlGetTermios(int(x.own.Fd()), unix.TCGETS)
	if err != nil {
		x.t.Fatal(err)
	}
	return state
}

func has(word string) func(string) bool {
	return func(frame string) bool { return strings.Contains(frame, word) }
}

// watch goes on after a restart of the daemon and after a change of the window's size, and
// restores the terminal however it ends.
func TestWatch(t *testing.T) {
	for name, leave := range map[string]func(x *terminal, cancel func()){
		"q":      func(x *terminal, _ func()) { _, _ = x.master.WriteString("q") },
		"Ctrl-C": func(x *terminal, _ func()) { _, _ = x.master.WriteString("\x03") },
		"SIGTERM": func(_ *terminal, cancel func()) { // main cancels its context on SIGTERM
			cancel()
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTerminal(t)
			x.resize(80, 24)
			before := x.state()
			socket := filepath.Join(t.TempDir(), "s")
			start := func() (stop func()) {
				s, err := control.Listen(socket, many{routers: 62}, control.NewHistory(), nil)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- s.Run(ctx) }()
				return func() { cancel(); <-ended }
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			w := watcher{options: &options{socket: socket}, every: 10 * time.Millisecond}
			go func() { ended <- w.screen(ctx, x.own, x.own) }()
			x.wait("waiting", has("waiting for failoverd"))
			if diff := cmp.Diff(before.Lflag, x.state().Lflag); diff == "" {
				t.Error("keys are echoed")
			}
			stop := start()
			x.wait("status", has("r61"))
			stop()
			x.wait("waiting again", has("waiting for failoverd"))
			stop = start()
			defer stop()
			x.wait("status again", has("r61"))
			leave(x, cancel)
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(patient):
				t.Fatal("watch doesn't quit")
			}
			if diff := cmp.Diff(before, x.state()); diff != "" {
				t.Errorf("the terminal isn't restored (-before +after):\n%s", diff)
			}
			x.wait("end of the screen", func(frame string) bool { return strings.HasSuffix(frame, clearBelow+leaveScreen) })
			if text := x.text(); !strings.HasPrefix(text, enterScreen) || strings.Count(text, leaveScreen) != 1 {
				t.Errorf("%q", text)
			}
		})
	}
}

// After a change of the window's size watch fills the window at once.
func TestWatchResized(t *testing.T) {
	x := newTerminal(t)
	x.resize(80, 24)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	w := watcher{options: &options{socket: serve(t, many{routers: 62})}, every: time.Hour}
	go func() { ended <- w.screen(ctx, x.own, x.own) }()
	for _, rows := range []uint16{24, 12, 40} {
		x.resize(60, rows)
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGWINCH); err != nil {
			t.Fatal(err)
		}
		x.wait(fmt.Sprintf("page of %d lines", rows), func(frame string) bool { return strings.Count(frame, clearLine) == int(rows) })
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// An error that waiting doesn't fix ends watch, which shows no screen then.
func TestWatchRefused(t *testing.T) {
	x := newTerminal(t)
	w := watcher{options: &options{socket: serve(t, fake{})}, names: []string{"nobody"}, every: time.Hour}
	if err := w.screen(t.Context(), x.own, x.own); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Error(err)
	}
	if text := x.text(); text != "" {
		t.Errorf("%q", text)
	}
	if !term.IsTerminal(int(x.own.Fd())) {
		t.Error("a file that isn't a terminal is taken for one")
	}
}
