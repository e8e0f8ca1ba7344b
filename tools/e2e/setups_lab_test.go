// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/migrate"
	"github.com/failoverd/failoverd/tools/lab"
)

// setupTime bounds a set-up, which takes a minute or two.
const setupTime = 8 * time.Minute

// hosts is two hosts on the same networks: keepalived with its original file, and failoverd with
// the file that `failoverctl import` makes from it.
type hosts struct {
	*setup
	t        *testing.T
	ctx      context.Context
	lab      *lab.Lab
	lans     map[string]*lab.LAN // by the hosts' interface
	captures map[string]*lab.Capture
	client   *lab.Node
	ports    map[*lab.Node]map[string]*lab.Port

	k, f       *lab.Node // their nodes
	boots      int       // the number of booted hosts; each has its own node
	keepalived *lab.Process
	failoverd  *lab.Failoverd
	control    *control.Client // of failoverd
	dead       *lab.Node
	helpers    map[*lab.Node]map[string]*lab.Process // the programs that the file watches

	source   string // keepalived's file
	text     string // failoverd's file
	findings []migrate.Finding
	routers  []watched // the routers that failoverd runs
}

func newHosts(t *testing.T, s *setup) *hosts {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), setupTime)
	t.Cleanup(cancel)
	h := &hosts{
		setup: s, t: t, ctx: ctx, lab: lab.ForTest(t),
		lans: make(map[string]*lab.LAN), captures: make(map[string]*lab.Capture),
		ports: make(map[*lab.Node]map[string]*lab.Port), helpers: make(map[*lab.Node]map[string]*lab.Process),
	}
	for _, w := range s.wires {
		lan, err := h.lab.LAN("switch-" + w.ifname)
		h.ok(err)
		h.lans[w.ifname] = lan
	}
	h.client = h.boot("client")
	for ifname, lan := range h.lans {
		c, err := lan.Capture()
		h.ok(err)
		t.Cleanup(func() { _ = c.Close() })
		h.captures[ifname] = c
	}
	h.translate()
	return h
}

