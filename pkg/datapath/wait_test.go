// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// A wait ends at its time and not earlier, even if the time is the same again. It also ends
// for each wake and each event. This holds for waiting goroutines, for waiting threads, and
// if they take turns.
func TestWait(t *testing.T) {
	in := func(long bool) func(*waiter) func(vrrp.Instant) error {
		return func(w *waiter) func(vrrp.Instant) error {
			return func(until vrrp.Instant) error { return w.waitInThread(until, long) }
		}
	}
	short, long := in(false), in(true)
	for name, wait := range map[string]func(w *waiter, turn int) func(vrrp.Instant) error{
		"goroutine": func(w *waiter, _ int) func(vrrp.Instant) error { return w.wait },
		"thread":    func(w *waiter, _ int) func(vrrp.Instant) error { return short(w) },
		"for long":  func(w *waiter, _ int) func(vrrp.Instant) error { return long(w) },
		"in turns": func(w *waiter, turn int) func(vrrp.Instant) error {
			return []func(vrrp.Instant) error{w.wait, short(w), long(w)}[turn/2%3]
		},
	} {
		t.Run(name, func(t *testing.T) { testWait(t, wait) })
	}
}

func waiterFor(t *testing.T) *waiter {
	t.Helper()
	w, err := newWaiter()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
		w.wake() // goes to nobody
	})
	return w
}

func testWait(t *testing.T, how func(w *waiter, turn int) func(vrrp.Instant) error) {
	w := waiterFor(t)
	const far = vrrp.Instant(1<<63 - 1)
	ended := make(chan error)
	turn := 0
	wait := func(until vrrp.Instant) {
		t.Helper()
		turn++
		go func() { ended <- how(w, turn)(until) }()
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("still waiting")
		}
	}
	for range 1000 {
		w.wake()
		wait(far)
	}
	for range 10 {
		until := monotonic().Add(2 * time.Millisecond)
		for range 2 { // the second time it is in the past, and the wait ends at once
			wait(until)
			if now := monotonic(); now < until {
				t.Fatalf("returns %v too early", until.Sub(now))
			}
		}
	}
	wait(0)
	waiting := monotonic().Add(50 * time.Millisecond)
	over := make(chan struct{})
	go func() { // a signal doesn't end the wait
		defer close(over)
		for monotonic() < waiting {
			if err := unix.Kill(unix.Getpid(), unix.SIGURG); err != nil {
				t.Error(err)
			}
			time.Sleep(100 * time.Microsecond)
		}
	}()
	wait(waiting)
	if now := monotonic(); now < waiting {
		t.Errorf("returns %v too early when there are signals", waiting.Sub(now))
	}
	<-over
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.Close(pipe[0]), unix.Close(pipe[1]) }()
	if err := w.add(pipe[0]); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := unix.Write(pipe[1], []byte{1}); err != nil {
			t.Fatal(err)
		}
		wait(far)
	}
	go func() {
		time.Sleep(10 * time.Millisecond)
		w.wake()
	}()
	wait(far)
}

// wait doesn't allocate.
func TestWaitAllocatesNothing(t *testing.T) {
	w := waiterFor(t)
	n := testing.AllocsPerRun(100, func() {
		if err := w.wait(monotonic().Add(50 * time.Microsecond)); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// wait works when the process has no free file descriptor left.
func TestWaitWithoutDescriptors(t *testing.T) {
	w := waiterFor(t)
	next, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := unix.Rlimit{Cur: uint64(next), Max: limit.Max}
	_ = unix.Close(next)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	w.wake()
	waited := w.wait(1<<63 - 1)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if waited != nil {
		t.Error(waited)
	}
	w.wake()
	if err := w.wait(1<<63 - 1); err != nil {
		t.Errorf("with free descriptors again: %v", err)
	}
}
