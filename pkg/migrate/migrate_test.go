// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/failoverd/failoverd/pkg/config"
)

var update = flag.Bool("update", false, "write the results to their golden files")

// in reads files below a directory.
func in(dir string) (open func(string) ([]byte, error), glob func(string) ([]string, error)) {
	fsys := os.DirFS(dir)
	return func(path string) ([]byte, error) { return fs.ReadFile(fsys, path) },
		func(pattern string) ([]string, error) { return fs.Glob(fsys, pattern) }
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: %s", path, diff)
	}
}

func written(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s  %s\n", f.Kind, f)
	}
	return b.String()
}

// check is what holds for every result.
func check(t *testing.T, r *Result) {
	t.Helper()
	for _, f := range r.Findings {
		if f.Path == "" || f.Line < 1 || f.Directive == "" || f.Text == "" {
			t.Errorf("a finding isn't complete: %+v", f)
		}
	}
	_, err := config.Parse("x", r.YAML)
	var mistakes *config.Mistakes
	_, routers, _ := strings.Cut(string(r.YAML), "\nrouters:")
	switch {
	case err == nil, !strings.Contains(routers, "\n  - "):
	case errors.As(err, &mistakes):
		t.Errorf("failoverd refuses the result: %v", err)
	default:
		t.Error(err)
	}
}

func sources(t *testing.T, pattern string, least int) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) < least {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	return paths
}

// alpha are the options of a host that keepalived calls alpha.
var alpha = Options{ConfigID: "alpha", Getenv: func(name string) (string, bool) { return "from-" + name, name == "NAME" }, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.3")}}

func TestKeepalived(t *testing.T) {
	for _, path := range slices.Concat(sources(t, "testdata/keepalived/*.conf", 6), sources(t, "testdata/syntax/*.conf", 6), sources(t, "testdata/cases/*.conf", 23)) {
		name := strings.TrimSuffix(path, ".conf")
		t.Run(filepath.Base(name), func(t *testing.T) {
			open, glob := in(filepath.Dir(path))
			r, err := KeepalivedWith(filepath.Base(path), open, glob, alpha)
			if err != nil {
				golden(t, name+".error.txt", err.Error()+"\n")
				return
			}
			check(t, r)
			golden(t, name+".yaml", string(r.YAML))
			golden(t, name+".findings.txt", written(r.Findings))
		})
	}
}

// What can't be read is an error with the file, the line and the remedy.
func TestKeepalivedErrors(t *testing.T) {
	var all strings.Builder
	for _, path := range sources(t, "testdata/errors/*.conf", 16) {
		open, glob := in(filepath.Dir(path))
		r, err := KeepalivedWith(filepath.Base(path), open, glob, alpha)
		if err == nil {
			t.Errorf("%s: no error: %s", path, r.YAML)
			continue
		}
		fmt.Fprintln(&all, err)
	}
	golden(t, "testdata/errors/errors.txt", all.String())
}

// No password is written anywhere but to its file.
func TestSecret(t *testing.T) {
	for _, path := range []string{"testdata/keepalived/haproxy-pair.conf", "testdata/syntax/authentication.conf", "testdata/syntax/conditions.conf", "testdata/syntax/values.conf"} {
		open, glob := in(".")
		r, err := KeepalivedWith(path, open, glob, alpha)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"not2tell", "auth_pass one", "auth_pass two", "secret"} {
			if all := string(r.YAML) + written(r.Findings) + fmt.Sprintf("%v %+v %q", r.Keys, r.Keys, r.Keys); strings.Contains(all, secret) {
				t.Errorf("%s: %q is in the result: %s", path, secret, all)
			}
		}
	}
}

