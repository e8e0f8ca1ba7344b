// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/observe"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/reconcile"
	"github.com/failoverd/failoverd/pkg/router"
	"github.com/failoverd/failoverd/pkg/routing"
	"github.com/failoverd/failoverd/pkg/transmit"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// each carries out steps one by one.
func each(steps []*reconcile.Step, do func(*reconcile.Step) error) []error {
	errs := make([]error, len(steps))
	for i := range steps {
		errs[i] = do(steps[i])
	}
	return errs
}

// installed returns the entry of a picture for a Virtual Router, and adds it if it is missing.
func installed(p *plan.Picture, id plan.ID) *plan.Installed {
	m := p.Installed[id]
	if m == nil {
		m = &plan.Installed{}
		p.Installed[id] = m
	}
	return m
}

// interfaces is the executor for the host's interfaces: it lists them with their addresses, and
// creates and deletes macvlans.
type interfaces struct {
	monitor *link.Monitor
	handle  *link.Handle
	worker  *link.Worker
	log     *logrus.Logger

	all         []link.Interface // the last list
	listedSince vrrp.Instant     // when reading that list began
	stale       bool             // a step has changed the interfaces since
	created     map[link.Device]bool
}

func (h *interfaces) Look(want *plan.Target, p *plan.Picture) error {
	all, at := h.monitor.Picture()
	begun := process.Instant(at)
	switch {
	case h.stale: // the monitor may not have seen the change yet
		generations := make(map[int]int, len(all))
		for i := range all {
			generations[all[i].Index] = all[i].Generation
		}
		begun = process.Clock{}.Now()
		var err error
		if all, err = h.handle.Interfaces(); err != nil {
			return fmt.Errorf("list the interfaces: %w", err)
		}
		for i := range all {
			all[i].Generation = generations[all[i].Index]
		}
		h.stale = false
	case begun < h.listedSince:
		all, begun = h.all, h.listedSince
	}
	h.all, h.listedSince = all, begun
	p.Interfaces, p.ListedSince = all, begun
	for _, r := range h.worker.Held() {
		for _, n := range r.Placed {
			p.Held[n] = true
		}
		for _, n := range r.Routes {
			p.Held[n] = true
		}
		for _, n := range r.Rules {
			p.Held[n] = true
		}
	}
	return nil
}

func (h *interfaces) name(ifindex int) string {
	for i := range h.all {
		if h.all[i].Index == ifindex {
			return h.all[i].Name
		}
	}
	return ""
}

// invalidate notes that a step has changed the interfaces. From now on Look doesn't trust a list
// that the monitor read before the change.
func (h *interfaces) invalidate() { h.stale = true }

func (h *interfaces) Do(steps []*reconcile.Step) []error {
	defer h.invalidate()
	return each(steps, func(s *reconcile.Step) error {
		switch s.Verb {
		case reconcile.Make:
			if h.created[s.Device] {
				h.log.WithField("interface", s.PortName).Errorf("another program removed the macvlan %s, or the kernel did because the MTU became too small; creating it again", s.Device.Name)
			}
			index, err := h.handle.AddDevice(s.Device, h.name(s.Device.Parent))
			if err != nil {
				return err
			}
			h.worker.Adopt(index)
			h.created[s.Device] = true
		case reconcile.Unmake:
			if err := h.handle.DeleteDevice(s.Ifindex); err != nil {
				return err
			}
			h.worker.Forget(s.Ifindex)
			delete(h.created, s.Device)
		case reconcile.Withdraw:
			h.log.WithField("interface", h.name(s.Ifindex)).Warnf("removing the leftover address %s", s.Prefix)
			return h.handle.Release(s.Ifindex, []netip.Prefix{s.Prefix})
		}
		return nil
	})
}

// settings is the executor for the sysctl settings of interfaces that macvlans are on top of.
type settings struct {
	interfaces *interfaces
	ports      *sockets
}

