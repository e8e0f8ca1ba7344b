// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

const goodRouters = "routers:\n  - interface: eth0\n    vrid: 51\n    addresses: [192.0.2.10/24]\n"

// hostile are files that take a careless reader minutes, gigabytes or its stack,
// with what is said of them; nothing is for those that are fine.
func hostile() map[string]struct{ content, says string } {
	each := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, strings.ReplaceAll(format, "%d", "%[1]d"), i)
		}
		return b.String()
	}
	bomb := func(first, open, alias, end string) string {
		all := first
		for i := range 11 {
			all += fmt.Sprintf("a%d: &a%d %s%s%s\n", i+1, i+1, open, strings.Repeat(fmt.Sprintf(alias+",", i), 9), end)
		}
		return all + goodRouters
	}
	const (
		deep    = "lists and groups within each other"
		many    = "values, with those that aliases stand for"
		unknown = "\nand 199"
		long    = "octets or more"
	)
	return map[string]struct{ content, says string }{
		"merge of itself":            {"global: &g\n  <<: *g\n" + goodRouters, "no anchor &g before this alias"},
		"merge of itself in braces":  {"global: &g {<<: *g}\n" + goodRouters, "no anchor &g before this alias"},
		"merge of itself in a list":  {"global: &g {<<: [*g, *g]}\n" + goodRouters, "no anchor &g before this alias"},
		"merge of each other":        {"global: &a {<<: *b}\ntracks: &b [{<<: *a}]\n" + goodRouters, "no anchor &b before this alias"},
		"merge of what is around":    {"global: &a\n  notify: {<<: {<<: *a}}\n" + goodRouters, "`notify` is a group of keys"},
		"list of itself":             {"routers: &r\n  - *r\n", "no anchor &r before this alias"},
		"alias of itself":            {"global: &g *g\n" + goodRouters, "an alias has no anchor"},
		"nested merges":              {bomb("a0: &a0 {log_level: info}\n", "{<<: [", "*a%d", "]}"), many},
		"nested merges below global": {"global:\n  <<:\n    - &a0 {log_level: info}\n" + strings.ReplaceAll(bomb("", "{<<: [", "*a%d", "]}"), "a1: ", "    - "), many},
		"nested aliases":             {bomb("a0: &a0 [x]\n", "[", "*a%d", "]"), many},
		"chain of merges":            {"a0: &a0 {log_level: info}\n" + each(20000, "b%d: &a%d {<<: *a%d}\n") + goodRouters, "unknown key"},
		"routers of one anchor":      {"x: &r {interface: eth0, vrid: 51, addresses: [192.0.2.10/24" + strings.Repeat(", 192.0.2.10/24", 5000) + "]}\nrouters: [" + strings.Repeat("*r, ", 20000) + "]\n", many},
		"deep in brackets":           {"global: " + strings.Repeat("[", 50000) + strings.Repeat("]", 50000) + "\n" + goodRouters, deep},
		"deep in braces":             {"global: " + strings.Repeat("{a: ", 20000) + "1" + strings.Repeat("}", 20000) + "\n" + goodRouters, deep},
		"deep in dashes":             {"global: " + "\n  " + strings.Repeat("- ", 50000) + "x\n" + goodRouters, deep},
		"deep by indentation": {func() string {
			var b strings.Builder
			for i := range 3000 {
				b.WriteString(strings.Repeat(" ", i) + "a:\n")
			}
			return b.String()
		}(), deep},
		"deep and never closed": {strings.Repeat("[", 500000), deep},
		"deep pairs":            {"global: " + strings.Repeat("[a: ", 100000) + "\n" + goodRouters, deep},
		"deep question marks":   {strings.Repeat("? ", 100000), "question mark"},
		"closed too often":      {"global: {}" + strings.Repeat("]", 500000), "behind the end"},
		"anchors":               {"global:\n" + each(100000, "  a%d: &a%d x\n") + goodRouters, "more"},
		"anchors of one value":  {"global: " + strings.Repeat("&a ", 100000) + "\n" + goodRouters, "one anchor and one tag"},
		"tags":                  {"global: " + strings.Repeat("!!a ", 100000) + "\n" + goodRouters, "one anchor and one tag"},
		"aliases":               {"a: &a x\nb: [" + strings.Repeat("*a,", 300000) + "]\n" + goodRouters, many},
		"values":                {"b: [" + strings.Repeat("a,", 500000) + "]\n" + goodRouters, many},
		"empty values":          {"b:\n" + strings.Repeat("-\n", 500000) + goodRouters, many},
		"commas":                {"b: [" + strings.Repeat(",", 500000) + "]\n" + goodRouters, "nothing is before this comma"},
		"unknown keys":          {goodRouters + each(20000, "    k%d: 1\n"), unknown},
		"unknown long keys":     {goodRouters + "    " + strings.Repeat("k", 5<<20) + ": 1\n", "unknown key"},
		"routers":               {"routers:\n" + strings.Repeat("  - {}\n", 100000), "there can be 10000"},
		"same routers":          {"routers:\n" + strings.Repeat("  - {name: a, interface: eth0, vrid: 51, addresses: [192.0.2.10/24, 192.0.2.11/24]}\n", 9000), "more"},
		"same addresses":        {"routers:\n  - interface: eth0\n    vrid: 1\n    addresses: [" + strings.Repeat("192.0.2.10/24, ", 200000) + "]\n", "is given twice"},
		"same peers":            {goodRouters + "    unicast: {peers: [" + strings.Repeat("192.0.2.3, ", 100000) + "], source: [" + strings.Repeat("192.0.2.1, ", 100000) + "]}\n", "given twice"},
		"same routes":           {goodRouters + "    routes: [" + strings.Repeat("{to: 203.0.113.0/24}, ", 50000) + "]\n", "given twice"},
		"unknown members":       {"groups:\n  - name: a\n    routers: [" + each(50000, "lan%d, ") + "]\nrouters:\n" + each(9000, "  - {name: lun%d, interface: eth%d, vrid: 51, addresses: [192.0.2.10/24]}\n"), "no router is called"},
		"unknown tracks":        {goodRouters + "    track: [" + each(50000, "t%d, ") + "]\n", "there can be 100"},
		"checks of each other": {func() string {
			// Each router depends on two of the next, so that there are 2 to the 30th ways.
			var t, r strings.Builder
			for i := range 30 {
				fmt.Fprintf(&t, "  - {name: a%d, router: r%d}\n  - {name: b%d, router: r%d}\n", i, i+1, i, i+1)
				fmt.Fprintf(&r, "  - {name: r%d, interface: eth0, vrid: %d, addresses: [192.0.2.%d/24], track: [a%d, b%d]}\n", i, i+1, i+1, i, i)
			}
			return "tracks:\n" + t.String() + "routers:\n" + r.String() + "  - {name: r30, interface: eth0, vrid: 200, addresses: [192.0.2.200/24]}\n"
		}(), ""},
		"a circle of checks": {"tracks:\n" + each(9000, "  - {name: t%d, router: r%d}\n") + "routers:\n" + func() string {
			var b strings.Builder
			for i := range 9000 {
				fmt.Fprintf(&b, "  - {name: r%d, interface: eth%d, vrid: 1, addresses: [10.1.%d.%d/32], track: [t%d]}\n", i, i, i/250, 1+i%250, (i+1)%9000)
			}
			return b.String()
		}(), "depends on its own state"},
		"documents":             {strings.Repeat("---\na: 1\n", 100000), "a second document"},
		"empty documents":       {strings.Repeat("---\n", 1000000), "nothing is configured yet"},
		"directives":            {strings.Repeat("%YAML 1.2\n", 500000), "nothing is configured yet"},
		"a long name":           {goodRouters + "    name: " + strings.Repeat("y", 5<<20) + "\n", "can't be a name"},
		"a long word":           {strings.Repeat("y", 5<<20), "keys and values are expected"},
		"a long text":           {goodRouters + "    name: |\n" + strings.Repeat("      y\n", 500000), "can't be a name"},
		"a long folded text":    {goodRouters + "    name: >\n" + strings.Repeat("      y\n\n", 500000), "can't be a name"},
		"a long text in lines":  {goodRouters + "    name: y\n" + strings.Repeat("      y -\n", 500000), "can't be a name"},
		"blank lines in a text": {goodRouters + "    name: y\n" + strings.Repeat("\n", 4<<20) + "  # end\n", ""},
		"tabs in quotes":        {goodRouters + "    name: \"" + strings.Repeat("\t", 4<<20) + "\"\n", "can't be a name"},
		"escapes in quotes":     {goodRouters + "    name: \"" + strings.Repeat("\\n", 2<<20) + "\"\n", "can't be a name"},
		"quotes not closed":     {goodRouters + "    name: \"" + strings.Repeat("'\n", 2<<20), "never closed"},
		"a long number":         {"routers:\n  - vrid: " + strings.Repeat("1", 4<<20) + "\n", "where a whole number is expected"},
		"a long duration":       {goodRouters + "    interval: " + strings.Repeat("1h", 2<<20) + "\n", "where a duration is expected"},
		"a long address":        {"routers:\n  - addresses: [" + strings.Repeat("1:", 2<<20) + "]\n", "of the address"},
		"a long comment":        {goodRouters + "#" + strings.Repeat("x", 4<<20) + "\n", ""},
		"comments":              {goodRouters + strings.Repeat("# x\n", 1<<20), ""},
		"too long":              {goodRouters + "#" + strings.Repeat("x", maxOctets) + "\n", long},
		"spaces":                {goodRouters + strings.Repeat(" ", 4<<20) + "x: 1\n", "indented like nothing above it"},
		"a long alias":          {"a: *" + strings.Repeat("x", 4<<20) + "\n" + goodRouters, "unknown key"},
		"mistakes in one line":  {"routers: [" + strings.Repeat("{vrid: 300}, ", 9000) + "]", "more"},
		"carriage returns":      {strings.ReplaceAll(goodRouters, "\n", "\r"), ""},
		"many carriage returns": {strings.Repeat("\r", 4<<20) + goodRouters, ""},
		"a NUL":                 {strings.Replace(goodRouters, "eth0", "et\x00", 1), "control character 0x00"},
		"a bell":                {strings.Replace(goodRouters, "eth0", "et\a", 1), "control character 0x07"},
		"not UTF-8":             {strings.Replace(goodRouters, "eth0", "et\xff", 1), "the octet 0xff is not UTF-8"},
		"half a character":      {goodRouters + "#\xc3", "not UTF-8"},
		"UTF-16":                {wide(goodRouters, 2, false, true), "the file is UTF-16: save it as UTF-8"},
		"UTF-16, big end":       {wide(goodRouters, 2, true, true), "the file is UTF-16: save it as UTF-8"},
		"UTF-16 without mark":   {wide(goodRouters, 2, false, false), "the file is UTF-16: save it as UTF-8"},
		"UTF-16BE without mark": {wide(goodRouters, 2, true, false), "the file is UTF-16: save it as UTF-8"},
		"UTF-32":                {wide(goodRouters, 4, false, true), "the file is UTF-32: save it as UTF-8"},
		"UTF-32, big end":       {wide(goodRouters, 4, true, true), "the file is UTF-32: save it as UTF-8"},
		"UTF-32 without mark":   {wide(goodRouters, 4, false, false), "the file is UTF-32: save it as UTF-8"},
		"UTF-8 with mark":       {"\ufeff" + goodRouters, ""},
		"JSON with mark":        {"\ufeff" + `{"routers": [{"interface": "eth0", "vrid": 1, "addresses": ["192.0.2.10/24"]}]}`, ""},
		"a mark in the middle":  {strings.Replace(goodRouters, "vrid", "\ufeffvrid", 1), "unknown key"},
	}
}

