// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/failoverd/failoverd/bpf"
)

// Load loads only the programs that the interfaces need.
func TestProgramsFor(t *testing.T) {
	card, virtual := Link{Index: 2, Name: "eth0"}, Link{Index: 3, Name: "veth0", Kind: "veth"}
	atXDP := []string{bpf.VmacProgFailoverEgress, bpf.VmacProgFailoverIngress, bpf.VrrpProgFailoverVrrp}
	atTC := []string{bpf.VmacProgFailoverEgress, bpf.VmacProgFailoverIn, bpf.VrrpProgFailoverTc}
	for _, c := range []struct {
		name string
		all  []Candidate
		want []string
	}{
		{"a card", []Candidate{{card, ModeAuto}}, atXDP},
		{"a virtual device", []Candidate{{virtual, ModeAuto}}, atTC},
		{"XDP behind the driver", []Candidate{{virtual, ModeGeneric}}, atXDP},
		{"TC at a card", []Candidate{{card, ModeTC}}, atTC},
		{"no receiving program", []Candidate{{card, ModeOff}}, atXDP[:2]},
		{"no interface", []Candidate{}, nil},
	} {
		if got := programsFor(c.all); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	both := append(slices.Clone(atXDP), atTC...)
	slices.Sort(both)
	if got := programsFor([]Candidate{{card, ModeAuto}, {virtual, ModeAuto}}); !slices.Equal(got, slices.Compact(both)) {
		t.Errorf("both: %v", got)
	}
}

// A program that is loaded later uses the maps that exist, and failover_in continues with the
// receiving program.
func TestProgramsOnDemand(t *testing.T) {
	d, err := Load(Options{Unpinned: true, Candidates: []Candidate{}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := errors.Join(d.unavailable, d.unfenced); err != nil {
		t.Fatal(err)
	}
	if o := d.objects; o.FailoverTc != nil || o.FailoverVrrp != nil || d.fence.objects.FailoverIn != nil {
		t.Error("programs are loaded that no interface needs")
	}
	maps := func(p *ebpf.Program, err error) []ebpf.MapID {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		ids, _ := info.MapIDs()
		return ids
	}
	idOf := func(m *ebpf.Map) ebpf.MapID {
		t.Helper()
		info, err := m.Info()
		if err != nil {
			t.Fatal(err)
		}
		id, _ := info.ID()
		return id
	}
	if ids := maps(d.program(bpf.VmacProgFailoverIn)); !slices.Contains(ids, idOf(d.fence.objects.FailoverAddress)) || !slices.Contains(ids, idOf(d.objects.FailoverLease)) {
		t.Errorf("failover_in uses the maps %v", ids)
	}
	var next ebpf.ProgramID
	want, err := d.idOf(d.objects.FailoverTc)
	if err := errors.Join(err, d.fence.objects.FailoverNext.Lookup(uint32(0), &next)); err != nil || next != want {
		t.Errorf("failover_in continues with the program %d, not with %d: %v", next, want, err)
	}
	for _, name := range []string{bpf.VrrpProgFailoverVrrp, bpf.VrrpProgFailoverTc} {
		ids := maps(d.program(name))
		for _, m := range []*ebpf.Map{d.objects.FailoverRouter, d.objects.FailoverStamp, d.objects.FailoverRing, d.objects.FailoverLease} {
			if !slices.Contains(ids, idOf(m)) {
				t.Errorf("%s doesn't use %s", name, m)
			}
		}
	}
}
