// SPDX-License-Identifier: Apache-2.0

package manual

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Section is one that a command's help doesn't have, in the form of a help text.
type Section struct{ Title, Text string }

// Page is what a page says beside the help.
type Page struct {
	Section  int    // of the manual
	Version  string // of the program
	Sections []Section
	SeeAlso  []string // other pages, like failoverd(8)
}

const exitCodes = "Exit codes: "

// Command writes the page of a program from its command, which has to be the
// root: its subcommands are sections of the same page. Hidden commands and flags
// are left out.
func Command(w io.Writer, c *cobra.Command, about Page) error {
	var p page
	p.begin(c.Name(), about.Section, lower(c.Short), about.Version)
	p.section("SYNOPSIS")
	synopsis := c.UseLine()
	if c.HasAvailableSubCommands() && len(shown(c)) > 2 {
		synopsis = c.Name() + " [flags] COMMAND"
	}
	fmt.Fprintln(&p, usage(synopsis))
	text, exit := cutExitCodes(c.Long)
	p.section("DESCRIPTION")
	p.text(text)
	p.flags("OPTIONS", c.NonInheritedFlags())
	if all := shown(c); len(all) > 0 {
		p.section("COMMANDS")
		for _, sub := range all {
			p.command(sub)
		}
	}
	if exit != "" {
		p.section("EXIT STATUS")
		p.text(exit)
	}
	for _, s := range about.Sections {
		p.section(s.Title)
		p.text(s.Text)
	}
	if c.Example != "" {
		p.section("EXAMPLES")
		p.text(c.Example)
	}
	p.seeAlso(about.SeeAlso...)
	return p.writeTo(w)
}

// command writes a subcommand, and below it its own.
func (p *page) command(c *cobra.Command) {
	c.InitDefaultHelpFlag()
	if c.Name() == "completion" { // cobra's own, which says much
		p.subsection(c.CommandPath() + " SHELL")
		p.text("Print the completions for a shell: bash, zsh, fish or powershell. In bash `source <(" + c.CommandPath() + " bash)` has them at once.")
		return
	}
	p.subsection(strings.TrimSuffix(c.UseLine(), " [flags]"))
	if !strings.HasPrefix(c.Long, c.Name()+" ") {
		p.line(strings.TrimSuffix(c.Short, ".") + ".")
	}
	if c.Long != "" {
		p.text(c.Long)
	}
	p.flags("", c.LocalFlags())
	if c.Example != "" {
		p.text(c.Example)
	}
	for _, sub := range shown(c) {
		p.command(sub)
	}
}

func shown(c *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(c.Commands()), func(c *cobra.Command) bool {
		return !c.IsAvailableCommand() || c.Name() == "help"
	})
}

// flags writes flags but for --help, in a section if that has a title.
func (p *page) flags(title string, flags *pflag.FlagSet) {
	if title != "" {
		p.section(title)
	}
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		term := bold("--" + f.Name)
		if f.Shorthand != "" {
			term = bold("-"+f.Shorthand) + ", " + term
		}
		if value != "" {
			term += " " + italic(strings.ToUpper(value))
		}
		p.term(term)
		text = sentence(text)
		switch f.DefValue {
		case "", "0", "false", "[]":
		default:
			text += " Default: " + f.DefValue + "."
		}
		p.line(text)
	})
}

// sentence makes one of a usage text.
func sentence(s string) string {
	return strings.ToUpper(s[:1]) + strings.TrimSuffix(s[1:], ".") + "."
}

// lower makes the first letter a small one, unless the word has others.
func lower(s string) string {
	if len(s) > 1 && s[1] >= 'a' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// cutExitCodes takes the paragraph of the exit codes out of a help text.
func cutExitCodes(s string) (rest, exit string) {
	var kept []string
	for block := range strings.SplitSeq(s, "\n\n") {
		if after, ok := strings.CutPrefix(block, exitCodes); ok {
			exit = after
		} else {
			kept = append(kept, block)
		}
	}
	return strings.Join(kept, "\n\n"), exit
}
