// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/migrate"
)

// importPaths returns the configuration files of the other programs. The first one that
// exists is imported.
func importPaths() []string {
	paths := []string{"/etc/keepalived/keepalived.conf"}
	if snap := os.Getenv("SNAP_COMMON"); snap != "" {
		paths = append(paths, filepath.Join(snap, "vrrp-config.json"))
	}
	return append(paths, "/var/snap/failover/common/vrrp-config.json", "/etc/failover/vrrp-config.json")
}

func importCommand() *cobra.Command {
	var from, output string
	var force bool
	c := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Convert a configuration of keepalived or of the Rust failover",
		Long: `import reads the configuration of keepalived or of the Rust failover and writes one for
failoverd. It changes nothing else, and needs no running failoverd and no privileges.

Without a FILE, import takes the first of these that exists:
/etc/keepalived/keepalived.conf, $SNAP_COMMON/vrrp-config.json,
/var/snap/failover/common/vrrp-config.json, /etc/failover/vrrp-config.json.

Each directive that can't be translated one to one is listed on standard error, with its
place and a remedy, and is a comment in the result:

  behaves differently  translated: check whether the difference matters
  later                failoverd doesn't support it yet
  another program's    out of the scope of failoverd
  not understood       a mistake, or newer than this failoverctl
  not needed           failoverd does it by itself, or it has no effect

A router that could do harm without the missing part is commented out. Passwords and
keys are never in the result. With --output they are written to files beside it that only
their owner can read; without it, the findings name the files that are expected. Both
programs speak VRRP, so hosts can be migrated one at a time, the Backup first.

Exit codes: 0 done, even with such findings, 1 the file can't be read or has a mistake, or
the result exists already.`,
		Example: `  failoverctl import
  failoverctl import -o failoverd.yaml /etc/keepalived/keepalived.conf
  failoverctl check failoverd.yaml`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeFiles("conf", "json"),
		RunE: func(c *cobra.Command, args []string) error {
			if from != "" && from != "keepalived" && from != "failover" {
				return &usageError{fmt.Errorf("--from %q is not supported: use keepalived or failover", from)}
			}
			path, err := importSource(args, importPaths())
			if err != nil {
				return err
			}
			r, err := importFile(path, from, output)
			if err != nil {
				return err
			}
			if err := writeImport(c.OutOrStdout(), output, force, r.YAML); err != nil {
				return err
			}
			if output != "" {
				if err := writeKeys(r.Keys, force); err != nil {
					return err
				}
			}
			return writeFindings(c.ErrOrStderr(), r.Findings)
		},
	}
	c.Flags().StringVar(&from, "from", "", "the `program` that the file is for: keepalived or failover (default: detected from the file)")
	completeFlag(c, "from", "keepalived", "failover")
	c.Flags().StringVarP(&output, "output", "o", "", "write the result to this `file` instead of standard output")
	c.Flags().BoolVar(&force, "force", false, "overwrite the files that --output writes")
	return c
}

func importSource(args, known []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	for _, path := range known {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is nothing to import: none of %s exists; name the file", strings.Join(known, ", "))
}

func importFile(path, from, output string) (*migrate.Result, error) {
	content, err := config.ReadFile(path)
	var mistakes *config.Mistakes
	if errors.As(err, &mistakes) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("read the file to import: %w", err)
	}
	if from == "failover" || from == "" && migrate.LooksLikeFailover(content) {
		return migrate.Failover(path, content)
	}
	if output == "" {
		return migrate.Keepalived(path, config.ReadFile, filepath.Glob)
	}
	beside, err := filepath.Abs(filepath.Dir(output))
	if err != nil {
		return nil, fmt.Errorf("find the directory of the result: %w", err)
	}
	return migrate.KeepalivedWithKeys(path, config.ReadFile, filepath.Glob, beside)
}

// writeKeys writes the secrets to files beside the result that only their owner can read.
func writeKeys(all []migrate.KeyFile, force bool) error {
	for _, k := range all {
		if force {
			// An existing file may be readable for others.
			if err := os.Remove(k.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("overwrite a key file: %w", err)
			}
		}
		if err := writeNew(k.Path, []byte(k.Secret), os.O_EXCL, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeImport writes the result to a file, or to w.
func writeImport(w io.Writer, path string, force bool, content []byte) error {
	if path == "" {
		_, err := w.Write(content)
		return err
	}
	how := os.O_EXCL
	if force {
		how = os.O_TRUNC
	}
	return writeNew(path, content, how, 0o644)
}

// writeNew writes a file. With O_EXCL as how, it fails if the file exists.
func writeNew(path string, content []byte, how int, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|how, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s already exists: name another file, or overwrite it with --force", path)
	}
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// kindTitles are the names of the kinds: the heading of their findings, and the text of
// the summary for one finding and for several.
var kindTitles = map[migrate.Kind]struct{ head, one, several string }{
	migrate.Changed:  {"Translated, but it behaves differently:", "translated, but behaves differently", "translated, but behave differently"},
	migrate.Later:    {"Not supported yet:", "not supported yet", "not supported yet"},
	migrate.Foreign:  {"Another program's job:", "is another program's job", "are another program's job"},
	migrate.Unknown:  {"Not understood:", "not understood", "not understood"},
	migrate.Unneeded: {"Not needed:", "not needed", "not needed"},
}

// writeFindings writes the findings of each kind under its heading, and a summary.
func writeFindings(w io.Writer, all []migrate.Finding) error {
	var summary []string
	for _, kind := range migrate.Kinds {
		names, n := kindTitles[kind], 0
		for _, f := range all {
			if f.Kind != kind {
				continue
			}
			if n++; n == 1 {
				if _, err := fmt.Fprintln(w, names.head); err != nil {
					return err
				}
			}
			if _, err := fmt.Fprintf(w, "  %s\n", f); err != nil {
				return err
			}
		}
		switch {
		case n == 1:
			summary = append(summary, "1 "+names.one)
		case n > 1:
			summary = append(summary, fmt.Sprintf("%d %s", n, names.several))
		}
	}
	if len(summary) == 0 {
		summary = []string{"everything translated one to one"}
	}
	_, err := fmt.Fprintln(w, strings.Join(summary, ", "))
	return err
}
