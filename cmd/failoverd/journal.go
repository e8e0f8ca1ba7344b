// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/sirupsen/logrus"
)

// journalFields maps fields of the log to fields of the journal. failoverd(8) documents the
// latter.
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

// journalFormatter sends each entry of the log to systemd's journal as a record with fields,
// and returns no text. The journal adds the time. If the journal refuses a record, the
// formatter writes a line to standard error, with the priority in front. It isn't a logrus
// hook, because it must run after the hook that adds the router's name.
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
			_, _ = io.WriteString(out, prefixed(at, text)+"\n") // there is no place left to report an error
		}
	})
	return nil, nil
}

// prefixed puts the priority in front of each line, as sd-daemon(3) describes.
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