// wide writes ASCII with so many octets for each character.
func wide(s string, octets int, bigEnd, mark bool) string {
	var b strings.Builder
	one := func(low, high byte) {
		c := make([]byte, octets)
		if c[0], c[1] = low, high; bigEnd {
			c[0], c[1] = 0, 0
			c[octets-1], c[octets-2] = low, high
		}
		b.Write(c)
	}
	if mark {
		one(0xff, 0xfe)
	}
	for i := range len(s) {
		one(s[i], 0)
	}
	return b.String()
}

// Whatever is in a file, it is read soon and in little memory, or refused with its
// place, in few lines.
func TestHostileFiles(t *testing.T) {
	for name, c := range hostile() {
		t.Run(name, func(t *testing.T) {
			content := []byte(c.content)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begin := time.Now()
			_, err := Parse("x", content)
			took := time.Since(begin)
			runtime.ReadMemStats(&after)
			// All that was ever allocated, of which most is garbage soon. The limit of
			// time is for machines that do much else.
			if allocated := after.TotalAlloc - before.TotalAlloc; took > time.Minute || allocated > 256<<20 {
				t.Errorf("it took %v and %d MB", took, allocated>>20)
			}
			if (err == nil) != (c.says == "") {
				t.Fatalf("%.2000v", err)
			}
			if err != nil {
				checkMessage(t, err)
				if !strings.Contains(err.Error(), c.says) {
					t.Errorf("%q isn't in it: %.2000s", c.says, err)
				}
			}
		})
	}
}

