// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/failoverd/failoverd/pkg/control"
)

func isActiveCommand(o *options) *cobra.Command {
	var quiet bool
	c := &cobra.Command{
		Use:   "is-active ROUTER",
		Short: "Show by the exit code whether this host is Active for a router",
		Long: `is-active prints the state of a router, and exits with 0 if the state is Active. A router
with IPv4 and IPv6 addresses counts as Active if it is Active for both.

Exit codes: 0 the router is Active, 1 it isn't Active or doesn't exist,
3 failoverd isn't running.`,
		Example: `  failoverctl is-active web
  failoverctl is-active -q web && /usr/local/bin/nightly-job`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFirst(completeNames(o)),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := ask(c.Context(), o)
			if err != nil {
				return err
			}
			routers, err := named(s.Routers, args, func(r control.Router) string { return r.Name })
			if err != nil {
				return err
			}
			i := slices.IndexFunc(routers, func(r control.Router) bool { return r.State != "Active" })
			state := "Active"
			if i >= 0 {
				state = routers[i].State
			}
			if !quiet {
				if _, err := fmt.Fprintln(c.OutOrStdout(), state); err != nil {
					return err
				}
			}
			if i >= 0 {
				return &reportedError{errors.New("the router isn't Active")}
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return c
}
