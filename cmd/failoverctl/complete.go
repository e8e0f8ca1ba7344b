// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// completeTime is how long the daemon may take when a shell waits.
const completeTime = 2 * time.Second

// completeNames has a shell complete the names of the routers that aren't given
// yet. Without a running failoverd there are none.
func completeNames(o *options) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), completeTime)
		defer cancel()
		s, err := o.client().Status(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		given := slices.Clone(args)
		var names []cobra.Completion
		for _, r := range s.Routers { // one of both families is there twice
			if !slices.Contains(given, r.Name) {
				given = append(given, r.Name)
				names = append(names, cobra.CompletionWithDesc(r.Name, "VRID "+strconv.Itoa(r.VRID)+" on "+r.Interface))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFiles has it complete the files of these kinds.
func completeFiles(extensions ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return extensions, cobra.ShellCompDirectiveFilterFileExt
	}
}

// completeFlag has it complete a flag's words.
func completeFlag(c *cobra.Command, name string, words ...string) {
	if err := c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // no such flag
	}
}
