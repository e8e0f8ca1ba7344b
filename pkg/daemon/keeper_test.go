// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// The routers of most tests: web becomes Active quickly, and spare stays Backup, because its
// interval is longer than any test.
const (
	web   = `{name: web, interface: eth0, vrid: 51, interval: 50ms, addresses: [198.18.0.10/24]}`
	spare = `{name: spare, interface: eth0, vrid: 52, interval: 40s, addresses: [198.18.0.20/24]}`
)

func TestKeeper(t *testing.T) {
	r := newRig(t).start(web + "\n" + spare)
	r.active(v4(51))
	r.backup(v4(52))
	r.has("eth0", "198.18.0.10/24")
	r.logs("using the virtual MAC 00:00:5e:00:01:33, by TC programs")
	if !r.ours(r.index("eth0"), netip.MustParseAddr("198.18.0.10")) || r.ours(r.index("eth0"), netip.MustParseAddr("198.18.0.1")) {
		t.Error("the keeper doesn't know its addresses")
	}
	if got := r.answersFor(v4(51)); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("198.18.0.10")}) {
		t.Error("answers for ", got)
	}
	if v := r.allDetails()[v4(51)]; !v.running || v.macMode != config.VirtualMACBPF || v.device != v.ifindex || v.fence == "" || v.receive == "" {
		t.Errorf("%+v", v)
	}
}

func (r *rig) index(name string) int {
	l, err := r.node.Netlink().LinkByName(name)
	r.must(err)
	return l.Attrs().Index
}

// A macvlan has the addresses, and its interface has the settings that macvlans need. The old
// settings are restored at the end.
func TestKeeperMacvlan(t *testing.T) {
	r := newRig(t).start(`{interface: eth0, vrid: 51, interval: 50ms, virtual_mac: macvlan, addresses: [198.18.0.10/24, "2001:db8::10/64"]}`)
	r.active(v4(51), v6(51))
	names := r.macvlans()
	if len(names) != 2 {
		t.Fatal(names)
	}
	r.logs("on the macvlan " + names[0])
	if v := r.allDetails()[v4(51)]; !slices.Contains(names, v.macvlan) || v.device == v.ifindex {
		t.Errorf("%+v", v)
	}
	r.has(r.allDetails()[v4(51)].macvlan, "198.18.0.10/24")

	l, err := r.node.Netlink().LinkByName(r.allDetails()[v4(51)].macvlan)
	r.must(err)
	r.must(r.node.Netlink().LinkDel(l))
	r.logs("another program removed the macvlan")
	r.active(v4(51))
	r.has(r.allDetails()[v4(51)].macvlan, "198.18.0.10/24")

	// Back to the interface, and to macvlans again.
	r.reload(`{interface: eth0, vrid: 51, interval: 50ms, virtual_mac: "off", addresses: [198.18.0.10/24]}`)
	r.active(v4(51))
	r.has("eth0", "198.18.0.10/24")
	r.until("there are no macvlans", func() bool { return len(r.macvlans()) == 0 })
	r.until("the settings are back", func() bool { return strings.Contains(r.host(), lineWith(r.before, "ipv4/conf/eth0/arp_ignore")) })
	r.reload(`{interface: eth0, vrid: 51, interval: 50ms, virtual_mac: macvlan, addresses: [198.18.0.10/24]}`)
	r.active(v4(51))
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return strings.TrimSpace(line)
		}
	}
	return "no line with " + part
}

