// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	"github.com/failoverd/failoverd/pkg/observe"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

const (
	// heardPlaces is how many senders of a VRID are remembered, and fewPlaces how many
	// when heardMany are in all: addresses come from the network.
	heardPlaces = 16
	fewPlaces   = 2
	heardMany   = 512
	// heardAddresses is how many addresses of an advertisement are remembered.
	heardAddresses = 32
	// unknownInterval is taken for the interval of who sends nothing that can be read.
	unknownInterval = time.Second
	// crowdedFor is how long a VRID is taken for crowded after somebody found no place.
	crowdedFor = 10 * time.Second
)

// forgetForms is how long a router must have been silent for the checksum forms
// that it used to be forgotten: one that is restarted may use others.
const forgetForms = 5 * time.Second

// heard collects what a watched link says.
type heard struct {
	interfaces map[int]link.Interface
	routers    map[packet.Key]*heardRouter
	total      int // of the senders
	sieve      *sieve
}

// heardRouter is a Virtual Router as its advertisements describe it.
type heardRouter struct {
	key     packet.Key
	senders map[sender]*heardSender
	// turnedAway is how many advertisements came from senders without a place, and when
	// the last one did.
	turnedAway   uint64
	turnedAwayAt vrrp.Instant
}

// heardKey names a sender of a Virtual Router.
type heardKey struct {
	router packet.Key
	sender sender
}

// sender names who advertises, apart for each version that it speaks.
type sender struct {
	address netip.Addr
	version uint8
}

// heardSender is a router that advertises a Virtual Router.
type heardSender struct {
	address       netip.Addr
	last          vrrp.Instant
	hits          int // how often it was heard, each time an interval after the last one,
	hitAt         vrrp.Instant
	sureAt        vrrp.Instant         // since when that is often enough
	valid         bool                 // at least one advertisement was good
	advertisement packet.Advertisement // with the first of its addresses
	listed        int                  // how many it has
	checksum      packet.Checksum      // all forms it uses
	refused       error                // why the last one would be refused, nil if it is good
	to            netip.Addr           // the address of this host that it writes to, if it is unicast
	ttl           uint8
	// authentication is what the last one says of its own; empty for none.
	authentication string
}

// authenticationOf says how an advertisement is authenticated.
func authenticationOf(rec *datapath.Record) string {
	if t, ok := rec.Datagram.ParseTrailer(); ok {
		return fmt.Sprintf("type %s, key %d", auth.HMAC, t.KeyID)
	}
	for _, t := range []auth.Type{auth.Password, auth.Header} {
		if rec.Advertisement.AuthType == t.Number() {
			return fmt.Sprintf("type %s", t)
		}
	}
	if n := rec.Advertisement.AuthType; n != 0 {
		return fmt.Sprintf("type number %d, which failoverd doesn't know", n)
	}
	return ""
}

func newHeard() *heard {
	return &heard{interfaces: make(map[int]link.Interface), routers: make(map[packet.Key]*heardRouter), sieve: newSieve()}
}

// record takes one datagram in, good or bad.
func (h *heard) record(rec *datapath.Record) {
	if len(rec.Datagram.Message) < 2 {
		return // not even a VRID
	}
	key := rec.Key
	key.VRID = rec.Datagram.Message[1]
	key.Family = packet.FamilyOf(rec.Datagram.Source)
	r, ok := h.routers[key]
	if !ok {
		r = &heardRouter{key: key, senders: make(map[sender]*heardSender)}
		h.routers[key] = r
	}
	who := sender{rec.Datagram.Source, rec.Datagram.Message[0] >> 4}
	s, ok := r.senders[who]
	if !ok {
		if s = h.place(r, who, rec); s == nil {
			r.turnedAway++
			r.turnedAwayAt = rec.ReceivedAt
			return
		}
		s.address = who.address
	}
	s.hear(rec.ReceivedAt, intervalOf(rec))
	if rec.ReceivedAt.Sub(s.last) > forgetForms {
		s.checksum = 0
	}
	s.last, s.ttl, s.to = rec.ReceivedAt, rec.Datagram.TTL, netip.Addr{}
	if rec.Datagram.Unicast() {
		s.to = rec.Datagram.Destination
	}
	s.refused = rec.Err
	if rec.Err != nil {
		return
	}
	s.valid, s.authentication = true, authenticationOf(rec)
	s.checksum |= rec.Checksum
	s.listed = len(rec.Advertisement.Addresses)
	addresses := append(s.advertisement.Addresses[:0], rec.Advertisement.Addresses[:min(s.listed, heardAddresses)]...)
	s.advertisement = rec.Advertisement
	s.advertisement.Addresses = addresses
}

