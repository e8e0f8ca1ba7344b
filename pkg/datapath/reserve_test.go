// SPDX-License-Identifier: Apache-2.0

//go:build !kernels

package datapath

import (
	"testing"

	"github.com/cilium/ebpf"

	"github.com/failoverd/failoverd/bpf"
)

// The fence gets the links that are reserved for it, and those that nobody takes are detached.
func TestReserve(t *testing.T) {
	for _, taken := range []bool{true, false} {
		e := newEstate(t)
		candidates := []Candidate{{Link{Index: e.ifindex, Name: "eth0", Kind: "veth"}, ModeTC}, {Link{Index: 1000, Name: "gone"}, ModeTC}}
		attached := func() (n int) {
			e.do(func() error {
				for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
					ids, err := queryTCX(e.ifindex, at)
					if err != nil {
						return err
					}
					n += len(ids)
				}
				return nil
			})
			return n
		}
		var r *Reservations
		e.do(func() error {
			var run func()
			r, run = prepareReservations(inheritDir, candidates)
			run() // here, because another thread is in another network namespace
			return nil
		})
		if n := attached(); n != 2 {
			t.Errorf("%d programs are attached", n)
		}
		if taken {
			e.do(func() (err error) {
				e.dp, err = Load(Options{Dir: inheritDir, Namespace: namespace, Candidates: candidates, Reserved: r})
				return err
			})
			e.attach(ModeTC)
			own, err := e.dp.idOf(e.dp.fence.objects.FailoverEgress)
			if err != nil {
				t.Fatal(err)
			}
			e.do(func() error {
				ids, err := queryTCX(e.ifindex, ebpf.AttachTCXEgress)
				if len(ids) != 1 || ids[0] != own {
					t.Errorf("%d programs at egress, among them %s: %v", len(ids), bpf.VmacProgFailoverEgress, ids)
				}
				return err
			})
			e.do(func() error { return e.dp.Attached(e.ifindex) })
			// Links of another run are used instead.
			e.do(func() error {
				if more, _ := prepareReservations(inheritDir, candidates); len(more.links) > 0 {
					t.Errorf("reserved beside a run: %v", more.links)
				}
				return nil
			})
			e.close()
		} else {
			e.do(func() error { r.Close(); r.Close(); return nil })
		}
		if n := attached(); n != 0 {
			t.Errorf("taken %v: %d programs are left", taken, n)
		}
	}
}
