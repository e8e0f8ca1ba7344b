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

// putKeys writes the keys or the password of a Virtual Router into the kernel's map. A
// router that was already authenticated keeps its record of accepted sequence numbers.
func (d *Datapath) putKeys(e *entry) error {
	e.keys = nil
	if e.Verifier == nil {
		return nil
	}
	if !e.proven {
		if err := d.objects.FailoverProven.Put(e.slot, bpf.VrrpFailoverProof{}); err != nil {
			return fmt.Errorf("add its record of senders: %w", noRoom(bpf.VrrpMapFailoverProven, d.objects.FailoverProven.MaxEntries(), err))
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
			return fmt.Errorf("add its key %d: %w", id, noRoom(bpf.VrrpMapFailoverKeys, d.objects.FailoverKeys.MaxEntries(), err))
		}
		e.keys = append(e.keys, key)
	}
	return nil
}

// deleteKeys deletes from the kernel's map the keys in before that aren't in now. If the
// router isn't authenticated any more, deleteKeys also deletes its record of senders.
func (d *Datapath) deleteKeys(now, before *entry) error {
	var errs []error
	kept := make(map[bpf.VrrpFailoverSecretKey]bool)
	for _, k := range now.keys {
		kept[k] = true
	}
	for _, k := range before.keys {
		if !kept[k] {
			errs = append(errs, ignoreNotExist(d.objects.FailoverKeys.Delete(k)))
		}
	}
	if now.Verifier == nil && before.proven {
		now.proven = false
		errs = append(errs, ignoreNotExist(d.objects.FailoverProven.Delete(now.slot)))
	}
	return errors.Join(errs...)
}

// Refused returns how many advertisements for a Virtual Router the kernel has refused
// because they aren't authentic, by Reason.
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

// counters returns the kernel's counters as an array indexed by Reason.
func counters(c *bpf.VrrpFailoverCounters) *[packet.ReasonCount]uint64 {
	return (*[packet.ReasonCount]uint64)(unsafe.Pointer(c))
}
