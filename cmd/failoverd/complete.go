// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/failoverd/failoverd/pkg/config"
)

// complete registers the completions of flag values: the words of the key with the same
// name in the configuration file, and the interfaces of the host.
func complete(c *cobra.Command) error {
	var err error
	register := func(name string, f cobra.CompletionFunc) {
		if err == nil {
			err = c.RegisterFlagCompletionFunc(name, f)
		}
	}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if words := config.Words(strings.ReplaceAll(f.Name, "-", "_")); words != nil {
			register(f.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
		}
	})
	register("iface", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var names []cobra.Completion
		all, err := net.Interfaces()
		for _, i := range all {
			names = append(names, i.Name)
		}
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	return err
}
