// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/failoverd/failoverd/bpf"
)

// Candidate is an interface that Attach is going to be called for.
type Candidate struct {
	Link Link
	Mode Mode
}

// programsFor returns the names of the programs that the interfaces need, as far as that is
// known before they are attached. For nil it returns all programs.
func programsFor(all []Candidate) []string {
	if all == nil {
		return []string{bpf.VrrpProgFailoverVrrp, bpf.VrrpProgFailoverTc, bpf.VmacProgFailoverIn, bpf.VmacProgFailoverIngress, bpf.VmacProgFailoverEgress}
	}
	var names []string
	for _, e := range all {
		switch {
		case e.Mode == ModeOff:
			names = append(names, bpf.VmacProgFailoverIngress, bpf.VmacProgFailoverEgress)
		case modes(e.Link, e.Mode)[0].Kind == PathTC:
			names = append(names, bpf.VrrpProgFailoverTc, bpf.VmacProgFailoverIn, bpf.VmacProgFailoverEgress)
		default:
			names = append(names, bpf.VrrpProgFailoverVrrp, bpf.VmacProgFailoverIngress, bpf.VmacProgFailoverEgress)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// collection is one object file in the kernel: all of its maps, and those of its programs
// that were needed. The verifier takes longer than everything else at a start, so a program
// is loaded when the first interface needs it.
type collection struct {
	read func() (*ebpf.CollectionSpec, error) // reads the file for a program that is needed later
	maps map[string]*ebpf.Map
	data *ebpf.Collection // owns the maps that contain variables and constants
}

// loadCollection loads the maps of an object file, except the shared ones, and the programs
// that it has of the named ones. It assigns maps and variables to the fields of the targets,
// which own them then.
func loadCollection(spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map, names []string, targets ...any) (*collection, map[string]*ebpf.Program, error) {
	loaded, err := loadPrograms(spec, shared, names)
	if err != nil {
		return nil, nil, err
	}
	c := &collection{maps: maps.Clone(loaded.Maps), data: loaded}
	programs := loaded.Programs
	loaded.Programs = nil
	for _, t := range targets {
		if err := loaded.Assign(t); err != nil {
			for _, p := range programs {
				err = errors.Join(err, p.Close())
			}
			loaded.Close()
			return nil, nil, err
		}
	}
	return c, programs, nil
}

// loadPrograms loads the named programs of a file, and all of its maps except the shared ones.
func loadPrograms(spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map, names []string) (*ebpf.Collection, error) {
	if constants := spec.Maps[".rodata"]; constants != nil {
		constants.Name = "failover.rodata" // so that bpftool shows whose map it is
	}
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return !slices.Contains(names, name) })
	shared = maps.Clone(shared)
	maps.DeleteFunc(shared, func(name string, _ *ebpf.Map) bool { return spec.Maps[name] == nil })
	return ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
}

// program loads one more program.
func (c *collection) program(name string) (*ebpf.Program, error) {
	spec, err := c.read()
	if err != nil {
		return nil, err
	}
	loaded, err := loadPrograms(spec, c.maps, []string{name})
	if err != nil {
		return nil, fmt.Errorf("load the program %s: %w", name, err)
	}
	defer loaded.Close()
	return loaded.DetachProgram(name), nil
}

func (c *collection) close() {
	if c != nil {
		c.data.Close()
	}
}

// receiver returns a receiving program, and loads it if it isn't loaded yet. d.attaching is
// held.
func (d *Datapath) receiver(name string) (*ebpf.Program, error) {
	at := &d.objects.FailoverVrrp
	if name == bpf.VrrpProgFailoverTc {
		at = &d.objects.FailoverTc
	}
	return d.need(d.collection, at, name)
}

// fenceProgram is receiver for the programs of the fence.
func (d *Datapath) fenceProgram(name string) (*ebpf.Program, error) {
	switch o := &d.fence.objects; name {
	case bpf.VmacProgFailoverEgress:
		return d.need(d.fence.collection, &o.FailoverEgress, name)
	case bpf.VmacProgFailoverIngress:
		return d.need(d.fence.collection, &o.FailoverIngress, name)
	}
	if d.fence.objects.FailoverIn == nil {
		receive, err := d.receiver(bpf.VrrpProgFailoverTc)
		if err == nil {
			err = d.fence.setNext(receive)
		}
		if err != nil {
			return nil, err
		}
	}
	return d.need(d.fence.collection, &d.fence.objects.FailoverIn, bpf.VmacProgFailoverIn)
}

// need returns the program of a field, and loads and pins it if it isn't loaded yet.
func (d *Datapath) need(c *collection, at **ebpf.Program, name string) (*ebpf.Program, error) {
	if *at != nil {
		return *at, nil
	}
	p, err := c.program(name)
	if err != nil {
		return nil, err
	}
	if d.pins != nil {
		if err := d.pins.pinProgram(p, name); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	*at = p
	return p, nil
}
