// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// directory writes files to a directory, of which the first is the main one.
func directory(t *testing.T, files ...[2]string) (main string) {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		path := filepath.Join(dir, f[0])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f[1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, files[0][0])
}

const (
	webRouter = "routers:\n  - {name: web, interface: eth0, vrid: 51, addresses: [192.0.2.10/24], track: [port]}\n"
	dbRouter  = "routers:\n  - {name: db, interface: eth1, vrid: 52, addresses: [198.51.100.10/24]}\n"
)

// The files of include make one configuration, in which each can name what is in another.
func TestInclude(t *testing.T) {
	main := directory(t,
		[2]string{"failoverd.yaml", "include: [conf.d/*.yaml, conf.d/b.yaml, global.yml]\ngroups: [{name: site, routers: [web, db]}]\n"},
		[2]string{"conf.d/b.yaml", webRouter},
		[2]string{"conf.d/a.yaml", byteOrderMark + "# the database\r\n" + dbRouter + "tracks: [{name: port, tcp: \"127.0.0.1:80\"}]\n"},
		[2]string{"conf.d/c.yaml", "# nothing yet\n"},
		[2]string{"conf.d/.#b.yaml", "no: key"},
		[2]string{"conf.d/d.yaml~", "no: key"},
		[2]string{"global.yml", "global: {log_level: debug}"},
	)
	f, err := Load(main)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Routers) != 2 || f.Routers[0].Name != "db" || f.Routers[1].Name != "web" || f.Routers[0].Group != "site" || f.Routers[1].Group != "site" || len(f.Routers[1].Track) != 1 || f.Global.LogLevel != "debug" {
		t.Errorf("%+v", f)
	}
	// What the host finds wrong is told in the file that has it, which needn't be there any more.
	b := filepath.Join(filepath.Dir(main), "conf.d/b.yaml")
	if err := os.Remove(b); err != nil {
		t.Fatal(err)
	}
	err = f.Mistakes(map[int][]Problem{1: {{Key: "interface", Text: "there is no such interface"}}})
	if want := b + ":2:28: there is no such interface\n    2 |   - {name: web, interface: eth0,"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v\nwant %s", err, want)
	}
	if err := f.TrackMistakes(map[string]Problem{"port": {Key: "tcp", Text: "no"}}); err == nil || !strings.Contains(err.Error(), "conf.d/a.yaml:4:28: no\n    4 | tracks:") {
		t.Errorf("%v", err)
	}
}

