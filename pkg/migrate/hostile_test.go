// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Whatever is in keepalived's files, they are read soon and in little memory, or
// refused in one line with its place.
func TestHostileKeepalived(t *testing.T) {
	each := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, strings.ReplaceAll(format, "%d", "%[1]d"), i)
		}
		return b.String()
	}
	const (
		instance = "vrrp_instance A {\n interface eth0\n virtual_router_id 51\n virtual_ipaddress {\n 192.0.2.10/24\n }\n}\n"
		tooMuch  = "too much with its variables replaced"
	)
	growing := "$V0=abc\n"
	for i := range 60 {
		growing += fmt.Sprintf("$V%d=%s\n", i+1, strings.Repeat(fmt.Sprintf("${V%d} ", i), 9))
	}
	files := map[string]string{
		"/self":  "include /self\n",
		"/wild":  "include /*/*/*/*/x\n",
		"/glob":  "include /*\n",
		"/deep0": strings.Repeat("include /deep1\n", 40), "/deep1": strings.Repeat("include /deep2\n", 40), "/deep2": strings.Repeat("include /deep3\n", 40), "/deep3": strings.Repeat("include /empty\n", 40), "/empty": "",
		"/long": "includer /" + strings.Repeat("y", 60_000) + "\n",
	}
	for name, c := range map[string]struct{ content, says string }{
		"variables of variables":    {growing + "vrrp_instance A {\n interface ${V60}\n}\n", tooMuch},
		"variables in one line":     {"$A=" + strings.Repeat("y", 60_000) + "\nvrrp_instance A {\n interface " + strings.Repeat("${A}", 10_000) + "\n}\n", tooMuch},
		"a long definition":         {"$A=\\\n" + strings.Repeat("a b\\\n", 200_000) + "\nvrrp_instance A {\n" + strings.Repeat("$A\n", 1000) + "}\n", "more than 150000 lines"},
		"definitions":               {each(500_000, "$V%d=x\n"), tooMuch},
		"sequences":                 {"vrrp_instance A {\n~SEQ(a, 1, 100000) ~SEQ(b, 1, 100000) foo $a $b\n}\n", "more than 150000 lines"},
		"deep":                      {strings.Repeat("a {\n", 100_000), "64 blocks within each other"},
		"deep in a line":            {strings.Repeat("a { ", 10_000), "64 blocks within each other"},
		"a long line":               {"vrrp_instance " + strings.Repeat("y", 3<<20) + " {\n}\n", "a line of more than 64 kB"},
		"words":                     {"vrrp_instance A {\n" + strings.Repeat(strings.Repeat("a ", 1000)+"\n", 2000) + "}\n", "more than 500000 words"},
		"lines":                     {"vrrp_instance A {\n" + strings.Repeat("a\n", 1_000_000) + "}\n", "more than 150000 lines"},
		"blocks":                    {instance + strings.Repeat("foo {}\n", 15_000), "more than 10000 blocks"},
		"instances of one name":     {strings.Repeat(instance, 2000), ""},
		"addresses":                 {"vrrp_instance A {\n virtual_ipaddress {\n" + strings.Repeat("192.0.2.10/24\n", 140_000) + "}\n}\n", "more than 20000 directives in one block"},
		"groups of the same":        {each(300, "vrrp_sync_group G%d {\n group {\n"+each(300, " I%d\n")+" }\n}\n") + each(300, "vrrp_instance I%d {\n interface eth0\n virtual_router_id 5\n virtual_ipaddress {\n 192.0.2.10/24\n }\n}\n"), "more than 50000 findings"},
		"checks of many members":    {"vrrp_sync_group G {\n group {\n" + each(2000, " I%d\n") + "}\n track_interface {\n" + each(19_000, " e%d\n") + "}\n}\n" + each(2000, "vrrp_instance I%d {\n interface eth0\n virtual_router_id 5\n virtual_ipaddress {\n 192.0.2.10/24\n }\n}\n"), "more than 100000 checks"},
		"conditions":                {instance + strings.Repeat("@a ", 20_000) + "x\n" + strings.Repeat("@x foo\n", 60_000), "more than 50000 findings"},
		"an include of itself":      {"include /self\n", "is being read already"},
		"an include of directories": {"include /wild\n", "more than 3 of its directories are patterns"},
		"an include of all":         {"include /glob\n", tooMuch},
		"an include of a long name": {"includer /long\n", "/long:1: includer /yyyy"},
		"braces in braces":          {"include /" + strings.Repeat("{", 30_000) + strings.Repeat("}", 30_000) + "\n", "name too many files"},
		"many braces":               {"include /" + strings.Repeat("{a,b}", 500) + "\n", "name too many files"},
		"includes of includes":      {"include /deep0\n", tooMuch},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begin := time.Now()
			r, err := Keepalived("main", func(path string) ([]byte, error) {
				if path == "main" {
					return []byte(c.content), nil
				}
				content, there := files[path]
				if !there {
					return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
				}
				return []byte(content), nil
			}, func(pattern string) (all []string, err error) {
				for path := range files {
					if ok, _ := filepath.Match(pattern, path); ok {
						all = append(all, path)
					}
				}
				return all, nil
			})
			took := time.Since(begin)
			runtime.ReadMemStats(&after)
			if allocated := after.TotalAlloc - before.TotalAlloc; took > time.Minute || allocated > 768<<20 {
				t.Errorf("it took %v and %d MB", took, allocated>>20)
			}
			switch {
			case err != nil:
				checkError(t, err)
				if c.says == "" || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%q isn't in it: %.500v", c.says, err)
				}
			case c.says != "":
				t.Error("it is taken")
			default:
				check(t, r)
			}
		})
	}
}

// What isn't a file of the Rust failover is refused soon.
func TestHostileFailover(t *testing.T) {
	for name, c := range map[string]struct{ content, says string }{
		"deep":    {`{"vrid":` + strings.Repeat("[", 1_000_000), "exceeded max depth"},
		"objects": {"[" + strings.Repeat(`{"vrid":1},`, 600_000) + `{"vrid":1}]`, "more than 10000 routers"},
		"keys":    {"{" + strings.Repeat(`"a":1,`, 1_000_000) + `"vrid":1}`, "more than 100 keys"},
		"text":    {`{"name":"` + strings.Repeat("y", 7<<20) + `","vrid":1}`, ""},
	} {
		content := []byte(c.content)
		begin := time.Now()
		LooksLikeFailover(content)
		r, err := Failover("main", content)
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("%s: it took %v", name, took)
		}
		switch {
		case err != nil:
			checkError(t, err)
			if c.says == "" || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %q isn't in it: %.500v", name, c.says, err)
			}
		case c.says != "":
			t.Errorf("%s: it is taken", name)
		default:
			check(t, r)
		}
	}
}
