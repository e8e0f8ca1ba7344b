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
	// shortSlice is the time slice that the threads of this process request. The kernel
	// prefers a thread with a short slice to others that have run for as long (since
	// Linux 6.12).
	shortSlice = 100 * time.Microsecond
	// The real-time priorities of the loop's thread and of the other threads. The others
	// may need one too: while the garbage collector waits for one of them, the loop waits.
	loopPriority, otherPriority = 2, 1
	// When a thread has run for realtimeSoft without a pause, the process gives up its
	// real-time rank. After realtimeHard the kernel kills it. Otherwise such a thread
	// would keep its processor for itself.
	realtimeSoft, realtimeHard = 2 * time.Second, 10 * time.Second
	// monitorSlack is the timer slack of Go's monitor thread (sysmon): how much later than
	// requested it may wake. While a thread waits in the kernel, the monitor sleeps for 20
	// µs again and again, which costs more than the loop. On a busy processor the next tick
	// wakes the monitor anyway.
	monitorSlack = 100 * time.Millisecond
	// moreSpares is how many threads StartSpares starts beside those that can run at the same time.
	// They are for threads that wait in a system call.
	moreSpares = 4
	// rankInterval is the interval at which new threads are ranked. Those that the loop's thread
	// starts have the default rank, and on a busy host they would wait for long. The loop's
	// goroutine may be one that waits for such a thread.
	rankInterval = time.Second
	// usualSlack is the kernel's default. Threads that the monitor starts inherit its
	// slack and are set back to this.
	usualSlack = 50 * time.Microsecond
)

// The ranks (scheduling attributes) of threads.
var (
	// ordinaryRank isn't real-time. It has the nice value that the process started with.
	ordinaryRank = unix.SchedAttr{Policy: unix.SCHED_NORMAL, Runtime: uint64(shortSlice), Nice: script.Niceness()}
	// niceRank is the rank of the other threads if only the loop is real-time. The loop
	// stops for the garbage collector until they have run, and continues when one of them
	// hands its P (the right to run goroutines) over. With the usual nice value that could
	// take half a second on a busy host. They need little time, so this rank doesn't keep
	// other programs from running.
	niceRank = unix.SchedAttr{Policy: unix.SCHED_NORMAL, Runtime: uint64(shortSlice), Nice: -20}
	// restRank is the rank of all threads but the loop's with `realtime: true`, and otherwise
	// during a garbage collection. Threads that they start inherit it: while one of them sweeps,
	// others ask without a pause whether it is ready. If it weren't real-time, it would get no
	// processor until the kernel throttles them, which takes a second.
	restRank = unix.SchedAttr{Policy: unix.SCHED_RR, Priority: otherPriority}
	// loopRank is the rank of the loop's thread.
	loopRank = unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: loopPriority, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
)

// Threads manages the scheduling of the threads of this process.
type Threads struct {
	log *logrus.Logger

	mu     sync.Mutex
	wanted config.Realtime // the value of `realtime` in the file
	is     config.Realtime // what is in effect
	why    error           // why that differs, or is incomplete

	count     int       // the links of /proc/self/task when rankNew last ranked the threads
	collected time.Time // when CollectIfDue or Collect last ran a collection
	live      uint64    // octets in use after it

	// The loop reads epoch before each wait. It is odd while the loop's thread should be
	// real-time, and changes when the thread has to be ranked again.
	epoch atomic.Uint64
	loop  atomic.Int64                   // the thread that the loop has ranked; 0: none
	rest  atomic.Pointer[unix.SchedAttr] // the rank of the other threads
	// The fields below belong to the loop.
	seen  uint64 // the last epoch that it has processed
	bound bool   // its goroutine is locked to its thread
}

// NewThreads gives the threads of this process a short time slice, unless the process was
// started with another scheduling policy.
func NewThreads(log *logrus.Logger) *Threads {
	t := &Threads{log: log, is: config.RealtimeNone}
	t.rest.Store(&ordinaryRank)
	a, err := unix.SchedGetAttr(0, 0)
	if err == nil && a.Policy == unix.SCHED_NORMAL {
		err = t.rankAll(ordinaryRank)
	}
	if err != nil {
		t.log.WithError(err).Debug("could not set the time slice of the threads")
	}
	return t
}

// StartSpares starts threads for later. A thread that the event loop starts would have the default
// rank at first, and the loop's goroutine could be one that has to wait for it.
func StartSpares() {
	var started, ended sync.WaitGroup
	release := make(chan struct{})
	for range runtime.GOMAXPROCS(0) + moreSpares {
		started.Add(1)
		ended.Go(func() {
			runtime.LockOSThread() // so each goroutine needs a thread of its own
			defer runtime.UnlockOSThread()
			started.Done()
			<-release
		})
	}
	started.Wait()
	close(release)
	ended.Wait()
}

