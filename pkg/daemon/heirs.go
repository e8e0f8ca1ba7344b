// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/plan"
	"github.com/failoverd/failoverd/pkg/process"
	"github.com/failoverd/failoverd/pkg/reconcile"
)

// heirs is the executor for the Virtual Routers that continue as Active after a crash or a restart.
// Each is here until it has started or is disowned.
type heirs struct {
	dp         *datapath.Datapath
	interfaces *interfaces
	log        *logrus.Logger
	all        map[plan.ID]*plan.Heir
}

func (h *heirs) Look(_ *plan.Target, p *plan.Picture) error {
	p.Heirs = make(map[plan.ID]*plan.Heir, len(h.all))
	now := process.Clock{}.Now()
	for id, heir := range h.all {
		one := *heir
		until, known := h.dp.Heir(keyOf(id, one.Ifindex))
		one.Ended = one.Ended || !known || until <= now
		p.Heirs[id] = &one
	}
	return nil
}

// Do carries out Disown steps. The lease ends first and the entries go last, so that the fence
// drops everything for the addresses until they are gone.
func (h *heirs) Do(steps []*reconcile.Step) []error {
	defer h.interfaces.invalidate()
	return each(steps, func(s *reconcile.Step) error {
		k := keyOf(s.ID, s.Heir.Ifindex)
		h.dp.EndLease(k)
		changes := plan.ChangesOf(slices.Values(s.Heir.Notes))
		changes.Settings = nil // other macvlans may need them
		removed, err := changes.Undo(h.interfaces.handle)
		log := h.log.WithFields(fields(s.ID))
		for _, r := range removed {
			log.WithField("leftover", r).Warn("removed a leftover of a killed run")
		}
		if err == nil {
			err = h.dp.Disinherit(k)
		}
		if err != nil {
			return fmt.Errorf("remove the leftovers of a killed run: %w", err)
		}
		log.Info("was Active when failoverd was killed, and doesn't continue: its lease has ended, or it can't take part now")
		delete(h.all, s.ID)
		return nil
	})
}

// started forgets an heir that has started.
func (h *heirs) started(id plan.ID) { delete(h.all, id) }

// missed notes that the lease of an heir ended before it could start.
func (h *heirs) missed(id plan.ID) {
	if one := h.all[id]; one != nil {
		one.Ended = true
	}
}

// legacy is what another run left, and what of it this run takes over.
type legacy struct {
	prepared *datapath.Prepared // the programs, before the other run has handed over
	remains  *datapath.Remains
	heirs    map[plan.ID]*plan.Heir
	keep     link.Changes // in the journal of this run
	settled  bool         // the keeper is responsible for it, or it is undone
}

// survey finds out which Virtual Routers continue after a crash, and writes what they have on
// this host to the journal of this run. Without any the start cleans up, as after any other end.
func (p *parts) survey(dead *link.Dead) error {
	p.legacy.heirs = make(map[plan.ID]*plan.Heir)
	namespace, err := link.NamespaceCookie()
	if err == nil {
		p.legacy.remains, err = datapath.Survey(p.config.BPFDir, namespace, p.objects)
		p.later(p.legacy.remains.Close)
	}
	p.namespace = namespace
	if err != nil {
		p.log.WithError(err).Warn("no router continues after the crash")
	}
	if p.legacy.remains == nil {
		return nil
	}
	all, refused := p.findHeirs(p.legacy.remains, dead.Changes())
	for id, why := range refused {
		p.log.WithFields(fields(id)).WithError(why).Info("was Active when failoverd was killed, and doesn't continue")
	}
	if len(all) == 0 {
		return nil
	}
	keep := changesOfHeirs(all, p.snapshot)
	if err := p.openJournal(); err != nil {
		return err
	}
	if err := p.journal.Set(journalKey, keep); err != nil {
		p.log.WithError(err).Error("no router continues after the crash, because the journal can't be written")
		return nil
	}
	p.legacy.heirs, p.legacy.keep = all, keep
	p.undone = false
	p.later(p.abandon)
	return nil
}

