// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	hostplan "github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/transmit"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// bindRetry is how long to wait before an interface that could not be used is
// tried again.
const bindRetry = 5 * time.Second

// ports follows the interfaces and lets their Virtual Routers take part while
// an interface is up and has an address. All of it happens off the event loop.
type ports struct {
	wait       bool // for interfaces that can't be used yet, from the start on
	dp         *datapath.Datapath
	loop       *router.Loop
	journal    *link.Journal
	handle     *link.Handle
	worker     *link.Worker
	claims     *claims
	log        *logrus.Logger
	exclude    []netip.Addr
	all        []*port
	changes    chan change
	settling   chan chan struct{} // closed when what was known before has been acted on
	conditions *conditions
	guardian   *guardian
	problems   *problems
	members    time.Time     // when memberships were looked at last
	begun      chan struct{} // closed when what was possible at the start is done
	told       func(map[router.ID]view)

	mu    sync.Mutex
	views map[router.ID]view
}

// port is one configured interface.
type port struct {
	name    string // as configured
	mode    datapath.Mode
	routers []*member
	bound   *link.Interface // what it is bound to, nil while it doesn't exist
	conn    *transmit.Conn
	unicast map[packet.Family]*transmit.Datagrams // what sends to peers
	path    datapath.Path
	changed []link.Setting // of the interface, while it is bound
	tried   bool           // to bind; what fails at the start ends the daemon
	failed  error          // the last failure to bind, so that it is logged once
}

// member is one Virtual Router of a port.
type member struct {
	id      router.ID
	config  *config.Router // not to be changed
	running bool
	// equipped says that it has what it needs on the interface that its port is
	// bound to; failed why it hasn't.
	equipped bool
	noted    bool // what it may change on the host is written down
	failed   error
	mac      config.VirtualMAC // the way it has its virtual MAC: never auto
	device   int               // the macvlan with its addresses; 0: they are on the interface
	port     router.Port
	peers    map[netip.Addr]packet.Hops // as the kernel was told
	cause    vrrp.Cause                 // why it isn't running
	detail   string
	priority int    // the effective one
	held     string // what keeps another member of its group from taking part
	auth     auth.Settings
	guard    *auth.Guard // by them; nil without authentication
}

func (ps *ports) byName(name string) *port {
	for _, p := range ps.all {
		if p.name == name {
			return p
		}
	}
	p := &port{name: name}
	ps.all = append(ps.all, p)
	return p
}

