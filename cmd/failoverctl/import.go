// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/migrate"
	"github.com/failoverd/failoverd/pkg/script"
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
	var from, output, lvs, id string
	var force, verbose bool
	c := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Convert a configuration of keepalived or of the Rust failover",
		Long: `import reads the configuration of keepalived or of the Rust failover and writes one for
failoverd. It changes nothing else, and needs no running failoverd and no privileges.

Without a FILE, import takes the first of these that exists:
/etc/keepalived/keepalived.conf, $SNAP_COMMON/vrrp-config.json,
/var/snap/failover/common/vrrp-config.json, /etc/failover/vrrp-config.json.

Standard error lists the directives that need your attention, each with its place and a
remedy. They are also comments in the result:

  behaves differently    translated: check whether that matters
  not supported yet      failoverd doesn't support it yet
  another program's job  out of the scope of failoverd
  not understood         a mistake, or newer than this failoverctl
  perhaps not as meant   keepalived ignores it; so does the result
  not needed             done by itself; --verbose lists these

A router that could do harm without a directive that failoverd doesn't support is
commented out. Passwords and keys are never in the result. With --output they are written
to files beside it that only their owner can read; without it, import names the files
that you have to create. Both programs speak VRRP, so hosts can be migrated one at a time,
the Backup first.

failoverd has no load balancer. --lvs writes the virtual servers of keepalived's file, with
the global settings that they need, to a file for "keepalived --check". Only its owner can
read it, because it can contain secrets.

Lines of keepalived's file that begin with @ apply to one host. As keepalived does, import
uses those for this host's name, or for --config-id.

For a file of FRR or VyOS, import shows its lines about VRRP and how to migrate them.

Exit codes: 0 done, even with such findings; 1 if the file can't be read or has a mistake,
if the result exists already, or if all routers are commented out.`,
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
			r, err := importFile(path, from, output, id, lvs != "")
			var other *migrate.OtherError
			if errors.As(err, &other) {
				for _, line := range other.Lines {
					fmt.Fprintf(c.ErrOrStderr(), "%s:%s\n", other.Path, line)
				}
			}
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
			if err := writeFindings(c.ErrOrStderr(), r.Findings, verbose); err != nil {
				return err
			}
			if lvs != "" {
				if err := writeLVS(c.ErrOrStderr(), lvs, force, r.LVS); err != nil {
					return err
				}
			}
			return finishImport(c.ErrOrStderr(), r, output != "")
		},
	}
	c.Flags().StringVar(&from, "from", "", "the `program` that the file is for: keepalived or failover (default: detected from the file)")
	completeFlag(c, "from", "keepalived", "failover")
	c.Flags().StringVarP(&output, "output", "o", "", "write the result to this `file` instead of standard output")
	c.Flags().StringVar(&lvs, "lvs", "", "write keepalived's virtual servers to this `file`, for keepalived --check")
	c.Flags().BoolVar(&force, "force", false, "overwrite the files that --output and --lvs write")
	c.Flags().StringVar(&id, "config-id", "", "use keepalived's lines with @`name` (default: the name of this host)")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "also list the directives that failoverd doesn't need")
	return c
}

// finishImport writes the files with secrets and the number of routers that are commented out.
// It returns an error if all are. made tells whether the files were written.
func finishImport(w io.Writer, r *migrate.Result, made bool) error {
	for _, k := range r.Keys {
		format := "wrote a secret of the file to %s\n"
		if !made {
			format = "%s must be created with a secret of the file: import with --output does so\n"
		}
		if _, err := fmt.Fprintf(w, format, k.Path); err != nil {
			return err
		}
	}
	switch r.CommentedOut {
	case 0:
		return nil
	case r.Routers:
		return fmt.Errorf("%w: all of its routers are commented out. The findings above have the reasons: correct them, or leave the routers to keepalived", migrate.ErrNothing)
	}
	_, err := fmt.Fprintf(w, "%d of %d routers are commented out. The findings above have the reasons\n", r.CommentedOut, r.Routers)
	return err
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

func importFile(path, from, output, id string, lvs bool) (*migrate.Result, error) {
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
	o := migrate.Here()
	o.ConfigID, o.CheckProgram, o.LVS = cmp.Or(id, o.ConfigID), checkProgram, lvs
	if output != "" {
		if o.KeyDir, err = filepath.Abs(filepath.Dir(output)); err != nil {
			return nil, fmt.Errorf("find the directory of the result: %w", err)
		}
	}
	return migrate.KeepalivedWith(path, config.ReadFile, filepath.Glob, o)
}

// checkProgram returns an error if users other than root and user may change a program of this
// host. A missing program or user isn't an error, because the file may be for another host.
func checkProgram(path, user string) error {
	who, err := script.Lookup(cmp.Or(user, "root"))
	if err != nil {
		return nil
	}
	if err := script.Check(path, who); errors.Is(err, script.ErrInsecure) {
		return err
	}
	return nil
}

// writeKeys writes the secrets to files beside the result that only their owner can read.
func writeKeys(all []migrate.KeyFile, force bool) error {
	for _, k := range all {
		if err := writeSecret(k.Path, force, []byte(k.Secret)); err != nil {
			return err
		}
	}
	return nil
}

// writeSecret writes a file that only its owner can read.
func writeSecret(path string, force bool, content []byte) error {
	if force {
		// An existing file may be readable for others.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("overwrite a file: %w", err)
		}
	}
	return writeNew(path, content, os.O_EXCL, 0o600)
}

// writeLVS writes the file for keepalived's load balancer, and how to run it.
func writeLVS(w io.Writer, path string, force bool, content []byte) error {
	if content == nil {
		_, err := fmt.Fprintf(w, "%s isn't written, because the file has no virtual_server\n", path)
		return err
	}
	if err := writeSecret(path, force, content); err != nil {
		return err
	}
	if whole, err := filepath.Abs(path); err == nil {
		path = whole
	}
	_, err := fmt.Fprintf(w, "wrote the load balancer's part to %[1]s. Run it with: keepalived --check --use-file %[1]s\n", path)
	return err
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

// importKinds are the headings of the kinds, and their names in the summary, for one
// finding and for several.
var importKinds = map[migrate.Kind]struct{ head, one, several string }{
	migrate.Changed:  {"Translated, but it behaves differently:", "translated, but behaves differently", "translated, but behave differently"},
	migrate.Later:    {"Not supported yet:", "not supported yet", "not supported yet"},
	migrate.Foreign:  {"Another program's job:", "is another program's job", "are another program's job"},
	migrate.Unknown:  {"Not understood:", "not understood", "not understood"},
	migrate.Doubtful: {"As in keepalived, but perhaps not as meant:", "perhaps not as meant", "perhaps not as meant"},
	migrate.Unneeded: {"Not needed:", "not needed", "not needed"},
}

// writeFindings writes the findings of each kind under its heading, and a summary. Unless
// verbose, it writes only the names of directives that aren't needed.
func writeFindings(w io.Writer, all []migrate.Finding, verbose bool) error {
	var summary []string
	for _, kind := range migrate.Kinds {
		if kind == migrate.Unneeded && !verbose {
			if err := writeUnneeded(w, all); err != nil {
				return err
			}
			break
		}
		names, n := importKinds[kind], 0
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

// writeUnneeded writes one line with the directives that aren't needed.
func writeUnneeded(w io.Writer, all []migrate.Finding) error {
	var names []string
	for _, f := range all {
		name, _, _ := strings.Cut(f.Directive, " ")
		if f.Kind == migrate.Unneeded && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "Not needed: %s (--verbose has the reasons)\n", strings.Join(names, ", "))
	return err
}
