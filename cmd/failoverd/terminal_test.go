// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/config"
)

var web = logrus.Fields{"router": "web", "interface": "eth0", "vrid": uint8(51), "family": "ipv4"}

func with(more logrus.Fields) logrus.Fields {
	all := logrus.Fields{}
	for _, f := range []logrus.Fields{web, more} {
		for k, v := range f {
			all[k] = v
		}
	}
	return all
}

// The lines for a terminal: the time, the router, the event and its cause, in columns.
func TestTerminalLines(t *testing.T) {
	f := new(terminalFormatter)
	f.fit([]config.Router{
		{Name: "web", Interface: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")}},
		{Name: "db", Interface: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8::10/64")}},
	})
	at := time.Date(2026, 1, 2, 12, 0, 1, 0, time.Local)
	for _, c := range []struct {
		level  logrus.Level
		msg    string
		fields logrus.Fields
		want   string
	}{
		{
			logrus.WarnLevel, "transition", with(logrus.Fields{"from": "Backup", "to": "Active", "cause": "nothing heard from 192.0.2.2 for 3.609s"}),
			"12:00:01 web      Backup → Active      nothing heard from 192.0.2.2 for 3.609s\n",
		},
		{
			logrus.InfoLevel, "transition", with(logrus.Fields{"router": "db", "family": "ipv6", "from": "Initialize", "to": "Backup", "cause": "starting"}),
			"12:00:01 db ipv6  Initialize → Backup  starting\n",
		},
		{logrus.InfoLevel, "running web", nil, "12:00:01          running web\n"},
		{
			logrus.WarnLevel, "it isn't heeded", with(logrus.Fields{"peer": "192.0.2.2", "counter": "ttl_errors", "suppressed": uint64(3)}),
			"12:00:01 web      warning: it isn't heeded (peer 192.0.2.2, suppressed 3)\n",
		},
		{logrus.WarnLevel, "192.0.2.2 isn't heeded", with(logrus.Fields{"peer": "192.0.2.2"}), "12:00:01 web      warning: 192.0.2.2 isn't heeded\n"},
		{
			logrus.ErrorLevel, "not reloaded",
			logrus.Fields{"error": errors.New("x:1:1: unknown key\n  1 | vird")},
			"12:00:01          error: not reloaded: x:1:1: unknown key\n           1 | vird\n",
		},
		{logrus.WarnLevel, "hook \x1b[2J\x07 says", logrus.Fields{"interface": "eth0"}, "12:00:01 eth0     warning: hook \ufffd[2J\ufffd says\n"},
	} {
		got, err := f.Format(&logrus.Entry{Level: c.level, Message: c.msg, Data: c.fields, Time: at})
		if err != nil || string(got) != c.want {
			t.Errorf("%v, it is\n%swant\n%s", err, got, c.want)
		}
	}
	f.colors = true
	for level, color := range map[logrus.Level]string{logrus.ErrorLevel: red, logrus.WarnLevel: yellow, logrus.DebugLevel: faint} {
		got, _ := f.Format(&logrus.Entry{Level: level, Message: "x", Time: at})
		if !strings.HasPrefix(string(got), "12:00:01 "+color) || !strings.HasSuffix(string(got), normal+"\n") {
			t.Errorf("%v: %q", level, got)
		}
	}
	if got, _ := f.Format(&logrus.Entry{Level: logrus.InfoLevel, Message: "x", Time: at}); strings.Contains(string(got), "\x1b") {
		t.Errorf("info is coloured: %q", got)
	}
}

// The manual page explains every field of the journal.
func TestJournalFieldsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../pkg/manual/failoverd.8.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for _, name := range journalFields {
		if !strings.Contains(text, name) {
			t.Errorf("the manual page doesn't explain %s", name)
		}
	}
}
