// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Stall is a time in which a processor stood still, or had other work.
type Stall struct {
	CPU      int
	From, To time.Time
}

// Canary watches the processors for times in which nothing that was due ran: a thread on
// each sleeps for a short time again and again, and notes when it wakes too late. A tool
// that uses one, or a Pace, needs more of Go's processors (GOMAXPROCS) than it has threads
// that work, because a thread that comes back from a system call waits for one.
type Canary struct {
	sleep, limit time.Duration
	priority     uint32 // real-time; 0 for an ordinary thread

	over atomic.Bool
	wait sync.WaitGroup

	mu     sync.Mutex
	stalls []Stall
	err    error
}

// NewCanary begins to watch for times of more than 10 ms in which the machine itself stood
// still, as a virtual one does when its host has other work: its threads come before all
// others.
func NewCanary() *Canary {
	return newCanary(&Canary{sleep: time.Millisecond, limit: 10 * time.Millisecond, priority: 99})
}

// NewPatientCanary begins to watch for times of more than 200 ms in which an ordinary
// program didn't run: the machine stood still, or others had the processor.
func NewPatientCanary() *Canary { return NewOrdinaryCanary(200 * time.Millisecond) }

// NewOrdinaryCanary is NewPatientCanary with another limit.
func NewOrdinaryCanary(limit time.Duration) *Canary {
	return newCanary(&Canary{sleep: 10 * time.Millisecond, limit: limit})
}

func newCanary(c *Canary) *Canary {
	for cpu := range runtime.NumCPU() {
		c.wait.Go(func() {
			if err := c.watch(cpu); err != nil {
				c.mu.Lock()
				c.err = fmt.Errorf("canary of processor %d: %w", cpu, err)
				c.mu.Unlock()
			}
		})
	}
	return c
}

func (c *Canary) watch(cpu int) error {
	runtime.LockOSThread() // for ever: the thread ends with its priority
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("stay on it: %w", err)
	}
	if c.priority > 0 {
		if err := realtime(c.priority); err != nil {
			return err
		}
	}
	for !c.over.Load() {
		began, err := monotonic()
		if err != nil {
			return err
		}
		late, err := sleepUntil(began + c.sleep)
		if err != nil {
			return err
		}
		if late > c.limit {
			now := time.Now()
			c.mu.Lock()
			c.stalls = append(c.stalls, Stall{cpu, now.Add(-late - c.sleep), now})
			c.mu.Unlock()
		}
	}
	return nil
}

// realtime has this thread run before all of lower priority, 1 to 99.
func realtime(priority uint32) error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("go before all other threads: %w", err)
	}
	return nil
}

// Stalls returns those that have a part in a time.
func (c *Canary) Stalls(from, to time.Time) []Stall {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.stalls), func(s Stall) bool { return s.To.Before(from) || s.From.After(to) })
}

// Longest is the length of the longest stall, 0 if there was none.
func Longest(stalls []Stall) (d time.Duration) {
	for _, s := range stalls {
		d = max(d, s.To.Sub(s.From))
	}
	return d
}

// Close ends the watch.
func (c *Canary) Close() error {
	c.over.Store(true)
	c.wait.Wait()
	return c.err
}
