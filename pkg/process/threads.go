// SPDX-License-Identifier: Apache-2.0

package process

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

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/script"
)

const (
	// shortSlice is the time for which the process's threads ask at once. A thread that
	// asks for little comes before others that have had as much (Linux 6.12).
	shortSlice = 100 * time.Microsecond
	// The loop comes before the process's other threads, and they, if they are
	// real-time, before all that isn't: while the garbage collector waits for one of
	// them, the loop waits too.
	loopPriority, otherPriority = 2, 1
	// A thread that runs for realtimeSoft without a pause costs the process its
	// rank, and at realtimeHard the kernel ends it: it would have the processor alone.
	realtimeSoft, realtimeHard = 2 * time.Second, 10 * time.Second
	// monitorSlack is how much later Go's monitor may wake than it asks for. Beside a
	// thread that waits in the kernel it asks for 20 µs again and again, and that costs
	// more than the loop does. Where a processor is busy, its next tick wakes the monitor all
	// the same.
	monitorSlack = 100 * time.Millisecond
	// usualSlack is the kernel's default. Threads that the monitor starts inherit its own.
	usualSlack = 50 * time.Microsecond
)

// Ranks of threads.
var (
	// ordinary isn't real-time, and as nice as the process was at its start.
	ordinary = unix.SchedAttr{Policy: unix.SCHED_NORMAL, Runtime: uint64(shortSlice), Nice: script.Niceness()}
	// ahead is that of the others beside a loop that alone is real-time. It stops for the
	// garbage collector until they have run, and goes on when one of them gives its place
	// for goroutines away. On a busy host they would take half a second to, if they were
	// as nice as all. They keep nobody from running.
	ahead = unix.SchedAttr{Policy: unix.SCHED_NORMAL, Runtime: uint64(shortSlice), Nice: -20}
	// others is that of all threads but the loop's with `realtime: true`. What they
	// start inherits it.
	others = unix.SchedAttr{Policy: unix.SCHED_RR, Priority: otherPriority}
	// briefly is that of the same while garbage is collected. Nothing inherits it.
	briefly = unix.SchedAttr{Policy: unix.SCHED_RR, Priority: otherPriority, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	// first is the loop's.
	first = unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: loopPriority, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
)

// Threads are those of the process, and how the kernel ranks them.
type Threads struct {
	log *logrus.Logger

	mu     sync.Mutex
	wanted config.Realtime // as the file has it
	is     config.Realtime // what came of it
	why    error           // and why it isn't what was wanted, or lacks something

	collected time.Time // when garbage was, on our own demand
	live      uint64    // octets that were in use then

	// What the loop looks at in each turn: turn is odd while its thread is to be
	// real-time, and another one when it has to be ranked anew.
	turn atomic.Uint64
	loop atomic.Int64 // the number of the thread that it has ranked; 0 is none
	rest atomic.Pointer[unix.SchedAttr]
	// These are the loop's.
	seen  uint64 // the turn that it has obeyed
	bound bool   // its goroutine is bound to its thread
}

// NewThreads has the threads come before others that have had as much, if nobody has
// ranked them otherwise.
func NewThreads(log *logrus.Logger) *Threads {
	t := &Threads{log: log, is: config.RealtimeNone}
	t.rest.Store(&ordinary)
	a, err := unix.SchedGetAttr(0, 0)
	if err == nil && a.Policy == unix.SCHED_NORMAL {
		err = t.rankAll(ordinary)
	}
	if err != nil {
		t.log.WithError(err).Debug("the kernel takes no slice")
	}
	return t
}

// LoopThread says whether the event loop's thread is real-time, and whether the goroutine is
// bound to it. The loop calls it before it waits. A bound one that Go's scheduler interrupts
// goes on only after another thread has run. So it is bound only if that is real-time too,
// and otherwise the rank follows it.
func (t *Threads) LoopThread() (own, bound bool) {
	turn := t.turn.Load()
	own = turn%2 == 1
	t.bind(own && t.rest.Load() == &others)
	if !own {
		t.seen = turn
		return false, false
	}
	t.follow(turn)
	return true, t.bound
}

func (t *Threads) bind(bound bool) {
	if bound && !t.bound {
		runtime.LockOSThread()
	} else if !bound && t.bound {
		runtime.UnlockOSThread()
	}
	t.bound = bound
}

// follow ranks the thread that the loop is on, if it isn't yet.
func (t *Threads) follow(turn uint64) {
	tid, had := int64(unix.Gettid()), t.loop.Load()
	if turn == t.seen && tid == had {
		return
	}
	t.loop.Store(tid)
	err := rank(int(tid), first)
	if had != 0 && had != tid {
		if e := rank(int(had), *t.rest.Load()); !errors.Is(e, unix.ESRCH) {
			err = errors.Join(err, e)
		}
	}
	t.seen = turn
	if t.turn.Load()%2 == 0 { // ended meanwhile, for all that were ranked before
		err = rank(int(tid), ordinary)
	}
	if err != nil { // whoever writes the log may wait, the loop mustn't
		go t.log.WithError(err).Warn("the event loop isn't real-time")
	}
}

// Status says what was wanted, what came of it, and why it isn't that or lacks something.
func (t *Threads) Status() (wanted, is config.Realtime, problem error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wanted, t.is, t.why
}

// SetRealtime makes the process real-time as the file has it or ends that, and says what came of
// it: the daemon runs all the same.
func (t *Threads) SetRealtime(realtime config.Realtime) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.wanted == realtime && t.is == realtime {
		return
	}
	t.wanted = realtime
	t.why = t.set(realtime)
	switch {
	case t.why == nil:
	case t.is == realtime:
		t.log.WithError(t.why).Warn("real-time, but not all of it")
	case realtime == config.RealtimeAuto:
		t.log.WithError(t.why).Warn("not real-time: on a busy host advertisements may be late; `realtime: false` accepts that")
	default:
		t.log.WithError(t.why).Warnf("not real-time, as `realtime: %s` asks for", realtime)
	}
}