// A macvlan goes with its interface and is created again on the next one. An interface that was
// renamed gets its settings back at the end.
func TestKeeperMacvlanInterfaceReplaced(t *testing.T) {
	r := newRig(t).start(`{interface: eth0, vrid: 51, interval: 50ms, virtual_mac: macvlan, addresses: [198.18.0.10/24]}
	{interface: eth0, vrid: 52, interval: 50ms, virtual_mac: macvlan, addresses: [198.18.0.20/24]}`)
	r.active(v4(51), v4(52))
	r.must(r.port.Disconnect())
	r.waiting(v4(51), "there is no interface eth0")
	port, err := r.lan.Connect(r.node, "eth0", rigAddress, "fe80::1/64")
	r.must(err)
	r.port = port
	r.active(v4(51), v4(52))
	r.has(r.allDetails()[v4(51)].macvlan, "198.18.0.10/24")
	r.reload(`{interface: eth0, vrid: 51, interval: 50ms, virtual_mac: macvlan, addresses: [198.18.0.20/24]}
	{interface: eth0, vrid: 52, interval: 50ms, virtual_mac: macvlan, addresses: [198.18.0.10/24]}`)
	r.active(v4(51), v4(52))
	r.has(r.allDetails()[v4(51)].macvlan, "198.18.0.20/24")
	r.has(r.allDetails()[v4(52)].macvlan, "198.18.0.10/24")
	r.must(r.node.Rename("eth0", "lan0"))
	r.until("it is the same under another name", func() bool { return r.causes.has(vrrp.CauseInterfaceRenamed) })
	r.active(v4(51), v4(52))
	before := r.before
	r.before = "" // eth0 has another name and another MAC
	r.finish()
	r.must(r.node.Rename("lan0", "eth0"))
	for _, line := range newLines(before, r.host()) {
		if !strings.HasPrefix(line, "interface eth0") {
			t.Error("left on the host: ", line)
		}
	}
}

// A stop while routers start leaves nothing behind.
func TestKeeperStopsAtOnce(t *testing.T) {
	for range 3 {
		r := newRig(t).start(`{interface: eth0, vrid: 51, interval: 10ms, virtual_mac: macvlan, addresses: [198.18.0.10/24, "2001:db8::10/64"]}
		{interface: eth0, vrid: 52, interval: 10ms, addresses: [198.18.0.20/24], routes: [{to: 203.0.113.0/24, via: 198.18.0.99}]}`)
		<-r.started
		r.finish()
	}
}

// Settings that another program resets are set again.
func TestKeeperSettings(t *testing.T) {
	r := newRig(t).start(`{interface: eth0, vrid: 51, interval: 50ms, virtual_mac: macvlan, addresses: [198.18.0.10/24]}`)
	r.active(v4(51))
	r.settle()
	made := 0
	for _, line := range newLines(r.before, r.host()) {
		if !strings.Contains(line, "/ipv4/conf/eth0/") {
			continue
		}
		made++
		path, value, _ := strings.Cut(line, " = ")
		was := lineWith(r.before, path)
		_, old, _ := strings.Cut(was, " = ")
		r.must(r.node.Do(func() error { return os.WriteFile(path, []byte(old), 0) }))
		r.until(line, func() bool {
			var now []byte
			r.must(r.node.Do(func() (err error) { now, err = os.ReadFile(path); return err }))
			return strings.TrimSpace(string(now)) == value
		})
	}
	if made == 0 {
		t.Error("there are no settings to reset")
	}
}

func TestKeeperUnicast(t *testing.T) {
	const to = `{interface: eth0, vrid: 51, interval: 50ms, unicast: {peers: [198.18.0.2, 2001:db8::2]}, addresses: [198.18.0.10/24, "2001:db8::10/64"]}`
	r := newRig(t)
	r.must(r.node.AddAddress("eth0", "2001:db8::1/64"))
	r.before = r.host()
	r.start(to + "\n" + spare)
	r.active(v4(51), v6(51))
	if v := r.allDetails()[v4(51)]; v.macMode != config.VirtualMACOff || len(v.peers) != 1 {
		t.Errorf("%+v", v)
	}
	second := `{interface: eth0, vrid: 53, interval: 50ms, unicast: {peers: [198.18.0.3]}, addresses: [198.18.0.30/24]}`
	r.reload(to + "\n" + second)
	r.active(v4(51), v4(53))
	r.reload(second) // the socket stays open for this router
	r.active(v4(53))
	r.lacks("eth0", "198.18.0.10/24")
	r.reload(strings.Replace(second, "unicast: {peers: [198.18.0.3]}, ", "", 1))
	r.active(v4(53))
	if v := r.allDetails()[v4(53)]; v.macMode != config.VirtualMACBPF || len(v.peers) != 0 {
		t.Errorf("%+v", v)
	}
}

