// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"

	"github.com/failoverd/failoverd/pkg/config"
	"github.com/failoverd/failoverd/pkg/datapath"
	"github.com/failoverd/failoverd/pkg/link"
	hostplan "github.com/failoverd/failoverd/pkg/plan"
)

// checkHost looks what on the host keeps a Virtual Router from taking part, and warns of
// what is doubtful. The picture may be older than the removal of what a killed run has
// left, so it looks again.
func (ps *ports) checkHost(p *port, m *member, snapshot []link.Interface) error {
	host := hostplan.Seen{Interfaces: snapshot, Ours: ps.ours, Fenced: p.path.Unfenced == nil}
	if len(hostplan.Obstacles(*m.config, host)) > 0 {
		var err error
		if host.Interfaces, err = ps.handle.Interfaces(); err != nil {
			return fmt.Errorf("list the interfaces: %w", err)
		}
	}
	var errs []error
	for _, o := range hostplan.Obstacles(*m.config, host) {
		errs = append(errs, errors.New(o.String()))
	}
	if m.failed != nil || len(errs) > 0 {
		return errors.Join(errs...) // it was warned before
	}
	for _, w := range hostplan.Warnings(*m.config, host, ps.exclude) {
		ps.log.WithFields(fields(m.id)).WithField("code", w.Code).Warn(w)
	}
	return nil
}

// choose decides on the way to have the virtual MAC, and says what keeps auto from having
// one.
func (m *member) choose(path datapath.Path, i link.Interface) (why string, err error) {
	m.mac, why, err = hostplan.VirtualMAC(hostplan.MAC{
		Want: m.config.VirtualMAC, Unicast: m.config.Unicast.On(), Owner: m.config.Priority == config.OwnerPriority,
		Accept: m.config.Accept, VRID: int(m.id.VRID), TC: path.TC != "", Unfenced: path.Unfenced,
	}, i)
	return why, err
}
