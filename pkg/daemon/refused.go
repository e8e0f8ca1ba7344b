// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"

	"github.com/failoverd/failoverd/pkg/vrrp"
)

// refused has a Virtual Router that the kernel doesn't take stay out, and be tried again:
// it would hear nobody, and nothing would hold back what answers for its addresses.
func (ps *ports) refused(p *port, m *member, err error) error {
	err = fmt.Errorf("the kernel doesn't take the virtual router: %w", err)
	if m.failed == nil || m.failed.Error() != err.Error() {
		ps.log.WithFields(fields(m.id)).WithError(err).Error("router can't take part, trying again")
	}
	m.failed = err
	return ps.stop(p, m, vrrp.CauseWaiting, err.Error())
}