// intervalOf is in which intervals a sender says that it advertises.
func intervalOf(rec *datapath.Record) time.Duration {
	if rec.Err != nil {
		return unknownInterval
	}
	return rec.Advertisement.Interval
}

// hear notes that it is heard.
func (s *heardSender) hear(now vrrp.Instant, interval time.Duration) {
	since := now.Sub(s.hitAt)
	switch {
	case since < interval*3/4:
		return
	case since > 3*interval+interval/2, since > interval+interval/2 && !s.sure():
		s.hits = 0
	}
	s.hits, s.hitAt = min(s.hits+1, surely), now
	if !s.sure() {
		s.sureAt = now
	}
}

// sure reports whether it is a router, not just an address that somebody makes up.
func (s *heardSender) sure() bool { return s.hits >= surely }

// silent reports whether it isn't heard any more.
func (s *heardSender) silent(now vrrp.Instant) bool {
	interval := unknownInterval
	if s.valid {
		interval = s.advertisement.Interval
	}
	return now.Sub(s.last) >= 3*interval+interval/2
}

// place returns a place for a new sender, nil if there is none. Those who were heard an
// interval after the other keep theirs while they go on. Who goes on without a place
// gets that of one who wasn't.
func (h *heard) place(r *heardRouter, who sender, rec *datapath.Record) *heardSender {
	now, most := rec.ReceivedAt, heardPlaces
	if h.total >= heardMany {
		most = fewPlaces
	}
	if len(r.senders) < most {
		h.total++
		r.senders[who] = new(heardSender)
		return r.senders[who]
	}
	passes := h.sieve.passes(heardKey{r.key, who}, now, intervalOf(rec))
	for other, s := range r.senders {
		if s.silent(now) && (passes || !s.sure()) || passes && !s.sure() {
			delete(r.senders, other)
			s = new(heardSender)
			if passes {
				s.hits, s.hitAt, s.sureAt = surely, now, now
			}
			r.senders[who] = s
			return s
		}
	}
	return nil
}

// shown returns the senders that are shown, first those who are heard again and again for
// the longest time: where there are too many, only those.
func (r *heardRouter) shown(now vrrp.Instant) []*heardSender {
	crowded := r.turnedAway > 0 && now.Sub(r.turnedAwayAt) < crowdedFor
	var all []*heardSender
	for _, s := range r.senders {
		if s.sure() || !crowded {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *heardSender) int {
		return cmp.Or(cmp.Compare(b.hits, a.hits), cmp.Compare(a.sureAt, b.sureAt), a.address.Compare(b.address))
	})
	return all
}

// unshown returns how many advertisements, for how many Virtual Routers, have come since
// the last time from senders without a place.
func (h *heard) unshown() (count uint64, routers int) {
	for _, r := range h.routers {
		if r.turnedAway > 0 {
			count += r.turnedAway
			routers++
			r.turnedAway = 0
		}
	}
	return count, routers
}

// row is one line of the table: a Virtual Router and one who advertises it.
type row struct {
	key       packet.Key
	sure      bool
	rank      int // among those of the Virtual Router
	Interface string
	VRID      string
	Family    string
	Version   string
	Active    string
	Priority  string
	Interval  string
	Addresses string
	Checksum  string
	Last      string
	Problem   string
	Command   string
}

// rows returns the table at the time now.
func (h *heard) rows(now vrrp.Instant) []row {
	var all []row
	for _, r := range h.routers {
		shown := r.shown(now)
		alive := alive(shown, now)
		for rank, s := range shown {
			if !slices.Contains(alive, s) && len(alive) > 0 && s.valid {
				continue // it has given the address up to one that is alive
			}
			row := h.row(r, s, alive, now)
			row.rank = rank
			all = append(all, row)
		}
	}
	slices.SortFunc(all, compareRows)
	return all
}

