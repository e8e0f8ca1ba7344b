// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/control"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/observe"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/vrrp"
	"github.com/failoverd/failoverd/tools/lab"
)

const (
	// patience is the longest time that anything may take on a busy machine.
	patience = 60 * time.Second
	// rigAddress is the address of a rig's interface.
	rigAddress = "198.18.0.1/24"
)

// rig is a host in namespaces of its own with a keeper. Everything on it is real: the kernel's
// interfaces, the BPF programs, the event loop and the journal.
type rig struct {
	*keeper
	t       *testing.T
	lan     *lab.LAN
	node    *lab.Node
	port    *lab.Port
	dir     string // of the journal
	journal *link.Journal
	dp      *datapath.Datapath
	lines   *lines
	causes  causes
	before  string // the host's state at the start
	waits   bool
	wanted  *plan.Plan

	ended    chan struct{} // closed when run has returned
	err      error         // of run
	leave    func()        // ends the loop and run
	finished sync.Once
}

// lines collects the log.
type lines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// causes collects the causes of transitions.
type causes struct {
	mu  sync.Mutex
	all []vrrp.Cause
}

func (c *causes) Transition(t router.Transition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, t.Cause)
}

func (*causes) Finding(router.Finding) {}
func (*causes) Failure(router.Failure) {}

func (c *causes) has(one vrrp.Cause) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.all, one)
}

// newRig makes a host with eth0 on a network of its own. Nothing runs on it yet.
func newRig(t *testing.T) *rig {
	t.Helper()
	lan, err := lab.ForTest(t).LAN("lan")
	if err != nil {
		t.Fatal(err)
	}
	port, err := lan.Host("host", "eth0", rigAddress, "fe80::1/64")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, lan: lan, node: port.Node, port: port, dir: filepath.Join(t.TempDir(), "run"), lines: &lines{}, ended: make(chan struct{}), waits: true}
	r.before = r.host()
	return r
}

// start makes and runs the parts with a configuration.
func (r *rig) start(routers string) *rig {
	r.t.Helper()
	r.make()
	r.run(routers)
	return r
}

// make makes the parts, as Run does.
func (r *rig) make() {
	r.t.Helper()
	if err := r.node.Do(r.parts); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) parts() error {
	log := logrus.New()
	log.SetOutput(r.lines)
	log.SetLevel(logrus.DebugLevel)
	monitor, err := link.NewMonitor()
	if err != nil {
		return err
	}
	r.t.Cleanup(monitor.Close)
	handle, err := link.NewHandle()
	if err != nil {
		return err
	}
	r.t.Cleanup(handle.Close)
	looking, err := link.NewHandle()
	if err != nil {
		return err
	}
	r.t.Cleanup(looking.Close)
	if r.dp, err = datapath.Load(datapath.Options{Dir: DefaultBPFDir}); err != nil {
		return err
	}
	r.t.Cleanup(func() { _ = r.node.Do(r.dp.Close) })
	if err := errors.Join(r.dp.Unavailable(), r.dp.Unpinned()); err != nil {
		return err
	}
	if r.journal, err = link.OpenJournal(r.dir); err != nil {
		return err
	}
	r.t.Cleanup(func() { _ = r.journal.Close() })
	history := control.NewHistory()
	restorations := observe.NewRestorations(log, history)
	worker := link.NewWorker(handle, restorations.Report, func(routing.Placed, bool) {})
	loop := router.New(process.Clock{}, newPackets(r.dp, func() (realtime, bound bool) { return false, false }), addresses{worker}, leases{r.dp}, &r.causes)
	guards := &guards{all: make(map[plan.ID]guardEntry)}
	hosts := &interfaces{monitor: monitor, handle: looking, worker: worker, log: log, created: make(map[link.Device]bool)}
	ports := &sockets{dp: r.dp, interfaces: hosts, log: log, open: make(map[string]*port), subscriptions: make(map[plan.ID]plan.Subscription), filters: make(map[plan.ID]int)}
	heirs := &heirs{dp: r.dp, interfaces: hosts, log: log, all: make(map[plan.ID]*plan.Heir)}
	executors := &executors{
		heirs:  heirs,
		claims: &claims{held: make(map[plan.ID]claim)}, interfaces: hosts, sockets: ports, guards: guards,
		settings: &settings{interfaces: hosts, ports: ports},
		entries:  &entries{dp: r.dp, guards: guards, all: make(map[plan.ID]*plan.Entry)},
		routers:  &loopRouters{heirs: heirs, loop: loop, worker: worker, sockets: ports, guards: guards, restorations: restorations, log: log, logged: make(map[plan.ID]*logged), all: make(map[plan.ID]*plan.LoopState)},
		notes:    &notes{journal: r.journal, interfaces: hosts, sockets: ports, all: make(map[plan.Note]bool)},
	}
	r.t.Cleanup(executors.claims.close)
	problems := observe.NewProblems(log, history, observe.NewLogBudget())
	r.keeper = newKeeper(executors, monitor, loop, newConditions(), problems, newHookQueue(), r.waits, log)
	return nil
}

