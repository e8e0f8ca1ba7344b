// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// part is one file of a configuration: the main file, or one that it includes. Lines are
// numbered through all parts, so the line of a node tells its part.
type part struct {
	path, content string
	above         int // the number of lines of the parts before it
}

// Origin is the file of another program that a configuration was translated from.
type Origin interface {
	// Place returns the place that a line of the translated content comes from, and the
	// directive there.
	Place(line int) (path string, number int, directive string)
	// Describe returns the difference to before in the terms of the other program. name and
	// what are those of a control.Change, and details are its differences in failoverd's terms.
	Describe(before Origin, name, what string, details []string) []string
}

// maxParts is the greatest number of files that a configuration can have.
const maxParts = 1000

// addPart appends a file.
func (e *Mistakes) addPart(path, content string) {
	p := part{path: path, content: content}
	if n := len(e.parts); n > 0 {
		p.above = e.parts[n-1].end()
	}
	e.parts = append(e.parts, p)
}

// end returns the number of lines up to the end of the part. It counts one line more than the
// part has, because a mistake can be after the last line.
func (p *part) end() int {
	n := p.above + 1
	for range lines(p.content) {
		n++
	}
	return n
}

// part returns the part that a line is in.
func (e *Mistakes) part(line int) *part {
	for i := range slices.Backward(e.parts) {
		if p := &e.parts[i]; line > p.above {
			return p
		}
	}
	return &e.parts[0]
}

// line names the line of a node in a message about another node.
func (r *reader) line(n, other *node) string {
	if r.mistakes.origin != nil {
		path, line, _ := r.mistakes.origin.Place(int(n.line))
		return fmt.Sprintf("at %s:%d", path, line)
	}
	p := r.mistakes.part(int(n.line))
	if line := int(n.line) - p.above; p != r.mistakes.part(int(other.line)) {
		return fmt.Sprintf("at %s:%d", p.path, line)
	}
	return fmt.Sprintf("on line %d", int(n.line)-p.above)
}

// include reads the files that the main file includes.
func (r *reader) include(n *node) {
	const name = "include"
	main := r.mistakes.parts[0].path
	known := map[string]bool{filepath.Clean(main): true}
	for _, item := range r.list(n, name, "include: [conf.d/*.yaml]") {
		pattern, ok := r.text(item, name)
		if !ok {
			continue
		}
		for _, path := range r.matches(item, main, pattern) {
			if known[path] {
				continue
			}
			known[path] = true
			if len(r.mistakes.parts) == maxParts {
				r.fail(item, "", "%s names too many files: a configuration can have %d; join some of them", quote(name), maxParts)
				return
			}
			r.read(item, path)
		}
	}
}

// matches returns the files that a pattern of include names, in the order of their names.
func (r *reader) matches(n *node, main, pattern string) []string {
	path := filepath.Clean(pattern)
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(main), path)
	}
	dir, base := filepath.Split(path)
	switch {
	case pattern == "":
		r.fail(n, "", "`include` names no file: write it like conf.d/*.yaml")
		return nil
	case strings.ContainsAny(dir, "*?["):
		r.fail(n, "name the directory", "%s: only the name of a file can have *, ? and [", quote(pattern))
		return nil
	case !strings.ContainsAny(base, "*?["):
		return []string{path}
	}
	paths, err := filepath.Glob(path)
	if err != nil {
		r.fail(n, "", "%s is not a pattern: it has a [ without ]", quote(pattern))
	}
	// As in a shell, a name that begins with a dot isn't matched: editors have such files.
	return slices.DeleteFunc(paths, func(p string) bool {
		return strings.HasPrefix(filepath.Base(p), ".") && !strings.HasPrefix(base, ".")
	})
}

// read reads an included file. A mistake that concerns the whole file is reported at its entry
// in include.
func (r *reader) read(n *node, path string) {
	content, err := ReadFile(path)
	var mistakes *Mistakes
	switch {
	case errors.As(err, &mistakes):
		r.fail(n, "", "%s: %s", path, mistakes.List[0].Text)
	case err != nil:
		r.fail(n, "", "could not read the included file: %s", err)
	default:
		if r.octets += len(content); r.octets > maxOctets {
			r.fail(n, "", "all files together have more than %d octets with %s: remove what isn't needed", maxOctets, path)
			return
		}
		r.mistakes.addPart(path, strings.TrimPrefix(string(content), byteOrderMark))
	}
}

func includeDoc() Doc {
	return Doc{Name: "include", Default: "[]", sample: "[conf.d/*.yaml]", Text: "A list of more files of this form, for example `[conf.d/*.yaml]`. A name is relative to the directory of this file. Its last part can be a pattern with `*`, `?` and `[`; the files that match are read in the order of their names. All files together are one configuration: a group can have routers of several files. A key of `global`, a router, a check and a group can each be in one file only. An included file can't include another file. A reload reads all files again."}
}
