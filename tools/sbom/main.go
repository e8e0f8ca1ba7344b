// SPDX-License-Identifier: Apache-2.0

// Command sbom lists the modules that Go has linked into programs. It writes a bill of materials
// (CycloneDX, JSON) and the texts of the licences, which have to be distributed with the
// programs. It reads the modules from the programs, as go version -m does, and the licences
// from the module cache.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

func main() {
	var o options
	var epoch int64
	flag.StringVar(&o.out, "out", "", "`path` of the bill of materials")
	flag.StringVar(&o.notices, "notices", "", "`path` of the text with all licences")
	flag.StringVar(&o.version, "version", "", "`version` of failoverd")
	flag.Int64Var(&epoch, "epoch", 0, "`seconds` since 1970 for the timestamp of the bill of materials")
	flag.Parse()
	o.programs, o.time = flag.Args(), time.Unix(epoch, 0).UTC()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

type options struct {
	out, notices, version string
	programs              []string
	time                  time.Time
}

func run(o options) error {
	if len(o.programs) == 0 || o.out == "" && o.notices == "" {
		return errors.New("--out or --notices and at least one program are needed; make release sets them")
	}
	if o.out != "" && o.version == "" {
		return errors.New("--out needs --version; make release sets both")
	}
	modules, err := linked(o.programs)
	if err != nil {
		return err
	}
	dirs, err := directories()
	if err != nil {
		return err
	}
	for i, m := range modules {
		if modules[i].texts, err = licences(dirs[m.path]); err != nil {
			return fmt.Errorf("the licence of %s: %w", m.path, err)
		}
	}
	if o.notices != "" {
		if err := os.WriteFile(o.notices, notices(modules), 0o644); err != nil {
			return err
		}
	}
	if o.out == "" {
		return nil
	}
	text, err := cyclone(o.version, o.time, modules)
	if err != nil {
		return err
	}
	return os.WriteFile(o.out, text, 0o644)
}

// directories returns the directories of the modules of the build and of the standard library.
func directories() (map[string]string, error) {
	dirs := make(map[string]string)
	for _, args := range [][]string{
		{"list", "-m", "-f", "{{.Path}}\t{{.Dir}}", "all"},
		{"env", "GOROOT"},
	} {
		out, err := exec.Command("go", args...).Output()
		if err != nil {
			return nil, fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
		}
		for line := range strings.Lines(string(out)) {
			if path, dir, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
				dirs[path] = dir
			} else {
				dirs[standard] = path
			}
		}
	}
	return dirs, nil
}
