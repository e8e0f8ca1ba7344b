// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// EchoUDP starts an echo server on a UDP port of the node. It answers from the address that the
// datagram was sent to.
func (n *Node) EchoUDP(port uint16) (io.Closer, error) {
	var conn *net.UDPConn
	err := n.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", &net.UDPAddr{Port: int(port)})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("echo on %s: %w", n.Name, err)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		// On a dual-stack socket this option covers IPv4 too.
		e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1) })
		err = errors.Join(err, e)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("echo on %s: %w", n.Name, err), conn.Close())
	}
	go func() {
		b, control := make([]byte, 2048), make([]byte, 256)
		for {
			n, controls, _, from, err := conn.ReadMsgUDPAddrPort(b, control)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				// control has the destination address, which becomes the source. An echo
				// that can't be sent counts as lost.
				_, _, _ = conn.WriteMsgUDPAddrPort(b[:n], control[:controls], from)
			}
		}
	}()
	return conn, nil
}

// Talk sends datagrams to an echo server at an interval.
type Talk struct {
	conn   *net.UDPConn
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu      sync.Mutex
	sent    []time.Time // by number
	replies []time.Time
	newest  time.Time // when the datagram of the last reply was sent
}

// TalkUDP starts a Talk with an echo server.
func (n *Node) TalkUDP(to netip.AddrPort, interval time.Duration) (*Talk, error) {
	t := &Talk{}
	err := n.Do(func() (err error) {
		t.conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("talk to %s from %s: %w", to, n.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	t.wait.Go(func() { t.send(ctx, interval) })
	t.wait.Go(t.receive)
	return t, nil
}

func (t *Talk) send(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var b [8]byte
	for n := uint64(0); ; n++ {
		binary.BigEndian.PutUint64(b[:], n)
		t.mu.Lock()
		t.sent = append(t.sent, time.Now())
		t.mu.Unlock()
		_, _ = t.conn.Write(b[:]) // an error means an outage, which is measured by the replies
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (t *Talk) receive() {
	b := make([]byte, 64)
	for {
		got, err := t.conn.Read(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || got != 8 {
			continue // an ICMP error, for example
		}
		t.mu.Lock()
		if n := binary.BigEndian.Uint64(b); n < uint64(len(t.sent)) {
			t.replies = append(t.replies, time.Now())
			t.newest = t.sent[n]
		}
		t.mu.Unlock()
	}
}

// WaitReply waits for the reply to a datagram that was sent after the given moment.
func (t *Talk) WaitReply(ctx context.Context, after time.Time) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		t.mu.Lock()
		newest := t.newest
		t.mu.Unlock()
		if newest.After(after) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("no reply: %w", ctx.Err())
		}
	}
}

// Outage returns the longest time between two consecutive replies, the second of which came
// after the given moment.
func (t *Talk) Outage(since time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	var longest time.Duration
	for i := 1; i < len(t.replies); i++ {
		if t.replies[i].After(since) {
			longest = max(longest, t.replies[i].Sub(t.replies[i-1]))
		}
	}
	return longest
}

// Close stops the datagrams.
func (t *Talk) Close() error {
	t.cancel()
	err := t.conn.Close()
	t.wait.Wait()
	return err
}
