// SPDX-License-Identifier: Apache-2.0

package router

import (
	"net/netip"
	"slices"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// maxHaste keeps slow routers near their time.
const maxHaste = 5 * time.Millisecond

// router is one Virtual Router in the loop.
type router struct {
	// What sending an advertisement needs comes first, close together: there are
	// thousands, so each wake-up finds little of it in the processor's caches.
	machine       *vrrp.Router
	deadline      vrrp.Instant
	restartAt     vrrp.Instant // when to leave Initialize by itself; 0: not
	releaseAt     vrrp.Instant // when to try to remove the addresses again; 0: not
	group         *group       // that it is a member of
	heldBy        *router      // another member, which has an expired Active_Down_Timer wait,
	heldUntil     vrrp.Instant // until then at least
	lookAt        vrrp.Instant // when a look at the interface is due; 0: none is
	looked        bool         // a look was requested for this deadline
	deafUntil     vrrp.Instant // an expired timer isn't believed before
	slot          int32        // in Loop.deadlines, -1 when not in it
	quietIndex    int32        // in Loop.quiet, -1 when not in it
	lease         Lease        // nil before it is needed
	authenticator Authenticator
	ignoring      vrrp.Outranked // what the state ignores, if anything
	queued        struct {
		wakeup   uint64
		any      bool
		priority uint8
		forms    packet.Checksum
	}
	// frames are prebuilt advertisements of the current priority, by frameIndex:
	// one, or one for each peer.
	frames   [4][][]byte
	peers    []Peer
	protocol vrrp.Config
	port     Port
	sentAt   vrrp.Instant // when an advertisement last left; 0: never
	counters Counters
	trouble  *trouble // nil: its last advertisement has left

	id        ID
	key       packet.Key
	addresses []netip.Prefix
	ttl       uint8

	// The receive times of the newest advertisements, of those that the
	// kernel stamps, which the state machine was shown and has heeded, or has
	// refused for what the kernel doesn't know.
	lastHeeded, lastRefused vrrp.Instant

	// state is the kernel's, nil before it is needed. What it expects is what
	// familiar says, of which there have been as many as were counted.
	kernel   ReceiveState
	familiar familiar
	counted  [2]uint64

	// generation counts assignments and releases, so that a completion that
	// arrives after the next change is recognised as stale.
	generation uint64
	assigned   bool         // the addresses are in place,
	assignedAt vrrp.Instant // since then
	stuck      error        // why the last removal failed
	announce   bool         // an announcement waits for them

	announceDue bool // it goes out with the next flush

	octets int           // of its longest advertisement, an IP datagram
	outAt  vrrp.Instant  // when it last stepped down because it couldn't send,
	pause  time.Duration // and how long it didn't try then

	releasing   int        // removals of the addresses under way
	withdrawing int        // removals of some of them, or of what somebody else has put there
	gone        chan error // told when they are done, if it is to be forgotten
}

// attach binds the router to a port and forgets what was built for the old one.
func (r *router) attach(p Port) {
	r.port = p
	r.key = packet.Key{Ifindex: p.Ifindex, Family: r.id.Family, VRID: r.id.VRID}
	r.frames = [4][][]byte{}
	r.queued.any = false
	r.kernel, r.familiar, r.lease, r.ignoring = nil, familiar{}, nil, vrrp.Outranked{}
	r.octets, r.trouble = 0, nil
	r.looked, r.deafUntil = false, 0
}

func (r *router) groupName() string {
	if r.group == nil {
		return ""
	}
	return r.group.name
}

// holder is the member of its group that a router waits for.
func (r *router) holder() *ID {
	if r.heldBy == nil {
		return nil
	}
	id := r.heldBy.id
	return &id
}

// advertiser is what sends its advertisements.
func (r *router) advertiser() Transmitter {
	if len(r.peers) > 0 {
		return r.port.Unicast
	}
	return r.port.Transmitter
}

// meet makes others the peers.
func (r *router) meet(addresses []netip.Addr) {
	before := r.peers
	r.peers = nil
	for _, a := range addresses {
		p := Peer{Address: a}
		if i := slices.IndexFunc(before, func(b Peer) bool { return b.Address == a }); i >= 0 {
			p = before[i]
		}
		r.peers = append(r.peers, p)
	}
}

// heard notes that one of the peers has been heard.
func (r *router) heard(from netip.Addr, at vrrp.Instant) {
	for i := range r.peers {
		if r.peers[i].Address == from {
			r.peers[i].LastHeard = at
		}
	}
}

// haste is how much too early a router may be served, to share a wake-up with
// another one: an Active sends by a twentieth of its interval earlier, at most. The
// next advertisement is counted from when this one was due.
func (r *router) haste(most time.Duration) time.Duration {
	if r.machine.State() != vrrp.Active || r.releaseAt != 0 || r.restartAt != 0 || r.trouble != nil {
		return 0
	}
	return min(r.protocol.Interval/20, most)
}

// device is the interface that the addresses are put on.
func (r *router) device() int {
	if r.port.Device != 0 {
		return r.port.Device
	}
	return r.port.Ifindex
}

// stamped reports whether the kernel keeps a stamp of such an advertisement.
func (r *router) stamped(p *Received) bool {
	a := &p.Advertisement
	return a.Priority >= r.protocol.MinPriority() && (a.Version == 2 || p.Checksum&r.protocol.Forms() != 0)
}

// knows reports whether the state machine was shown what was stamped.
func (r *router) knows(s vrrp.Stamp) bool { return s.At <= r.lastHeeded || s.At == r.lastRefused }

// mac is the link-layer address that the router's frames come from and that
// its addresses are announced with.
func (r *router) mac() packet.MAC {
	if r.port.VirtualMAC {
		return packet.VirtualMAC(r.id.Family, r.id.VRID)
	}
	return r.port.MAC
}

// queueAdvertisement queues one frame for each of the forms. The same
// advertisement is queued once per wake-up, however many reasons there are to
// send it: a process that wakes up late doesn't answer a backlog one by one.
func (r *router) queueAdvertisement(a *vrrp.Action, wakeup uint64) error {
	priority, forms := a.Priority, a.Checksum
	q := &r.queued
	again := q.any && q.wakeup == wakeup && q.priority == priority
	if again {
		forms &^= q.forms
		q.forms |= forms
	} else {
		q.any, q.wakeup, q.priority, q.forms = true, wakeup, priority, forms
	}
	for _, form := range [...]packet.Checksum{packet.ChecksumRFC9568, packet.ChecksumRFC5798} {
		if forms&form == 0 {
			continue
		}
		if err := r.queueFrame(r.protocol.Version, priority, form); err != nil {
			return err
		}
	}
	if a.Version2 && !again {
		return r.queueFrame(2, priority, packet.ChecksumRFC9568)
	}
	return nil
}

func (r *router) queueFrame(version, priority uint8, form packet.Checksum) error {
	frames, err := r.build(version, priority, form)
	if err != nil {
		return err
	}
	for _, frame := range frames {
		if r.authenticator != nil {
			r.authenticator.Sign(r.datagram(frame))
		}
		r.advertiser().Queue(frame)
	}
	return nil
}

// frameIndex is where frames are kept: by their checksum form, one of version 2
// beside version 3 where no form is.
func (r *router) frameIndex(version uint8, form packet.Checksum) int {
	if version != r.protocol.Version {
		return 0
	}
	return int(form)
}

func (r *router) build(version, priority uint8, form packet.Checksum) ([][]byte, error) {
	current := priority == r.protocol.Priority
	n := r.frameIndex(version, form)
	if current && r.frames[n] != nil {
		return r.frames[n], nil
	}
	interval := r.protocol.Interval
	if version != r.protocol.Version {
		interval = r.protocol.Version2Interval()
	}
	a := packet.Advertisement{
		Version:   version,
		VRID:      r.protocol.VRID,
		Priority:  priority,
		AuthType:  r.protocol.AuthType,
		Interval:  interval,
		Addresses: r.protocol.Addresses,
	}
	frames, err := r.frame(&a, form)
	if err != nil {
		return nil, err
	}
	for _, frame := range frames {
		r.octets = max(r.octets, len(r.datagram(frame)))
	}
	if current {
		r.frames[n] = frames
	}
	return frames, nil
}

// frame puts an advertisement into a frame to the group, or into a datagram to
// each of the peers.
func (r *router) frame(a *packet.Advertisement, form packet.Checksum) (frames [][]byte, err error) {
	if len(r.peers) == 0 {
		frame, err := packet.AppendAdvertisementFrame(nil, r.mac(), r.port.Source, a, form)
		if err == nil && r.authenticator != nil {
			frame = packet.InFrame(frame, r.authenticator.Prepare(packet.IPOf(frame)))
		}
		return [][]byte{frame}, err
	}
	for _, p := range r.peers {
		datagram, err := packet.AppendAdvertisementDatagram(nil, r.port.Source, p.Address, r.ttl, a, form)
		if err != nil {
			return nil, err
		}
		if r.authenticator != nil {
			datagram = r.authenticator.Prepare(datagram)
		}
		frames = append(frames, datagram)
	}
	return frames, nil
}

// datagram is the IP datagram in what is sent: to peers nothing else is.
func (r *router) datagram(frame []byte) []byte {
	if len(r.peers) == 0 {
		return packet.IPOf(frame)
	}
	return frame
}

// queueAnnouncements queues one gratuitous ARP or unsolicited neighbour
// advertisement for each virtual address (RFC 9568 §6.4.2), and for what else is
// assigned with them.
func (r *router) queueAnnouncements() error {
	all := r.protocol.Addresses
	for _, p := range r.addresses {
		if !slices.Contains(r.protocol.Addresses, p.Addr()) {
			all = append(all[:len(all):len(all)], p.Addr())
		}
	}
	for _, address := range all {
		appendFrame := packet.AppendGratuitousARP
		if address.Is6() {
			appendFrame = packet.AppendUnsolicitedNA
		}
		frame, err := appendFrame(nil, r.mac(), address)
		if err != nil {
			return err
		}
		r.port.Transmitter.Queue(frame)
	}
	return nil
}
