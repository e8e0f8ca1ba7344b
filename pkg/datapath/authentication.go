// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/failoverd/failoverd/bpf"
	"github.com/failoverd/failoverd/pkg/auth"
	"github.com/failoverd/failoverd/pkg/packet"
)

var kernelAuth = map[auth.Type]bpf.VrrpFailoverAuth{
	auth.Password: bpf.VrrpFailoverAuthAUTH_PASSWORD,
	auth.Header:   bpf.VrrpFailoverAuthAUTH_HEADER,
	auth.HMAC:     bpf.VrrpFailoverAuthAUTH_HMAC,
}

// putKeys gives the kernel what it verifies a Virtual Router's advertisements by. What
// it has accepted before is kept if the router was verified before.
func (d *Datapath) putKeys(e *entry) error {
	e.keys = nil
	if e.Verifier == nil {
		return nil
	}
	if !e.proven {
		if err := d.objects.FailoverProven.Put(e.slot, bpf.VrrpFailoverProof{}); err != nil {
			return fmt.Errorf("what it accepts: %w", noRoom(bpf.VrrpMapFailoverProven, d.objects.FailoverProven.MaxEntries(), err))
		}
		e.proven = true
	}
	rules := e.Verifier.Rules()
	keys := make(map[uint8]bpf.VrrpFailoverSecret)
	if rules.Type == auth.Password {
		var password bpf.VrrpFailoverSecret
		for i := range rules.Password {
			if i%4 == 0 {
				password.Inner[i/4] = binary.NativeEndian.Uint32(rules.Password[i:])
			}
		}
		keys[0] = password
	}
	for id, states := range rules.Keys {
		keys[id] = bpf.VrrpFailoverSecret{Inner: states.Inner, Outer: states.Outer}
	}
	for id, secret := range keys {
		key := bpf.VrrpFailoverSecretKey{Slot: e.slot, Id: uint32(id)}
		if err := d.objects.FailoverKeys.Put(key, secret); err != nil {
			return fmt.Errorf("its key %d: %w", id, noRoom(bpf.VrrpMapFailoverKeys, d.objects.FailoverKeys.MaxEntries(), err))
		}
		e.keys = append(e.keys, key)
	}
	return nil
}

// deleteKeys has the kernel forget the keys that a Virtual Router had before and has no
// longer, and what it has accepted if it isn't verified any more.
func (d *Datapath) deleteKeys(now, before *entry) error {
	var errs []error
	kept := make(map[bpf.VrrpFailoverSecretKey]bool)
	for _, k := range now.keys {
		kept[k] = true
	}
	for _, k := range before.keys {
		if !kept[k] {
			errs = append(errs, absent(d.objects.FailoverKeys.Delete(k)))
		}
	}
	if now.Verifier == nil && before.proven {
		now.proven = false
		errs = append(errs, absent(d.objects.FailoverProven.Delete(now.slot)))
	}
	return errors.Join(errs...)
}

// Refused is how many advertisements of a Virtual Router the kernel has refused because
// they aren't authentic, by Reason.
func (d *Datapath) Refused(k packet.Key) (all [packet.ReasonCount]uint64) {
	d.mu.RLock()
	e, known := d.routers[k]
	d.mu.RUnlock()
	var p bpf.VrrpFailoverProof
	if !known || e.Verifier == nil || d.unavailable != nil || d.objects.FailoverProven.Lookup(e.slot, &p) != nil {
		return all
	}
	return *counters(&p.Refused)
}

// counters are the kernel's, by Reason.
func counters(c *bpf.VrrpFailoverCounters) *[packet.ReasonCount]uint64 {
	return (*[packet.ReasonCount]uint64)(unsafe.Pointer(c))
}
