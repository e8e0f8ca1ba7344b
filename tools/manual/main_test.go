// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const source = "../../pkg/manual"

// sources returns the pages in Markdown, by file name.
func sources(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(source, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(path)] = string(b)
	}
	want := []string{"failoverctl.8.md", "failoverd-api.7.md", "failoverd-migrate.7.md", "failoverd-security.7.md", "failoverd.8.md", "failoverd.yaml.5.md"}
	for _, name := range want {
		if all[name] == "" {
			t.Errorf("the page %s is missing", name)
		}
	}
	return all
}

var afterList = regexp.MustCompile("(?m)^ *(?:-|[0-9]+[.]) .*\n\n```")

// mandoc and man-db both render each page without a warning, and within 80 columns.
func TestPages(t *testing.T) {
	dir := t.TempDir()
	for name, content := range sources(t) {
		page := strings.TrimSuffix(name, ".md")
		if bad := afterList.FindString(content); bad != "" {
			t.Errorf("%s: the renderer makes an example right after a list a part of the list; write a sentence between them: %s", name, bad)
		}
		if err := run(dir, "1.2.3", "2026-01-31", []string{filepath.Join(source, name)}); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, page)
		if out, err := exec.Command("mandoc", "-Tlint", "-W", "warning", path).CombinedOutput(); err != nil {
			t.Errorf("mandoc about %s: %v: %s", page, err, out)
		}
		man := exec.Command("man", "--warnings", "-E", "UTF-8", "-l", path)
		man.Env = append(os.Environ(), "MANWIDTH=80", "MAN_KEEP_FORMATTING=", "LC_ALL=C.UTF-8", "PAGER=cat", "MANPAGER=cat")
		var shown, said bytes.Buffer
		man.Stdout, man.Stderr = &shown, &said
		if err := man.Run(); err != nil || said.Len() > 0 {
			t.Errorf("man about %s: %v: %s", page, err, said.String())
		}
		for line := range strings.Lines(shown.String()) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
				t.Errorf("%s has a line of %d columns: %s", page, n, line)
			}
		}
		name, section, _ := strings.Cut(page, ".")
		if i := strings.LastIndexByte(page, '.'); i >= 0 {
			name, section = page[:i], page[i+1:]
		}
		if head := strings.ToUpper(name) + "(" + section + ")"; !strings.HasPrefix(shown.String(), head) {
			t.Errorf("%s doesn't begin with %s", page, head)
		}
		if !strings.Contains(shown.String(), "1.2.3") || strings.Count(content, "\n## NAME\n") != 1 {
			t.Errorf("%s has no version or no name", page)
		}
	}
}

var (
	link    = regexp.MustCompile(`\[([^\]]*)\]\(([^)]*)\)`)
	mention = regexp.MustCompile(`(failover[a-z.-]*)\(([0-9])\)`)
)

// Links between pages lead to pages, and each mention of another page is a link.
func TestLinks(t *testing.T) {
	all := sources(t)
	for name, content := range all {
		for _, m := range link.FindAllStringSubmatch(content, -1) {
			page := strings.TrimSuffix(m[2], ".md")
			i := strings.LastIndexByte(page, '.')
			if all[m[2]] == "" || i < 0 || m[1] != page[:i]+"("+page[i+1:]+")" {
				t.Errorf("%s: the link %s refers to no page, or to a page of another name", name, m[0])
			}
		}
		_, body, _ := strings.Cut(content, "\n")
		for _, m := range mention.FindAllStringSubmatch(link.ReplaceAllString(body, ""), -1) {
			t.Errorf("%s: %s isn't a link", name, m[0])
		}
	}
}

var definition = regexp.MustCompile("(?m)^ *- (?:`-.`, )?`([^`]+)`(?: \\*[A-Z]+\\*)?(?: \\([^)]*\\))?: ")

// Everything that the code defines has one definition, in a marked region of a page, and none
// outside the regions.
func TestDefinedOnce(t *testing.T) {
	region := regexp.MustCompile(`(?s)<!-- ([a-z]+): begin -->\n(.*?)<!-- ([a-z]+): end -->\n`)
	defined := make(map[string][]string) // the regions by what they define
	outside := make(map[string][]string) // the pages
	regions := make(map[string]int)
	for name, content := range sources(t) {
		for _, m := range region.FindAllStringSubmatch(content, -1) {
			if m[1] != m[3] {
				t.Errorf("%s: the region %s ends with the mark of %s", name, m[1], m[3])
			}
			at := name + " " + m[1]
			for _, d := range definition.FindAllStringSubmatch(m[2], -1) {
				regions[at]++
				defined[d[1]] = append(defined[d[1]], at)
			}
		}
		if name == "failoverd-migrate.7.md" {
			continue // it lists the directives of other programs
		}
		for _, d := range definition.FindAllStringSubmatch(region.ReplaceAllString(content, ""), -1) {
			outside[d[1]] = append(outside[d[1]], name)
		}
	}
	for _, at := range []string{"failoverd.8.md options", "failoverd.8.md counters", "failoverd.yaml.5.md keys", "failoverctl.8.md problems", "failoverctl.8.md commands", "failoverd-api.7.md metrics", "failoverd-api.7.md keepalived", "failoverd-api.7.md documents"} {
		if regions[at] == 0 {
			t.Errorf("the region %s defines nothing", at)
		}
	}
	for name, at := range defined {
		for _, page := range outside[name] {
			t.Errorf("%s is defined in the region %s, and again by hand in %s; delete the latter", name, at[0], page)
		}
		// A key is defined once for each group that has it, a flag once for each command, and a
		// field once for each document.
		for _, where := range slices.Compact(slices.Sorted(slices.Values(at))) {
			n := 0
			for _, w := range at {
				if w == where {
					n++
				}
			}
			switch _, kind, _ := strings.Cut(where, " "); kind {
			case "keys", "commands", "documents":
			default:
				if n > 1 {
					t.Errorf("%s is defined %d times in %s", name, n, where)
				}
			}
		}
	}
}

func TestRender(t *testing.T) {
	for _, bad := range []string{"", "# failoverd\n", "failoverd 8\n"} {
		if _, err := render([]byte(bad), "1", ""); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	got, err := render([]byte("# a-b(7)\n\n## NAME\n\na-b - c\n\nSee [d(8)](d.8.md): `--x`.\n\n```\n$ a --b\n\n.c\n```\n"), "1.2", "2026-01-31")
	want := `.nr HY 0
.TH "A-B" "7" "2026-01-31" "failoverd 1.2" "failoverd manual"
.ad l
.SH NAME
a-b \- c
.PP
See d(8): \fB\-\-x\fR\&.
.sp
.RS 4
.EX
$ a \-\-b

\&.c
.EE
.RE
`
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
}
