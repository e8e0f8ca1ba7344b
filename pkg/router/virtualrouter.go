// SPDX-License-Identifier: Apache-2.0

package router

import (
	"net/netip"
	"slices"
	"time"

	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// maxCoalescing limits virtualRouter.coalescing for routers with long intervals.
const maxCoalescing = 5 * time.Millisecond

// virtualRouter is one Virtual Router in the loop.
type virtualRouter struct {
	// The fields for sending an advertisement come first and close together. There may
	// be thousands of routers, so few of them are in the processor's caches at a wake-up.
	machine        *vrrp.Router
	deadline       vrrp.Instant
	restartAt      vrrp.Instant   // when to leave Initialize again; 0: not by itself
	releaseAt      vrrp.Instant   // when to retry the removal of the addresses; 0: not
	group          *group         // nil: none
	heldBy         *virtualRouter // the member of the group that an expired timer waits for
	heldUntil      vrrp.Instant   // the earliest time at which that wait may end
	checkAt        vrrp.Instant   // when a check of the interface is due; 0: none is
	checkRequested bool           // a check was requested for this deadline
	notBefore      vrrp.Instant   // an expired Active_Down_Timer isn't believed earlier
	slot           int32          // in Loop.deadlines; -1: not in it
	steadyIndex    int32          // in Loop.steady; -1: not in it
	lease          Lease          // nil before the first use
	authenticator  Authenticator
	ignoring       vrrp.Outranked // what the kernel ignores for this router
	queued         struct {
		wakeup   uint64
		any      bool
		priority uint8
		forms    packet.Checksum
	}
	// frames are the prebuilt advertisements with the current priority, by frameIndex:
	// one frame for the group, or one datagram for each peer.
	frames      [4][][]byte
	peers       []Peer
	protocol    vrrp.Config
	port        Port
	sentAt      vrrp.Instant // when an advertisement was last sent; 0: never
	counters    Counters
	sendFailure *sendFailure // nil: the last advertisement was sent

	id        ID
	key       packet.Key
	addresses []netip.Prefix
	elsewhere []netip.Addr
	ttl       uint8

	// The receive times of the newest advertisements that the kernel stamps and that the
	// state machine has accepted, or refused for a reason that the kernel can't check.
	lastAccepted, lastRefused vrrp.Instant

	// kernel is the kernel's receive state, nil before the first use. expected is what was
	// passed to SetExpected, and counted the result of Repeated that the state machine has
	// processed.
	kernel   ReceiveState
	expected expected
	counted  [2]uint64

	// generation counts assignments and releases. A completion with an older generation is
	// stale.
	generation uint64
	assigned   bool         // the addresses are in place
	assignedAt vrrp.Instant // since when they are
	releaseErr error        // why the last removal failed; nil: it didn't
	announce   bool         // an announcement waits until the addresses are in place

	announceDue bool // an announcement is sent with the next flush

	octets        int           // the length of the longest advertisement, as an IP datagram
	steppedDownAt vrrp.Instant  // when the router last stepped down because it couldn't send
	probeDelay    time.Duration // how long it then waited before it tried again

	releasing   int          // running removals of all addresses
	withdrawing int          // running removals of some addresses, or of foreign ones
	releasedAt  vrrp.Instant // when the last removal ended; 0: there was none
	gone        chan error   // gets the result of Remove; nil: Remove isn't running
}

// attach binds the router to a port and drops everything that belonged to the old one.
func (r *virtualRouter) attach(p Port) {
	r.port = p
	r.key = packet.Key{Ifindex: p.Ifindex, Family: r.id.Family, VRID: r.id.VRID}
	r.frames = [4][][]byte{}
	r.queued.any = false
	r.kernel, r.expected, r.lease, r.ignoring = nil, expected{}, nil, vrrp.Outranked{}
	r.octets, r.sendFailure = 0, nil
	r.checkRequested, r.notBefore = false, 0
}

func (r *virtualRouter) groupName() string {
	if r.group == nil {
		return ""
	}
	return r.group.name
}

// holder returns the ID of the member of the group that the router waits for.
func (r *virtualRouter) holder() *ID {
	if r.heldBy == nil {
		return nil
	}
	id := r.heldBy.id
	return &id
}

// advertiser returns the Transmitter for the router's advertisements.
func (r *virtualRouter) advertiser() Transmitter {
	if len(r.peers) > 0 {
		return r.port.Unicast
	}
	return r.port.Transmitter
}

// setPeers replaces the peers. A peer that was one before keeps its LastHeard.
func (r *virtualRouter) setPeers(addresses []netip.Addr) {
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

// notePeer updates LastHeard of a peer.
func (r *virtualRouter) notePeer(from netip.Addr, at vrrp.Instant) {
	for i := range r.peers {
		if r.peers[i].Address == from {
			r.peers[i].LastHeard = at
		}
	}
}

// coalescing returns how much earlier than its deadline a router may run, to share the
// wake-up of another one: an Active may send by up to a twentieth of its interval early.
// The next deadline is still counted from this one, so the interval doesn't drift.
func (r *virtualRouter) coalescing(most time.Duration) time.Duration {
	if r.machine.State() != vrrp.Active || r.releaseAt != 0 || r.restartAt != 0 || r.sendFailure != nil {
		return 0
	}
	return min(r.protocol.Interval/20, most)
}

// device returns the interface that gets the addresses.
func (r *virtualRouter) device() int {
	if r.port.Device != 0 {
		return r.port.Device
	}
	return r.port.Ifindex
}

// stamped reports whether the kernel stamps the advertisement.
func (r *virtualRouter) stamped(p *Received) bool {
	a := &p.Advertisement
	return a.Priority >= r.protocol.MinPriority() && (a.Version == 2 || p.Checksum&r.protocol.Forms() != 0)
}

// processed reports whether the state machine has processed the advertisement of a stamp.
func (r *virtualRouter) processed(s vrrp.Stamp) bool {
	return s.At <= r.lastAccepted || s.At == r.lastRefused
}

// mac returns the source MAC of the router's frames, with which its addresses are
// announced.
func (r *virtualRouter) mac() packet.MAC {
	if r.port.VirtualMAC {
		return packet.VirtualMAC(r.id.Family, r.id.VRID)
	}
	return r.port.MAC
}

// queueAdvertisement queues one frame for each form of the checksum. In one wake-up the
// same advertisement is queued only once, so that a process that wakes up late doesn't
// answer each advertisement of a backlog.
func (r *virtualRouter) queueAdvertisement(a *vrrp.Action, wakeup uint64) error {
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

func (r *virtualRouter) queueFrame(version, priority uint8, form packet.Checksum) error {
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

// frameIndex returns the index into frames: the form of the checksum, or 0 for version 2
// beside version 3.
func (r *virtualRouter) frameIndex(version uint8, form packet.Checksum) int {
	if version != r.protocol.Version {
		return 0
	}
	return int(form)
}

func (r *virtualRouter) build(version, priority uint8, form packet.Checksum) ([][]byte, error) {
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

// frame encodes an advertisement as one frame to the group, or as one datagram to each of
// the peers.
func (r *virtualRouter) frame(a *packet.Advertisement, form packet.Checksum) (frames [][]byte, err error) {
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

// datagram returns the IP datagram in a frame. What is sent to peers is a datagram already.
func (r *virtualRouter) datagram(frame []byte) []byte {
	if len(r.peers) == 0 {
		return packet.IPOf(frame)
	}
	return frame
}

// queueAnnouncements queues one gratuitous ARP or unsolicited neighbour advertisement for
// each virtual address (RFC 9568 §6.4.2) on the router's interface, and for each other
// address that is assigned with them.
func (r *virtualRouter) queueAnnouncements() error {
	all := slices.Clone(r.protocol.Addresses)
	for _, p := range r.addresses {
		if !slices.Contains(all, p.Addr()) {
			all = append(all, p.Addr())
		}
	}
	for _, address := range all {
		if slices.Contains(r.elsewhere, address) {
			continue
		}
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
