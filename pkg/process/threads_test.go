// SPDX-License-Identifier: Apache-2.0

package process

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/script"
)

func newThreads(t *testing.T) *Threads {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	return NewThreads(log)
}

// ranks counts the threads of this process by policy, and by time slice.
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

// nicest counts the threads that aren't real-time by nice value.
func nicest(t *testing.T) map[int32]int {
	t.Helper()
	all, err := tids()
	if err != nil {
		t.Fatal(err)
	}
	nice := make(map[int32]int)
	for _, tid := range all {
		if a, err := unix.SchedGetAttr(tid, 0); err == nil && a.Policy == unix.SCHED_NORMAL {
			nice[a.Nice]++
		}
	}
	return nice
}

// turnOf runs LoopThread on the thread of the test and returns the attributes of that thread.
func turnOf(t *testing.T, all *Threads) *unix.SchedAttr {
	t.Helper()
	all.LoopThread()
	a, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// By default only the thread of the event loop is real-time, and the others have the lowest
// nice value. With RealtimeAll all threads are real-time, with RealtimeNone none.
func TestThreads(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := newThreads(t)
	nice, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	none := func(when string) {
		t.Helper()
		policies, slices := ranks(t)
		// Linux before 6.12 returns 0.
		if policies[unix.SCHED_NORMAL] != slices[0]+slices[uint64(shortSlice)] || len(policies) != 1 {
			t.Errorf("%s: policies %v, slices %v", when, policies, slices)
		}
		if n, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err != nil || n != nice {
			t.Errorf("%s: nice is %d, was %d (%v)", when, 20-n, 20-nice, err)
		}
	}
	none("at the beginning")
	for _, wanted := range []config.Realtime{config.RealtimeAuto, config.RealtimeAll, config.RealtimeNone, config.RealtimeAll, config.RealtimeAuto, config.RealtimeNone} {
		all.SetRealtime(wanted)
		if _, is, problem := all.Status(); is != wanted || problem != nil {
			t.Fatalf("%s: %s, %v", wanted, is, problem)
		}
		for range 2 {
			a := turnOf(t, all)
			policies, _ := ranks(t)
			if wanted == config.RealtimeNone {
				none("afterwards")
				continue
			}
			if a.Policy != unix.SCHED_FIFO || a.Priority != loopPriority || a.Flags&unix.SCHED_FLAG_RESET_ON_FORK == 0 {
				t.Errorf("%s: the loop's thread has %+v", wanted, a)
			}
			other := map[config.Realtime]uint32{config.RealtimeAuto: unix.SCHED_RR, config.RealtimeAll: unix.SCHED_NORMAL}[wanted]
			if policies[unix.SCHED_FIFO] != 1 || policies[other] != 0 {
				t.Errorf("%s: policies %v", wanted, policies)
			}
			if nice := nicest(t); wanted == config.RealtimeAuto && nice[-20] < policies[unix.SCHED_NORMAL] {
				t.Errorf("%s: niceness %v", wanted, nice)
			}
		}
	}
}

// The rank follows the loop to another thread, and the previous one loses it.
func TestLoopMoves(t *testing.T) {
	all := newThreads(t)
	all.SetRealtime(config.RealtimeAuto)
	defer all.SetRealtime(config.RealtimeNone)
	for range 3 {
		moved := make(chan struct{})
		go func() {
			defer close(moved)
			runtime.LockOSThread() // never unlocked, so the thread ends with the goroutine
			if a := turnOf(t, all); a.Policy != unix.SCHED_FIFO {
				t.Errorf("the loop's thread has %+v", a)
			}
			if policies, _ := ranks(t); policies[unix.SCHED_FIFO] != 1 || policies[unix.SCHED_RR] != 0 {
				t.Errorf("policies %v", policies)
			}
		}()
		<-moved
	}
}

// Threads that the loop's thread starts get the rank of the others soon. While the process hands over,
// all threads are real-time.
func TestRankThreads(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := newThreads(t)
	all.SetRealtime(config.RealtimeAuto)
	defer all.SetRealtime(config.RealtimeNone)
	turnOf(t, all)
	all.rankNew()
	defer manyThreads()()
	for _, tid := range theOthers(t) { // as if the loop's thread had started them
		if err := rank(tid, ordinaryRank); err != nil {
			t.Fatal(err)
		}
	}
	// eventually waits until the ranks are right. A thread that is being started while the others are
	// ranked has the rank of before, until rankNew.
	eventually := func(when string, right func(policies map[uint32]int) bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; all.rankNew() {
			turnOf(t, all)
			policies, _ := ranks(t)
			if policies[unix.SCHED_FIFO] == 1 && right(policies) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: policies %v, niceness %v, bound %t", when, policies, nicest(t), all.bound)
			}
		}
	}
	eventually("new threads", func(map[uint32]int) bool { n := nicest(t); return len(n) == 1 && n[-20] > 0 })
	script.Forking.RLock()
	all.Hurry() // doesn't wait for the start of a program
	script.Forking.RUnlock()
	all.Hurry()
	eventually("in a hurry", func(policies map[uint32]int) bool { return policies[unix.SCHED_NORMAL] == 0 && all.bound })
	all.Relax()
	eventually("afterwards", func(policies map[uint32]int) bool { return policies[unix.SCHED_RR] == 0 && !all.bound })
}

