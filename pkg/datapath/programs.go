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

// specs are the object files.
type specs struct{ vrrp, vmac *ebpf.CollectionSpec }

// Objects are the object files of the programs, which take milliseconds to parse.
type Objects struct {
	done  chan struct{}
	specs *specs
	err   error
}

// ParseObjects parses the object files in the background.
func ParseObjects() *Objects {
	o := &Objects{done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.specs, o.err = readSpecs()
	}()
	return o
}

// get returns the parsed files. Without an Objects it parses them.
func (o *Objects) get() (*specs, error) {
	if o == nil {
		return readSpecs()
	}
	<-o.done
	return o.specs, o.err
}

func readSpecs() (*specs, error) {
	vrrp, err := bpf.LoadVrrp()
	if err != nil {
		return nil, err
	}
	vmac, err := bpf.LoadVmac()
	if err != nil {
		return nil, err
	}
	return &specs{vrrp, vmac}, nil
}

// constants and variables are the names of the maps that every object file has for them.
const (
	constants = ".rodata"
	variables = ".bss"
)

// collection is one object file in the kernel: all of its maps, and those of its programs
// that were needed. The verifier takes longer than everything else at a start, so a program
// is loaded when the first interface needs it.
type collection struct {
	read func() (*ebpf.CollectionSpec, error) // reads the file for a program that is needed later
	// authenticates is false if the receiving programs know no authentication. They load in half
	// the time.
	authenticates bool
	maps          map[string]*ebpf.Map
	data          *ebpf.Collection // owns the maps that contain variables and constants
	constants     *ebpf.Map        // owned, of programs that were loaded again; nil: none
}

// load loads the maps of an object file, except the shared ones, and the programs
// that it has of the named ones. It assigns maps and variables to the fields of the targets,
// which own them then.
func (c *collection) load(spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map, names []string, targets ...any) (map[string]*ebpf.Program, error) {
	loaded, err := loadPrograms(spec, shared, names, c.authenticates)
	if err != nil {
		return nil, err
	}
	c.maps, c.data = maps.Clone(loaded.Maps), loaded
	programs := loaded.Programs
	loaded.Programs = nil
	for _, t := range targets {
		if err := loaded.Assign(t); err != nil {
			loaded.Close()
			return nil, errors.Join(err, closePrograms(programs))
		}
	}
	return programs, nil
}

func closePrograms(all map[string]*ebpf.Program) error {
	var errs []error
	for _, p := range all {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// loadPrograms loads the named programs of a file, and all of its maps except the shared ones.
func loadPrograms(spec *ebpf.CollectionSpec, shared map[string]*ebpf.Map, names []string, authenticates bool) (*ebpf.Collection, error) {
	spec = spec.Copy()
	if m := spec.Maps[constants]; m != nil {
		m.Name = ".rodata.vrrp" // so that bpftool shows whose map it is; the library freezes maps with this prefix
	}
	if v := spec.Variables[bpf.VrrpVarFailoverAuthenticates]; v != nil {
		if err := v.Set(uint8(number(authenticates))); err != nil {
			return nil, err
		}
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
	loaded, err := loadPrograms(spec, c.maps, []string{name}, c.authenticates)
	if err != nil {
		return nil, fmt.Errorf("load the program %s: %w", name, err)
	}
	defer loaded.Close()
	return loaded.DetachProgram(name), nil
}

func (c *collection) close() {
	if c == nil {
		return
	}
	if c.constants != nil {
		_ = c.constants.Close()
	}
	if c.data != nil {
		c.data.Close()
	}
}

// program returns a program, and loads and pins it if it isn't loaded yet. d.attaching is held.
func (d *Datapath) program(name string) (*ebpf.Program, error) {
	at, c := d.programAt(name), d.collection
	if *at != nil {
		return *at, nil
	}
	switch name {
	case bpf.VmacProgFailoverIn:
		receive, err := d.program(bpf.VrrpProgFailoverTc)
		if err == nil {
			err = d.fence.setNext(receive)
		}
		if err != nil {
			return nil, err
		}
		fallthrough
	case bpf.VmacProgFailoverIngress, bpf.VmacProgFailoverEgress:
		c = d.fence.collection
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

// authenticate replaces the receiving programs in place by ones that know authentication.
func (d *Datapath) authenticate() error {
	d.attaching.Lock()
	defer d.attaching.Unlock()
	if d.unavailable != nil || d.collection.authenticates {
		return nil
	}
	if d.pins != nil {
		if err := d.pins.unmarkPrograms(); err != nil {
			return err
		}
	}
	var names []string
	for _, name := range []string{bpf.VrrpProgFailoverVrrp, bpf.VrrpProgFailoverTc} {
		if *d.programAt(name) != nil {
			names = append(names, name)
		}
	}
	programs, err := d.collection.authenticating(names)
	if err != nil {
		return err
	}
	for name, p := range programs {
		if err := d.replace(name, p); err != nil {
			return errors.Join(err, closePrograms(programs))
		}
		delete(programs, name)
	}
	d.collection.authenticates = true
	return nil
}

// authenticating loads programs again, so that they know authentication.
func (c *collection) authenticating(names []string) (map[string]*ebpf.Program, error) {
	spec, err := c.read()
	if err != nil {
		return nil, err
	}
	shared := maps.Clone(c.maps)
	delete(shared, constants)
	loaded, err := loadPrograms(spec, shared, names, true)
	if err != nil {
		return nil, err
	}
	defer loaded.Close()
	if c.constants != nil {
		_ = c.constants.Close() // of an earlier try
	}
	c.constants = loaded.DetachMap(constants)
	c.maps[constants] = c.constants
	programs := loaded.Programs
	loaded.Programs = nil
	return programs, nil
}

// replace replaces a receiving program in place, wherever it is attached, and takes ownership of
// the new one.
func (d *Datapath) replace(name string, program *ebpf.Program) error {
	at := d.programAt(name)
	old := *at
	for _, a := range d.attached {
		for _, h := range d.hooks(a) {
			if h.program == old {
				if err := (*h.link).Update(program); err != nil {
					return fmt.Errorf("replace %s at %s: %w", name, a.on.Name, err)
				}
			}
		}
		if i := slices.IndexFunc(a.filters, func(c classifier) bool { return c.program == old }); i >= 0 {
			filters := slices.Clone(a.filters)
			filters[i].program = program
			if err := attachClassifiers(a.on.Index, filters); err != nil {
				return fmt.Errorf("replace %s at %s: %w", name, a.on.Name, err)
			}
			a.filters = filters
		}
	}
	if name == bpf.VrrpProgFailoverTc && d.fence != nil {
		if err := d.fence.setNext(program); err != nil {
			return err
		}
	}
	if d.pins != nil {
		if err := errors.Join(old.Unpin(), d.pins.pinProgram(program, name)); err != nil {
			return err
		}
	}
	*at = program
	delete(d.ids, old)
	return old.Close()
}
