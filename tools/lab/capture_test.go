// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"testing"
	"time"
)

// A capture that is slower than what it has to record ends all the same: at once, not when
// it has read all.
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
	copy(frame, "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x88\xb5") // for local experiments
	lan.mu.Lock()                                                           // the reader waits with the first frame
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
		t.Errorf("the capture read %d more frames after it was to end", n)
	}
}
