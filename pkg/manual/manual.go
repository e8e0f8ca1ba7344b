// SPDX-License-Identifier: Apache-2.0

// Package manual has the manual pages in Markdown. It generates the marked regions of the
// pages, which list keys, flags, counters and others, from the code.
package manual

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/failoverd/failoverd/pkg/config"
)

// Sync compares the marked regions of a page with their wanted content. The keys of regions are
// their names. With update it rewrites regions that differ.
func Sync(path string, update bool, regions map[string]string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	page := string(content)
	var stale []error
	for _, name := range slices.Sorted(maps.Keys(regions)) {
		begin, end := "<!-- "+name+": begin -->\n", "<!-- "+name+": end -->\n"
		before, rest, found := strings.Cut(page, begin)
		old, after, closed := strings.Cut(rest, end)
		if !found || !closed || strings.Contains(after, begin) {
			return fmt.Errorf("%s: the region %q isn't there once: it is between %q and %q", path, name, begin, end)
		}
		wanted := "\n" + strings.TrimSpace(regions[name]) + "\n\n"
		if old != wanted {
			stale = append(stale, fmt.Errorf("%s: the region %q isn't what the code makes it: run make manual", path, name))
		}
		page = before + begin + wanted + end + after
	}
	if len(stale) == 0 || !update {
		return errors.Join(stale...)
	}
	return os.WriteFile(path, []byte(page), 0o644)
}

// Exit is an exit code of a program.
type Exit struct {
	Code    int
	Meaning string
}

// ExitHelp returns the paragraph of a help text about exit codes.
func ExitHelp(all []Exit) string {
	var list []string
	for _, e := range all {
		list = append(list, fmt.Sprintf("%d %s", e.Code, e.Meaning))
	}
	return "Exit codes: " + strings.Join(list, ", ") + "."
}

// Exits lists exit codes.
func Exits(all []Exit) string {
	var w strings.Builder
	for _, e := range all {
		item(&w, "", fmt.Sprintf("**%d**", e.Code), sentence(e.Meaning))
	}
	return w.String()
}

// Flags lists flags, except --help and hidden ones.
func Flags(flags *pflag.FlagSet) string {
	var w strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		term := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			term = "`-" + f.Shorthand + "`, " + term
		}
		if value != "" {
			term += " *" + strings.ToUpper(value) + "*"
		}
		text = sentence(escape(text))
		switch f.DefValue {
		case "", "0", "0s", "false", "[]":
		default:
			text += " Default: `" + f.DefValue + "`."
		}
		item(&w, "", term, text)
	})
	return w.String()
}

// Commands returns a section for each subcommand of a command.
func Commands(c *cobra.Command) string {
	var w strings.Builder
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() || sub.Name() == "help" {
			continue
		}
		fmt.Fprintf(&w, "### `%s`\n\n", strings.TrimSuffix(sub.UseLine(), " [flags]"))
		if sub.Name() == "completion" { // the help text of cobra is too long for a page
			fmt.Fprintf(&w, "Print the completions for a shell: `bash`, `zsh`, `fish` or `powershell`. In bash `source <(%s bash)` loads them.\n\n", sub.CommandPath())
			continue
		}
		fmt.Fprintf(&w, "%s\n\n", sentence(escape(sub.Short)))
		w.WriteString(Help(sub.Long))
		if flags := Flags(sub.LocalFlags()); flags != "" {
			w.WriteString(flags + "\n")
		}
		if sub.Example != "" {
			w.WriteString("For example:\n\n" + code(sub.Example)) // the text ends the list of flags
		}
		w.WriteString(Commands(sub))
	}
	return w.String()
}

// Help turns a help text into Markdown: paragraphs, and indented lines as code.
func Help(text string) string {
	var w strings.Builder
	for block := range strings.SplitSeq(strings.Trim(text, "\n"), "\n\n") {
		switch {
		case block == "":
		case strings.HasPrefix(block, "  "):
			w.WriteString(code(block))
		default:
			w.WriteString(escape(block) + "\n\n")
		}
	}
	return w.String()
}

// Keys lists the keys of the configuration file, with nested keys below their parent.
func Keys(all []config.Doc) string {
	var w strings.Builder
	for _, top := range all {
		fmt.Fprintf(&w, "### `%s`\n\n%s\n\n", top.Name, top.Text)
		keys(&w, "", top.Keys)
		w.WriteString("\n")
	}
	return w.String()
}

func keys(w *strings.Builder, indent string, all []config.Doc) {
	for _, k := range all {
		term := "`" + k.Name + "`"
		text := escape(k.Text)
		if k.Required {
			term += " (required)"
		}
		if k.Values != "" {
			text += " Values: " + k.Values + "."
		}
		if k.Default != "" {
			text += " Default: `" + k.Default + "`."
		}
		item(w, indent, term, text)
		keys(w, indent+"    ", k.Keys)
	}
}

// Term is an entry of a list: a name, optionally a kind, and the meaning.
type Term struct{ Name, Kind, Meaning string }

// Terms lists terms.
func Terms(all []Term) string {
	var w strings.Builder
	for _, t := range all {
		term := "`" + t.Name + "`"
		if t.Kind != "" {
			term += " (" + t.Kind + ")"
		}
		item(&w, "", term, sentence(escape(t.Meaning)))
	}
	return w.String()
}

func item(w *strings.Builder, indent, term, text string) {
	fmt.Fprintf(w, "%s- %s: %s\n", indent, term, text)
}

// code returns a code block of a text, without the indentation of help texts.
func code(text string) string {
	var w strings.Builder
	w.WriteString("```\n")
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		w.WriteString(strings.TrimPrefix(line, "  ") + "\n")
	}
	w.WriteString("```\n\n")
	return w.String()
}

var special = strings.NewReplacer("<", `\<`, "*", `\*`, "[", `\[`, "]", `\]`)

// escape escapes the characters that are special in Markdown, except backquotes.
func escape(s string) string {
	var w strings.Builder
	for i, part := range strings.Split(s, "`") {
		if i > 0 {
			w.WriteString("`")
		}
		if i%2 == 0 {
			part = special.Replace(part)
		}
		w.WriteString(part)
	}
	return w.String()
}

// sentence turns a text into a sentence: with a capital and a full stop.
func sentence(s string) string {
	return strings.ToUpper(s[:1]) + strings.TrimSuffix(s[1:], ".") + "."
}