// set makes the process real-time, with its memory locked, or ends that. t.mu is held.
func (t *Threads) set(realtime config.Realtime) error {
	if realtime == config.RealtimeNone {
		return t.end()
	}
	if err := mayBeRealtime(); err != nil {
		return errors.Join(err, t.end())
	}
	rest := &ahead
	if realtime == config.RealtimeAll {
		rest = &others
	}
	if err := t.rankRest(*rest); err != nil {
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w; grant CAP_SYS_NICE", err)
		}
		return errors.Join(err, t.end())
	}
	t.rest.Store(rest)
	t.is = realtime
	t.anew(true)
	slackenMonitor()
	return lockMemory(realtime == config.RealtimeAll)
}

// end ends it. t.mu is held.
func (t *Threads) end() error {
	if t.is == config.RealtimeNone {
		return nil
	}
	t.is = config.RealtimeNone
	t.rest.Store(&ordinary)
	t.anew(false)
	return errors.Join(t.rankAll(ordinary), unix.Munlockall())
}

// anew has the loop rank its thread anew, or not any more.
func (t *Threads) anew(realtime bool) {
	turn := t.turn.Load() + 1
	if turn%2 == 1 != realtime {
		turn++
	}
	t.turn.Store(turn)
	if !realtime {
		t.loop.Store(0)
	}
}

// during runs what stops the loop for moments, as the garbage collector does, with all
// threads before those that aren't real-time. Otherwise the loop would wait for
// threads that wait for other programs. f is told whether only the loop is real-time.
func (t *Threads) during(f func(alone bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	alone := t.is == config.RealtimeAuto
	if alone {
		_ = t.rankRest(briefly) // without it the same is done, at worst later
		defer func() {
			if err := t.rankRest(*t.rest.Load()); err != nil {
				t.log.WithError(err).Warn("end being real-time while garbage was collected")
			}
			slackenMonitor() // being real-time has ended it
			t.anew(true)     // the loop may have come to another thread meanwhile
		}()
	}
	f(alone)
}

// rankRest ranks the threads that there are but the loop's.
func (t *Threads) rankRest(a unix.SchedAttr) error { return t.rankBut(a, int(t.loop.Load())) }

// rankAll ranks the threads that there are; those that they start inherit it.
func (t *Threads) rankAll(a unix.SchedAttr) error { return t.rankBut(a, 0) }

func (t *Threads) rankBut(a unix.SchedAttr, spared int) error {
	for range 2 { // one that was started meanwhile may have been missed
		all, err := tids()
		if err != nil {
			return fmt.Errorf("list the threads: %w", err)
		}
		for _, tid := range all {
			if tid == spared {
				continue
			}
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
	err := unix.SchedSetAttr(tid, &a, 0)
	if errors.Is(err, unix.EPERM) && a.Flags == 0 {
		a.Flags = unix.SCHED_FLAG_RESET_ON_FORK // it may be that only this one can't be taken away
		err = unix.SchedSetAttr(tid, &a, 0)
	}
	if err != nil {
		return fmt.Errorf("sched_setattr: %w", err)
	}
	return nil
}

// slackenMonitor lets Go's monitor wake late, and the threads that it has started
// not. The monitor is the thread that the runtime starts first; the kernel lists threads in
// the order of their start. If it can't be done, the monitor costs what it costs.
func slackenMonitor() {
	dir, err := os.Open("/proc/self/task")
	if err != nil {
		return
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return
	}
	for n, name := range names {
		slack := usualSlack
		if n == 1 {
			slack = monitorSlack
		}
		_ = os.WriteFile(filepath.Join("/proc", name, "timerslack_ns"), strconv.AppendInt(nil, slack.Nanoseconds(), 10), 0)
	}
}

// lockMemory keeps the memory from being swapped out: what is there, brought in before if
// all has to be, and what comes as it is used.
func lockMemory(all bool) (err error) {
	if all {
		err = unix.Mlockall(unix.MCL_CURRENT)
	}
	if err == nil {
		err = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOMEM) {
		err = fmt.Errorf("%w; grant CAP_IPC_LOCK", err)
	}
	return fmt.Errorf("lock the memory: %w", err)
}

// Run gives the rank up when a thread has run for realtimeSoft without a pause.
func (t *Threads) Run(ctx context.Context) error {
	exceeded := make(chan os.Signal, 1)
	signal.Notify(exceeded, unix.SIGXCPU)
	defer signal.Stop(exceeded)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-exceeded:
			t.exceeded()
		}
	}
}

// exceeded ends it until the next reload.
func (t *Threads) exceeded() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.is == config.RealtimeNone {
		return
	}
	t.why = fmt.Errorf("a thread ran for %v without a pause", realtimeSoft)
	t.log.WithError(t.why).Error("not real-time any more")
	if err := t.end(); err != nil {
		t.log.WithError(err).Warn("end being real-time")
	}
}
