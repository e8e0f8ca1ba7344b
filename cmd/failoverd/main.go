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
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/failoverd/failoverd/pkg/manual"
)

const (
	exitDone    = 0
	exitFailure = 1
	exitUsage   = 2
)

var exits = []manual.Exit{
	{Code: exitDone, Meaning: "it ended when it was asked to"},
	{Code: exitFailure, Meaning: "it couldn't run or failed while running"},
	{Code: exitUsage, Meaning: "the command line is wrong"},
}

// oneStop is how long signals to stop are one: timeout(1) sends two at the same moment,
// to the process and to its group. One that comes later is impatience.
const oneStop = 500 * time.Millisecond

func main() {
	// A reader of the log that goes away must not take the address with it.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// until returns a context that ends with the first of the signals, and a channel
// that is closed if another comes later. However many come, none ends the process
// before what it has done to the host is undone.
func until(ctx context.Context, signals ...os.Signal) (context.Context, <-chan struct{}) {
	ctx, end := context.WithCancel(ctx)
	got, hurry := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(got, signals...)
	go func() {
		<-got
		end()
		for one := time.Now().Add(oneStop); ; {
			if <-got; time.Now().After(one) {
				close(hurry)
				return
			}
		}
	}()
	return ctx, hurry
}

// stopSignals are those that end failoverd. Run without a file it ends with its
// terminal too, unless nohup has that ignored.
func stopSignals(terminal bool) []os.Signal {
	all := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if terminal && !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

// run is main with its environment as parameters.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := command(stdout, stderr)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	text := "failoverd: " + strings.ReplaceAll(err.Error(), "\n", "\nfailoverd: ")
	if isJournal(stderr) {
		text = prefixed(journal.PriErr, text)
	}
	fmt.Fprintln(stderr, text)
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailure
}
