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

// The routers of most tests: an Active one that takes over fast, and a Backup that hears
// nobody for longer than any test takes.
const (
	web   = `{name: web, interface: eth0, vrid: 51, interval: 50ms, addresses: [198.18.0.10/24]}`
	spare = `{name: spare, interface: eth0, vrid: 52, interval: 40s, addresses: [198.18.0.20/24]}`
)

func TestKeeper(t *testing.T) {
	r := newRig(t).start(web + "\n" + spare)
	r.active(v4(51))
	r.backup(v4(52))
	r.has("eth0", "198.18.0.10/24")
	r.told("its addresses are at the virtual MAC 00:00:5e:00:01:33, by TC programs")
	if !r.ours(r.index("eth0"), netip.MustParseAddr("198.18.0.10")) || r.ours(r.index("eth0"), netip.MustParseAddr("198.18.0.1")) {
		t.Error("the keeper doesn't know its addresses")
	}
	if got := r.answered(v4(51)); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("198.18.0.10")}) {
		t.Error("answers for ", got)
	}
	if v := r.all()[v4(51)]; !v.running || v.mac != config.VirtualMACBPF || v.device != v.ifindex || v.fence == "" || v.receive == "" {
		t.Errorf("%+v", v)
	}
}

func (r *rig) index(name string) int {
	l, err := r.node.Netlink().LinkByName(name)
	r.must(err)
	return l.Attrs().Index
}

// A macvlan has the addresses, and the interface the settings that it needs, which are
// the old ones afterwards.
func TestKeeperMacvlan(t *testing.T) {
	r := newRig(t).start(`{interface: eth0, vrid: 51, interval: 50ms, virtual_mac: macvlan, addresses: [198.18.0.10/24, "2001:db8::10/64"]}`)
	r.active(v4(51), v6(51))
	names := r.macvlans()
	if len(names) != 2 {
		t.Fatal(names)
	}
	r.told("on the macvlan " + names[0])
	if v := r.all()[v4(51)]; !slices.Contains(names, v.macvlan) || v.device == v.ifindex {
		t.Errorf("%+v", v)
	}
	r.has(r.all()[v4(51)].macvlan, "198.18.0.10/24")

	l, err := r.node.Netlink().LinkByName(r.all()[v4(51)].macvlan)
	r.must(err)
	r.must(r.node.Netlink().LinkDel(l))
	r.told("was removed by somebody else")
	r.active(v4(51))
	r.has(r.all()[v4(51)].macvlan, "198.18.0.10/24")

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

// A macvlan goes with its interface, is made anew with the next one, and an interface that
// is called something else at the end gets its settings back.
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
	r.has(r.all()[v4(51)].macvlan, "198.18.0.10/24")
	r.reload(`{interface: eth0, vrid: 51, interval: 50ms, virtual_mac: macvlan, addresses: [198.18.0.20/24]}
	{interface: eth0, vrid: 52, interval: 50ms, virtual_mac: macvlan, addresses: [198.18.0.10/24]}`)
	r.active(v4(51), v4(52))
	r.has(r.all()[v4(51)].macvlan, "198.18.0.20/24")
	r.has(r.all()[v4(52)].macvlan, "198.18.0.10/24")
	r.must(r.node.Rename("eth0", "lan0"))
	r.until("it is the same under another name", func() bool { return r.causes.has(vrrp.CauseInterfaceRenamed) })
	r.active(v4(51), v4(52))
	before := r.before
	r.before = "" // under another name, and with another MAC
	r.finish()
	r.must(r.node.Rename("lan0", "eth0"))
	for _, line := range newLines(before, r.host()) {
		if !strings.HasPrefix(line, "interface eth0") {
			t.Error("stays: ", line)
		}
	}
}

// A stop while routers begin to take part leaves nothing either.
func TestKeeperStopsAtOnce(t *testing.T) {
	for range 3 {
		r := newRig(t).start(`{interface: eth0, vrid: 51, interval: 10ms, virtual_mac: macvlan, addresses: [198.18.0.10/24, "2001:db8::10/64"]}
		{interface: eth0, vrid: 52, interval: 10ms, addresses: [198.18.0.20/24], routes: [{to: 203.0.113.0/24, via: 198.18.0.99}]}`)
		<-r.begun
		r.finish()
	}
}

