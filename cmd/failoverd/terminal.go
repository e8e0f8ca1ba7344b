// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/packet"
)

const (
	// stateWidth is the width of the longest transition.
	stateWidth = len("Initialize > Active")
	// nameWidthMost is the maximum width of the column of names.
	nameWidthMost = 24
)

// The ANSI sequences for colours.
const (
	faint  = "\x1b[2m"
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	normal = "\x1b[0m"
)

// terminalFormatter writes lines for a terminal: the time, the router or the interface, and
// the event.
type terminalFormatter struct {
	colors bool

	mu    sync.Mutex
	width int // of the column of names
}

// fit makes the column of names wide enough for these routers and their interfaces.
func (f *terminalFormatter) fit(routers []config.Router) {
	for _, r := range routers {
		name := r.Name
		if r.Has(packet.IPv6) {
			name += " " + packet.IPv6.String()
		}
		f.pad(name)
		f.pad(r.Interface)
	}
}

// pad returns a name padded to the width of its column, and widens the column if needed.
func (f *terminalFormatter) pad(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := utf8.RuneCountInString(name)
	f.width = min(max(f.width, n), nameWidthMost)
	return name + strings.Repeat(" ", max(f.width-n, 0))
}

// Format is part of logrus.Formatter.
func (f *terminalFormatter) Format(e *logrus.Entry) ([]byte, error) {
	said := tell(e)
	text := said.text
	if said.states != "" {
		text = said.states + strings.Repeat(" ", max(stateWidth-utf8.RuneCountInString(said.states), 0)) + "  " + text
	}
	word, color := "", ""
	switch e.Level {
	case logrus.WarnLevel:
		word, color = "warning: ", yellow
	case logrus.DebugLevel, logrus.TraceLevel:
		color = faint
	case logrus.InfoLevel:
	default:
		word, color = "error: ", red
	}
	if said.states != "" {
		word = "" // a transition is a warning in the log, but no fault of this host
	}
	end := ""
	if !f.colors {
		color = ""
	}
	if color != "" {
		end = normal
	}
	text = strings.ReplaceAll(word+text, "\n", "\n         ")
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s%s  %s%s\n", e.Time.Format("15:04:05"), color, f.pad(said.subject), text, end)
	return b.Bytes(), nil
}

// told is an entry of the log as text.
type told struct {
	subject string // the router or the interface; may be empty
	states  string // of a transition
	text    string
}

// inWords are the fields that the text contains anyway, or that only programs need.
var inWords = map[string]bool{
	"router": true, "interface": true, "vrid": true, "family": true, "from": true, "to": true, "cause": true, logrus.ErrorKey: true,
	"problem": true, "counter": true, "code": true, "ifindex": true, "hook": true, "state": true, "outcome": true, "receive": true,
}

// tell turns an entry into text. It replaces control characters, because parts of the text
// come from hooks and from other hosts.
func tell(e *logrus.Entry) (t told) {
	field := func(name string) string {
		if v, ok := e.Data[name]; ok {
			return fmt.Sprint(v)
		}
		return ""
	}
	if t.subject = field("router"); t.subject == "" {
		t.subject = field("interface")
	}
	if field("family") == packet.IPv6.String() {
		t.subject += " " + packet.IPv6.String()
	}
	if e.Message == "transition" {
		t.states, t.text = field("from")+" → "+field("to"), field("cause")
	} else {
		t.text = e.Message
		if err := field(logrus.ErrorKey); err != "" {
			t.text += ": " + err
		}
	}
	var more []string
	for _, name := range slices.Sorted(maps.Keys(e.Data)) {
		if v := field(name); !inWords[name] && v != "" && !strings.Contains(t.text, v) {
			more = append(more, name+" "+v)
		}
	}
	if len(more) > 0 {
		t.text += " (" + strings.Join(more, ", ") + ")"
	}
	t.subject, t.text = printable(t.subject), printable(t.text)
	return t
}

// printable replaces control characters and others that a terminal could interpret.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return '\ufffd'
	}, s)
}