// Extra addresses, routes and rules are added and removed with the addresses.
func TestKeeperRouting(t *testing.T) {
	r := newRig(t)
	_, err := r.lan.Connect(r.node, "eth1", "198.19.0.1/24")
	r.must(err)
	r.before = r.host()
	r.start(`{interface: eth0, vrid: 51, interval: 50ms, addresses: [198.18.0.10/24], extra_addresses: [198.18.0.11/24, {address: 198.19.0.10/24, interface: eth1}], routes: [{to: 203.0.113.0/24, via: 198.18.0.99}], rules: [{from: 198.18.0.10/32, table: 100, priority: 1000}]}`)
	r.active(v4(51))
	r.has("eth0", "198.18.0.11/24")
	r.has("eth1", "198.19.0.10/24")
	if !r.ours(r.index("eth1"), netip.MustParseAddr("198.19.0.10")) {
		t.Error("the address on eth1 isn't recognized as ours")
	}
	there := func(what string) func() bool { return func() bool { return strings.Contains(r.host(), what) } }
	r.until("there is the route", there("203.0.113.0/24"))
	r.until("there is the rule", there("rule ip rule 1000"))
	r.must(r.node.RemoveAddress("eth1", "198.19.0.10/24"))
	r.has("eth1", "198.19.0.10/24")
	r.reload(web)
	r.active(v4(51))
	r.lacks("eth0", "198.18.0.11/24")
	r.lacks("eth1", "198.19.0.10/24")
	r.until("the route is gone", func() bool { return !strings.Contains(r.host(), "203.0.113.0/24") })
}

// A virtual address on another interface is there while the router is Active, even if it is the
// router's only one. The router waits while that interface is down.
func TestKeeperAddressElsewhere(t *testing.T) {
	r := newRig(t)
	_, err := r.lan.Connect(r.node, "eth1", "198.19.0.1/24")
	r.must(err)
	r.before = r.host()
	r.start(`{interface: eth0, vrid: 51, interval: 50ms, addresses: [{address: 198.19.0.10/24, interface: eth1}]}`)
	r.active(v4(51))
	r.has("eth1", "198.19.0.10/24")
	r.lacks("eth0", "198.19.0.10/24")
	if !r.ours(r.index("eth1"), netip.MustParseAddr("198.19.0.10")) {
		t.Error("the address on eth1 isn't recognized as ours")
	}
	if got := r.answersFor(v4(51)); len(got) != 0 {
		t.Errorf("it answers for %v on eth0", got)
	}
	r.must(r.node.SetDown("eth1"))
	r.waiting(v4(51), "198.19.0.10/24 belongs on eth1, which is down")
	r.must(r.node.SetUp("eth1"))
	r.active(v4(51))
	r.has("eth1", "198.19.0.10/24")
	r.reload(`{interface: eth0, vrid: 51, interval: 50ms, addresses: [198.19.0.10/24]}`)
	r.has("eth0", "198.19.0.10/24")
	r.lacks("eth1", "198.19.0.10/24")
	r.reload(`{interface: eth0, vrid: 51, interval: 50ms, addresses: [{address: 198.19.0.10/24, interface: lo}]}`)
	r.has("lo", "198.19.0.10/24")
	r.lacks("eth0", "198.19.0.10/24")
	r.active(v4(51))
	r.before = "" // IPv6 addresses are lost when an interface is set down
}

