// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/failoverd/failoverd/pkg/observe"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// screen shows the virtual routers: as a table on a terminal, otherwise as a line for each
// change.
type screen struct {
	out        io.Writer
	terminal   bool
	height     func() int // of the terminal, in lines
	interfaces string
	room       *observe.LogBudget
	shown      map[shownKey]string // the last line of each row
	begin      int                 // the row to begin with, because there was no room for it
	summedAt   time.Time
}

// shownKey identifies a row.
type shownKey struct {
	key             packet.Key
	active, version string
}

// maxRows is the maximum number of rows of a table.
const maxRows = 200

func newScreen(out io.Writer) *screen {
	f, ok := out.(*os.File)
	return &screen{
		out: out, terminal: ok && term.IsTerminal(int(f.Fd())), room: observe.NewLogBudget(), shown: make(map[shownKey]string), summedAt: time.Now(),
		height: func() int {
			if _, lines, err := term.GetSize(int(f.Fd())); err == nil {
				return lines
			}
			return maxRows
		},
	}
}

func (s *screen) start(interfaces []string) error {
	s.interfaces = strings.Join(interfaces, ", ")
	_, err := fmt.Fprintf(s.out, "Listening for VRRP on %s, sending nothing. Ctrl-C stops it.\n", s.interfaces)
	return err
}

func (s *screen) show(h *heard, now vrrp.Instant) error {
	rows := h.rows(now)
	if s.terminal {
		return s.draw(h, rows)
	}
	begin := s.begin
	s.begin = 0
	current := make(map[shownKey]bool, len(rows))
	for n := range rows {
		place := (begin + n) % len(rows)
		r := &rows[place]
		key := shownKey{r.key, r.Active, r.Version}
		current[key] = true
		line := r.line()
		before, known := s.shown[key]
		if known && before == line {
			continue
		}
		if !known && r.Command != "" {
			line += "\n             to back it up: " + r.Command
		}
		if !s.room.Take(time.Now(), len(line), r.kept()) {
			s.begin = place
			continue
		}
		s.shown[key] = r.line()
		if _, err := fmt.Fprintf(s.out, "%s %s\n", time.Now().Format("15:04:05.000"), line); err != nil {
			return err
		}
	}
	maps.DeleteFunc(s.shown, func(k shownKey, _ string) bool { return !current[k] })
	return s.sumUp(h)
}

// kept returns the room that a row must leave for others. Routers that are sure may use all
// of it.
func (r *row) kept() int {
	if r.sure {
		return 0
	}
	return observe.FindingsReserve
}

// sumUp writes, once per observe.RepeatInterval, how many advertisements aren't shown.
func (s *screen) sumUp(h *heard) error {
	if time.Since(s.summedAt) < observe.RepeatInterval {
		return nil
	}
	s.summedAt = time.Now()
	text := unshown(h)
	if text == "" {
		return nil
	}
	s.room.Spend(time.Now(), len(text))
	_, err := fmt.Fprintf(s.out, "%s %s\n", time.Now().Format("15:04:05.000"), text)
	return err
}

// unshown returns a text about the senders that aren't shown, if there are any.
func unshown(h *heard) string {
	count, routers := h.unshown()
	if count == 0 {
		return ""
	}
	return fmt.Sprintf("%d advertisements for %d virtual routers aren't shown: there are too many senders, so only those that advertise repeatedly are shown", count, routers)
}

// line returns a row without the values that change with each advertisement.
func (r row) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s VRID %s %s", r.Interface, r.VRID, r.Family)
	if r.Version != "" {
		fmt.Fprintf(&b, " version %s: Active %s, priority %s, every %s, addresses %s", r.Version, r.Active, r.Priority, r.Interval, cmp.Or(r.Addresses, "none"))
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
func (s *screen) draw(h *heard, rows []row) error {
	const around = 8 // lines that aren't rows
	most := min(max(s.height()-around, 1), maxRows)
	var b strings.Builder
	b.WriteString("\033[H\033[2J")
	fmt.Fprintf(&b, "Virtual routers heard on %s at %s. failoverd sends nothing. Ctrl-C stops it.\n\n", s.interfaces, time.Now().Format("15:04:05"))
	rows, more := surest(rows, most)
	b.WriteString(table(rows) + more)
	if text := unshown(h); text != "" {
		b.WriteString(text + "\n")
	}
	for n, line := range commands(rows) {
		if n > 0 && n > most-len(rows) {
			break // the others don't fit
		}
		b.WriteString(line)
	}
	_, err := io.WriteString(s.out, b.String())
	return err
}

// surest returns at most this many rows, and a line with the number of the others. It
// prefers sure routers, and of each Virtual Router those that have been sure for longest.
func surest(rows []row, most int) ([]row, string) {
	if len(rows) <= most {
		return rows, ""
	}
	order := slices.Clone(rows)
	slices.SortStableFunc(order, func(a, b row) int {
		return cmp.Or(cmp.Compare(number(b.sure), number(a.sure)), cmp.Compare(a.rank, b.rank))
	})
	order = order[:most]
	slices.SortFunc(order, compareRows)
	return order, fmt.Sprintf("and %d more\n", len(rows)-most)
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

func table(rows []row) string {
	if len(rows) == 0 {
		return "None yet. Most Active routers advertise once a second or more often.\n"
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
	_ = w.Flush() // a strings.Builder returns no errors
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

// end writes a last table if only lines were written before.
func (s *screen) end(h *heard) error {
	if s.terminal {
		_, err := fmt.Fprintln(s.out)
		return err
	}
	rows, more := surest(h.rows(process.Clock{}.Now()), maxRows)
	_, err := fmt.Fprint(s.out, "\n", table(rows), more)
	return err
}
