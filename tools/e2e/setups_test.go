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

// setup is a keepalived.conf of pkg/migrate/testdata. keepalived runs the original and failoverd
// the import.
type setup struct {
	name    string
	wires   []wire
	admin   []edit // what has to differ on the second host
	watched []watched
	back    bool // keepalived preempts after it has come back
	group   bool // they move together
	trials  []trial
	without string // lines that keepalived can't have in a lab
	// What the scripts of the file need: programs that record their arguments, watched daemons,
	// and files.
	programs, daemons []string
	files             map[string]string
}

// wire is a network, with the interface of each host and the addresses of the client and of the
// hosts.
type wire struct {
	ifname    string
	addresses map[string][]string
}

// edit is a change to a router of the import.
type edit struct{ router, from, to string }

// watched is a virtual router that both hosts have.
type watched struct {
	name, ifname string
	vrid         int
	six          bool
	interval     time.Duration
	addresses    []string
	needs        []string // the import comments it out without these directives
	fixed        string   // why keepalived has it all the time
}

// trial is a test of a set-up. It runs if failoverd has the directives that it needs. keepalived
// is Active at its beginning and at its end.
type trial struct {
	name  string
	needs []string
	run   func(*hosts)
}

// TestSetups tests each set-up with all kinds of failover that both programs support: a graceful
// stop, the death of a host, the loss of an interface, and a failure of what the file watches.
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
		return // newHosts has reported the error
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

// afterwards returns the Active after keepalived has come back.
func (h *hosts) afterwards() where {
	if h.back {
		return all(h.k)
	}
	return all(h.f)
}

// stopAndReturn stops keepalived and starts it again.
func (h *hosts) stopAndReturn() {
	h.t.Helper()
	since := h.frames()
	h.yields("keepalived stopped", all(h.f), func() { h.stop(h.keepalived) })
	h.left(h.k, since)
	h.joins("keepalived back", h.afterwards(), h.startKeepalived)
}

// maintenance takes the Active failoverd out of service and back. If keepalived has the higher
// priority, failoverd gets a higher one before.
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

// rest makes keepalived Active, if it isn't.
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

// loseInterface takes the carrier from keepalived's interface. The routers on it move to the other
// host, and the others move only if they are in the same group.
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

// failsOnKeepalived breaks something on keepalived's host, and repairs it.
func failsOnKeepalived(what string, fail, mend func(*hosts, *lab.Node)) func(*hosts) {
	return func(h *hosts) {
		h.yields(what+" on keepalived's host", all(h.f), func() { fail(h, h.k) })
		h.joins(what+" on keepalived's host no more", h.afterwards(), func() { mend(h, h.k) })
		h.rest()
	}
}

// failsOnFailoverd breaks something on failoverd's host while failoverd is Active, and repairs it.
// failoverd stays Active while keepalived comes back.
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

// callsHook makes each of both Active, and checks that they call the same hooks.
func callsHook(line string) func(*hosts) {
	return func(h *hosts) {
		h.called(h.k, line)
		h.stopAndReturn()
		h.called(h.f, line)
		h.rest()
	}
}

// showsWhileActive checks that the output of a command has a line while failoverd is Active, and
// only then.
func showsWhileActive(line string, args ...string) func(*hosts) {
	return func(h *hosts) {
		look := func(want bool) {
			h.t.Helper()
			said, err := h.f.Run(h.ctx, args[0], args[1:]...)
			h.ok(err)
			if strings.Contains(said, line) != want {
				h.t.Errorf("the output of %v is %s; want %q in it: %v", args, said, line, want)
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
