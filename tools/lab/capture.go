// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
)

// Frame is a frame that the switch received from a host.
type Frame struct {
	At   time.Time
	From string // the node
	Data []byte
}

// Advertisement decodes the frame as a VRRP advertisement.
func (f Frame) Advertisement() (packet.Advertisement, packet.Datagram, packet.Checksum, bool) {
	var a packet.Advertisement
	d, err := packet.ParseFrame(f.Data)
	if err != nil {
		return a, d, 0, false
	}
	hops := packet.OnLink()
	if d.Unicast() {
		hops.Min = 0
	}
	form, err := a.DecodeWithin(&d, packet.Tolerance{AuthTrailer: true, AuthHeader: true, NoAddress: true}, hops)
	return a, d, form, err == nil
}

// Announces reports whether the frame is a gratuitous ARP or an unsolicited
// neighbour advertisement that binds the address to the MAC.
func (f Frame) Announces(address, mac string) bool {
	p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy)
	if arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		return net.IP(arp.SourceProtAddress).String() == address && net.IP(arp.DstProtAddress).String() == address &&
			net.HardwareAddr(arp.SourceHwAddress).String() == mac
	}
	if na, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement); ok {
		return na.TargetAddress.String() == address && na.Flags&0x40 == 0 && // unsolicited
			slices.ContainsFunc(na.Options, func(o layers.ICMPv6Option) bool {
				return o.Type == layers.ICMPv6OptTargetAddress && net.HardwareAddr(o.Data).String() == mac
			})
	}
	return false
}

// Answers returns the MAC of the address in an ARP reply or in a solicited neighbour
// advertisement. It is empty if the frame is neither, or is about another address.
func (f Frame) Answers(address netip.Addr) (mac string) { return answers(f.Data, address) }

// WhoAnswers solicits an address from a node, and returns the nodes that answer within wait.
// Unlike WhoHas it distinguishes nodes that share a MAC.
func (c *Capture) WhoAnswers(asking *Node, ifname string, address netip.Addr, wait time.Duration) (nodes []string, err error) {
	from := len(c.Frames())
	if _, err := asking.WhoHas(ifname, address, wait); err != nil {
		return nil, err
	}
	for _, f := range c.Frames()[from:] {
		if f.Answers(address) != "" && !slices.Contains(nodes, f.From) {
			nodes = append(nodes, f.From)
		}
	}
	return nodes, nil
}

func (f Frame) String() string {
	head := fmt.Sprintf("%s %s: ", f.At.Format("15:04:05.000000"), f.From)
	if a, d, form, ok := f.Advertisement(); ok {
		return head + fmt.Sprintf("%s advertises VRID %d version %d priority %d interval %s addresses %v checksum %s", d.Source, a.VRID, a.Version, a.Priority, a.Interval, a.Addresses, form)
	}
	var names []string
	for _, l := range gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy).Layers() {
		names = append(names, l.LayerType().String())
	}
	return head + strings.Join(names, "/")
}

// Capture records the frames that hosts send to a switch.
type Capture struct {
	file *os.File
	over atomic.Bool // ends a reader that never finds the socket empty
	done chan struct{}

	mu      sync.Mutex
	frames  []Frame
	changed chan struct{}
}

// Capture begins to record what the hosts of the LAN send, including hosts that are connected
// later.
func (lan *LAN) Capture() (*Capture, error) {
	c := &Capture{done: make(chan struct{}), changed: make(chan struct{})}
	err := lan.node.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_ALL)))
		if err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		c.file = os.NewFile(uintptr(fd), "capture")
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		)
	})
	if err != nil {
		return nil, err
	}
	raw, err := c.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(c.done)
		frame, control := make([]byte, 1<<16), make([]byte, 256)
		// Read ends with an error when the file is closed.
		_ = raw.Read(func(fd uintptr) bool {
			for !c.over.Load() {
				n, nc, _, from, err := unix.Recvmsg(int(fd), frame, control, 0)
				if err != nil {
					return false
				}
				c.add(lan, frame[:n], control[:nc], from)
			}
			return true
		})
	}()
	return c, nil
}

func (c *Capture) add(lan *LAN, frame, control []byte, from unix.Sockaddr) {
	ll, ok := from.(*unix.SockaddrLinklayer)
	if !ok || ll.Pkttype == unix.PACKET_OUTGOING {
		return
	}
	lan.mu.Lock()
	defer lan.mu.Unlock()
	for _, p := range lan.ports {
		if p.near.Attrs().Index != ll.Ifindex {
			continue
		}
		c.mu.Lock()
		c.frames = append(c.frames, Frame{stampOf(control), p.Node.Name, append([]byte(nil), frame...)})
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
	}
}

// stampOf returns the kernel's time stamp, or the current time if there is none.
func stampOf(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(native64(m.Data)), int64(native64(m.Data[8:])))
		}
	}
	return time.Now()
}

// Frames returns the frames recorded so far.
func (c *Capture) Frames() []Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Frame(nil), c.frames...)
}

// Wait waits until f is true for a frame, beginning with frame number from, and returns the
// number of that frame.
func (c *Capture) Wait(ctx context.Context, from int, f func(Frame) bool) (int, error) {
	for {
		c.mu.Lock()
		frames, changed := c.frames, c.changed
		c.mu.Unlock()
		for ; from < len(frames); from++ {
			if f(frames[from]) {
				return from, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, fmt.Errorf("the awaited frame did not come: %w; VRRP on the wire:\n%s", ctx.Err(), c.VRRP())
		}
	}
}

// VRRP lists the recorded advertisements, for error messages.
func (c *Capture) VRRP() string {
	var b strings.Builder
	for _, f := range c.Frames() {
		if _, _, _, ok := f.Advertisement(); ok {
			fmt.Fprintln(&b, f)
		}
	}
	return b.String()
}

// Close ends the recording.
func (c *Capture) Close() error {
	c.over.Store(true)
	err := c.file.Close() // waits for the reader
	<-c.done
	return err
}
