// SPDX-License-Identifier: Apache-2.0

// Package cli is shared by the command lines of failoverd and failoverctl: the way that
// their help shows flags, and the errors for a wrong command line.
package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/failoverd/failoverd/pkg/config"
)

// Explain makes a program and its subcommands answer a wrong command line with the mistake
// and the remedy. instead has the remedies for flags of other programs. wrap turns an error
// into the program's own type. Explain must be called after all commands and flags are
// added.
func Explain(root *cobra.Command, instead map[string]string, wrap func(error) error) {
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return wrap(fmt.Errorf("%s; see %s --help", flagText(c, err, instead), c.CommandPath()))
	})
	for _, c := range root.Commands() {
		check := c.Args
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return wrap(fmt.Errorf("%s; see %s --help", argsText(c, args, err), c.CommandPath()))
			}
			return nil
		}
	}
	for _, c := range append(root.Commands(), root) {
		c.InitDefaultHelpFlag()
		c.Flags().VisitAll(plain)
		c.PersistentFlags().VisitAll(plain)
	}
}

// plainFlag is a boolean flag whose help text omits [=true|false].
type plainFlag struct{ pflag.Value }

func plain(f *pflag.Flag) {
	if f.Value.Type() == "bool" && f.DefValue == "false" {
		f.Value = plainFlag{f.Value}
	}
}

// flagText describes a wrong flag or value, and the remedy.
func flagText(c *cobra.Command, err error, instead map[string]string) string {
	var unknown *pflag.NotExistError
	var valueless *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		return unknownText(c, unknown, instead)
	case errors.As(err, &valueless):
		name, _ := pflag.UnquoteUsage(valueless.GetFlag())
		return fmt.Sprintf("--%s needs a value: --%[1]s %s", valueless.GetFlag().Name, strings.ToUpper(name))
	case errors.As(err, &invalid):
		text := fmt.Sprintf("--%s %q", invalid.GetFlag().Name, invalid.GetValue())
		switch invalid.GetFlag().Value.Type() {
		case "int":
			return text + " is not a whole number"
		case "duration":
			return text + " is not a duration: write it like 1s or 100ms"
		case "bool":
			return text + " is neither true nor false"
		}
		return text + ": " + invalid.Unwrap().Error()
	}
	return err.Error()
}

func unknownText(c *cobra.Command, err *pflag.NotExistError, instead map[string]string) string {
	name, given := err.GetSpecifiedName(), "--"+err.GetSpecifiedName()
	if letters := err.GetSpecifiedShortnames(); letters != "" {
		given = "-" + name
		if len(letters) > 1 {
			name, given = letters, "-"+letters // a long flag with one hyphen instead of two
		}
		if f := c.Flags().ShorthandLookup(strings.ToUpper(name[:1])); len(letters) == 1 && f != nil {
			return fmt.Sprintf("there is no flag %s: did you mean -%s?", given, f.Shorthand)
		}
	}
	text := "there is no flag " + given
	if remedy := instead[name]; remedy != "" {
		return text + ": " + remedy
	}
	if meant := similar(name, c.Flags()); len(meant) > 0 {
		return text + ": did you mean --" + strings.Join(meant, " or --") + "?"
	}
	return text
}

// similar returns the flags that the user probably meant.
func similar(name string, flags *pflag.FlagSet) (meant []string) {
	var all []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		all = append(all, f.Name)
		if len(name) > 1 && strings.HasPrefix(f.Name, name) {
			meant = append(meant, f.Name)
		}
	})
	if near := config.Nearest(name, all); near != "" && len(meant) == 0 {
		meant = append(meant, near)
	}
	return meant
}

// argsText names the missing arguments or the first unexpected one. It takes the expected
// arguments from the command's usage line.
func argsText(c *cobra.Command, args []string, err error) string {
	var words, needed []string
	for _, w := range strings.Fields(c.Use)[1:] {
		words = append(words, w)
		if !strings.HasPrefix(w, "[") {
			needed = append(needed, w)
		}
	}
	form := strings.Join(append([]string{c.CommandPath()}, words...), " ")
	switch {
	case len(args) < len(needed):
		missing := needed[len(args):]
		is := " is"
		if len(missing) > 1 {
			is = " are"
		}
		return strings.Join(missing, " and ") + is + " missing: the form is " + form
	case len(args) > len(words) && !strings.Contains(c.Use, "..."):
		return fmt.Sprintf("unexpected argument %q: the form is %s", args[len(words)], form)
	}
	return err.Error()
}

// ControlCommands returns the commands of failoverctl.
func ControlCommands() []string {
	return []string{
		"status", "watch", "events", "stats", "reload", "restart", "maintenance", "failover", "priority", "is-active",
		"check", "import", "schema", "reference", "doctor",
	}
}