// Settings that somebody resets are made again.
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
	if v := r.all()[v4(51)]; v.mac != config.VirtualMACOff || len(v.peers) != 1 {
		t.Errorf("%+v", v)
	}
	second := `{interface: eth0, vrid: 53, interval: 50ms, unicast: {peers: [198.18.0.3]}, addresses: [198.18.0.30/24]}`
	r.reload(to + "\n" + second)
	r.active(v4(51), v4(53))
	r.reload(second) // the socket stays, for it
	r.active(v4(53))
	r.lacks("eth0", "198.18.0.10/24")
	r.reload(strings.Replace(second, "unicast: {peers: [198.18.0.3]}, ", "", 1))
	r.active(v4(53))
	if v := r.all()[v4(53)]; v.mac != config.VirtualMACBPF || len(v.peers) != 0 {
		t.Errorf("%+v", v)
	}
}

// Extra addresses, routes and rules come and go with the addresses.
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
		t.Error("the address on eth1 is taken for somebody's")
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

// An interface that goes away is waited for.
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
	r.before = "" // it has another MAC
}

// A renamed interface is the same: its routers go on, and give the addresses back.
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
	r.before = "" // setting it down has changed the addresses of IPv6
}

// With an MTU that is too small a router waits; that IPv6 isn't possible for a moment ends
// memberships, which are begun again.
func TestKeeperMTU(t *testing.T) {
	r := newRig(t).start(`{interface: eth0, vrid: 51, interval: 50ms, families_together: false, addresses: [198.18.0.10/24, "2001:db8::10/64"]}`)
	r.active(v4(51), v6(51))
	l, err := r.node.Netlink().LinkByName("eth0")
	r.must(err)
	r.must(r.node.Netlink().LinkSetMTU(l, 600)) // the kernel ends IPv6 with less than 1280
	r.waiting(v6(51), "no IPv6 link-local address")
	r.active(v4(51))
	r.must(r.node.Netlink().LinkSetMTU(l, 1500))
	r.must(r.node.AddAddress("eth0", "fe80::1/64"))
	r.active(v4(51), v6(51))
	r.told("was no member of ff02::12 any more")
}

// What a stranger does to addresses is undone.
func TestKeeperStrangers(t *testing.T) {
	r := newRig(t).start(web + "\n" + spare)
	r.active(v4(51))
	r.backup(v4(52))
	r.must(r.node.RemoveAddress("eth0", "198.18.0.10/24"))
	r.has("eth0", "198.18.0.10/24")
	r.told("address 198.18.0.10/24 on eth0 was removed by somebody else")
	if r.hands.takings.guardian.Count(v4(51)) == 0 {
		t.Error("it isn't counted")
	}
	r.must(r.node.AddAddress("eth0", "198.18.0.20/24"))
	r.told("this router is Backup, and address 198.18.0.20/24 is on its interface: removing it")
	r.lacks("eth0", "198.18.0.20/24")
	r.backup(v4(52))
}

// What somebody deletes from the kernel's maps is put back.
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
		t.Fatal("nothing was deleted")
	}
	r.until("it is there again", func() bool { return r.dp.Missing(k) == nil })
	r.told("was removed by somebody else, putting it back")
}

// A journal that is removed is written again.
func TestKeeperJournalRemoved(t *testing.T) {
	r := newRig(t).start(web)
	r.active(v4(51))
	for _, name := range r.journals() {
		r.must(os.Remove(name))
	}
	r.told("somebody has removed the journal")
	r.until("it is there again", func() bool { return len(r.journals()) > 0 })
}

func (r *rig) journals() (all []string) {
	entries, err := os.ReadDir(r.dir)
	r.must(err)
	for _, e := range entries {
		all = append(all, r.dir+"/"+e.Name())
	}
	return all
}

// Where there is no room for the journal, a router takes part behind the fence, and says
// what would be if the daemon were killed. Without the fence it waits.
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
	r.until("the problem is told", func() bool {
		return slices.ContainsFunc(r.problems.ByRouter()[v4(51)], func(p control.Problem) bool { return p.Kind == control.Journal })
	})
	r.must(r.node.Do(func() error { return errors.Join(os.Remove(r.dir+"/filler"), os.Remove(r.dir+"/filler2")) }))
	r.finish()
}

// A Virtual Router that another process runs waits for it.
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
	r.until("the problem is told", func() bool {
		return slices.ContainsFunc(r.problems.ByRouter()[v4(51)], func(p control.Problem) bool { return p.Kind == control.Stuck })
	})
	r.must(other.Close())
	r.active(v4(51))
}

// An address moves from one router to another in one reload, and two are swapped: each
// belongs to one router at every moment.
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
			r.until("the fence knows whose it is", func() bool {
				now, known := r.dp.Router(keyOf(id, r.index("eth0")))
				return known && slices.Equal(now.Addresses, want)
			})
		}
	}
	r.reload("")
	r.lacks("eth0", "198.18.0.10/24", "198.18.0.11/24", "198.18.0.20/24")
	r.until("nothing is known of them", func() bool { return len(r.all()) == 0 && len(r.dp.Routers()) == 0 })
}

