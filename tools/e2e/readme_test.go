// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/tools/lab"
)

const (
	root   = "../.."
	readme = root + "/README.md"
)

// block is a fenced block of a page.
type block struct {
	language, text string
	place          string
}

func blocks(t *testing.T, path string) (all []block) {
	t.Helper()
	var b *block
	for n, line := range strings.SplitAfter(read(t, path), "\n") {
		fence, is := strings.CutPrefix(line, "```")
		switch {
		case is && b == nil:
			b = &block{language: strings.TrimSpace(fence), place: fmt.Sprintf("%s:%d", filepath.Clean(path), n+1)}
		case is:
			all, b = append(all, *b), nil
		case b != nil:
			b.text += line
		}
	}
	if b != nil {
		t.Fatalf("%s: the fenced block has no end", b.place)
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// first returns the first block of the README in a language that contains a text.
func first(t *testing.T, language, with string) string {
	t.Helper()
	for _, b := range blocks(t, readme) {
		if b.language == language && strings.Contains(b.text, with) {
			return b.text
		}
	}
	t.Fatalf("README.md has no %s with %q", language, with)
	return ""
}

// The values that differ from one run to the next.
var varying = []struct {
	*regexp.Regexp
	name string
}{
	{regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`), "MAC"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d(\.\d+)?\b`), "CLOCK"},
	{regexp.MustCompile(`\b(\d+(\.\d+)? ?(µs|ms|s|m|h))+\b`), "TIME"},
	{regexp.MustCompile(`\s+`), " "},
}

func normalized(line string) string {
	for _, v := range varying {
		line = v.ReplaceAllString(line, v.name)
	}
	return strings.TrimSpace(line)
}

// missing returns the first line of an example that the output lacks, or has in another order. The
// output may have more lines.
func missing(shown, output string) (line string, found bool) {
	lines := strings.Split(output, "\n")
	for line := range strings.Lines(shown) {
		want := normalized(line)
		if want == "" || want == "[...]" {
			continue
		}
		n := 0
		for n < len(lines) && normalized(lines[n]) != want {
			n++
		}
		if n == len(lines) {
			return strings.TrimRight(line, "\n"), true
		}
		lines = lines[n+1:]
	}
	return "", false
}

func TestMissing(t *testing.T) {
	const output = "12:00:01 web  Active\nheard for 3.61s, 2 routers\nthe last\n"
	for shown, want := range map[string]string{
		"11:22:33.4 web Active\n[...]\nthe last\n": "",
		"heard for 12ms, 2 routers\n":              "",
		"heard for 3.61s, 3 routers\n":             "heard for 3.61s, 3 routers",
		"the last\n12:00:01 web  Active\n":         "12:00:01 web  Active",
	} {
		if got, _ := missing(shown, output); got != want {
			t.Errorf("of %q %q is missing, not %q", shown, got, want)
		}
	}
}

// The examples of the README show the output of the programs.
func TestReadme(t *testing.T) {
	t.Parallel()
	p := playReadme(t)
	examples := map[string]func() string{
		"sudo failoverd --iface eth0":      func() string { return p.watched },
		"sudo failoverd":                   func() string { return p.log },
		"sudo failoverctl status":          func() string { return p.status },
		"failoverctl check failoverd.yaml": func() string { return checkMistake(t) },
		"sudo make demo":                   func() string { return demo(t) },
		"sudo make install":                nil, // it would change this host
		"git clone https://github.com/failoverd/failoverd && cd failoverd": nil,
	}
	for _, b := range blocks(t, readme) {
		if b.language != "console" {
			continue
		}
		for example := range strings.SplitSeq("\n"+b.text, "\n$ ") {
			command, shown, _ := strings.Cut(example, "\n")
			if command == "" {
				continue
			}
			run, known := examples[command]
			switch {
			case !known:
				t.Errorf("%s: this test does not run %q", b.place, command)
			case run != nil:
				output := run()
				if line, found := missing(shown, output); found {
					t.Errorf("%s: the output of %s lacks this line, or has it in another order:\n%s\nThe output is:\n%s", b.place, command, line, output)
				}
			case shown != "":
				t.Errorf("%s shows the output of %s, which this test does not run", b.place, command)
			}
			delete(examples, command)
		}
	}
	for command := range examples {
		t.Errorf("the README does not show %s", command)
	}
}

// played is the output of the programs in the README's story.
type played struct{ watched, log, status string }

// playReadme runs the README's story: its two hosts share the address, and the Active dies.
func playReadme(t *testing.T) (p played) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l := lab.ForTest(t)
	s := &site{t: t, ctx: ctx, lab: l}
	lan, err := l.LAN("switch")
	s.ok(err)
	a, err := lan.Host("a", ifname, "192.0.2.2/24")
	s.ok(err)
	b, err := lan.Host("b", ifname, "192.0.2.1/24")
	s.ok(err)
	file := first(t, "yaml", "routers:")
	other := strings.Replace(file, "priority: 100", "priority: 150", 1)
	if other == file {
		t.Fatal("the README's file has no priority")
	}
	active := s.withFile(a.Node, other)
	s.waitState(active.Failoverd, 0, "ipv4", "Active")

	watch, err := b.Node.Start(failoverd(), "--iface", ifname)
	s.ok(err)
	_, err = watch.WaitLine(ctx, 0, func(line string) bool { return strings.Contains(line, "to back it up") })
	s.ok(err)
	p.watched = watch.Output()
	_, err = watch.Stop(ctx)
	s.ok(err)

	backup := s.withFile(b.Node, file)
	from := s.waitState(backup.Failoverd, 0, "ipv4", "Backup")
	backup.router("web", "ipv4", func(r control.Router) bool { return r.Active == "192.0.2.2" })
	s.ok(a.Pull())
	s.waitState(backup.Failoverd, from, "ipv4", "Active")
	p.status, err = b.Node.Run(ctx, failoverctl(), "status")
	s.ok(err)
	for _, t := range backup.Transitions() {
		cause, _, _ := strings.Cut(t.Cause, " (")
		p.log += fmt.Sprintf("%s web %s → %s %s\n", t.Time.Format(time.TimeOnly), t.From, t.To, cause)
	}
	return p
}

