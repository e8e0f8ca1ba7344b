// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
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

const help = `failoverctl asks a running failoverd what it does, has it read its configuration
again, and checks configuration files.`

// askTime is how long the daemon may take to answer.
const askTime = 30 * time.Second

// usageError is an error in the command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// saidError has been told already.
type saidError struct{ error }

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

// options are what several commands have.
type options struct {
	socket string
	output string
}

func (o *options) client() *control.Client { return control.NewClient(o.socket) }

func command(stdout, stderr io.Writer) *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:           "failoverctl",
		Short:         "Ask failoverd what it does, and check its configuration",
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
	root.Flags().BoolP("version", "V", false, "print the version of failoverctl; the command version asks the running failoverd for its own too")
	root.PersistentFlags().StringVar(&o.socket, "socket", control.DefaultPath, "the daemon's control socket, a `path`")
	root.AddCommand(
		statusCommand(&o), isActiveCommand(&o), watchCommand(&o), eventsCommand(&o), statsCommand(&o), reloadCommand(&o), maintenanceCommand(&o), handOverCommand(&o), priorityCommand(&o),
		checkCommand(), importCommand(), schemaCommand(), referenceCommand(), doctorCommand(&o), versionCommand(&o),
	)
	cli.Explain(root, nil, func(err error) error { return &usageError{err} })
	return root
}

// outputFlag adds --output. The forms are the command's; note is about them.
func outputFlag(c *cobra.Command, o *options, note string, forms ...string) {
	n := len(forms) - 1
	c.Flags().StringVarP(&o.output, "output", "o", forms[0], "`form` of the output: "+strings.Join(forms[:n], ", ")+" or "+forms[n]+note)
	completeFlag(c, "output", forms...)
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := o.form(forms...); err != nil {
			return err
		}
		return run(c, args)
	}
}

// form checks --output.
func (o *options) form(known ...string) error {
	for _, k := range known {
		if o.output == k {
			return nil
		}
	}
	return &usageError{fmt.Errorf("--output %s is not known: it is one of %v", o.output, known)}
}

func reloadCommand(o *options) *cobra.Command {
	var dry bool
	c := &cobra.Command{
		Use:   "reload",
		Short: "Have failoverd read its configuration again",
		Long: `reload has failoverd read its configuration file again. The file is checked whole: if
something is wrong with it, nothing changes and the mistakes are shown. Otherwise only
what is different changes: a router that is the same misses no advertisement, and one
with another priority, interval or list of addresses stays in its state.`,
		Example: `  sudo failoverctl reload
  failoverctl reload --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), askTime)
			defer cancel()
			r, err := o.client().Reload(ctx, dry)
			if err != nil {
				return err
			}
			return writeChanges(c.OutOrStdout(), r)
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "only say what would change")
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
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration file",
		Long: `check reads a configuration file and shows everything that is wrong with it, with the
place and the remedy; of a file of keepalived also what failoverd does otherwise than
keepalived. It needs no running failoverd and no privilege. What depends on
the host is checked at the start and by "failoverctl reload --dry-run"; of that, check
warns if an advertisement is longer than the MTU of its interface, if that is there.

Exit codes: 0 the file is good or has only comments, 1 it isn't good or can't be read.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFiles("yaml", "yml", "json", "conf"),
		RunE: func(c *cobra.Command, args []string) error {
			path := config.DefaultPath
			if len(args) > 0 {
				path = args[0]
			}
			f, findings, err := migrate.Load(path)
			if errors.Is(err, config.ErrNothing) {
				_, err = fmt.Fprintln(c.OutOrStdout(), err)
				return err
			}
			var mistakes *config.Mistakes
			if errors.As(err, &mistakes) {
				fmt.Fprintln(c.ErrOrStderr(), mistakes)
				return &saidError{err}
			}
			if err != nil {
				return err
			}
			const most = 50
			for _, f := range findings[:min(len(findings), most)] {
				fmt.Fprintln(c.OutOrStdout(), f)
			}
			if more := len(findings) - most; more > 0 {
				fmt.Fprintf(c.OutOrStdout(), "and %d more: failoverctl import tells all\n", more)
			}
			for _, w := range tooLong(f.Routers) {
				fmt.Fprintln(c.OutOrStdout(), w)
			}
			if all := unfit(f.Routers); len(all) > 0 {
				for _, text := range all[:min(len(all), most)] {
					fmt.Fprintln(c.ErrOrStderr(), text)
				}
				return &saidError{fmt.Errorf("the kernel has no room for %s", several(len(all), "router"))}
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is good: %s on %s\n", path, several(len(f.Routers), "router"), few(f.Interfaces()))
			return err
		},
	}
}

// tooLong returns what is to be said of advertisements that are longer than the MTU of
// their interface, as far as that is there.
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

// few names some of a list.
func few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// several counts things.
func several(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
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
		Short: "Print a configuration file with every key, its default and what it means",
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
			ctx, cancel := context.WithTimeout(c.Context(), askTime)
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