func (h *settings) Look(want *plan.Target, p *plan.Picture) error {
	for n := range p.Journal {
		if s, is := n.(link.Setting); is {
			if now, ok := h.current(s); ok {
				value, err := link.ReadSetting(now.Path)
				// A renamed interface has the old name in the list for a moment. The path is wrong
				// then, but the setting is still in place, and its note must stay in the journal.
				p.AppliedSettings[s] = err != nil || value == s.Value
			}
		}
	}
	if want == nil {
		return nil
	}
	for name := range want.MacvlanParents {
		open := h.ports.open[name]
		if open == nil {
			continue
		}
		lacking, err := link.ParentSettings(open.Ifindex, h.interfaces.name(open.Ifindex), open.path.TC != "")
		if err != nil {
			continue // the interface has just disappeared
		}
		p.MissingSettings[name] = lacking
	}
	return nil
}

// current returns a setting with the present name of its interface; false if the interface is
// gone.
func (h *settings) current(s link.Setting) (link.Setting, bool) {
	if s.Ifindex == 0 {
		return s, true
	}
	name := h.interfaces.name(s.Ifindex)
	return s.On(name), name != ""
}

// drifted reports whether another program has changed a setting in the journal.
func (h *settings) drifted(notes map[plan.Note]bool) bool {
	for n := range notes {
		if s, is := n.(link.Setting); is {
			if now, ok := h.current(s); ok {
				if value, err := link.ReadSetting(now.Path); err == nil && value != s.Value {
					return true
				}
			}
		}
	}
	return false
}

func (h *settings) Do(steps []*reconcile.Step) []error {
	return each(steps, func(s *reconcile.Step) error {
		now, ok := h.current(s.Setting)
		switch {
		case !ok:
			return nil
		case s.Verb == reconcile.Set:
			return now.Set()
		}
		_, err := now.Restore()
		return err
	})
}

// sockets is the executor for the ports, which receive and send on interfaces.
type sockets struct {
	dp         *datapath.Datapath
	interfaces *interfaces
	log        *logrus.Logger

	open          map[string]*port
	subscriptions map[plan.ID]plan.Subscription
	filters       map[plan.ID]int
}

// port is an open port with its sockets.
type port struct {
	plan.OpenPort
	mtu     int
	conn    *transmit.Conn
	unicast map[packet.Family]*transmit.Datagrams // sockets to the unicast peers
	path    datapath.Path
}

func (h *sockets) Look(_ *plan.Target, p *plan.Picture) error {
	for name, open := range h.open {
		open.Lost = h.dp.Lost(open.Ifindex)
		p.Ports[name] = open.OpenPort
	}
	for id, hears := range h.subscriptions {
		installed(p, id).Subscription = hears
	}
	for id, ifindex := range h.filters {
		installed(p, id).Filter = ifindex
	}
	return nil
}

func (h *sockets) Do(steps []*reconcile.Step) []error {
	return each(steps, func(s *reconcile.Step) error {
		switch s.Verb {
		case reconcile.Open:
			return h.openPort(s)
		case reconcile.Close:
			return h.closePort(s.PortName)
		case reconcile.Subscribe:
			return h.subscribe(s)
		case reconcile.Unsubscribe:
			return h.unsubscribe(s)
		case reconcile.Accept:
			if err := h.open[s.PortName].conn.Accept(packet.VirtualMAC(s.ID.Family, s.ID.VRID)); err != nil {
				return err
			}
			h.filters[s.ID] = s.Ifindex
		case reconcile.Reject:
			if open := h.open[s.PortName]; open != nil && h.interfaces.name(s.Ifindex) != "" {
				if err := open.conn.Reject(packet.VirtualMAC(s.ID.Family, s.ID.VRID)); err != nil {
					return err
				}
			}
			delete(h.filters, s.ID)
		}
		return nil
	})
}

