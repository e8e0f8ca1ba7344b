// SPDX-License-Identifier: Apache-2.0

package track

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func targets(ifname string, atLeast int, addresses ...string) Targets {
	t := Targets{Interface: ifname, AtLeast: atLeast}
	for _, a := range addresses {
		t.Addresses = append(t.Addresses, netip.MustParseAddr(a))
	}
	return t
}

const absence = 200 * time.Millisecond

// pinged is a host that answers or not.
type pinged struct {
	answers bool
	closed  *int
}

func (h pinged) Wait(ctx context.Context) error {
	if h.answers {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (h pinged) Close() { *h.closed++ }

// All targets of a ping are asked at once, and the text names the silent ones.
func TestPing(t *testing.T) {
	var sent, closed int
	l := newLooks(Sources{Ping: func(a netip.Addr, ifname string) (Echo, error) {
		if ifname == "eth9" {
			return nil, errors.New("there is no interface eth9")
		}
		if a == netip.MustParseAddr("203.0.113.1") {
			return nil, unix.ENETUNREACH
		}
		sent++
		return pinged{a == netip.MustParseAddr("198.18.0.2") || a == netip.MustParseAddr("2001:db8::2"), &closed}, nil
	}})
	for _, c := range []struct {
		good bool
		text string
		to   Targets
	}{
		{true, "198.18.0.2 answered", targets("eth0", 1, "198.18.0.2")},
		{true, "198.18.0.2, 2001:db8::2 answered", targets("", 2, "198.18.0.2", "2001:db8::2")},
		{true, "198.18.0.2 answered", targets("", 1, "198.18.0.9", "198.18.0.2", "2001:db8::9")},
		{false, "198.18.0.9: no answer in time", targets("", 1, "198.18.0.9")},
		{false, "1 of 3 answered, and at least 2 must: 198.18.0.9: no answer in time; 2001:db8::9: no answer in time", targets("", 2, "198.18.0.9", "198.18.0.2", "2001:db8::9")},
		{false, "203.0.113.1: network is unreachable", targets("", 1, "203.0.113.1")},
		{false, "198.18.0.2: there is no interface eth9", targets("eth9", 1, "198.18.0.2")},
	} {
		wait := patience
		if !c.good {
			wait = absence
		}
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		if o := l.look(ctx, Check{Kind: Ping, Targets: c.to}); o.good != c.good || o.text != c.text {
			t.Errorf("%+v: %t %q, want %t %q", c.to, o.good, o.text, c.good, c.text)
		}
		cancel()
	}
	if sent == 0 || closed != sent {
		t.Errorf("%d of %d are closed", closed, sent)
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
