// SPDX-License-Identifier: Apache-2.0

// Command failoverctl asks a running failoverd what it does, and checks its
// configuration.
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
)

var exits = []manual.Exit{
	{Code: exitDone, Meaning: "done"},
	{Code: exitFailure, Meaning: "it failed or the file is wrong"},
	{Code: exitUsage, Meaning: "the command line is wrong"},
	{Code: exitStopped, Meaning: "failoverd isn't running"},
}

// memory is what the garbage collector keeps to, in octets, if what is in use is
// less: the largest configuration is.
const memory = 60 << 20

func main() {
	debug.SetMemoryLimit(memory)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its environment as parameters.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := command(stdout, stderr)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil || errors.Is(err, syscall.EPIPE) {
		return exitDone
	}
	var said *saidError
	if !errors.As(err, &said) {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintln(stderr, "failoverctl: "+line)
		}
	}
	return exitCode(err)
}
