// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/migrate"
)

// A finding is logged once, even if a reload finds it on another line.
func TestFindingsAreLoggedOnce(t *testing.T) {
	var out bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	var l findingLog
	lines := func(all ...migrate.Finding) int {
		out.Reset()
		l.add(log, "keepalived.conf", all)
		return strings.Count(out.String(), "\n")
	}
	f := migrate.Finding{Path: "keepalived.conf", Line: 7, Directive: "track_bfd", Kind: migrate.Later, Text: "no BFD"}
	if n := lines(f, migrate.Finding{Kind: migrate.Unneeded}); n != 1 {
		t.Errorf("%d lines at first", n)
	}
	f.Line = 8
	if n := lines(f); n != 0 {
		t.Errorf("%d lines the second time", n)
	}
	f.Text = "something new"
	if n := lines(f); n != 1 {
		t.Errorf("%d lines for something new", n)
	}
	var many []migrate.Finding
	for i := range maxLogged + 5 {
		many = append(many, migrate.Finding{Text: fmt.Sprint(i)})
	}
	if n := lines(many...); n != maxLogged+1 || !strings.Contains(out.String(), "and 5 more in keepalived.conf") {
		t.Errorf("%d lines for many", n)
	}
}
