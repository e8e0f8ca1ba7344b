// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
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
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/tools/lab"
)

// sameFile is a keepalived.conf that all hosts of its pairs have, with the lines of a host behind
// its name: @a, @b.
type sameFile struct {
	name     string
	path     string            // empty for the one in testdata
	edits    []change          // changes to the file, like lines for one host in a file that has none
	includes map[string]string // files beside it
	wires    []wire
	routers  []watched
	back     bool // host a preempts after it has come back
	swapped  bool // also with keepalived on host a and failoverd on host b
	// What the scripts of the file need, as in setup.
	programs, daemons []string
	files             map[string]string
	listens           string   // the address and port of a service, "" for none
	tables            []string // the routing tables of its virtual_routes and virtual_rules
	check             *failure
	reload            revision
	differences       []difference
}

// change replaces a text in a file.
type change struct{ from, to string }

func apply(t *testing.T, text string, changes []change) string {
	t.Helper()
	for _, c := range changes {
		if !strings.Contains(text, c.from) {
			t.Fatalf("no %q in:\n%s", c.from, text)
		}
		text = strings.ReplaceAll(text, c.from, c.to)
	}
	return text
}

// failure makes a check of the Active fail.
type failure struct {
	fail, mend func(*twins, *twin) error
	moves      []string // the routers that leave; all if empty
}

// revision is what a reload changes, on both hosts.
type revision struct {
	changes []change
	added   string   // an address that it adds, with its interface: "eth0 192.0.2.12"
	moves   []string // the routers that leave host a; all if empty
	stays   bool     // no router moves
}

// difference is an intended difference between keepalived and failoverd: a text in the addresses,
// routes or hooks of keepalived, and the one that failoverd has in its place.
type difference struct{ from, to, reason string }

// twins is a pair of hosts that run the same file.
type twins struct {
	*sameFile
	name     string
	programs map[string]string // by host
	ctx      context.Context
	lab      *lab.Lab
	lans     map[string]*lab.LAN
	captures map[string]*lab.Capture
	client   *lab.Node
	conf     string // the path of the file
	hosts    map[string]*twin
}

// twin is one of both hosts.
type twin struct {
	name    string
	node    *lab.Node
	ports   map[string]*lab.Port
	process *lab.Process    // nil while it is off
	control *control.Client // of failoverd, nil for keepalived
	watched map[string]*lab.Process
	service net.Listener
	called  []string // the calls of the hooks before the host was killed
	outputs []string // of its ended processes
}

// TestSameFile runs keepalived and failoverd from the same keepalived.conf, through starts, a
// reload, a failing check, a graceful stop and a power cut. Each file runs on two hosts with
// keepalived, on two with failoverd, and on one of each. At each step the same host is Active, with
// the same addresses, and at the end the same hooks were called with the same arguments.
func TestSameFile(t *testing.T) {
	for _, f := range sameFiles() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			runSameFile(t, f)
		})
	}
}

// sameRun is the test of one file.
type sameRun struct {
	*sameFile
	t     *testing.T
	ctx   context.Context
	pairs []*twins
	at    map[string]string // the host on which each router should be Active
	asked []watched         // the routers, and the address that a reload adds
}

// combinations returns the programs of the hosts a and b of each pair. The first pair is the
// reference.
func (f *sameFile) combinations() [][2]string {
	all := [][2]string{{"keepalived", "keepalived"}, {"failoverd", "failoverd"}, {"failoverd", "keepalived"}}
	if f.swapped {
		all = append(all, [2]string{"keepalived", "failoverd"})
	}
	return all
}