// The keeper waits for an interface that disappears.
func TestKeeperInterfaceReplaced(t *testing.T) {
	r := newRig(t).start(web)
	r.active(v4(51))
	r.must(r.port.Disconnect())
	r.waiting(v4(51), "there is no interface eth0")
	port, err := r.lan.Connect(r.node, "eth0", rigAddress, "fe80::1/64")
	r.must(err)
	r.port = port
	r.active(v4(51))
	r.has("eth0", "198.18.0.10/24")
	r.before = "" // eth0 has another MAC
}

// Routers stay on a renamed interface, and remove their addresses from it at the end.
func TestKeeperInterfaceRenamed(t *testing.T) {
	r := newRig(t).start(web)
	r.active(v4(51))
	r.must(r.node.Rename("eth0", "lan0"))
	r.until("it is the same under another name", func() bool { return r.causes.has(vrrp.CauseInterfaceRenamed) })
	r.has("lan0", "198.18.0.10/24")
	r.active(v4(51))
	r.must(r.node.Rename("lan0", "eth0"))
	r.active(v4(51))
}

func TestKeeperInterfaceDown(t *testing.T) {
	r := newRig(t).start(web)
	r.active(v4(51))
	r.must(r.node.SetDown("eth0"))
	r.waiting(v4(51), "eth0 is down")
	r.lacks("eth0", "198.18.0.10/24")
	r.must(r.node.SetUp("eth0"))
	r.active(v4(51))
	r.must(r.port.Pull())
	r.waiting(v4(51), "eth0 has no carrier")
	r.must(r.port.Plug())
	r.active(v4(51))
	r.must(r.node.RemoveAddress("eth0", rigAddress))
	r.waiting(v4(51), "has no IPv4 address of its own")
	r.must(r.node.AddAddress("eth0", rigAddress))
	r.active(v4(51))
	r.before = "" // IPv6 addresses are lost when an interface is set down
}

// A router waits while the MTU is too small. The kernel then ends IPv6 and its memberships, and
// the keeper joins the groups again.
func TestKeeperMTU(t *testing.T) {
	r := newRig(t).start(`{interface: eth0, vrid: 51, interval: 50ms, families_together: false, addresses: [198.18.0.10/24, "2001:db8::10/64"]}`)
	r.active(v4(51), v6(51))
	l, err := r.node.Netlink().LinkByName("eth0")
	r.must(err)
	r.must(r.node.Netlink().LinkSetMTU(l, 600)) // below 1280 the kernel disables IPv6
	r.waiting(v6(51), "no IPv6 link-local address")
	r.active(v4(51))
	r.must(r.node.Netlink().LinkSetMTU(l, 1500))
	r.must(r.node.AddAddress("eth0", "fe80::1/64"))
	r.active(v4(51), v6(51))
	r.logs("the kernel had ended the membership in ff02::12")
}

// Changes of addresses by other programs are undone.
func TestKeeperStrangers(t *testing.T) {
	r := newRig(t).start(web + "\n" + spare)
	r.active(v4(51))
	r.backup(v4(52))
	r.must(r.node.RemoveAddress("eth0", "198.18.0.10/24"))
	r.has("eth0", "198.18.0.10/24")
	r.logs("address 198.18.0.10/24 on eth0 was removed by another program")
	if r.executors.routers.restorations.Count(v4(51)) == 0 {
		t.Error("the restored address isn't counted")
	}
	r.must(r.node.AddAddress("eth0", "198.18.0.20/24"))
	r.logs("this router is Backup, but address 198.18.0.20/24 is on its interface: removing it")
	r.lacks("eth0", "198.18.0.20/24")
	r.backup(v4(52))
}

// Deleted entries of the BPF maps are restored.
func TestKeeperMapEntryDeleted(t *testing.T) {
	r := newRig(t).start(web)
	r.active(v4(51))
	k := packet.Key{Ifindex: r.index("eth0"), Family: packet.IPv4, VRID: 51}
	r.must(r.node.Do(func() error {
		m, err := ebpf.LoadPinnedMap(DefaultBPFDir+"/maps/failover_router", nil)
		if err != nil {
			return err
		}
		key, err := m.NextKeyBytes(nil)
		return errors.Join(err, m.Delete(key), m.Close())
	}))
	if r.dp.Missing(k) == nil {
		t.Fatal("no entry was deleted")
	}
	r.until("the entry is restored", func() bool { return r.dp.Missing(k) == nil })
	r.logs("was removed by another program, restoring it")
}