var placed = regexp.MustCompile(`^x:[1-9][0-9]*:[1-9][0-9]*: .`)

// checkMessage checks what holds for what is said of every file.
func checkMessage(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, ErrNothing) {
		return // it has no place
	}
	var mistakes *Mistakes
	if !errors.As(err, &mistakes) {
		t.Fatalf("%T: %v", err, err)
	}
	said := mistakes.Error()
	if !placed.MatchString(said) {
		t.Errorf("no place in the first line: %.200q", said)
	}
	if n := strings.Count(said, "\n") + 1; n > 60 || len(said) > 20_000 {
		t.Errorf("%d lines, %d octets", n, len(said))
	}
	if !utf8.ValidString(said) || strings.ContainsFunc(said, func(c rune) bool { return c < ' ' && c != '\n' && c != '\t' }) {
		t.Errorf("a terminal would obey it: %.500q", said)
	}
}

// What isn't a file isn't waited for, and not opened if that may do something.
func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	silent := filepath.Join(dir, "silent")
	if err := unix.Mkfifo(silent, 0o600); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(silent, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Close() }()
	sparse := filepath.Join(dir, "sparse")
	if err := os.WriteFile(sparse, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(sparse, 1<<40); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{
		dir:         ":1:1: it is not a file: it is a directory",
		fifo:        ": nothing is configured yet",
		silent:      ":1:1: it is a FIFO whose writer takes longer than 2s",
		"/dev/zero": ":1:1: it is not a file: it is a device",
		sparse:      ":1:1: it has 8388609 octets or more",
	} {
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path+says) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Load(filepath.Join(dir, "none")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// As many routers and addresses as anybody has are read.
func TestLargeFile(t *testing.T) {
	var b strings.Builder
	b.WriteString("routers:\n")
	for i := range 4000 {
		fmt.Fprintf(&b, "  - name: r%d\n    interface: eth%d\n    vrid: %d\n    addresses:\n", i, i/200, 1+i%200)
		for j := range 40 {
			fmt.Fprintf(&b, "      - 10.%d.%d.%d/32\n", i/250, i%250, 1+j)
		}
	}
	f, err := Parse("x", []byte(b.String()))
	if err != nil || len(f.Routers) != 4000 || len(f.Routers[3999].Addresses) != 40 {
		t.Errorf("%v", err)
	}
}

// Values are what they are in YAML 1.2.
func TestYAML(t *testing.T) {
	for text, want := range map[string]string{
		"a: b":                                              "{a: b}",
		"a: b\nc:\n  d: e\n":                                "{a: b, c: {d: e}}",
		"a:\n- b\n- c\nd: e":                                "{a: [b, c], d: e}",
		"- a\n-\n  - b\n- - c\n  - d":                       "[a, [b], [c, d]]",
		"- a: b\n  c: d\n-\n  e: f":                         "[{a: b, c: d}, {e: f}]",
		"[a, [b, {c: d}], ]":                                "[a, [b, {c: d}]]",
		"{a: , b, c: [ ], d: {}}":                           "{a: , b: , c: [], d: {}}",
		"[a: b, c: d]":                                      "[{a: b}, {c: d}]",
		"{a:b, \"c\":d, e: f:g}":                            "{a: b, 'c': d, e: f:g}",
		"[::1, fe80::, 2001:db8::1/64]":                     "[::1, fe80::, 2001:db8::1/64]",
		"a: 2001:db8::\nb: ::":                              "{a: 2001:db8::, b: ::}",
		"a: 'it''s'\nb: \"x\\ty\\u00e9\\ud83d\\ude00\"":     "{a: 'it's', b: 'x\tyé😀'}",
		"a: \"one\n  two\n\n  three \\\n  four\"":           "{a: 'one two\nthree four'}",
		"a: one\n  two\n\n  three\nb: c":                    "{a: one two\nthree, b: c}",
		"a: |\n  one\n   two\n\nb: |-\n  c\nd: |+\n  e\n\n": "{a: 'one\n two\n', b: 'c', d: 'e\n\n'}",
		"a: >\n  one\n  two\n\n  three\n    four\n  five\n": "{a: 'one two\nthree\n  four\nfive\n'}",
		"a: |2\n    x\nb: c":                                "{a: '  x\n', b: c}",
		"a: &x b\nc: *x\nd: &y {e: *x}\nf: *y":              "{a: b, c: b, d: {e: b}, f: {e: b}}",
		"a: &x\n  b: c\nd: *x":                              "{a: {b: c}, d: {b: c}}",
		"- &x a: b\n- *x":                                   "[{a: b}, a]",
		"&x a: b\n&y c: *x":                                 "{a: b, c: a}",
		"a: !!str 1\nb: !x c\nd: ! 2":                       "{a: '1', b: c, d: '2'}",
		"a: # comment\n  b # comment\n# c\nd: x#y":          "{a: b, d: x#y}",
		"a: http://b:80/#c\nd: -e":                          "{a: http://b:80/#c, d: -e}",
		"%YAML 1.2\n---\na: b\n...\n":                       "{a: b}",
		"--- {a: b}":                                        "{a: b}",
		"---\n---\na: b":                                    "{a: b}",
		"? a":                                               "",
		"a: b: c":                                           "",
		"a: b\n  c: d":                                      "",
		"a:\n    b: c\n  d: e":                              "",
		"a: [b":                                             "",
		"a: b]\nc: ]":                                       "",
		"a: [b] c":                                          "",
		"a: - b":                                            "",
		"a: @b":                                             "",
		"a: |x\n  b":                                        "",
		"a: \"\\q\"":                                        "",
		"a: \"\\ud83d\"":                                    "",
		"{a: b}: c":                                         "",
		"a\nb: c":                                           "",
	} {
		n, bad := parseYAML(text)
		got := ""
		if bad == nil {
			got = written(n)
		}
		if got != want {
			t.Errorf("%q: %s, %+v; want %s", text, got, bad, want)
		}
	}
}

// written writes a node in one line.
func written(n *node) string {
	var all []string
	switch n.form {
	case alias:
		return written(n.child)
	case sequence:
		for c := n.child; c != nil; c = c.next {
			all = append(all, written(c))
		}
		return "[" + strings.Join(all, ", ") + "]"
	case mapping:
		for c := n.child; c != nil; c = c.next.next {
			all = append(all, written(c)+": "+written(c.next))
		}
		return "{" + strings.Join(all, ", ") + "}"
	case quoted:
		return "'" + n.text + "'"
	}
	return n.text
}

// What is refused says where, in few lines; what is taken is the same when it is
// read again, and with a byte order mark and other line breaks.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	for _, c := range hostile() {
		if len(c.content) < 4096 {
			f.Add([]byte(c.content))
		}
	}
	f.Add([]byte(trackContent))
	f.Add(Reference)
	same := cmp.Options{cmpopts.EquateComparable(prefixes("192.0.2.1/24")[0], prefixes("192.0.2.1/24")[0].Addr()), cmp.AllowUnexported(Track{}), cmpopts.IgnoreUnexported(File{}, Group{}), cmpopts.IgnoreFields(Track{}, "at"), cmpopts.EquateEmpty()}
	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := Parse("x", content)
		if (file == nil) == (err == nil) {
			t.Fatalf("%v, %v", file, err)
		}
		if err != nil {
			checkMessage(t, err)
			return
		}
		text := strings.TrimPrefix(string(content), byteOrderMark)
		others := []string{text, byteOrderMark + text}
		if !strings.Contains(text, "\r") {
			others = append(others, strings.ReplaceAll(text, "\n", "\r\n"), strings.ReplaceAll(text, "\n", "\r"))
		}
		for _, other := range others {
			again, err := Parse("x", []byte(other))
			if err != nil {
				t.Fatalf("%q is refused: %v", other, err)
			}
			if diff := cmp.Diff(file, again, same); diff != "" {
				t.Fatalf("%q is another file: %s", other, diff)
			}
		}
	})
}
