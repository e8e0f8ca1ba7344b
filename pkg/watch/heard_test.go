// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

const start = vrrp.Instant(1000 * time.Second)

// hear records an advertisement.
func hear(h *heard, at vrrp.Instant, from string, change func(*datapath.Record)) {
	source := netip.MustParseAddr(from)
	rec := &datapath.Record{
		ReceivedAt: at,
		Key:        packet.Key{Ifindex: 2, Family: packet.FamilyOf(source), VRID: 51},
		Datagram:   packet.Datagram{Source: source, Destination: packet.FamilyOf(source).Group(), TTL: 255, Message: []byte{0x31, 51}},
		Advertisement: packet.Advertisement{
			Version: 3, VRID: 51, Priority: 200, Interval: time.Second, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.10")},
		},
		Checksum: packet.ChecksumRFC5798,
	}
	if change != nil {
		change(rec)
	}
	h.record(rec)
}

func newTable() *heard {
	h := newHeard()
	h.interfaces[2] = link.Interface{Index: 2, Name: "eth0", Addresses: []link.Address{
		{Prefix: netip.MustParsePrefix("192.0.2.2/24")}, {Prefix: netip.MustParsePrefix("fe80::2/64")},
	}}
	return h
}

func TestHeard(t *testing.T) {
	for _, c := range []struct {
		name   string
		hear   func(*heard)
		after  time.Duration
		want   []string // parts of the lines, in order
		absent string
	}{
		{
			"one Active",
			func(h *heard) { hear(h, start, "192.0.2.3", nil) }, 700 * time.Millisecond,
			[]string{"eth0 VRID 51 ipv4 version 3: Active 192.0.2.3, priority 200, every 1s, addresses 192.0.2.10, checksum rfc5798"},
			" - ",
		},
		{
			"unicast",
			func(h *heard) {
				hear(h, start, "192.0.2.3", func(r *datapath.Record) { r.Datagram.Destination = netip.MustParseAddr("192.0.2.2") })
			}, 0,
			[]string{"Active 192.0.2.3", "--interval 1s --peer 192.0.2.3 --source 192.0.2.2 --vip 192.0.2.10/24"},
			" - ",
		},
		{
			"silent",
			func(h *heard) { hear(h, start, "192.0.2.3", nil) }, 4 * time.Second,
			[]string{"silent, no router is Active"},
			"",
		},
		{
			"left with priority 0",
			func(h *heard) {
				hear(h, start, "192.0.2.3", nil)
				hear(h, start, "192.0.2.3", func(r *datapath.Record) { r.Advertisement.Priority = 0 })
			}, 0,
			[]string{"left with priority 0"},
			"",
		},
		{
			"two Actives",
			func(h *heard) { hear(h, start, "192.0.2.3", nil); hear(h, start, "192.0.2.4", nil) }, 0,
			[]string{"192.0.2.3, priority 200", "192.0.2.4, priority 200"},
			"",
		},
		{
			"taken over",
			func(h *heard) {
				hear(h, start-vrrp.Instant(10*time.Second), "192.0.2.3", nil)
				hear(h, start, "192.0.2.4", nil)
			}, 0,
			[]string{"Active 192.0.2.4"},
			"192.0.2.3,",
		},
		{
			"refused",
			func(h *heard) {
				hear(h, start, "192.0.2.3", func(r *datapath.Record) { r.Err = packet.ErrTTL; r.Datagram.TTL = 64 })
			}, 0,
			[]string{"is out of its limits (it is 64)"},
			"to back it up",
		},
		{
			"authentication",
			func(h *heard) {
				hear(h, start, "192.0.2.3", func(r *datapath.Record) { r.Advertisement.Version, r.Advertisement.AuthType = 2, 1 })
			}, 0,
			[]string{"uses authentication (type password)"},
			"to back it up",
		},
		{
			"authentication by a trailer",
			func(h *heard) {
				hear(h, start, "192.0.2.3", func(r *datapath.Record) {
					r.Datagram.Trailer = append([]byte{1, 7}, make([]byte, packet.TrailerLen-2)...)
				})
			}, 0,
			[]string{"uses authentication (type hmac, key 7)"},
			"to back it up",
		},
		{
			"no address",
			func(h *heard) {
				hear(h, start, "192.0.2.3", func(r *datapath.Record) { r.Advertisement.Addresses = nil })
			}, 0,
			[]string{"Active 192.0.2.3, priority", "addresses none", "has no address: a Backup needs a configuration file with `addresses: []`"},
			"to back it up",
		},
		{
			"both checksum forms",
			func(h *heard) {
				hear(h, start, "192.0.2.3", nil)
				hear(h, start, "192.0.2.3", func(r *datapath.Record) { r.Checksum = packet.ChecksumRFC9568 })
			}, 0,
			[]string{"checksum rfc9568+rfc5798"},
			"",
		},
		{
			"both families",
			func(h *heard) {
				hear(h, start, "fe80::3", func(r *datapath.Record) {
					r.Advertisement.Addresses = []netip.Addr{netip.MustParseAddr("fe80::10")}
				})
				hear(h, start, "192.0.2.3", nil)
			}, 0,
			[]string{"VRID 51 ipv4", "VRID 51 ipv6"},
			"",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newTable()
			c.hear(h)
			var out bytes.Buffer
			if err := newScreen(&out).show(h, start.Add(c.after)); err != nil {
				t.Fatal(err)
			}
			rest := out.String()
			for _, w := range c.want {
				_, after, found := strings.Cut(rest, w)
				if !found {
					t.Errorf("%q is not in what follows:\n%s", w, out.String())
				}
				rest = after
			}
			if c.absent != "" && strings.Contains(out.String(), c.absent) {
				t.Errorf("%q is in:\n%s", c.absent, out.String())
			}
			if got := table(h.rows(start.Add(c.after))); !strings.Contains(got, "INTERFACE  VRID") {
				t.Errorf("no table:\n%s", got)
			}
		})
	}
}