// A journal that was removed is written again.
func TestKeeperJournalRemoved(t *testing.T) {
	r := newRig(t).start(web)
	r.active(v4(51))
	for _, name := range r.journals() {
		r.must(os.Remove(name))
	}
	r.logs("another program removed the journal")
	r.until("the journal exists again", func() bool { return len(r.journals()) > 0 })
}

func (r *rig) journals() (all []string) {
	entries, err := os.ReadDir(r.dir)
	r.must(err)
	for _, e := range entries {
		all = append(all, r.dir+"/"+e.Name())
	}
	return all
}

// If there is no room for the journal, a router takes part behind the fence and reports a
// problem.
func TestKeeperJournalFull(t *testing.T) {
	r := newRig(t)
	r.dir = "/run/small"
	fill := func(name string) {
		r.must(r.node.Do(func() error {
			f, err := os.Create(r.dir + "/" + name)
			if err != nil {
				return err
			}
			for err == nil {
				_, err = f.Write(make([]byte, 512))
			}
			if !errors.Is(err, unix.ENOSPC) {
				return err
			}
			return f.Close()
		}))
	}
	r.must(r.node.Do(func() error {
		return errors.Join(os.Mkdir(r.dir, 0o700), unix.Mount("tmpfs", r.dir, "tmpfs", 0, "size=16k,mode=700"))
	}))
	r.make()
	fill("filler")
	r.must(r.node.Do(func() error {
		for _, name := range r.journals() {
			if !strings.HasSuffix(name, "filler") {
				if err := os.Truncate(name, 0); err != nil {
					return err
				}
			}
		}
		return nil
	}))
	fill("filler2")
	r.run(web)
	r.active(v4(51))
	r.until("the problem is reported", func() bool {
		return slices.ContainsFunc(r.problems.ByRouter()[v4(51)], func(p control.Problem) bool { return p.Kind == control.Journal })
	})
	r.must(r.node.Do(func() error { return errors.Join(os.Remove(r.dir+"/filler"), os.Remove(r.dir+"/filler2")) }))
	r.finish()
}

// A Virtual Router waits while another process runs it.
func TestKeeperClaimed(t *testing.T) {
	r := newRig(t)
	var other interface{ Close() error }
	r.must(r.node.Do(func() error {
		held, errs := link.Claim(packet.Key{Ifindex: r.index("eth0"), Family: packet.IPv4, VRID: 51})
		other = held[0]
		return errs[0]
	}))
	r.start(web + "\n" + spare)
	r.backup(v4(52))
	r.waiting(v4(51), "another failoverd already runs VRID 51 on eth0")
	r.until("the problem is reported", func() bool {
		return slices.ContainsFunc(r.problems.ByRouter()[v4(51)], func(p control.Problem) bool { return p.Kind == control.Stuck })
	})
	r.must(other.Close())
	r.active(v4(51))
}

