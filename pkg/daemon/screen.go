// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// screen shows what is heard: a table on a terminal, otherwise a line for each
// change.
type screen struct {
	out        io.Writer
	terminal   bool
	interfaces string
	shown      map[string]string // what was last written of each row
}

func newScreen(out io.Writer) *screen {
	f, ok := out.(*os.File)
	return &screen{out: out, terminal: ok && term.IsTerminal(int(f.Fd())), shown: make(map[string]string)}
}

func (s *screen) start(interfaces []string) error {
	s.interfaces = strings.Join(interfaces, ", ")
	_, err := fmt.Fprintf(s.out, "Listening for VRRP on %s. Nothing is sent. Ctrl-C ends.\n", s.interfaces)
	return err
}

func (s *screen) show(h *heard, now vrrp.Instant) error {
	rows := h.rows(now)
	if s.terminal {
		return s.draw(rows)
	}
	for _, r := range rows {
		key := fmt.Sprint(r.key, r.Active, r.Version)
		line := r.line()
		if s.shown[key] == line {
			continue
		}
		_, known := s.shown[key]
		s.shown[key] = line
		if _, err := fmt.Fprintf(s.out, "%s %s\n", time.Now().Format("15:04:05.000"), line); err != nil {
			return err
		}
		if !known && r.Command != "" {
			if _, err := fmt.Fprintf(s.out, "             to back it up: %s\n", r.Command); err != nil {
				return err
			}
		}
	}
	return nil
}

// line is the row without what changes all the time.
func (r row) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s VRID %s %s", r.Interface, r.VRID, r.Family)
	if r.Version != "" {
		fmt.Fprintf(&b, " version %s: Active %s, priority %s, every %s, addresses %s", r.Version, r.Active, r.Priority, r.Interval, r.Addresses)
	} else {
		fmt.Fprintf(&b, " from %s", r.Active)
	}
	if r.Checksum != "" {
		fmt.Fprintf(&b, ", checksum %s", r.Checksum)
	}
	if r.Problem != "" {
		fmt.Fprintf(&b, " - %s", r.Problem)
	}
	return b.String()
}

// draw redraws the terminal.
func (s *screen) draw(rows []row) error {
	var b strings.Builder
	b.WriteString("\033[H\033[2J")
	fmt.Fprintf(&b, "Virtual routers heard on %s at %s. Nothing is sent. Ctrl-C ends.\n\n", s.interfaces, time.Now().Format("15:04:05"))
	b.WriteString(table(rows))
	for _, line := range commands(rows) {
		b.WriteString(line)
	}
	_, err := io.WriteString(s.out, b.String())
	return err
}

func table(rows []row) string {
	if len(rows) == 0 {
		return "None so far. An Active router advertises itself once a second or more often.\n"
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "INTERFACE\tVRID\tFAMILY\tVERSION\tACTIVE\tPRIORITY\tINTERVAL\tADDRESSES\tCHECKSUM\tLAST\tPROBLEM")
	dash := func(v string) string {
		if v == "" {
			return "-"
		}
		return v
	}
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join([]string{
			r.Interface, r.VRID, r.Family, dash(r.Version), r.Active, dash(r.Priority), dash(r.Interval),
			dash(r.Addresses), dash(r.Checksum), r.Last, dash(r.Problem),
		}, "\t"))
	}
	_ = w.Flush() // it writes to memory
	return b.String()
}

func commands(rows []row) []string {
	var all []string
	for _, r := range rows {
		if r.Command == "" {
			continue
		}
		if len(all) == 0 {
			all = append(all, "\nTo back one up, run on this host:\n")
		}
		all = append(all, "  "+r.Command+"\n")
	}
	return all
}

// end leaves a last table behind where only lines were written.
func (s *screen) end(h *heard) error {
	if s.terminal {
		_, err := fmt.Fprintln(s.out)
		return err
	}
	_, err := fmt.Fprint(s.out, "\n", table(h.rows(monotonic{}.Now())))
	return err
}
