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
)

// Exit codes.
const (
	exitFailure = 1 // what was asked for failed, or the file is wrong
	exitUsage   = 2 // the command line is wrong
	exitStopped = 3 // failoverd isn't running
)

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
		return 0
	}
	var said *saidError
	if !errors.As(err, &said) {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintln(stderr, "failoverctl: "+line)
		}
	}
	return exitCode(err)
}
