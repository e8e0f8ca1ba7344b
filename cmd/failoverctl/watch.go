// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/failoverd/failoverd/pkg/control"
)

func watchCommand(o *options) *cobra.Command {
	every := time.Second
	c := &cobra.Command{
		Use:   "watch [NAME]...",
		Short: "Show the status again and again, until interrupted",
		Long: `watch shows the status of all routers, or of those that are named, again and again. On a
terminal it takes the whole window, shows first where something is wrong, and waits for
failoverd if it isn't running; q or Ctrl-C leaves. If the output isn't a terminal, it
writes one status after another, and ends when failoverd does.`,
		Example: `  failoverctl watch
  failoverctl watch web --every 200ms`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeNames(o),
		RunE: func(c *cobra.Command, names []string) error {
			w := watcher{options: o, names: names, every: max(every, 100*time.Millisecond)}
			if out, terminal := isTerminal(c.OutOrStdout()); terminal {
				return w.screen(c.Context(), os.Stdin, out)
			}
			return w.plain(c.Context(), c.OutOrStdout())
		},
	}
	c.Flags().DurationVar(&every, "every", every, "`time` between two looks")
	return c
}

// watcher shows the status again and again.
type watcher struct {
	*options
	names []string
	every time.Duration
}

// answer is what the daemon has said.
type answer struct {
	status control.Status
	err    error
}

func (w *watcher) look(ctx context.Context) (a answer) {
	if a.status, a.err = ask(ctx, w.options); a.err == nil {
		a.status.Routers, a.err = named(a.status.Routers, w.names, func(r control.Router) string { return r.Name })
	}
	return a
}

// plain writes one status after another.
func (w *watcher) plain(ctx context.Context, out io.Writer) error {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		a := w.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if a.err != nil {
			return a.err
		}
		if err := writeStatus(out, a.status, table{width: tableWidth}); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// What a terminal is told: to change to the other screen and back, with the cursor hidden
// there, and to go to the first line, or remove what is behind the cursor.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	toTop       = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// screen shows the status on a terminal's other screen until somebody leaves. The terminal
// is as it was after that.
func (w *watcher) screen(ctx context.Context, in, out *os.File) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	signal.Ignore(syscall.SIGTSTP) // the shell would have the other screen
	defer signal.Reset(syscall.SIGTSTP)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)

	first := w.look(ctx)
	if first.err != nil && !errors.Is(first.err, control.ErrNotRunning) {
		return first.err // waiting doesn't help
	}
	keys := make(chan byte)
	if term.IsTerminal(int(in.Fd())) {
		before, raw := term.MakeRaw(int(in.Fd()))
		if raw != nil {
			return fmt.Errorf("have the terminal pass keys on: %w", raw)
		}
		defer func() { err = errors.Join(err, term.Restore(int(in.Fd()), before)) }()
		go read(ctx, in, keys)
	}
	if _, err := io.WriteString(out, enterScreen); err != nil {
		return err
	}
	defer func() {
		_, leaving := io.WriteString(out, leaveScreen)
		err = errors.Join(err, leaving)
	}()

	answers := make(chan answer, 1)
	answers <- first
	var last answer
	for {
		var again <-chan time.Time
		select {
		case <-ctx.Done():
			return nil
		case k := <-keys:
			if leaves(k) {
				return nil
			}
			continue
		case <-resized:
		case last = <-answers:
			again = time.After(w.every)
		}
		if err := w.draw(out, last); err != nil {
			return err
		}
		if again != nil {
			go func() {
				select {
				case <-again:
					answers <- w.look(ctx)
				case <-ctx.Done():
				}
			}()
		}
	}
}

// read reads keys until ctx ends, and at most one after that.
func read(ctx context.Context, in io.Reader, keys chan<- byte) {
	b := make([]byte, 1)
	for {
		if n, err := in.Read(b); n == 0 || err != nil {
			return
		}
		select {
		case keys <- b[0]:
		case <-ctx.Done():
			return
		}
	}
}

// leaves reports whether a key does: q, Ctrl-C or Ctrl-D.
func leaves(key byte) bool { return key == 'q' || key == 'Q' || key == 3 || key == 4 }

// draw shows what the daemon has said, as far as it fits the window.
func (w *watcher) draw(out *os.File, a answer) error {
	columns, rows, err := term.GetSize(int(out.Fd()))
	if err != nil || columns <= 0 || rows <= 0 {
		columns, rows = 80, 24
	}
	lines := page(a, columns, rows)
	var b strings.Builder
	b.WriteString(toTop)
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line + clearLine)
	}
	b.WriteString(clearBelow)
	_, err = io.WriteString(out, b.String())
	return err
}

// page returns the lines for a window. Where something is wrong comes first. If there is no
// room for everything, the lines go first that say why routers are as they should be.
func page(a answer, columns, rows int) []string {
	columns = max(columns, 2)
	var lines []string
	if a.err != nil {
		lines = append([]string{"waiting for failoverd …", ""}, split(fold(a.err.Error(), columns))...)
	} else {
		s := a.status
		slices.SortStableFunc(s.Routers, func(a, b control.Router) int { return cmp.Compare(rank(a), rank(b)) })
		head := []string{heading(s)}
		for _, text := range hostProblems(s) {
			head = append(head, "! "+text)
		}
		head = append(head, "")
		t := table{width: columns}
		lines = slices.Concat(head, split(t.routers(s)))
		if len(lines) > rows {
			t.brief = true
			lines = slices.Concat(head, split(t.routers(s)))
		}
	}
	if len(lines) > rows {
		more := fmt.Sprintf("… and %d more lines: make the window higher, or name routers", len(lines)-rows+1)
		lines = append(lines[:rows-1:rows-1], more)
	}
	for i, line := range lines {
		lines[i] = short(line, columns)
	}
	return lines
}

func split(text string) []string { return strings.Split(strings.TrimRight(text, "\n"), "\n") }

// rank says how soon a router is shown: first one with a problem, then one that takes no
// part although it should.
func rank(r control.Router) int {
	switch {
	case len(r.Problems) > 0 || len(hookWarnings(r, time.Time{}, make(map[string]bool))) > 0:
		return 0
	case r.State == "Initialize" && !r.Maintenance:
		return 1
	}
	return 2
}

// heading sums the status up.
func heading(s control.Status) string {
	count := make(map[string]int)
	problems := len(hostProblems(s))
	for _, r := range s.Routers {
		count[r.State]++
		problems += len(r.Problems)
	}
	text := fmt.Sprintf("failoverd %s  %s  %d Active, %d Backup, %d Initialize, %s", s.Version, s.Now.Local().Format(time.TimeOnly),
		count["Active"], count["Backup"], count["Initialize"], several(problems, "problem"))
	return text + "  (q leaves)"
}
