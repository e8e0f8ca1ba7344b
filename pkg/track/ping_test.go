// SPDX-License-Identifier: Apache-2.0

package track

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/tools/lab"
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

func targets(ifname string, atLeast int, addresses ...string) Targets {
	t := Targets{Interface: ifname, AtLeast: atLeast}
	for _, a := range addresses {
		t.Addresses = append(t.Addresses, netip.MustParseAddr(a))
	}
	return t
}

// pings runs a check on a node. wait limits the time if a target must not answer.
func pings(t *testing.T, on *lab.Node, wait time.Duration, to Targets) (o outcome) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if err := on.Do(func() error { o = newLooks(Sources{}).look(ctx, Check{Kind: Ping, Targets: to}); return nil }); err != nil {
		t.Fatal(err)
	}
	return o
}

const absence = 200 * time.Millisecond

func TestPing(t *testing.T) {
	asker, target := pair(t)
	for _, socket := range []struct {
		name, groups string
		raw          bool
	}{{"raw socket", "1 0", true}, {"ping socket", "0 0", false}} {
		t.Run(socket.name, func(t *testing.T) {
			if err := asker.Sysctl("net.ipv4.ping_group_range", socket.groups); err != nil {
				t.Fatal(err)
			}
			for _, a := range []string{"198.18.0.2", "2001:db8::2"} {
				if err := asker.Do(func() error {
					e, err := sendEcho(netip.MustParseAddr(a), "")
					if err != nil {
						return err
					}
					defer e.close()
					if e.raw != socket.raw {
						t.Errorf("%s: raw is %t", a, e.raw)
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range []struct {
				good bool
				text string
				to   Targets
			}{
				{true, "198.18.0.2 answered", targets("", 1, "198.18.0.2")},
				{true, "198.18.0.2 answered", targets("eth0", 1, "198.18.0.2")},
				{true, "2001:db8::2 answered", targets("", 1, "2001:db8::2")},
				{true, "fe80::2 answered", targets("eth0", 1, "fe80::2")},
				{true, "198.18.0.2, 2001:db8::2 answered", targets("", 2, "198.18.0.2", "2001:db8::2")},
				{true, "198.18.0.2 answered", targets("", 1, "198.18.0.9", "198.18.0.2", "2001:db8::9")},
				{false, "198.18.0.9: no answer in time", targets("", 1, "198.18.0.9")},
				{false, "2001:db8::9: no answer in time", targets("eth0", 1, "2001:db8::9")},
				{false, "1 of 3 answered, and at least 2 must: 198.18.0.9: no answer in time; 2001:db8::9: no answer in time", targets("", 2, "198.18.0.9", "198.18.0.2", "2001:db8::9")},
				{false, "203.0.113.1: network is unreachable", targets("", 1, "203.0.113.1")},
				{false, "198.18.0.2: there is no interface eth9", targets("eth9", 1, "198.18.0.2")},
			} {
				wait := patience
				if !c.good {
					wait = absence
				}
				if o := pings(t, asker, wait, c.to); o.good != c.good || o.text != c.text {
					t.Errorf("%+v: %t %q, want %t %q", c.to, o.good, o.text, c.good, c.text)
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
		o := pings(t, asker, absence, targets("", 1, "198.18.0.2"))
		if replied() == 0 || o.good {
			t.Errorf("%d replies of another host: %+v", replied(), o)
		}
		replied = reply(t, target, "198.18.0.2")
		if o := pings(t, asker, patience, targets("", 1, "198.18.0.2")); !o.good || replied() == 0 {
			t.Errorf("%d replies: %+v", replied(), o)
		}
	}

	if err := asker.SetDown("eth0"); err != nil {
		t.Fatal(err)
	}
	for _, to := range []Targets{targets("eth0", 1, "198.18.0.2", "fe80::2"), targets("", 1, "198.18.0.2")} {
		if o := pings(t, asker, absence, to); o.good || !strings.Contains(o.text, "198.18.0.2: network is ") {
			t.Errorf("the interface is down: %+v", o)
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
			e := &echo{target: netip.MustParseAddr(c.target), raw: c.raw, id: id, seq: seq, payload: [payloadSize]byte{1, 2, 3}}
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

// Without CAP_NET_RAW and without permission for ping sockets the check says what to do.
func TestPingWithoutPrivilege(t *testing.T) {
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
	to := targets("", 1, "198.18.0.2", "2001:db8::2")
	o := pings(t, asker, patience, to)
	const why = "can't open an ICMP socket: grant CAP_NET_RAW, or add the group to net.ipv4.ping_group_range"
	if want := "198.18.0.2: " + why + "; 2001:db8::2: " + why; o.good || o.text != want {
		t.Errorf("%+v, want %q", o, want)
	}
	if err := asker.Sysctl("net.ipv4.ping_group_range", "0 0"); err != nil {
		t.Fatal(err)
	}
	to.AtLeast = 2
	if o := pings(t, asker, patience, to); !o.good {
		t.Errorf("with a ping socket: %+v", o)
	}
}

// The neighbours of an arp check are asked at once, and the text names the silent ones.
func TestARP(t *testing.T) {
	l := newLooks(Sources{Solicit: func(ctx context.Context, ifname string, a netip.Addr) (bool, error) {
		switch a.String() {
		case "192.0.2.1", "fe80::1":
			return ifname == "eth0", nil
		case "192.0.2.3":
			return false, unix.ENETDOWN
		}
		<-ctx.Done()
		return false, nil
	}})
	for _, c := range []struct {
		good bool
		text string
		to   Targets
	}{
		{true, "192.0.2.1 answered", targets("eth0", 1, "192.0.2.1")},
		{true, "192.0.2.1, fe80::1 answered", targets("eth0", 2, "192.0.2.2", "192.0.2.1", "fe80::1")},
		{false, "192.0.2.2: no answer in time", targets("eth0", 1, "192.0.2.2")},
		{false, "192.0.2.3: network is down", targets("eth0", 1, "192.0.2.3")},
		{false, "1 of 3 answered, and at least 2 must: 192.0.2.2: no answer in time; 192.0.2.3: network is down", targets("eth0", 2, "192.0.2.2", "192.0.2.1", "192.0.2.3")},
	} {
		wait := patience
		if !c.good {
			wait = absence
		}
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		if o := l.look(ctx, Check{Kind: ARP, Targets: c.to}); o.good != c.good || o.text != c.text {
			t.Errorf("%+v: %t %q, want %t %q", c.to, o.good, o.text, c.good, c.text)
		}
		cancel()
	}
}
