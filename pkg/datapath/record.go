// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"unsafe"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Record is one received advertisement. It and its slices are valid only
// during the call that hands it over.
type Record struct {
	ReceivedAt    vrrp.Instant
	Key           packet.Key
	Datagram      packet.Datagram
	Advertisement packet.Advertisement
	Checksum      packet.Checksum
	// Err is the packet.Reason for which it would be refused. Only watched
	// interfaces deliver such records; of the Advertisement nothing is valid
	// then.
	Err error
	// Signature is the same for advertisements that are the same, from the same
	// sender, for ReceiveState.Expect; 0 where that isn't possible.
	Signature uint64
}

// Drain calls f for each advertisement received before it was called, in the
// order of reception on each interface, and never waits. If more have come
// meanwhile, the next Wait returns at once.
func (d *Datapath) Drain(f func(*Record)) {
	more := false
	d.deliver = f
	for _, r := range d.rings {
		if r.drain(d.sample) {
			more = true
		}
	}
	d.deliver = nil
	for _, s := range d.allSockets() {
		if s.drain(func(frame []byte, at vrrp.Instant) {
			if d.fromSocket(s, frame, at) {
				f(&d.record)
			}
		}) {
			more = true
		}
	}
	if more {
		d.Wake()
	}
}

// drainSample is what the ring calls for each record.
func (d *Datapath) drainSample(sample []byte) {
	if d.fromKernel(sample) {
		d.deliver(&d.record)
	}
}

// fromKernel makes d.record of what the XDP program delivered. Everything is
// checked again: the kernel's verdict is a shield, not the trust boundary.
func (d *Datapath) fromKernel(sample []byte) bool {
	const size = int(unsafe.Sizeof(bpf.VrrpFailoverRecord{}))
	if len(sample) < size {
		return false
	}
	k := (*bpf.VrrpFailoverRecord)(unsafe.Pointer(&sample[0]))
	if len(sample) < size+int(k.Length) {
		return false
	}
	f := packet.Family(k.Family)
	r := &d.record
	r.ReceivedAt, r.Signature = vrrp.Instant(k.Received), k.Signature
	r.Datagram = packet.Datagram{
		Source:      fromOctets(f, k.Source),
		Destination: fromOctets(f, k.Destination),
		TTL:         uint8(k.Ttl),
		Message:     sample[size : size+int(k.Length)],
	}
	if k.Header[0] != 0 {
		r.Datagram.Header, r.Datagram.Identification = k.Header[:], k.Identification
	}
	err := d.decode(int(k.Ifindex), f, d.watches(int(k.Ifindex)))
	if err == nil && k.Reason != bpf.VrrpFailoverReasonREASON_none {
		// It was refused for what the kernel knows of the Virtual Router.
		err = packet.Reason(k.Reason)
	}
	r.Err = err
	return (err == nil || d.watches(r.Key.Ifindex)) && d.authentic()
}

// fromSocket makes d.record of a frame, applying to it all that the XDP
// program does.
func (d *Datapath) fromSocket(s *socket, frame []byte, at vrrp.Instant) bool {
	r := &d.record
	r.ReceivedAt, r.Signature = at, 0
	r.Key = packet.Key{Ifindex: s.ifindex}
	var err error
	if r.Datagram, err = packet.ParseFrame(frame); err != nil {
		d.refuse(err)
		return false
	}
	err = d.decode(s.ifindex, packet.FamilyOf(r.Datagram.Destination), s.watch)
	if err == nil {
		err = d.admit()
	}
	r.Err = err
	switch {
	case err == nil:
	case s.watch && errors.Is(err, packet.ErrVRID):
		r.Err = nil // there is no router to refuse it
	case s.watch:
		d.refuse(err)
	default:
		d.refuse(err)
		return false
	}
	if !d.authentic() {
		return false
	}
	d.Count(packet.ReasonDelivered)
	return true
}

// decode reads the message of d.record.
func (d *Datapath) decode(ifindex int, f packet.Family, watch bool) error {
	r := &d.record
	r.Key = packet.Key{Ifindex: ifindex, Family: f}
	if m := r.Datagram.Message; len(m) > 1 {
		r.Key.VRID = m[1]
	}
	d.mu.RLock()
	e, known := d.routers[r.Key]
	d.mu.RUnlock()
	if r.Datagram.Header != nil && !watch && (!known || !e.Tolerate.AuthHeader) {
		return packet.ErrNotVRRP // of the Authentication Header's users VRRP is the least
	}
	hops := packet.OnLink()
	if r.Datagram.Unicast() {
		known = known && r.Datagram.Destination == e.Source
		if !known && !watch {
			return packet.ErrNotVRRP // to somebody else, or to another program of this host
		}
		hops.Min = 0
	}
	tolerate := packet.Tolerance{AuthHeader: watch, AuthTrailer: true} // what others authenticate is no fault of theirs
	if known {
		var err error
		if hops, err = e.way(&r.Datagram, hops); err != nil {
			return err
		}
		tolerate = e.Tolerate
	}
	form, err := r.Advertisement.DecodeWithin(&r.Datagram, tolerate, hops)
	r.Checksum = form
	return err
}

// way checks whether a datagram came the way that the Virtual Router's
// advertisements come: by the group, or from a peer, whose limits it returns.
func (r *Router) way(d *packet.Datagram, hops packet.Hops) (packet.Hops, error) {
	switch {
	case r.unicast() != d.Unicast():
		return hops, packet.ErrCast
	case !r.unicast():
		return hops, nil
	case d.Source == r.Source:
		return hops, packet.ErrOwnSource
	}
	hops, peer := r.Peers[d.Source]
	if !peer {
		return hops, packet.ErrPeer
	}
	return hops, nil
}

// admit checks d.record against the Virtual Router that it is for.
func (d *Datapath) admit() error {
	r := &d.record
	d.mu.RLock()
	e, known := d.routers[r.Key]
	d.mu.RUnlock()
	switch {
	case !known:
		return packet.ErrVRID
	case r.Datagram.Source == e.Source:
		return packet.ErrOwnSource
	case !e.speaks(r.Advertisement.Version):
		return packet.ErrVersion
	case !e.Running:
		return packet.ErrInitialize
	}
	return nil
}

// authentic asks the Virtual Router's Verifier about d.record, unless it is
// refused already, and counts what that refuses.
func (d *Datapath) authentic() bool {
	r := &d.record
	d.mu.RLock()
	e := d.routers[r.Key]
	d.mu.RUnlock()
	if e.Verifier == nil || r.Err != nil {
		return true
	}
	if err := e.Verifier.Verify(r.ReceivedAt, &r.Datagram, &r.Advertisement); err != nil {
		d.refuse(err)
		return false
	}
	return true
}

// refuse counts an error of d.record and keeps what it was about.
func (d *Datapath) refuse(err error) {
	var reason packet.Reason
	if !errors.As(err, &reason) || reason == packet.ErrNotVRRP {
		return
	}
	d.Count(reason)
	r := &d.record
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last[reason] = Discard{
		ReceivedAt: r.ReceivedAt,
		Ifindex:    r.Key.Ifindex,
		Family:     r.Key.Family,
		VRID:       r.Key.VRID,
		Source:     r.Datagram.Source,
	}
}

func (d *Datapath) watches(ifindex int) bool {
	all := d.watched.Load()
	return all != nil && (*all)[ifindex]
}