// LoopThread ranks the thread of the event loop. It returns whether the thread is real-time,
// and whether the goroutine is locked to it. The loop calls it before each wait. When Go's
// scheduler preempts a locked goroutine, it continues only after another thread has run. So
// it is locked only if the other threads are real-time too. Otherwise the rank follows the
// goroutine from thread to thread.
func (t *Threads) LoopThread() (own, bound bool) {
	turn := t.epoch.Load()
	own = turn%2 == 1
	t.bind(own && t.rest.Load() == &restRank)
	if !own {
		t.seen = turn
		return false, false
	}
	t.rankLoop(turn)
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

// rankLoop ranks the current thread of the loop if it isn't ranked yet.
func (t *Threads) rankLoop(turn uint64) {
	tid, had := int64(unix.Gettid()), t.loop.Load()
	if turn == t.seen && tid == had {
		return
	}
	t.loop.Store(tid)
	err := rank(int(tid), loopRank)
	if had != 0 && had != tid {
		if e := rank(int(had), *t.rest.Load()); !errors.Is(e, unix.ESRCH) {
			err = errors.Join(err, e)
		}
	}
	t.seen = turn
	if t.epoch.Load()%2 == 0 { // stopRealtime ran meanwhile and may have missed this thread
		err = rank(int(tid), ordinaryRank)
	}
	if err != nil { // writing the log may block, so the loop doesn't do it
		go t.log.WithError(err).Warn("could not make the thread of the event loop real-time")
	}
}

// Status returns the value of `realtime` in the file, the value that is in effect, and why
// that differs or is incomplete.
func (t *Threads) Status() (wanted, is config.Realtime, problem error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wanted, t.is, t.why
}

// SetRealtime applies the value of `realtime` in the file. It logs a failure and doesn't
// return it, because the daemon runs anyway.
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
		t.log.WithError(t.why).Warn("real-time, but incomplete")
	case realtime == config.RealtimeAuto:
		t.log.WithError(t.why).Warn("not real-time: on a busy host advertisements may be late; `realtime: false` accepts that")
	default:
		t.log.WithError(t.why).Warnf("not real-time, as `realtime: %s` asks for", realtime)
	}
}

// set makes the process real-time and locks its memory, or ends that. t.mu is held.
func (t *Threads) set(realtime config.Realtime) error {
	if realtime == config.RealtimeNone {
		return t.stopRealtime()
	}
	if err := tryRealtime(); err != nil {
		return errors.Join(err, t.stopRealtime())
	}
	rest := &niceRank
	if realtime == config.RealtimeAll {
		rest = &restRank
	}
	if err := t.rankRest(*rest); err != nil {
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w; grant CAP_SYS_NICE", err)
		}
		return errors.Join(err, t.stopRealtime())
	}
	t.rest.Store(rest)
	t.is = realtime
	t.newEpoch(true)
	slackenMonitor()
	return lockMemory(realtime == config.RealtimeAll)
}

// stopRealtime returns all threads to ordinaryRank and unlocks the memory. t.mu is held.
func (t *Threads) stopRealtime() error {
	if t.is == config.RealtimeNone {
		return nil
	}
	t.is = config.RealtimeNone
	t.rest.Store(&ordinaryRank)
	t.newEpoch(false)
	return errors.Join(t.rankAll(ordinaryRank), unix.Munlockall())
}

// newEpoch makes the loop rank its thread again, or stop ranking it.
func (t *Threads) newEpoch(realtime bool) {
	turn := t.epoch.Load() + 1
	if turn%2 == 1 != realtime {
		turn++
	}
	t.epoch.Store(turn)
	if !realtime {
		t.loop.Store(0)
	}
}

// withoutWaiting runs f, which stops the loop for moments like the garbage collector does,
// while all threads are real-time. Otherwise the loop would wait for threads that wait for
// other programs. While this process starts a program, f runs without that and doesn't wait,
// because the start may hang in a file system. The parameter of f says whether only the loop is
// real-time otherwise.
func (t *Threads) withoutWaiting(f func(alone bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	alone := t.is == config.RealtimeAuto
	if alone && script.Forking.TryLock() {
		defer script.Forking.Unlock()
		_ = t.rankRest(restRank) // if this fails, f only takes longer
		defer func() {
			t.rankOthers(t.rest.Load())
		}()
	}
	f(alone)
}

// Hurry makes all threads real-time until Relax, if only the loop's is. A process that hands over
// does so: its goroutines end then, and the runtime may continue the loop on any of their threads.
// The loop would have to wait there for a processor.
func (t *Threads) Hurry() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.is != config.RealtimeAuto || !script.Forking.TryLock() {
		return
	}
	defer script.Forking.Unlock()
	t.rankOthers(&restRank)
}

