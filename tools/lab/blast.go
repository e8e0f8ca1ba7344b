// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// blastBatch is the greatest number of frames in one system call. It is less than
// net.core.netdev_max_backlog, so that the receiver's kernel can queue all of them.
const blastBatch = 256

// blastPause is the sleep while no frame is due.
const blastPause = time.Millisecond

// Blast is the result of a blast.
type Blast struct {
	Frames       int
	Began, Ended time.Time     // before the first frame, after the last one
	CPU          time.Duration // of the sending thread, with the kernel's work for the receivers
}

// Duration returns how long the blast took.
func (b Blast) Duration() time.Duration { return b.Ended.Sub(b.Began) }

func (b Blast) String() string {
	return fmt.Sprintf("%d frames in %v, %.0f in a second", b.Frames, b.Duration().Round(time.Millisecond), float64(b.Frames)/b.Duration().Seconds())
}

// Blast sends the frames in turn on an interface of the node, rate frames in a second, for a
// time. A machine that is too slow sends fewer.
func (n *Node) Blast(ifname string, frames [][]byte, rate int, long time.Duration) (b Blast, err error) {
	fd, err := n.sender(ifname)
	if err != nil {
		return b, err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	batch := messages(frames, len(frames)+blastBatch)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := threadTime()
	if err != nil {
		return b, err
	}
	defer func() {
		after, e := threadTime()
		b.CPU, err = after-before, errors.Join(err, e)
	}()
	b.Began = time.Now()
	for b.Ended = b.Began; b.Duration() < long; b.Ended = time.Now() {
		due := min(int(float64(rate)*b.Duration().Seconds())-b.Frames, blastBatch)
		if due == 0 {
			time.Sleep(blastPause)
			continue
		}
		sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&batch[b.Frames%len(frames)])), uintptr(due), 0, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			return b, fmt.Errorf("blast from %s: %w", n.Name, errno)
		}
		if errno == 0 {
			b.Frames += int(sent)
		}
	}
	return b, nil
}

// threadTime returns the CPU time of this thread.
func threadTime() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0, fmt.Errorf("read the CPU time of the thread: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// sender opens a packet socket that sends on an interface and receives nothing.
func (n *Node) sender(ifname string) (fd int, err error) {
	l, err := n.link(ifname)
	if err != nil {
		return -1, err
	}
	err = n.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("packet socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index}); err != nil {
		return -1, errors.Join(fmt.Errorf("bind packet socket: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// message is struct mmsghdr of sendmmsg(2).
type message struct {
	header unix.Msghdr
	_      [8]byte
}

// messages returns count messages with the frames in turn.
func messages(frames [][]byte, count int) []message {
	batch := make([]message, count)
	for n := range batch {
		frame := frames[n%len(frames)]
		vector := &unix.Iovec{Base: &frame[0]}
		vector.SetLen(len(frame))
		batch[n].header.Iov = vector
		batch[n].header.SetIovlen(1)
	}
	return batch
}

// CaptureFrom begins to record what some hosts send. The kernel filters the frames of all other
// hosts, because a blast from one of them would take too much memory and time.
func (lan *LAN) CaptureFrom(nodes ...*Node) (*Capture, error) {
	filter, err := lan.portFilter(nodes)
	if err != nil {
		return nil, err
	}
	c, err := lan.Capture()
	if err != nil {
		return nil, err
	}
	raw, err := c.file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	var refused error
	err = raw.Control(func(fd uintptr) {
		refused = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	})
	if err = errors.Join(err, refused); err != nil {
		return nil, errors.Join(fmt.Errorf("capture filter: %w", err), c.Close())
	}
	return c, nil
}

// portFilter returns a filter that accepts frames received at the ports of some hosts.
func (lan *LAN) portFilter(nodes []*Node) ([]unix.SockFilter, error) {
	const (
		adPacketType = 0xfffff000 + 4 // SKF_AD_OFF + SKF_AD_PKTTYPE
		adIfindex    = 0xfffff000 + 8 // SKF_AD_OFF + SKF_AD_IFINDEX
	)
	count := uint8(len(nodes))
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: adPacketType},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.PACKET_OUTGOING, Jt: count + 1},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: adIfindex},
	}
	for i, n := range nodes {
		p, err := lan.portOf(n)
		if err != nil {
			return nil, err
		}
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(p.near.Attrs().Index), Jt: count - uint8(i)})
	}
	return append(filter,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16},
	), nil
}

func (lan *LAN) portOf(n *Node) (*Port, error) {
	lan.mu.Lock()
	defer lan.mu.Unlock()
	for _, p := range lan.ports {
		if p.Node == n {
			return p, nil
		}
	}
	return nil, fmt.Errorf("%s isn't connected", n.Name)
}