// checkMistake checks the README's file with a typing mistake.
func checkMistake(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "failoverd.yaml")
	text := strings.Replace(first(t, "yaml", "routers:"), "priority", "priorty", 1)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	check := exec.Command(failoverctl(), "check", filepath.Base(path))
	check.Dir = filepath.Dir(path)
	out, err := check.CombinedOutput()
	if err == nil {
		t.Error("failoverctl check accepts a file with a mistake")
	}
	return string(out)
}

func demo(t *testing.T) string {
	t.Helper()
	run := exec.CommandContext(t.Context(), "go", "run", "./tools/demo", "--failoverd", failoverd())
	run.Dir = root
	out, err := run.CombinedOutput()
	if err != nil {
		t.Errorf("the demo: %v", err)
	}
	return string(out)
}

// Each file in an example is valid.
func TestReadmeFiles(t *testing.T) {
	pages, err := filepath.Glob(root + "/pkg/manual/*.md")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, path := range append(pages, readme) {
		for _, b := range blocks(t, path) {
			if b.language != "yaml" && !sections.MatchString(b.text) {
				continue
			}
			count++
			file := filepath.Join(t.TempDir(), "failoverd.yaml")
			if err := os.WriteFile(file, []byte(whole(b.text)), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(failoverctl(), "check", file).CombinedOutput(); err != nil {
				t.Errorf("%s: %s", b.place, out)
			}
		}
	}
	if count < 2 {
		t.Errorf("the pages show only %d files", count)
	}
}

var (
	sections    = regexp.MustCompile(`^(global|tracks|groups|routers):`)
	withRouters = regexp.MustCompile(`(?m)^routers:`)
	members     = regexp.MustCompile(`(?m)^    routers: \[([^\]]*)\]`)
)

// whole completes a part of a file that has no routers: it adds those that the groups name, or
// one.
func whole(piece string) string {
	if withRouters.MatchString(piece) {
		return piece
	}
	names := []string{"web"}
	if m := members.FindStringSubmatch(piece); m != nil {
		names = strings.Split(m[1], ",")
	}
	piece += "routers:\n"
	for n, name := range names {
		piece += fmt.Sprintf("  - {name: %s, interface: eth%d, vrid: %d, addresses: [192.0.2.%d/24]}\n", strings.TrimSpace(name), n, 51+n, 10+n)
	}
	return piece
}

// import makes the README's file from the README's keepalived.conf.
func TestReadmeImport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keepalived.conf")
	if err := os.WriteFile(path, []byte(first(t, "text", "vrrp_instance")), 0o644); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	run := exec.Command(failoverctl(), "import", path)
	run.Stderr = &errs
	out, err := run.Output()
	if err != nil || errs.String() != "everything translated one to one\n" {
		t.Errorf("import of the README's keepalived.conf: %v\n%s", err, errs.String())
	}
	got, err := config.Parse("imported", out)
	if err != nil {
		t.Fatal(err)
	}
	want, err := config.Parse("README.md", []byte(first(t, "yaml", "virtual_mac")))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Routers) != 1 || len(want.Routers) != 1 {
		t.Fatalf("%d routers are imported, %d are shown", len(got.Routers), len(want.Routers))
	}
	for _, d := range config.Difference(want.Routers[0], got.Routers[0]) {
		t.Errorf("the README's file, and what import makes: %s", d)
	}
}

