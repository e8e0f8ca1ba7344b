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

// Stall is a time in which a processor stood still or was busy with other work.
type Stall struct {
	CPU      int
	From, To time.Time
}

// Canary records the stalls of the processors. A thread on each processor sleeps for a short time
// again and again, and notes when it wakes too late. A tool with a Canary or a Pace needs a
// GOMAXPROCS that is greater than the number of its busy threads, because a thread that returns
// from a system call needs one of Go's processors.
type Canary struct {
	sleep, limit time.Duration
	priority     uint32 // real-time; 0 for an ordinary thread

	over atomic.Bool
	wait sync.WaitGroup

	mu     sync.Mutex
	stalls []Stall
	err    error
}

// NewCanary returns a canary for stalls of the machine itself that are longer than 10 ms. A
// virtual machine stalls when its host has other work. The threads have the highest real-time
// priority, so that other threads don't delay them.
func NewCanary() *Canary {
	return newCanary(&Canary{sleep: time.Millisecond, limit: 10 * time.Millisecond, priority: 99})
}

// NewPatientCanary returns a canary for times of more than 200 ms in which an ordinary program
// didn't run, because the machine stood still or other programs had the processor.
func NewPatientCanary() *Canary { return NewOrdinaryCanary(200 * time.Millisecond) }

// NewOrdinaryCanary returns a patient canary with another limit.
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
	runtime.LockOSThread() // never unlocked: the thread ends with its priority
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("set the affinity of the thread: %w", err)
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

// realtime gives this thread a real-time priority, 1 to 99.
func realtime(priority uint32) error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("set real-time priority %d: %w", priority, err)
	}
	return nil
}

// Stalls returns the stalls that overlap the time between two moments.
func (c *Canary) Stalls(from, to time.Time) []Stall {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.stalls), func(s Stall) bool { return s.To.Before(from) || s.From.After(to) })
}

// Longest returns the length of the longest stall, 0 if there is none.
func Longest(stalls []Stall) (d time.Duration) {
	for _, s := range stalls {
		d = max(d, s.To.Sub(s.From))
	}
	return d
}

// Close stops the canary.
func (c *Canary) Close() error {
	c.over.Store(true)
	c.wait.Wait()
	return c.err
}