func runSameFile(t *testing.T, f *sameFile) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	content, err := os.ReadFile(cmp.Or(f.path, "testdata/samefile/"+f.name+".conf"))
	if err != nil {
		t.Fatal(err)
	}
	first := apply(t, string(content), f.edits)
	r := &sameRun{sameFile: f, t: t, ctx: ctx, at: make(map[string]string), asked: f.routers}
	all := lab.ForTest(t)
	for _, programs := range f.combinations() {
		p := &twins{
			sameFile: f, name: programs[0] + " and " + programs[1], programs: map[string]string{"a": programs[0], "b": programs[1]},
			ctx: ctx, lab: all, lans: make(map[string]*lab.LAN), captures: make(map[string]*lab.Capture),
			conf: filepath.Join(t.TempDir(), "keepalived.conf"), hosts: make(map[string]*twin),
		}
		r.pairs = append(r.pairs, p)
		t.Cleanup(func() {
			for _, c := range p.captures {
				_ = c.Close()
			}
			for _, h := range p.hosts {
				if h.service != nil {
					_ = h.service.Close()
				}
			}
			if t.Failed() {
				t.Log(p.story())
			}
		})
	}
	r.write(first)
	r.each("prepare", (*twins).prepare)

	r.move(nil, "a")
	r.step("a starts", func(p *twins) error { return p.start("a") })
	r.step("b starts", func(p *twins) error { return p.start("b") })

	r.write(apply(t, first, f.reload.changes))
	if !f.reload.stays {
		r.move(f.reload.moves, "b")
	}
	r.has(f.reload, true)
	r.step("both reload", (*twins).reload)
	r.write(first)
	if f.back {
		r.move(nil, "a")
	}
	r.has(f.reload, false)
	r.step("both reload the first file", (*twins).reload)

	if f.check != nil {
		from := r.active()
		r.move(f.check.moves, other(from))
		r.step("the check fails on "+from, func(p *twins) error { return f.check.fail(p, p.hosts[from]) })
		if f.back {
			r.move(nil, "a")
		}
		r.step("the check succeeds on "+from, func(p *twins) error {
			lines := len(p.hosts[from].process.Lines())
			if err := f.check.mend(p, p.hosts[from]); err != nil {
				return err
			}
			return p.recovers(from, lines)
		})
	}

	from := r.active()
	r.move(nil, other(from))
	r.step(from+" stops", func(p *twins) error { return p.stop(from) })
	if f.back {
		r.move(nil, "a")
	}
	r.step(from+" starts again", func(p *twins) error { return p.start(from) })

	from = r.active()
	r.move(nil, other(from))
	r.step(from+" loses its power", func(p *twins) error { return p.cut(from) })
	if f.back {
		r.move(nil, "a")
	}
	r.step(from+" is back", func(p *twins) error { return errors.Join(p.boot(from), p.start(from)) })

	from = r.active()
	r.each("the Backup stops", func(p *twins) error { return p.stop(other(from)) })
	r.each("the Active stops", func(p *twins) error { return p.stop(from) })
	r.sameHooks()
}

func other(host string) string {
	if host == "a" {
		return "b"
	}
	return "a"
}

// move says where routers should be Active from now on, all routers if there are no names.
func (r *sameRun) move(names []string, host string) {
	for _, w := range r.routers {
		if len(names) == 0 || slices.Contains(names, w.name) {
			r.at[w.name] = host
		}
	}
}

// active returns the host on which the first router should be Active.
func (r *sameRun) active() string { return r.at[r.routers[0].name] }

// has says whether there is the address that the reload adds. It moves with the reloaded routers.
func (r *sameRun) has(v revision, yes bool) {
	r.asked = r.routers
	if yes {
		ifname, address, _ := strings.Cut(v.added, " ")
		r.asked = append(slices.Clone(r.routers), watched{name: "added", ifname: ifname, addresses: []string{address}})
		r.at["added"] = r.at[r.routers[0].name]
		if len(v.moves) > 0 {
			r.at["added"] = r.at[v.moves[0]]
		}
	}
}

