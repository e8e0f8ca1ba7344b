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
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

const (
	// shortSlice is the time for which the process's threads ask at once. A thread that
	// asks for little comes before others that have had as much (Linux 6.12).
	shortSlice = 100 * time.Microsecond
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
	realtime atomic.Bool // changed with mu held
	own      bool        // the event loop has a thread of its own; only it looks
}

// ordinary are threads that aren't real-time. They keep how nice they are.
var ordinary = unix.SchedAttr{Policy: unix.SCHED_NORMAL, Runtime: uint64(shortSlice)}

// begin has the threads come before others that have had as much, if nobody has ranked
// them otherwise.
func (t *threads) begin() {
	a, err := unix.SchedGetAttr(0, 0)
	if err == nil && a.Policy == unix.SCHED_NORMAL {
		err = t.rankAll(ordinary)
	}
	if err != nil {
		t.log.WithError(err).Debug("the kernel takes no slice")
	}
}

// forLoop says whether the event loop has a thread of its own, as a real-time one has
// to: only so can it come before the process's others. Otherwise it is a goroutine like
// any other, for a thread that waits in the kernel keeps the runtime's monitor awake. The
// loop calls it before it waits.
func (t *threads) forLoop() bool {
	if want := t.realtime.Load(); want && !t.own {
		runtime.LockOSThread()
		t.own = true
		err := rank(0, unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: loopPriority})
		if !t.realtime.Load() { // ended meanwhile, for all that were ranked before
			err = rank(0, ordinary)
		}
		if err != nil { // whoever writes the log may wait, the loop mustn't
			go t.log.WithError(err).Warn("the event loop isn't real-time")
		}
	} else if !want && t.own {
		runtime.UnlockOSThread()
		t.own = false
	}
	return t.own
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
	if t.realtime.Load() == realtime {
		return nil
	}
	if !realtime {
		t.realtime.Store(false)
		return errors.Join(t.rankAll(ordinary), unix.Munlockall())
	}
	if err := unix.Setrlimit(unix.RLIMIT_RTTIME, &unix.Rlimit{Cur: uint64(realtimeSoft.Microseconds()), Max: uint64(realtimeHard.Microseconds())}); err != nil {
		return fmt.Errorf("bound the time without a pause: %w", err)
	}
	if err := t.rankAll(unix.SchedAttr{Policy: unix.SCHED_RR, Priority: otherPriority}); err != nil {
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w; grant CAP_SYS_NICE", err)
		}
		return err
	}
	t.realtime.Store(true)
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
func (t *threads) rankAll(a unix.SchedAttr) error {
	for range 2 { // one that was started meanwhile may have been missed
		all, err := tids()
		if err != nil {
			return fmt.Errorf("list the threads: %w", err)
		}
		for _, tid := range all {
			if err := rank(tid, a); err != nil && !errors.Is(err, unix.ESRCH) {
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

// rank ranks a thread, the caller's if tid is 0.
func rank(tid int, a unix.SchedAttr) error {
	a.Size = unix.SizeofSchedAttr
	if a.Policy == unix.SCHED_NORMAL {
		n, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
		if err != nil {
			return fmt.Errorf("getpriority: %w", err)
		}
		a.Nice = 20 - int32(n)
	}
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
