// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/reconcile"
	"github.com/failoverd/failoverd/pkg/router"
)

// newExecutors makes the executors on a host where nothing else runs, and calls f in the host's
// namespaces.
func newExecutors(t *testing.T, f func(*rig, *executors)) {
	t.Helper()
	r := newRig(t)
	r.make()
	r.must(r.node.Do(func() error {
		f(r, r.executors)
		return nil
	}))
}

// picture returns what the executors see.
func (h *executors) picture(t *testing.T) *plan.Picture {
	t.Helper()
	p := &plan.Picture{
		Ports: make(map[string]plan.OpenPort), Installed: make(map[plan.ID]*plan.Installed), Journal: make(map[plan.Note]bool), Held: make(map[plan.Note]bool),
		MissingSettings: make(map[string][]link.Setting), AppliedSettings: make(map[link.Setting]bool),
	}
	for _, e := range []reconcile.Executor{h.notes, h.interfaces, h.claims, h.sockets, h.entries, h.settings} {
		if err := e.Look(&plan.Target{MacvlanParents: map[string]bool{"eth0": true, "eth9": true}}, p); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// fails makes an executor do one step, and checks its error; an empty text means no error.
func fails(t *testing.T, e reconcile.Executor, s *reconcile.Step, text string) {
	t.Helper()
	errs := e.Do([]*reconcile.Step{s})
	if len(errs) != 1 || (errs[0] == nil) != (text == "") || errs[0] != nil && !strings.Contains(errs[0].Error(), text) {
		t.Errorf("%s: %v instead of %q", s, errs, text)
	}
}

// openPort opens a port on eth0.
func openPort(t *testing.T, r *rig, mode string) {
	t.Helper()
	r.executors.interfaces.stale = true
	r.executors.picture(t)
	fails(t, r.executors.sockets, &reconcile.Step{Verb: reconcile.Open, PortName: "eth0", Port: plan.Port{Ifindex: r.index("eth0"), Name: "eth0", Mode: mode}}, "")
}

func TestSockets(t *testing.T) {
	newExecutors(t, func(r *rig, h *executors) {
		s := h.sockets
		fails(t, s, &reconcile.Step{Verb: reconcile.Open, PortName: "eth0", Port: plan.Port{Ifindex: 99, Name: "eth0"}}, "interface eth0 is gone")
		openPort(t, r, "off")
		fails(t, s, &reconcile.Step{Verb: reconcile.Open, PortName: "other", Port: plan.Port{Ifindex: r.index("eth0"), Name: "eth0", Mode: "off"}}, "attach the receiving programs: interface eth0 is attached already")
		if p := h.picture(t); len(p.Ports) != 1 || p.Ports["eth0"].Ifindex != r.index("eth0") || len(p.MissingSettings["eth0"]) == 0 {
			t.Errorf("%+v", p)
		}
		toPeers, group := plan.Subscription{Ifindex: r.index("eth0"), Unicast: true}, plan.Subscription{Ifindex: r.index("eth0")}
		hear := func(id router.ID, how plan.Subscription, verb reconcile.Verb) {
			fails(t, s, &reconcile.Step{Verb: verb, ID: id, PortName: "eth0", Subscription: how}, "")
		}
		hear(v4(51), toPeers, reconcile.Subscribe)
		hear(v4(52), toPeers, reconcile.Subscribe)
		hear(v6(51), toPeers, reconcile.Subscribe)
		hear(v6(52), group, reconcile.Subscribe)
		if got := h.picture(t).Installed[v4(52)]; got == nil || got.Subscription != toPeers {
			t.Errorf("%+v", got)
		}
		open := s.open["eth0"]
		hear(v4(51), toPeers, reconcile.Unsubscribe)
		if open.unicast[packet.IPv4] == nil {
			t.Error("the socket is closed although another router needs it")
		}
		hear(v4(52), toPeers, reconcile.Unsubscribe)
		if open.unicast[packet.IPv4] != nil || open.unicast[packet.IPv6] == nil {
			t.Error("only the IPv4 socket should be closed with its last router")
		}
		hear(v4(52), toPeers, reconcile.Unsubscribe) // again
		hear(v6(52), group, reconcile.Unsubscribe)
		if members := h.picture(t).Installed; members[v6(52)] != nil && members[v6(52)].Subscription.Ifindex != 0 {
			t.Errorf("%+v", members)
		}
		accept := &reconcile.Step{Verb: reconcile.Accept, ID: v4(51), PortName: "eth0", Ifindex: r.index("eth0")}
		fails(t, s, accept, "")
		if h.picture(t).Installed[v4(51)].Filter != r.index("eth0") {
			t.Error("the picture lacks the filter")
		}
		accept.Verb = reconcile.Reject
		fails(t, s, accept, "")

		// A port whose interface is gone is closed like any other.
		r.must(r.port.Disconnect())
		h.interfaces.stale = true
		h.picture(t)
		fails(t, s, &reconcile.Step{Verb: reconcile.Close, PortName: "eth0"}, "")
		hear(v6(51), toPeers, reconcile.Unsubscribe)
		if p := h.picture(t); len(p.Ports) != 0 || len(h.sockets.subscriptions) != 0 || len(h.sockets.filters) != 0 {
			t.Errorf("%+v", p)
		}
	})
}

// If a group can't be joined, the error names it.
func TestSocketsWithoutIPv6(t *testing.T) {
	newExecutors(t, func(r *rig, h *executors) {
		openPort(t, r, "auto")
		r.must(os.WriteFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", []byte("1"), 0))
		hear := &reconcile.Step{Verb: reconcile.Subscribe, ID: v6(51), PortName: "eth0", Subscription: plan.Subscription{Ifindex: r.index("eth0")}}
		errs := h.sockets.Do([]*reconcile.Step{hear})
		if errs[0] != nil && !strings.Contains(errs[0].Error(), "join the IPv6 group") {
			t.Error(errs[0])
		}
		r.must(h.sockets.rejoin()) // without IPv6 it can't succeed, which is no error
	})
}

func TestInterfaces(t *testing.T) {
	newExecutors(t, func(r *rig, h *executors) {
		h.interfaces.stale = true
		h.picture(t)
		fails(t, h.interfaces, &reconcile.Step{Verb: reconcile.Make, PortName: "eth9", Device: link.NewDevice(99, packet.IPv4, 51)}, "vrrp4-99-51")
		fails(t, h.interfaces, &reconcile.Step{Verb: reconcile.Unmake, Ifindex: 99, Device: link.NewDevice(99, packet.IPv4, 51)}, "")
		r.must(r.node.AddAddress("eth0", "198.18.0.10/24"))
		fails(t, h.interfaces, &reconcile.Step{Verb: reconcile.Withdraw, Ifindex: r.index("eth0"), Prefix: netip.MustParsePrefix("198.18.0.10/24")}, "")
		if p := h.picture(t); slices.ContainsFunc(p.Interfaces, func(i link.Interface) bool { return i.Index == r.index("eth0") && len(i.Addresses) != 2 }) {
			t.Errorf("%+v", p.Interfaces)
		}
		// The monitor doesn't run, so its list is older than the executor's.
		for range 2 {
			if p := h.picture(t); p.ListedSince != h.interfaces.listedSince || slices.ContainsFunc(p.Interfaces, func(i link.Interface) bool { return len(i.Addresses) == 3 }) {
				t.Errorf("%+v", p)
			}
		}
	})
}

func TestSettings(t *testing.T) {
	newExecutors(t, func(r *rig, h *executors) {
		h.interfaces.stale = true
		h.picture(t)
		gone := link.Setting{Ifindex: 99, Path: "ipv4/conf/eth9/arp_announce", Value: 2}
		for _, verb := range []reconcile.Verb{reconcile.Set, reconcile.Unset} {
			fails(t, h.settings, &reconcile.Step{Verb: verb, Setting: gone}, "")
		}
		here := link.Setting{Ifindex: r.index("eth0"), Path: "ipv4/conf/eth0/arp_announce", Value: 2}
		h.notes.all[gone], h.notes.all[here] = true, true
		if !h.settings.drifted(h.notes.all) {
			t.Error("the missing setting isn't noticed")
		}
		fails(t, h.settings, &reconcile.Step{Verb: reconcile.Set, Setting: here}, "")
		if h.settings.drifted(h.notes.all) {
			t.Error("a setting in place is reported as changed")
		}
		if p := h.picture(t); !p.AppliedSettings[here] || p.AppliedSettings[gone] {
			t.Errorf("%+v", p.AppliedSettings)
		}
		r.must(r.node.Rename("eth0", "lan0"))
		if p := h.picture(t); !p.AppliedSettings[here] {
			t.Error("the setting is lost after a rename that the list doesn't have yet")
		}
		r.must(r.node.Rename("lan0", "eth0"))
		fails(t, h.settings, &reconcile.Step{Verb: reconcile.Unset, Setting: here}, "")
		if h.picture(t).AppliedSettings[here] {
			t.Error("the setting is still in place")
		}
		fails(t, h.settings, &reconcile.Step{Verb: reconcile.Set, Setting: link.Setting{Path: "ipv4/conf/eth0/nothing"}}, "nothing")
	})
}

// If there is no room for the journal, a router without a fence must not take part, and one
// behind a fence may.
func TestNotes(t *testing.T) {
	newExecutors(t, func(r *rig, h *executors) {
		openPort(t, r, "off")
		note := link.JournalAddress{Ifindex: r.index("eth0"), Name: "eth0", Prefix: netip.MustParsePrefix("198.18.0.10/24")}
		write := &reconcile.Step{Verb: reconcile.Write, ID: v4(51), Notes: []plan.Note{note}}
		fails(t, h.notes, write, "")
		fails(t, h.notes, &reconcile.Step{Verb: reconcile.Erase, Notes: []plan.Note{note}}, "")
		if len(h.notes.all) != 0 {
			t.Error(h.notes.all)
		}
		for _, name := range r.journals() {
			r.must(os.Remove(name))
		}
		_, err := h.notes.journal.Retry()
		r.must(err)
		r.must(h.notes.journal.Remove())
		r.must(os.MkdirAll(r.dir, 0o700))
		r.must(unix.Mount("tmpfs", r.dir, "tmpfs", 0, "size=8k,mode=700"))
		r.must(os.WriteFile(r.dir+"/filler", make([]byte, 8192), 0o600))
		if h.notes.journal, err = link.OpenJournal(r.dir); err != nil {
			t.Fatal(err)
		}
		fails(t, h.notes, write, "")
		h.sockets.open["eth0"].path.Unfenced = errors.New("no TC")
		delete(h.notes.all, note)
		fails(t, h.notes, write, "write the journal: ")
		fails(t, h.notes, &reconcile.Step{Verb: reconcile.Write, PortName: "eth0", Notes: []plan.Note{note}}, "write the journal: ")
		if len(h.notes.all) != 0 {
			t.Error("what isn't written down is noted: ", h.notes.all)
		}
		fails(t, h.notes, &reconcile.Step{Verb: reconcile.Erase, Notes: []plan.Note{note}}, "") // a failed erase only leaves notes behind
		r.must(h.notes.journal.Remove())
		r.must(unix.Unmount(r.dir, 0))
	})
}

func TestEntries(t *testing.T) {
	newExecutors(t, func(r *rig, h *executors) {
		openPort(t, r, "auto")
		v := plan.New(parseRouters(t, `{interface: eth0, vrid: 51, addresses: [198.18.0.10/24]}`), nil).VirtualRouters[0]
		entry := &plan.Entry{V: v, Ifindex: r.index("eth0"), Source: netip.MustParseAddr("198.18.0.1"), Priority: 100, MACMode: config.VirtualMACBPF, Addresses: v.Fenced}
		fails(t, h.entries, &reconcile.Step{Verb: reconcile.Fence, ID: v.ID, Entry: entry}, "")
		if h.picture(t).Installed[v.ID].Entry != entry {
			t.Error("the entry isn't known")
		}
		fails(t, h.entries, &reconcile.Step{Verb: reconcile.Unfence, ID: v.ID, Entry: entry}, "")
		if len(h.picture(t).Installed) != 0 || len(r.dp.Routers()) != 0 {
			t.Error("the entry is known still")
		}
		r.must(h.entries.restoreDeleted(func(plan.ID, string) { t.Error("something of nothing is put back") }))
	})
}

// All claims of a plan are made before anything else. If two daemons start, the second one fails
// and says why.
func TestClaims(t *testing.T) {
	newExecutors(t, func(r *rig, h *executors) {
		p := plan.New(parseRouters(t, web+"\n"+spare+"\n"+`{interface: eth9, vrid: 53, addresses: [198.18.0.30/24]}`), nil)
		snapshot := r.monitor.Snapshot()
		r.must(h.claims.holdAll(p, snapshot))
		if len(h.claims.held) != 2 || h.picture(t).Installed[v4(52)].Claim != r.index("eth0") {
			t.Error(h.claims.held)
		}
		other := &claims{held: make(map[plan.ID]claim)}
		if err := other.holdAll(p, snapshot); err == nil || !strings.Contains(err.Error(), "another failoverd already runs VRID 51 on eth0: stop it first") {
			t.Error(err)
		}
		fails(t, other, &reconcile.Step{Verb: reconcile.Claim, ID: v4(52), Ifindex: r.index("eth0")}, "VRID 52")
		fails(t, h.claims, &reconcile.Step{Verb: reconcile.Unclaim, ID: v4(52)}, "")
		fails(t, other, &reconcile.Step{Verb: reconcile.Claim, ID: v4(52), Ifindex: r.index("eth0")}, "")
		h.claims.close()
		r.must(other.holdAll(plan.New(parseRouters(t, web), nil), snapshot))
		other.close()
		if len(other.held)+len(h.claims.held) != 0 {
			t.Error("some claims are left")
		}
	})
}

// After the event loop has ended, each step returns router.ErrStopped, by which the keeper knows.
func TestLoopRoutersAfterTheEnd(t *testing.T) {
	newExecutors(t, func(r *rig, h *executors) {
		openPort(t, r, "off")
		ended, end := context.WithCancel(context.Background())
		end()
		r.must(r.loop.Run(ended))
		v := plan.New(parseRouters(t, web), nil).VirtualRouters[0]
		take := &plan.Binding{Ifindex: r.index("eth0"), Name: "eth0", MACMode: config.VirtualMACBPF}
		h.routers.all[v.ID] = &plan.LoopState{V: v, Binding: take}
		for _, verb := range []reconcile.Verb{reconcile.Add, reconcile.Update, reconcile.Start, reconcile.Rebind, reconcile.Stop, reconcile.Remove, reconcile.Restore, reconcile.Withdraw} {
			s := reconcile.Step{Verb: verb, ID: v.ID, V: v, Binding: take, Priority: 100}
			if errs := h.routers.Do([]*reconcile.Step{&s}); !errors.Is(errs[0], router.ErrStopped) {
				t.Errorf("%s: %v", verb, errs[0])
			}
		}
		if err := h.routers.Look(nil, &plan.Picture{}); !errors.Is(err, router.ErrStopped) || ignoreStopped(err) != nil {
			t.Error(err)
		}
		if other := errors.New("something else"); !errors.Is(ignoreStopped(other), other) {
			t.Error("another error is ignored")
		}
		if err := (withdrawals{h}).Look(nil, nil); err != nil {
			t.Error(err)
		}
		h.routers.ended = true
		p := &plan.Picture{Installed: make(map[plan.ID]*plan.Installed)}
		if err := h.routers.Look(nil, p); err != nil || len(p.Installed) != 0 {
			t.Error(p.Installed, err)
		}
	})
}
