// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/manual"
)

// The generated regions of the page match the code.
func TestManual(t *testing.T) {
	root := command(io.Discard, io.Discard)
	root.InitDefaultCompletionCmd()
	var problems []manual.Term
	for _, kind := range control.ProblemKinds() {
		problems = append(problems, manual.Term{Name: kind, Meaning: control.ProblemMeaning(kind)})
	}
	err := manual.Sync("../../pkg/manual/failoverctl.8.md", *update, map[string]string{
		"options":  manual.Flags(root.PersistentFlags()),
		"commands": manual.Commands(root),
		"exits":    manual.Exits(exits),
		"problems": manual.Terms(problems),
	})
	if err != nil {
		t.Error(err)
	}
	examplesFit(t, root)
}

// examplesFit checks that examples fit the 80 columns of a page.
func examplesFit(t *testing.T, c *cobra.Command) {
	for l := range strings.Lines(c.Example) {
		if len(l) > 72 {
			t.Errorf("an example of %s doesn't fit the 80 columns of its page: %s", c.Name(), l)
		}
	}
	for _, sub := range c.Commands() {
		examplesFit(t, sub)
	}
}