// run runs the parts. Anything that they leave on the host at the end fails the test.
func (r *rig) run(routers string) {
	r.t.Helper()
	r.wanted = plan.New(r.parse(routers), nil)
	main, leave := context.WithCancel(context.Background())
	support, stop := context.WithCancel(context.Background())
	r.leave = leave
	var parts sync.WaitGroup
	parts.Go(func() { r.check(r.monitor.Run(support)) })
	parts.Go(func() { r.check(r.executors.routers.worker.Run(support)) })
	var loop sync.WaitGroup
	loop.Go(func() { r.check(r.loop.Run(main)) })
	wanted := r.wanted
	go func() {
		defer close(r.ended)
		r.err = r.node.Beside(func() error { return r.keeper.run(main, wanted, func(map[router.ID]details) {}) })
		leave()
		loop.Wait()
		stop()
		parts.Wait()
	}()
	r.t.Cleanup(r.finish)
}

func (r *rig) check(err error) {
	if err != nil {
		r.t.Error(err)
	}
}

// finish stops the keeper, and checks that the host is as it was before.
func (r *rig) finish() {
	r.finished.Do(func() {
		r.leave()
		<-r.ended
		r.check(r.err)
		undone := false
		r.check(r.node.Do(func() (err error) { undone, err = r.close(); return err }))
		if !undone {
			r.t.Errorf("the journal still has: %v", r.executors.notes.all)
		}
		r.check(r.journal.Remove())
		if left, err := filepath.Glob(filepath.Join(r.dir, "*")); err != nil || len(left) > 0 {
			r.t.Error("left in the run directory: ", left, err)
		}
		if now := r.host(); r.before != "" && now != r.before {
			r.t.Errorf("missing on the host: %q; new: %q", newLines(now, r.before), newLines(r.before, now))
		}
		if r.t.Failed() {
			r.t.Log("\n" + r.lines.String())
		}
	})
}

// parse reads routers, one on each line in YAML's flow style.
func (r *rig) parse(routers string) []*plan.ConfiguredRouter {
	r.t.Helper()
	return parseRouters(r.t, routers)
}

