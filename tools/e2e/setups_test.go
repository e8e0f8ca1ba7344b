// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/tools/lab"
)

// setup is a keepalived.conf of pkg/migrate/testdata, of which keepalived runs the
// original and failoverd the import.
type setup struct {
	name    string
	wires   []wire
	admin   []edit // what has to differ on the second host
	watched []watched
	back    bool // keepalived takes the addresses back when it is there again
	group   bool // they move together
	trials  []trial
	without string // lines that keepalived can't have in a lab
	// What the file's scripts need: programs that write down how they are called,
	// daemons that are watched, and files.
	programs, daemons []string
	files             map[string]string
}

// wire is a network: the interface that each host has there, and the addresses of
// the client and of the hosts.
type wire struct {
	ifname    string
	addresses map[string][]string
}

// edit is a change to a router of the import.
type edit struct{ router, from, to string }

// watched is a virtual router that both have.
type watched struct {
	name, ifname string
	vrid         int
	six          bool
	interval     time.Duration
	addresses    []string
	needs        []string // without these directives the import has it as a comment
	fixed        string   // why keepalived has it always
}

// trial is what a set-up is for. It is run as soon as failoverd has the directives
// that it needs, begins with keepalived Active, and ends so.
type trial struct {
	name  string
	needs []string
	run   func(*hosts)
}

// TestSetups has each set-up fail over in all the ways that the two can have in
// common: in order, with the host's death, with a lost interface, and by what the
// file watches.
func TestSetups(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			newHosts(t, &s).run()
		})
	}
}

func (h *hosts) run() {
	if len(h.routers) == 0 {
		return // newHosts has said why
	}
	h.k, h.f = h.boot("keepalived"), h.boot("failoverd")
	h.joins("keepalived alone", all(h.k), h.startKeepalived)
	h.joins("failoverd beside it", all(h.k), h.startFailoverd)
	for _, w := range h.wires {
		h.loseInterface(w.ifname)
	}
	for _, trial := range h.trials {
		if h.waits(trial.needs...) {
			h.t.Logf("%s: waits for a later failoverd", trial.name)
			continue
		}
		h.t.Log(trial.name)
		trial.run(h)
	}
	h.stopAndReturn()
	h.rest()
	h.maintenance()

	h.yields("keepalived's host dead", all(h.f), func() { h.die(h.k, h.keepalived) })
	h.k = h.reboot("keepalived")
	h.joins("keepalived's host back", h.afterwards(), h.startKeepalived)
	if h.back {
		h.yields("failoverd stopped", all(h.k), func() { h.stop(h.failoverd.Process) })
		return
	}
	h.yields("failoverd's host dead", all(h.k), func() { h.die(h.f, h.failoverd.Process) })
	h.f = h.reboot("failoverd")
	h.joins("failoverd's host back", all(h.k), h.startFailoverd)
	h.yields("failoverd stopped", all(h.k), func() { h.stop(h.failoverd.Process) })
}

// afterwards is who is Active when keepalived is there again.
func (h *hosts) afterwards() where {
	if h.back {
		return all(h.k)
	}
	return all(h.f)
}

// stopAndReturn stops keepalived in order, and starts it again.
func (h *hosts) stopAndReturn() {
	h.t.Helper()
	since := h.frames()
	h.yields("keepalived stopped", all(h.f), func() { h.stop(h.keepalived) })
	h.left(h.k, since)
	h.joins("keepalived back", h.afterwards(), h.startKeepalived)
}

// maintenance takes the Active failoverd out of service, and back into it. Where
// keepalived would be Active by its priority, failoverd has got a higher one before.
func (h *hosts) maintenance() {
	h.t.Helper()
	set := func(on bool) func() {
		return func() {
			_, err := h.control.Maintenance(h.ctx, "", on, false)
			h.ok(err)
		}
	}
	if !h.back {
		h.stopAndReturn()
		h.yields("failoverd in maintenance", all(h.k), set(true))
		h.joins("failoverd in service again", all(h.k), set(false))
		return
	}
	swapped := func(w watched) *lab.Node {
		if w.fixed != "" {
			return h.k
		}
		return h.f
	}
	priority := func(n int) func() {
		return func() {
			for _, w := range h.routers {
				if w.fixed == "" {
					_, err := h.control.SetPriority(h.ctx, w.name, n, false)
					h.ok(err)
				}
			}
		}
	}
	h.joins("failoverd of higher priority", swapped, priority(config.OwnerPriority-1))
	h.yields("failoverd in maintenance", all(h.k), set(true))
	h.joins("failoverd in service again", swapped, set(false))
	h.joins("failoverd of lower priority again", all(h.k), priority(0))
}