// openPort opens a port. That comes before any of its Virtual Routers takes part, because
// attaching XDP may reset a NIC.
func (h *sockets) openPort(s *reconcile.Step) error {
	n := slices.IndexFunc(h.interfaces.all, func(i link.Interface) bool { return i.Index == s.Port.Ifindex })
	if n < 0 {
		return fmt.Errorf("interface %s is gone", s.Port.Name)
	}
	i := &h.interfaces.all[n]
	conn, err := transmit.Open(i.Index)
	if err != nil {
		return fmt.Errorf("open the sending socket: %w", err)
	}
	path, err := h.dp.Attach(attachable(*i, h.interfaces.all), datapath.Mode(s.Port.Mode), false)
	if err != nil {
		return errors.Join(fmt.Errorf("attach the receiving programs: %w", err), conn.Close())
	}
	h.open[s.PortName] = &port{OpenPort: plan.OpenPort{Port: s.Port, TC: path.TC, Unfenced: path.Unfenced}, mtu: i.MTU, conn: conn, path: path, unicast: make(map[packet.Family]*transmit.Datagrams)}
	log := h.log.WithField("interface", s.PortName)
	log.WithField("receive", path.Kind).Infof("receiving: %s", path.Why)
	if path.Unfenced != nil {
		log.WithError(path.Unfenced).Warn("no fence: if this daemon hangs or is killed, the host keeps answering for the virtual addresses")
	}
	return nil
}

func (h *sockets) closePort(name string) error {
	open := h.open[name]
	// The kernel has already detached the programs if the device is gone.
	err := h.dp.Detach(open.Ifindex)
	if err != nil && h.interfaces.name(open.Ifindex) != "" {
		return fmt.Errorf("detach the receiving programs: %w", err)
	}
	for _, d := range open.unicast {
		err = errors.Join(err, d.Close())
	}
	if err = errors.Join(err, open.conn.Close()); err != nil {
		h.log.WithField("interface", name).WithError(err).Debug("closed")
	}
	delete(h.open, name)
	return nil
}

// subscribe starts to receive advertisements for a Virtual Router: it joins the multicast group,
// or opens a socket for the unicast peers.
func (h *sockets) subscribe(s *reconcile.Step) error {
	open, f := h.open[s.PortName], s.ID.Family
	switch {
	case !s.Subscription.Unicast:
		if err := open.conn.Join(f); err != nil {
			return fmt.Errorf("join the %s group: %w", f, err)
		}
	case open.unicast[f] == nil:
		d, err := transmit.OpenDatagrams(open.Ifindex, f)
		if err != nil {
			return fmt.Errorf("open a socket for the unicast peers: %w", err)
		}
		open.unicast[f] = d
	}
	h.subscriptions[s.ID] = s.Subscription
	return nil
}

// unsubscribe closes the socket for the unicast peers when the last router that needs it goes. A
// membership ends only with its port.
func (h *sockets) unsubscribe(s *reconcile.Step) error {
	delete(h.subscriptions, s.ID)
	open := h.open[s.PortName]
	if open == nil || !s.Subscription.Unicast {
		return nil
	}
	for id, o := range h.subscriptions {
		if id.Interface == s.PortName && id.Family == s.ID.Family && o.Unicast {
			return nil
		}
	}
	d := open.unicast[s.ID.Family]
	if d == nil {
		return nil
	}
	delete(open.unicast, s.ID.Family)
	return d.Close()
}

// rejoin renews the memberships that the kernel has ended, which happens when an MTU was too
// small for a moment.
func (h *sockets) rejoin() error {
	for _, f := range []packet.Family{packet.IPv4, packet.IPv6} {
		members, err := transmit.Members(f)
		if err != nil {
			return err
		}
		for name, open := range h.open {
			if !open.conn.Wants(f) || members[open.Ifindex] {
				continue
			}
			if err := open.conn.Rejoin(f); err != nil { // the MTU is still too small
				h.log.WithField("interface", name).WithError(err).Debug("could not join the group again")
				continue
			}
			h.log.WithField("interface", name).Warnf("the kernel had ended the membership in %s, joined it again", f.Group())
		}
	}
	return nil
}

// entries is the executor for the Virtual Routers in the BPF maps.
type entries struct {
	dp     *datapath.Datapath
	guards *guards
	all    map[plan.ID]*plan.Entry
}

