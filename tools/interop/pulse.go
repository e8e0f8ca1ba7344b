// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// beat is how often the pulse is felt, and lateness what isn't ordinary.
	beat     = 10 * time.Millisecond
	lateness = 200 * time.Millisecond
)

// pulse records when a processor didn't come to run what was due, for who has
// to find out whether a router or the machine was late.
type pulse struct {
	mu     sync.Mutex
	stalls []stall
}

type stall struct {
	cpu      int
	from, to time.Time
}

func (s stall) String() string {
	return fmt.Sprintf("%s processor %d was busy for %v", s.from.Format(clock), s.cpu, s.to.Sub(s.from).Round(time.Millisecond))
}

// feel records until ctx ends, with a thread on each processor.
func (p *pulse) feel(ctx context.Context) {
	for cpu := range runtime.NumCPU() {
		go p.feelOne(ctx, cpu)
	}
}

func (p *pulse) feelOne(ctx context.Context, cpu int) {
	// The thread ends with the function: it is good for nothing else.
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	if unix.SchedSetaffinity(0, &set) != nil {
		return // it only helps to explain
	}
	tick := unix.NsecToTimespec(beat.Nanoseconds())
	for last := time.Now(); ctx.Err() == nil; {
		_ = unix.Nanosleep(&tick, nil) // interrupted or not
		now := time.Now()
		if now.Sub(last) > lateness {
			p.mu.Lock()
			p.stalls = append(p.stalls, stall{cpu, last, now})
			p.mu.Unlock()
		}
		last = now
	}
}

// longest returns the length of the longest stall, 0 if there was none.
func longest(stalls []stall) (d time.Duration) {
	for _, s := range stalls {
		d = max(d, s.to.Sub(s.from))
	}
	return d
}

// since returns what was recorded since then.
func (p *pulse) since(start time.Time) []stall {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []stall
	for _, s := range p.stalls {
		if s.to.After(start) {
			all = append(all, s)
		}
	}
	return all
}
