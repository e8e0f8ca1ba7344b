// SPDX-License-Identifier: Apache-2.0

// Command failoverd keeps virtual IP addresses alive when a host dies. It
// speaks VRRP (RFC 9568 and RFC 3768).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Exit codes.
const (
	exitFailure = 1 // it could not run, or failed while running
	exitUsage   = 2 // the command line is wrong
)

func main() {
	// A reader of the log that goes away must not take the address with it.
	signal.Ignore(syscall.SIGPIPE)
	ctx := until(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// until returns a context that ends with the first of the signals. The second
// one ends the process at once.
func until(ctx context.Context, signals ...os.Signal) context.Context {
	ctx, stop := signal.NotifyContext(ctx, signals...)
	context.AfterFunc(ctx, stop)
	return ctx
}

// untilHangup ends with the terminal too, unless nohup has that ignored.
func untilHangup(ctx context.Context) context.Context {
	if signal.Ignored(syscall.SIGHUP) {
		return ctx
	}
	return until(ctx, syscall.SIGHUP)
}

// run is main with its environment as parameters.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := command(stdout, stderr)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(stderr, "failoverd: "+line)
	}
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailure
}
