// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// logPatience is how long the end of the program waits for who reads the log.
const logPatience = time.Second

// logWriter hands lines over to a goroutine that writes them, so that nobody
// who logs waits for a full pipe, a stopped terminal or a stuck journal. What
// doesn't fit its queue is dropped and counted.
type logWriter struct {
	out   io.Writer
	lines chan []byte // a nil one is the last
	done  chan struct{}
	lost  atomic.Uint64
}

func newLogWriter(out io.Writer) *logWriter {
	w := &logWriter{out: out, lines: make(chan []byte, 4096), done: make(chan struct{})}
	go w.run()
	return w
}

func (w *logWriter) run() {
	defer close(w.done)
	for line := range w.lines {
		if line == nil {
			return
		}
		_, _ = w.out.Write(line) // there is nowhere to say that it failed
		if n := w.lost.Swap(0); n > 0 {
			fmt.Fprintf(w.out, "failoverd: %d lines of the log were lost: nobody read them in time\n", n)
		}
	}
}

// Write never blocks and never fails.
func (w *logWriter) Write(line []byte) (int, error) {
	select {
	case w.lines <- append([]byte(nil), line...):
	default:
		w.lost.Add(1)
	}
	return len(line), nil
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