// A predecessor that works may be sending the advertisement of an Active that can't continue, and
// renew its lease afterwards. So findHeirs reads the leases up to rereadTimes again, every rereadEvery.
const (
	rereadTimes = 20
	rereadEvery = time.Millisecond
)

// findHeirs returns the Virtual Routers that continue, and for the others that were Active the
// reason why not.
func (p *parts) findHeirs(r *datapath.Remains, journal link.Changes) (heirs map[plan.ID]*plan.Heir, refused map[plan.ID]error) {
	for tried := 0; ; tried++ {
		remains := &plan.Remains{Journal: journal, Restarted: p.restarted()}
		for _, f := range r.Found {
			remains.Routers = append(remains.Routers, foundRouter(&f))
		}
		heirs, refused = plan.Heirs(p.plan, remains, p.snapshot)
		if len(refused) == 0 || p.config.Predecessor == nil || tried == rereadTimes {
			return heirs, refused
		}
		time.Sleep(rereadEvery)
		if err := r.Reread(); err != nil {
			p.log.WithError(err).Warn("could not find out again which routers continue")
			return heirs, refused
		}
	}
}

func foundRouter(f *datapath.Found) plan.Found {
	mode := config.VirtualMACOff
	switch {
	case f.Device:
		mode = config.VirtualMACMacvlan
	case f.VirtualMAC:
		mode = config.VirtualMACBPF
	}
	return plan.Found{
		Ifindex: f.Key.Ifindex, ID: plan.ID{Family: f.Key.Family, VRID: f.Key.VRID}, Version: f.Version, Dual: f.Dual, Unicast: f.Unicast,
		Authenticated: f.Verified, Owner: f.Owner, MACMode: mode, Source: f.Source, Addresses: f.Addresses,
		Active: f.Active, Answer: f.Answer, Read: f.Read, Advertise: f.Advertise, Heard: f.Heard, Fenced: f.Kept,
	}
}

// changesOfHeirs returns everything that the heirs have on this host.
func changesOfHeirs(all map[plan.ID]*plan.Heir, snapshot []link.Interface) link.Changes {
	notes := make(map[plan.Note]bool)
	for _, h := range all {
		for _, n := range h.Notes {
			notes[n] = true
		}
	}
	return journalOf(notes, snapshot)
}

// keys returns the keys of the heirs.
func (l *legacy) keys() (all []packet.Key) {
	for id, h := range l.heirs {
		all = append(all, keyOf(id, h.Ifindex))
	}
	return all
}

// has reports whether a killed run has put an address on an interface for an heir.
func (l *legacy) has(ifindex int, a netip.Addr) bool {
	for _, h := range l.heirs {
		if (ifindex == h.Ifindex || ifindex == h.Device) && slices.ContainsFunc(h.V.Assigned, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return true
		}
		for _, p := range h.V.Routing.Placed {
			if p.Address.Addr() == a {
				return true
			}
		}
	}
	return false
}

// notes returns the notes of the heirs.
func (l *legacy) notes() map[plan.Note]bool {
	all := make(map[plan.Note]bool)
	for _, h := range l.heirs {
		for _, n := range h.Notes {
			all[n] = true
		}
	}
	return all
}

// abandon undoes what a killed run left for the heirs, if this run ends before the keeper runs.
func (p *parts) abandon() error {
	if p.legacy.settled {
		return nil
	}
	p.legacy.settled = true
	if p.dp != nil {
		for _, k := range p.legacy.keys() {
			p.dp.EndLease(k)
		}
	}
	_, err := p.legacy.keep.Undo(p.handle)
	if p.undone = err == nil; !p.undone {
		return fmt.Errorf("remove the leftovers of a killed run: %w", err)
	}
	return nil
}
