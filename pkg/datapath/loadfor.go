// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Shortage is a feature that is missing on this host, and the reason.
type Shortage struct {
	What string
	Why  error
}

// LoadFor loads the datapath for interfaces that receive in these modes. It returns what
// is missing on this host, and an error if that makes a mode impossible.
func LoadFor(o Options, modes []Mode) (*Datapath, []Shortage, error) {
	dp, err := Load(o)
	if err != nil {
		return nil, nil, fmt.Errorf("load the XDP program: %w", err)
	}
	if why := cmp.Or(dp.Unavailable(), dp.Unpinned()); errors.Is(why, unix.EMFILE) || errors.Is(why, unix.ENFILE) {
		return nil, nil, errors.Join(fmt.Errorf("load the BPF programs: %w", why), dp.Close())
	}
	var lacks []Shortage
	if why := dp.Unavailable(); why != nil {
		for _, mode := range modes {
			switch mode {
			case ModeOff, ModeAuto:
			default:
				err := fmt.Errorf("XDP mode %s is not possible here: %w; use off to receive without XDP", mode, why)
				return nil, nil, errors.Join(err, dp.Close())
			}
		}
		if slices.Contains(modes, ModeAuto) {
			lacks = append(lacks, Shortage{"no XDP on this host, receiving through AF_PACKET", why})
		}
	}
	if why := dp.Unpinned(); why != nil {
		lacks = append(lacks, Shortage{"BPF objects are not pinned, bpftool finds their maps by id only", why})
	}
	return dp, lacks, nil
}
