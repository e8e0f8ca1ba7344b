// SPDX-License-Identifier: Apache-2.0

package transmit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

func newConn(t *testing.T) (*lab.Node, *lab.Capture, *Conn) {
	t.Helper()
	l := lab.ForTest(t)
	lan, err := l.LAN("lan")
	if err != nil {
		t.Fatal(err)
	}
	n, err := l.Node("host")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lan.Connect(n, "eth0"); err != nil {
		t.Fatal(err)
	}
	capture, err := lan.Capture()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = capture.Close() })
	device, err := n.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	var c *Conn
	if err := n.Do(func() (err error) { c, err = Open(device.Attrs().Index); return err }); err != nil {
		t.Fatal(err)
	}
	return n, capture, c
}

// test returns a frame of a private EtherType that contains a number.
func test(number int) []byte {
	b := make([]byte, 60)
	copy(b, []byte{1, 0, 0x5e, 0, 0, 18, 2, 0, 0, 0, 0, 1, 0x88, 0xb5})
	binary.BigEndian.PutUint32(b[14:], uint32(number))
	return b
}

func isTest(f lab.Frame) bool { return binary.BigEndian.Uint16(f.Data[12:]) == 0x88b5 }

// flush flushes the queue. It returns the number of frames sent, and the errors by the numbers of
// the frames that weren't.
func flush(c interface {
	Flush(unsent func(n int, err error)) int
},
) (sent int, unsent map[int]error) {
	unsent = make(map[int]error)
	sent = c.Flush(func(n int, err error) { unsent[n] = err })
	return sent, unsent
}

// Frames arrive unchanged and in their order. One that can't be sent doesn't stop the others.
func TestFlush(t *testing.T) {
	_, capture, c := newConn(t)
	defer c.Close()
	const count = 200
	for n := range count {
		c.Queue(test(n))
		if n == 100 {
			c.Queue(make([]byte, 9000)) // larger than the MTU
			c.Queue(nil)
		}
	}
	if n := c.Queued(); n != count+1 {
		t.Errorf("%d frames are queued", n)
	}
	if sent, unsent := flush(c); sent != count || len(unsent) != 1 || !errors.Is(unsent[101], unix.EMSGSIZE) {
		t.Errorf("%d sent, %v", sent, unsent)
	}
	if sent, unsent := flush(c); sent != 0 || len(unsent) != 0 || c.Queued() != 0 {
		t.Errorf("nothing was queued: %d sent, %v", sent, unsent)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	at := 0
	for n := range count {
		i, err := capture.Wait(ctx, at, isTest)
		if err != nil {
			t.Fatal(err)
		}
		at = i + 1
		if got := binary.BigEndian.Uint32(capture.Frames()[i].Data[14:]); got != uint32(n) {
			t.Fatalf("frame %d came as number %d", got, n)
		}
	}
}

func TestInterfaceDown(t *testing.T) {
	n, _, c := newConn(t)
	defer c.Close()
	if err := n.SetDown("eth0"); err != nil {
		t.Fatal(err)
	}
	c.Queue(test(1))
	c.Queue(test(2))
	if sent, unsent := flush(c); sent != 0 || !errors.Is(unsent[0], unix.ENETDOWN) || !errors.Is(unsent[1], unix.ENETDOWN) {
		t.Errorf("%d sent, %v", sent, unsent)
	}
	if err := n.SetUp("eth0"); err != nil {
		t.Fatal(err)
	}
	c.Queue(test(3))
	if sent, unsent := flush(c); sent != 1 || len(unsent) != 0 {
		t.Errorf("%d sent, %v", sent, unsent)
	}
}

// the interface is a member of the groups as long as the Conn is open.
func TestJoin(t *testing.T) {
	t.Attr("proves", "D-23 X-07")
	n, _, c := newConn(t)
	// The kernel lists IPv4 groups in the machine's byte order.
	groups := func() string {
		var all []byte
		for _, path := range []string{"/proc/thread-self/net/igmp", "/proc/thread-self/net/igmp6"} {
			var b []byte
			if err := n.Do(func() (err error) { b, err = os.ReadFile(path); return err }); err != nil {
				t.Fatal(err)
			}
			all = append(all, b...)
		}
		return string(all)
	}
	four := packet.IPv4.Group().As4()
	members := []string{
		fmt.Sprintf("%08X", binary.NativeEndian.Uint32(four[:])),
		"ff020000000000000000000000000012",
	}
	if err := n.Do(func() error { return errors.Join(c.Join(packet.IPv4), c.Join(packet.IPv6)) }); err != nil {
		t.Fatal(err)
	}
	for _, want := range members {
		if out := groups(); !strings.Contains(out, want) {
			t.Errorf("%s is not in:\n%s", want, out)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, gone := range members {
		if out := groups(); strings.Contains(out, gone) {
			t.Errorf("%s is still in:\n%s", gone, out)
		}
	}
}

func TestOpenNoInterface(t *testing.T) {
	if _, err := Open(1 << 30); err == nil {
		t.Error("opened on an interface that does not exist")
	}
}

func TestAllocations(t *testing.T) {
	_, capture, c := newConn(t)
	defer c.Close()
	// The capture would allocate for each frame that it records.
	if err := capture.Close(); err != nil {
		t.Fatal(err)
	}
	frame := test(1)
	unsent := func(_ int, err error) { t.Error(err) }
	if n := testing.AllocsPerRun(100, func() {
		for range 8 {
			c.Queue(frame)
		}
		c.Flush(unsent)
	}); n != 0 {
		t.Errorf("a flush allocates %v times", n)
	}
}

// O-04: advertisements leave before bulk traffic.
func TestPriority(t *testing.T) {
	t.Attr("proves", "O-04")
	c, err := Open(1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_PRIORITY)
	if err != nil || got != priorityControl {
		t.Errorf("SO_PRIORITY is %d, %v", got, err)
	}
}
