// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// completionTimeout bounds the wait for the daemon while a shell waits.
const completionTimeout = 2 * time.Second

// completeNames completes the names of routers that aren't among the arguments yet.
// Without a running failoverd there are none.
func completeNames(o *options) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), completionTimeout)
		defer cancel()
		s, err := o.client().Status(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		given := slices.Clone(args)
		var names []cobra.Completion
		for _, r := range s.Routers { // a router with both families is listed twice
			if !slices.Contains(given, r.Name) {
				given = append(given, r.Name)
				names = append(names, cobra.CompletionWithDesc(r.Name, "VRID "+strconv.Itoa(r.VRID)+" on "+r.Interface))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFirst completes the first argument with f, and the second one with these words.
func completeFirst(f cobra.CompletionFunc, second ...cobra.Completion) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return f(c, args, word)
		case 1:
			return second, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeMaintenance completes on or off, and then the name of a router.
func completeMaintenance(o *options) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		switch len(args) {
		case 0:
			return []cobra.Completion{"on", "off"}, cobra.ShellCompDirectiveNoFileComp
		case 1:
			return completeNames(o)(c, nil, word)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeInterfaces completes the names of the host's interfaces.
func completeInterfaces(_ *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []cobra.Completion
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback == 0 {
			names = append(names, i.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeFiles completes files with these extensions.
func completeFiles(extensions ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return extensions, cobra.ShellCompDirectiveFilterFileExt
	}
}

// completeFlag completes the values of a flag.
func completeFlag(c *cobra.Command, name string, words ...string) {
	completeFlagBy(c, name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

func completeFlagBy(c *cobra.Command, name string, f cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(name, f); err != nil {
		panic(err) // no such flag
	}
}
