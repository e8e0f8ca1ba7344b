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
	"syscall"
	"time"
)

// Main is the main function of a tool. It reads the flags, the list of which comes behind
// the help, and runs the tool until it ends or is interrupted: run has to heed its context.
// A tool that has failed exits with 1.
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

// Needs checks that the failoverd at the path, the other programs and the rights that a lab
// needs are there, and returns the absolute path.
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
			return "", fmt.Errorf("%w; install the package %s", err, packageOf(program))
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

// packageOf is the Debian package that has a program.
func packageOf(program string) string {
	if program == VRRPD {
		return "frr"
	}
	return program
}

// Pause waits for a time. It returns an error if it is interrupted.
func Pause(ctx context.Context, long time.Duration) error {
	select {
	case <-time.After(long):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
