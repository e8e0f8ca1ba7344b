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

// screen shows what is heard: a table on a terminal, otherwise a line for each
// change.
type screen struct {
	out        io.Writer
	terminal   bool
	height     func() int // of the terminal, in lines
	interfaces string
	room       *observe.LogBudget
	shown      map[shownKey]string // what was last written of each row
	begin      int                 // with the row that there was no room for
	summedAt   time.Time
}

// shownKey names a row.
type shownKey struct {
	key             packet.Key
	active, version string
}

// tableMost is how many rows a table has at most.
const tableMost = 200

func newScreen(out io.Writer) *screen {
	f, ok := out.(*os.File)
	return &screen{
		out: out, terminal: ok && term.IsTerminal(int(f.Fd())), room: observe.NewLogBudget(), shown: make(map[shownKey]string), summedAt: time.Now(),
		height: func() int {
			if _, lines, err := term.GetSize(int(f.Fd())); err == nil {
				return lines
			}
			return tableMost
		},
	}
}

func (s *screen) start(interfaces []string) error {
	s.interfaces = strings.Join(interfaces, ", ")
	_, err := fmt.Fprintf(s.out, "Listening for VRRP on %s. Nothing is sent. Ctrl-C ends.\n", s.interfaces)
	return err
}

func (s *screen) show(h *heard, now vrrp.Instant) error {
	rows := h.rows(now)
	if s.terminal {
		return s.draw(h, rows)
	}
	begin := s.begin
	s.begin = 0
	there := make(map[shownKey]bool, len(rows))
	for n := range rows {
		place := (begin + n) % len(rows)
		r := &rows[place]
		key := shownKey{r.key, r.Active, r.Version}
		there[key] = true
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
	maps.DeleteFunc(s.shown, func(k shownKey, _ string) bool { return !there[k] })
	return s.sumUp(h)
}

// kept is how much room there must be for others beside a row: those come first that
// are heard again and again.
func (r *row) kept() int {
	if r.sure {
		return 0
	}
	return observe.FindingsReserve
}

// sumUp says once in a while what isn't shown.
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

// unshown says what isn't shown, if there is something.
func unshown(h *heard) string {
	count, routers := h.unshown()
	if count == 0 {
		return ""
	}
	return fmt.Sprintf("%d advertisements for %d virtual routers came from other senders, which are too many: shown are those heard again and again", count, routers)
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
func (s *screen) draw(h *heard, rows []row) error {
	const around = 8 // lines that aren't rows
	most := min(max(s.height()-around, 1), tableMost)
	var b strings.Builder
	b.WriteString("\033[H\033[2J")
	fmt.Fprintf(&b, "Virtual routers heard on %s at %s. Nothing is sent. Ctrl-C ends.\n\n", s.interfaces, time.Now().Format("15:04:05"))
	rows, more := surest(rows, most)
	b.WriteString(table(rows) + more)
	if text := unshown(h); text != "" {
		b.WriteString(text + "\n")
	}
	for n, line := range commands(rows) {
		if n > 0 && n > most-len(rows) {
			break // it doesn't fit
		}
		b.WriteString(line)
	}
	_, err := io.WriteString(s.out, b.String())
	return err
}

// surest returns so many of the rows, of each Virtual Router those first that are heard
// again and again for the longest time, and says how many others there are.
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
	rows, more := surest(h.rows(process.Clock{}.Now()), tableMost)
	_, err := fmt.Fprint(s.out, "\n", table(rows), more)
	return err
}