func (h *entries) Look(_ *plan.Target, p *plan.Picture) error {
	for id, e := range h.all {
		installed(p, id).Entry = e
	}
	return nil
}

func keyOf(id plan.ID, ifindex int) packet.Key {
	return packet.Key{Ifindex: ifindex, Family: id.Family, VRID: id.VRID}
}

func (h *entries) Do(steps []*reconcile.Step) []error {
	if steps[0].Verb == reconcile.Fence {
		return h.set(steps)
	}
	return each(steps, func(s *reconcile.Step) error {
		if err := h.dp.DeleteRouter(keyOf(s.ID, s.Entry.Ifindex)); err != nil {
			return fmt.Errorf("remove the virtual router from the BPF maps: %w", err)
		}
		delete(h.all, s.ID)
		return nil
	})
}

func (h *entries) set(steps []*reconcile.Step) []error {
	keys, routers := make([]packet.Key, len(steps)), make([]datapath.Router, len(steps))
	for n, s := range steps {
		keys[n], routers[n] = keyOf(s.ID, s.Entry.Ifindex), h.datapathRouter(s.Entry)
	}
	errs := h.dp.SetRouters(keys, routers)
	for n, s := range steps {
		if errs[n] != nil {
			errs[n] = fmt.Errorf("add the virtual router to the BPF maps: %w", errs[n])
			continue
		}
		h.all[s.ID] = s.Entry
	}
	return errs
}

// restoreDeleted restores entries of the BPF maps that another program has deleted.
func (h *entries) restoreDeleted(restored func(plan.ID, string)) error {
	err := h.dp.RestoreDeleted()
	for k, missing := range h.dp.Restored() {
		for id, e := range h.all {
			if keyOf(id, e.Ifindex) == k {
				restored(id, strings.Join(missing, ", "))
			}
		}
	}
	return err
}

// datapathRouter converts an entry to the datapath's type.
func (h *entries) datapathRouter(e *plan.Entry) datapath.Router {
	v := e.V
	c := &v.Router.Router
	protocol := protocolOf(v, e.Priority, nil)
	tolerate := c.Tolerate.Tolerance
	tolerate.AuthTrailer, tolerate.AuthHeader = v.Router.Auth.Type == auth.HMAC, v.Router.Auth.Type == auth.Header
	tolerate.AnyFirstAddress = tolerate.AnyFirstAddress || c.AsWritten
	tolerate.NoAddress = len(c.Addresses) == 0
	r := datapath.Router{
		Version: protocol.Version, Dual: protocol.Dual, Source: e.Source, Running: e.Running, MinPriority: protocol.MinPriority(), Priority: protocol.Priority,
		Forms: protocol.Forms(), Tolerate: tolerate, Peers: e.Peers, DropUnchanged: c.Unchanged == config.Drop,
		Addresses: e.Addresses, Owner: c.OwnsAddresses(), VirtualMAC: e.MACMode != config.VirtualMACOff, Device: e.MACMode == config.VirtualMACMacvlan, Accept: c.Accepts(),
	}
	if g := h.guards.of(v); g != nil {
		r.Verifier = authenticator{g}
	}
	return r
}

// protocolOf returns the state machine's configuration, with the effective priority and without
// the withheld addresses.
func protocolOf(v *plan.VirtualRouter, priority int, withheld []netip.Addr) vrrp.Config {
	c := v.Router.Protocol(v.Family)
	c.Priority = uint8(priority)
	if len(withheld) > 0 {
		c.Addresses = slices.DeleteFunc(c.Addresses, func(a netip.Addr) bool { return slices.Contains(withheld, a) })
	}
	return c
}

// loopRouters is the executor for the Virtual Routers of the event loop.
type loopRouters struct {
	heirs        *heirs
	loop         *router.Loop
	worker       *link.Worker
	sockets      *sockets
	guards       *guards
	restorations *observe.Restorations
	log          *logrus.Logger
	logged       map[plan.ID]*logged // the keeper's, by which Start knows why a router has waited
	ended        bool                // the loop has ended and released everything
	// learnt is what the Virtual Routers of the process before have learnt, until they start.
	learnt map[plan.ID]learnt

	all map[plan.ID]*plan.LoopState
}

