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
	{Code: exitDone, Meaning: "it ended on request"},
	{Code: exitFailure, Meaning: "it could not start, or failed while running"},
	{Code: exitUsage, Meaning: "the command line has a mistake"},
}

// exitError is the end of the process that this one has stayed for, which has shown its errors.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// oneStop is the time in which further stop signals count as the first one, because
// timeout(1) sends two at once, to the process and to its group. A later signal means that
// the user doesn't want to wait.
const oneStop = 500 * time.Millisecond

func main() {
	// When the reader of the log ends, the daemon must go on.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// until returns a context that ends with the first of the signals, and a channel that is
// closed if another one comes after oneStop. No number of signals ends the process before
// its changes to the host are undone.
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

// stopSignals returns the signals that end failoverd. Without a configuration file SIGHUP is
// among them, so failoverd ends with its terminal, unless nohup ignores the signal.
func stopSignals(terminal bool) []os.Signal {
	all := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if terminal && !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

// run is main with its environment as parameters. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := command(stdout, stderr)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var ended *exitError
	if errors.As(err, &ended) {
		return ended.code
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
