// SPDX-License-Identifier: Apache-2.0

// Command failoverctl shows the state of a running failoverd, sends commands to it, and
// checks configuration files.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/failoverd/failoverd/pkg/manual"
)

const (
	exitDone    = 0
	exitFailure = 1
	exitUsage   = 2
	exitStopped = 3
	exitTooOld  = 4
)

var exits = []manual.Exit{
	{Code: exitDone, Meaning: "success"},
	{Code: exitFailure, Meaning: "the command failed, or the file has mistakes"},
	{Code: exitUsage, Meaning: "the command line has a mistake"},
	{Code: exitStopped, Meaning: "failoverd isn't running"},
	{Code: exitTooOld, Meaning: "the running failoverd is older and doesn't know the command"},
}

// memory is the soft limit of the garbage collector in bytes. The largest configuration
// needs less.
const memory = 60 << 20

func main() {
	debug.SetMemoryLimit(memory)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its environment as parameters. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := command(stdout, stderr)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil || errors.Is(err, syscall.EPIPE) {
		return exitDone
	}
	var reported *reportedError
	if !errors.As(err, &reported) {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintln(stderr, "failoverctl: "+line)
		}
	}
	return exitCode(err)
}
