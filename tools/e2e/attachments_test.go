// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/tools/lab"
)

// detach removes the programs from a node's interface, as bpftool link detach does.
func (s *site) detach(n *lab.Node, names ...string) {
	s.t.Helper()
	s.ok(n.Do(func() error {
		for _, name := range names {
			l, err := link.LoadPinnedLink("/sys/fs/bpf/failoverd/links/eth0/"+name, nil)
			if err != nil {
				return err
			}
			if err := errors.Join(l.Detach(), l.Close()); err != nil {
				return err
			}
		}
		return nil
	}))
}

// again waits until the log, beginning with the given line, says that the programs are attached
// again.
func (s *site) again(f *lab.Failoverd, from int) {
	s.t.Helper()
	_, err := f.WaitLine(s.ctx, from, func(l string) bool { return strings.Contains(l, "attached again") })
	s.ok(err)
}

const pairOfRouters = "routers:\n  - {name: web, interface: eth0, vrid: 51, interval: 100ms, priority: %d, addresses: [198.18.0.10/24]}\n"

// activeAndBackup starts an Active on a and a Backup on b.
func (s *site) activeAndBackup() (a, b *configured) {
	a = s.withFile(s.a, fmt.Sprintf(pairOfRouters, 200))
	a.router("web", "ipv4", inState("Active"))
	b = s.withFile(s.b, fmt.Sprintf(pairOfRouters, 100))
	b.router("web", "ipv4", inState("Backup"))
	return a, b
}

// If another program detaches failoverd's programs or attaches one in front of them, a Backup
// stays Backup and an Active becomes reachable again. Both log it.
func TestProgramsDetached(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.activeAndBackup()
	line := len(b.Lines())
	s.detach(s.b, "ingress", "egress")
	s.again(b.Failoverd, line)
	b.problem("ipv4", control.Detached, "")
	b.without("ipv4", control.Detached)

	// TC_ACT_OK ends the chain.
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "cil_from_netdev", Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	s.ok(err)
	t.Cleanup(func() { _ = p.Close() })
	var stranger link.Link
	line = len(b.Lines())
	s.ok(s.b.Do(func() (err error) {
		device, err := s.b.Netlink().LinkByName(ifname)
		if err == nil {
			stranger, err = link.AttachTCX(link.TCXOptions{Interface: device.Attrs().Index, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
		}
		return err
	}))
	t.Cleanup(func() { _ = stranger.Close() })
	s.again(b.Failoverd, line)
	if p := b.problem("ipv4", control.ProgramInFront, ""); !strings.Contains(p.Text, "cil_from_netdev") {
		t.Errorf("problem %+v", p)
	}
	b.router("web", "ipv4", inState("Backup"))
	if all := b.Transitions(); slices.ContainsFunc(all, func(c lab.Transition) bool { return c.To == "Active" }) {
		t.Errorf("the Backup changed its state: %+v", all)
	}

	line = len(a.Lines())
	s.detach(s.a, "ingress", "egress")
	s.again(a.Failoverd, line)
	s.answeredBy("198.18.0.10", s.a)
	ping, err := s.c.Ping(netip.MustParseAddr("198.18.0.10"), 10*time.Millisecond)
	s.ok(err)
	if _, err := ping.WaitReply(s.ctx, time.Now()); err != nil {
		t.Errorf("no router answers after the programs were attached again: %v", err)
	}
	s.ok(ping.Close())
	s.stop(s.a, a.Failoverd)
	s.ok(stranger.Close())
	s.stop(s.b, b.Failoverd)
}

// An Active whose programs can't be attached again steps down and says why. It takes part again by
// the remaining way to receive, XDP.
func TestProgramsLost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.activeAndBackup()
	_, _, err := a.WaitState(s.ctx, 0, "ipv4", "Active") // in the log too
	s.ok(err)
	line, changes := len(a.Lines()), len(a.Transitions())
	s.crowd(s.a)
	for s.detach(s.a, "ingress"); s.crowd(s.a) == 0; s.detach(s.a, "ingress") {
		t.Log("it was faster")
	}
	_, _, err = a.WaitState(s.ctx, line, "ipv4", "Active")
	s.ok(err)
	if down := a.Transitions()[changes]; down.To != "Initialize" || !strings.Contains(down.Cause, "can't be attached again") {
		t.Errorf("it did not step down first: %+v", down)
	}
	s.answeredBy("198.18.0.10", s.a)
	s.stop(s.b, b.Failoverd)
	s.stop(s.a, a.Failoverd)
}

// crowd attaches programs that pass everything to the interface of a host until the kernel refuses
// one, and returns their number.
func (s *site) crowd(n *lab.Node) (attached int) {
	s.t.Helper()
	var err error
	for ; err == nil; attached++ {
		err = n.Do(func() error {
			p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "pass", Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}})
			if err != nil {
				return err
			}
			s.t.Cleanup(func() { _ = p.Close() })
			device, err := n.Netlink().LinkByName(ifname)
			if err != nil {
				return err
			}
			l, err := link.AttachTCX(link.TCXOptions{Interface: device.Attrs().Index, Program: p, Attach: ebpf.AttachTCXIngress})
			if err == nil {
				s.t.Cleanup(func() { _ = l.Close() })
			}
			return err
		})
	}
	if !errors.Is(err, unix.ERANGE) {
		s.t.Fatal(err)
	}
	return attached - 1
}

