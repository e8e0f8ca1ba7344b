// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"testing"
)

// Without a configuration file, a reload is an error.
func TestReloadWithoutFile(t *testing.T) {
	for _, dry := range []bool{false, true} {
		d := new(instance)
		if changes, err := d.Reload(t.Context(), dry); !errors.Is(err, errNoFile) || changes != nil {
			t.Errorf("%v, %v", changes, err)
		}
		if d.reloaded.Load() != nil {
			t.Error("the refused request counts as a reload")
		}
	}
}
