// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/failoverd/failoverd/cmd/internal/cli"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/manual"
	"github.com/failoverd/failoverd/pkg/migrate"
	"github.com/failoverd/failoverd/pkg/packet"
)

const help = `failoverctl shows the state of a running failoverd, sends commands to it, and checks
configuration files.`

// answerTimeout bounds the wait for the daemon's answer.
const answerTimeout = 30 * time.Second

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// reportedError is an error whose message was printed already.
type reportedError struct{ error }

func exitCode(err error) int {
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, control.ErrNotRunning):
		return exitStopped
	}
	return exitFailure
}

// options are the flags that several commands share.
type options struct {
	socket string
	output string
}

func (o *options) client() *control.Client { return control.NewClient(o.socket) }

func command(stdout, stderr io.Writer) *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:           "failoverctl",
		Short:         "Show the state of failoverd, send commands to it, and check its configuration",
		Long:          help + "\n\n" + manual.ExitHelp(exits),
		Version:       config.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			hint := "see failoverctl --help"
			if meant := c.SuggestionsFor(args[0]); len(meant) > 0 {
				hint = "did you mean " + strings.Join(meant, " or ") + "?"
			}
			return &usageError{fmt.Errorf("there is no command %q: %s", args[0], hint)}
		},
		SuggestionsMinimumDistance: 2,
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.Flags().BoolP("version", "V", false, "print the version of failoverctl; the command version prints that of the running failoverd too")
	root.PersistentFlags().StringVar(&o.socket, "socket", control.DefaultPath, "`path` of the daemon's control socket")
	root.AddCommand(
		statusCommand(&o), isActiveCommand(&o), watchCommand(&o), eventsCommand(&o), statsCommand(&o), reloadCommand(&o), restartCommand(&o), maintenanceCommand(&o), failoverCommand(&o), priorityCommand(&o),
		checkCommand(), importCommand(), schemaCommand(), referenceCommand(), doctorCommand(&o), versionCommand(&o),
	)
	cli.Explain(root, nil, func(err error) error { return &usageError{err} })
	return root
}

// outputFlag adds --output to a command with these formats, of which the first is the
// default. note ends the description of the flag.
func outputFlag(c *cobra.Command, o *options, note string, formats ...string) {
	n := len(formats) - 1
	c.Flags().StringVarP(&o.output, "output", "o", formats[0], "`format` of the output: "+strings.Join(formats[:n], ", ")+" or "+formats[n]+note)
	completeFlag(c, "output", formats...)
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if !slices.Contains(formats, o.output) {
			return &usageError{fmt.Errorf("there is no output format %q: use %s or %s", o.output, strings.Join(formats[:n], ", "), formats[n])}
		}
		return run(c, args)
	}
}

func reloadCommand(o *options) *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "reload",
		Short: "Make failoverd read its configuration again",
		Long: `reload makes failoverd read its configuration file again and prints what changes. If the
file has a mistake, reload shows all mistakes and changes nothing. A router without
changes misses no advertisement. A router with another priority, interval, version,
virtual MAC mode or list of addresses keeps its state. "reload --dry-run" shows a router
that would leave it as restarted.`,
		Example: `  sudo failoverctl reload
  failoverctl reload --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), answerTimeout)
			defer cancel()
			r, err := o.client().Reload(ctx, dry)
			if err != nil {
				return err
			}
			return writeChanges(c.OutOrStdout(), r)
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "print what would change, and change nothing")
	return c
}

func writeChanges(w io.Writer, r control.Reload) error {
	if len(r.Changes) == 0 {
		_, err := fmt.Fprintln(w, "nothing changes")
		return err
	}
	for _, c := range r.Changes {
		if _, err := fmt.Fprintf(w, "%s: %s\n", c.Router, c.What); err != nil {
			return err
		}
		for _, d := range c.Details {
			if _, err := fmt.Fprintf(w, "  %s\n", d); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkCommand() *cobra.Command {
	var id string
	c := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration file",
		Long: `check reads a configuration file and shows each mistake with its place and remedy. For a
file of keepalived it also shows the settings that behave differently in failoverd. It
needs no running failoverd and no privileges. It also warns if an advertisement is longer
than the MTU of its interface. failoverd checks the other conditions of the host when it
starts, and with "failoverctl reload --dry-run".

Exit codes: 0 the file is valid or has only comments, 1 it has mistakes or can't be read.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFiles("yaml", "yml", "json", "conf"),
		RunE: func(c *cobra.Command, args []string) error {
			path := config.DefaultPath
			if len(args) > 0 {
				path = args[0]
			}
			f, findings, err := migrate.Load(path, id)
			if errors.Is(err, config.ErrNothing) {
				_, err = fmt.Fprintln(c.OutOrStdout(), err)
				return err
			}
			var mistakes *config.Mistakes
			if errors.As(err, &mistakes) {
				fmt.Fprintln(c.ErrOrStderr(), mistakes)
				return &reportedError{err}
			}
			if err != nil {
				return err
			}
			const most = 50
			for _, f := range findings[:min(len(findings), most)] {
				fmt.Fprintln(c.OutOrStdout(), f)
			}
			if more := len(findings) - most; more > 0 {
				fmt.Fprintf(c.OutOrStdout(), "and %d more: failoverctl import lists all of them\n", more)
			}
			for _, w := range tooLong(f.Routers) {
				fmt.Fprintln(c.OutOrStdout(), w)
			}
			if all := unfit(f.Routers); len(all) > 0 {
				for _, text := range all[:min(len(all), most)] {
					fmt.Fprintln(c.ErrOrStderr(), text)
				}
				return &reportedError{fmt.Errorf("the kernel has no room for %s", plural(len(all), "router"))}
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is valid: %s on %s\n", path, plural(len(f.Routers), "router"), summarize(f.Interfaces()))
			return err
		},
	}
	c.Flags().StringVar(&id, "config-id", "", "use the lines of a keepalived.conf with @`name` (default: the name of this host)")
	return c
}

// tooLong returns a warning for each advertisement that is longer than the MTU of its
// interface. Interfaces that don't exist yet are ignored.
func tooLong(routers []config.Router) (all []string) {
	for _, r := range routers {
		i, err := net.InterfaceByName(r.Interface)
		if err != nil {
			continue
		}
		for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
			if text, remedy := r.TooLong(f, i.MTU); text != "" {
				all = append(all, "warning: "+text+": "+remedy)
			}
		}
	}
	return all
}

// summarize returns the first names of a list and the number of the others.
func summarize(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// plural returns a number with its noun, which gets an s unless the number is 1.
func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration file",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(config.Schema())
			return err
		},
	}
}

func referenceCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reference",
		Short: "Print a configuration file with every key, its default and its meaning",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(config.Reference)
			return err
		},
	}
}

func versionCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of failoverctl and of the running failoverd",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			w := c.OutOrStdout()
			fmt.Fprintln(w, "failoverctl", config.Version())
			ctx, cancel := context.WithTimeout(c.Context(), answerTimeout)
			defer cancel()
			s, err := o.client().Status(ctx)
			switch {
			case errors.Is(err, control.ErrNotRunning):
				_, err = fmt.Fprintln(w, "failoverd isn't running")
				return err
			case err != nil:
				return err
			}
			_, err = fmt.Fprintf(w, "failoverd %s, process %d\n", s.Version, s.PID)
			return err
		},
	}
}

func isTerminal(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	if !ok {
		return nil, false
	}
	st, err := f.Stat()
	return f, err == nil && st.Mode()&os.ModeCharDevice != 0
}
