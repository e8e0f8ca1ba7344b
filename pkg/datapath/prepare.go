// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Prepared are programs that are loaded for the maps of a living run, but not attached. Loading
// them is what takes longest at a start.
type Prepared struct {
	datapath *Datapath
	maps     map[string]ebpf.MapID // the maps of the living run that the programs use
}

// Prepare loads the programs with which this process can take over from the living run that has
// Options.Dir, and changes nothing of that run. It returns what Survey would find if that run were
// killed now. Remains must be closed. It is an error if that run uses BPF and this process can't.
func Prepare(o Options) (*Prepared, *Remains, error) {
	r, err := survey(o.Dir, o.Namespace, nil, o.Objects)
	if err != nil {
		return nil, nil, errors.Join(err, r.Close())
	}
	all := r.objects(o.Authenticates)
	p := &Prepared{maps: make(map[string]ebpf.MapID)}
	if p.datapath, err = load(&o, all); err != nil {
		return nil, nil, errors.Join(err, r.Close())
	}
	from := all[len(all)-1]
	if p.datapath.used {
		from = all[0]
	}
	if why := errors.Join(p.datapath.unavailable, p.datapath.unfenced); why != nil && len(r.maps) > 0 {
		return nil, nil, errors.Join(fmt.Errorf("load the BPF programs: %w", why), p.Close(), r.Close())
	}
	for name, m := range from.maps {
		if p.maps[name], err = mapID(m); err != nil {
			return nil, nil, errors.Join(err, p.Close(), r.Close())
		}
	}
	return p, r, nil
}

func mapID(m *ebpf.Map) (ebpf.MapID, error) {
	info, err := m.Info()
	if err != nil {
		return 0, err
	}
	id, _ := info.ID() // every supported kernel has it
	return id, nil
}

// take returns the Datapath with the prepared programs, nil if they don't use the maps that are
// taken over.
func (p *Prepared) take(from *inheritance) (*Datapath, error) {
	if p == nil || p.datapath == nil {
		return nil, nil
	}
	if from == nil || len(from.maps) == 0 || p.datapath.used != (from.programs != nil) {
		return nil, p.Close()
	}
	for name, m := range from.maps {
		if id, err := mapID(m); err != nil || id != p.maps[name] {
			return nil, p.Close()
		}
	}
	d := p.datapath
	p.datapath = nil
	return d, nil
}

// Close gives up what Load hasn't taken over.
func (p *Prepared) Close() error {
	if p == nil || p.datapath == nil {
		return nil
	}
	d := p.datapath
	p.datapath = nil
	return d.Close()
}