func parseRouters(t *testing.T, routers string) []*plan.ConfiguredRouter {
	t.Helper()
	f := parseFile(t, routers)
	made, err := plan.Complete(f.Routers)
	if err == nil {
		err = readSecrets(made, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func parseFile(t *testing.T, routers string) *config.File {
	t.Helper()
	text := "routers:\n"
	for line := range strings.Lines(strings.TrimSpace(routers)) {
		text += "  - " + strings.TrimSpace(line) + "\n"
	}
	f, err := config.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// reload gives the keeper another configuration.
func (r *rig) reload(routers string) {
	r.t.Helper()
	var made []*plan.ConfiguredRouter
	if routers != "" {
		made = r.parse(routers)
	}
	r.wanted = plan.New(made, r.wanted)
	done := make(chan error, 1)
	select {
	case r.changes <- change{r.wanted, done}:
	case <-r.ended:
		r.t.Fatal("the keeper has ended: ", r.err)
	}
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
}

// settle waits until the keeper has acted on all earlier conditions.
func (r *rig) settle() {
	r.t.Helper()
	done := make(chan struct{})
	r.settling <- done
	<-done
}

// until waits until a condition holds.
func (r *rig) until(what string, is func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		select {
		case <-r.ended:
			r.t.Fatalf("%s: the keeper has ended: %v", what, r.err)
		default:
		}
		if time.Now().After(end) {
			r.t.Fatalf("this never happened: %s; new on the host: %q", what, newLines(r.before, r.host()))
		}
	}
}

// must ends the test if a change of the host fails.
func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func v4(vrid uint8) router.ID { return router.ID{Interface: "eth0", Family: packet.IPv4, VRID: vrid} }

func v6(vrid uint8) router.ID { return router.ID{Interface: "eth0", Family: packet.IPv6, VRID: vrid} }

// state returns the state of a Virtual Router.
func (r *rig) state(id router.ID) vrrp.State {
	s, ok, err := r.loop.StatusOf(id)
	if err != nil || !ok {
		return vrrp.Initialize
	}
	return s.Protocol.State
}

// active waits until Virtual Routers are Active and have their addresses.
func (r *rig) active(all ...router.ID) {
	r.t.Helper()
	for _, id := range all {
		r.until(id.String()+" is Active", func() bool {
			s, ok, err := r.loop.StatusOf(id)
			return err == nil && ok && s.Protocol.State == vrrp.Active && s.Assigned && r.allDetails()[id].running
		})
	}
}

// backup waits until a Virtual Router takes part and is Backup.
func (r *rig) backup(id router.ID) {
	r.t.Helper()
	r.until(id.String()+" is Backup", func() bool { return r.state(id) == vrrp.Backup })
}

// waiting waits until a Virtual Router takes no part, and its reason contains text.
func (r *rig) waiting(id router.ID, text string) {
	r.t.Helper()
	r.until(id.String()+" waits: "+text, func() bool {
		v, ok := r.allDetails()[id]
		return ok && !v.running && strings.Contains(v.waiting, text) && r.state(id) == vrrp.Initialize
	})
}

// has waits until an interface has addresses, and lacks until it doesn't have them.
func (r *rig) has(name string, addresses ...string) {
	r.t.Helper()
	for _, a := range addresses {
		r.until(name+" has "+a, func() bool { return slices.Contains(r.addresses(name), netip.MustParsePrefix(a)) })
	}
}

func (r *rig) lacks(name string, addresses ...string) {
	r.t.Helper()
	for _, a := range addresses {
		r.until(name+" doesn't have "+a, func() bool { return !slices.Contains(r.addresses(name), netip.MustParsePrefix(a)) })
	}
}

func (r *rig) addresses(name string) []netip.Prefix {
	all, err := r.node.Addresses(name)
	r.must(err)
	return all
}

// logs waits until the log contains a text.
func (r *rig) logs(text string) {
	r.t.Helper()
	r.until("the log says "+text, func() bool { return strings.Contains(r.lines.String(), text) })
}

// macvlans returns the names of the host's macvlans.
func (r *rig) macvlans() (names []string) {
	all, err := r.node.Netlink().LinkList()
	r.must(err)
	for _, l := range all {
		if l.Type() == "macvlan" {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

// host returns the state of the host as lines: addresses, macvlans, settings, routes and rules.
func (r *rig) host() string {
	all := make(map[string]bool)
	h := r.node.Netlink()
	links, err := h.LinkList()
	r.must(err)
	for _, l := range links {
		name := l.Attrs().Name
		all[fmt.Sprintf("interface %s %s %s", name, l.Type(), l.Attrs().HardwareAddr)] = true
		for _, a := range r.addresses(name) {
			all[fmt.Sprintf("address %s on %s", a, name)] = true
		}
	}
	routes, err := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: 112}, netlink.RT_FILTER_PROTOCOL)
	r.must(err)
	for _, route := range routes {
		all[fmt.Sprint("route ", route)] = true
	}
	rules, err := h.RuleList(netlink.FAMILY_ALL)
	r.must(err)
	for _, rule := range rules {
		all[fmt.Sprint("rule ", rule)] = true
	}
	r.must(r.node.Do(func() error {
		files, err := filepath.Glob("/proc/sys/net/ipv[46]/conf/eth0/*")
		for _, f := range files {
			if value, err := os.ReadFile(f); err == nil {
				all[f+" = "+strings.TrimSpace(string(value))] = true
			}
		}
		return err
	}))
	return strings.Join(slices.Sorted(maps.Keys(all)), "\n")
}

// newLines returns the lines that are in one text and not in the other.
func newLines(before, after string) (all []string) {
	for line := range strings.Lines(after) {
		if line = strings.TrimSuffix(line, "\n"); !strings.Contains(before+"\n", line+"\n") {
			all = append(all, line)
		}
	}
	return all
}
