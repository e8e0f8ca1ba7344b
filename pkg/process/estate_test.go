// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"testing"
	"time"
)

// What LeaveEstate has left counts once, and only for a moment.
func TestEstate(t *testing.T) {
	dir := t.TempDir()
	read := func() (state string, found bool) {
		t.Helper()
		found, err := Estate(dir, &state)
		if err != nil {
			t.Fatal(err)
		}
		return state, found
	}
	leave := func(age time.Duration) {
		t.Helper()
		if err := LeaveEstate(dir, "orders"); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(estatePath(dir), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if state, found := read(); found || state != "" {
		t.Errorf("nothing was left, and %q is found", state)
	}
	leave(0)
	if info, err := os.Stat(estatePath(dir)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if state, found := read(); !found || state != "orders" {
		t.Errorf("found %v: %q", found, state)
	}
	if state, found := read(); found {
		t.Errorf("found again: %q", state)
	}
	for _, age := range []time.Duration{2 * estateLasts, -2 * estateLasts} {
		leave(age)
		if state, found := read(); found {
			t.Errorf("found after %v: %q", age, state)
		}
	}
	leave(0)
	if removed, err := RemoveEstates(dir); err != nil || len(removed) != 1 {
		t.Errorf("removed %v, %v", removed, err)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 0 {
		t.Errorf("left: %v, %v", all, err)
	}
}
