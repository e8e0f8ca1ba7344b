// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/sirupsen/logrus"
)

// journalFields are the journal's fields by those of the log that they have the values of.
// manual.go tells of them.
var journalFields = map[string]string{
	"router":    "VRRP_ROUTER",
	"interface": "VRRP_INTERFACE",
	"vrid":      "VRRP_VRID",
	"family":    "VRRP_FAMILY",
	"to":        "VRRP_STATE",
	"cause":     "VRRP_CAUSE",
	"peer":      "VRRP_PEER",
	"problem":   "VRRP_PROBLEM",
}

// journalFormatter sends each entry of the log to systemd's journal, as a record with
// fields, and leaves nothing to be written. The journal adds the time. If it doesn't take a
// record, standard error gets a line with the priority before it. This is no hook, because
// another hook adds the router's name.
type journalFormatter struct{ lines *logWriter }

// Format is part of logrus.Formatter.
func (f *journalFormatter) Format(e *logrus.Entry) ([]byte, error) {
	said := tell(e)
	text := said.text
	if said.states != "" {
		text = said.states + ": " + text
	}
	if said.subject != "" {
		text = said.subject + ": " + text
	}
	fields := map[string]string{"SYSLOG_IDENTIFIER": "failoverd"}
	for field, name := range journalFields {
		if v := fmt.Sprint(e.Data[field]); e.Data[field] != nil && v != "" {
			fields[name] = v
		}
	}
	at := priority(e.Level)
	f.lines.put(func(out io.Writer) {
		if err := journal.Send(text, at, fields); err != nil {
			_, _ = io.WriteString(out, prefixed(at, text)+"\n") // there is nowhere to say that it failed
		}
	})
	return nil, nil
}

// prefixed puts the priority before each line, as sd-daemon(3) describes it.
func prefixed(p journal.Priority, text string) string {
	prefix := fmt.Sprintf("<%d>", p)
	return prefix + strings.ReplaceAll(text, "\n", "\n"+prefix)
}

func priority(l logrus.Level) journal.Priority {
	switch l {
	case logrus.DebugLevel, logrus.TraceLevel:
		return journal.PriDebug
	case logrus.InfoLevel:
		return journal.PriInfo
	case logrus.WarnLevel:
		return journal.PriWarning
	}
	return journal.PriErr
}
