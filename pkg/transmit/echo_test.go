// SPDX-License-Identifier: Apache-2.0

package transmit

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/tools/lab"
)

const (
	patience = 10 * time.Second
	absence  = 200 * time.Millisecond
)

// pair returns two hosts on a LAN.
func pair(t *testing.T) (asker, target *lab.Node) {
	t.Helper()
	lan, err := lab.ForTest(t).LAN("lan")
	if err != nil {
		t.Fatal(err)
	}
	a, err := lan.Host("asker", "eth0", lab.Addresses(1)...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := lan.Host("target", "eth0", append(lab.Addresses(2), lab.Addresses(3)...)...)
	if err != nil {
		t.Fatal(err)
	}
	return a.Node, b.Node
}

// pings pings a host from a node, and waits for the reply until the time is over.
func pings(t *testing.T, on *lab.Node, wait time.Duration, address, ifname string) (raw bool, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if failed := on.Do(func() error {
		var e *Echo
		if e, err = SendEcho(netip.MustParseAddr(address), ifname); err == nil {
			raw, err = e.raw, e.Wait(ctx)
			e.Close()
		}
		return nil
	}); failed != nil {
		t.Fatal(failed)
	}
	return raw, err
}

func TestEcho(t *testing.T) {
	asker, target := pair(t)
	for _, socket := range []struct {
		name, groups string
		raw          bool
	}{{"raw socket", "1 0", true}, {"ping socket", "0 0", false}} {
		t.Run(socket.name, func(t *testing.T) {
			if err := asker.Sysctl("net.ipv4.ping_group_range", socket.groups); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				address, ifname string
				err             error  // nil: it answers
				text            string // of another error
			}{
				{address: "198.18.0.2"},
				{address: "198.18.0.2", ifname: "eth0"},
				{address: "2001:db8::2"},
				{address: "fe80::2", ifname: "eth0"},
				{address: "198.18.0.9", err: os.ErrDeadlineExceeded},
				{address: "2001:db8::9", ifname: "eth0", err: os.ErrDeadlineExceeded},
				{address: "203.0.113.1", err: unix.ENETUNREACH},
				{address: "198.18.0.2", ifname: "eth9", text: "there is no interface eth9"},
			} {
				wait := patience
				if c.err != nil {
					wait = absence
				}
				raw, err := pings(t, asker, wait, c.address, c.ifname)
				if c.text != "" {
					if err == nil || err.Error() != c.text {
						t.Errorf("%+v: %v", c, err)
					}
				} else if !errors.Is(err, c.err) || err == nil && raw != socket.raw {
					t.Errorf("%+v: %v, raw %t", c, err, raw)
				}
			}
		})
	}

	// A reply that repeats everything, but comes from another address, doesn't count.
	if err := target.Sysctl("net.ipv4.icmp_echo_ignore_all", "1"); err != nil {
		t.Fatal(err)
	}
	for _, groups := range []string{"1 0", "0 0"} {
		if err := asker.Sysctl("net.ipv4.ping_group_range", groups); err != nil {
			t.Fatal(err)
		}
		replied := reply(t, target, "198.18.0.3")
		if _, err := pings(t, asker, absence, "198.18.0.2", ""); replied() == 0 || err == nil {
			t.Errorf("%d replies of another host: %v", replied(), err)
		}
		replied = reply(t, target, "198.18.0.2")
		if _, err := pings(t, asker, patience, "198.18.0.2", ""); replied() == 0 || err != nil {
			t.Errorf("%d replies: %v", replied(), err)
		}
	}

	if err := asker.SetDown("eth0"); err != nil {
		t.Fatal(err)
	}
	for _, ifname := range []string{"eth0", ""} {
		if _, err := pings(t, asker, absence, "198.18.0.2", ifname); err == nil || !strings.Contains(err.Error(), "network is ") {
			t.Errorf("the interface is down: %v", err)
		}
	}
}

