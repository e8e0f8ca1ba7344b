// SPDX-License-Identifier: Apache-2.0

// Command manual makes manual pages from the Markdown in pkg/manual.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/russross/blackfriday/v2"
)

func main() {
	out := flag.String("out", "bin/man", "the `directory` to write the pages to")
	version := flag.String("version", "", "the `version` of failoverd")
	date := flag.String("date", "", "the `day` of the pages, like 2026-01-31")
	flag.Parse()
	if err := run(*out, *version, *date, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

func run(out, version, date string, pages []string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, path := range pages {
		content, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read the page: %w", err)
		}
		page, err := render(content, version, date)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".md")
		if err := os.WriteFile(filepath.Join(out, name), page, 0o644); err != nil {
			return fmt.Errorf("write the page: %w", err)
		}
	}
	return nil
}

// render makes a manual page from Markdown. The first line has to be like "# failoverd(8)".
func render(content []byte, version, date string) ([]byte, error) {
	title, body, _ := strings.Cut(string(content), "\n")
	name, section, found := strings.Cut(strings.TrimPrefix(title, "# "), "(")
	section, closed := strings.CutSuffix(section, ")")
	if !found || !closed {
		return nil, fmt.Errorf("the first line is %q: it has to be like # failoverd(8)", title)
	}
	head := fmt.Sprintf("# %q %q %q %q %q\n", strings.ToUpper(name), section, date, strings.TrimSpace("failoverd "+version), "failoverd manual")
	roff := md2man.NewRoffRenderer()
	page := blackfriday.Run([]byte(head+body), blackfriday.WithRenderer(renderer{roff}), blackfriday.WithExtensions(roff.GetExtensions()))
	return finished(page), nil
}

// renderer is md2man's renderer with three differences: a hyphen in code stays a hyphen-minus,
// examples are indented, and a link to another page is printed as the page's name.
type renderer struct{ blackfriday.Renderer }

// RenderNode writes a node.
func (r renderer) RenderNode(w io.Writer, node *blackfriday.Node, entering bool) blackfriday.WalkStatus {
	switch {
	case node.Type == blackfriday.CodeBlock:
		if node.Prev == nil || node.Prev.Type != blackfriday.Heading {
			fmt.Fprint(w, "\n.sp")
		}
		fmt.Fprint(w, "\n.RS 4")
		r.typed(w, node)
		fmt.Fprint(w, ".RE\n")
		return blackfriday.GoToNext
	case node.Type == blackfriday.Code:
		r.typed(w, node)
		return blackfriday.GoToNext
	case node.Type == blackfriday.Link && strings.HasSuffix(string(node.Destination), ".md"):
		return blackfriday.GoToNext
	}
	return r.Renderer.RenderNode(w, node, entering)
}

// typed writes code. It escapes hyphens, so that copied commands work.
func (r renderer) typed(w io.Writer, node *blackfriday.Node) {
	var b bytes.Buffer
	r.Renderer.RenderNode(&b, node, true)
	fmt.Fprint(w, strings.ReplaceAll(b.String(), "-", `\-`))
}

// finished removes the empty lines outside examples, because roff would print them, and turns
// off hyphenation and justification.
func finished(page []byte) []byte {
	var b bytes.Buffer
	verbatim := false
	for line := range strings.Lines(string(page)) {
		switch {
		case line == ".EX\n":
			verbatim = true
		case line == ".EE\n":
			verbatim = false
		case line == ".nh\n":
			line = ".nr HY 0\n" // groff's macros undo .nh at each paragraph
		case strings.HasPrefix(line, ".TH "):
			line += ".ad l\n"
		case line == "\n" && !verbatim:
			continue
		}
		b.WriteString(line)
	}
	return b.Bytes()
}
