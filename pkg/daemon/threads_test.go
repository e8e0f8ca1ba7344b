// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"io"
	"runtime"
	"testing"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// ranks are the policies of this process's threads, and what they ask for.
func ranks(t *testing.T) (policies map[uint32]int, slices map[uint64]int) {
	t.Helper()
	all, err := tids()
	if err != nil {
		t.Fatal(err)
	}
	policies, slices = make(map[uint32]int), make(map[uint64]int)
	for _, tid := range all {
		if a, err := unix.SchedGetAttr(tid, 0); err == nil {
			policies[a.Policy]++
			slices[a.Runtime]++
		}
	}
	return policies, slices
}

// The event loop has a thread of its own, before all others, while the process is
// real-time, and none otherwise; how nice they are isn't changed by it.
func TestThreads(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	all := &threads{log: log}
	nice, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ordinary := func(when string) {
			t.Helper()
			policies, slices := ranks(t)
			// Linux before 6.12 says 0.
			if policies[unix.SCHED_NORMAL] != slices[0]+slices[uint64(shortSlice)] || len(policies) != 1 {
				t.Errorf("%s: policies %v, slices %v", when, policies, slices)
			}
			if n, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err != nil || n != nice {
				t.Errorf("%s: nice is %d, was %d (%v)", when, 20-n, 20-nice, err)
			}
		}
		all.begin()
		ordinary("at the beginning")
		for range 3 {
			if all.forLoop() {
				t.Error("the loop has a thread of its own")
			}
			if err := all.set(true); err != nil {
				t.Error(err)
				return
			}
			for range 2 {
				if !all.forLoop() {
					t.Error("the loop has no thread of its own")
				}
			}
			if a, err := unix.SchedGetAttr(0, 0); err != nil || a.Policy != unix.SCHED_FIFO || a.Priority != loopPriority {
				t.Errorf("the loop's thread has %+v (%v)", a, err)
			}
			runtime.Gosched()
			if policies, _ := ranks(t); policies[unix.SCHED_FIFO] != 1 || policies[unix.SCHED_NORMAL] != 0 {
				t.Errorf("policies %v", policies)
			}
			if err := all.set(false); err != nil {
				t.Error(err)
			}
			ordinary("afterwards")
		}
		if all.forLoop() {
			t.Error("the loop has a thread of its own still")
		}
	}()
	<-done
}
