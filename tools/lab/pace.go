// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// paceSlot is the resolution of a Pace's schedule.
const paceSlot = time.Millisecond

// Stream has the frames that a Pace sends on one interface.
type Stream struct {
	Ifname string
	Frames [][]byte
}

// Pace sends frames at an interval, like the routers of another host.
type Pace struct {
	interval time.Duration
	slots    [][]paceBatch // by time within the interval
	sockets  []int
	started  chan struct{}
	done     chan struct{}
	thread   int // thread ID of the sender

	over, silent atomic.Bool
	sent         atomic.Int64
	latest       atomic.Int64
	err          error // valid after done
}

type paceBatch struct {
	socket   int
	messages []message
}

// Pace begins to send each frame of the streams once in every interval, which is a multiple of
// 1 ms. The frames are spread over the interval. The thread that sends keeps to a schedule: a
// late frame doesn't delay later ones.
func (n *Node) Pace(interval time.Duration, streams ...Stream) (*Pace, error) {
	slots := int(interval / paceSlot)
	if slots < 1 || interval%paceSlot != 0 {
		return nil, fmt.Errorf("pace of %v: it must be a multiple of 1 ms", interval)
	}
	p := &Pace{interval: interval, slots: make([][]paceBatch, slots), started: make(chan struct{}), done: make(chan struct{})}
	for _, s := range streams {
		socket, err := n.sender(s.Ifname)
		if err != nil {
			return nil, errors.Join(err, p.closeSockets())
		}
		p.sockets = append(p.sockets, socket)
		bySlot := make([][][]byte, slots)
		for k, f := range s.Frames {
			at := k * slots / len(s.Frames)
			bySlot[at] = append(bySlot[at], f)
		}
		for at, frames := range bySlot {
			if len(frames) > 0 {
				p.slots[at] = append(p.slots[at], paceBatch{socket, messages(frames, len(frames))})
			}
		}
	}
	go p.run()
	<-p.started
	return p, nil
}

func (p *Pace) run() {
	defer close(p.done)
	// Never unlocked: the thread ends with this function, and so does its priority.
	runtime.LockOSThread()
	p.thread = unix.Gettid()
	// The sender plays another host, so the load of this host must not delay it.
	p.err = realtime(50)
	close(p.started)
	if p.err != nil {
		return
	}
	start, err := monotonic()
	if err != nil {
		p.err = err
		return
	}
	for tick := 0; !p.over.Load(); tick++ {
		batches := p.slots[tick%len(p.slots)]
		if len(batches) == 0 {
			continue
		}
		late, err := sleepUntil(start + time.Duration(tick)*paceSlot)
		if err != nil {
			p.err = err
			return
		}
		p.latest.Store(max(p.latest.Load(), int64(late)))
		if late > p.interval {
			start += late // after a stall of the machine no host would send what it missed
		}
		if p.silent.Load() {
			continue
		}
		for _, b := range batches {
			if p.err = p.send(b); p.err != nil {
				return
			}
		}
	}
}

func (p *Pace) send(b paceBatch) error {
	for from := 0; from < len(b.messages); {
		sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(b.socket), uintptr(unsafe.Pointer(&b.messages[from])), uintptr(len(b.messages)-from), 0, 0, 0)
		if errno != 0 && errno != unix.EINTR && errno != unix.ENOBUFS {
			return fmt.Errorf("send at a pace: %w", errno)
		}
		if errno == 0 {
			from += int(sent)
			p.sent.Add(int64(sent))
		}
	}
	return nil
}

// Silence stops the frames, as if the host were dead, or resumes them.
func (p *Pace) Silence(on bool) { p.silent.Store(on) }

// Sent returns the number of frames sent so far.
func (p *Pace) Sent() int { return int(p.sent.Load()) }

// Latest returns the longest delay of a frame since the last call.
func (p *Pace) Latest() time.Duration { return time.Duration(p.latest.Swap(0)) }

// Thread returns the thread ID of the sender.
func (p *Pace) Thread() int { return p.thread }

// Close stops the sender.
func (p *Pace) Close() error {
	p.over.Store(true)
	<-p.done
	return errors.Join(p.err, p.closeSockets())
}

func (p *Pace) closeSockets() (err error) {
	for _, s := range p.sockets {
		err = errors.Join(err, unix.Close(s))
	}
	return err
}

func monotonic() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0, fmt.Errorf("read the clock: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// sleepUntil sleeps until a moment of the monotonic clock, and returns by how much it woke late.
func sleepUntil(at time.Duration) (late time.Duration, err error) {
	t := unix.NsecToTimespec(int64(at))
	for {
		err = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &t, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return 0, fmt.Errorf("sleep: %w", err)
	}
	now, err := monotonic()
	return now - at, err
}
