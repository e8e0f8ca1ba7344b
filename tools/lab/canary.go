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

const (
	canarySleep = time.Millisecond
	canaryLimit = 10 * time.Millisecond
)

// Stall is a time in which a processor stood still.
type Stall struct {
	CPU      int
	From, To time.Time
}

// Canary watches the processors for times in which the machine itself stands still, as
// a virtual one does when its host has other work: a thread on each sleeps a
// millisecond again and again, before all others, and notes when it sleeps for more
// than ten too long. Who uses one, or a Pace, needs more of Go's processors (GOMAXPROCS)
// than there are threads that work: who comes back from a system call waits for one.
type Canary struct {
	over atomic.Bool
	wait sync.WaitGroup

	mu     sync.Mutex
	stalls []Stall
	err    error
}

// NewCanary begins to watch.
func NewCanary() *Canary {
	c := &Canary{}
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
	if err := realtime(99); err != nil {
		return err
	}
	for !c.over.Load() {
		began, err := monotonic()
		if err != nil {
			return err
		}
		late, err := sleepUntil(began + canarySleep)
		if err != nil {
			return err
		}
		if late > canaryLimit {
			now := time.Now()
			c.mu.Lock()
			c.stalls = append(c.stalls, Stall{cpu, now.Add(-late - canarySleep), now})
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

// Close ends the watch.
func (c *Canary) Close() error {
	c.over.Store(true)
	c.wait.Wait()
	return c.err
}