// rest has keepalived Active, where it isn't by itself.
func (h *hosts) rest() {
	h.t.Helper()
	if h.back {
		return
	}
	since := h.frames()
	h.yields("failoverd stopped", all(h.k), func() { h.stop(h.failoverd.Process) })
	h.left(h.f, since)
	h.joins("failoverd back", all(h.k), h.startFailoverd)
}

// loseInterface takes the carrier from keepalived's interface: what is there goes
// to the other host, the rest only if it belongs together.
func (h *hosts) loseInterface(ifname string) {
	h.t.Helper()
	moved := func(w watched) *lab.Node {
		if h.group || w.ifname == ifname {
			return h.f
		}
		return h.k
	}
	h.yields("keepalived without "+ifname, moved, func() { h.ok(h.ports[h.k][ifname].Pull()) })
	h.joins("keepalived with "+ifname+" again", h.afterwards(), func() { h.ok(h.ports[h.k][ifname].Plug()) })
	h.rest()
}

// failsOnKeepalived breaks something there, and mends it.
func failsOnKeepalived(what string, fail, mend func(*hosts, *lab.Node)) func(*hosts) {
	return func(h *hosts) {
		h.yields(what+" on keepalived's host", all(h.f), func() { fail(h, h.k) })
		h.joins(what+" on keepalived's host no more", h.afterwards(), func() { mend(h, h.k) })
		h.rest()
	}
}

// failsOnFailoverd breaks something there while failoverd is Active, which it
// stays when keepalived is back, and mends it.
func failsOnFailoverd(what string, fail, mend func(*hosts, *lab.Node)) func(*hosts) {
	return func(h *hosts) {
		h.stopAndReturn()
		h.yields(what+" on failoverd's host", all(h.k), func() { fail(h, h.f) })
		h.joins(what+" on failoverd's host no more", all(h.k), func() { mend(h, h.f) })
	}
}

// endDaemon and startDaemon are for the failsOn trials.
func endDaemon(name string) func(*hosts, *lab.Node) {
	return func(h *hosts, n *lab.Node) { h.daemon(n, name, false) }
}

func startDaemon(name string) func(*hosts, *lab.Node) {
	return func(h *hosts, n *lab.Node) { h.daemon(n, name, true) }
}

func shell(args ...string) func(*hosts, *lab.Node) {
	return func(h *hosts, n *lab.Node) {
		_, err := n.Run(h.ctx, args[0], args[1:]...)
		h.ok(err)
	}
}

func writeFile(path, content string) func(*hosts, *lab.Node) {
	return func(h *hosts, n *lab.Node) {
		h.ok(n.Do(func() error { return os.WriteFile(path, []byte(content), 0o644) }))
	}
}

func pull(ifname string) func(*hosts, *lab.Node) {
	return func(h *hosts, n *lab.Node) { h.ok(h.ports[n][ifname].Pull()) }
}

func plug(ifname string) func(*hosts, *lab.Node) {
	return func(h *hosts, n *lab.Node) { h.ok(h.ports[n][ifname].Plug()) }
}

// callsHook has both become Active, and looks whether they call the same.
func callsHook(line string) func(*hosts) {
	return func(h *hosts) {
		h.called(h.k, line)
		h.stopAndReturn()
		h.called(h.f, line)
		h.rest()
	}
}

// showsWhileActive looks for a line in what a command says, which is there while
// failoverd is Active, and not otherwise.
func showsWhileActive(line string, args ...string) func(*hosts) {
	return func(h *hosts) {
		look := func(want bool) {
			h.t.Helper()
			said, err := h.f.Run(h.ctx, args[0], args[1:]...)
			h.ok(err)
			if strings.Contains(said, line) != want {
				h.t.Errorf("%v says %s, where %q is %v", args, said, line, want)
			}
		}
		look(false)
		h.yields("keepalived stopped", all(h.f), func() { h.stop(h.keepalived) })
		look(true)
		h.joins("keepalived back", h.afterwards(), h.startKeepalived)
		h.rest()
		look(false)
	}
}
