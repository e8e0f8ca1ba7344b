// SPDX-License-Identifier: Apache-2.0

// Package doctor finds the problems of a host that keep failover from working. It turns
// facts about the host into findings with remedies. Package gather collects the facts.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
)

// Level is the severity of a finding.
type Level int

// The levels.
const (
	OK      Level = iota // correct, or without effect
	Warning              // keeps failover from working under some conditions
	Problem              // keeps failover from working
)

func (l Level) String() string { return [...]string{"ok", "warning", "problem"}[l] }

// MarshalText is part of encoding.TextMarshaler.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText is part of encoding.TextUnmarshaler.
func (l *Level) UnmarshalText(b []byte) error {
	for _, known := range []Level{OK, Warning, Problem} {
		if known.String() == string(b) {
			*l = known
			return nil
		}
	}
	return fmt.Errorf("level %q is not known", b)
}

// Finding is the result of one check.
type Finding struct {
	Level     Level  `json:"level"`
	Check     string `json:"check"`               // the subject, one of a fixed set of words
	Interface string `json:"interface,omitempty"` // empty for a finding about the whole host
	Cause     string `json:"cause"`
	Remedy    string `json:"remedy,omitempty"` // empty at level OK
	// Commands carry the remedy out in a root shell. They are empty if no commands suit
	// every host.
	Commands []string `json:"commands,omitempty"`
}

// Unchecked is a check that wasn't possible.
type Unchecked struct {
	Check string `json:"check"`
	Why   string `json:"why"`
}

// Report has all findings. Version changes when a key changes its meaning or is removed.
type Report struct {
	Version   int         `json:"version"`
	Findings  []Finding   `json:"findings"` // the worst first
	Unchecked []Unchecked `json:"unchecked"`
}

// ReportVersion is the version of the format of a Report.
const ReportVersion = 1

// Worst returns the worst level of a report.
func (r Report) Worst() Level {
	worst := OK
	for _, f := range r.Findings {
		worst = max(worst, f.Level)
	}
	return worst
}

// Examine returns the findings for these facts.
func Examine(f *Facts) Report {
	j := &judge{Facts: f}
	j.configuration()
	j.kernel()
	j.clock()
	j.realtime()
	j.hypervisor()
	j.daemons()
	for n := range f.Interfaces {
		i := &f.Interfaces[n]
		j.presence(i)
		if !i.Present {
			continue
		}
		j.device(i)
		j.reception(i)
		j.addresses(i)
		j.settings(i)
		j.multicast(i)
		j.managers(i)
		j.firewall(i)
	}
	j.running()
	slices.SortStableFunc(j.findings, func(a, b Finding) int { return cmp.Compare(b.Level, a.Level) })
	r := Report{Version: ReportVersion, Findings: j.findings, Unchecked: f.Unchecked}
	if r.Unchecked == nil {
		r.Unchecked = []Unchecked{}
	}
	return r
}

// judge turns facts into findings.
type judge struct {
	*Facts
	findings []Finding
}

// good adds a finding of level OK.
func (j *judge) good(check, ifname, format string, args ...any) {
	j.findings = append(j.findings, Finding{Level: OK, Check: check, Interface: ifname, Cause: fmt.Sprintf(format, args...)})
}

// bad adds a finding with its cause and remedy, and the commands of the remedy.
func (j *judge) bad(level Level, check, ifname, cause, remedy string, commands ...string) {
	j.findings = append(j.findings, Finding{Level: level, Check: check, Interface: ifname, Cause: cause, Remedy: remedy, Commands: commands})
}