// write writes the file of all pairs.
func (r *sameRun) write(text string) {
	r.t.Helper()
	for _, p := range r.pairs {
		if err := os.WriteFile(p.conf, []byte(text), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
}

// each does something with all pairs at once.
func (r *sameRun) each(what string, do func(*twins) error) {
	r.t.Helper()
	errs := make([]error, len(r.pairs))
	var all sync.WaitGroup
	for i, p := range r.pairs {
		all.Go(func() {
			if err := do(p); err != nil {
				errs[i] = fmt.Errorf("%s: %w", p.name, err)
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
}

// step does something, waits until the right host of each pair is Active, and compares the pairs.
func (r *sameRun) step(what string, do func(*twins) error) {
	r.t.Helper()
	began := time.Now()
	r.each(what, func(p *twins) error {
		if err := do(p); err != nil {
			return err
		}
		return p.active(r.asked, r.at)
	})
	r.each(what, func(p *twins) error {
		if p == r.pairs[0] {
			return nil
		}
		return r.same(p, (*twins).state)
	})
	r.t.Logf("%s: %.1f s", what, time.Since(began).Seconds())
}

// same waits until a pair has the same as the reference.
func (r *sameRun) same(p *twins, look func(*twins) (map[string][]string, error)) error {
	end := time.Now().Add(20 * time.Second)
	for {
		want, err := look(r.pairs[0])
		if err != nil {
			return err
		}
		got, err := look(p)
		if err != nil {
			return err
		}
		if maps.EqualFunc(got, want, slices.Equal) {
			return nil
		}
		if time.Now().After(end) {
			var text strings.Builder
			for _, key := range slices.Sorted(maps.Keys(want)) {
				if !slices.Equal(got[key], want[key]) {
					fmt.Fprintf(&text, "\n%s:\n  %s\nwith two keepaliveds:\n  %s", key, strings.Join(got[key], "\n  "), strings.Join(want[key], "\n  "))
				}
			}
			for _, key := range slices.Sorted(maps.Keys(got)) {
				if want[key] == nil {
					fmt.Fprintf(&text, "\n%s:\n  %s\nand nothing with two keepaliveds", key, strings.Join(got[key], "\n  "))
				}
			}
			return errors.New(text.String())
		}
		time.Sleep(2 * lookEvery)
	}
}

func (r *sameRun) sameHooks() {
	r.t.Helper()
	r.each("the hooks", func(p *twins) error {
		if p == r.pairs[0] {
			return nil
		}
		return r.same(p, (*twins).hooks)
	})
}

func (p *twins) prepare() error {
	dir := filepath.Dir(p.conf)
	for name, text := range p.includes {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	for _, w := range p.wires {
		var err error
		if p.lans[w.ifname], err = p.lab.LAN("switch-" + w.ifname); err != nil {
			return err
		}
	}
	var err error
	if p.client, err = p.lab.Host("client"); err != nil {
		return err
	}
	for _, w := range p.wires {
		if _, err := p.lans[w.ifname].Connect(p.client, w.ifname, append([]string{"fe80::100/64"}, w.addresses["client"]...)...); err != nil {
			return err
		}
		if p.captures[w.ifname], err = p.lans[w.ifname].Capture(); err != nil {
			return err
		}
	}
	for _, name := range []string{"a", "b"} {
		p.hosts[name] = &twin{name: name}
		if err := p.boot(name); err != nil {
			return err
		}
	}
	return nil
}

// boot makes a host.
func (p *twins) boot(name string) error {
	h := p.hosts[name]
	number, kind := 1, "keepalived" // the address of the first host, as in the table of setups
	if name == "b" {
		number, kind = 2, "failoverd"
	}
	var err error
	if h.node, err = p.lab.Host(name); err != nil {
		return err
	}
	h.ports, h.watched = make(map[string]*lab.Port), make(map[string]*lab.Process)
	for _, w := range p.wires {
		if h.ports[w.ifname], err = p.lans[w.ifname].Connect(h.node, w.ifname, append([]string{fmt.Sprintf("fe80::%x/64", number)}, w.addresses[kind]...)...); err != nil {
			return err
		}
		// A host keeps its MAC, because its peers still know it.
		if err := h.setMAC(w.ifname, number); err != nil {
			return err
		}
	}
	if err := furnish(p.ctx, h.node, p.sameFile.programs, p.daemons, p.files); err != nil {
		return err
	}
	for _, d := range p.daemons {
		if err := p.daemon(h, d, true); err != nil {
			return err
		}
	}
	if p.listens != "" {
		return p.listen(h)
	}
	return nil
}

func (h *twin) setMAC(ifname string, number int) error {
	l, err := h.node.Netlink().LinkByName(ifname)
	if err != nil {
		return err
	}
	return h.node.Netlink().LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, byte(number)})
}

// daemon starts or ends a watched program.
func (p *twins) daemon(h *twin, name string, alive bool) (err error) {
	if alive {
		h.watched[name], err = startDaemonOn(h.node, name)
		return err
	}
	return endProcess(p.ctx, h.watched[name])
}

// start starts the host's program with the file, and waits until it takes part.
func (p *twins) start(name string) error {
	h := p.hosts[name]
	// The host has its own name, by which the lines with @ are chosen.
	// A busy machine must not delay the advertisements. The lowest niceness is -20, whatever the
	// test has.
	command := []string{"nice", "-n", "-40", "unshare", "--uts", "sh", "-c", `hostname "$0" && exec "$@"`, name}
	if p.programs[name] == "failoverd" {
		state := filepath.Join(filepath.Dir(p.conf), name)
		if err := os.MkdirAll(state, 0o755); err != nil {
			return err
		}
		command = append(command, failoverd(), "--config", p.conf)
		f, err := h.node.Failoverd([]string{"STATE_DIRECTORY=" + state}, command[0], command[1:]...)
		if err != nil {
			return err
		}
		h.process, h.control = f.Process, control.NewClient(socketOf(f))
		return p.recovers(name, 0)
	}
	command = append(command, "keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file="+p.conf, "--pid=/run/keepalived.pid", "--vrrp_pid=/run/keepalived-vrrp.pid")
	var err error
	if h.process, err = h.node.Start(command[0], command[1:]...); err != nil {
		return err
	}
	return p.takesPart(h)
}

// takesPart waits until a keepalived that has just started has left the state Initialize of all
// its routers.
func (p *twins) takesPart(h *twin) error {
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	for _, w := range p.routers {
		if _, err := h.process.WaitLine(ctx, 0, func(l string) bool {
			return strings.Contains(l, "("+w.name+") Entering BACKUP STATE") || strings.Contains(l, "("+w.name+") Entering MASTER STATE")
		}); err != nil {
			return fmt.Errorf("keepalived on %s doesn't run %s: %w", h.name, w.name, err)
		}
	}
	return nil
}

// recovers waits until the daemon of a host takes part with all routers, and no check of it is down.
// Of keepalived's log only the lines from the given one count.
func (p *twins) recovers(name string, from int) error {
	h := p.hosts[name]
	ctx, cancel := context.WithTimeout(p.ctx, 40*time.Second)
	defer cancel()
	if h.control == nil {
		_, err := h.process.WaitLine(ctx, from, func(l string) bool {
			return strings.Contains(l, "BACKUP STATE") || strings.Contains(l, "effective priority")
		})
		return err
	}
	var last control.Status
	for ctx.Err() == nil {
		s, err := h.control.Status(ctx)
		if err == nil && !slices.ContainsFunc(s.Routers, func(r control.Router) bool { return r.State == "Initialize" }) &&
			!slices.ContainsFunc(s.Tracks, func(t control.Track) bool { return t.State == "down" }) {
			return nil
		}
		last = s
		select {
		case <-h.process.Done():
			return fmt.Errorf("failoverd on %s ended:\n%s", name, h.process.Output())
		case <-time.After(lookEvery):
		}
	}
	return fmt.Errorf("failoverd on %s does not take part: %+v", name, last)
}

func (p *twins) reload() error {
	return errors.Join(p.hosts["a"].process.Signal(syscall.SIGHUP), p.hosts["b"].process.Signal(syscall.SIGHUP))
}

func (p *twins) stop(name string) error {
	h := p.hosts[name]
	code, err := h.process.Stop(p.ctx)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("%s on %s: exit code %d", p.programs[name], name, code)
	}
	h.end()
	return nil
}

func (h *twin) end() {
	h.outputs = append(h.outputs, h.process.Output())
	h.process, h.control = nil, nil
}

// cut cuts the power of a host.
func (p *twins) cut(name string) error {
	h := p.hosts[name]
	calls, err := h.calls()
	if err != nil {
		return err
	}
	h.called = calls
	for _, port := range h.ports {
		if err := port.Pull(); err != nil {
			return err
		}
	}
	if h.service != nil {
		if err := h.service.Close(); err != nil {
			return err
		}
	}
	if err := h.node.PowerCut(); err != nil {
		return err
	}
	for _, port := range h.ports {
		if err := port.Disconnect(); err != nil {
			return err
		}
	}
	h.end()
	h.node = nil
	return nil
}

// alive returns the hosts with power.
func (p *twins) alive() (all []*twin) {
	for _, name := range []string{"a", "b"} {
		if h := p.hosts[name]; h.node != nil {
			all = append(all, h)
		}
	}
	return all
}

// active waits until the routers are Active on their hosts: only these have the addresses and answer
// for them.
func (p *twins) active(routers []watched, at map[string]string) error {
	ctx, cancel := context.WithTimeout(p.ctx, 40*time.Second)
	defer cancel()
	for {
		wrong, err := p.misplaced(routers, at)
		if err != nil {
			return err
		}
		if wrong == "" {
			break
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return fmt.Errorf("%s; on the wire:\n%s", wrong, p.wire())
		}
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, w := range routers {
		for _, a := range w.addresses {
			all.Go(func() {
				if err := p.answers(ctx, w.ifname, netip.MustParseAddr(a), at[w.name]); err != nil {
					mu.Lock()
					errs = append(errs, fmt.Errorf("router %s should be Active on %s: %w; on the wire:\n%s", w.name, at[w.name], err, p.wire()))
					mu.Unlock()
				}
			})
		}
	}
	all.Wait()
	return errors.Join(errs...)
}

// lookEvery is the interval between looks at a pair. All pairs together have to leave processor time
// for the daemons.
const lookEvery = 100 * time.Millisecond

// misplaced returns which address isn't on its host, or also on the other one. It is empty if there
// is none.
func (p *twins) misplaced(routers []watched, at map[string]string) (string, error) {
	for _, h := range p.alive() {
		has, err := h.node.Addresses("")
		if err != nil {
			return "", err
		}
		for _, w := range routers {
			for _, a := range w.addresses {
				holds := slices.ContainsFunc(has, func(p netip.Prefix) bool { return p.Addr() == netip.MustParseAddr(a) })
				if holds != (at[w.name] == h.name) {
					return fmt.Sprintf("router %s should be Active on %s: %s has %s: %t", w.name, at[w.name], h.name, a, holds), nil
				}
			}
		}
	}
	return "", nil
}

// wire returns the advertisements of a pair.
func (p *twins) wire() string {
	var b strings.Builder
	for _, w := range p.wires {
		fmt.Fprintf(&b, "%s:\n%s", w.ifname, p.captures[w.ifname].VRRP())
	}
	return b.String()
}

// answers waits until the host alone answers for an address.
func (p *twins) answers(ctx context.Context, ifname string, address netip.Addr, host string) error {
	var got []string
	for wait := 200 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 2*time.Second) {
		var err error
		if got, err = p.captures[ifname].WhoAnswers(p.client, ifname, address, wait); err != nil {
			return err
		}
		if slices.Equal(got, []string{host}) {
			return nil
		}
	}
	return fmt.Errorf("%v answer for %s", got, address)
}

// state returns the addresses of the interfaces, and the routes and rules of the tables, by host.
func (p *twins) state() (map[string][]string, error) {
	all := make(map[string][]string)
	for _, h := range p.alive() {
		lines, err := h.addresses()
		if err != nil {
			return nil, err
		}
		for _, table := range p.tables {
			for _, what := range []string{"route", "rule"} {
				said, err := h.node.Run(p.ctx, "sh", "-c", "ip -4 "+what+" show table "+table+" 2>&1 | sed 's/ proto [^ ]*//'")
				if err != nil {
					return nil, err
				}
				for line := range strings.Lines(said) {
					lines = append(lines, what+" "+strings.Join(strings.Fields(line), " "))
				}
			}
		}
		lines = p.translated(lines)
		slices.Sort(lines)
		all["addresses of "+h.name] = slices.Compact(lines)
	}
	return all, nil
}

// translated replaces what differs by intention.
func (p *twins) translated(lines []string) []string {
	all := slices.Clone(lines)
	for i := range all {
		for _, d := range p.differences {
			all[i] = strings.ReplaceAll(all[i], d.from, d.to)
		}
	}
	return all
}

func (h *twin) addresses() ([]string, error) {
	handle := h.node.Netlink()
	links, err := handle.LinkList()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, l := range links {
		list, err := handle.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			line := fmt.Sprintf("%s %s scope %d", l.Attrs().Name, a.IPNet, a.Scope)
			if a.Broadcast != nil {
				line += " broadcast " + a.Broadcast.String()
			}
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// calls returns the calls of the hooks so far.
func (h *twin) calls() ([]string, error) {
	if h.node == nil {
		return h.called, nil
	}
	var text []byte
	err := h.node.Do(func() (err error) {
		text, err = os.ReadFile("/run/called")
		return err
	})
	return append(slices.Clone(h.called), slices.Collect(strings.Lines(string(text)))...), err
}

// hooks returns the calls by host, program and router. Their order is only defined within a router,
// because keepalived runs its programs all at once.
func (p *twins) hooks() (map[string][]string, error) {
	all := make(map[string][]string)
	for _, name := range []string{"a", "b"} {
		calls, err := p.hosts[name].calls()
		if err != nil {
			return nil, err
		}
		for _, line := range p.translated(calls) {
			words := strings.Fields(line)
			key := words[:min(len(words), 2)] // the program, and what tells its callers apart
			if len(words) > 2 && slices.Contains([]string{"INSTANCE", "GROUP"}, words[1]) {
				key = words[:3]
			}
			k := "calls on " + name + " of " + strings.Join(key, " ")
			all[k] = append(all[k], strings.Join(words, " "))
		}
	}
	return all, nil
}

// story returns the calls of the hooks and the output of both programs. A failed test logs it.
func (p *twins) story() string {
	var b strings.Builder
	for _, name := range []string{"a", "b"} {
		h := p.hosts[name]
		if h == nil {
			continue
		}
		calls, _ := h.calls() // there is no file if no hook was called
		fmt.Fprintf(&b, "\n==== %s: host %s called\n%s", p.name, name, strings.Join(calls, ""))
		out := slices.Clone(h.outputs)
		if h.process != nil {
			out = append(out, h.process.Output())
		}
		fmt.Fprintf(&b, "and %s wrote\n", p.programs[name])
		for line := range strings.Lines(strings.Join(out, "-- next run\n")) {
			if !strings.Contains(line, "gratuitous ARP") {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}

// furnish adds what the scripts of a file need to a host: programs that record their arguments,
// the watched programs, files, and a /proc in which processes can be found.
func furnish(ctx context.Context, n *lab.Node, programs, daemons []string, files map[string]string) error {
	sleep, err := os.ReadFile("/usr/bin/sleep")
	if err != nil {
		return err
	}
	const bin = "/usr/local/bin/"
	if err := n.Do(func() error {
		if err := unix.Mount("tmpfs", bin, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount %s: %w", bin, err)
		}
		for _, name := range programs {
			script := fmt.Sprintf("#!/bin/sh\necho \"%s $*\" >>/run/called\n", name)
			if err := os.WriteFile(bin+name, []byte(script), 0o755); err != nil {
				return err
			}
		}
		for _, name := range daemons {
			if err := os.WriteFile(bin+name, sleep, 0o755); err != nil {
				return err
			}
		}
		for name, content := range files {
			mode := os.FileMode(0o644)
			if strings.HasPrefix(content, "#!") {
				mode = 0o755
			}
			if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), mode)); err != nil {
				return err
			}
		}
		// Hooks run as nobody.
		if err := os.WriteFile("/run/called", nil, 0o666); err != nil {
			return err
		}
		return os.Chmod("/run/called", 0o666)
	}); err != nil {
		return err
	}
	if err := n.Sysctl("net.ipv4.ping_group_range", "0 2147483647"); err != nil {
		return err
	}
	// A process has to mount it, because the threads of a node are in this process's PID
	// namespace.
	_, err = n.Run(ctx, "mount", "-t", "proc", "proc", "/proc")
	return err
}

// startDaemonOn starts a watched program.
func startDaemonOn(n *lab.Node, name string) (*lab.Process, error) {
	return n.Start("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "/usr/local/bin/"+name, "infinity")
}

func endProcess(ctx context.Context, p *lab.Process) error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	_, err := p.Wait(ctx)
	return err
}

// onHost runs a program on a host.
func onHost(p *twins, h *twin, args ...string) error {
	_, err := h.node.Run(p.ctx, args[0], args[1:]...)
	return err
}

// inFile writes a file of a host.
func inFile(h *twin, path, content string) error {
	return h.node.Do(func() error { return os.WriteFile(path, []byte(content), 0o644) })
}

// listen lets a host accept connections, as its service does.
func (p *twins) listen(h *twin) error {
	return h.node.Do(func() (err error) {
		h.service, err = net.Listen("tcp", p.listens)
		return err
	})
}

func (p *twins) closes(h *twin) error { return h.service.Close() }

// ofSetup returns the file of a set-up for the same hosts, as it is.
func ofSetup(name string) *sameFile {
	i := slices.IndexFunc(setups, func(s setup) bool { return s.name == name })
	s := setups[i]
	f := &sameFile{
		name: name, path: "../../pkg/migrate/testdata/keepalived/" + name + ".conf",
		wires: s.wires, routers: s.watched, back: s.back, programs: s.programs, daemons: s.daemons, files: s.files,
	}
	if s.without != "" {
		f.edits = append(f.edits, change{s.without, ""})
	}
	return f
}
