// SPDX-License-Identifier: Apache-2.0

package link

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/tools/lab"
)

const patience = 20 * time.Second

// newHost makes a host with eth0 and returns its handle.
func newHost(t *testing.T, addresses ...string) (*lab.Node, *lab.Port, *Handle) {
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
	p, err := lan.Connect(n, "eth0", addresses...)
	if err != nil {
		t.Fatal(err)
	}
	var h *Handle
	if err := n.Do(func() (err error) { h, err = NewHandle(); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return n, p, h
}

func find(t *testing.T, h *Handle, name string) Interface {
	t.Helper()
	all, err := h.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(i Interface) bool { return i.Name == name })
	if i < 0 {
		t.Fatalf("no %s", name)
	}
	return all[i]
}

func prefixes(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func names(i Interface) string {
	var all []string
	for _, a := range i.Addresses {
		if a.Prefix.Addr().Is4() || !a.Prefix.Addr().IsLinkLocalUnicast() {
			all = append(all, a.Prefix.String())
		}
	}
	return strings.Join(all, " ")
}

func TestAssignRelease(t *testing.T) {
	_, port, h := newHost(t, "192.0.2.2/24")
	i := find(t, h, "eth0")
	if i.Kind != "veth" || !i.Up || !i.Running || i.MTU != 1500 {
		t.Errorf("eth0 is %+v", i)
	}
	if lo := find(t, h, "lo"); lo.Kind != KindLoopback {
		t.Errorf("lo is %+v", lo)
	}
	virtual := prefixes("192.0.2.10/24", "2001:db8::10/64")
	for range 2 { // the second time they are there already
		for _, p := range virtual {
			if err := h.Assign(i.Index, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	i = find(t, h, "eth0")
	if got, want := names(i), "192.0.2.2/24 192.0.2.10/24 2001:db8::10/64"; got != want {
		t.Errorf("addresses %s, want %s", got, want)
	}
	for _, a := range i.Addresses {
		switch a.Prefix {
		case virtual[0]:
			if !a.Secondary {
				t.Errorf("%+v is not secondary", a)
			}
		case virtual[1]:
			// It is usable at once, and the kernel never chooses it as a source.
			if a.Tentative || a.DADFailed || !a.Deprecated {
				t.Errorf("the IPv6 address isn't usable at once, or the kernel may choose it as a source: %+v", a)
			}
		}
	}
	for range 2 { // the second time they are gone already
		if err := h.Release(i.Index, virtual); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(find(t, h, "eth0")); got != "192.0.2.2/24" {
		t.Errorf("addresses %s", got)
	}
	if err := port.Disconnect(); err != nil {
		t.Fatal(err)
	}
	if err := h.Release(i.Index, virtual); err != nil {
		t.Errorf("release from an interface that is gone: %v", err)
	}
	if err := h.Assign(i.Index, virtual[0]); err == nil || !strings.Contains(err.Error(), "192.0.2.10/24") {
		t.Errorf("assign to an interface that is gone: %v", err)
	}
}

// When the kernel removes a primary address, it also removes the other addresses of the subnet
// and their routes. Release keeps them, and leaves promote_secondaries as it was.
func TestReleaseKeepsOthers(t *testing.T) {
	for _, promote := range []string{"0", "1"} {
		t.Run("promote_secondaries "+promote, func(t *testing.T) {
			n, _, h := newHost(t)
			if err := n.Sysctl("net.ipv4.conf.eth0.promote_secondaries", promote); err != nil {
				t.Fatal(err)
			}
			i := find(t, h, "eth0")
			if err := h.Assign(i.Index, prefixes("192.0.2.10/24")[0]); err != nil {
				t.Fatal(err)
			}
			for _, a := range []string{"192.0.2.2/24", "192.0.2.3/24", "198.51.100.1/24"} {
				if err := n.AddAddress("eth0", a); err != nil {
					t.Fatal(err)
				}
			}
			routes := []netlink.Route{
				{Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0")), Gw: net.IPv4(192, 0, 2, 254), Src: net.IPv4(192, 0, 2, 2), LinkIndex: i.Index, Priority: 100},
				{Dst: ipNet(netip.MustParsePrefix("203.0.113.0/24")), Gw: net.IPv4(192, 0, 2, 253), LinkIndex: i.Index},
			}
			for _, r := range routes {
				if err := n.Netlink().RouteAdd(&r); err != nil {
					t.Fatal(err)
				}
			}
			if err := h.Release(i.Index, prefixes("192.0.2.10/24")); err != nil {
				t.Fatal(err)
			}
			for _, r := range routes {
				if err := n.Netlink().RouteAdd(&r); !errors.Is(err, unix.EEXIST) {
					t.Errorf("the route to %v isn't there: %v", r.Dst, err)
				}
			}
			if now, err := h.promotes(i.Index); err != nil || fmt.Sprint(now) != promote {
				t.Errorf("promote_secondaries is %d, %v", now, err)
			}
			got := strings.Fields(names(find(t, h, "eth0")))
			slices.Sort(got)
			if want := "[192.0.2.2/24 192.0.2.3/24 198.51.100.1/24]"; fmt.Sprint(got) != want {
				t.Errorf("addresses %v, want %s", got, want)
			}
		})
	}
}

func TestIPv6Disabled(t *testing.T) {
	n, _, h := newHost(t, "192.0.2.2/24")
	if err := n.Sysctl("net.ipv6.conf.eth0.disable_ipv6", "1"); err != nil {
		t.Fatal(err)
	}
	err := h.Assign(find(t, h, "eth0").Index, prefixes("2001:db8::10/64")[0])
	if err == nil || !strings.Contains(err.Error(), "disable_ipv6") {
		t.Errorf("the error doesn't name the remedy: %v", err)
	}
}

func TestSources(t *testing.T) {
	i := Interface{Addresses: []Address{
		{Prefix: netip.MustParsePrefix("127.0.0.5/8"), Host: true},
		{Prefix: netip.MustParsePrefix("192.0.2.10/24")},
		{Prefix: netip.MustParsePrefix("192.0.2.3/24"), Secondary: true},
		{Prefix: netip.MustParsePrefix("198.51.100.2/24")},
		{Prefix: netip.MustParsePrefix("2001:db8::2/64")},
		{Prefix: netip.MustParsePrefix("fe80::1/64")},
		{Prefix: netip.MustParsePrefix("fe80::2/64"), Tentative: true},
		{Prefix: netip.MustParsePrefix("fe80::3/64"), DADFailed: true},
		{Prefix: netip.MustParsePrefix("fe80::4/64")},
	}}
	exclude := NewAddressSet(netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("fe80::1"))
	more := maps.Clone(exclude)
	more.Add(netip.MustParseAddr("198.51.100.2"))
	for _, c := range []struct {
		what string
		got  netip.Addr
		want string
	}{
		{"first that isn't excluded", PrimaryIPv4(i, exclude), "198.51.100.2"},
		{"first", PrimaryIPv4(i, nil), "192.0.2.10"},
		{"secondary if there is no other", PrimaryIPv4(i, more), "192.0.2.3"},
		{"link-local", LinkLocalIPv6(i, exclude), "fe80::4"},
		{"link-local once settled", LinkLocalIPv6(i.Settled(), exclude), "fe80::2"},
		{"none", PrimaryIPv4(Interface{}, nil), "invalid IP"},
	} {
		if c.got.String() != c.want {
			t.Errorf("%s: %v, want %s", c.what, c.got, c.want)
		}
	}
	if !i.Addresses[6].Tentative {
		t.Error("Settled has changed the original")
	}
}

// newMonitor runs a Monitor in a host until the test ends.
func newMonitor(t *testing.T, n *lab.Node) *Monitor {
	t.Helper()
	var m *Monitor
	if err := n.Do(func() (err error) { m, err = NewMonitor(); return err }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait(); m.Close() })
	return m
}

// Changes of interfaces that nobody watches are deferred. Changes of watched interfaces, of
// those above and below them, and of addresses aren't.
func TestMonitorUrgency(t *testing.T) {
	n, _, h := newHost(t, "192.0.2.2/24")
	var m *Monitor
	if err := n.Do(func() (err error) { m, err = NewMonitor(); return err }); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	judged := func() urgency {
		t.Helper()
		all, err := m.discard()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.look(); err != nil {
			t.Fatal(err)
		}
		return all
	}
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "other0", Flags: net.FlagUp}, PeerName: "other1"}
	change := func(what string, want urgency, f func(*netlink.Handle) error) {
		t.Helper()
		if err := f(n.Netlink()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := judged(); got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	up := func(name string) func(*netlink.Handle) error {
		return func(h *netlink.Handle) error {
			return h.LinkSetUp(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: name, Index: index(t, h, name)}})
		}
	}
	address := func(name, prefix string) func(*netlink.Handle) error {
		return func(h *netlink.Handle) error {
			a, err := netlink.ParseAddr(prefix)
			if err != nil {
				return err
			}
			return h.AddrAdd(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: name, Index: index(t, h, name)}}, a)
		}
	}
	add := func(l netlink.Link) func(*netlink.Handle) error {
		return func(h *netlink.Handle) error { return h.LinkAdd(l) }
	}
	remove := func(l netlink.Link) func(*netlink.Handle) error {
		return func(h *netlink.Handle) error { return h.LinkDel(l) }
	}
	if got := judged(); got > gathered {
		t.Errorf("without a change: %d", got)
	}
	change("add an interface before the first Watch", immediate, add(cable))
	change("remove it", immediate, remove(cable))
	m.Watch("routers", []string{"eth0", "eth9"})
	m.Watch("checks", []string{"eth8"})
	change("add an interface that nobody watches", deferred, add(cable))
	change("bring it up", deferred, up("other1"))
	change("add a link-local address to it", deferred, address("other0", "fe80::1234/64"))
	change("add an address to it", gathered, address("other0", "192.0.2.77/24"))
	change("remove it with an address", immediate, remove(cable))
	if err := n.Netlink().LinkAdd(cable); err != nil {
		t.Fatal(err)
	}
	change("remove it without an address", deferred, remove(cable))
	change("add a link-local address to a watched interface", gathered, address("eth0", "fe80::1234/64"))
	on := &netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "above", ParentIndex: find(t, h, "eth0").Index}, Mode: netlink.MACVLAN_MODE_BRIDGE}
	change("add a macvlan on top of it", immediate, add(on))
	change("remove the macvlan", immediate, remove(on))
	change("add an interface with a name that routers watch", immediate, add(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth9"}, PeerName: "end9"}))
	change("add an interface with a name that checks watch", immediate, add(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth8"}, PeerName: "end8"}))
}

func index(t *testing.T, h *netlink.Handle, name string) int {
	t.Helper()
	l, err := h.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().Index
}

// The monitor gathers new addresses before it takes a picture, so that dumps don't delay the
// next ones. Another change ends the waiting.
func TestMonitorGathers(t *testing.T) {
	n, _, h := newHost(t, "192.0.2.2/24")
	m := newMonitor(t, n)
	eth := find(t, h, "eth0")
	has := func() (count int, up bool) {
		for _, i := range m.Snapshot() {
			if i.Index == eth.Index {
				for _, a := range i.Addresses {
					if a.Prefix.Bits() == 32 {
						count++
					}
				}
				return count, i.Up
			}
		}
		return 0, false
	}
	next := func() {
		t.Helper()
		select {
		case <-m.Changes():
		case <-time.After(patience):
			t.Fatal("no new picture")
		}
	}
	quiet := func() { // waits until all earlier changes are in a picture
		for {
			select {
			case <-m.Changes():
			case <-time.After(3 * gatherTime):
				return
			}
		}
	}
	for try := 1; ; try++ {
		each := max(3, 20-try/2) // a slow machine adds fewer in that time
		quiet()
		began := time.Now()
		before, _ := has()
		for i := range each {
			if err := n.AddAddress("eth0", fmt.Sprintf("198.51.%d.%d/32", try, i+1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(listInterval / 10)
		}
		if time.Since(began) > gatherTime*8/10 { // the machine was too slow for this
			if try == 50 {
				t.Fatal("this machine never adds 3 addresses in 80 ms")
			}
			continue
		}
		next()
		if got, _ := has(); got != before+each {
			t.Fatalf("a picture with %d of %d new addresses", got-before, each)
		}
		break
	}
	quiet()
	before, _ := has()
	if err := n.AddAddress("eth0", "203.0.113.1/32"); err != nil {
		t.Fatal(err)
	}
	changed := time.Now()
	if err := n.SetDown("eth0"); err != nil {
		t.Fatal(err)
	}
	for up := true; up; _, up = has() {
		next()
	}
	if got, _ := has(); got != before+1 {
		t.Errorf("%d addresses, want %d", got, before+1)
	}
	if _, begun := m.Picture(); begun.Before(changed) {
		t.Errorf("the dump began at %v, before the change at %v", begun, changed)
	}
}

func TestMonitor(t *testing.T) {
	n, port, _ := newHost(t, "192.0.2.2/24")
	m := newMonitor(t, n)

	eth0 := func(name string, f func(*Interface) bool) {
		t.Helper()
		timeout := time.After(patience)
		for {
			var found *Interface
			for _, i := range m.Snapshot() {
				if i.Name == name {
					found = &i
				}
			}
			if f(found) {
				return
			}
			select {
			case <-m.Changes():
			case <-timeout:
				t.Fatalf("%s is %+v", name, found)
			}
		}
	}
	is := func(f func(*Interface) bool) func(*Interface) bool {
		return func(i *Interface) bool { return i != nil && f(i) }
	}
	eth0("eth0", is(func(i *Interface) bool { return i.Up && i.Running }))
	for _, c := range []struct {
		do   func() error
		name string
		want func(*Interface) bool
	}{
		{func() error { return n.AddAddress("eth0", "192.0.2.3/24") }, "eth0", is(func(i *Interface) bool { return i.has(netip.MustParseAddr("192.0.2.3")) })},
		{func() error { return n.RemoveAddress("eth0", "192.0.2.3/24") }, "eth0", is(func(i *Interface) bool { return !i.has(netip.MustParseAddr("192.0.2.3")) })},
		{port.Pull, "eth0", is(func(i *Interface) bool { return i.Up && !i.Running })},
		{port.Plug, "eth0", is(func(i *Interface) bool { return i.Running })},
		{func() error { return n.SetDown("eth0") }, "eth0", is(func(i *Interface) bool { return !i.Up })},
		{func() error { return n.Rename("eth0", "lan0") }, "lan0", is(func(*Interface) bool { return true })},
		{port.Disconnect, "lan0", func(i *Interface) bool { return i == nil }},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		eth0(c.name, c.want)
	}
}

// The worker does all jobs, in their order.
func TestWorker(t *testing.T) {
	_, _, h := newHost(t, "192.0.2.2/24")
	index := find(t, h, "eth0").Index
	w := NewWorker(h, nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = w.Run(ctx) })
	var mu sync.Mutex
	var done []int
	for n := range 20 {
		w.Submit(Job{Ifindex: index, Assign: n%2 == 0, Prefixes: prefixes("192.0.2.10/24"), Done: func(err error) {
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			done = append(done, n)
		}})
	}
	cancel() // Run still does the queued jobs
	running.Wait()
	if !slices.IsSorted(done) || len(done) != 20 {
		t.Errorf("done: %v", done)
	}
	if got := names(find(t, h, "eth0")); got != "192.0.2.2/24" {
		t.Errorf("addresses %s", got)
	}
}

// While a reload removes addresses and routes, they stay in the journal, because the run may be
// killed before it has removed them.
func TestJournalAdd(t *testing.T) {
	n, _, h := newHost(t, "192.0.2.2/24")
	index := find(t, h, "eth0").Index
	dir := filepath.Join(t.TempDir(), "run")
	virtual := prefixes("192.0.2.10/24", "192.0.2.11/24")
	route := routing.Route{To: netip.MustParsePrefix("203.0.113.0/24"), Table: 254, Type: "blackhole"}
	if err := n.Do(func() error {
		j, err := OpenJournal(dir)
		if err != nil {
			return err
		}
		before := Changes{Addresses: []JournalAddress{{index, "eth0", virtual[0]}}, Set: routing.Set{Routes: []routing.Route{route}, Placed: []routing.Placed{{Address: virtual[1], Interface: "eth0"}}}}
		after := Changes{Addresses: []JournalAddress{{index, "eth0", netip.MustParsePrefix("192.0.2.12/24")}}}
		if err := j.Set("eth0", before); err != nil {
			return err
		}
		if more, err := j.Add("eth0", before); more || err != nil {
			t.Errorf("more of the same: %v, %v", more, err)
		}
		more, err := j.Add("eth0", after)
		if !more {
			t.Error("Add doesn't report the earlier changes")
		}
		return errors.Join(err, j.Close())
	}); err != nil {
		t.Fatal(err)
	}
	for _, p := range virtual {
		if err := h.Assign(index, p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.AddRoute(route); err != nil {
		t.Fatal(err)
	}
	if err := n.Do(func() error {
		removed, _, err := Recover(dir, h)
		want := []string{"route to 203.0.113.0/24 in table 254 type blackhole", "address 192.0.2.11/24 on eth0", "address 192.0.2.10/24 from eth0"}
		if !slices.Equal(removed, want) {
			t.Errorf("removed %q, want %q", removed, want)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if got := names(find(t, h, "eth0")); got != "192.0.2.2/24" {
		t.Errorf("addresses %s", got)
	}
}

// When Settle calls back, everything that was requested before is done, routing sets too.
func TestSettle(t *testing.T) {
	_, _, h := newHost(t, "192.0.2.2/24")
	index := find(t, h, "eth0").Index
	w := NewWorker(h, nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = w.Run(ctx) })
	defer running.Wait()
	defer cancel()
	settle := func() string {
		done := make(chan struct{})
		w.Settle(func() { close(done) })
		<-done
		return names(find(t, h, "eth0"))
	}
	placed := routing.Placed{Address: netip.MustParsePrefix("192.0.2.11/24"), Interface: "eth0"}
	virtual := prefixes("192.0.2.10/24")
	w.Route("owner", routing.Set{Placed: []routing.Placed{placed}})
	w.Submit(Job{Ifindex: index, Assign: true, Prefixes: virtual, Owner: "owner", Done: func(error) {}})
	if got := settle(); got != "192.0.2.2/24 192.0.2.10/24 192.0.2.11/24" {
		t.Errorf("addresses %s", got)
	}
	w.Route("owner", routing.Set{})
	if got := settle(); got != "192.0.2.2/24 192.0.2.10/24" {
		t.Errorf("addresses %s", got)
	}
}

// Addresses get their labels when they are added, on the router's own interface and elsewhere. An
// address that is there already keeps its label. Addresses are removed whatever their label is.
func TestLabels(t *testing.T) {
	_, _, h := newHost(t, "192.0.2.2/24")
	index := find(t, h, "eth0").Index
	labels := func() (all []string) {
		list, err := h.list(index, netlink.FAMILY_V4)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			all = append(all, a.IP.String()+" "+a.Label)
		}
		return all
	}
	placed := func(address, name string) routing.Placed {
		return routing.Placed{Address: netip.MustParsePrefix(address), Interface: name}
	}
	elsewhere := placed("192.0.2.12/24", "eth0")
	set := routing.Set{Placed: []routing.Placed{elsewhere}, Labels: map[routing.Placed]string{
		placed("192.0.2.10/24", ""): "eth0:web", placed("192.0.2.11/24", ""): "eth0:0123456789", elsewhere: "eth0:other",
		placed("192.0.2.12/24", ""): "eth0:wrong",
	}}
	w := NewWorker(h, nil, nil)
	virtual := prefixes("192.0.2.10/24", "192.0.2.11/24", "2001:db8::10/64")
	job := Job{Ifindex: index, Assign: true, Prefixes: virtual, Owner: "owner", Done: func(err error) {
		if err != nil {
			t.Error(err)
		}
	}}
	w.Route("owner", set)
	w.Submit(job)
	w.work()
	want := []string{"192.0.2.2 eth0", "192.0.2.10 eth0:web", "192.0.2.11 eth0:0123456789", "192.0.2.12 eth0:other"}
	if got := labels(); !slices.Equal(got, want) {
		t.Errorf("labels %q, want %q", got, want)
	}
	if got := names(find(t, h, "eth0")); !strings.Contains(got, "2001:db8::10/64") {
		t.Errorf("addresses %s", got)
	}

	set.Labels = map[routing.Placed]string{placed("192.0.2.10/24", ""): "eth0:new", elsewhere: "eth0:newer"}
	w.Route("owner", set)
	w.Submit(job)
	w.work()
	w.guard(true)
	if got := labels(); !slices.Equal(got, want) {
		t.Errorf("a reload changed labels to %q, want %q", got, want)
	}
	job.Assign = false
	w.Submit(job)
	w.work()
	if got := names(find(t, h, "eth0")); got != "192.0.2.2/24" {
		t.Errorf("addresses %s are left", got)
	}
	job.Assign = true
	w.Submit(job)
	w.work()
	want = []string{"192.0.2.2 eth0", "192.0.2.10 eth0:new", "192.0.2.11 eth0", "192.0.2.12 eth0:newer"}
	if got := labels(); !slices.Equal(got, want) {
		t.Errorf("labels %q after the next take-over, want %q", got, want)
	}
}

// A reload may change the addresses of an Active together with its routing set. The worker
// removes what is no longer wanted, whichever of the two it handles first.
func TestReassign(t *testing.T) {
	_, _, h := newHost(t, "192.0.2.2/24")
	index := find(t, h, "eth0").Index
	w := NewWorker(h, nil, nil)
	assign := Job{Ifindex: index, Assign: true, Prefixes: prefixes("192.0.2.10/24"), Owner: "owner", Done: func(error) {}}
	w.Route("owner", routing.Set{Placed: []routing.Placed{{Address: netip.MustParsePrefix("192.0.2.11/24"), Interface: "eth0"}}})
	w.Submit(assign)
	w.work()
	w.Route("owner", routing.Set{Placed: []routing.Placed{{Address: netip.MustParsePrefix("192.0.2.12/24"), Interface: "eth0"}}})
	w.Submit(assign)
	w.work()
	w.guard(false)
	if got := names(find(t, h, "eth0")); got != "192.0.2.2/24 192.0.2.10/24 192.0.2.12/24" {
		t.Errorf("addresses %s", got)
	}
}

// Recover undoes the journal of a dead run, and leaves that of a living one alone.
func TestJournal(t *testing.T) {
	n, _, h := newHost(t, "192.0.2.2/24")
	index := find(t, h, "eth0").Index
	dir := filepath.Join(t.TempDir(), "run")
	in := func(f func() error) {
		t.Helper()
		if err := n.Do(f); err != nil {
			t.Fatal(err)
		}
	}
	virtual := prefixes("192.0.2.10/24", "2001:db8::10/64")
	var j *Journal
	in(func() (err error) {
		if j, err = OpenJournal(dir); err != nil {
			return err
		}
		return j.Set("eth0", Changes{Addresses: []JournalAddress{
			{index, "eth0", virtual[0]},
			{index, "eth0", virtual[1]},
			{index, "eth0", netip.MustParsePrefix("192.0.2.77/24")}, // never assigned
			{index, "other", netip.MustParsePrefix("192.0.2.2/24")}, // another interface by now
		}})
	})
	for _, p := range virtual {
		if err := h.Assign(index, p); err != nil {
			t.Fatal(err)
		}
	}
	in(func() error {
		removed, living, err := Recover(dir, h)
		if err != nil || len(removed) != 0 || !slices.Equal(living, []int{os.Getpid()}) {
			t.Errorf("journal of a living run: removed %v, living %v, %v", removed, living, err)
		}
		return nil
	})

	if err := j.Close(); err != nil { // as the kernel does at the end of a process
		t.Fatal(err)
	}
	in(func() error {
		removed, _, err := Recover(dir, h)
		want := []string{"address 192.0.2.10/24 from eth0", "address 2001:db8::10/64 from eth0"}
		if err != nil || !slices.Equal(removed, want) {
			t.Errorf("journal of a dead run: removed %v, %v", removed, err)
		}
		return nil
	})
	if got := names(find(t, h, "eth0")); got != "192.0.2.2/24" {
		t.Errorf("addresses %s", got)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}

// Remove leaves no file. If a file isn't a journal, the error of Recover names it.
func TestJournalFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	j, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	// A user who can open the file could lock it.
	if info, err := os.Stat(j.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode: %v, %v", info, err)
	}
	if err := j.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}

	h, err := NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	ns, err := namespaceInode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fmt.Sprintf("%d-1.json", ns))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Recover(dir, h); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("the error doesn't name %s: %v", path, err)
	}
}

// A journal that cannot be written is an error, not a panic.
func TestJournalUnwritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(filepath.Join(file, "run")); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("the error is %v, want ENOTDIR", err)
	}
}