func compareRows(a, b row) int {
	return cmp.Or(
		strings.Compare(a.Interface, b.Interface),
		cmp.Compare(a.key.VRID, b.key.VRID),
		cmp.Compare(a.key.Family, b.key.Family),
		strings.Compare(a.Active, b.Active),
		strings.Compare(a.Version, b.Version),
	)
}

// alive returns those of the senders that claim to be Active now.
func alive(senders []*heardSender, now vrrp.Instant) []*heardSender {
	var all []*heardSender
	for _, s := range senders {
		if s.valid && s.refused == nil && s.advertisement.Priority != 0 && !s.silent(now) {
			all = append(all, s)
		}
	}
	return all
}

// rivals counts the routers behind senders.
func rivals(senders []*heardSender) int {
	addresses := make(map[netip.Addr]bool)
	for _, s := range senders {
		addresses[s.address] = true
	}
	return len(addresses)
}

func (h *heard) row(r *heardRouter, s *heardSender, alive []*heardSender, now vrrp.Instant) row {
	silent := now.Sub(s.last)
	out := row{
		key:       r.key,
		sure:      s.sure(),
		Interface: h.interfaces[r.key.Ifindex].Name,
		VRID:      fmt.Sprint(r.key.VRID),
		Family:    r.key.Family.String(),
		Active:    s.address.WithZone("").String(),
		Last:      fmt.Sprintf("%.1fs", silent.Seconds()),
	}
	if s.valid {
		a := s.advertisement
		out.Version = fmt.Sprint(a.Version)
		out.Priority = fmt.Sprint(a.Priority)
		out.Interval = a.Interval.String()
		out.Addresses = observe.JoinFirst(a.Addresses, s.listed)
		if a.Version == 3 && r.key.Family == packet.IPv4 {
			out.Checksum = s.checksum.String()
		}
		if s.listed == len(a.Addresses) {
			out.Command = h.command(r.key, s)
		}
	}
	switch {
	case s.refused != nil:
		out.Problem = "refused: " + s.refused.Error()
		if errors.Is(s.refused, packet.ErrTTL) {
			out.Problem += fmt.Sprintf(" (it is %d)", s.ttl)
		}
	case s.advertisement.Priority == 0:
		out.Problem = "has left"
	case !slices.Contains(alive, s):
		out.Problem = "silent, nobody is Active"
	case rivals(alive) > 1:
		out.Problem = fmt.Sprintf("%d routers claim to be Active", rivals(alive))
	case s.authentication != "":
		out.Problem = fmt.Sprintf("uses authentication (%s): back it up with a configuration file that has the same", s.authentication)
		out.Command = ""
	}
	return out
}

// command returns the command that makes this host a Backup of what is
// advertised. Prefix lengths aren't: they come from the interface's networks.
func (h *heard) command(key packet.Key, s *heardSender) string {
	i, a := h.interfaces[key.Ifindex], s.advertisement
	priority := 100
	if a.Priority <= 100 {
		priority = max(1, int(a.Priority)-10)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "sudo failoverd --iface %s --vrid %d --priority %d --interval %s", i.Name, key.VRID, priority, a.Interval)
	if a.Version == 2 {
		b.WriteString(" --vrrp-version 2")
	}
	if s.to.IsValid() {
		fmt.Fprintf(&b, " --peer %s --source %s", s.address.WithZone(""), s.to.WithZone(""))
	}
	for _, addr := range a.Addresses {
		fmt.Fprintf(&b, " --vip %s", netip.PrefixFrom(addr, prefixBits(i, addr)))
	}
	return b.String()
}

func prefixBits(i link.Interface, addr netip.Addr) int {
	for _, a := range i.Addresses {
		if a.Prefix.Bits() < addr.BitLen() && a.Prefix.Masked().Contains(addr) {
			return a.Prefix.Bits()
		}
	}
	if addr.Is6() && addr.IsLinkLocalUnicast() {
		return 64
	}
	return addr.BitLen()
}