// The screen writes a line for each change, not for each advertisement.
func TestLinesOnlyForChanges(t *testing.T) {
	h := newTable()
	var out bytes.Buffer
	s := newScreen(&out)
	for n := range 10 {
		at := start.Add(time.Duration(n) * time.Second)
		hear(h, at, "192.0.2.3", nil)
		if err := s.show(h, at); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 2 { // the router, and the command
		t.Errorf("%d lines:\n%s", n, out.String())
	}
	want := "sudo failoverd --iface eth0 --vrid 51 --priority 100 --interval 1s --vip 192.0.2.10/24"
	if !strings.Contains(out.String(), want) {
		t.Errorf("%q is not in:\n%s", want, out.String())
	}
}

// Forged addresses don't fill the memory.
func TestHeardIsBounded(t *testing.T) {
	h := newTable()
	from := netip.MustParseAddr("192.0.2.3")
	for range 1000 {
		from = from.Next()
		hear(h, start, from.String(), nil)
	}
	if n := len(h.rows(start)); n > 16 {
		t.Errorf("%d rows", n)
	}
}

// During a flood of forged sources the output and the memory have limits, and routers that
// were there before or go on advertising are shown.
func TestActiveBesideForgedOnes(t *testing.T) {
	for name, first := range map[string]bool{"the Active comes first": true, "the Active comes during the flood": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const rate, vrids = 5_000, 50
				h := newTable()
				var out bytes.Buffer
				s := newScreen(&out)
				now := start
				second := func(flood bool) {
					hear(h, now, "192.0.2.3", nil)
					for n := range rate {
						if !flood {
							break
						}
						source := forged(int(now/vrrp.Instant(time.Second))*rate + n)
						hear(h, now.Add(time.Duration(n)*time.Second/rate), source.String(), func(r *datapath.Record) {
							r.Key.VRID = uint8(1 + n%vrids)
							r.Datagram.Message = []byte{0x31, r.Key.VRID}
							r.Advertisement.VRID, r.Advertisement.Interval = r.Key.VRID, 10*time.Second
							for a := range n % 200 {
								r.Advertisement.Addresses = append(r.Advertisement.Addresses, forged(a))
							}
						})
						if n%(rate/10) == 0 {
							if err := s.show(h, now); err != nil {
								t.Fatal(err)
							}
						}
					}
					now = now.Add(time.Second)
					time.Sleep(time.Second)
				}
				for range 5 {
					second(!first)
				}
				before := out.Len()
				for range 10 {
					second(true)
				}
				if n := out.Len() - before; n > 100_000 {
					t.Errorf("%d octets in 10 s", n)
				}
				if h.total > manySenders+maxSenders+fewSenders*vrids {
					t.Errorf("%d senders are remembered", h.total)
				}
				for key, r := range h.routers {
					for _, s := range r.senders {
						if n := cap(s.advertisement.Addresses); n > 2*maxAddresses {
							t.Errorf("VRID %d: room for %d addresses", key.VRID, n)
						}
					}
				}
				if got := table(h.rows(now.Add(-time.Second / 2))); strings.Count(got, "192.0.2.3 ") != 1 {
					t.Errorf("the Active isn't shown:\n%s", got)
				}
				if got := out.String(); !strings.Contains(got, "Active 192.0.2.3,") || !strings.Contains(got, "virtual routers aren't shown") {
					t.Errorf("the Active or the line about the others is missing:\n%s", got[:min(len(got), 10000)])
				}
			})
		})
	}
}

// A terminal shows as many routers as it has room for, the sure ones first.
func TestTerminalHeight(t *testing.T) {
	h := newTable()
	for n := range 100 {
		hear(h, start, forged(n).String(), func(r *datapath.Record) {
			r.Key.VRID = uint8(1 + n)
			r.Datagram.Message = []byte{0x31, r.Key.VRID}
		})
	}
	for n := range 4 {
		hear(h, start.Add(time.Duration(n)*time.Second), "192.0.2.3", func(r *datapath.Record) {
			r.Datagram.Message = []byte{0x31, 255}
		})
	}
	var out bytes.Buffer
	s := newScreen(&out)
	s.terminal, s.height = true, func() int { return 25 }
	if err := s.show(h, start.Add(3*time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "\n") > 25 || !strings.Contains(got, "192.0.2.3 ") || !strings.Contains(got, "and 84 more") {
		t.Errorf("%d lines:\n%s", strings.Count(got, "\n"), got)
	}
}

// forged returns a forged source, a different one for each number.
func forged(n int) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 10<<24+uint32(n))))
}
