// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"unsafe"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/packet"
	"github.com/failoverd/failoverd/pkg/vrrp"
)

// Record is one received advertisement. The record and its slices are valid only during
// the callback of Drain.
type Record struct {
	ReceivedAt    vrrp.Instant
	Key           packet.Key
	Datagram      packet.Datagram
	Advertisement packet.Advertisement
	Checksum      packet.Checksum
	// Err is the packet.Reason to refuse the advertisement. Only watched interfaces
	// deliver such records. The Advertisement isn't valid then.
	Err error
	// Signature is a hash of the sender and the message, for ReceiveState.SetExpected. Identical
	// advertisements from one sender have the same signature. It is 0 if the kernel
	// computed none.
	Signature uint64
}

// Drain calls f for each advertisement that was received before the call, in the order of
// reception on each interface. It never blocks. If more have come meanwhile, the next Wait
// returns at once.
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

// drainSample handles one record of a ring.
func (d *Datapath) drainSample(sample []byte) {
	if d.fromKernel(sample) {
		d.deliver(&d.record)
	}
}

// fromKernel fills d.record from a sample that a receiving program delivered, and reports
// whether to hand it over. It checks everything again, because the kernel's verdict saves
// work but isn't the trust boundary.
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
		// The kernel refused it because of the Virtual Router's configuration.
		err = packet.Reason(k.Reason)
	}
	r.Err = err
	return (err == nil || d.watches(r.Key.Ifindex)) && d.verify()
}

// fromSocket fills d.record from a frame that a socket received, and reports whether to
// hand it over. It applies the same checks as the XDP program.
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
		err = d.checkRouter()
	}
	r.Err = err
	switch {
	case err == nil:
	case s.watch && errors.Is(err, packet.ErrVRID):
		r.Err = nil // a watched interface needs no Virtual Router
	case s.watch:
		d.refuse(err)
	default:
		d.refuse(err)
		return false
	}
	if !d.verify() {
		return false
	}
	d.Count(packet.ReasonDelivered)
	return true
}

// decode decodes the message of d.record, and checks what doesn't depend on the version
// or the state of the Virtual Router.
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
		return packet.ErrNotVRRP // most users of the Authentication Header aren't VRRP
	}
	hops := packet.OnLink()
	if r.Datagram.Unicast() {
		known = known && r.Datagram.Destination == e.Source
		if !known && !watch {
			return packet.ErrNotVRRP // for another host, or for another program of this host
		}
		hops.Min = 0
	}
	tolerate := packet.Tolerance{AuthHeader: watch, AuthTrailer: true, NoAddress: true} // other Virtual Routers may use authentication or have no address
	if known {
		var err error
		if hops, err = e.checkPeer(&r.Datagram, hops); err != nil {
			return err
		}
		tolerate = e.Tolerate
	}
	form, err := r.Advertisement.DecodeWithin(&r.Datagram, tolerate, hops)
	r.Checksum = form
	return err
}

// checkPeer checks that a datagram was sent to the group, or to a unicast router by one of
// its peers. For a peer it returns the limits of the hops.
func (r *Router) checkPeer(d *packet.Datagram, hops packet.Hops) (packet.Hops, error) {
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

// checkRouter checks d.record against the Virtual Router that it is for.
func (d *Datapath) checkRouter() error {
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

// verify reports whether the Virtual Router's Verifier accepts d.record, and counts a
// refusal. It accepts a record that has been refused already, and one without a Verifier.
func (d *Datapath) verify() bool {
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

// refuse counts the reason to refuse d.record, and stores the packet for LastDiscard.
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
