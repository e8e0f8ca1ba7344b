// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/tools/lab"
)

const (
	floodRouters = 100
	floodRate    = 20_000 // frames in a second
	floodTime    = 5 * time.Second
	floodLog     = 100_000  // the limit for the log in octets
	floodMemory  = 10 << 20 // the limit for the growth of the memory
)

// inventions returns advertisements of many routers from invented sources, with another interval
// and other addresses.
func (s *site) inventions() (frames [][]byte) {
	s.t.Helper()
	for n := range floodRate {
		a := packet.Advertisement{
			Version: 3, VRID: uint8(1 + n%floodRouters), Priority: uint8(1 + n%90), Interval: 10 * time.Second,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{198, 18, 0, 10})},
		}
		source := netip.AddrFrom4([4]byte{198, 19, byte(n >> 8), byte(n)})
		frame, err := packet.AppendAdvertisementFrame(nil, packet.VirtualMAC(packet.IPv4, a.VRID), source, &a, packet.ChecksumRFC9568)
		s.ok(err)
		frames = append(frames, frame)
	}
	return frames
}

// memory returns the private memory of a process in octets.
func (s *site) memory(p *lab.Process) int {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	s.ok(err)
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "RssAnon:" {
			kilo, err := strconv.Atoi(fields[1])
			s.ok(err)
			return kilo << 10
		}
	}
	s.t.Fatal("/proc/PID/status has no RssAnon")
	return 0
}

// manyRouters returns a file with many routers of a priority.
func manyRouters(priority int) string {
	var b strings.Builder
	b.WriteString("routers:\n")
	for n := range floodRouters {
		fmt.Fprintf(&b, "  - {name: r%d, interface: eth0, vrid: %d, priority: %d, interval: 1s, addresses: [198.18.7.%d/16]}\n", n, n+1, priority, n+1)
	}
	return b.String()
}

// events counts the events by kind.
func (c *configured) events() map[string]int {
	c.t.Helper()
	kinds := make(map[string]int)
	c.ok(c.client.Events(c.ctx, 0, false, func(e control.Event) error {
		kinds[e.Kind]++
		return nil
	}))
	return kinds
}

// Advertisements of many routers arrive from invented sources, one from each source. The log and
// the memory grow little, the history keeps the transitions, and nothing is dropped without a
// message.
func TestFloodOfInventedSources(t *testing.T) {
	s := newSite(t)
	s.ok(s.capture.Close())
	active, backup := s.withFile(s.a, manyRouters(200)), s.withFile(s.b, manyRouters(100))
	active.allOf("Active")
	backup.allOf("Backup")
	time.Sleep(2 * time.Second) // until the memory of the start is freed
	both := map[string]*configured{"Active": active, "Backup": backup}
	logged, memory, transitions := make(map[string]int), make(map[string]int), make(map[string]int)
	for name, c := range both {
		logged[name], memory[name], transitions[name] = len(c.Output()), s.memory(c.Process), c.events()["transition"]
	}
	blast, err := s.c.Blast(ifname, s.inventions(), floodRate, floodTime)
	s.ok(err)
	t.Log(blast)
	for name, c := range both {
		if grown := s.memory(c.Process) - memory[name]; grown > floodMemory {
			t.Errorf("%s: the memory has grown by %d octets", name, grown)
		}
		_, err := c.WaitLine(s.ctx, 0, func(l string) bool { return strings.Contains(l, "more findings of 100 routers were not logged") })
		s.ok(err)
		if grown := len(c.Output()) - logged[name]; grown > floodLog {
			t.Errorf("%s: the log has grown by %d octets", name, grown)
		}
		kinds := c.events()
		if kinds["transition"] != transitions[name] || kinds["transition"] == 0 || kinds["finding"] == 0 {
			t.Errorf("%s: there were %d transitions, and the history has %v", name, transitions[name], kinds)
		}
		c.allOf(name)
	}
}

// allOf waits until all routers are in a state.
func (c *configured) allOf(state string) {
	c.t.Helper()
	for {
		status, err := c.client.Status(c.ctx)
		in := 0
		for _, r := range status.Routers {
			if r.State == state {
				in++
			}
		}
		if err == nil && in == floodRouters {
			return
		}
		if c.ctx.Err() != nil {
			c.t.Fatalf("%d routers are %s: %v", in, state, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// A client that starts to watch during such a flood sees the real Active, and at most as many
// others as there is room for.
func TestWatchDuringFlood(t *testing.T) {
	s := newSite(t)
	s.ok(s.capture.Close())
	active := s.failoverd(s.a, "--iface", ifname, "--vip", "198.18.0.10/24")
	s.waitState(active, 0, "ipv4", "Active")
	frames := s.inventions()
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if _, err := s.c.Blast(ifname, frames, floodRate, time.Second); err != nil {
				ended <- err
				return
			}
		}
	}()
	watch := s.failoverd(s.b, "--iface", ifname, "--watch")
	_, err := watch.WaitLine(s.ctx, 0, func(l string) bool { return strings.Contains(l, "VRID 1 ") })
	s.ok(err)
	memory := s.memory(watch.Process)
	from := time.Now()
	_, err = watch.WaitLine(s.ctx, 0, func(l string) bool {
		return strings.Contains(l, "VRID 51 ") && strings.Contains(l, "Active 198.18.0.1,")
	})
	s.ok(err)
	_, err = watch.WaitLine(s.ctx, 0, func(l string) bool {
		return strings.Contains(l, "virtual routers aren't shown: there are too many senders")
	})
	s.ok(err)
	if grown := s.memory(watch.Process) - memory; grown > floodMemory {
		t.Errorf("the memory has grown by %d octets", grown)
	}
	if most := floodLog * (1 + int(time.Since(from)/(10*time.Second))); len(watch.Output()) > most {
		t.Errorf("%d octets of output, want no more than %d", len(watch.Output()), most)
	}
	close(stop)
	s.ok(<-ended)
	s.stop(s.b, watch)
	if out := watch.Output(); strings.Count(out[strings.Index(out, "INTERFACE "):], "198.18.0.1 ") != 1 {
		t.Errorf("the Active isn't in the last table:\n%s", out)
	}
}
