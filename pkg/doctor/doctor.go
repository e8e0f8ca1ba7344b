// SPDX-License-Identifier: Apache-2.0

// Package doctor judges whether a host lets failover work: it makes findings,
// each with its remedy, of facts about the host. It looks at nothing itself;
// package gather does.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
)

// Level is how bad a finding is.
type Level int

// The levels.
const (
	OK      Level = iota // as it should be, or it doesn't matter
	Warning              // it keeps failover from working under some conditions
	Problem              // it keeps failover from working
)

func (l Level) String() string { return [...]string{"ok", "warning", "problem"}[l] }

// MarshalText makes the level a word.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads the word.
func (l *Level) UnmarshalText(b []byte) error {
	for _, known := range []Level{OK, Warning, Problem} {
		if known.String() == string(b) {
			*l = known
			return nil
		}
	}
	return fmt.Errorf("level %q is not known", b)
}

// Finding is what is found in one regard.
type Finding struct {
	Level     Level  `json:"level"`
	Check     string `json:"check"`               // what was looked at, one of a fixed set of words
	Interface string `json:"interface,omitempty"` // empty: the host
	Cause     string `json:"cause"`
	Remedy    string `json:"remedy,omitempty"` // none if nothing is wrong
	// Commands are the remedy's, for a root shell, if there is one that suits
	// every host.
	Commands []string `json:"commands,omitempty"`
}

// Unchecked is what couldn't be looked at.
type Unchecked struct {
	Check string `json:"check"`
	Why   string `json:"why"`
}

// Report is everything that was found. Version changes when a key changes its
// meaning or goes away.
type Report struct {
	Version   int         `json:"version"`
	Findings  []Finding   `json:"findings"` // the worst first
	Unchecked []Unchecked `json:"unchecked"`
}

// ReportVersion is that of the Report's form.
const ReportVersion = 1

// Worst is the worst level of a report.
func (r Report) Worst() Level {
	worst := OK
	for _, f := range r.Findings {
		worst = max(worst, f.Level)
	}
	return worst
}

// Examine judges the facts.
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

// judge makes findings of facts.
type judge struct {
	*Facts
	findings []Finding
}

// good notes that nothing is wrong.
func (j *judge) good(check, ifname, format string, args ...any) {
	j.findings = append(j.findings, Finding{Level: OK, Check: check, Interface: ifname, Cause: fmt.Sprintf(format, args...)})
}

// bad notes what is wrong, with the remedy and its commands.
func (j *judge) bad(level Level, check, ifname, cause, remedy string, commands ...string) {
	j.findings = append(j.findings, Finding{Level: level, Check: check, Interface: ifname, Cause: cause, Remedy: remedy, Commands: commands})
}
