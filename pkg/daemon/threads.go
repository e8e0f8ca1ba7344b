// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

const (
	// loopSlice is the time for which the loop's thread asks at once. A thread that
	// asks for little comes before others that have had as much (Linux 6.12).
	loopSlice = 100 * time.Microsecond
	// The loop comes before the process's other threads, and they before all that
	// isn't real-time: while the garbage collector waits for one of them, the loop
	// waits too.
	loopPriority, otherPriority = 2, 1
	// A thread that runs for realtimeSoft without a pause costs the process its
	// rank, and at realtimeHard the kernel ends it: it would have the processor alone.
	realtimeSoft, realtimeHard = 2 * time.Second, 10 * time.Second
)

// threads are those of the process, and how the kernel ranks them.
type threads struct {
	log *logrus.Logger

	mu       sync.Mutex
	loop     int // the event loop's, 0 before it has one
	realtime bool
}

// enter has the calling goroutine be the event loop's, with a thread of its own.
func (t *threads) enter() {
	runtime.LockOSThread()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.realtime {
		t.take(unix.Gettid())
		return
	}
	t.loop = unix.Gettid()
	if err := rank(t.loop, unix.SCHED_FIFO, loopPriority); err != nil {
		t.log.WithError(err).Warn("the event loop isn't real-time")
	}
}

// letOthers has other goroutines run in the place of the event loop's, if they wait for
// it. Whose thread is its own gives it to another one for that and gets it back, four
// wake-ups of threads, so here it isn't for a moment.
func (t *threads) letOthers() {
	if !t.mu.TryLock() { // they are being ranked, which takes longer than the loop may wait
		runtime.Gosched()
		return
	}
	defer t.mu.Unlock()
	if t.realtime {
		// A thread that it started meanwhile would inherit its rank.
		runtime.Gosched()
		return
	}
	runtime.UnlockOSThread()
	runtime.Gosched()
	runtime.LockOSThread()
	if tid := unix.Gettid(); tid != t.loop {
		t.take(tid) // somebody else has it now
	}
}

// take makes a thread the event loop's, with mu held.
func (t *threads) take(tid int) {
	var err error
	if t.loop != 0 {
		err = slice(t.loop, 0)
	}
	t.loop = tid
	if err = errors.Join(err, slice(tid, loopSlice)); err != nil {
		t.log.WithError(err).Debug("the kernel takes no slice for the event loop")
	}
}

// slice sets the time for which a thread asks at once; 0 is the kernel's own.
func slice(tid int, d time.Duration) error {
	a, err := unix.SchedGetAttr(tid, 0)
	if err != nil || a.Policy != unix.SCHED_NORMAL {
		return err
	}
	a.Runtime = uint64(d)
	return unix.SchedSetAttr(tid, a, 0)
}

// want makes the process real-time or ends that, and says what came of it: it runs all
// the same.
func (t *threads) want(realtime bool) {
	err := t.set(realtime)
	switch {
	case err != nil && realtime:
		t.log.WithError(err).Warn("not real-time, as `realtime: true` asks for")
	case err != nil:
		t.log.WithError(err).Warn("end being real-time")
	}
}

// set makes the process real-time, with its memory locked, or ends that.
func (t *threads) set(realtime bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.realtime == realtime {
		return nil
	}
	if !realtime {
		t.realtime = false
		err := errors.Join(t.rankAll(unix.SCHED_NORMAL, 0, 0), unix.Munlockall())
		if t.loop != 0 {
			t.take(t.loop)
		}
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_RTTIME, &unix.Rlimit{Cur: uint64(realtimeSoft.Microseconds()), Max: uint64(realtimeHard.Microseconds())}); err != nil {
		return fmt.Errorf("bound the time without a pause: %w", err)
	}
	if err := t.rankAll(unix.SCHED_RR, otherPriority, loopPriority); err != nil {
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w; grant CAP_SYS_NICE", err)
		}
		return err
	}
	t.realtime = true
	// What is there is brought in; what comes is locked as it is used.
	err := unix.Mlockall(unix.MCL_CURRENT)
	if err == nil {
		err = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	}
	if err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOMEM) {
			err = fmt.Errorf("%w; grant CAP_IPC_LOCK", err)
		}
		return fmt.Errorf("lock the memory: %w", err)
	}
	return nil
}

// rankAll ranks the threads that there are; those that they start inherit it.
func (t *threads) rankAll(policy, others, loop int) error {
	for range 2 { // one that was started meanwhile may have been missed
		all, err := tids()
		if err != nil {
			return fmt.Errorf("list the threads: %w", err)
		}
		for _, tid := range all {
			policy, priority := policy, others
			if tid == t.loop {
				priority = loop
				if policy == unix.SCHED_RR {
					policy = unix.SCHED_FIFO
				}
			}
			if err := rank(tid, policy, priority); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}

// tids are the numbers of this process's threads: those of its own namespace, which
// need not be that of /proc.
func tids() ([]int, error) {
	paths, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		return nil, err
	}
	var all []int
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), "\nNSpid:")
		line, _, _ := strings.Cut(rest, "\n")
		if numbers := strings.Fields(line); len(numbers) > 0 {
			if tid, err := strconv.Atoi(numbers[len(numbers)-1]); err == nil {
				all = append(all, tid)
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("none in /proc/self/task")
	}
	return all, nil
}

func rank(tid, policy, priority int) error {
	a := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: uint32(policy), Priority: uint32(priority)}
	if err := unix.SchedSetAttr(tid, &a, 0); err != nil {
		return fmt.Errorf("sched_setattr: %w", err)
	}
	return nil
}

// run gives the rank up when a thread has run for realtimeSoft without a pause.
func (t *threads) run(ctx context.Context) error {
	exceeded := make(chan os.Signal, 1)
	signal.Notify(exceeded, unix.SIGXCPU)
	defer signal.Stop(exceeded)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-exceeded:
			t.log.Errorf("not real-time any more: a thread ran for %v without a pause", realtimeSoft)
			t.want(false)
		}
	}
}