// What the result refers to is there to be written, as failoverd reads it.
func TestKeyFiles(t *testing.T) {
	open, glob := in("testdata/syntax")
	r, err := KeepalivedWith("authentication.conf", open, glob, Options{KeyDir: "/keys"})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, k := range r.Keys {
		got[k.Path] = k.Secret
		if !strings.Contains(string(r.YAML), k.Path) {
			t.Errorf("nobody reads %s", k.Path)
		}
	}
	want := map[string]string{
		"/keys/eth0-51-key-1":    "hex:0001020304050607not2tell0c0d0e0f101112131415161718191a1b1c1d1e1f\n",
		"/keys/eth0-52-key-1":    "not2tell not2tell not2tell not2tell not2tell\n",
		"/keys/eth0-53-password": "not2tell\n",
		"/keys/eth0-54-key-7":    "not2tell-not2tell-not2tell-not2tell-not2tell\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFailover(t *testing.T) {
	for _, path := range sources(t, "testdata/failover/*.json", 7) {
		name := strings.TrimSuffix(path, ".json")
		t.Run(filepath.Base(name), func(t *testing.T) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Failover(filepath.Base(path), content)
			if err != nil {
				golden(t, name+".txt", err.Error()+"\n")
				return
			}
			check(t, r)
			golden(t, name+".yaml", string(r.YAML))
			golden(t, name+".findings.txt", written(r.Findings))
		})
	}
}

func TestLooksLikeFailover(t *testing.T) {
	for content, want := range map[string]bool{
		`{"vrid": 51}`: true,
		`[{"name": "x"}, {"interface_name": "eth0"}]`: true,
		`[{"ip_addresses": []}]`:                      true,
		`{"routers": [{"vrid": 51}]}`:                 false,
		`{"routers": [], "vrid": 51}`:                 false,
		`[]`:                                          false,
		`51`:                                          false,
		``:                                            false,
		`{"vrid": 51`:                                 false,
		"vrrp_instance VI_1 {\n}\n":                   false,
	} {
		if got := LooksLikeFailover([]byte(content)); got != want {
			t.Errorf("%s: %v", content, got)
		}
	}
}

// placed is what an error begins with: a file and a line.
var placed = regexp.MustCompile(`^[^:\n]*:[1-9][0-9]*:`)

// checkError checks what holds for every error.
func checkError(t *testing.T, err error) {
	t.Helper()
	if s := err.Error(); !placed.MatchString(s) || len(s) > 1000 || strings.Contains(s, "\n") {
		t.Errorf("an error without its place, or too long: %.1500q", s)
	}
}

// same checks that a result has the findings that another one has.
func same(t *testing.T, a, b *Result, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(a.YAML), string(b.YAML)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(a.Findings, b.Findings); diff != "" {
		t.Error(diff)
	}
}

// Whatever it is given, it ends with a result that failoverd accepts, or says what
// it commented out, or with an error that has its place. It has the same result
// again.
func FuzzKeepalived(f *testing.F) {
	for _, pattern := range []string{"testdata/keepalived/*.conf", "testdata/syntax/*.conf", "testdata/errors/*.conf"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(content)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		read := func(content []byte) (*Result, error) {
			return Keepalived("main", func(path string) ([]byte, error) {
				if path != "main" && len(content)%2 == 0 {
					return nil, fs.ErrNotExist
				}
				return content, nil
			}, func(pattern string) ([]string, error) { return []string{"x" + pattern}, nil })
		}
		r, err := read(content)
		if err != nil {
			checkError(t, err)
			return
		}
		check(t, r)
		if strings.Contains(string(r.YAML), "Commented out") && len(r.Findings) == 0 {
			t.Error("nothing is said of what is commented out")
		}
		again, err := read(content)
		same(t, r, again, err)
	})
}

func FuzzFailover(f *testing.F) {
	paths, err := filepath.Glob("testdata/failover/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		LooksLikeFailover(content)
		r, err := Failover("x", content)
		if err != nil {
			checkError(t, err)
			return
		}
		check(t, r)
		marked, err := Failover("x", append([]byte("\ufeff"), unmarked(content)...))
		same(t, r, marked, err)
	})
}