// reply answers the next echo request of IPv4 from an address. It returns the number of replies.
func reply(t *testing.T, on *lab.Node, from string) (replied func() int) {
	t.Helper()
	var fds [2]int // for the requests and for the replies
	if err := on.Do(func() (err error) {
		for i := range fds {
			if fds[i], err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP); err != nil {
				return err
			}
		}
		return errors.Join(
			unix.SetsockoptTimeval(fds[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience.Seconds())}),
			unix.SetsockoptInt(fds[0], unix.SOL_RAW, icmpFilter, ^(1<<echoRequest4)),
			unix.Bind(fds[1], &unix.SockaddrInet4{Addr: netip.MustParseAddr(from).As4()}),
		)
	}); err != nil {
		t.Fatal(err)
	}
	count, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		n, to, err := unix.Recvfrom(fds[0], b, 0)
		if err == nil {
			message := b[int(b[0]&0xf)*4 : n]
			message[0] = echoReply4
			binary.BigEndian.PutUint16(message[2:], 0)
			binary.BigEndian.PutUint16(message[2:], checksum(message))
			if err = unix.Sendto(fds[1], message, 0, to); err == nil {
				count++
			}
		}
		for _, fd := range fds {
			err = errors.Join(err, unix.Close(fd))
		}
		if err != nil {
			t.Error(err)
		}
	}()
	return func() int { <-done; return count }
}

// Every field of a reply counts.
func TestEchoReply(t *testing.T) {
	const id, seq = 0x1234, 0x5678
	four := &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 1}}
	six := &unix.SockaddrInet6{Addr: netip.MustParseAddr("2001:db8::1").As16()}
	for name, c := range map[string]struct {
		from   unix.Sockaddr
		target string
		raw    bool
		kind   byte
		header int
	}{
		"IPv4":             {four, "192.0.2.1", false, echoReply4, 0},
		"IPv4, raw":        {four, "192.0.2.1", true, echoReply4, 20},
		"IPv4, IP options": {four, "192.0.2.1", true, echoReply4, 24},
		"IPv6":             {six, "2001:db8::1", false, echoReply6, 0},
		"IPv6, raw":        {six, "2001:db8::1", true, echoReply6, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := &Echo{target: netip.MustParseAddr(c.target), raw: c.raw, id: id, seq: seq, payload: [payloadSize]byte{1, 2, 3}}
			b := e.request()
			if c.target == "192.0.2.1" && checksum(b) != 0 {
				t.Errorf("the checksum of the request is wrong: %x", b)
			}
			b[0] = c.kind
			if c.header > 0 {
				b = append(make([]byte, c.header), b...)
				b[0] = 0x40 | byte(c.header/4)
			}
			if !e.answers(b, c.from) {
				t.Errorf("the reply isn't taken: %x", b)
			}
			for what, at := range map[string]int{"type": 0, "code": 1, "sequence number": 7, "payload": len(b) - c.header - 1} {
				other := slices.Clone(b)
				other[c.header+at]++
				if e.answers(other, c.from) {
					t.Errorf("another %s is taken for the reply", what)
				}
			}
			other := slices.Clone(b)
			other[c.header+5]++
			if e.answers(other, c.from) == c.raw { // the kernel checks the id of a ping socket
				t.Errorf("another id: %t", !c.raw)
			}
			for n := range len(b) {
				if e.answers(b[:n], c.from) {
					t.Errorf("%d octets are taken for the reply", n)
				}
			}
			e.target = e.target.Next()
			if e.answers(b, c.from) {
				t.Error("a reply of another host is taken")
			}
		})
	}
}

// Without CAP_NET_RAW and without permission for ping sockets the error says what to do.
func TestEchoWithoutPrivilege(t *testing.T) {
	asker, _ := pair(t)
	const raw = 1 << unix.CAP_NET_RAW
	set := func(change func(uint32) uint32) {
		t.Helper()
		if err := asker.Do(func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var data [2]unix.CapUserData
			if err := unix.Capget(&header, &data[0]); err != nil {
				return err
			}
			data[0].Effective = change(data[0].Effective)
			return unix.Capset(&header, &data[0])
		}); err != nil {
			t.Fatal(err)
		}
	}
	set(func(c uint32) uint32 { return c &^ raw })
	defer set(func(c uint32) uint32 { return c | raw })
	for _, a := range []string{"198.18.0.2", "2001:db8::2"} {
		const why = "can't open an ICMP socket: grant CAP_NET_RAW, or add the group to net.ipv4.ping_group_range"
		if _, err := pings(t, asker, patience, a, ""); err == nil || err.Error() != why {
			t.Errorf("%s: %v, want %q", a, err, why)
		}
	}
	if err := asker.Sysctl("net.ipv4.ping_group_range", "0 0"); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"198.18.0.2", "2001:db8::2"} {
		if _, err := pings(t, asker, patience, a, ""); err != nil {
			t.Errorf("with a ping socket: %s: %v", a, err)
		}
	}
}
