// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
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
func each(steps []reconcile.Step, do func(*reconcile.Step) error) []error {
	errs := make([]error, len(steps))
	for i := range steps {
		errs[i] = do(&steps[i])
	}
	return errs
}

// member returns the place for a Virtual Router in a picture.
func member(p *plan.Picture, id plan.ID) *plan.Installed {
	m := p.Installed[id]
	if m == nil {
		m = &plan.Installed{}
		p.Installed[id] = m
	}
	return m
}

// interfaces are the host's: addresses, macvlans and settings.
type interfaces struct {
	monitor *link.Monitor
	handle  *link.Handle
	worker  *link.Worker
	log     *logrus.Logger

	all   []link.Interface // of the last look
	begun vrrp.Instant     // when that was begun
	stale bool             // something has been changed since
	made  map[link.Device]bool
}

func (h *interfaces) Look(want *plan.Target, p *plan.Picture) error {
	all, at := h.monitor.Picture()
	begun := process.Instant(at)
	switch {
	case h.stale: // the monitor may not know of it yet
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
	case begun < h.begun:
		all, begun = h.all, h.begun
	}
	h.all, h.begun = all, begun
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

// touched notes that the interfaces have been changed. What the monitor has listed before
// isn't believed from now on, however often it is asked until it has listed them again.
func (h *interfaces) touched() { h.stale = true }

func (h *interfaces) Do(steps []reconcile.Step) []error {
	defer h.touched()
	return each(steps, func(s *reconcile.Step) error {
		switch s.Verb {
		case reconcile.Make:
			if h.made[s.Device] {
				h.log.WithField("interface", s.PortName).Errorf("the macvlan %s was removed by somebody else, or the MTU was too small for it, making it again", s.Device.Name)
			}
			index, err := h.handle.AddDevice(s.Device, h.name(s.Device.Parent))
			if err != nil {
				return err
			}
			h.worker.Adopt(index)
			h.made[s.Device] = true
		case reconcile.Unmake:
			if err := h.handle.DeleteDevice(s.Ifindex); err != nil {
				return err
			}
			h.worker.Forget(s.Ifindex)
			delete(h.made, s.Device)
		case reconcile.Withdraw:
			h.log.WithField("interface", h.name(s.Ifindex)).Warnf("removing %s, which stayed there", s.Prefix)
			return h.handle.Release(s.Ifindex, []netip.Prefix{s.Prefix})
		}
		return nil
	})
}

// settings are those of interfaces with macvlans on top.
type settings struct {
	interfaces *interfaces
	ports      *sockets
}

func (h *settings) Look(want *plan.Target, p *plan.Picture) error {
	for n := range p.Journal {
		if s, is := n.(link.Setting); is {
			if now, ok := h.now(s); ok {
				value, err := link.ReadSetting(now.Path)
				p.AppliedSettings[s] = err == nil && value == s.Value
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
			continue // the interface has just gone
		}
		p.MissingSettings[name] = lacking
	}
	return nil
}

// now is a setting by the name that its interface has now; false if that is gone.
func (h *settings) now(s link.Setting) (link.Setting, bool) {
	if s.Ifindex == 0 {
		return s, true
	}
	name := h.interfaces.name(s.Ifindex)
	return s.On(name), name != ""
}

// drifted reports whether somebody has changed a setting that a macvlan needs.
func (h *settings) drifted(notes map[plan.Note]bool) bool {
	for n := range notes {
		if s, is := n.(link.Setting); is {
			if now, ok := h.now(s); ok {
				if value, err := link.ReadSetting(now.Path); err == nil && value != s.Value {
					return true
				}
			}
		}
	}
	return false
}

func (h *settings) Do(steps []reconcile.Step) []error {
	return each(steps, func(s *reconcile.Step) error {
		now, ok := h.now(s.Setting)
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

// sockets are the ports: what receives and sends on interfaces.
type sockets struct {
	dp         *datapath.Datapath
	interfaces *interfaces
	log        *logrus.Logger

	open    map[string]*port
	hears   map[plan.ID]plan.Subscription
	filters map[plan.ID]int
}

// port is an open one.
type port struct {
	plan.OpenPort
	mtu     int
	conn    *transmit.Conn
	unicast map[packet.Family]*transmit.Datagrams // what sends to peers
	path    datapath.Path
}

func (h *sockets) Look(_ *plan.Target, p *plan.Picture) error {
	for name, open := range h.open {
		open.Lost = h.dp.Lost(open.Ifindex)
		p.Ports[name] = open.OpenPort
	}
	for id, hears := range h.hears {
		member(p, id).Subscription = hears
	}
	for id, ifindex := range h.filters {
		member(p, id).Filter = ifindex
	}
	return nil
}

func (h *sockets) Do(steps []reconcile.Step) []error {
	return each(steps, func(s *reconcile.Step) error {
		switch s.Verb {
		case reconcile.Open:
			return h.begin(s)
		case reconcile.Close:
			return h.end(s.PortName)
		case reconcile.Subscribe:
			return h.hear(s)
		case reconcile.Unsubscribe:
			return h.deafen(s)
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

// begin opens a port before any of its Virtual Routers takes part, because attaching XDP
// may reset a NIC.
func (h *sockets) begin(s *reconcile.Step) error {
	n := slices.IndexFunc(h.interfaces.all, func(i link.Interface) bool { return i.Index == s.Port.Ifindex })
	if n < 0 {
		return fmt.Errorf("interface %s is gone", s.Port.Name)
	}
	i := &h.interfaces.all[n]
	conn, err := transmit.Open(i.Index)
	if err != nil {
		return fmt.Errorf("open a socket to send: %w", err)
	}
	path, err := h.dp.Attach(datapath.Link{Index: i.Index, Name: i.Name, Kind: i.Kind, VLANs: link.CarriesVLANs(h.interfaces.all, i.Index)}, datapath.Mode(s.Port.Mode), false)
	if err != nil {
		return errors.Join(fmt.Errorf("receive on it: %w", err), conn.Close())
	}
	h.open[s.PortName] = &port{OpenPort: plan.OpenPort{Port: s.Port, TC: path.TC, Unfenced: path.Unfenced}, mtu: i.MTU, conn: conn, path: path, unicast: make(map[packet.Family]*transmit.Datagrams)}
	log := h.log.WithField("interface", s.PortName)
	log.WithField("receive", path.Kind).Infof("receiving: %s", path.Why)
	if path.Unfenced != nil {
		log.WithError(path.Unfenced).Warn("if this daemon hangs or is killed, the host goes on answering for its addresses")
	}
	return nil
}

func (h *sockets) end(name string) error {
	open := h.open[name]
	// If the device is gone, what was attached to it is too.
	err := h.dp.Detach(open.Ifindex)
	if err != nil && h.interfaces.name(open.Ifindex) != "" {
		return fmt.Errorf("detach from it: %w", err)
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

// hear opens what advertisements come and go by: the group's membership, or a socket for
// the peers.
func (h *sockets) hear(s *reconcile.Step) error {
	open, f := h.open[s.PortName], s.ID.Family
	switch {
	case !s.Subscription.Unicast:
		if err := open.conn.Join(f); err != nil {
			return fmt.Errorf("join the %s group: %w", f, err)
		}
	case open.unicast[f] == nil:
		d, err := transmit.OpenDatagrams(open.Ifindex, f)
		if err != nil {
			return fmt.Errorf("open a socket to the peers: %w", err)
		}
		open.unicast[f] = d
	}
	h.hears[s.ID] = s.Subscription
	return nil
}

// deafen closes the socket to the peers with the last router that needs it. The
// membership ends with the port.
func (h *sockets) deafen(s *reconcile.Step) error {
	delete(h.hears, s.ID)
	open := h.open[s.PortName]
	if open == nil || !s.Subscription.Unicast {
		return nil
	}
	for id, o := range h.hears {
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

// rejoin has the interfaces join the groups again that they were members of: when an MTU
// was too small for a moment, the kernel has ended that.
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
			if err := open.conn.Rejoin(f); err != nil { // too small an MTU still
				h.log.WithField("interface", name).WithError(err).Debug("not a member of the group")
				continue
			}
			h.log.WithField("interface", name).Warnf("was no member of %s any more, joined it again", f.Group())
		}
	}
	return nil
}

// entries are the Virtual Routers as the kernel's programs know them.
type entries struct {
	dp     *datapath.Datapath
	guards *guards
	all    map[plan.ID]*plan.Entry
}

func (h *entries) Look(_ *plan.Target, p *plan.Picture) error {
	for id, e := range h.all {
		member(p, id).Entry = e
	}
	return nil
}

func keyOf(id plan.ID, ifindex int) packet.Key {
	return packet.Key{Ifindex: ifindex, Family: id.Family, VRID: id.VRID}
}

func (h *entries) Do(steps []reconcile.Step) []error {
	return each(steps, func(s *reconcile.Step) error {
		if s.Verb == reconcile.Unfence {
			if err := h.dp.DeleteRouter(keyOf(s.ID, s.Entry.Ifindex)); err != nil {
				return fmt.Errorf("have the kernel forget the virtual router: %w", err)
			}
			delete(h.all, s.ID)
			return nil
		}
		if err := h.dp.SetRouter(keyOf(s.ID, s.Entry.Ifindex), h.kernel(s.Entry)); err != nil {
			return fmt.Errorf("the kernel doesn't take the virtual router: %w", err)
		}
		h.all[s.ID] = s.Entry
		return nil
	})
}

// lookAfter puts back what somebody has deleted from the kernel's maps.
func (h *entries) lookAfter(restored func(plan.ID, string)) error {
	if h.dp.Intact() {
		return nil
	}
	for _, k := range h.dp.Routers() {
		missing := h.dp.Missing(k)
		if missing == nil {
			continue
		}
		if err := h.dp.Restore(k); err != nil {
			return err
		}
		for id, e := range h.all {
			if keyOf(id, e.Ifindex) == k {
				restored(id, strings.Join(missing, ", "))
			}
		}
	}
	return nil
}

// kernel is an entry as the datapath has it.
func (h *entries) kernel(e *plan.Entry) datapath.Router {
	v := e.V
	c := &v.Router.Router
	protocol := protocolOf(v, e.Priority, nil)
	tolerate := c.Tolerate.Tolerance
	tolerate.AuthTrailer, tolerate.AuthHeader = v.Router.Auth.Type == auth.HMAC, v.Router.Auth.Type == auth.Header
	r := datapath.Router{
		Version: protocol.Version, Dual: protocol.Dual, Source: e.Source, Running: e.Running, MinPriority: protocol.MinPriority(), Priority: protocol.Priority,
		Forms: protocol.Forms(), Tolerate: tolerate, Peers: e.Peers, DropUnchanged: c.Unchanged == config.Drop,
		Addresses: e.Addresses, Owner: v.Router.Owner(), VirtualMAC: e.MACMode != config.VirtualMACOff, Device: e.MACMode == config.VirtualMACMacvlan, Accept: c.Accept,
	}
	if g := h.guards.of(v); g != nil {
		r.Verifier = authenticator{g}
	}
	return r
}

// protocolOf is the state machine's configuration, with the effective priority, and
// without some of the addresses.
func protocolOf(v *plan.VirtualRouter, priority int, less []netip.Addr) vrrp.Config {
	c := v.Router.Protocol(v.Family)
	c.Priority = uint8(priority)
	if len(less) > 0 {
		c.Addresses = slices.DeleteFunc(c.Addresses, func(a netip.Addr) bool { return slices.Contains(less, a) })
	}
	return c
}

// takings are the Virtual Routers as the event loop knows them.
type takings struct {
	loop     *router.Loop
	worker   *link.Worker
	sockets  *sockets
	guards   *guards
	guardian *observe.Restorations
	log      *logrus.Logger
	known    map[plan.ID]*remembered // why they don't take part
	ended    bool                    // the loop has ended, and everything was released by it

	all map[plan.ID]*plan.LoopState
}

func (h *takings) Look(_ *plan.Target, p *plan.Picture) error {
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
			one.Active, one.Assigned, one.Leaving = now.Active, now.Assigned, now.Leaving
		}
		member(p, id).Loop = &one
	}
	return nil
}

func (h *takings) Do(steps []reconcile.Step) []error { return each(steps, h.one) }

func (h *takings) one(s *reconcile.Step) error {
	l := h.all[s.ID]
	switch s.Verb {
	case reconcile.Add:
		if err := h.loop.Add(h.config(s)); err != nil {
			return err
		}
		h.all[s.ID] = &plan.LoopState{V: s.V, Priority: s.Priority, Withheld: s.Withheld}
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
	case reconcile.Start:
		h.worker.Route(s.ID, l.V.Routing)
		if err := h.loop.Start(s.ID, h.port(s), comeback(h.known[s.ID])); err != nil {
			return err
		}
		l.Binding = s.Binding
	case reconcile.Rebind:
		if err := h.loop.Rebind(s.ID, h.port(s)); err != nil {
			return err
		}
		l.Binding = s.Binding
	case reconcile.Stop:
		if err := h.loop.Stop(s.ID, s.Cause, s.Detail); err != nil {
			return err
		}
		l.Binding = nil
	case reconcile.Restore:
		h.guardian.Record(s.ID, fmt.Sprintf("address %s on %s", s.Prefix, s.ID.Interface))
		return h.loop.Restore(s.ID)
	case reconcile.Withdraw:
		h.log.WithFields(fields(s.ID)).Warnf("this router is Backup, and address %s is on its interface: removing it", s.Prefix)
		return h.loop.Withdraw(s.ID)
	}
	return nil
}

func (h *takings) config(s *reconcile.Step) router.Config {
	v := s.V
	c := router.Config{
		ID: s.ID, Protocol: protocolOf(v, s.Priority, s.Withheld), Group: v.Group, Addresses: v.Assigned,
		Peers: v.Router.Unicast.Addresses(v.Family), TTL: uint8(v.Router.Unicast.TTL),
	}
	if len(s.Withheld) > 0 {
		c.Addresses = slices.DeleteFunc(slices.Clone(v.Assigned), func(p netip.Prefix) bool { return slices.Contains(s.Withheld, p.Addr()) })
	}
	if g := h.guards.of(v); g != nil {
		c.Authenticator = authenticator{g}
	}
	return c
}

func (h *takings) port(s *reconcile.Step) router.Port {
	t, open := s.Binding, h.sockets.open[s.ID.Interface]
	p := router.Port{Ifindex: t.Ifindex, Device: t.Device, MAC: t.MAC, VirtualMAC: t.MACMode != config.VirtualMACOff, Source: t.Source, Transmitter: open.conn}
	if t.Unicast {
		p.Unicast = open.unicast[s.ID.Family]
	}
	return p
}

// notes are what the journal says.
type notes struct {
	journal    *link.Journal
	interfaces *interfaces
	sockets    *sockets
	all        map[plan.Note]bool
}

// journalPort is what the journal has all under.
const journalPort = "host"

func (h *notes) Look(_ *plan.Target, p *plan.Picture) error {
	p.Journal = h.all
	return nil
}

// Do writes all that is to be written down at once. Behind a fence that outlives this
// process a router takes part though there is no room to write: nobody could reach what a
// killed daemon leaves.
func (h *notes) Do(steps []reconcile.Step) []error {
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
		errs[i] = fmt.Errorf("write down what will be changed: %w", err)
		for _, n := range s.Notes {
			delete(h.all, n)
		}
	}
	return errs
}

func (h *notes) write() error {
	var c link.Changes
	names := make(map[string]bool) // of interfaces
	for n := range h.all {
		switch n := n.(type) {
		case link.JournalAddress:
			c.Addresses = append(c.Addresses, n)
			names[n.Name] = true
		case link.Device:
			c.Devices = append(c.Devices, n)
		case link.Setting:
			c.Settings = append(c.Settings, n)
		case routing.Placed:
			c.Placed = append(c.Placed, n)
			names[n.Interface] = true
		case routing.Route:
			c.Routes = append(c.Routes, n)
			names[n.Interface] = true
		case routing.Rule:
			c.Rules = append(c.Rules, n)
		}
	}
	for i := range h.interfaces.all {
		if one := &h.interfaces.all[i]; names[one.Name] {
			c.Interfaces = append(c.Interfaces, one.Identity())
		}
	}
	return h.journal.Set(journalPort, c)
}
