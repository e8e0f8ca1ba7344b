// SPDX-License-Identifier: Apache-2.0

package vrrp

import (
	"fmt"

	"github.com/failoverd/failoverd/pkg/packet"
)

// ID identifies a Virtual Router in the configuration and in messages. Interface
// is the configured name. It stays the same when the interface is renamed.
type ID struct {
	Interface string
	Family    packet.Family
	VRID      uint8
}

func (id ID) String() string {
	return fmt.Sprintf("VRID %d on %s (%s)", id.VRID, id.Interface, id.Family)
}