// pages returns the pages of the repository.
func pages(t *testing.T) (all []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == ".git" || e.Name() == "testdata" || path == root+"/bin"):
			return fs.SkipDir
		case filepath.Ext(path) == ".md":
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	links   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fenced  = regexp.MustCompile("(?ms)^```.*?^```")
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	unnamed = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	targets = regexp.MustCompile("(?m)(?:`|^\\$ )(?:sudo )?(?:nice -n -?[0-9]+ )?make ([a-z][a-z-]*)")
	orders  = regexp.MustCompile("`(?:sudo )?failoverctl ([a-z]+(?:-[a-z]+)*)")
)

// anchors returns the link targets of a page.
func anchors(text string) map[string]bool {
	all := make(map[string]bool)
	for _, h := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		all[strings.ReplaceAll(unnamed.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")] = true
	}
	return all
}

// The target of each link exists.
func TestPagesLinks(t *testing.T) {
	for _, page := range pages(t) {
		for _, l := range links.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(l[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(l[1], "#")
			if path = filepath.Join(filepath.Dir(page), path); strings.HasPrefix(l[1], "#") {
				path = page
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s: %v", page, l[1], errors.Unwrap(err))
			} else if anchor != "" && !anchors(read(t, path))[anchor] {
				t.Errorf("%s links to %s: there is no such heading", page, l[1])
			}
		}
	}
}

// The make targets and the commands of failoverctl that pages name exist.
func TestPagesCommands(t *testing.T) {
	makefile := read(t, root+"/Makefile")
	help, err := exec.Command(failoverctl(), "--help").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages(t) {
		text := read(t, page)
		for _, m := range targets.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s names make %s: there is no such target", page, m[1])
			}
		}
		for _, m := range orders.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(string(help), "\n  "+m[1]+" ") {
				t.Errorf("%s names failoverctl %s: there is no such command", page, m[1])
			}
		}
	}
}

// The README is short enough to read to the end.
func TestReadmeLength(t *testing.T) {
	if n := strings.Count(read(t, readme), "\n"); n > 200 {
		t.Errorf("README.md has %d lines, more than 200: the details belong to the manual", n)
	}
}
