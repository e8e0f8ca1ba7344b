// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"strings"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/plan"
)

// describe returns a change as one line of text.
func describe(c control.Change) string {
	if len(c.Details) == 0 {
		return c.What
	}
	return c.What + ": " + strings.Join(c.Details, ", ")
}

// difference returns the changes between two lists of routers.
func difference(before, after []config.Router) []control.Change {
	all := []control.Change{}
	for _, c := range plan.Changes(before, after) {
		all = append(all, control.Change(c))
	}
	return all
}

// secretDifference adds the routers whose secrets have changed although their files or
// credentials have the same names. The secrets themselves are never part of the text.
func secretDifference(changes []control.Change, before, after []*plan.ConfiguredRouter) []control.Change {
	for _, b := range after {
		for _, a := range before {
			if a.Name != b.Name || a.Authentication.String() != b.Authentication.String() {
				continue
			}
			details := auth.Difference(&a.Auth, &b.Auth)
			for i := range details {
				details[i] = "authentication: " + details[i]
			}
			changes = addDetails(changes, b.Name, details)
		}
	}
	return changes
}

func addDetails(changes []control.Change, name string, details []string) []control.Change {
	if len(details) == 0 {
		return changes
	}
	for i := range changes {
		if changes[i].Router == name && changes[i].What != "removed" && changes[i].What != "added" {
			changes[i].Details = append(changes[i].Details, details...)
			return changes
		}
	}
	return append(changes, control.Change{Router: name, What: "changed", Details: details})
}