// An address moves from one router to another in one reload, and two addresses are swapped. Each
// belongs to exactly one router at every moment.
func TestKeeperMoves(t *testing.T) {
	const one, two = `{name: one, interface: eth0, vrid: 51, interval: 50ms, addresses: [`, `{name: two, interface: eth0, vrid: 52, interval: 50ms, addresses: [`
	r := newRig(t).start(one + "198.18.0.10/24, 198.18.0.11/24]}\n" + two + "198.18.0.20/24]}")
	r.active(v4(51), v4(52))
	for _, c := range [][2]string{
		{"198.18.0.10/24", "198.18.0.20/24, 198.18.0.11/24"}, // moved
		{"198.18.0.20/24, 198.18.0.11/24", "198.18.0.10/24"}, // swapped
		{"198.18.0.10/24, 198.18.0.11/24", "198.18.0.20/24"},
	} {
		r.reload(one + c[0] + "]}\n" + two + c[1] + "]}")
		for n, id := range []router.ID{v4(51), v4(52)} {
			r.active(id)
			r.has("eth0", strings.Split(c[n], ", ")...)
			var want []netip.Addr
			for _, a := range strings.Split(c[n], ", ") {
				want = append(want, netip.MustParsePrefix(a).Addr())
			}
			r.until("the fence has the right router", func() bool {
				now, known := r.dp.Router(keyOf(id, r.index("eth0")))
				return known && slices.Equal(now.Addresses, want)
			})
		}
	}
	r.reload("")
	r.lacks("eth0", "198.18.0.10/24", "198.18.0.11/24", "198.18.0.20/24")
	r.until("nothing is known of them", func() bool { return len(r.allDetails()) == 0 && len(r.dp.Routers()) == 0 })
}

// Changes that can't be made in place restart a router; others don't.
func TestKeeperReload(t *testing.T) {
	r := newRig(t).start(web)
	r.active(v4(51))
	entered := func() vrrp.Instant {
		s, _, err := r.loop.StatusOf(v4(51))
		r.must(err)
		return s.Protocol.Since
	}
	since := entered()
	r.reload(strings.Replace(web, "{", "{priority: 150, ", 1))
	r.logs("priority changed from 100 to 150")
	if r.active(v4(51)); entered() != since {
		t.Error("another priority has restarted the router")
	}
	r.reload(strings.Replace(web, "50ms", "1s", 1) + "\n" + spare)
	if r.active(v4(51)); entered() != since {
		t.Error("another interval has restarted the router")
	}
	for _, key := range []string{"version: 2", "virtual_mac: macvlan", `virtual_mac: "off"`} {
		r.reload(strings.Replace(strings.Replace(web, "{", "{"+key+", ", 1), "50ms", "1s", 1))
		if r.active(v4(51)); entered() != since {
			t.Errorf("%s has restarted the router", key)
		}
	}
	r.reload(`{name: web, interface: eth0, vrid: 51, interval: 50ms, xdp_mode: generic, addresses: [198.18.0.10/24]}`)
	r.until("it was restarted", func() bool { return entered() != since })
	r.active(v4(51))
	r.until("the port has the other mode", func() bool { return strings.Contains(r.allDetails()[v4(51)].receive, "generic") })
}

// Faults and weights of a router take effect.
func TestKeeperConditions(t *testing.T) {
	r := newRig(t).start(web)
	r.active(v4(51))
	for cause, text := range map[vrrp.Cause]string{
		vrrp.CauseFault: "the check fails", vrrp.CauseMaintenance: vrrp.CauseMaintenance.String(), vrrp.CauseWaiting: "until it is known",
	} {
		detail := text
		if cause == vrrp.CauseMaintenance {
			detail = ""
		}
		r.conditions.SetFault("web", "check", cause, detail)
		r.waiting(v4(51), text)
		r.lacks("eth0", "198.18.0.10/24")
		if v := r.allDetails()[v4(51)]; v.briefly != (cause == vrrp.CauseWaiting) || v.maintenance != (cause == vrrp.CauseMaintenance) || v.since == 0 {
			t.Errorf("%+v", v)
		}
		r.conditions.SetFault("web", "check", vrrp.CauseNone, "")
		r.active(v4(51))
	}
	r.conditions.SetWeight("web", "check", -50)
	r.logs("priority changed from 100 to 50")
	r.settle()
}

// The addresses of an address owner belong to the host and stay.
func TestKeeperOwner(t *testing.T) {
	r := newRig(t)
	r.must(r.node.AddAddress("eth0", "198.18.0.10/24"))
	r.before = r.host()
	r.start(`{name: web, interface: eth0, vrid: 51, priority: 255, interval: 50ms, accept: false, addresses: [198.18.0.10/24], authentication: {type: hmac, keys: [{id: 1, file: ` + keyFile(t, 32) + `}], send: 1}}`)
	r.active(v4(51))
	if v := r.allDetails()[v4(51)]; v.guard == nil {
		t.Errorf("%+v", v)
	}
}