// Relax ends Hurry.
func (t *Threads) Relax() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.is == config.RealtimeAuto {
		t.rankOthers(&niceRank)
	}
}

// rankNew ranks the threads that were started since the last call.
func (t *Threads) rankNew() {
	t.mu.Lock()
	defer t.mu.Unlock()
	var tasks unix.Stat_t
	if t.is == config.RealtimeNone || unix.Stat("/proc/self/task", &tasks) != nil || int(tasks.Nlink) == t.count || !script.Forking.TryLock() {
		return
	}
	defer script.Forking.Unlock()
	t.count = int(tasks.Nlink) // a link for each thread
	t.rankOthers(t.rest.Load())
}

// rankOthers gives all threads but the loop's a rank, also those that they start. t.mu is held.
func (t *Threads) rankOthers(a *unix.SchedAttr) {
	t.rest.Store(a)
	if err := t.rankRest(*a); err != nil {
		t.log.WithError(err).Warn("could not change the rank of the threads")
	}
	slackenMonitor() // a real-time rank resets the timer slack
	t.newEpoch(true) // the loop may be on another thread now
}

// rankRest ranks all existing threads but the loop's.
func (t *Threads) rankRest(a unix.SchedAttr) error { return t.rankExcept(a, int(t.loop.Load())) }

// rankAll ranks all existing threads. Threads that they start inherit the rank.
func (t *Threads) rankAll(a unix.SchedAttr) error { return t.rankExcept(a, 0) }

func (t *Threads) rankExcept(a unix.SchedAttr, spared int) error {
	for range 2 { // the first round may miss threads that are being started
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

// tids returns the thread IDs of this process in its own PID namespace, which may differ from
// that of /proc.
func tids() ([]int, error) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, err
	}
	self, err := os.Readlink("/proc/self")
	same := err == nil && self == strconv.Itoa(os.Getpid()) // /proc is of the same PID namespace
	var all []int
	for _, task := range tasks {
		if tid, err := strconv.Atoi(task.Name()); same && err == nil {
			all = append(all, tid)
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc/self/task", task.Name(), "status"))
		if err != nil {
			continue // the thread has ended
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
		return nil, errors.New("no threads in /proc/self/task")
	}
	return all, nil
}

// rank sets the scheduling attributes of a thread, of the current one if tid is 0.
func rank(tid int, a unix.SchedAttr) error {
	a.Size = unix.SizeofSchedAttr
	err := unix.SchedSetAttr(tid, &a, 0)
	if errors.Is(err, unix.EPERM) && a.Flags == 0 {
		a.Flags = unix.SCHED_FLAG_RESET_ON_FORK // without privilege this flag can't be cleared
		err = unix.SchedSetAttr(tid, &a, 0)
	}
	if err != nil {
		return fmt.Errorf("sched_setattr: %w", err)
	}
	return nil
}

// slackenMonitor sets the timer slack of Go's monitor thread to monitorSlack, and that of all
// other threads to usualSlack. The monitor is the first thread that the runtime starts, and
// the kernel lists threads in the order of their start. Errors are ignored, because they only
// cost processor time.
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

// lockMemory locks the memory: existing and new pages when they are used, and with all the
// existing ones at once.
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

// Run ranks new threads, and ends being real-time when a thread has run for realtimeSoft without a
// pause.
func (t *Threads) Run(ctx context.Context) error {
	exceeded := make(chan os.Signal, 1)
	signal.Notify(exceeded, unix.SIGXCPU)
	defer signal.Stop(exceeded)
	tick := time.NewTicker(rankInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			t.rankNew()
		case <-exceeded:
			t.exceeded()
		}
	}
}

// exceeded ends being real-time until the next reload.
func (t *Threads) exceeded() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.is == config.RealtimeNone {
		return
	}
	t.why = fmt.Errorf("a thread ran for %v without a pause", realtimeSoft)
	t.log.WithError(t.why).Error("not real-time any more until the next reload")
	if err := t.stopRealtime(); err != nil {
		t.log.WithError(err).Warn("could not reset the threads to their ordinary rank")
	}
}
