// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/manual"
)

const files = `  /run/failoverd/control.sock   the daemon's control socket: HTTP with JSON. Who is in
                                the group failoverd, if there is one, may ask; only
                                root and the daemon's own user may change something
  /etc/failoverd/failoverd.yaml   the configuration file; see failoverd.yaml(5)`

// manualCommand prints the manual pages, for who packages them.
func manualCommand() *cobra.Command {
	c := &cobra.Command{
		Use:    "man [file]",
		Short:  "Print the manual page of failoverctl, or that of the configuration file",
		Hidden: true,
		Args:   cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return manual.File(c.OutOrStdout(), config.Version())
			}
			return manual.Command(c.OutOrStdout(), c.Root(), manual.Page{
				Section:  1,
				Version:  config.Version(),
				Sections: []manual.Section{{Title: "FILES", Text: files}},
				SeeAlso:  []string{"failoverd(8)", "failoverd.yaml(5)"},
			})
		},
	}
	c.ValidArgs = []string{"file"}
	return c
}