// Changes that can't be made in place restart a router, others don't.
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
	r.told("priority 150 instead of 100")
	if r.active(v4(51)); entered() != since {
		t.Error("another priority has restarted the router")
	}
	r.reload(strings.Replace(web, "50ms", "1s", 1) + "\n" + spare)
	if r.active(v4(51)); entered() != since {
		t.Error("another interval has restarted the router")
	}
	r.reload(strings.Replace(strings.Replace(web, "{", "{version: 2, ", 1), "50ms", "1s", 1))
	r.until("it was restarted", func() bool { return entered() != since })
	r.active(v4(51))
	r.reload(`{name: web, interface: eth0, vrid: 51, interval: 50ms, xdp_mode: generic, addresses: [198.18.0.10/24]}`)
	r.active(v4(51))
	r.until("the port has the other mode", func() bool { return strings.Contains(r.all()[v4(51)].receive, "generic") })
}

// What is known of the surroundings of a router is heeded.
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
		if v := r.all()[v4(51)]; v.brief != (cause == vrrp.CauseWaiting) || v.maintenance != (cause == vrrp.CauseMaintenance) || v.since == 0 {
			t.Errorf("%+v", v)
		}
		r.conditions.SetFault("web", "check", vrrp.CauseNone, "")
		r.active(v4(51))
	}
	r.conditions.SetWeight("web", "check", -50)
	r.told("priority 50 instead of 100")
	r.settle()
}

// An owner's addresses are the host's, and stay.
func TestKeeperOwner(t *testing.T) {
	r := newRig(t)
	r.must(r.node.AddAddress("eth0", "198.18.0.10/24"))
	r.before = r.host()
	r.start(`{name: web, interface: eth0, vrid: 51, priority: 255, interval: 50ms, accept: false, addresses: [198.18.0.10/24], authentication: {type: hmac, keys: [{id: 1, file: ` + keyFile(t, 32) + `}], send: 1}}`)
	r.active(v4(51))
	if v := r.all()[v4(51)]; v.guard == nil {
		t.Errorf("%+v", v)
	}
}

// Without anybody to wait, what can't be used ends the daemon.
func TestKeeperRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		routers string
		prepare func(*rig)
		text    string
	}{
		"a stranger has the address": {web, func(r *rig) { r.must(r.node.AddAddress("eth0", "198.18.0.10/24")) }, "198.18.0.10 is on eth0 already"},
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
		r.must(r.port.Pull()) // that is no reason to end, later
		r.waiting(v4(51), "no carrier")
	})
}

// A reload that waits is answered when the daemon ends.
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

// Why a router begins to take part follows from what kept it from that.
func TestComeback(t *testing.T) {
	if got := comeback(nil); got != vrrp.CauseStarting {
		t.Error("a new one: ", got)
	}
	for was, want := range map[vrrp.Cause]vrrp.Cause{
		vrrp.CauseNone: vrrp.CauseStarting, vrrp.CauseWaiting: vrrp.CauseStarting, vrrp.CauseInterfaceDown: vrrp.CauseInterfaceUp,
		vrrp.CauseInterfaceRemoved: vrrp.CauseInterfaceBack, vrrp.CauseNoAddress: vrrp.CauseAddressBack, vrrp.CauseFault: vrrp.CauseRecovered,
		vrrp.CauseGroup: vrrp.CauseRecovered, vrrp.CauseMaintenance: vrrp.CauseMaintained, vrrp.CauseCannotSend: vrrp.CauseCannotSend,
	} {
		if got := comeback(&remembered{waiting: plan.Obstacle{Cause: was}}); got != want {
			t.Errorf("after %s: %s", was, got)
		}
	}
}

// What isn't as the configuration would have it is said when a router gets its way.
func TestKeeperWarns(t *testing.T) {
	r := newRig(t)
	r.must(r.node.Netlink().LinkAdd(&netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "mv0", ParentIndex: r.index("eth0")}, Mode: netlink.MACVLAN_MODE_BRIDGE}))
	r.must(r.node.SetUp("mv0"))
	r.must(r.node.AddAddress("mv0", "198.19.0.1/24"))
	r.before = r.host()
	r.start(`{interface: mv0, vrid: 51, interval: 50ms, addresses: [198.19.0.10/32]}`)
	r.active(router.ID{Interface: "mv0", Family: packet.IPv4, VRID: 51})
	r.told("no virtual MAC, its addresses are at the interface's own")
	r.told("code=" + plan.HostPrefix)
}
