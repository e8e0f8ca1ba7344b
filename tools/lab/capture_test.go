// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"testing"
	"time"
)

// A capture that frames arrive at faster than it reads ends at once, not when the socket is
// empty.
func TestCaptureEndsInAFlood(t *testing.T) {
	l := ForTest(t)
	lan, err := l.LAN("lan")
	if err != nil {
		t.Fatal(err)
	}
	port, err := lan.Host("a", "eth0", Addresses(1)...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := lan.Capture()
	if err != nil {
		t.Fatal(err)
	}
	const many = 1000
	frame := make([]byte, 60)
	copy(frame, "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x88\xb5") // an EtherType for local experiments
	lan.mu.Lock()                                                           // blocks the reader at its first frame
	if _, err := port.Node.Blast("eth0", [][]byte{frame}, many, time.Second); err != nil {
		t.Error(err)
	}
	before := len(c.Frames())
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	for end := time.Now().Add(time.Minute); !c.over.Load() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	lan.mu.Unlock()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if n := len(c.Frames()) - before; n > 1 {
		t.Errorf("the capture read %d more frames after Close", n)
	}
}
