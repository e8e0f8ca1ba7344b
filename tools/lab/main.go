// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Main is the main function of a tool. It parses the flags and calls run, whose context ends
// with SIGINT or SIGTERM. If run fails, the tool exits with code 1. --help prints the help
// and the list of flags.
func Main(name, help string, run func(context.Context) error) {
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), help)
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := start(run); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func start(run func(context.Context) error) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see --help", flag.Arg(0))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("interrupted: %w", err)
	}
	return err
}

// Needs checks that the tool runs as root and that failoverd and the other programs exist.
// It returns the absolute path of failoverd. Each of others is a name to look up in PATH, or
// a path.
func Needs(failoverd string, others ...string) (string, error) {
	if err := needsRoot(); err != nil {
		return "", err
	}
	path, err := filepath.Abs(failoverd)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w; build it with make build", err)
	}
	for _, program := range others {
		if _, err := exec.LookPath(program); err != nil {
			return "", missing(program, err)
		}
	}
	return path, nil
}

func needsRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("a lab of network namespaces needs root: run it with sudo")
	}
	return nil
}

// missing adds the remedy to the error that a program wasn't found.
func missing(program string, err error) error {
	switch {
	case program == VRRPD:
		program = "frr"
	case strings.Contains(program, "/"):
		return err // the user's own path
	}
	return fmt.Errorf("%w; install the package %s", err, program)
}

// Pause sleeps. If the context ends first, Pause returns the cause.
func Pause(ctx context.Context, long time.Duration) error {
	select {
	case <-time.After(long):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
