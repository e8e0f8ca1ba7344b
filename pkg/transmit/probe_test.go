// SPDX-License-Identifier: Apache-2.0

package transmit

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

func TestSolicit(t *testing.T) {
	lan, err := lab.ForTest(t).LAN("lan")
	if err != nil {
		t.Fatal(err)
	}
	asker, err := lan.Host("asker", "eth0", lab.Addresses(1)...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lan.Host("neighbor", "eth0", lab.Addresses(2)...); err != nil {
		t.Fatal(err)
	}
	device, err := asker.Node.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	capture, err := lan.Capture()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = capture.Close() }()
	ifindex, mac := device.Attrs().Index, packet.MAC(device.Attrs().HardwareAddr)
	// solicit waits long for an answer that must come, and shortly for one that can't.
	solicit := func(source, neighbor string, wait time.Duration) (answered bool, err error) {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		failed := asker.Node.Do(func() error {
			answered, err = Solicit(ctx, ifindex, mac, netip.MustParseAddr(source), netip.MustParseAddr(neighbor))
			return nil
		})
		if failed != nil {
			t.Fatal(failed)
		}
		return answered, err
	}
	const long, short = 30 * time.Second, 300 * time.Millisecond
	for _, c := range []struct {
		source, neighbor string
		there            bool
	}{
		{"198.18.0.1", "198.18.0.2", true},
		{"0.0.0.0", "198.18.0.2", true},
		{"fe80::1", "fe80::2", true},
		{"fe80::1", "2001:db8::2", true},
		{"2001:db8::1", "2001:db8::2", true},
		{"198.18.0.1", "198.18.0.9", false},
		{"fe80::1", "2001:db8::9", false},
	} {
		wait := long
		if !c.there {
			wait = short
		}
		if answered, err := solicit(c.source, c.neighbor, wait); answered != c.there || err != nil {
			t.Errorf("%s to %s: %t, %v", c.source, c.neighbor, answered, err)
		}
	}
	// The request names the source.
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	want, err := packet.AppendARPRequest(nil, mac, netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("198.18.0.2"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := capture.Wait(ctx, 0, func(f lab.Frame) bool { return string(f.Data) == string(want) }); err != nil {
		t.Error(err)
	}

	if _, err := solicit("198.18.0.1", "fe80::2", long); err == nil {
		t.Error("no error for addresses of two families")
	}
	if err := asker.Node.SetDown("eth0"); err != nil {
		t.Fatal(err)
	}
	for _, neighbor := range [][2]string{{"198.18.0.1", "198.18.0.2"}, {"fe80::1", "fe80::2"}} {
		if answered, err := solicit(neighbor[0], neighbor[1], long); answered || !errors.Is(err, unix.ENETDOWN) {
			t.Errorf("%s on an interface that is down: %t, %v", neighbor[1], answered, err)
		}
	}
}

// An answer of another host for its own address isn't one: the answer must be for the neighbour.
func TestSolicitAnotherHost(t *testing.T) {
	lan, err := lab.ForTest(t).LAN("lan")
	if err != nil {
		t.Fatal(err)
	}
	asker, err := lan.Host("asker", "eth0", lab.Addresses(1)...)
	if err != nil {
		t.Fatal(err)
	}
	device, err := asker.Node.Netlink().LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	mac, other := packet.MAC(device.Attrs().HardwareAddr), packet.MAC{2, 0, 0, 0, 0, 9}
	answer := func(of string) []byte {
		f, err := packet.AppendARPRequest(nil, other, netip.MustParseAddr(of), netip.MustParseAddr("198.18.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		copy(f, mac[:])
		copy(f[32:], mac[:])
		f[21] = 2 // a reply
		return f
	}
	// deliver delivers frames to the asker until the call has returned.
	asked := func(deliver []byte, wait time.Duration) (answered bool) {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		done := make(chan struct{})
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for {
				if err := asker.Deliver(deliver); err != nil {
					t.Error(err)
				}
				select {
				case <-done:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		}()
		err := asker.Node.Do(func() (err error) {
			answered, err = Solicit(ctx, device.Attrs().Index, mac, netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("198.18.0.2"))
			return err
		})
		close(done)
		<-sent
		if err != nil {
			t.Error(err)
		}
		return answered
	}
	if asked(answer("198.18.0.3"), 300*time.Millisecond) {
		t.Error("the answer of another host is taken for the neighbour's")
	}
	if !asked(answer("198.18.0.2"), 30*time.Second) {
		t.Error("the neighbour's answer isn't taken")
	}
}