func (h *loopRouters) Look(_ *plan.Target, p *plan.Picture) error {
	if h.ended {
		return nil
	}
	holdings, err := h.loop.Holdings()
	if err != nil {
		return err
	}
	for id, l := range h.all {
		one := *l
		if now, known := holdings[id]; known {
			one.Active, one.Assigned, one.Leaving, one.Released = now.Active, now.Assigned, now.Leaving, now.Released
		}
		installed(p, id).Loop = &one
	}
	return nil
}

func (h *loopRouters) Do(steps []*reconcile.Step) []error {
	switch steps[0].Verb {
	case reconcile.Add:
		return h.add(steps)
	case reconcile.Start:
		return h.start(steps)
	}
	return each(steps, h.do)
}

func (h *loopRouters) add(steps []*reconcile.Step) []error {
	all := make([]router.Config, len(steps))
	for n := range steps {
		all[n] = h.config(steps[n])
	}
	errs := h.loop.Add(all...)
	for n, s := range steps {
		if errs[n] == nil {
			h.all[s.ID] = &plan.LoopState{V: s.V, Priority: s.Priority, Withheld: s.Withheld}
		}
	}
	return errs
}

// start lets heirs continue, and then starts the other Virtual Routers.
func (h *loopRouters) start(steps []*reconcile.Step) []error {
	errs := make([]error, len(steps))
	var all []router.Start
	for n, s := range steps {
		h.worker.Route(s.ID, h.all[s.ID].V.Routing)
		if s.Heir != nil {
			errs[n] = h.resume(s, h.all[s.ID])
			continue
		}
		all = append(all, router.Start{ID: s.ID, Port: h.firstPort(s), Cause: resumeCause(h.logged[s.ID])})
	}
	err := h.loop.Start(all...)
	for n, s := range steps {
		switch {
		case s.Heir != nil:
		case err != nil:
			errs[n] = err
		default:
			h.all[s.ID].Binding = s.Binding
		}
	}
	return errs
}

func (h *loopRouters) do(s *reconcile.Step) error {
	l := h.all[s.ID]
	switch s.Verb {
	case reconcile.Update:
		h.worker.Route(s.ID, s.V.Routing)
		if err := h.loop.Update(h.config(s)); err != nil {
			return err
		}
		l.V, l.Priority, l.Withheld = s.V, s.Priority, s.Withheld
	case reconcile.Remove:
		if err := h.loop.Remove(s.ID, s.Cause); err != nil {
			return err
		}
		h.worker.Route(s.ID, routing.Set{})
		delete(h.all, s.ID)
	case reconcile.Rebind:
		if err := h.loop.Rebind(s.ID, h.routerPort(s)); err != nil {
			return err
		}
		l.Binding = s.Binding
	case reconcile.Stop:
		if err := h.loop.Stop(s.ID, s.Cause, s.Detail); err != nil {
			return err
		}
		l.Binding = nil
	case reconcile.Restore:
		h.restorations.Record(s.ID, fmt.Sprintf("address %s on %s", s.Prefix, s.ID.Interface))
		return h.loop.Restore(s.ID)
	case reconcile.Withdraw:
		h.log.WithFields(fields(s.ID)).Warnf("this router is Backup, but address %s is on its interface: removing it", s.Prefix)
		return h.loop.Withdraw(s.ID)
	}
	return nil
}

// resume lets an heir continue as Active. If its lease has ended, it is disowned instead.
func (h *loopRouters) resume(s *reconcile.Step, l *plan.LoopState) error {
	if s.Heir.Device != 0 {
		h.worker.Adopt(s.Heir.Device)
		h.sockets.interfaces.created[link.NewDevice(s.Heir.Ifindex, s.ID.Family, s.ID.VRID)] = true
	}
	continued, err := h.loop.Continue(s.ID, h.firstPort(s), s.Heir.Cause)
	if err != nil {
		return err
	}
	if !continued {
		h.heirs.missed(s.ID)
		return nil
	}
	l.Binding = s.Binding
	h.heirs.started(s.ID)
	return nil
}