// What is wrong in one of several files is told with its place there. What is in two of
// them is told with both places.
func TestIncludeMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		main, a, b string
		want       []string
	}{
		"routers of one name":    {"include: [conf.d/*]\n", webRouter, strings.Replace(dbRouter, "db", "web", 1), []string{"conf.d/b.yaml:2:12: the router at DIR/conf.d/a.yaml:2 has the name `web` too"}},
		"routers of one VRID":    {"include: [conf.d/*]\n" + webRouter, "", strings.ReplaceAll(webRouter, "web", "w"), []string{"conf.d/b.yaml:2:38: the router at DIR/failoverd.yaml:3 has VRID 51 on eth0 for ipv4 too", "has the address 192.0.2.10 too"}},
		"routers of one file":    {"include: [conf.d/*]\n", "", webRouter + strings.TrimPrefix(webRouter, "routers:\n"), []string{"conf.d/b.yaml:3:12: the router on line 2 has the name `web` too"}},
		"checks of one name":     {"include: [conf.d/*]\n" + dbRouter, "tracks: [{name: x, tcp: \"127.0.0.1:80\"}]", "\n\ntracks: [{name: x, tcp: \"127.0.0.1:81\"}]", []string{"conf.d/b.yaml:3:10: the track at DIR/conf.d/a.yaml:1 is called `x` too"}},
		"groups of one name":     {"include: [conf.d/*]\n" + dbRouter, "groups: [{name: x, routers: [db]}]", "groups: [{name: x, routers: []}]", []string{"conf.d/b.yaml:1:10: the group at DIR/conf.d/a.yaml:1 is called `x` too"}},
		"global keys":            {"include: [conf.d/*]\nglobal:\n  log_level: info\n" + dbRouter, "global: {metrics: off}", "global: {log_level: debug}", []string{"conf.d/b.yaml:1:10: `log_level` of `global` is here twice: it is at DIR/failoverd.yaml:3 already"}},
		"an unknown key":         {"include: [conf.d/*]\n" + dbRouter, "", "router: []", []string{"conf.d/b.yaml:1:1: unknown key `router`", "1 | router: []"}},
		"not YAML":               {"include: [conf.d/*]\n" + dbRouter, "a: [\n", "\tx: 1", []string{"conf.d/a.yaml:1:4: not YAML", "conf.d/b.yaml:1:1: a tab"}},
		"an include of another":  {"include: [conf.d/*]\n" + dbRouter, "include: [b.yaml]", "", []string{"conf.d/a.yaml:1:1: an included file can't include another", "name the file in DIR/failoverd.yaml"}},
		"a file that is missing": {"include: [conf.d/z.yaml]\n" + dbRouter, "", "", []string{"failoverd.yaml:1:11: could not read the included file: stat DIR/conf.d/z.yaml: no such file"}},
		"a directory":            {"include: [conf.d]\n" + dbRouter, "", "", []string{"failoverd.yaml:1:11: DIR/conf.d: it is not a file"}},
		"a pattern of folders":   {"include: [\"*/a.yaml\"]\n" + dbRouter, "", "", []string{"failoverd.yaml:1:11: `*/a.yaml`: only the name of a file can have"}},
		"no pattern":             {"include: [\"[\"]\n" + dbRouter, "", "", []string{"failoverd.yaml:1:11: `[` is not a pattern"}},
		"a name":                 {"include: conf.d/*.yaml\n" + dbRouter, "", "", []string{"failoverd.yaml:1:10: `include` is the text `conf.d/*.yaml`, where a list is expected", "write include: [conf.d/*.yaml]"}},
		"no name":                {"include: [\"\"]\n" + dbRouter, "", "", []string{"failoverd.yaml:1:11: `include` names no file"}},
		"no router":              {"include: [conf.d/*]\n", "", "", []string{"failoverd.yaml:1:1: no `routers:` in the file"}},
	} {
		t.Run(name, func(t *testing.T) {
			main := directory(t, [2]string{"failoverd.yaml", c.main}, [2]string{"conf.d/a.yaml", c.a}, [2]string{"conf.d/b.yaml", c.b})
			_, err := Load(main)
			if err == nil {
				t.Fatal("no mistake found")
			}
			said := strings.ReplaceAll(err.Error(), filepath.Dir(main), "DIR")
			for _, want := range c.want {
				if !strings.Contains(said, want) {
					t.Errorf("%q isn't in:\n%s", want, said)
				}
			}
		})
	}
}

// All files together have the limits of one.
func TestIncludeLimits(t *testing.T) {
	several := func(n int, text func(i int) string) string {
		files := [][2]string{{"failoverd.yaml", "include: [conf.d/*]\n" + dbRouter}}
		for i := range n {
			files = append(files, [2]string{fmt.Sprintf("conf.d/%04d.yaml", i), text(i)})
		}
		_, err := Load(directory(t, files...))
		return fmt.Sprint(err)
	}
	for want, said := range map[string]string{
		"more than 1000 files":  several(1000, func(int) string { return "" }),
		"at most so many":       several(3, func(int) string { return "#" + strings.Repeat("x", maxOctets/2-10) }),
		"more than 250000 valu": several(2, func(int) string { return "tracks: [" + strings.Repeat("x,", maxValues/2) + "]" }),
		"there can be 10000": several(2, func(i int) string {
			var b strings.Builder
			b.WriteString("tracks:\n")
			for n := range maxEntries/2 + 1 {
				fmt.Fprintf(&b, "  - {name: t%d, tcp: \"127.0.0.1:80\"}\n", i*maxEntries+n)
			}
			return b.String()
		}),
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q isn't in %.500s", want, said)
		}
	}
}
