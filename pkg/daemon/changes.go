// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"strings"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/plan"
)

// describe says what a change is.
func describe(c control.Change) string {
	if len(c.Details) == 0 {
		return c.What
	}
	return c.What + ": " + strings.Join(c.Details, ", ")
}

// difference says what changes from one list of routers to another.
func difference(before, after []config.Router) []control.Change {
	all := []control.Change{}
	for _, c := range plan.Changes(before, after) {
		all = append(all, control.Change(c))
	}
	return all
}

// secretDifference says for which routers of a plan the secrets are others than
// before, though they are in the same place. It doesn't tell them.
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
