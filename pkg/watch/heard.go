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
	// maxSenders is the number of senders that are remembered of each VRID. It falls to
	// fewSenders when manySenders are remembered in all. There are limits because a host
	// can forge any number of addresses.
	maxSenders  = 16
	fewSenders  = 2
	manySenders = 512
	// maxAddresses is the number of addresses of an advertisement that are remembered.
	maxAddresses = 32
	// unknownInterval is the interval of a sender whose advertisements can't be decoded.
	unknownInterval = time.Second
	// crowdedFor is the time for which a VRID counts as crowded after a sender was dropped.
	crowdedFor = 10 * time.Second
)

// forgetForms is the time of silence after which the checksum forms of a router are
// forgotten, because it may use others after a restart.
const forgetForms = 5 * time.Second

// heard collects the advertisements of the watched links.
type heard struct {
	interfaces map[int]link.Interface
	routers    map[packet.Key]*heardRouter
	total      int // number of senders
	sieve      *sieve
}

// heardRouter is a Virtual Router as its advertisements describe it.
type heardRouter struct {
	key     packet.Key
	senders map[sender]*heardSender
	// dropped counts the advertisements of senders that aren't remembered, and droppedAt
	// is the time of the last one.
	dropped   uint64
	droppedAt vrrp.Instant
}

// heardKey identifies a sender of a Virtual Router.
type heardKey struct {
	router packet.Key
	sender sender
}

// sender identifies a sender. A router that speaks two versions counts as two senders.
type sender struct {
	address netip.Addr
	version uint8
}

// heardSender is a router that advertises a Virtual Router.
type heardSender struct {
	address       netip.Addr
	last          vrrp.Instant
	hits          int // advertisements that came about an interval after the one before, up to sureHits
	hitAt         vrrp.Instant
	sureAt        vrrp.Instant         // when hits reached sureHits
	valid         bool                 // at least one advertisement was accepted
	advertisement packet.Advertisement // the last one, with at most maxAddresses addresses
	listed        int                  // number of all its addresses
	checksum      packet.Checksum      // all forms that it uses
	refused       error                // why a router would refuse the last one, or nil
	to            netip.Addr           // the destination on this host, if it sends unicast
	ttl           uint8
	// authentication describes that of the last advertisement; empty for none.
	authentication string
}

// authenticationOf describes the authentication of an advertisement.
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

// record adds a datagram, whether it is valid or not.
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
	from := sender{rec.Datagram.Source, rec.Datagram.Message[0] >> 4}
	s, ok := r.senders[from]
	if !ok {
		if s = h.place(r, from, rec); s == nil {
			r.dropped++
			r.droppedAt = rec.ReceivedAt
			return
		}
		s.address = from.address
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
	addresses := append(s.advertisement.Addresses[:0], rec.Advertisement.Addresses[:min(s.listed, maxAddresses)]...)
	s.advertisement = rec.Advertisement
	s.advertisement.Addresses = addresses
}

// intervalOf returns the Advertisement_Interval of an advertisement.
func intervalOf(rec *datapath.Record) time.Duration {
	if rec.Err != nil {
		return unknownInterval
	}
	return rec.Advertisement.Interval
}

// hear counts an advertisement if it came at least about an interval after the last one, and
// starts again after a gap.
func (s *heardSender) hear(now vrrp.Instant, interval time.Duration) {
	since := now.Sub(s.hitAt)
	switch {
	case since < interval*3/4:
		return
	case since > 3*interval+interval/2, since > interval+interval/2 && !s.sure():
		s.hits = 0
	}
	s.hits, s.hitAt = min(s.hits+1, sureHits), now
	if !s.sure() {
		s.sureAt = now
	}
}

// sure reports whether the sender advertises often enough to be a router, and not a forged
// address.
func (s *heardSender) sure() bool { return s.hits >= sureHits }

// silent reports whether the sender stopped advertising.
func (s *heardSender) silent(now vrrp.Instant) bool {
	interval := unknownInterval
	if s.valid {
		interval = s.advertisement.Interval
	}
	return now.Sub(s.last) >= 3*interval+interval/2
}

// place adds a new sender, and returns nil if there is no room. A sender that is sure keeps
// its place while it goes on. A new sender that passes the sieve replaces one that isn't
// sure.
func (h *heard) place(r *heardRouter, from sender, rec *datapath.Record) *heardSender {
	now, most := rec.ReceivedAt, maxSenders
	if h.total >= manySenders {
		most = fewSenders
	}
	if len(r.senders) < most {
		h.total++
		r.senders[from] = new(heardSender)
		return r.senders[from]
	}
	passes := h.sieve.passes(heardKey{r.key, from}, now, intervalOf(rec))
	for other, s := range r.senders {
		if s.silent(now) && (passes || !s.sure()) || passes && !s.sure() {
			delete(r.senders, other)
			s = new(heardSender)
			if passes {
				s.hits, s.hitAt, s.sureAt = sureHits, now, now
			}
			r.senders[from] = s
			return s
		}
	}
	return nil
}

// shown returns the senders to show, beginning with those that have been sure for longest.
// While the VRID is crowded, it returns only the sure ones.
func (r *heardRouter) shown(now vrrp.Instant) []*heardSender {
	crowded := r.dropped > 0 && now.Sub(r.droppedAt) < crowdedFor
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

// unshown returns how many advertisements were dropped since the last call, and how many
// Virtual Routers they were for.
func (h *heard) unshown() (count uint64, routers int) {
	for _, r := range h.routers {
		if r.dropped > 0 {
			count += r.dropped
			routers++
			r.dropped = 0
		}
	}
	return count, routers
}

// row is one line of the table: a Virtual Router and one of its senders.
type row struct {
	key       packet.Key
	sure      bool
	rank      int // of the sender among those of the Virtual Router
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
				continue // another router is Active now
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

// alive returns the senders that claim to be Active now.
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
		if s.listed > 0 && s.listed == len(a.Addresses) {
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
		out.Problem = "left with priority 0"
	case !slices.Contains(alive, s):
		out.Problem = "silent, no router is Active"
	case rivals(alive) > 1:
		out.Problem = fmt.Sprintf("%d routers claim to be Active", rivals(alive))
	case s.authentication != "":
		out.Problem = fmt.Sprintf("uses authentication (%s): a Backup needs a configuration file with the same", s.authentication)
		out.Command = ""
	case s.listed == 0:
		out.Problem = "has no address: a Backup needs a configuration file with `addresses: []`"
	}
	return out
}

// command returns the command that makes this host a Backup of the sender. Advertisements
// have no prefix lengths, so these are taken from the networks of the interface.
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