// With spare threads, goroutines need no new ones.
func TestStartSpares(t *testing.T) {
	StartSpares()
	before, err := tids()
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for range 10 * runtime.GOMAXPROCS(0) {
		running.Go(func() { time.Sleep(time.Millisecond) })
	}
	running.Wait()
	if after, err := tids(); err != nil || len(after) > len(before) || len(before) < runtime.GOMAXPROCS(0) {
		t.Errorf("%d threads with spares, %d afterwards (%v)", len(before), len(after), err)
	}
}

// theOthers returns the threads of this process but the one of the test.
func theOthers(t *testing.T) []int {
	t.Helper()
	all, err := tids()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(tid int) bool { return tid == unix.Gettid() })
}

// manyThreads starts threads, which end with the returned function.
func manyThreads() (end func()) {
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range 20 {
		running.Add(1)
		go func() {
			runtime.LockOSThread() // never unlocked, so the thread ends with the goroutine
			running.Done()
			<-stop
		}()
	}
	running.Wait()
	return func() { close(stop) }
}

// During a garbage collection the other threads are real-time too. Afterwards only the
// loop's is, and the runtime doesn't start a collection by itself.
func TestCollectGarbage(t *testing.T) {
	t.Setenv("GOGC", "")
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := newThreads(t)
	all.SetRealtime(config.RealtimeAuto)
	defer func() {
		all.SetRealtime(config.RealtimeNone)
		all.Collect()
	}()
	turnOf(t, all)
	all.collectWith(func() {
		if policies, _ := ranks(t); policies[unix.SCHED_FIFO] != 1 || policies[unix.SCHED_RR] == 0 || policies[unix.SCHED_NORMAL] > policies[unix.SCHED_RR] {
			t.Errorf("meanwhile: policies %v", policies)
		}
		before, _ := ranks(t)
		end := manyThreads()
		if policies, _ := ranks(t); policies[unix.SCHED_NORMAL] > before[unix.SCHED_NORMAL] || policies[unix.SCHED_RR] <= before[unix.SCHED_RR] {
			t.Errorf("policies %v before, and %v with threads that were started meanwhile", before, policies)
		}
		end()
		runtime.GC()
	})
	late(t)
	turnOf(t, all)
	if policies, _ := ranks(t); policies[unix.SCHED_FIFO] != 1 || policies[unix.SCHED_RR] != 0 {
		t.Errorf("afterwards: policies %v", policies)
	}
	script.Forking.RLock()
	all.Collect() // doesn't wait for the start of a program
	script.Forking.RUnlock()
	was := all.collected
	if all.CollectIfDue(); all.collected != was {
		t.Error("a collection ran although none was due")
	}
	all.collected = was.Add(-collectEvery)
	if all.CollectIfDue(); time.Since(all.collected) > collectEvery/2 {
		t.Error("no collection ran although one was due")
	}
}

// A thread that runs for too long ends being real-time until the next reload.
func TestExceeded(t *testing.T) {
	all := newThreads(t)
	all.SetRealtime(config.RealtimeAuto)
	defer all.SetRealtime(config.RealtimeNone)
	all.exceeded()
	if wanted, is, problem := all.Status(); wanted != config.RealtimeAuto || is != config.RealtimeNone || problem == nil || !strings.Contains(problem.Error(), "without a pause") {
		t.Errorf("%s wanted, %s, %v", wanted, is, problem)
	}
	if policies, _ := ranks(t); len(policies) != 1 {
		t.Errorf("policies %v", policies)
	}
	all.SetRealtime(config.RealtimeAuto)
	if _, is, problem := all.Status(); is != config.RealtimeAuto || problem != nil {
		t.Errorf("after a reload: %s, %v", is, problem)
	}
}

// Only Go's monitor thread has a large timer slack.
func TestMonitor(t *testing.T) {
	slackenMonitor()
	late(t)
}

// late checks that exactly one thread has a large timer slack, and that it isn't the first.
func late(t *testing.T) {
	t.Helper()
	all, err := tids()
	if err != nil {
		t.Fatal(err)
	}
	var late []int
	for _, tid := range all {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(tid), "timerslack_ns"))
		if err != nil {
			continue // the thread has ended
		}
		if strings.TrimSpace(string(b)) == strconv.FormatInt(monitorSlack.Nanoseconds(), 10) {
			late = append(late, tid)
		}
	}
	if len(late) != 1 || late[0] == os.Getpid() {
		t.Errorf("late are %v of %v", late, all)
	}
}

// Without time for real-time threads there are none.
func TestRationed(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		runtime, period string
		bad             bool
	}{{"950000", "1000000", false}, {"-1", "1000000", false}, {"0", "1000000", true}, {"50000", "1000000", true}, {"100000\n", "1000000\n", false}} {
		for name, text := range map[string]string{"runtime": c.runtime, "period": c.period} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := checkBudget(filepath.Join(dir, "runtime"), filepath.Join(dir, "period")); (err != nil) != c.bad {
			t.Errorf("%s of %s: %v", c.runtime, c.period, err)
		}
	}
	if err := checkBudget(filepath.Join(dir, "none"), filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
}