func (h *loopRouters) config(s *reconcile.Step) router.Config {
	v := s.V
	c := router.Config{
		ID: s.ID, Protocol: protocolOf(v, s.Priority, s.Withheld), Group: v.Group, Addresses: v.Assigned,
		Peers: v.Router.Unicast.Addresses(v.Family), TTL: uint8(v.Router.Unicast.TTL),
	}
	for _, p := range v.Routing.Placed {
		if a := p.Address.Addr(); v.Router.Interfaces[a] != "" {
			c.Elsewhere = append(c.Elsewhere, a)
		}
	}
	if len(s.Withheld) > 0 {
		c.Addresses = slices.DeleteFunc(slices.Clone(v.Assigned), func(p netip.Prefix) bool { return slices.Contains(s.Withheld, p.Addr()) })
	}
	if g := h.guards.of(v); g != nil {
		c.Authenticator = authenticator{g}
	}
	return c
}

// firstPort returns the port of a Virtual Router that starts, with what it has learnt before.
func (h *loopRouters) firstPort(s *reconcile.Step) router.Port {
	p, before := h.routerPort(s), h.learnt[s.ID]
	p.Learnt, p.Checksum = before.Interval, before.Checksum
	delete(h.learnt, s.ID)
	return p
}

func (h *loopRouters) routerPort(s *reconcile.Step) router.Port {
	t, open := s.Binding, h.sockets.open[s.ID.Interface]
	p := router.Port{Ifindex: t.Ifindex, Device: t.Device, MAC: t.MAC, VirtualMAC: t.MACMode != config.VirtualMACOff, Source: t.Source, Transmitter: open.conn}
	if t.Unicast {
		p.Unicast = open.unicast[s.ID.Family]
	}
	return p
}

// notes is the executor for the journal.
type notes struct {
	journal    *link.Journal
	interfaces *interfaces
	sockets    *sockets
	all        map[plan.Note]bool
}

// journalKey is the key in the journal under which all notes are kept.
const journalKey = "host"

func (h *notes) Look(_ *plan.Target, p *plan.Picture) error {
	p.Journal = h.all
	return nil
}

// Do writes all changes of the journal at once. If the disk is full, a router takes part all the
// same if its fence outlives this process: after a kill, nobody could reach the addresses that
// stay behind.
func (h *notes) Do(steps []*reconcile.Step) []error {
	errs := make([]error, len(steps))
	for _, s := range steps {
		for _, n := range s.Notes {
			if s.Verb == reconcile.Write {
				h.all[n] = true
			} else {
				delete(h.all, n)
			}
		}
	}
	err := h.write()
	if err == nil || steps[0].Verb == reconcile.Erase {
		return errs
	}
	for i, s := range steps {
		name := s.ID.Interface
		if name == "" {
			name = s.PortName
		}
		if open := h.sockets.open[name]; errors.Is(err, link.ErrNoRoom) && open != nil && open.path.Unfenced == nil {
			continue
		}
		errs[i] = fmt.Errorf("write the journal: %w", err)
		for _, n := range s.Notes {
			delete(h.all, n)
		}
	}
	return errs
}

func (h *notes) write() error {
	return h.journal.Set(journalKey, journalOf(h.all, h.interfaces.all))
}

// journalOf returns the notes in the form of the journal, with the identities of the interfaces
// that they name.
func journalOf(notes map[plan.Note]bool, snapshot []link.Interface) link.Changes {
	c := plan.ChangesOf(maps.Keys(notes))
	names := make(map[string]bool) // of interfaces
	for _, n := range c.Addresses {
		names[n.Name] = true
	}
	for _, n := range c.Placed {
		names[n.Interface] = true
	}
	for _, n := range c.Routes {
		names[n.Interface] = true
	}
	for i := range snapshot {
		if one := &snapshot[i]; names[one.Name] {
			c.Interfaces = append(c.Interfaces, one.Identity())
		}
	}
	return c
}