// If nothing may be waited for, an interface or an address that can't be used ends the daemon.
func TestKeeperRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		routers string
		prepare func(*rig)
		text    string
	}{
		"a stranger has the address": {web, func(r *rig) { r.must(r.node.AddAddress("eth0", "198.18.0.10/24")) }, "198.18.0.10 is already on eth0"},
		"it is claimed": {web, func(r *rig) {
			r.must(r.node.Do(func() error {
				held, errs := link.Claim(packet.Key{Ifindex: r.index("eth0"), Family: packet.IPv4, VRID: 51})
				if errs[0] == nil {
					t.Cleanup(func() { _ = held[0].Close() })
				}
				return errs[0]
			}))
		}, "another failoverd already runs"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.waits = false
			c.prepare(r)
			r.before = r.host()
			r.start(c.routers)
			<-r.ended
			if r.err == nil || !strings.Contains(r.err.Error(), c.text) || !strings.HasPrefix(r.err.Error(), "interface eth0: ") {
				t.Error(r.err)
			}
			r.err = nil
		})
	}
	t.Run("nothing", func(t *testing.T) {
		r := newRig(t)
		r.waits = false
		r.start(web)
		r.active(v4(51))
		r.must(r.port.Pull()) // after the start, this doesn't end the daemon
		r.waiting(v4(51), "no carrier")
	})
}

// A waiting reload is answered when the daemon ends.
func TestKeeperReloadWhileLeaving(t *testing.T) {
	r := newRig(t).start(web)
	r.active(v4(51))
	done := make(chan error, 1)
	r.changes <- change{plan.New(nil, r.wanted), done}
	r.leave()
	if err := <-done; err != nil && !errors.Is(err, router.ErrStopped) {
		t.Error(err)
	}
}

// The cause of a start follows from what the router has waited for.
func TestResumeCause(t *testing.T) {
	if got := resumeCause(nil); got != vrrp.CauseStarting {
		t.Error("a new one: ", got)
	}
	for was, want := range map[vrrp.Cause]vrrp.Cause{
		vrrp.CauseNone: vrrp.CauseStarting, vrrp.CauseWaiting: vrrp.CauseStarting, vrrp.CauseInterfaceDown: vrrp.CauseInterfaceUp,
		vrrp.CauseInterfaceRemoved: vrrp.CauseInterfaceBack, vrrp.CauseNoAddress: vrrp.CauseAddressBack, vrrp.CauseFault: vrrp.CauseRecovered,
		vrrp.CauseGroup: vrrp.CauseRecovered, vrrp.CauseMaintenance: vrrp.CauseMaintained, vrrp.CauseCannotSend: vrrp.CauseCannotSend,
	} {
		if got := resumeCause(&logged{obstacle: plan.Obstacle{Cause: was}}); got != want {
			t.Errorf("after %s: %s", was, got)
		}
	}
}

// Differences from what the configuration suggests are logged when a router gets its MAC mode.
func TestKeeperWarns(t *testing.T) {
	r := newRig(t)
	r.must(r.node.Netlink().LinkAdd(&netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "mv0", ParentIndex: r.index("eth0")}, Mode: netlink.MACVLAN_MODE_BRIDGE}))
	r.must(r.node.SetUp("mv0"))
	r.must(r.node.AddAddress("mv0", "198.19.0.1/24"))
	r.before = r.host()
	r.start(`{interface: mv0, vrid: 51, interval: 50ms, addresses: [198.19.0.10/32]}`)
	r.active(router.ID{Interface: "mv0", Family: packet.IPv4, VRID: 51})
	r.logs("no virtual MAC, using the MAC of the interface")
	r.logs("code=" + plan.HostPrefix)
}
