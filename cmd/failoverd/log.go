// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/sirupsen/logrus"
	"golang.org/x/term"
)

// logPatience bounds the wait for the reader of the log when the program ends.
const logPatience = time.Second

// logWriter queues lines for a goroutine that writes them. So a full pipe, a stopped
// terminal or a stuck journal doesn't block the goroutines that log. Lines that don't fit
// the queue are dropped and counted.
type logWriter struct {
	out   io.Writer
	lines chan func(out io.Writer) // each writes one line; nil ends the goroutine
	done  chan struct{}
	lost  atomic.Uint64
}

func newLogWriter(out io.Writer) *logWriter {
	w := &logWriter{out: out, lines: make(chan func(io.Writer), 4096), done: make(chan struct{})}
	go w.run()
	return w
}

func (w *logWriter) run() {
	defer close(w.done)
	for write := range w.lines {
		if write == nil {
			return
		}
		write(w.out)
		if n := w.lost.Swap(0); n > 0 {
			fmt.Fprintf(w.out, "failoverd: %d lines of the log were lost, because no program read them in time\n", n)
		}
	}
}

// Write never blocks and never fails.
func (w *logWriter) Write(line []byte) (int, error) {
	line = append([]byte(nil), line...)
	w.put(func(out io.Writer) { _, _ = out.Write(line) }) // there is no place left to report an error
	return len(line), nil
}

// put queues a line. It never blocks.
func (w *logWriter) put(write func(out io.Writer)) {
	select {
	case w.lines <- write:
	default:
		w.lost.Add(1)
	}
}

// flush waits until the queue is written, at most for logPatience. Nothing may be written
// afterwards.
func (w *logWriter) flush() {
	end := time.After(logPatience)
	select {
	case w.lines <- nil:
	case <-end:
		return
	}
	select {
	case <-w.done:
	case <-end:
	}
}

// The formats of the log.
const (
	formAuto     = "auto"
	formTerminal = "terminal"
	formText     = "text"
	formJSON     = "json"
	formJournal  = "journal"
)

// logger makes the logger with the format and level of the flags or the file.
func (o *options) logger(lines *logWriter) (*logrus.Logger, error) {
	log := logrus.New()
	log.SetOutput(lines)
	form := o.logFormat
	if form == formAuto {
		form = suits(lines.out)
	}
	switch form {
	case formTerminal:
		log.SetFormatter(&terminalFormatter{colors: hasColors(lines.out)})
	case formText:
		log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, TimestampFormat: "2006-01-02T15:04:05.000Z07:00"})
	case formJSON:
		log.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
	case formJournal:
		log.SetOutput(io.Discard)
		log.SetFormatter(&journalFormatter{lines})
	default:
		return nil, fmt.Errorf("--log-format %q is not known: use auto, terminal, text, json or journal", o.logFormat)
	}
	level, err := logrus.ParseLevel(strings.ToLower(o.logLevel))
	if err != nil {
		return nil, fmt.Errorf("--log-level %q is not known: use error, warning, info or debug", o.logLevel)
	}
	log.SetLevel(level)
	return log, nil
}

// suits returns the format that suits the destination of the log.
func suits(out io.Writer) string {
	switch {
	case isTerminal(out):
		return formTerminal
	case isJournal(out):
		return formJournal
	}
	return formText
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// hasColors reports whether lines may have colours, see no-color.org.
func hasColors(out io.Writer) bool {
	return isTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != ""
}

// isJournal reports whether out is standard error and systemd has connected that to its
// journal.
func isJournal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok || f != os.Stderr {
		return false
	}
	is, err := journal.StderrIsJournalStream()
	return is && err == nil
}
