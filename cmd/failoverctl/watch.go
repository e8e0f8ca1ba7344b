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
		Short: "Show the status and keep it up to date, until interrupted",
		Long: `watch shows the status of all routers, or of the named ones, and keeps it up to date. On
a terminal it fills the window, shows routers with problems first, and waits for
failoverd if it isn't running. The keys q and Ctrl-C quit. If the output isn't a
terminal, watch writes one status after another, and ends when failoverd stops.`,
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
	c.Flags().DurationVar(&every, "every", every, "`time` between two updates")
	return c
}

// watcher shows the status of some routers at an interval.
type watcher struct {
	*options
	names []string
	every time.Duration
}

// answer is the daemon's status, or the error of asking for it.
type answer struct {
	status control.Status
	err    error
}

func (w *watcher) poll(ctx context.Context) (a answer) {
	if a.status, a.err = ask(ctx, w.options); a.err == nil {
		a.status.Routers, a.err = named(a.status.Routers, w.names, func(r control.Router) string { return r.Name })
	}
	return a
}

// plain writes one status after another until ctx ends.
func (w *watcher) plain(ctx context.Context, out io.Writer) error {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		a := w.poll(ctx)
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

// The control sequences of xterm. The alternate screen keeps what the terminal showed
// before, and watch hides the cursor there.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	toTop       = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// screen shows the status on the terminal's alternate screen until the user quits, and
// restores the terminal then.
func (w *watcher) screen(ctx context.Context, in, out *os.File) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	signal.Ignore(syscall.SIGTSTP) // the shell would run on the alternate screen
	defer signal.Reset(syscall.SIGTSTP)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)

	first := w.poll(ctx)
	if first.err != nil && !errors.Is(first.err, control.ErrNotRunning) {
		return first.err // waiting doesn't fix this one
	}
	keys := make(chan byte)
	if term.IsTerminal(int(in.Fd())) {
		before, raw := term.MakeRaw(int(in.Fd()))
		if raw != nil {
			return fmt.Errorf("set the terminal to raw mode: %w", raw)
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
			if quits(k) {
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
					answers <- w.poll(ctx)
				case <-ctx.Done():
				}
			}()
		}
	}
}

// read sends the keys that it reads until ctx ends. A read that blocks then takes one more
// key.
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

// quits reports whether a key ends watch: q, Ctrl-C or Ctrl-D.
func quits(key byte) bool { return key == 'q' || key == 'Q' || key == 3 || key == 4 }

// draw shows as much of an answer as fits the window.
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

// page returns the lines for a window of this size. Routers with problems come first. If
// not all lines fit, page omits the reasons of routers without a problem, and then cuts
// the end.
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
		more := fmt.Sprintf("… and %d more lines: enlarge the window, or name routers", len(lines)-rows+1)
		lines = append(lines[:rows-1:rows-1], more)
	}
	for i, line := range lines {
		lines[i] = truncate(line, columns)
	}
	return lines
}

func split(text string) []string { return strings.Split(strings.TrimRight(text, "\n"), "\n") }

// rank orders the routers: those with a problem come first, then those in Initialize
// without maintenance.
func rank(r control.Router) int {
	switch {
	case len(r.Problems) > 0 || len(hookWarnings(r, time.Time{}, make(map[string]bool))) > 0:
		return 0
	case r.State == "Initialize" && !r.Maintenance:
		return 1
	}
	return 2
}

// heading returns the first line: the version, the time, and the numbers of routers in each
// state and of problems.
func heading(s control.Status) string {
	count := make(map[string]int)
	problems := len(hostProblems(s))
	for _, r := range s.Routers {
		count[r.State]++
		problems += len(r.Problems)
	}
	text := fmt.Sprintf("failoverd %s  %s  %d Active, %d Backup, %d Initialize, %s", s.Version, s.Now.Local().Format(time.TimeOnly),
		count["Active"], count["Backup"], count["Initialize"], plural(problems, "problem"))
	return text + "  (q quits)"
}