func (h *hosts) ok(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// boot makes a client, keepalived or failoverd host. A host that replaces another one has its
// addresses.
func (h *hosts) boot(kind string) *lab.Node {
	h.t.Helper()
	h.boots++
	n, err := h.lab.Node(fmt.Sprintf("%s-%d", kind, h.boots))
	h.ok(err)
	h.ports[n], h.helpers[n] = make(map[string]*lab.Port), make(map[string]*lab.Process)
	for _, w := range h.wires {
		p, err := h.lans[w.ifname].Connect(n, w.ifname, w.addresses[kind]...)
		h.ok(err)
		h.ports[n][w.ifname] = p
	}
	if kind != "client" {
		h.install(n)
	}
	return n
}

// install adds what the scripts of the files need to a host.
func (h *hosts) install(n *lab.Node) {
	h.t.Helper()
	h.ok(furnish(h.ctx, n, h.programs, h.daemons, h.files))
	for _, name := range h.daemons {
		h.daemon(n, name, true)
	}
}

// daemon starts or ends a watched program.
func (h *hosts) daemon(n *lab.Node, name string, alive bool) {
	h.t.Helper()
	if !alive {
		h.ok(endProcess(h.ctx, h.helpers[n][name]))
		return
	}
	p, err := startDaemonOn(n, name)
	h.ok(err)
	h.helpers[n][name] = p
}

// translate imports the file and makes the changes to the result that its administrator has to
// make.
func (h *hosts) translate() {
	h.t.Helper()
	path, err := filepath.Abs("../../pkg/migrate/testdata/keepalived/" + h.name + ".conf")
	h.ok(err)
	source, err := os.ReadFile(path)
	h.ok(err)
	r, err := migrate.Keepalived(path, os.ReadFile, filepath.Glob)
	h.ok(err)
	h.source, h.findings, h.text = path, r.Findings, string(r.YAML)
	for _, k := range r.Keys { // the hosts share the /etc of this one
		place := filepath.Join(h.t.TempDir(), filepath.Base(k.Path))
		h.ok(os.WriteFile(place, []byte(k.Secret), 0o600))
		h.text = strings.ReplaceAll(h.text, k.Path, place)
	}
	if h.without != "" { // keepalived's copy omits what a lab can't have
		text := strings.Replace(string(source), h.without, "", 1)
		if text == string(source) {
			h.t.Fatalf("%s has no %q", path, h.without)
		}
		h.source = filepath.Join(h.t.TempDir(), h.name+".conf")
		h.ok(os.WriteFile(h.source, []byte(text), 0o644))
	}
	for _, e := range h.admin {
		h.edit(e)
	}
	for _, trial := range h.trials {
		for _, d := range trial.needs {
			if !strings.Contains(string(source), d) {
				h.t.Fatalf("the trial %s needs %s, which %s lacks", trial.name, d, path)
			}
		}
	}
	f, err := config.Parse("failoverd.yaml", []byte(h.text))
	var has []config.Router
	if err == nil {
		has = f.Routers
	}
	for _, w := range h.watched {
		switch i := slices.IndexFunc(has, func(r config.Router) bool { return r.Name == w.name }); {
		case i >= 0:
			h.routers = append(h.routers, w)
		case h.waits(w.needs...):
			h.t.Logf("router %s waits for a later failoverd", w.name)
		default:
			h.t.Errorf("router %s is missing in the import, and no finding says why: %v\n%s", w.name, err, h.text)
		}
	}
}

// edit changes a line of a router that isn't commented out.
func (h *hosts) edit(e edit) {
	h.t.Helper()
	before, rest, ok := strings.Cut(h.text, "\n  - name: "+e.router+"\n")
	if !ok {
		if !strings.Contains(h.text, "\n  # - name: "+e.router+"\n") {
			h.t.Fatalf("no router %s in\n%s", e.router, h.text)
		}
		return
	}
	mine, others, more := strings.Cut(rest, "\n  - name: ")
	if more {
		others = "\n  - name: " + others
	}
	if !strings.Contains(mine, e.from) {
		h.t.Fatalf("router %s has no %q:\n%s", e.router, e.from, mine)
	}
	h.text = before + "\n  - name: " + e.router + "\n" + strings.ReplaceAll(mine, e.from, e.to) + others
}

// waits reports whether one of the directives needs a later failoverd.
func (h *hosts) waits(directives ...string) bool {
	return slices.ContainsFunc(h.findings, func(f migrate.Finding) bool {
		name, _, _ := strings.Cut(f.Directive, " ")
		return f.Kind == migrate.Later && slices.Contains(directives, name)
	})
}

func (h *hosts) startKeepalived() {
	h.t.Helper()
	p, err := h.k.KeepalivedFile(h.source)
	h.ok(err)
	h.keepalived = p
	h.t.Cleanup(func() {
		if h.t.Failed() {
			h.t.Logf("keepalived wrote:\n%s", excerpt(p.Output()))
		}
	})
}

func (h *hosts) startFailoverd() {
	h.t.Helper()
	path := filepath.Join(h.t.TempDir(), "failoverd.yaml")
	h.ok(os.WriteFile(path, []byte(h.text), 0o644))
	f, err := h.f.Failoverd([]string{"STATE_DIRECTORY=" + h.t.TempDir()}, failoverd(), "--config", path)
	h.ok(err)
	h.failoverd = f
	h.t.Cleanup(func() {
		if h.t.Failed() {
			h.t.Logf("the file of failoverd:\n%s\nand its log:\n%s", h.text, excerpt(f.Output()))
		}
	})
	h.control = control.NewClient(socketOf(f))
	for h.ctx.Err() == nil {
		if s, err := h.control.Status(h.ctx); err == nil && !slices.ContainsFunc(s.Routers, func(r control.Router) bool { return r.State == "Initialize" }) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	h.t.Fatalf("failoverd did not take part:\n%s", f.Output())
}

// stop stops a daemon, which has to succeed.
func (h *hosts) stop(p *lab.Process) {
	h.t.Helper()
	code, err := p.Stop(h.ctx)
	h.ok(err)
	if code != 0 {
		h.t.Errorf("exit code %d:\n%s", code, p.Output())
	}
}

// die ends a host at once, like a power cut.
func (h *hosts) die(n *lab.Node, p *lab.Process) {
	h.t.Helper()
	for _, port := range h.ports[n] {
		h.ok(port.Pull())
	}
	h.ok(p.SignalAll(syscall.SIGKILL))
	_, err := p.Wait(h.ctx)
	h.ok(err)
	h.dead = n
}

// reboot replaces the dead host.
func (h *hosts) reboot(kind string) *lab.Node {
	h.t.Helper()
	for _, port := range h.ports[h.dead] {
		h.ok(port.Disconnect())
	}
	h.dead = nil
	return h.boot(kind)
}

func (h *hosts) alive() []*lab.Node {
	return slices.DeleteFunc([]*lab.Node{h.k, h.f}, func(n *lab.Node) bool { return n == h.dead })
}

// called waits until a program of the files has been called on a node with these arguments.
func (h *hosts) called(n *lab.Node, line string) {
	h.t.Helper()
	var said string
	for h.ctx.Err() == nil {
		h.ok(n.Do(func() error {
			b, err := os.ReadFile("/run/called")
			said = string(b)
			return err
		}))
		if strings.Contains(said, line) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	h.t.Fatalf("%q was not called on %s; the calls are:\n%s", line, n.Name, said)
}
