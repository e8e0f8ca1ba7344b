// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// The event loop lets others run in its place, may find itself in another thread
// afterwards, and then it is that one that the kernel ranks as the loop's.
func TestLetOthers(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	all := &threads{log: log}
	end := make(chan struct{})
	for range 4 * runtime.GOMAXPROCS(0) {
		go func() {
			for {
				select {
				case <-end:
					return
				default:
					runtime.Gosched()
				}
			}
		}()
	}
	moves := make(chan int)
	go func() {
		n := 0
		defer func() { moves <- n }()
		all.enter()
		before := sliced(t)
		for began := time.Now(); n < 10 && time.Since(began) < time.Minute; {
			was := all.loop
			all.letOthers()
			tid := unix.Gettid()
			if tid != all.loop {
				t.Errorf("in thread %d, and %d is said to be the loop's", tid, all.loop)
			}
			if tid != was {
				n++
			}
		}
		if got := sliced(t); len(got) != len(before) || len(got) > 0 && !slices.Contains(got, all.loop) {
			t.Errorf("the threads %v ask for the loop's slice, %d is the loop's", got, all.loop)
		}
	}()
	if n := <-moves; n < 10 {
		t.Errorf("moved %d times", n)
	}
	close(end)
}

// sliced are the threads that ask for the loop's: none before Linux 6.12.
func sliced(t *testing.T) (asking []int) {
	all, err := tids()
	if err != nil {
		t.Error(err)
	}
	for _, tid := range all {
		if a, err := unix.SchedGetAttr(tid, 0); err == nil && a.Runtime == uint64(loopSlice) {
			asking = append(asking, tid)
		}
	}
	return asking
}
