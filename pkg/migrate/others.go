// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// OtherError is the error for the file of a program whose configuration import
// recognises and can't translate.
type OtherError struct {
	Path    string
	Line    int // the first line that shows the program
	Program string
	Way     string   // the way from that program to failoverd
	Lines   []string // the lines about VRRP with their numbers, without secrets
}

func (e *OtherError) Error() string {
	return fmt.Sprintf("%s:%d: it is %s's configuration, which import doesn't translate. %s", e.Path, e.Line, e.Program, e.Way)
}

// others are the programs, with a line that only their files have and a function that
// returns the indices of the lines about VRRP.
var others = []struct {
	name  string
	looks func() *regexp.Regexp
	lines func(lines []string) []int
	way   string
}{
	{
		"FRR", pattern(`^\s*(frr (version|defaults) \S|vrrp ([1-9][0-9]{0,2}( |$)|default \S|autoconfigure))`), linesOfFRR,
		"Write a router for each `vrrp VRID` of an interface: failoverd-migrate(7) has the key for each line. Or begin with what is on the link: failoverd --iface INTERFACE shows it, and prints the command that would back it up",
	},
	{
		"VyOS", pattern(`^\s*(set (high-availability|interfaces|system) \S|high-availability \{|// vyos-config-version)`), linesOfVyOS,
		"VyOS makes keepalived's configuration of it, which import translates on the VyOS host: failoverctl import /run/keepalived/keepalived.conf",
	},
}

// recognise returns an *OtherError for the file of another program.
func recognise(path string, content []byte) error {
	lines := strings.Split(string(content), "\n")
	for _, o := range others {
		i := slices.IndexFunc(lines, o.looks().MatchString)
		if i < 0 {
			continue
		}
		err := &OtherError{Path: path, Line: i + 1, Program: o.name, Way: o.way}
		for _, n := range o.lines(lines) {
			err.Lines = append(err.Lines, fmt.Sprintf("%d: %s", n+1, clean(cutTo(strings.TrimSpace(lines[n]), 120))))
		}
		return err
	}
	return nil
}

// linesOfFRR returns the lines that begin with vrrp, and the lines of their interfaces.
func linesOfFRR(lines []string) (all []int) {
	iface := -1
	for i, line := range lines {
		switch words := strings.Fields(line); {
		case len(words) > 1 && words[0] == "interface":
			iface = i
		case len(words) > 1 && words[0] == "vrrp":
			if iface >= 0 {
				all = append(all, iface)
			}
			iface = -1
			all = append(all, i)
		}
	}
	return all
}

// linesOfVyOS returns the lines about high availability, of both forms of the file,
// without those that may have a password.
func linesOfVyOS(lines []string) (all []int) {
	depth := 0 // of the blocks within high-availability, 0: outside
	for i, line := range lines {
		s := strings.TrimSpace(line)
		switch {
		case strings.Contains(s, "password"):
			continue
		case strings.HasPrefix(s, "set high-availability "):
			all = append(all, i)
		case depth == 0 && s == "high-availability {":
			depth = 1
		case depth > 0 && s == "}":
			depth--
		case depth > 0:
			if strings.HasSuffix(s, "{") {
				depth++
			}
			all = append(all, i)
		}
	}
	return all
}