// A host with two interfaces in the network doesn't answer at the second one, neither beside an
// Active nor beside a Backup that took over from a killed Active. Its second interface isn't taken
// for another host.
func TestSecondInterface(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, err := s.lan.Connect(s.a, "eth1", "198.18.0.3/24")
	s.ok(err)
	second, err := s.a.MAC("eth1")
	s.ok(err)
	a, b := s.activeAndBackup()
	silent := func(what string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; {
			got, err := s.c.WhoHas(ifname, netip.MustParseAddr("198.18.0.10"), 500*time.Millisecond)
			s.ok(err)
			if !slices.Contains(got, second) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: the MACs %v answer, of which %s is eth1's", what, got, second)
			}
		}
	}
	silent("Active") // from its first check on
	s.ok(a.Signal(syscall.SIGKILL))
	b.router("web", "ipv4", inState("Active"))
	s.answeredBy("198.18.0.10", s.b)
	silent("killed")
	for _, p := range b.router("web", "ipv4", inState("Active")).Problems {
		if p.Kind == control.AddressConflict {
			t.Errorf("problem %+v", p)
		}
	}
}

// An owner that was killed still answers until another router is Active for its address, and
// answers again after that router has left.
func TestFenceOwnerKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ok(s.a.AddAddress(ifname, "198.18.0.10/24"))
	a := s.withFile(s.a, fmt.Sprintf(pairOfRouters, 255))
	a.router("web", "ipv4", inState("Active"))
	b := s.withFile(s.b, fmt.Sprintf(pairOfRouters, 100))
	b.router("web", "ipv4", inState("Backup"))
	s.ok(a.Signal(syscall.SIGKILL))
	b.router("web", "ipv4", inState("Active"))
	s.answeredBy("198.18.0.10", s.b)
	s.stop(s.b, b.Failoverd)
	s.answeredBy("198.18.0.10", s.a)
}

// A router waits and says why if the kernel's maps have no room for it, instead of running without
// hearing. It takes part as soon as there is room.
func TestRouterThatDoesNotFit(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one := "routers:\n  - {name: web, interface: eth0, vrid: 51, interval: 100ms, addresses: [198.18.0.10/24]}\n"
	a := s.withFile(s.a, one)
	a.router("web", "ipv4", inState("Active"))
	var addresses *ebpf.Map
	s.ok(s.a.Do(func() (err error) {
		addresses, err = ebpf.LoadPinnedMap("/sys/fs/bpf/failoverd/maps/failover_address", nil)
		return err
	}))
	t.Cleanup(func() { _ = addresses.Close() })
	var filled [][]byte
	key, value := make([]byte, addresses.KeySize()), make([]byte, addresses.ValueSize())
	for n := uint32(1 << 31); ; n++ {
		binary.NativeEndian.PutUint32(key, n)
		if addresses.Put(key, value) != nil {
			break
		}
		filled = append(filled, slices.Clone(key))
	}
	a.write(one + "  - {name: db, interface: eth0, vrid: 52, interval: 100ms, addresses: [198.18.0.20/24]}\n")
	a.reload()
	waits := a.router("db", "ipv4", func(r control.Router) bool { return r.Waiting != "" })
	if !strings.Contains(waits.Waiting, "65536 virtual addresses") || waits.State != "Initialize" {
		t.Errorf("waiting for %q in the state %s", waits.Waiting, waits.State)
	}
	a.router("web", "ipv4", inState("Active"))
	for _, key := range filled {
		s.ok(addresses.Delete(key))
	}
	a.router("db", "ipv4", inState("Active"))
	s.answeredBy("198.18.0.20", s.a)
	s.stop(s.a, a.Failoverd)
}

// An interface that is removed, and a new one that gets its index at once, are two different
// interfaces: the router stops and takes part again on the new one, where it hears.
func TestInterfaceIndexIsReused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ok(lab.Cable(s.a, s.b, "eth1", []string{"198.19.0.1/24"}, []string{"198.19.0.2/24"}))
	config := "routers:\n  - {name: web, interface: eth1, vrid: 51, interval: 100ms, priority: %d, addresses: [198.19.0.10/24]}\n"
	a := s.withFile(s.a, fmt.Sprintf(config, 200))
	a.router("web", "ipv4", inState("Active"))
	b := s.withFile(s.b, fmt.Sprintf(config, 100))
	b.router("web", "ipv4", inState("Backup"))
	index := func(n *lab.Node) int {
		device, err := n.Netlink().LinkByName("eth1")
		s.ok(err)
		return device.Attrs().Index
	}
	before, line := index(s.b), len(b.Lines())
	_, err := s.b.Run(s.ctx, "sh", "-c", fmt.Sprintf(`printf 'link del eth1\nlink add eth1 index %d type veth peer name far\naddr add 198.19.0.2/24 dev eth1\nlink set eth1 up\n' | ip -batch -`, before))
	s.ok(err)
	if now := index(s.b); now != before {
		t.Fatalf("the index of the interface is %d, want %d", now, before)
	}
	// The other end belongs to the other host.
	var namespace *os.File
	s.ok(s.a.Do(func() (err error) { namespace, err = os.Open("/proc/thread-self/ns/net"); return err }))
	defer func() { _ = namespace.Close() }()
	far, err := s.b.Netlink().LinkByName("far")
	s.ok(err)
	s.ok(s.b.Netlink().LinkSetNsFd(far, int(namespace.Fd())))
	far, err = s.a.Netlink().LinkByName("far")
	s.ok(err)
	s.ok(s.a.Netlink().LinkSetName(far, "eth1"))
	s.ok(s.a.AddAddress("eth1", "198.19.0.1/24"))
	s.ok(s.a.SetUp("eth1"))
	s.waitState(b.Failoverd, line, "ipv4", "Initialize")
	for _, c := range []struct {
		*configured
		state string
	}{{a, "Active"}, {b, "Backup"}} {
		c.router("web", "ipv4", func(r control.Router) bool {
			return r.State == c.state && (c.state == "Active" || r.Active == "198.19.0.1")
		})
	}
	s.stop(s.a, a.Failoverd)
	s.stop(s.b, b.Failoverd)
}
