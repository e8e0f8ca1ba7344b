// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/doctor"
	"github.com/failoverd/failoverd/pkg/doctor/gather"
)

func doctorCommand(o *options) *cobra.Command {
	var asked gather.Options
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Find the problems that would keep failover from working on this host",
		Long: `doctor checks this host for problems that would keep failover from working, and gives
the remedy for each: the kernel, the interfaces and their settings, the firewall, other
VRRP daemons, other programs that manage addresses, the clock, the hypervisor. It checks
the interfaces of the configuration file, or those of --iface, which need no file. If
failoverd runs, doctor asks it for its problems too. If it is Active, doctor listens to
its advertisements for some seconds.

doctor changes nothing. It lists the checks that it can't do without root.

Exit codes: 0 no problem (there may be warnings), 1 a problem.`,
		Example: `  sudo failoverctl doctor
  sudo failoverctl doctor --iface eth0
  sudo failoverctl doctor -o json |
      jq '.findings[] | select(.level == "problem")'`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			asked.Client, asked.Required = o.client(), c.Flags().Changed("config")
			facts, err := gather.Facts(c.Context(), asked)
			if err != nil {
				return err
			}
			report := doctor.Examine(facts)
			if o.output == "json" {
				err = writeJSON(c.OutOrStdout(), report)
			} else {
				err = writeReport(c.OutOrStdout(), report)
			}
			if err == nil && report.Worst() == doctor.Problem {
				return &reportedError{fmt.Errorf("a problem was found")}
			}
			return err
		},
	}
	c.Flags().StringVar(&asked.Config, "config", config.DefaultPath, "the configuration `file`")
	c.Flags().StringSliceVar(&asked.Interfaces, "iface", nil, "check only this `interface`; may be repeated")
	completeFlagBy(c, "iface", completeInterfaces)
	outputFlag(c, o, "", "table", "json")
	return c
}

// levelTitles are the headings of the findings of each level.
var levelTitles = map[doctor.Level]string{doctor.Problem: "Problems", doctor.Warning: "Warnings", doctor.OK: "OK"}

// writeReport writes the findings under the heading of their level, in lines of at most
// tableWidth columns.
func writeReport(w io.Writer, r doctor.Report) error {
	var b strings.Builder
	count := make(map[doctor.Level]int)
	for _, f := range r.Findings {
		if count[f.Level]++; count[f.Level] == 1 {
			if b.Len() > 0 {
				b.WriteString("\n")
			}
			fmt.Fprintln(&b, levelTitles[f.Level]+":")
		}
		head := f.Check
		if f.Interface != "" {
			head = f.Interface + " " + head
		}
		wrap(&b, tableWidth, "  ", "    ", head+": "+f.Cause)
		if f.Remedy != "" {
			wrap(&b, tableWidth, "    -> ", "       ", f.Remedy)
		}
		for _, command := range f.Commands {
			fmt.Fprintln(&b, "         "+command) // in one line, so that it can be copied
		}
	}
	if len(r.Unchecked) > 0 {
		fmt.Fprintln(&b, "\nNot checked:")
		for _, u := range r.Unchecked {
			wrap(&b, tableWidth, "  ", "    ", u.Check+": "+u.Why)
		}
	}
	fmt.Fprintf(&b, "\n%s, %s, %d OK\n", plural(count[doctor.Problem], "problem"), plural(count[doctor.Warning], "warning"), count[doctor.OK])
	_, err := io.WriteString(w, b.String())
	return err
}

// wrap writes a text in lines of at most width columns. The first line begins with first,
// the others with next.
func wrap(b *strings.Builder, width int, first, next, text string) {
	for line := range strings.SplitSeq(fold(text, width-len(next)), "\n") {
		fmt.Fprintln(b, first+line)
		first = next
	}
}

// fold breaks a text at spaces into lines of at most width columns.
func fold(text string, width int) string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines = append(lines, line)
			line = word
			continue
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return strings.Join(append(lines, line), "\n")
}
