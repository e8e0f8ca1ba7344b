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
		Short: "Look for what would keep failover from working on this host",
		Long: `doctor looks at this host for what would keep failover from working, and says of each
thing what to do: the kernel, the interfaces and their settings, the firewall, other
VRRP daemons, what else looks after addresses, the clock, the hypervisor. It looks at
the interfaces of the configuration file, or at those of --iface, which need no file.
If failoverd runs, it is asked as well, and listened to for some seconds while it is
Active.

It changes nothing. Without root some things can't be looked at, and it says which.

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
				return &saidError{fmt.Errorf("a problem was found")}
			}
			return err
		},
	}
	c.Flags().StringVar(&asked.Config, "config", config.DefaultPath, "the configuration `file`")
	c.Flags().StringSliceVar(&asked.Interfaces, "iface", nil, "look only at this `interface`; may be repeated")
	completeFlagBy(c, "iface", completeInterfaces)
	outputFlag(c, o, "", "table", "json")
	return c
}

// reportHeads are above the findings of each level.
var reportHeads = map[doctor.Level]string{doctor.Problem: "Problems", doctor.Warning: "Warnings", doctor.OK: "As it should be"}

// writeReport writes the findings by their level, within the width of a table.
func writeReport(w io.Writer, r doctor.Report) error {
	var b strings.Builder
	count := make(map[doctor.Level]int)
	for _, f := range r.Findings {
		if count[f.Level]++; count[f.Level] == 1 {
			if b.Len() > 0 {
				b.WriteString("\n")
			}
			fmt.Fprintln(&b, reportHeads[f.Level]+":")
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
			fmt.Fprintln(&b, "         "+command) // whole, to be copied
		}
	}
	if len(r.Unchecked) > 0 {
		fmt.Fprintln(&b, "\nCouldn't be looked at:")
		for _, u := range r.Unchecked {
			wrap(&b, tableWidth, "  ", "    ", u.Check+": "+u.Why)
		}
	}
	fmt.Fprintf(&b, "\n%s, %s, %d as it should be\n", several(count[doctor.Problem], "problem"), several(count[doctor.Warning], "warning"), count[doctor.OK])
	_, err := io.WriteString(w, b.String())
	return err
}

// wrap writes a text in lines that fit a width, the first one behind first and the others
// behind next.
func wrap(b *strings.Builder, width int, first, next, text string) {
	for line := range strings.SplitSeq(fold(text, width-len(next)), "\n") {
		fmt.Fprintln(b, first+line)
		first = next
	}
}

// fold breaks a text at spaces into lines of a width.
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
