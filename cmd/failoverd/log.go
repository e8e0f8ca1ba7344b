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

// logPatience is how long the end of the program waits for who reads the log.
const logPatience = time.Second

// logWriter hands lines over to a goroutine that writes them, so that nobody
// who logs waits for a full pipe, a stopped terminal or a stuck journal. What
// doesn't fit its queue is dropped and counted.
type logWriter struct {
	out   io.Writer
	lines chan func(out io.Writer) // each writes one; a nil one is the last
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
			fmt.Fprintf(w.out, "failoverd: %d lines of the log were lost: nobody read them in time\n", n)
		}
	}
}

// Write never blocks and never fails.
func (w *logWriter) Write(line []byte) (int, error) {
	line = append([]byte(nil), line...)
	w.put(func(out io.Writer) { _, _ = out.Write(line) }) // there is nowhere to say that it failed
	return len(line), nil
}

// put has a line written, and never blocks.
func (w *logWriter) put(write func(out io.Writer)) {
	select {
	case w.lines <- write:
	default:
		w.lost.Add(1)
	}
}

// flush waits until everything is written, but not for ever. Nothing may be
// written afterwards.
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

// The forms of the log.
const (
	formAuto     = "auto"
	formTerminal = "terminal"
	formText     = "text"
	formJSON     = "json"
	formJournal  = "journal"
)

// logger makes the log as the flags or the file want it.
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
		return nil, fmt.Errorf("--log-format %q is not known: it is auto, terminal, text, json or journal", o.logFormat)
	}
	level, err := logrus.ParseLevel(strings.ToLower(o.logLevel))
	if err != nil {
		return nil, fmt.Errorf("--log-level %q is not known: it is error, warning, info or debug", o.logLevel)
	}
	log.SetLevel(level)
	return log, nil
}

// suits returns the form that suits what the log is written to.
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

// hasColors reports whether lines may be coloured: see no-color.org.
func hasColors(out io.Writer) bool {
	return isTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != ""
}

// isJournal reports whether it is standard error, and systemd has connected that with its
// journal.
func isJournal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok || f != os.Stderr {
		return false
	}
	is, err := journal.StderrIsJournalStream()
	return is && err == nil
}