// run makes the Virtual Routers of the plan known to the loop and follows the
// interfaces until ctx ends.
func (ps *ports) run(ctx context.Context, monitor *link.Monitor, plan []planned) error {
	if err := ps.apply(plan); err != nil {
		return stopped(err)
	}
	var first sync.Once
	var settled chan struct{}
	for {
		if err := ps.weigh(); err != nil {
			return stopped(err)
		}
		snapshot, begun := monitor.Picture()
		ps.regroup(snapshot)
		// What a port finds out can concern the groups of others.
		for again := true; again; again = ps.regroup(snapshot) {
			for _, p := range ps.all {
				if err := ps.update(p, snapshot); err != nil {
					return stopped(err)
				}
			}
		}
		if err := ps.restore(snapshot, begun); err != nil {
			return stopped(err)
		}
		ps.publish()
		if settled != nil {
			close(settled)
			settled = nil
		}
		first.Do(func() { close(ps.begun) })
		var retry <-chan time.Time
		// Neither waits for the other.
		again, more := ps.keepJournal(), ps.keepMemberships(time.Now())
		if again || more || slices.ContainsFunc(ps.all, (*port).lacks) {
			retry = time.After(bindRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-monitor.Changes():
		case <-ps.conditions.changes:
		case <-retry:
		case settled = <-ps.settling:
		case c := <-ps.changes:
			err := ps.apply(c.plan)
			c.done <- err
			if err != nil {
				return stopped(err)
			}
		}
	}
}

// stopped takes the end of the loop, which is how a daemon leaves, for none.
func stopped(err error) error {
	if errors.Is(err, router.ErrStopped) {
		return nil
	}
	return err
}

// close undoes what binding has changed and releases the sockets. The datapath
// detaches by itself when it closes.
func (ps *ports) close() error {
	var errs []error
	for _, p := range ps.all {
		errs = append(errs, ps.removeDevices(p), p.closeSockets())
	}
	return errors.Join(errs...)
}

// update brings one port to what the snapshot says.
func (ps *ports) update(p *port, snapshot []link.Interface) error {
	now := p.find(snapshot)
	switch {
	case p.bound != nil && (now == nil || now.Index != p.bound.Index):
		if err := ps.unbind(p, vrrp.CauseInterfaceRemoved); err != nil {
			return err
		}
	case p.bound != nil && now.Name != p.bound.Name:
		ps.log.WithFields(logrus.Fields{"interface": p.name, "name": now.Name}).Warn("interface renamed, following it")
		if err := ps.stopAll(p, vrrp.CauseInterfaceRenamed); err != nil {
			return err
		}
		if err := ps.plan(p, *now); err != nil {
			ps.log.WithField("interface", p.name).WithError(err).Error("a run after kill -9 would not find the addresses")
		}
	case p.bound != nil && p.lacksDevice(snapshot):
		// The picture may be older than the device.
		current, err := ps.handle.Interfaces()
		if err != nil || !p.lacksDevice(current) {
			break
		}
		ps.log.WithField("interface", p.name).Error("a macvlan was removed by somebody else, or is no longer as the interface below, starting over")
		if err := ps.unbind(p, vrrp.CauseInterfaceRemoved); err != nil {
			return err
		}
	}
	if now == nil {
		for _, m := range p.routers {
			if m.cause == vrrp.CauseStarting {
				_ = ps.stop(p, m, vrrp.CauseWaiting, "") // it isn't running
			}
		}
		return nil
	}
	if p.bound == nil {
		err := ps.bind(p, *now, snapshot)
		first := !p.tried
		p.tried = true
		if err != nil && first && !ps.wait {
			return fmt.Errorf("interface %s: %w", p.name, err)
		}
		if err != nil {
			if p.failed == nil || p.failed.Error() != err.Error() {
				ps.log.WithField("interface", p.name).WithError(advise(err)).Error("interface can't be used, trying again")
			}
			p.failed = err
			return nil
		}
		p.failed = nil
	}
	p.bound = now
	for _, m := range p.routers {
		if ok, err := ps.ready(p, m, snapshot); err != nil {
			return fmt.Errorf("interface %s: %w", p.name, err)
		} else if !ok {
			continue
		}
		if err := ps.updateMember(p, m, *now); err != nil {
			return err
		}
	}
	return nil
}

// ready equips a Virtual Router if it isn't yet. One that can't be is tried again
// later; without anybody to wait, the error ends the daemon.
func (ps *ports) ready(p *port, m *member, snapshot []link.Interface) (bool, error) {
	if m.equipped {
		return true, nil
	}
	err := ps.equip(p, m, *p.bound, snapshot)
	if err == nil {
		m.equipped, m.failed = true, nil
		return true, nil
	}
	err = errors.Join(err, ps.removeDevice(m))
	if !ps.wait && m.cause == vrrp.CauseStarting {
		return false, err
	}
	if m.failed == nil || m.failed.Error() != err.Error() {
		ps.log.WithFields(fields(m.id)).WithError(advise(err)).Error("router can't start, trying again")
	}
	m.failed, m.cause = err, vrrp.CauseWaiting
	return false, nil
}

// restore puts virtual addresses back that somebody has removed from an Active
// router's interface: a network manager that was restarted, for example.
func (ps *ports) restore(snapshot []link.Interface, begun time.Time) error {
	absent := ps.absent(snapshot)
	if len(absent) == 0 {
		return nil
	}
	assigned, err := ps.loop.Assigned() // a Backup's are absent rightly
	if err != nil {
		return err
	}
	older := false // is the picture than an assignment
	for id := range absent {
		since, is := assigned[id]
		older = older || is && since >= instant(begun)
	}
	if older {
		current, err := ps.handle.Interfaces()
		if err != nil {
			ps.log.WithError(err).Warn("virtual addresses can't be looked after, trying again at the next change")
			return nil
		}
		absent = ps.absent(current)
	}
	for id, a := range absent {
		if _, is := assigned[id]; !is {
			continue
		}
		ps.guardian.restore(id, fmt.Sprintf("address %s on %s", a, id.Interface))
		if err := ps.loop.Restore(id); err != nil {
			return err
		}
	}
	return nil
}

// absent returns the running routers whose addresses aren't all in the picture, each with
// one that isn't.
func (ps *ports) absent(snapshot []link.Interface) map[router.ID]netip.Prefix {
	count := 0
	for _, i := range snapshot {
		count += len(i.Addresses)
	}
	there := make(map[spot]bool, count)
	for _, i := range snapshot {
		for _, a := range i.Addresses {
			there[spot{i.Index, a.Prefix.Addr()}] = true
		}
	}
	found := make(map[router.ID]netip.Prefix)
	for _, p := range ps.all {
		for _, m := range p.routers {
			if !m.running {
				continue
			}
			all := m.config.Assigned(m.id.Family)
			if n := slices.IndexFunc(all, func(a netip.Prefix) bool { return !there[spot{m.on(p.bound), a.Addr()}] }); n >= 0 {
				found[m.id] = all[n]
			}
		}
	}
	return found
}

// lacks reports whether the port or one of its routers has to be tried again.
func (p *port) lacks() bool {
	return p.failed != nil || slices.ContainsFunc(p.routers, func(m *member) bool { return m.failed != nil })
}

// find returns the interface that the port stands for: the device it is bound
// to under whatever name, else the one with the configured name.
func (p *port) find(snapshot []link.Interface) *link.Interface {
	var named *link.Interface
	for n := range snapshot {
		i := &snapshot[n]
		if p.bound != nil && i.Index == p.bound.Index {
			return i
		}
		if i.Name == p.name {
			named = i
		}
	}
	return named
}

// bind opens what a port needs on an interface: before any of its Virtual
// Routers takes part, for attaching XDP may reset a NIC.
func (ps *ports) bind(p *port, i link.Interface, snapshot []link.Interface) error {
	if err := hostplan.Usable(i); err != nil {
		return err
	}
	conn, err := transmit.Open(i.Index)
	if err != nil {
		return fmt.Errorf("open a socket to send: %w", err)
	}
	path, err := ps.dp.Attach(datapath.Link{Index: i.Index, Name: i.Name, Kind: i.Kind, VLANs: link.CarriesVLANs(snapshot, i.Index)}, p.mode, false)
	if err != nil {
		return errors.Join(fmt.Errorf("receive on it: %w", err), conn.Close())
	}
	p.conn, p.path = conn, path
	ps.log.WithFields(logrus.Fields{"interface": i.Name, "receive": path.Kind}).Infof("receiving: %s", path.Why)
	if path.Unfenced != nil {
		ps.log.WithField("interface", i.Name).WithError(path.Unfenced).Warn("if this daemon hangs or is killed, the host goes on answering for its addresses")
	}
	return nil
}

// equip decides how a Virtual Router of a port has its virtual MAC, and makes
// what it needs on the interface.
func (ps *ports) equip(p *port, m *member, i link.Interface, snapshot []link.Interface) error {
	if err := ps.claims.hold(m.id, i.Index); err != nil {
		return err
	}
	// What was checked before may have changed.
	if err := ps.checkHost(p, m, snapshot); err != nil {
		return err
	}
	if err := p.openSocket(m); err != nil {
		return err
	}
	why, err := m.choose(p.path, i)
	if err != nil {
		return err
	}
	if m.mac == config.VirtualMACMacvlan && m.id.Family == packet.IPv4 && p.changed == nil {
		var err error
		if p.changed, err = link.ParentSettings(i.Name, p.path.TC != ""); err != nil {
			return err
		}
	}
	if !m.noted || m.mac == config.VirtualMACMacvlan {
		if err := ps.plan(p, i); err != nil {
			return err
		}
	}
	if m.mac == config.VirtualMACMacvlan {
		if err := ps.addDevice(p, m, i); err != nil {
			return err
		}
	}
	field := ps.log.WithFields(fields(m.id))
	switch m.mac {
	case config.VirtualMACBPF:
		field.Infof("its addresses are at the virtual MAC %s, by TC programs (%s)", m.virtualMAC(), p.path.TC)
	case config.VirtualMACMacvlan:
		field.Infof("its addresses are at the virtual MAC %s, on the macvlan %s", m.virtualMAC(), m.planned(i.Index).Name)
	case config.VirtualMACOff:
		if why != "" {
			field.Warnf("no virtual MAC, its addresses are at the interface's own: %s", why)
		}
		return nil
	}
	return p.conn.Accept(m.virtualMAC())
}

// unequip undoes what equip has made for one Virtual Router.
func (ps *ports) unequip(p *port, m *member) error {
	errs := []error{ps.removeDevice(m)}
	if m.equipped && m.mac != config.VirtualMACOff {
		errs = append(errs, p.conn.Reject(m.virtualMAC()))
	}
	m.equipped, m.failed = false, nil
	return errors.Join(errs...)
}

func (m *member) virtualMAC() packet.MAC { return packet.VirtualMAC(m.id.Family, m.id.VRID) }

// addDevice makes the macvlan of a Virtual Router. For one that needs none, that
// it can't be made is a reason to do without.
func (ps *ports) addDevice(p *port, m *member, i link.Interface) error {
	device, err := ps.handle.AddDevice(m.planned(i.Index), i.Name)
	if err != nil && m.config.VirtualMAC == config.VirtualMACAuto {
		ps.log.WithFields(fields(m.id)).WithError(err).Warn("no macvlan either")
		m.mac = config.VirtualMACOff
		return nil
	}
	if err != nil {
		return err
	}
	m.device = device
	ps.worker.Adopt(device)
	for _, s := range p.changed {
		if err := s.Set(); err != nil {
			return err
		}
	}
	return nil
}

func (ps *ports) removeDevice(m *member) error {
	if m.device == 0 {
		return nil
	}
	err := ps.handle.DeleteDevice(m.device)
	ps.worker.Forget(m.device)
	m.device = 0
	return err
}

// removeDevices undoes what equip has changed on the host.
func (ps *ports) removeDevices(p *port) error {
	var errs []error
	for _, m := range p.routers {
		errs = append(errs, ps.removeDevice(m))
	}
	for _, s := range p.changed {
		_, err := s.Restore()
		errs = append(errs, err)
	}
	p.changed = nil
	return errors.Join(errs...)
}

// lacksDevice reports whether a macvlan of the port is not there.
func (p *port) lacksDevice(snapshot []link.Interface) bool {
	return slices.ContainsFunc(p.routers, func(m *member) bool {
		return m.device != 0 && !slices.ContainsFunc(snapshot, func(i link.Interface) bool {
			return i.Index == m.device && !link.Stale(i, snapshot)
		})
	})
}

// planned is the macvlan of the router on an interface.
func (m *member) planned(ifindex int) link.Device {
	return link.NewDevice(ifindex, m.id.Family, m.id.VRID)
}

// on is the interface that the router's addresses are put on.
func (m *member) on(i *link.Interface) int {
	if m.device != 0 {
		return m.device
	}
	return i.Index
}

// settleWithin bounds how long a reload waits for what it removes.
const settleWithin = time.Second

// plan writes down what may be changed on the host for a port.
func (ps *ports) plan(p *port, i link.Interface) error {
	return ps.written(p, ps.journal.Set(p.name, p.changes(i)))
}

// planMore does so beside what was written down before, and reports whether that
// was more: then something is to be removed.
func (ps *ports) planMore(p *port, i link.Interface) (more bool, err error) {
	more, err = ps.journal.Add(p.name, p.changes(i))
	return more, ps.written(p, err)
}

// changes are what may be changed on the host for a port.
func (p *port) changes(i link.Interface) (changes link.Changes) {
	for _, m := range p.routers {
		if m.mac == config.VirtualMACMacvlan {
			changes.Devices = append(changes.Devices, m.planned(i.Index))
		}
		// Also beside a macvlan, without which they are on the interface.
		for _, a := range m.config.Assigned(m.id.Family) {
			changes.Addresses = append(changes.Addresses, link.JournalAddress{Ifindex: i.Index, Name: i.Name, Prefix: a})
		}
		routing := m.routing()
		changes.Placed = append(changes.Placed, routing.Placed...)
		changes.Routes = append(changes.Routes, routing.Routes...)
		changes.Rules = append(changes.Rules, routing.Rules...)
	}
	changes.Interfaces = []link.Identity{i.Identity()}
	changes.Settings = p.changed
	return changes
}

func (ps *ports) written(p *port, err error) error {
	if err != nil && (!errors.Is(err, link.ErrNoRoom) || p.path.Unfenced != nil) {
		return fmt.Errorf("write down what will be changed: %w", err)
	}
	// Only what is written down is put on the host, or what the fence holds back if
	// this daemon is killed.
	for _, m := range p.routers {
		m.noted = true
		ps.worker.Route(m.id, m.routing())
	}
	return nil
}

func (ps *ports) unbind(p *port, cause vrrp.Cause) error {
	err := ps.stopAll(p, cause)
	for _, m := range p.routers {
		if e := ps.dp.DeleteRouter(m.key(p.bound.Index)); e != nil {
			ps.log.WithField("interface", p.name).WithError(e).Warn("forget a virtual router in the kernel")
		}
	}
	if e := ps.removeDevices(p); e != nil {
		ps.log.WithField("interface", p.name).WithError(e).Warn("remove a macvlan")
	}
	// If the device is gone, what was attached to it is too.
	if e := ps.dp.Detach(p.bound.Index); e != nil {
		ps.log.WithField("interface", p.name).WithError(e).Warn("detach from the interface")
	}
	if e := p.closeSockets(); e != nil {
		ps.log.WithField("interface", p.name).WithError(e).Warn("close the sockets of the interface")
	}
	for _, m := range p.routers {
		m.equipped, m.noted, m.failed = false, false, nil
		ps.claims.release(m.id)
	}
	p.bound, p.conn, p.path = nil, nil, datapath.Path{}
	return err
}

func (ps *ports) stopAll(p *port, cause vrrp.Cause) error {
	for _, m := range p.routers {
		if err := ps.stop(p, m, cause, ""); err != nil {
			return err
		}
	}
	return nil
}

func (m *member) key(ifindex int) datapath.Key {
	return datapath.Key{Ifindex: ifindex, Family: m.id.Family, VRID: m.id.VRID}
}

// updateMember starts or stops one Virtual Router as its interface allows.
func (ps *ports) updateMember(p *port, m *member, i link.Interface) error {
	from := ps.source(m, i)
	cause, detail := ps.obstacle(m, i, from)
	switch {
	case cause != vrrp.CauseNone:
	case m.held != "":
		cause, detail = vrrp.CauseGroup, m.held
	case m.running && from != m.port.Source:
		cause = vrrp.CauseAddressChanged
	}
	if cause != vrrp.CauseNone {
		if err := ps.stop(p, m, cause, detail); err != nil {
			return err
		}
		if cause != vrrp.CauseAddressChanged {
			return nil
		}
	}
	want := router.Port{
		Ifindex: i.Index, Device: m.device, MAC: i.MAC, VirtualMAC: m.mac != config.VirtualMACOff, Source: from, Transmitter: p.conn,
	}
	if m.config.Unicast.On() {
		want.Unicast = p.unicast[m.id.Family]
	}
	if m.running {
		if !maps.Equal(m.hops(i), m.peers) { // a network of the interface is new, or gone
			if err := ps.setRouter(p, m, true, from); err != nil {
				ps.log.WithFields(fields(m.id)).WithError(err).Error("tell the kernel of the virtual router")
			}
		}
		if want == m.port {
			return nil
		}
		m.port = want
		return ps.loop.Rebind(m.id, want)
	}
	if err := ps.setRouter(p, m, true, from); err != nil {
		ps.log.WithFields(fields(m.id)).WithError(err).Error("tell the kernel of the virtual router")
	}
	m.running, m.port = true, want
	return ps.loop.Start(m.id, want, comeback(m.cause))
}

// source is the address that a router sends from.
func (ps *ports) source(m *member, i link.Interface) netip.Addr {
	if m.running && usable(i, m.port.Source) && m.suits(m.port.Source) {
		return m.port.Source // constant while it can be (RFC 9568 §1.7)
	}
	return source(*m.config, i, m.id.Family, ps.exclude)
}

// obstacle is what keeps a router by itself from taking part on an interface.
func (ps *ports) obstacle(m *member, i link.Interface, from netip.Addr) (vrrp.Cause, string) {
	fault := ps.conditions.fault(m.config.Name)
	switch {
	case !i.Up || !i.Running:
		return vrrp.CauseInterfaceDown, ""
	case !from.IsValid():
		return vrrp.CauseNoAddress, ""
	}
	return fault.cause, fault.detail
}

// comeback is why a router starts that had stopped for the cause.
func comeback(stopped vrrp.Cause) vrrp.Cause {
	switch stopped {
	case vrrp.CauseWaiting:
		return vrrp.CauseStarting
	case vrrp.CauseInterfaceDown:
		return vrrp.CauseInterfaceUp
	case vrrp.CauseInterfaceRemoved:
		return vrrp.CauseInterfaceBack
	case vrrp.CauseNoAddress:
		return vrrp.CauseAddressBack
	case vrrp.CauseFault, vrrp.CauseGroup:
		return vrrp.CauseRecovered
	case vrrp.CauseMaintenance:
		return vrrp.CauseMaintained
	}
	return stopped
}

func (ps *ports) stop(p *port, m *member, cause vrrp.Cause, detail string) error {
	if !m.running {
		if m.cause != cause || m.detail != detail {
			m.cause, m.detail = cause, detail
			ps.log.WithFields(fields(m.id)).Infof("waiting: %s", m.why())
		}
		return nil
	}
	m.running, m.cause, m.detail = false, cause, detail
	if err := ps.loop.Stop(m.id, cause, detail); err != nil {
		return err
	}
	if err := ps.setRouter(p, m, false, m.port.Source); err != nil {
		ps.log.WithFields(fields(m.id)).WithError(err).Error("tell the kernel of the virtual router")
	}
	return nil
}

// why says why a router isn't running.
func (m *member) why() string {
	if m.detail != "" {
		return m.detail
	}
	return m.cause.String()
}

// weigh gives each Virtual Router the priority that its surroundings ask for. It
// stays in its state.
func (ps *ports) weigh() error {
	for _, p := range ps.all {
		for _, m := range p.routers {
			priority := ps.conditions.priority(*m.config)
			if priority == m.priority {
				continue
			}
			ps.log.WithFields(fields(m.id)).Infof("priority %d instead of %d", priority, m.priority)
			m.priority = priority
			if m.running {
				if err := ps.setRouter(p, m, true, m.port.Source); err != nil {
					ps.log.WithFields(fields(m.id)).WithError(err).Error("tell the kernel of the virtual router")
				}
			}
			if err := ps.loop.Update(loopConfig(m)); err != nil {
				return err
			}
		}
	}
	return nil
}

// protocol is the state machine's configuration, with the effective priority.
func (m *member) protocol() vrrp.Config {
	c := m.config.Protocol(m.id.Family)
	c.Priority = uint8(m.priority)
	return c
}

func (ps *ports) setRouter(p *port, m *member, running bool, from netip.Addr) error {
	protocol := m.protocol()
	tolerate := m.config.Tolerate.Tolerance
	tolerate.AuthTrailer, tolerate.AuthHeader = m.auth.Type == auth.HMAC, m.auth.Type == auth.Header
	var verifier datapath.Verifier
	if m.guard != nil {
		verifier = authenticator{m.guard}
	}
	m.peers = m.hops(*p.bound)
	return ps.dp.SetRouter(m.key(p.bound.Index), datapath.Router{
		Version:  protocol.Version,
		Dual:     protocol.Dual,
		Source:   from,
		Running:  running,
		Heed:     protocol.Heed(),
		Priority: protocol.Priority,
		Forms:    protocol.Forms(),
		Tolerate: tolerate,
		Verifier: verifier,
		Peers:    m.peers,

		DropUnchanged: m.config.Unchanged == config.Drop,

		Addresses:  append(protocol.Addresses, addrs(m.config.Extras(m.id.Family))...),
		Owner:      m.config.Priority == config.OwnerPriority,
		VirtualMAC: m.mac != config.VirtualMACOff,
		Device:     m.device != 0,
		Accept:     m.config.Accept,
	})
}

func addrs(prefixes []netip.Prefix) (all []netip.Addr) {
	for _, p := range prefixes {
		all = append(all, p.Addr())
	}
	return all
}

func fields(id router.ID) logrus.Fields {
	f := logrus.Fields{"interface": id.Interface}
	if id.VRID != 0 {
		f["vrid"], f["family"] = id.VRID, id.Family.String()
	}
	return f
}
